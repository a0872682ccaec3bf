//! Callers that go away, and jobs that are taken back.

use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::{Events, Server, Studio, red, red_with, send, within};

/// A connection that has asked for a picture, as the wire has it.
async fn connect(server: &Server, path: &str, accept: &str, body: &Value) -> TcpStream {
    server.count();
    let body = body.to_string();
    let mut connection = TcpStream::connect(server.address).await.unwrap();
    let request = format!(
        "POST {path} HTTP/1.1\r\nhost: {}\r\ncontent-type: application/json\r\naccept: {accept}\r\ncontent-length: {}\r\n\r\n{body}",
        server.address,
        body.len()
    );
    connection.write_all(request.as_bytes()).await.unwrap();
    connection
}

#[tokio::test]
async fn a_caller_that_goes_away_stops_its_picture_at_the_next_look_whatever_the_face() {
    let stream = json!({"stream": true});
    let nothing = json!({});
    for (path, accept, more) in [
        ("/v1/images", "application/json", &nothing),
        ("/v1/images", "image/png", &nothing),
        ("/v1/images", "text/event-stream", &nothing),
        ("/v1/images/generations", "application/json", &nothing),
        ("/v1/images/generations", "application/json", &stream),
    ] {
        let studio = Studio::closed();
        let server = Server::start(&studio, &[]).await;
        let connection = connect(&server, path, accept, &red_with(1, more)).await;
        studio.let_go(1);
        studio.at(1, 1).await;
        drop(connection);
        studio.until(|scene| scene.stopped == [(1, 1)]).await;
        let numbers = server.until_all_counted().await;
        assert_eq!(numbers.requests("cancelled"), 1, "{path} {accept}");
        assert_eq!(numbers.jobs("cancelled"), 1);
        assert_eq!(numbers.of("pixart_steps_saved_by_cancel_total"), 3);
        assert_eq!(numbers.of("pixart_denoise_steps_total"), 1);
        studio.let_all_go();
        server.post(path, &red(2)).await.is(200);
        server.until_all_counted().await;
    }
}

#[tokio::test]
async fn a_caller_that_goes_away_while_it_waits_frees_its_place() {
    let studio = Studio::closed();
    let server = Server::start(&studio, &[("queue.capacity", "1")]).await;
    let running = connect(&server, "/v1/images", "*/*", &red(1)).await;
    studio.at(1, 0).await;
    let waiting = connect(&server, "/v1/images", "*/*", &red(2)).await;
    server.until_line(1, 1).await;
    drop(waiting);
    server.until_line(1, 0).await;
    let next = server.begin_post("/v1/images", &red(3));
    server.until_line(1, 1).await;
    studio.let_all_go();
    next.await.unwrap().is(200);
    drop(running);
    assert_eq!(studio.look(|scene| scene.drawn.clone()), [1, 3]);
    let numbers = server.until_all_counted().await;
    assert_eq!(numbers.jobs("cancelled"), 1);
}

#[tokio::test]
async fn a_job_outlives_the_connection_that_asked_for_it_and_those_that_follow_it() {
    let studio = Studio::closed();
    let server = Server::start(&studio, &[]).await;
    let mut connection = connect(&server, "/v1/jobs", "*/*", &red(1)).await;
    let mut head = [0; 12];
    connection.read_exact(&mut head).await.unwrap();
    assert_eq!(&head, b"HTTP/1.1 202");
    drop(connection);
    studio.at(1, 0).await;
    let job = server.jobs.running().unwrap().id().to_string();
    let path = format!("/v1/jobs/{job}/events");
    let mut events = Events::of(server.request(reqwest::Method::GET, &path)).await;
    events.expect("started").await;
    drop(events);
    studio.let_all_go();
    let status = server.ended(&format!("/v1/jobs/{job}")).await;
    assert_eq!(status["state"], "succeeded");
    let numbers = server.until_all_counted().await;
    assert_eq!(numbers.requests("ok"), 1);
}

#[tokio::test]
async fn a_job_that_may_be_abandoned_lives_as_long_as_it_is_followed_and_a_while_longer() {
    let studio = Studio::closed();
    let server = Server::start(&studio, &[]).await;
    let job = server
        .job(&red_with(1, &json!({"abandon_after_seconds": 60})))
        .await;
    studio.at(1, 0).await;
    let after = |seconds| Instant::now() + Duration::from_secs(seconds);
    let follow = async || {
        let path = format!("{job}/events");
        let mut events = Events::of(server.request(Method::GET, &path)).await;
        events.expect("started").await;
        events
    };
    // A page that is reloaded leaves and comes back.
    let events = follow().await;
    server.jobs.sweep(after(61));
    drop(events);
    let id = server.jobs.running().unwrap().id().to_string();
    assert!(job.ends_with(&id));
    server.jobs.sweep(after(50));
    let events = follow().await;
    server.jobs.sweep(after(61));
    assert_eq!(server.get(&job).await.is(200).json()["state"], "running");
    // A page that is closed does not.
    drop(events);
    within(async {
        while server.get(&job).await.is(200).json()["state"] == "running" {
            server.jobs.sweep(after(61));
        }
    })
    .await;
    assert_eq!(server.ended(&job).await["state"], "cancelled");
    assert_eq!(studio.look(|scene| scene.stopped.clone()), [(1, 0)]);
    let numbers = server.until_all_counted().await;
    assert_eq!(numbers.jobs("cancelled"), 1);
}

