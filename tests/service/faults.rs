//! Loading, faults and shutting down: what is told meanwhile, who is still served, and that it comes back.

use std::sync::Arc;

use serde_json::json;

use super::{Server, Studio, Trouble, red, within};

const DRAWING: [&str; 3] = ["/v1/images", "/v1/images/generations", "/v1/jobs"];

#[tokio::test]
async fn while_the_model_loads_what_needs_it_answers_503_and_the_process_is_well() {
    let studio = Studio::open();
    studio.hold_builds();
    let mut server = Server::begin(&studio, &[]).await;
    for path in DRAWING.into_iter().chain(["/v1/images/estimate"]) {
        let answer = server.post(path, &red(1)).await;
        assert_eq!(answer.header("retry-after"), "5");
        answer.refused(503, "loading");
    }
    server.get("/v1/capabilities").await.refused(503, "loading");
    let health = server.get("/healthz").await.is(200).json();
    assert_eq!(health, json!({"status": "ok", "worker": "loading"}));
    let ready = server.get("/readyz").await.is(503).json();
    assert_eq!(ready, json!({"status": "loading"}));
    let models = server.get("/v1/models").await.is(200).json();
    assert_eq!(models, json!({"object": "list", "data": []}));
    server
        .get("/v1/models/sketchbook")
        .await
        .refused(404, "model_not_found");
    let numbers = server.until_all_counted().await;
    assert_eq!(numbers.requests("not_ready"), 3);
    assert_eq!(numbers.of("pixart_ready"), 0);
    studio.release_builds();
    server.started().await.unwrap();
    let ready = server.get("/readyz").await.is(200).json();
    assert_eq!(ready, json!({"status": "ready"}));
    server.post("/v1/images", &red(1)).await.is(200);
    assert_eq!(server.until_all_counted().await.of("pixart_ready"), 1);
}

#[tokio::test]
async fn a_request_that_makes_no_sense_is_told_so_even_while_the_model_loads() {
    let studio = Studio::open();
    studio.hold_builds();
    let server = Server::begin(&studio, &[]).await;
    let answer = server.post("/v1/images", &json!({"n": 1})).await;
    answer.refused(422, "missing_field");
}

#[tokio::test]
async fn while_it_warms_up_it_is_not_ready() {
    let studio = Studio::closed();
    let mut server = Server::begin(&studio, &[("worker.warm_up", "true")]).await;
    studio.at(1, 0).await;
    let ready = server.get("/readyz").await.is(503).json();
    assert_eq!(ready, json!({"status": "warming_up"}));
    server
        .post("/v1/images", &red(1))
        .await
        .refused(503, "loading");
    // The model is known already, and its limits with it.
    server.get("/v1/capabilities").await.is(200);
    studio.let_all_go();
    server.started().await.unwrap();
    server.get("/readyz").await.is(200);
    let numbers = server.until_all_counted().await;
    assert_eq!(
        numbers.of("pixart_images_total"),
        0,
        "pictures that nobody sees are not counted"
    );
}

#[tokio::test]
async fn a_model_that_cannot_be_loaded_is_told_and_the_process_is_not_well() {
    let studio = Studio::open();
    studio.break_builds(1);
    let mut server = Server::begin(&studio, &[]).await;
    let error = server.started().await.unwrap_err();
    assert_eq!(error, "the studio cannot be built");
    server
        .until(|numbers| numbers.of("pixart_worker_up") == 0)
        .await;
    server
        .post("/v1/images", &red(1))
        .await
        .refused(503, "worker_down");
    let health = server.get("/healthz").await.is(503).json();
    assert_eq!(health, json!({"status": "stalled", "worker": "ended"}));
    let ready = server.get("/readyz").await.is(503).json();
    assert_eq!(ready, json!({"status": "worker_down"}));
}

