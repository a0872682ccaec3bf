//! Requests that come again: with an Idempotency-Key, or because the first answer was lost to a time-out.

use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::{Value, json};

use super::{Answer, Server, Studio, Trouble, red, red_with, send};

async fn keyed(server: &Server, path: &str, key: &str, body: &Value) -> Answer {
    send(server.posting(path, body).header("idempotency-key", key)).await
}

#[tokio::test]
async fn the_same_key_and_body_are_the_same_job() {
    let studio = Studio::closed();
    let server = Server::start(&studio, &[]).await;
    let first = keyed(&server, "/v1/jobs", "k", &red(1))
        .await
        .is(202)
        .json();
    studio.at(1, 0).await;
    let while_drawn = keyed(&server, "/v1/jobs", "k", &red(1))
        .await
        .is(202)
        .json();
    assert_eq!(first["id"], while_drawn["id"]);
    studio.let_all_go();
    server
        .ended(&format!("/v1/jobs/{}", first["id"].as_str().unwrap()))
        .await;
    let afterwards = keyed(&server, "/v1/jobs", "k", &red(1))
        .await
        .is(202)
        .json();
    assert_eq!(
        (&first["id"], &afterwards["state"]),
        (&afterwards["id"], &json!("succeeded"))
    );
    let other = keyed(&server, "/v1/jobs", "k", &red(2)).await;
    let error = other.refused(422, "idempotency_key_reused");
    assert_eq!(error["param"], "Idempotency-Key");
    // To another endpoint the same body is another request.
    keyed(&server, "/v1/images", "k", &red(1))
        .await
        .refused(422, "idempotency_key_reused");
    let another = keyed(&server, "/v1/jobs", "l", &red(1))
        .await
        .is(202)
        .json();
    assert_ne!(first["id"], another["id"]);
    server
        .ended(&format!("/v1/jobs/{}", another["id"].as_str().unwrap()))
        .await;
    assert_eq!(studio.look(|scene| scene.drawn.clone()), [1, 1]);
    let numbers = server.until_all_counted().await;
    assert_eq!(numbers.of("pixart_jobs_accepted_total"), 2);
    assert_eq!(
        (numbers.requests("ok"), numbers.requests("invalid")),
        (4, 2)
    );
}

#[tokio::test]
async fn callers_with_one_key_wait_for_one_picture() {
    let studio = Studio::closed();
    let server = Server::start(&studio, &[]).await;
    let ask = || {
        let request = server
            .posting("/v1/images", &red(1))
            .header("idempotency-key", "k");
        tokio::spawn(send(request))
    };
    let (first, second) = (ask(), ask());
    studio.at(1, 0).await;
    let third = ask();
    // One that leaves takes nothing from the others.
    first.abort();
    studio.let_all_go();
    let second = second.await.unwrap().is(200).json();
    let third = third.await.unwrap().is(200).json();
    assert_eq!(second["id"], third["id"]);
    let later = keyed(&server, "/v1/images", "k", &red(1))
        .await
        .is(200)
        .json();
    assert_eq!(later["data"], third["data"], "and it is kept for a while");
    assert_eq!(studio.look(|scene| scene.drawn.clone()), [1]);
    server.until_all_counted().await;
}

#[tokio::test]
async fn a_job_that_does_not_succeed_gives_its_key_back() {
    let studio = Studio::closed();
    let server = Server::start(&studio, &[]).await;
    let first = keyed(&server, "/v1/jobs", "k", &red(1)).await.is(202);
    studio.at(1, 0).await;
    server.delete(first.header("location")).await.is(200);
    let second = keyed(&server, "/v1/jobs", "k", &red(2))
        .await
        .is(202)
        .json();
    assert_ne!(first.json()["id"], second["id"]);
    studio.at(2, 0).await;
    studio.break_next(Trouble::NotFinite);
    studio.let_all_go();
    server
        .ended(&format!("/v1/jobs/{}", second["id"].as_str().unwrap()))
        .await;
    keyed(&server, "/v1/images", "k", &red(3)).await.is(200);
    server.until_all_counted().await;
}

#[tokio::test]
async fn a_key_that_is_no_name_is_refused() {
    let studio = Studio::open();
    let server = Server::start(&studio, &[]).await;
    for key in ["", &"k".repeat(256), "with space", "caf\u{e9}"] {
        let answer = keyed(&server, "/v1/jobs", key, &red(1)).await;
        let error = answer.refused(422, "invalid_value");
        assert_eq!(error["param"], "Idempotency-Key", "{key}");
    }
    let numbers = server.until_all_counted().await;
    assert_eq!(numbers.of("pixart_jobs_accepted_total"), 0);
}

/// Asks as an SDK does whose reads end after half a second.
fn impatient(server: &Server, body: &Value, retries: u32) -> reqwest::RequestBuilder {
    server
        .posting("/v1/images/generations", body)
        .header("x-stainless-read-timeout", "0.5")
        .header("x-stainless-retry-count", retries.to_string())
}

