//! The log of the real binary: that nobody waits for its reader, and what stands in it.

use std::io::{BufRead as _, BufReader, PipeReader, Read as _};
use std::net::SocketAddr;
use std::process::{Child, ExitStatus};
use std::time::{Duration, Instant};

use reqwest::Client;
use serde_json::{Value, json};

use super::binary::{SERVE, Serving};
use super::server::Numbers;
use super::{Answer, PATIENCE, send, within};
use crate::support::{outcome, pixart_at_home};

const DROPPED: &str = "pixart_log_lines_dropped_total";
const GRACE_SECONDS: u64 = 1;

/// A service whose standard output and error are one pipe, as those of a terminal are one terminal, read until it is ready and no
/// further.
struct Unread {
    child: Child,
    pipe: BufReader<PipeReader>,
    address: SocketAddr,
    client: Client,
}

impl Unread {
    fn start() -> Self {
        let (reader, writer) = std::io::pipe().unwrap();
        let grace = GRACE_SECONDS.to_string();
        let mut command = pixart_at_home();
        command
            .args([
                "serve",
                "--listen",
                "127.0.0.1:0",
                "--grace-seconds",
                &grace,
            ])
            .stdout(writer.try_clone().unwrap())
            .stderr(writer);
        let child = command.spawn().unwrap();
        // It has the other ends of the pipe.
        drop(command);
        let mut pipe = BufReader::new(reader);
        let mut line = String::new();
        let address = loop {
            line.clear();
            assert!(pipe.read_line(&mut line).unwrap() > 0, "it ended");
            if let Some((_, address)) = line.split_once(" ready address=") {
                break address.trim().parse().unwrap();
            }
        };
        let client = Client::builder().no_proxy().build().unwrap();
        Self {
            child,
            pipe,
            address,
            client,
        }
    }

    async fn get(&self, path: &str) -> Answer {
        send(self.client.get(format!("http://{}{path}", self.address))).await
    }

    async fn dropped(&self) -> u64 {
        Numbers::parse(self.get("/metrics").await.is(200).text()).of(DROPPED)
    }

    /// Asks until lines are dropped: the pipe holds 64 KiB and the queue a MiB.
    async fn asked_until_lines_are_dropped(&self) {
        assert_eq!(self.dropped().await, 0);
        let began = Instant::now();
        while self.dropped().await == 0 {
            for _ in 0..500 {
                // 'send' holds that each is answered in time.
                self.get("/v1/models").await.is(200);
            }
            assert!(began.elapsed() < 4 * PATIENCE, "no line is dropped");
        }
    }

    async fn draws(&self) {
        let url = format!("http://{}/v1/images", self.address);
        let body = json!({"prompt": "a red circle", "steps": 1});
        send(self.client.post(url).json(&body)).await.is(200);
    }

    fn terminate(&self) {
        let id = self.child.id().to_string();
        outcome(std::process::Command::new("kill").args(["-TERM", &id])).done();
    }

    /// Waits for its end, though nobody reads.
    async fn ended(&mut self) -> ExitStatus {
        within(async {
            loop {
                if let Some(status) = self.child.try_wait().unwrap() {
                    return status;
                }
                tokio::task::yield_now().await;
            }
        })
        .await
    }

    /// What has come through the pipe since it was ready, once the process has ended.
    fn rest(mut self) -> String {
        let mut rest = String::new();
        self.pipe.read_to_string(&mut rest).unwrap();
        rest
    }
}

