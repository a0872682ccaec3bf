//! Asynchronous jobs: made, looked at, fetched, and forgotten in time.

use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::{Value, json};

use super::{Server, Studio, Trouble, red, red_with, send};
use crate::support::decode_png;

#[tokio::test]
async fn a_job_is_made_looked_at_and_fetched() {
    let studio = Studio::closed();
    let server = Server::start(&studio, &[]).await;
    let made = server
        .post("/v1/jobs", &red_with(5, &json!({"n": 2})))
        .await
        .is(202);
    let status = made.json();
    let id = status["id"].as_str().unwrap();
    let job = format!("/v1/jobs/{id}");
    assert_eq!(made.header("location"), job);
    assert_eq!(made.header("x-job-id"), id);
    assert_eq!((id.len(), &status["object"]), (32, &json!("job")));
    assert_eq!((&status["n"], &status["seed"]), (&json!(2), &json!(5)));

    studio.let_go(3);
    studio.at(5, 3).await;
    let status = server.get(&job).await.is(200).json();
    assert_eq!(status["state"], "running");
    assert_eq!(
        (&status["image_index"], &status["step"]),
        (&json!(0), &json!(3))
    );
    assert_eq!(status["images"], json!([]));
    assert_eq!(
        status["predicted_seconds"],
        Value::Null,
        "nothing was drawn before"
    );
    assert_eq!(
        (&status["finished"], &status["expires"]),
        (&Value::Null, &Value::Null)
    );
    let early = server.get(&format!("{job}/images/0")).await;
    assert!(early.headers.contains_key("retry-after"));
    early.refused(409, "job_not_finished");

    studio.let_go(1);
    studio.at(6, 0).await;
    // The first picture can be fetched while the second is drawn.
    let first = server.get(&format!("{job}/images/0")).await.is(200);
    assert_eq!(first.header("content-type"), "image/png");
    assert_eq!(
        first.header("cache-control"),
        "private, max-age=31536000, immutable"
    );
    server
        .get(&format!("{job}/images/1"))
        .await
        .refused(409, "job_not_finished");
    let status = server.get(&job).await.is(200).json();
    assert_eq!(
        (&status["image_index"], &status["step"]),
        (&json!(1), &json!(0))
    );
    assert_eq!(status["images"].as_array().unwrap().len(), 1);
    assert!(status["predicted_seconds"].is_number());

    studio.let_all_go();
    let status = server.ended(&job).await;
    assert_eq!(
        (&status["state"], &status["error"]),
        (&json!("succeeded"), &Value::Null)
    );
    let ttl = status["expires"].as_u64().unwrap() - status["finished"].as_u64().unwrap();
    assert_eq!(ttl, 600);
    for (index, seed) in [(0, 5), (1, 6)] {
        let image = &status["images"][index];
        assert_eq!(
            (&image["index"], &image["seed"]),
            (&json!(index), &json!(seed))
        );
        let url = image["url"].as_str().unwrap();
        assert_eq!(url, server.url(&format!("{job}/images/{index}")));
        let picture = server.get(&format!("{job}/images/{index}")).await.is(200);
        assert_eq!(picture.header("x-seed"), seed.to_string());
        let receipt: Value = serde_json::from_str(picture.header("x-receipt")).unwrap();
        assert_eq!(
            (&receipt["seed"], &image["receipt"]),
            (&json!(seed), &receipt)
        );
        let decoded = decode_png(&picture.body);
        assert_eq!((decoded.width, decoded.height), (128, 128));
    }
    server.until_all_counted().await;
}

#[tokio::test]
async fn what_is_not_there_is_told_so() {
    let studio = Studio::open();
    let server = Server::start(&studio, &[]).await;
    let job = server.job(&red(1)).await;
    server.ended(&job).await;
    for index in ["1", "2", "-1", "a", "0.png"] {
        let answer = server.get(&format!("{job}/images/{index}")).await;
        assert_eq!(
            answer.refused(404, "not_found")["param"],
            "index",
            "{index}"
        );
    }
    for id in [
        "0",
        "00000000000000000000000000000000",
        "zzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzz",
        "00000000-0000-0000-0000-000000000000",
        "%00",
        "..%2f..%2fmetrics",
    ] {
        for rest in ["", "/events", "/images/0"] {
            let answer = server.get(&format!("/v1/jobs/{id}{rest}")).await;
            assert_eq!(
                answer.refused(404, "job_not_found")["param"],
                "id",
                "{id}{rest}"
            );
        }
        let answer = server.delete(&format!("/v1/jobs/{id}")).await;
        answer.refused(404, "job_not_found");
    }
    server
        .get("/v1/jobs")
        .await
        .refused(405, "method_not_allowed");
    server.get("/v1/nothing").await.refused(404, "not_found");
}

#[tokio::test]
async fn a_job_refuses_to_be_a_stream() {
    let studio = Studio::open();
    let server = Server::start(&studio, &[]).await;
    let answer = server
        .post("/v1/jobs", &red_with(1, &json!({"stream": true})))
        .await;
    assert_eq!(answer.refused(422, "invalid_value")["param"], "stream");
    let numbers = server.until_all_counted().await;
    assert_eq!(numbers.requests("invalid"), 1);
}

