//! `pixart serve` as it is run, with the model that it carries.

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, sync_channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use base64::Engine as _;
use pixart::model::WeightsFormat;
use reqwest::{Client, RequestBuilder};
use serde_json::{Value, json};

use super::server::Numbers;
use super::{Answer, Events, names, send, within};
use crate::support::{
    CLOSE_OTHERS, checkpoint, convert_to, decode_png, model_measured_elsewhere, outcome,
    pixart_at_home,
};

/// The subcommand with what a test needs: any free port, and a log that can be read.
pub(super) const SERVE: [&str; 5] = ["serve", "--listen", "127.0.0.1:0", "--log-format", "json"];
/// Far longer than loading and warming up take.
const LOADING: Duration = Duration::from_secs(120);

/// A running `pixart serve`.
pub(super) struct Serving {
    child: Child,
    pub(super) address: SocketAddr,
    log: Arc<Mutex<String>>,
    reader: Option<JoinHandle<()>>,
    client: Client,
}

impl Serving {
    /// Starts it on any free port, and waits until it is ready.
    pub(super) fn start(flags: &[&str]) -> Self {
        Self::of(pixart_at_home().args(SERVE).args(flags))
    }

    /// The same under a limit of the shell's, such as `-n 100`.
    pub(super) fn limited(limit: &str, flags: &[&str]) -> Self {
        let pixart = pixart_at_home();
        let variables = pixart.get_envs();
        let mut shell = Command::new("bash");
        shell
            .env_clear()
            .envs(variables.filter_map(|(name, value)| Some((name, value?))))
            .arg("-c")
            .arg(format!("{CLOSE_OTHERS} ulimit {limit}; exec \"$0\" \"$@\""))
            .arg(pixart.get_program());
        Self::of(shell.args(SERVE).args(flags))
    }

    /// The whole answer to a GET on a connection of its own.
    fn get_alone(&self, path: &str) -> String {
        let mut connection = TcpStream::connect(self.address).unwrap();
        let request = format!(
            "GET {path} HTTP/1.1\r\nhost: {}\r\nconnection: close\r\n\r\n",
            self.address
        );
        connection.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        connection.read_to_string(&mut answer).unwrap();
        answer
    }

    /// The same of a command that ends in [`SERVE`] and more flags.
    pub(super) fn of(command: &mut Command) -> Self {
        let mut child = command
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let (log, ready, reader) = read(&mut child);
        let address = ready.recv_timeout(LOADING).unwrap_or_else(|_| {
            let _ = child.kill();
            panic!("it never was ready:\n{}", log.lock().unwrap())
        });
        Self {
            child,
            address,
            log,
            reader: Some(reader),
            client: Client::builder().no_proxy().build().unwrap(),
        }
    }

    pub(super) fn posting(&self, path: &str, body: &Value) -> RequestBuilder {
        let url = format!("http://{}{path}", self.address);
        self.client.post(url).json(body)
    }

    pub(super) async fn get(&self, path: &str) -> Answer {
        send(self.client.get(format!("http://{}{path}", self.address))).await
    }

    pub(super) async fn png(&self, body: &Value) -> Vec<u8> {
        let request = self
            .posting("/v1/images", body)
            .header("accept", "image/png");
        send(request).await.is(200).body
    }

    /// Memory that is resident now.
    pub(super) fn resident_bytes(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib: u64 = line
            .unwrap()
            .trim()
            .trim_end_matches(" kB")
            .parse()
            .unwrap();
        kib * 1024
    }

    /// Waits until the metrics are as the test wants them.
    pub(super) async fn until(&self, what: impl Fn(&Numbers) -> bool) {
        within(async {
            while !what(&Numbers::parse(self.get("/metrics").await.is(200).text())) {}
        })
        .await;
    }

    /// The process's id.
    pub(super) fn id(&self) -> u32 {
        self.child.id()
    }

    /// All that it has logged so far.
    pub(super) fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    pub(super) fn signal(&self, name: &str) {
        let told = Command::new("kill")
            .args([name, &self.child.id().to_string()])
            .status()
            .unwrap();
        assert!(told.success());
    }