#[tokio::test]
async fn shutting_down_answers_those_who_wait_and_lets_the_running_picture_finish() {
    let studio = Studio::closed();
    let server = Server::start(&studio, &[]).await;
    let running = server.begin_post("/v1/images", &red(1));
    studio.at(1, 0).await;
    let waiting: Vec<_> = ["/v1/images", "/v1/images/generations"]
        .map(|path| server.begin_post(path, &red(2)))
        .into();
    let job = server.job(&red(3)).await;
    server.until_line(1, 3).await;
    server.jobs.drain();
    for answer in waiting {
        let answer = answer.await.unwrap();
        assert!(answer.headers.contains_key("retry-after"));
        answer.refused(503, "draining");
    }
    let status = server.get(&job).await.is(200).json();
    assert_eq!(status["state"], "failed");
    assert_eq!(status["error"]["code"], "draining");
    for path in DRAWING {
        server.post(path, &red(4)).await.refused(503, "draining");
    }
    let ready = server.get("/readyz").await.is(503).json();
    assert_eq!(ready, json!({"status": "draining"}));
    server.get("/healthz").await.is(200);
    let numbers = server.until_line(1, 0).await;
    assert_eq!(numbers.of("pixart_draining"), 1);
    assert_eq!(numbers.of("pixart_ready"), 0);
    studio.let_all_go();
    running.await.unwrap().is(200);
    let numbers = server.until_all_counted().await;
    assert_eq!((numbers.jobs("succeeded"), numbers.jobs("drained")), (1, 3));
    assert_eq!(numbers.requests("draining"), 5);
}

#[tokio::test]
async fn a_picture_that_outlasts_the_grace_is_stopped_and_answered_503() {
    let studio = Studio::closed();
    let server = Server::start(&studio, &[]).await;
    let running = server.begin_post("/v1/images", &red(1));
    studio.at(1, 0).await;
    server.jobs.drain();
    server.jobs.stop_running(pixart::jobs::Stop::Draining);
    running.await.unwrap().refused(503, "draining");
    let numbers = server.until_all_counted().await;
    assert_eq!(
        (numbers.jobs("drained"), numbers.requests("draining")),
        (1, 1)
    );
}

#[tokio::test]
async fn an_image_that_finds_too_little_memory_is_drawn_once_more_by_a_new_worker() {
    for (failures, status) in [(1, 200), (2, 500)] {
        let studio = Studio::open();
        let server = Server::start(&studio, &[]).await;
        for _ in 0..failures {
            studio.break_next(Trouble::Memory);
        }
        server.post("/v1/images", &red(1)).await.is(status);
        // Whatever came of it, the next one is drawn.
        within(async {
            while server.get("/readyz").await.status != 200 {
                tokio::task::yield_now().await;
            }
        })
        .await;
        server.post("/v1/images", &red(2)).await.is(200);
        let numbers = server.until_all_counted().await;
        let restarts = |reason| {
            numbers.of(&format!(
                "pixart_worker_restarts_total{{reason=\"{reason}\"}}"
            ))
        };
        assert_eq!((restarts("memory"), restarts("engine")), (1, failures - 1));
        assert_eq!(numbers.of("pixart_jobs_accepted_total"), 2);
        assert_eq!(numbers.jobs("succeeded"), 3 - failures);
    }
}

#[tokio::test]
async fn a_worker_that_breaks_fails_its_job_alone_and_builds_itself_anew() {
    for (trouble, reason, code) in [
        (Trouble::Panic, "panic", "internal_error"),
        (Trouble::Engine, "engine", "inference_failed"),
    ] {
        let studio = Studio::closed();
        let server = Server::start(&studio, &[]).await;
        let broken = server.begin_post("/v1/images", &red(1));
        studio.at(1, 0).await;
        let waiting = server.begin_post("/v1/images", &red(2));
        server.until_line(1, 1).await;
        studio.hold_builds();
        studio.break_next(trouble);
        studio.let_all_go();
        let error = broken.await.unwrap().refused(500, code);
        let message = error["message"].as_str().unwrap();
        assert!(!message.contains("fire") && !message.contains("device"));
        // Until it has a model again nobody is admitted, and those who wait go on waiting.
        let ready = server.get("/readyz").await.is(503).json();
        assert_eq!(ready, json!({"status": "worker_down"}));
        let health = server.get("/healthz").await.is(200).json();
        assert_eq!(health["worker"], "down");
        for path in DRAWING {
            let answer = server.post(path, &red(3)).await;
            answer.refused(503, "worker_down");
        }
        let numbers = server.until_line(0, 1).await;
        assert_eq!(numbers.of("pixart_worker_up"), 0);
        assert_eq!(numbers.of("pixart_ready"), 0);
        studio.until(|scene| scene.builds == 2).await;
        studio.release_builds();
        waiting.await.unwrap().is(200);
        server.post("/v1/images", &red(4)).await.is(200);
        server.get("/readyz").await.is(200);
        let numbers = server.until_all_counted().await;
        let restarts = |reason: &str| {
            numbers.of(&format!(
                "pixart_worker_restarts_total{{reason=\"{reason}\"}}"
            ))
        };
        assert_eq!(restarts(reason), 1);
        assert_eq!(numbers.sum("pixart_worker_restarts_total{"), 1);
        assert_eq!((numbers.jobs("failed"), numbers.jobs("succeeded")), (1, 2));
        assert_eq!(
            (numbers.requests("error"), numbers.requests("not_ready")),
            (1, 3)
        );
        assert_eq!(numbers.of("pixart_worker_up"), 1);
    }
}

