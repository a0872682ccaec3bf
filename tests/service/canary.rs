//! Prompts are people's data: a word that stands in prompts alone is looked for in everything that leaves the service,
//! and in the log at its most talkative.

use std::io;
use std::sync::{Arc, Mutex};

use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

use super::binary::Serving;
use super::{Answer, Server, Studio, Trouble, send, within};

/// A word that nothing else has.
const CANARY: &str = "xylocanarium";

/// A request with the word in both prompts.
fn secret(more: &Value) -> Value {
    let mut body = json!({
        "prompt": format!("a red {CANARY} circle"),
        "negative_prompt": format!("{CANARY} rain"),
    });
    for (name, value) in more.as_object().unwrap() {
        body[name] = value.clone();
    }
    body
}

/// Holds that the word is nowhere in an answer.
#[track_caller]
fn is_silent(answer: &Answer) {
    assert!(
        !format!("{:?}", answer.headers).contains(CANARY),
        "{answer:?}"
    );
    let body = String::from_utf8_lossy(&answer.body);
    assert!(!body.contains(CANARY), "{body}");
}

/// Requests that are refused, each with the word somewhere in it.
fn refused(post: impl Fn(&str) -> RequestBuilder) -> Vec<RequestBuilder> {
    let mut requests = vec![
        post(&format!("/{CANARY}//images/generations?a={CANARY}")),
        post(&format!(
            "/v1/jobs/{CANARY}/images/0?expires=1&signature={CANARY}"
        )),
        post("/v1/models").header("host", format!("{CANARY}.example")),
    ];
    for path in [
        "/v1/images",
        "/v1/images/generations",
        "/v1/jobs",
        "/v1/images/estimate",
    ] {
        for body in [
            secret(&json!({"seed": -2})),
            secret(&json!({"seed": CANARY})),
            secret(&json!({"model": CANARY})),
            secret(&json!({"stream": {CANARY: 1}})),
            secret(&json!({"prompt": [CANARY]})),
            secret(&json!({"prompt": {CANARY: CANARY}})),
            secret(&json!({"prompt": format!("{CANARY}\0")})),
            secret(&json!({"prompt": CANARY.repeat(1000)})),
            secret(&json!({"prompt": CANARY.repeat(10_000)})),
            secret(&json!({"size": "100x128"})),
            secret(&json!({"steps": 1, "step": 1})),
            json!([CANARY]),
            json!(CANARY),
        ] {
            requests.push(post(path).json(&body));
        }
        for broken in [
            format!("{{\"prompt\": \"{CANARY}\" \"a\"}}"),
            format!("{{\"prompt\": \"{CANARY}"),
            format!("{{\"prompt\": {CANARY}}}"),
            format!("{{\"prompt\": \"{CANARY}\\q\"}}"),
            format!("{{\"prompt\": \"{CANARY}\", \"prompt\": \"{CANARY}\"}}"),
        ] {
            let request = post(path).header("content-type", "application/json");
            requests.push(request.body(broken));
        }
        requests.push(post(path).header("content-type", "text/plain").body(CANARY));
    }
    requests
}

/// A writer that keeps the lines with the word.
#[derive(Clone, Default)]
struct Ear(Arc<Mutex<Vec<String>>>);