    /// Waits for its end. Returns how it ended and all that it has logged.
    pub(super) fn ended(mut self) -> (ExitStatus, String) {
        let status = self.child.wait().unwrap();
        self.reader.take().unwrap().join().unwrap();
        let log = self.log.lock().unwrap().clone();
        (status, log)
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        // It has ended already where the test went well.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Collects the log, and tells the address that it is ready at.
fn read(child: &mut Child) -> (Arc<Mutex<String>>, Receiver<SocketAddr>, JoinHandle<()>) {
    let lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let log = Arc::new(Mutex::new(String::new()));
    let (tell, ready) = sync_channel(1);
    let collected = Arc::clone(&log);
    let reader = std::thread::spawn(move || {
        for line in lines.map(Result::unwrap) {
            if let Ok(entry) = serde_json::from_str::<Value>(&line)
                && entry["message"] == "ready"
            {
                let address = entry["address"].as_str().unwrap().parse().unwrap();
                tell.send(address).unwrap();
            }
            let mut log = collected.lock().unwrap();
            log.push_str(&line);
            log.push('\n');
        }
    });
    (log, ready, reader)
}

const CACTUS: &str = "A small cactus with a happy face in the Sahara desert.";

#[test]
fn few_open_files_mean_few_connections_and_health_is_answered_beyond_them() {
    let serving = Serving::limited("-n 120", &[]);
    let silent: Vec<TcpStream> = (0..150)
        .map(|_| TcpStream::connect(serving.address).unwrap())
        .collect();
    assert!(serving.get_alone("/healthz").starts_with("HTTP/1.1 200 "));
    drop(silent);
    let log = serving.log.lock().unwrap().clone();
    let line = log
        .lines()
        .find(|line| line.contains("takes fewer connections"));
    let told: Value = serde_json::from_str(line.unwrap_or_else(|| panic!("{log}"))).unwrap();
    assert_eq!(told["limit"], 120);
    let connections = told["connections"].as_u64().unwrap();
    assert!((8..40).contains(&connections), "{connections}");
}

#[test]
fn health_is_answered_while_no_file_can_be_opened() {
    let serving = Serving::start(&[]);
    let process = serving.child.id();
    let open: BTreeSet<u32> = std::fs::read_dir(format!("/proc/{process}/fd"))
        .unwrap()
        .map(|entry| {
            entry
                .unwrap()
                .file_name()
                .to_str()
                .unwrap()
                .parse()
                .unwrap()
        })
        .collect();
    // The first number that is free is the first that is forbidden.
    let first = (0..4096).find(|number| !open.contains(number)).unwrap();
    let lowered = Command::new("prlimit")
        .args([
            "--pid",
            &process.to_string(),
            &format!("--nofile={first}:{first}"),
        ])
        .status();
    assert!(lowered.unwrap().success());
    for path in ["/healthz", "/readyz", "/healthz"] {
        let answer = serving.get_alone(path);
        assert!(answer.starts_with("HTTP/1.1 200 "), "{path}: {answer}");
    }
    let refused = serving.get_alone("/v1/capabilities");
    assert!(refused.starts_with("HTTP/1.1 503 "), "{refused}");
    assert!(refused.contains("too_many_connections"), "{refused}");
}

#[tokio::test]
async fn a_served_picture_is_the_one_that_generate_draws_whatever_was_drawn_before() {
    let serving = Serving::start(&[]);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.png");
    outcome(
        pixart_at_home()
            .current_dir(folder.path())
            .args([
                "generate", CACTUS, "--seed", "43", "--steps", "5", "--output",
            ])
            .arg(&path),
    )
    .done();
    let written = std::fs::read(&path).unwrap();
    let a = json!({"prompt": CACTUS, "seed": 43, "steps": 5});
    let b = json!({"prompt": "a big red rocket", "seed": 1, "size": "64x96", "scheduler": "dpmsolver++", "steps": 3});
    let first = serving.png(&a).await;
    let other = serving.png(&b).await;
    let again = serving.png(&a).await;
    assert!(first == written, "the bytes of 'pixart generate'");
    assert!(first == again, "the same request draws the same bytes");
    assert!(first != other);
    let both = serving.posting(
        "/v1/images",
        &json!({"prompt": CACTUS, "seed": 42, "steps": 5, "n": 2}),
    );
    let both = send(both).await.is(200).json();
    let base64 = base64::engine::general_purpose::STANDARD;
    let second = both["data"][1]["b64_json"].as_str().unwrap();
    assert!(
        base64.decode(second).unwrap() == first,
        "picture 1 of seed 42 is seed 43"
    );

    // Previews of the real model, by its tiny decoder, which draws whole pictures too.
    let body = json!({"prompt": CACTUS, "seed": 43, "stream": true, "partial_images": 2});
    let tiny = json!({"prompt": CACTUS, "seed": 43, "decoder": "tiny"});
    let answer = send(serving.posting("/v1/images", &tiny))
        .await
        .is(200)
        .json();
    assert_eq!(answer["data"][0]["receipt"]["decoder"], "tiny");
    for (path, partial, last) in [
        ("/v1/images", "partial_image", "completed"),
        (
            "/v1/images/generations",
            "image_generation.partial_image",
            "image_generation.completed",
        ),
    ] {
        let told = Events::of(serving.posting(path, &body)).await.rest().await;
        assert_eq!(names(&told).last(), Some(&last));
        let partials: Vec<&Value> = told
            .iter()
            .filter(|told| told.name == partial)
            .map(|told| &told.data)
            .collect();
        assert_eq!(partials.len(), 2, "{path}");
        for (index, data) in partials.into_iter().enumerate() {
            assert_eq!(data["partial_image_index"], index);
            let file = base64.decode(data["b64_json"].as_str().unwrap()).unwrap();
            let picture = decode_png(&file);
            assert_eq!((picture.width, picture.height), (256, 256));
        }
    }

    for flags in [&["--ready"][..], &[]] {
        let mut healthcheck = pixart_at_home();
        healthcheck
            .args(["healthcheck", "--address", &serving.address.to_string()])
            .args(flags);
        let told = outcome(&mut healthcheck).done();
        assert!(told.stdout.starts_with("{\"status\":\""), "{}", told.stdout);
    }
    // A second one on the same port says what to do.
    let mut second = pixart_at_home();
    second.args(["serve", "--listen", &serving.address.to_string()]);
    let told = outcome(&mut second);
    assert_eq!(told.code, Some(1), "{}", told.stderr);
    let words = format!(
        "cannot listen on {}: choose another address with server.listen",
        serving.address
    );
    assert!(told.stderr.contains(&words), "{}", told.stderr);

    let address = serving.address;
    serving.signal("-TERM");
    let (status, log) = serving.ended();
    assert_eq!(status.code(), Some(0), "{log}");
    for flags in [&["--ready"][..], &[]] {
        let mut healthcheck = pixart_at_home();
        healthcheck
            .args(["healthcheck", "--address", &address.to_string()])
            .args(flags);
        let told = outcome(&mut healthcheck).refused(1, &["does not answer"]);
        assert!(!told.stderr.is_empty());
    }
}

/// Takes some seconds on any machine.
fn long() -> Value {
    json!({"prompt": CACTUS, "n": 10, "steps": 50, "size": "256x256"})
}

#[tokio::test]
async fn a_signal_answers_those_who_wait_stops_what_outlasts_the_grace_and_ends_with_0() {
    let serving = Serving::start(&["--grace-seconds", "1"]);
    let running = tokio::spawn(send(serving.posting("/v1/images", &long())));
    serving.until(|numbers| numbers.line() == (1, 0)).await;
    let waiting = tokio::spawn(send(serving.posting("/v1/images", &long())));
    serving.until(|numbers| numbers.line() == (1, 1)).await;
    let began = Instant::now();
    serving.signal("-TERM");
    waiting.await.unwrap().refused(503, "draining");
    running.await.unwrap().refused(503, "draining");
    let (status, log) = serving.ended();
    assert_eq!(status.code(), Some(0), "{log}");
    let took = began.elapsed();
    assert!(
        took > Duration::from_millis(900),
        "the grace was given: {took:?}"
    );
    // The promise is one second beyond the grace; the machine may be busy.
    assert!(took < Duration::from_secs(5), "{took:?}");
}

#[tokio::test]
async fn a_signal_lets_the_running_picture_finish_and_a_second_one_does_not() {
    let serving = Serving::start(&[]);
    let running = tokio::spawn(send(serving.posting(
        "/v1/images",
        &json!({"prompt": CACTUS, "steps": 50, "n": 2}),
    )));
    serving.until(|numbers| numbers.line() == (1, 0)).await;
    serving.signal("-TERM");
    running.await.unwrap().is(200);
    assert_eq!(serving.ended().0.code(), Some(0));

    let serving = Serving::start(&[]);
    let running = tokio::spawn(serving.posting("/v1/images", &long()).send());
    serving.until(|numbers| numbers.line() == (1, 0)).await;
    serving.signal("-INT");
    within(async { while serving.get("/readyz").await.status == 200 {} }).await;
    serving.signal("-INT");
    assert!(within(running).await.unwrap().is_err());
    assert_eq!(serving.ended().0.code(), Some(130));
}

#[tokio::test]
async fn weights_that_are_written_over_while_they_are_served_draw_nothing() {
    let models = tempfile::tempdir().unwrap();
    let model = models.path().join("model");
    let source = checkpoint("models/sketchbook");
    convert_to(source.path(), &model, WeightsFormat::F16);
    let serving = Serving::start(&["--model", model.to_str().unwrap()]);
    let body = json!({"prompt": CACTUS, "size": "64x64", "seed": 7});
    let first = serving.png(&body).await;

    // A copy over the old files, whole and the same: the model is loaded again and draws as before.
    let weights = model.join("transformer.bin");
    let bytes = std::fs::read(&weights).unwrap();
    std::fs::write(&weights, &bytes).unwrap();
    let refused = send(serving.posting("/v1/images", &body)).await;
    refused.refused(500, "inference_failed");
    within(async { while serving.get("/readyz").await.status != 200 {} }).await;
    assert!(serving.png(&body).await == first);

    // Another one's: it takes nothing more, and says why and what to do.
    std::fs::write(&weights, vec![0; bytes.len()]).unwrap();
    let refused = send(serving.posting("/v1/images", &body)).await;
    refused.refused(500, "inference_failed");
    let refused = send(serving.posting("/v1/images", &body)).await;
    refused.refused(503, "worker_down");
    serving.signal("-TERM");
    let (_, log) = serving.ended();
    for told in [
        "transformer.bin has changed while it was served: put a new model beside the old one",
        "transformer.bin does not match its manifest",
    ] {
        assert!(log.contains(told), "{told}: {log}");
    }
}

#[tokio::test]
async fn a_variant_that_was_measured_on_another_processor_is_named_at_the_start_and_counted() {
    let folder = tempfile::tempdir().unwrap();
    let model = model_measured_elsewhere(folder.path());
    let serving = Serving::start(&["--model", model.to_str().unwrap()]);
    let metrics = serving.get("/metrics").await.is(200);
    let line = "pixart_variants_measured_elsewhere 1\n";
    assert!(metrics.text().contains(line), "{}", metrics.text());
    serving.signal("-TERM");
    let (_, log) = serving.ended();
    let entry = log
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .find(|entry| entry["cpu"] == "Some Other CPU")
        .unwrap_or_else(|| panic!("it is not named:\n{log}"));
    assert_eq!(
        (&entry["variant"], &entry["level"]),
        (&"int8".into(), &"WARN".into())
    );
    assert_eq!(entry["instruction_set"], "AVX2");
    let message = entry["message"].as_str().unwrap();
    assert!(
        message.contains("pixart compare MODEL VARIANT --record"),
        "{message}"
    );
}
