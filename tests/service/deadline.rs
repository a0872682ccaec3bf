//! Deadlines: refused at once where they cannot be met, and held where they pass.

use serde_json::{Value, json};

use super::{Server, Studio, red, red_with};

fn until(seed: u64, seconds: f64) -> Value {
    red_with(seed, &json!({"deadline_seconds": seconds}))
}

#[tokio::test]
async fn a_deadline_that_cannot_be_met_is_refused_at_once_with_what_would_fit() {
    let studio = Studio::open();
    // A step takes a second, as the studio tells it.
    let server = Server::warm(&studio, &[]).await;
    let answer = server.post("/v1/images", &until(1, 2.5)).await;
    assert_eq!(
        answer.header("x-should-retry"),
        "false",
        "waiting is no help"
    );
    assert!(!answer.headers.contains_key("retry-after"));
    let error = answer.refused(429, "deadline_too_short");
    assert_eq!(error["param"], "deadline_seconds");
    let message = error["message"].as_str().unwrap();
    assert!(
        message.contains("2 steps would fit, or a deadline of 4 s"),
        "{message}"
    );
    let short = server.post("/v1/images", &until(1, 0.5)).await;
    let error = short.refused(429, "deadline_too_short");
    let message = error["message"].as_str().unwrap();
    assert!(
        message.contains("ask for a deadline of 4 s or more"),
        "{message}"
    );

    studio.close();
    let running = server.begin_post("/v1/images", &red(1));
    studio.at(1, 0).await;
    // With the wait it does not fit, without it would.
    let answer = server.post("/v1/jobs", &until(2, 6.0)).await;
    assert_eq!(answer.header("retry-after"), "2");
    answer.refused(429, "deadline_too_short");
    let fits = server.job(&until(3, 9.0)).await;
    studio.let_all_go();
    running.await.unwrap().is(200);
    let status = server.ended(&fits).await;
    assert_eq!(status["state"], "succeeded");
    assert_eq!(status["deadline_seconds"], 9.0);
    let numbers = server.until_all_counted().await;
    assert_eq!(numbers.requests("queue_full"), 3);
}

#[tokio::test]
async fn without_a_measured_picture_no_deadline_is_refused() {
    let studio = Studio::open();
    let server = Server::start(&studio, &[]).await;
    server.post("/v1/images", &until(1, 20.0)).await.is(200);
    // Now one has been drawn, and "told" 4 s.
    server
        .post("/v1/images", &until(1, 3.5))
        .await
        .refused(429, "deadline_too_short");
    server.until_all_counted().await;
}

#[tokio::test]
async fn a_deadline_that_passes_while_waiting_is_answered_504_at_once() {
    let studio = Studio::closed();
    let server = Server::start(&studio, &[]).await;
    let running = server.begin_post("/v1/images", &red(1));
    studio.at(1, 0).await;
    let job = server.job(&until(2, 0.05)).await;
    for path in ["/v1/images", "/v1/images/generations"] {
        let late = server.post(path, &until(3, 0.05)).await;
        late.refused(504, "deadline_exceeded");
    }
    let status = server.ended(&job).await;
    assert_eq!(status["state"], "expired");
    assert_eq!(status["error"]["code"], "deadline_exceeded");
    let numbers = server.until_line(1, 0).await;
    assert_eq!(numbers.jobs("expired"), 3);
    assert_eq!(numbers.requests("timeout"), 2);
    let picture = server.get(&format!("{job}/images/0")).await;
    picture.refused(409, "job_failed");
    studio.let_all_go();
    running.await.unwrap().is(200);
    assert_eq!(studio.look(|scene| scene.drawn.clone()), [1]);
    server.until_all_counted().await;
}

#[tokio::test]
async fn a_deadline_that_passes_while_drawing_stops_the_picture_and_is_answered_504() {
    let studio = Studio::closed();
    let server = Server::start(&studio, &[]).await;
    let late = server.post("/v1/images", &until(1, 0.05)).await;
    late.refused(504, "deadline_exceeded");
    let job = server.job(&until(2, 0.05)).await;
    assert_eq!(server.ended(&job).await["state"], "expired");
    let stopped = studio.look(|scene| scene.stopped.clone());
    assert_eq!(stopped, [(1, 0), (2, 0)]);
    let numbers = server.until_all_counted().await;
    assert_eq!(
        (numbers.jobs("expired"), numbers.requests("timeout")),
        (2, 1)
    );
}

#[tokio::test]
async fn requests_that_name_no_deadline_get_that_of_the_settings() {
    let studio = Studio::open();
    let server = Server::start(&studio, &[("queue.deadline_seconds", "77")]).await;
    let job = server.job(&red(1)).await;
    assert_eq!(server.ended(&job).await["deadline_seconds"], 77.0);
    let job = server.job(&until(1, 5.5)).await;
    assert_eq!(server.ended(&job).await["deadline_seconds"], 5.5);
    let capabilities = server.get("/v1/capabilities").await.is(200).json();
    assert_eq!(capabilities["defaults"]["deadline_seconds"], 77.0);
}