#[tokio::test]
async fn numbers_that_are_no_picture_fail_the_job_and_leave_the_model_as_it_is() {
    let studio = Studio::open();
    let server = Server::start(&studio, &[]).await;
    studio.break_next(Trouble::NotFinite);
    let answer = server.post("/v1/images", &red(1)).await;
    let id = answer.header("x-request-id").to_owned();
    let error = answer.refused(500, "inference_failed");
    assert!(error["message"].as_str().unwrap().contains(&id), "{error}");
    server.get("/readyz").await.is(200);
    server.post("/v1/images", &red(2)).await.is(200);
    let numbers = server.until_all_counted().await;
    assert_eq!(numbers.sum("pixart_worker_restarts_total{"), 0);
    assert_eq!(studio.look(|scene| scene.builds), 1);
}

#[tokio::test]
async fn a_model_that_does_not_come_back_at_once_is_tried_again() {
    let studio = Studio::open();
    let server = Server::start(&studio, &[]).await;
    studio.break_next(Trouble::Engine);
    studio.break_builds(1);
    server
        .post("/v1/images", &red(1))
        .await
        .refused(500, "inference_failed");
    studio.until(|scene| scene.builds == 3).await;
    server
        .until(|numbers| numbers.of("pixart_ready") == 1)
        .await;
    server.post("/v1/images", &red(2)).await.is(200);
    let numbers = server.until_all_counted().await;
    assert_eq!(numbers.sum("pixart_worker_restarts_total{"), 1);
}

#[tokio::test]
async fn the_fault_of_one_picture_of_several_fails_the_job_and_keeps_what_was_finished() {
    let studio = Studio::closed();
    let server = Server::start(&studio, &[]).await;
    let job = server
        .job(&json!({"prompt": "a red circle", "seed": 1, "n": 2}))
        .await;
    studio.let_go(4);
    studio.at(2, 0).await;
    studio.break_next(Trouble::NotFinite);
    studio.let_all_go();
    assert_eq!(server.ended(&job).await["state"], "failed");
    server.get(&format!("{job}/images/0")).await.is(200);
    let second = server.get(&format!("{job}/images/1")).await;
    second.refused(409, "job_failed");
}

#[tokio::test]
async fn health_is_told_while_a_picture_is_drawn_and_503_once_it_has_stood_still() {
    let studio = Studio::closed();
    let server = Arc::new(Server::start(&studio, &[("worker.stall_seconds", "1")]).await);
    let idle = server.get("/healthz").await.is(200).json();
    assert_eq!(idle, json!({"status": "ok", "worker": "idle"}));
    let running = server.begin_post("/v1/images", &red(1));
    studio.at(1, 0).await;
    let drawing = server.get("/healthz").await.is(200).json();
    assert_eq!(drawing, json!({"status": "ok", "worker": "drawing"}));
    let stalled = super::within(async {
        loop {
            let answer = server.get("/healthz").await;
            if answer.status != 200 {
                return answer.is(503).json();
            }
        }
    })
    .await;
    assert_eq!(stalled, json!({"status": "stalled", "worker": "drawing"}));
    studio.let_go(1);
    studio.at(1, 1).await;
    server.get("/healthz").await.is(200);
    studio.let_all_go();
    running.await.unwrap().is(200);
}