impl io::Write for Ear {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let line = String::from_utf8_lossy(bytes);
        if line.contains(CANARY) {
            self.0.lock().unwrap().push(line.into_owned());
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Ear {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

/// The log of this whole process, at its most talkative: the worker's thread belongs to it.
fn listen() -> Ear {
    let ear = Ear::default();
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::new("info,pixart=trace,access=trace,hyper=trace"))
        .with_writer(ear.clone())
        .finish();
    tracing::subscriber::set_global_default(subscriber).unwrap();
    tracing::info!("{CANARY}");
    assert_eq!(ear.0.lock().unwrap().drain(..).count(), 1, "it hears");
    ear
}

#[tokio::test]
async fn no_outcome_tells_a_word_of_the_prompt() {
    let ear = listen();
    let studio = Studio::closed();
    let server = Server::start(&studio, &[("queue.capacity", "1")]).await;
    let post = |more: &Value| server.begin_post("/v1/images", &secret(more));
    let mut answers = Vec::new();
    for request in refused(|path| server.request(Method::POST, path)) {
        let answer = send(request).await;
        assert!((400..500).contains(&answer.status), "{answer:?}");
        answers.push(answer);
    }
    // Drawn, waiting, and too many; then failed in both ways, the second with a panic.
    for (trouble, code) in [
        (Trouble::NotFinite, "inference_failed"),
        (Trouble::Engine, "inference_failed"),
        (Trouble::Panic, "internal_error"),
    ] {
        let running = post(&json!({"seed": 1}));
        studio.at(1, 0).await;
        let waiting = post(&json!({"seed": 2}));
        server.until_line(1, 1).await;
        let full = post(&json!({})).await.unwrap();
        assert_eq!(full.status, 429);
        answers.push(full);
        studio.break_next(trouble);
        studio.let_go(1);
        let failed = running.await.unwrap();
        assert_eq!(failed.error()["code"], code);
        answers.push(failed);
        studio.let_go(4);
        answers.push(waiting.await.unwrap().is(200));
        server
            .until(|numbers| numbers.of("pixart_ready") == 1)
            .await;
    }
    // Expired, cancelled by its job, and left.
    let expired = post(&json!({"seed": 3, "deadline_seconds": 5}));
    studio.at(3, 0).await;
    let job = format!("/v1/jobs/{}", server.jobs.running().unwrap().id());
    answers.push(server.get(&job).await.is(200));
    answers.push(server.delete(&job).await.is(200));
    answers.push(expired.await.unwrap().is(409));
    let left = post(&json!({"seed": 4}));
    studio.at(4, 0).await;
    left.abort();
    studio.until(|scene| scene.stopped.contains(&(4, 0))).await;
    // Shut down.
    let running = post(&json!({"seed": 5}));
    studio.at(5, 0).await;
    let drained = post(&json!({"seed": 6}));
    server.until_line(1, 1).await;
    server.jobs.drain();
    answers.push(drained.await.unwrap().is(503));
    studio.let_all_go();
    answers.push(running.await.unwrap().is(200));
    answers.push(server.get("/metrics").await.is(200));
    for answer in &answers {
        is_silent(answer);
    }
    server.until_all_counted().await;
    assert_eq!(ear.0.lock().unwrap().as_slice(), [] as [String; 0]);
}

#[tokio::test]
async fn the_log_at_its_most_talkative_has_no_word_of_the_prompt() {
    let serving = Serving::start(&[
        "--log-level",
        "trace",
        "--queue-capacity",
        "1",
        "--grace-seconds",
        "1",
    ]);
    let post = |more: &Value| serving.posting("/v1/images", &secret(more));
    let mut answers = Vec::new();
    for request in refused(|path| {
        // The body is set anew.
        serving.posting(path, &json!(null))
    }) {
        let answer = send(request).await;
        assert!((400..500).contains(&answer.status), "{answer:?}");
        answers.push(answer);
    }
    answers.push(send(post(&json!({"steps": 2}))).await.is(200));
    // What was cut from a prompt is told to its sender, in the JSON and nowhere else.
    let long = json!({"prompt": format!("{CANARY} ").repeat(60), "steps": 1});
    let cut = send(post(&long)).await.is(200);
    assert!(cut.text().contains(CANARY));
    answers.push(
        send(post(&long).header("accept", "image/png"))
            .await
            .is(200),
    );
    answers.push(send(post(&json!({"deadline_seconds": 0.000_1}))).await);
    let slow = json!({"n": 10, "steps": 50, "size": "256x256"});
    let running = tokio::spawn(send(post(&slow)));
    serving.until(|numbers| numbers.line() == (1, 0)).await;
    let waiting = tokio::spawn(send(post(&slow)));
    serving.until(|numbers| numbers.line() == (1, 1)).await;
    answers.push(send(post(&slow)).await.is(429));
    waiting.abort();
    serving.until(|numbers| numbers.line() == (1, 0)).await;
    running.abort();
    serving.until(|numbers| numbers.line() == (0, 0)).await;
    let running = tokio::spawn(send(post(&slow)));
    serving.until(|numbers| numbers.line() == (1, 0)).await;
    answers.push(serving.get("/metrics").await.is(200));
    serving.signal("-TERM");
    answers.push(within(running).await.unwrap().is(503));
    for answer in &answers {
        is_silent(answer);
    }
    let (status, log) = serving.ended();
    assert_eq!(status.code(), Some(0));
    assert!(log.contains("\"level\":\"DEBUG\""), "it was talkative");
    let told: Vec<&str> = log.lines().filter(|line| line.contains(CANARY)).collect();
    assert_eq!(told, [] as [&str; 0]);
}
