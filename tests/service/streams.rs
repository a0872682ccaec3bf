//! Events: in order, nothing twice, nothing left out, and an error where there is no picture.

use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use reqwest::Method;
use serde_json::{Value, json};

use super::events::Told;
use super::{Events, Server, Studio, Trouble, hold_error_shape, names, red, red_with};

async fn own(server: &Server, body: &Value) -> Events {
    let request = server.posting("/v1/images", body);
    Events::of(request.header("accept", "text/event-stream")).await
}

async fn openai(server: &Server, body: &Value) -> Events {
    let body = red_with(0, body);
    Events::of(server.posting("/v1/images/generations", &red_with(0, &body))).await
}

#[tokio::test]
async fn own_events_tell_the_place_the_steps_the_pictures_and_the_end_in_order() {
    let studio = Studio::closed();
    let server = Server::start(&studio, &[]).await;
    let running = server.begin_post("/v1/images", &red(1));
    studio.at(1, 0).await;
    let before = server.begin_post("/v1/images", &red(2));
    server.until_line(1, 1).await;
    let mut events = own(&server, &red_with(3, &json!({"n": 2}))).await;
    let queued = events.expect("queued").await;
    assert_eq!(queued["position"], 2);
    let id = queued["id"].as_str().unwrap().to_owned();
    studio.let_go(4);
    studio.at(2, 0).await;
    assert_eq!(events.expect("queued").await["position"], 1);
    studio.let_go(4);
    assert_eq!(events.expect("started").await["id"], id);
    for (image_index, seed) in [(0, 3), (1, 4)] {
        for step in 1..=3 {
            studio.at(seed, step - 1).await;
            studio.let_go(1);
            let told = events.expect("step").await;
            assert_eq!(told["image_index"], image_index);
            assert_eq!((&told["step"], &told["steps"]), (&json!(step), &json!(4)));
            assert!(told["predicted_seconds"].is_number());
        }
        studio.let_go(1);
        // The last step may be told, or the picture itself.
        let mut told = events.next().await.unwrap();
        if told.name == "step" {
            assert_eq!(told.data["step"], 4);
            told = events.next().await.unwrap();
        }
        assert_eq!(told.name, "image");
        assert_eq!(told.data["image_index"], image_index);
        assert_eq!(told.data["seed"], seed);
        assert!(told.data["b64_json"].is_string());
        assert!(told.data["timings"].is_object() && told.data["receipt"].is_object());
    }
    let completed = events.expect("completed").await;
    assert_eq!(completed["id"], id);
    assert_eq!(completed.get("data"), None);
    assert_eq!(completed["usage"]["output_tokens"], 128);
    assert!(events.next().await.is_none());
    running.await.unwrap().is(200);
    before.await.unwrap().is(200);
    assert_eq!(server.until_all_counted().await.requests("ok"), 3);
}

#[tokio::test]
async fn a_free_worker_is_not_waited_for_and_nothing_is_told_twice() {
    let studio = Studio::open();
    let server = Server::start(&studio, &[]).await;
    for _ in 0..20 {
        let told = own(&server, &red_with(1, &json!({"n": 3})))
            .await
            .rest()
            .await;
        let told = names(&told);
        let count = |name: &str| told.iter().filter(|&&told| told == name).count();
        assert!(count("queued") <= 1, "{told:?}");
        assert_eq!(
            (count("started"), count("image"), count("completed")),
            (1, 3, 1)
        );
        assert_eq!(told.last(), Some(&"completed"));
    }
    server.until_all_counted().await;
}