#[tokio::test]
async fn results_are_forgotten_when_their_time_has_come_and_no_sooner() {
    let studio = Studio::open();
    let server = Server::start(&studio, &[("jobs.ttl_seconds", "60")]).await;
    let job = server.job(&red(1)).await;
    server.ended(&job).await;
    let url = server
        .post(
            "/v1/images",
            &red_with(2, &json!({"response_format": "url"})),
        )
        .await
        .is(200)
        .json();
    let url = url["data"][0]["url"].as_str().unwrap();
    let kept = url.strip_prefix(&server.url("")).unwrap();
    server.jobs.sweep(Instant::now() + Duration::from_secs(55));
    server.get(&job).await.is(200);
    server.get(kept).await.is(200);
    server.jobs.sweep(Instant::now() + Duration::from_secs(61));
    server.get(&job).await.refused(404, "job_not_found");
    server.get(kept).await.refused(404, "job_not_found");
}

#[tokio::test]
async fn results_that_were_fetched_make_room_for_new_ones_and_others_stay() {
    let studio = Studio::open();
    let server = Server::start(&studio, &[("jobs.max_kept", "2")]).await;
    let mut jobs = Vec::new();
    for seed in 1..=2 {
        let job = server.job(&red(seed)).await;
        server.ended(&job).await;
        jobs.push(job);
    }
    let refused = server.post("/v1/jobs", &red(3)).await;
    assert!(refused.header("retry-after").parse::<u64>().unwrap() <= 600);
    refused.refused(429, "results_full");
    // A look at it is no download.
    let head = server.request(Method::HEAD, &format!("{}/images/0", jobs[0]));
    send(head).await.is(200);
    let refused = server.post("/v1/jobs", &red(3)).await;
    refused.refused(429, "results_full");
    server.get(&format!("{}/images/0", jobs[0])).await.is(200);
    let job = server.job(&red(3)).await;
    server.ended(&job).await;
    jobs.push(job);
    server.get(&jobs[0]).await.refused(404, "job_not_found");
    for job in &jobs[1..] {
        server.get(&format!("{job}/images/0")).await.is(200);
    }
}

#[tokio::test]
async fn jobs_that_are_taken_back_leave_their_room_to_others() {
    let studio = Studio::open();
    let server = Server::start(&studio, &[("jobs.max_kept", "2")]).await;
    for seed in 1..=5 {
        let job = server.job(&red(seed)).await;
        server.ended(&job).await;
        // One that has ended is forgotten; the next one is stopped.
        send(server.request(Method::DELETE, &job)).await.is(200);
    }
    studio.break_next(Trouble::NotFinite);
    for seed in 1..=3 {
        // The end of a job without its images is no promise.
        let job = server.job(&red(seed)).await;
        server.ended(&job).await;
        studio.break_next(Trouble::NotFinite);
    }
}

#[tokio::test]
async fn a_job_that_failed_says_so_and_keeps_the_cause_to_itself() {
    let studio = Studio::open();
    let server = Server::start(&studio, &[]).await;
    studio.break_next(Trouble::NotFinite);
    let job = server.job(&red(1)).await;
    let status = server.ended(&job).await;
    assert_eq!(status["state"], "failed");
    assert_eq!(status["error"]["code"], "inference_failed");
    assert!(!status.to_string().contains("precision f32"), "{status}");
    let picture = server.get(&format!("{job}/images/0")).await;
    let error = picture.refused(409, "job_failed");
    assert!(!error.to_string().contains("precision f32"), "{error}");
    assert_eq!(server.until_all_counted().await.jobs("failed"), 1);
}

#[tokio::test]
async fn pictures_of_one_request_have_the_seeds_that_follow_the_first() {
    let studio = Studio::open();
    let server = Server::start(&studio, &[]).await;
    let three = server
        .post("/v1/images", &red_with(41, &json!({"n": 3})))
        .await
        .is(200)
        .json();
    let data = three["data"].as_array().unwrap();
    assert_eq!(data.len(), 3);
    for (image, seed) in data.iter().zip(41..) {
        assert_eq!(
            (&image["seed"], &image["receipt"]["seed"]),
            (&json!(seed), &json!(seed))
        );
        let alone = server.post("/v1/images", &red(seed)).await.is(200).json();
        assert_eq!(alone["data"][0]["b64_json"], image["b64_json"], "{seed}");
    }
    assert_ne!(data[0]["b64_json"], data[1]["b64_json"]);
    // The last seed of all is followed by the first.
    let around = red_with(0, &json!({"n": 2, "seed": u64::MAX}));
    let around = server.post("/v1/images", &around).await.is(200).json();
    let seeds: Vec<_> = around["data"]
        .as_array()
        .unwrap()
        .iter()
        .map(|image| image["seed"].as_u64().unwrap())
        .collect();
    assert_eq!(seeds, [u64::MAX, 0]);
    server.until_all_counted().await;
}