impl Drop for Unread {
    fn drop(&mut self) {
        // It has ended already where the test went well.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test]
async fn a_log_that_nobody_reads_stops_neither_answers_nor_images_nor_the_end() {
    let mut unread = Unread::start();
    unread.asked_until_lines_are_dropped().await;
    unread.draws().await;
    unread.get("/healthz").await.is(200);
    unread.get("/readyz").await.is(200);
    let began = Instant::now();
    unread.terminate();
    let status = unread.ended().await;
    assert_eq!(status.code(), Some(0));
    // The promise is one second beyond the grace; the machine may be busy.
    let took = began.elapsed();
    assert!(took < Duration::from_secs(GRACE_SECONDS + 4), "{took:?}");
}

#[tokio::test]
async fn a_reader_that_comes_back_is_told_how_many_lines_are_missing() {
    let mut unread = Unread::start();
    unread.asked_until_lines_are_dropped().await;
    let dropped = unread.dropped().await;
    let mut lines = 0;
    let missing = loop {
        let mut line = String::new();
        assert!(unread.pipe.read_line(&mut line).unwrap() > 0, "it ended");
        if let Some((_, missing)) = line.split_once("lines of the log were dropped") {
            let (_, missing) = missing.split_once(" lines=").unwrap();
            break missing.trim().parse::<u64>().unwrap();
        }
        lines += 1;
    };
    assert!(missing >= dropped, "{missing} {dropped}");
    assert!(lines > 1000, "those that waited come first: {lines}");
    assert_eq!(unread.dropped().await, missing, "and no more were dropped");
    unread.terminate();
    assert_eq!(unread.ended().await.code(), Some(0));
    let rest = unread.rest();
    let last = rest.trim_end().lines().next_back().unwrap_or_default();
    assert!(last.contains("stopped"), "the last line is written: {rest}");
}

#[tokio::test]
async fn a_log_whose_reader_has_gone_stops_nothing() {
    let mut unread = Unread::start();
    // Each write fails from here on.
    unread.pipe = BufReader::new(std::io::pipe().unwrap().0);
    for _ in 0..3 {
        unread.get("/v1/models").await.is(200);
    }
    unread.draws().await;
    assert!(unread.dropped().await > 0);
    unread.terminate();
    assert_eq!(unread.ended().await.code(), Some(0));
}

#[test]
fn a_failure_to_start_is_the_last_line_of_the_log() {
    let mut command = pixart_at_home();
    command.args(SERVE).args(["--model", "/nowhere/at/all"]);
    let ended = outcome(&mut command);
    assert_eq!(ended.code, Some(3), "{}", ended.stderr);
    let last = ended.stderr.lines().next_back().unwrap();
    assert!(last.starts_with("pixart: /nowhere/at/all"), "{last}");
}

fn lines(log: &str) -> Vec<Value> {
    log.lines()
        .filter_map(|line| serde_json::from_str(line).ok())
        .collect()
}

#[tokio::test]
async fn each_job_is_one_line_with_who_asked_and_how_long_it_took() {
    const ALICE: &str = "the-key-that-alice-has";
    const NOBODY: &str = "the-key-that-has-no-name";
    let folder = tempfile::tempdir().unwrap();
    let keys = folder.path().join("keys");
    std::fs::write(&keys, format!("alice {ALICE}\n{NOBODY}\n")).unwrap();
    let mut command = pixart_at_home();
    command.args(SERVE).arg("--keys-file").arg(&keys);
    let serving = Serving::of(&mut command);
    let post = |key: &str, id: &'static str, body: &Value| {
        let request = serving.posting("/v1/images", body);
        request.bearer_auth(key).header("x-request-id", id)
    };
    let body = json!({"prompt": "a secret circle", "steps": 2, "n": 2});
    let drawn = send(post(ALICE, "first-1", &body)).await.is(200);
    let long = json!({"prompt": "a secret circle", "n": 10, "steps": 50});
    let job = serving.posting("/v1/jobs", &long).bearer_auth(NOBODY);
    let job = send(job.header("x-request-id", "second-2")).await.is(202);
    let job = job.json()["id"].as_str().unwrap().to_owned();
    serving.until(|numbers| numbers.line() == (1, 0)).await;
    let url = format!("http://{}/v1/jobs/{job}", serving.address);
    let taken_back = Client::new().delete(url).bearer_auth(NOBODY);
    send(taken_back.header("x-request-id", "delete-4")).await;
    // One that was refused is no job.
    send(post(ALICE, "third-3", &json!({"prompt": "a", "steps": 0}))).await;
    for path in ["/", "/openapi.yaml", "/healthz"] {
        serving.get(path).await.is(200);
    }
    serving.signal("-TERM");
    let (status, log) = serving.ended();
    assert_eq!(status.code(), Some(0), "{log}");
    for secret in [ALICE, NOBODY, "secret"] {
        assert!(!log.contains(secret), "{secret}: {log}");
    }
    let lines = lines(&log);
    let of = |target: &str, id: &str| -> Vec<&Value> {
        let is_it = |line: &&Value| line["target"] == target && line["request_id"] == id;
        lines.iter().filter(is_it).collect()
    };
    let [first] = of("job", "first-1")[..] else {
        panic!("{log}")
    };
    assert_eq!(first["message"], "job finished");
    assert_eq!(first["level"], "INFO");
    assert_eq!(first["job_id"], drawn.header("x-job-id"));
    assert_eq!(first["key"], "alice");
    assert_eq!(first["outcome"], "succeeded");
    assert_eq!(first["steps"], 2);
    assert_eq!(
        (&first["images"], &first["images_drawn"]),
        (&json!(2), &json!(2))
    );
    assert!(first["size"].as_str().unwrap().contains('x'), "{first}");
    let (wait, whole) = (&first["queue_wait_seconds"], &first["seconds"]);
    assert!(wait.as_f64().unwrap() < whole.as_f64().unwrap(), "{first}");
    assert_eq!(of("access", "first-1")[0]["key"], "alice");

    let [second] = of("job", "second-2")[..] else {
        panic!("{log}")
    };
    assert_eq!(second["job_id"], job);
    assert_eq!(second["outcome"], "cancelled");
    assert_eq!(second["key"], Value::Null);
    assert_eq!(of("job", "third-3").len(), 0);
    let routes: Vec<&str> = lines
        .iter()
        .filter(|line| line["target"] == "access")
        .map(|line| line["route"].as_str().unwrap())
        .collect();
    assert_eq!(
        routes,
        ["/v1/images", "/v1/jobs", "/v1/jobs/{id}", "/v1/images"]
    );
}