#[tokio::test]
async fn previews_come_between_the_steps_and_before_their_picture() {
    let studio = Studio::open();
    let server = Server::warm(&studio, &[]).await;
    let body = red_with(3, &json!({"n": 2, "partial_images": 3}));
    let told = own(&server, &body).await.rest().await;
    let mut partials = Vec::new();
    let mut images = 0;
    for Told { name, data } in &told {
        match name.as_str() {
            "partial_image" => {
                assert_eq!(data["image_index"], images, "it goes before its picture");
                assert_eq!(
                    (&data["output_format"], &data["size"]),
                    (&json!("png"), &json!("128x128"))
                );
                assert!(data["b64_json"].as_str().unwrap().len() > 100);
                partials.push(data["partial_image_index"].as_u64().unwrap());
            }
            "image" => images += 1,
            _ => {}
        }
    }
    assert_eq!(partials, [0, 1, 2, 0, 1, 2]);
    // Of a job too, where nobody may be there to see them yet.
    let job = server
        .job(&red_with(3, &json!({"partial_images": 2})))
        .await;
    server.ended(&job).await;
    let events = server.request(Method::GET, &format!("{job}/events"));
    let told = Events::of(events).await.rest().await;
    assert_eq!(
        names(&told),
        [
            "started",
            "partial_image",
            "partial_image",
            "image",
            "completed"
        ]
    );
    let url = &told[3].data["url"];
    assert_eq!(
        url.as_str(),
        Some(server.url(&format!("{job}/images/0")).as_str())
    );
    // Not asked for, and not sent.
    let told = own(&server, &red(3)).await.rest().await;
    assert!(!names(&told).contains(&"partial_image"));
    server.until_all_counted().await;
}

#[tokio::test]
async fn openais_events_are_those_that_their_sdks_read() {
    let studio = Studio::open();
    let server = Server::warm(&studio, &[]).await;
    let body = json!({"seed": 9, "stream": true, "partial_images": 2, "model": "gpt-image-1", "n": 2, "quality": "high"});
    let told = openai(&server, &body).await.rest().await;
    let partial = "image_generation.partial_image";
    let completed = "image_generation.completed";
    assert_eq!(
        names(&told),
        [partial, partial, completed, partial, partial, completed]
    );
    let mut index = 0;
    for Told { name, data } in told.iter().filter(|told| told.name != ":") {
        assert_eq!(data["type"], *name);
        for key in ["b64_json", "size", "quality", "background", "output_format"] {
            assert!(data[key].is_string(), "{key}");
        }
        assert!(data["created_at"].is_u64());
        if name == partial {
            assert_eq!(data["partial_image_index"], index % 2);
            index += 1;
        } else {
            assert_eq!(data["seed"], 9 + (index - 1) / 2);
            assert_eq!(data["usage"]["output_tokens"], 128);
            assert_eq!(data["warnings"][0]["code"], "ignored_field");
        }
    }
    // Steps and places travel as comments, which their parsers skip.
    let comments = told.iter().filter(|told| told.name == ":").count();
    assert!(comments > 0);
    server.until_all_counted().await;
}

/// The last event of both kinds of stream after what `happens` to its job, which stands at its first gate.
async fn last_words<F: Future>(
    flags: &[(&str, &str)],
    more: Value,
    happens: impl Fn(Studio, std::sync::Arc<Server>) -> F,
) -> Vec<Value> {
    let mut last = Vec::new();
    for is_own in [true, false] {
        let studio = Studio::closed();
        let server = std::sync::Arc::new(Server::start(&studio, flags).await);
        let body = red_with(1, &more);
        let mut events = if is_own {
            own(&server, &body).await
        } else {
            let body = red_with(1, &red_with(1, &more));
            openai(&server, &red_with(1, &json!({"stream": true, "seed": 1, "deadline_seconds": body["deadline_seconds"]}))).await
        };
        studio.at(1, 0).await;
        let (told, _) = tokio::join!(
            async {
                let mut all = Vec::new();
                while let Some(told) = events.next().await {
                    all.push(told);
                }
                all
            },
            happens(studio.clone(), std::sync::Arc::clone(&server))
        );
        let end = told.last().unwrap();
        assert_eq!(end.name, "error", "{told:?}");
        last.push(hold_error_shape(&end.data));
        server.until_all_counted().await;
    }
    last
}