#[tokio::test]
async fn a_job_that_nobody_begins_to_follow_is_abandoned_even_in_the_queue() {
    let studio = Studio::closed();
    let server = Server::start(&studio, &[]).await;
    let running = server.job(&red(1)).await;
    studio.at(1, 0).await;
    let waiting = server
        .job(&red_with(2, &json!({"abandon_after_seconds": 60})))
        .await;
    server.until_line(1, 1).await;
    server.jobs.sweep(Instant::now() + Duration::from_secs(50));
    let status = server.get(&waiting).await.is(200).json();
    assert_eq!(status["state"], "queued");
    server.jobs.sweep(Instant::now() + Duration::from_secs(61));
    assert_eq!(server.ended(&waiting).await["state"], "cancelled");
    assert_eq!(
        server.get(&running).await.is(200).json()["state"],
        "running",
        "who has not asked for it is not abandoned"
    );
}

#[tokio::test]
async fn what_has_ended_is_not_abandoned_any_more() {
    let studio = Studio::open();
    let server = Server::start(&studio, &[]).await;
    let body = red_with(1, &json!({"abandon_after_seconds": 5}));
    let ask = async || {
        let request = server
            .posting("/v1/jobs", &body)
            .header("idempotency-key", "k");
        send(request).await.is(202).json()
    };
    let first = ask().await;
    let job = format!("/v1/jobs/{}", first["id"].as_str().unwrap());
    assert_eq!(server.ended(&job).await["state"], "succeeded");
    server.jobs.sweep(Instant::now() + Duration::from_secs(6));
    assert_eq!(server.ended(&job).await["state"], "succeeded");
    assert_eq!(
        ask().await["id"],
        first["id"],
        "and its key is still its own"
    );
}

#[tokio::test]
async fn a_running_job_that_is_taken_back_has_stopped_when_the_answer_comes() {
    let studio = Studio::closed();
    let server = Server::start(&studio, &[]).await;
    let job = server.job(&red_with(7, &json!({"n": 2}))).await;
    studio.let_go(4);
    studio.at(8, 0).await;
    let status = server.delete(&job).await.is(200).json();
    assert_eq!(status["state"], "cancelled");
    assert_eq!(studio.look(|scene| scene.stopped.clone()), [(8, 0)]);
    // What was finished stays, and what was not is told to be gone for good.
    let picture = server.get(&format!("{job}/images/0")).await.is(200);
    assert_eq!(picture.header("x-seed"), "7");
    let gone = server.get(&format!("{job}/images/1")).await;
    assert_eq!(gone.header("x-should-retry"), "false");
    gone.refused(409, "job_cancelled");
    assert_eq!(server.get(&job).await.is(200).json()["state"], "cancelled");
    let numbers = server.until_all_counted().await;
    assert_eq!(numbers.jobs("cancelled"), 1);
    // To take back what has ended is to forget it.
    assert_eq!(
        server.delete(&job).await.is(200).json()["state"],
        "cancelled"
    );
    server.delete(&job).await.refused(404, "job_not_found");
    let again = server.get(&format!("{job}/images/0")).await;
    assert_eq!(again.refused(404, "job_not_found")["param"], "id");
}

#[tokio::test]
async fn a_caller_that_waits_for_a_job_that_is_taken_back_is_told_so() {
    let studio = Studio::closed();
    let server = Server::start(&studio, &[]).await;
    for path in ["/v1/images", "/v1/images/generations"] {
        let waits = server.begin_post(path, &red(1));
        studio.at(1, 0).await;
        let job = server.jobs.running().unwrap().id();
        let status = server.get(&format!("/v1/jobs/{job}")).await.is(200).json();
        assert_eq!(
            status["state"], "running",
            "a synchronous job can be looked at"
        );
        server.delete(&format!("/v1/jobs/{job}")).await.is(200);
        let answer = waits.await.unwrap();
        assert_eq!(answer.header("x-should-retry"), "false");
        answer.refused(409, "job_cancelled");
        server
            .get(&format!("/v1/jobs/{job}"))
            .await
            .refused(404, "job_not_found");
    }
    let numbers = server.until_all_counted().await;
    assert_eq!(numbers.requests("cancelled"), 2);
}