#[tokio::test]
async fn a_picture_whose_caller_timed_out_is_drawn_once_and_waits_for_the_retry() {
    let studio = Studio::closed();
    let server = Server::start(&studio, &[]).await;
    let limit = Duration::from_millis(500);
    let lost = impatient(&server, &red(1), 0).timeout(limit).send().await;
    assert!(lost.unwrap_err().is_timeout());
    server
        .until(|numbers| numbers.requests("cancelled") == 1)
        .await;
    studio.at(1, 0).await;
    // Another request is another picture.
    let other = tokio::spawn(send(impatient(&server, &red(2), 1)));
    server.until_line(1, 1).await;
    let retry = tokio::spawn(send(impatient(&server, &red(1), 1)));
    studio.let_all_go();
    let answer = retry.await.unwrap().is(200).json();
    assert_eq!(answer["data"][0]["seed"], 1);
    other.await.unwrap().is(200);
    assert_eq!(studio.look(|scene| scene.drawn.clone()), [1, 2]);
    assert_eq!(studio.look(|scene| scene.stopped.clone()), []);
    let numbers = server.until_all_counted().await;
    assert_eq!(numbers.of("pixart_jobs_accepted_total"), 2);
}

#[tokio::test]
async fn a_picture_that_was_finished_after_the_time_out_is_there_for_the_retry() {
    let studio = Studio::closed();
    let server = Server::start(&studio, &[]).await;
    let limit = Duration::from_millis(500);
    let lost = impatient(&server, &red(1), 0).timeout(limit).send().await;
    assert!(lost.unwrap_err().is_timeout());
    server
        .until(|numbers| numbers.requests("cancelled") == 1)
        .await;
    studio.let_all_go();
    server.until(|numbers| numbers.jobs("succeeded") == 1).await;
    send(impatient(&server, &red(1), 1)).await.is(200);
    assert_eq!(studio.look(|scene| scene.drawn.clone()), [1]);
    server.until_all_counted().await;
}

#[tokio::test]
async fn a_caller_that_leaves_before_its_time_out_has_given_up() {
    let studio = Studio::closed();
    let server = Server::start(&studio, &[]).await;
    let patient = server
        .posting("/v1/images/generations", &red(1))
        .header("x-stainless-read-timeout", "600");
    let asked = tokio::spawn(send(patient));
    studio.at(1, 0).await;
    asked.abort();
    studio.until(|scene| scene.stopped == [(1, 0)]).await;
    let numbers = server.until_all_counted().await;
    assert_eq!(numbers.jobs("cancelled"), 1);
}

#[tokio::test]
async fn a_picture_whose_caller_does_not_come_back_is_stopped_after_a_while() {
    let studio = Studio::closed();
    let server = Server::start(&studio, &[]).await;
    let limit = Duration::from_millis(500);
    let lost = impatient(&server, &red(1), 0).timeout(limit).send().await;
    assert!(lost.unwrap_err().is_timeout());
    server
        .until(|numbers| numbers.requests("cancelled") == 1)
        .await;
    server.jobs.sweep(Instant::now() + Duration::from_secs(14));
    assert_eq!(studio.look(|scene| scene.stopped.len()), 0);
    server.jobs.sweep(Instant::now() + Duration::from_secs(16));
    studio.until(|scene| scene.stopped == [(1, 0)]).await;
    server.until_all_counted().await;
    // The retry that comes too late is a new picture.
    studio.let_all_go();
    send(impatient(&server, &red(1), 1)).await.is(200);
    assert_eq!(studio.look(|scene| scene.drawn.clone()), [1]);
}

#[tokio::test]
async fn a_job_that_was_left_behind_is_found_by_its_own_kind_of_request_only() {
    let studio = Studio::closed();
    let server = Server::start(&studio, &[]).await;
    let limit = Duration::from_millis(500);
    let lost = impatient(&server, &red(1), 0).timeout(limit).send().await;
    assert!(lost.unwrap_err().is_timeout());
    server
        .until(|numbers| numbers.requests("cancelled") == 1)
        .await;
    // Not a retry; another face; other words.
    let mut others = vec![tokio::spawn(send(impatient(&server, &red(1), 0)))];
    let retry = |path: &str, body: &Value| {
        let request = server.request(Method::POST, path).json(body);
        tokio::spawn(send(request.header("x-stainless-retry-count", "2")))
    };
    others.push(retry("/v1/images", &red(1)));
    others.push(retry(
        "/v1/images/generations",
        &red_with(1, &json!({"n": 1})),
    ));
    server.until_line(1, 3).await;
    studio.let_all_go();
    for other in others {
        other.await.unwrap().is(200);
    }
    server.until_all_counted().await;
}