#[tokio::test]
async fn a_stream_whose_job_fails_ends_with_an_error() {
    for (trouble, code) in [
        (Trouble::NotFinite, "inference_failed"),
        (Trouble::Engine, "inference_failed"),
        (Trouble::Panic, "internal_error"),
    ] {
        let last = last_words(&[], json!({}), async |studio, _| {
            studio.break_next(trouble);
            studio.let_all_go();
        })
        .await;
        for error in last {
            assert_eq!(error["code"], code);
            assert!(
                error["message"].as_str().unwrap().contains("request id"),
                "{error}"
            );
        }
    }
}

#[tokio::test]
async fn a_stream_whose_deadline_passes_ends_with_an_error() {
    let last = last_words(&[], json!({"deadline_seconds": 0.1}), async |_, _| ()).await;
    for error in last {
        assert_eq!(error["code"], "deadline_exceeded");
    }
}

#[tokio::test]
async fn a_stream_whose_job_is_taken_back_ends_with_an_error() {
    let last = last_words(&[], json!({}), async |_, server| {
        let job = server.jobs.running().unwrap().id();
        server.delete(&format!("/v1/jobs/{job}")).await.is(200);
    })
    .await;
    for error in last {
        assert_eq!(error["code"], "job_cancelled");
    }
}

#[tokio::test]
async fn a_stream_whose_job_waits_when_the_service_shuts_down_ends_with_an_error() {
    let studio = Studio::closed();
    let server = Server::start(&studio, &[]).await;
    let mut running = own(&server, &red(1)).await;
    studio.at(1, 0).await;
    running.expect("started").await;
    let waiting = own(&server, &red(2)).await;
    server.until_line(1, 1).await;
    server.jobs.drain();
    let told = waiting.rest().await;
    assert_eq!(names(&told).last(), Some(&"error"));
    assert_eq!(told.last().unwrap().data["error"]["code"], "draining");
    studio.let_all_go();
    assert_eq!(names(&running.rest().await).last(), Some(&"completed"));
    let numbers = server.until_all_counted().await;
    assert_eq!(
        (numbers.jobs("drained"), numbers.requests("draining")),
        (1, 1)
    );
}

#[tokio::test]
async fn the_events_of_a_job_that_has_ended_are_told_from_the_beginning_and_close() {
    let studio = Studio::open();
    let server = Server::start(&studio, &[]).await;
    let job = server.job(&red_with(1, &json!({"n": 2}))).await;
    server.ended(&job).await;
    let began = Instant::now();
    for _ in 0..2 {
        let events = server.request(Method::GET, &format!("{job}/events"));
        let told = Events::of(events).await.rest().await;
        assert_eq!(names(&told), ["started", "image", "image", "completed"]);
    }
    assert!(
        began.elapsed() < Duration::from_secs(10),
        "it does not wait for a keep-alive"
    );
    studio.break_next(Trouble::NotFinite);
    let failed = server.job(&red(1)).await;
    server.ended(&failed).await;
    let events = server.request(Method::GET, &format!("{failed}/events"));
    let told = Events::of(events).await.rest().await;
    assert_eq!(names(&told), ["started", "error"]);
}

#[tokio::test]
async fn the_events_of_a_job_carry_its_pictures_where_they_are_asked_to() {
    let studio = Studio::open();
    let server = Server::start(&studio, &[]).await;
    let job = server.job(&red(1)).await;
    server.ended(&job).await;
    let fetched = server.get(&format!("{job}/images/0")).await.is(200).body;
    for (query, within) in [
        ("", false),
        ("?response_format=url", false),
        ("?response_format=b64_json", true),
        ("?other=1&response_format=b64_json", true),
    ] {
        let events = server.request(Method::GET, &format!("{job}/events{query}"));
        let told = Events::of(events).await.rest().await;
        let told = &told.iter().find(|told| told.name == "image").unwrap().data;
        assert_eq!(told["url"].is_string(), !within, "{query}");
        if within {
            let text = told["b64_json"].as_str().unwrap();
            assert_eq!(STANDARD.decode(text).unwrap(), fetched);
        }
    }
    let answer = server
        .get(&format!("{job}/events?response_format=png"))
        .await;
    assert_eq!(
        answer.refused(422, "invalid_value")["param"],
        "response_format"
    );
}
