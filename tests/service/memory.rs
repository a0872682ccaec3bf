//! What memory does not suffice for is refused in words, and what exceeds it all the same fails alone.

use std::fs;

use pixart::domain::{Decoder, ImageSize};
use serde_json::json;

use super::binary::Serving;
use super::server::Server;
use super::studio::Studio;
use super::{red_with, send, within};
use crate::support::shapes;

/// More than this process holds, and less than 2048×2048 take with sketchbook's shapes in f32.
const LIMIT: u64 = 12 << 30;

#[tokio::test]
async fn an_image_that_memory_does_not_suffice_for_is_refused_at_the_door_with_what_would_fit() {
    let studio = Studio::open();
    studio.limit_memory(LIMIT);
    let server = Server::start(&studio, &[]).await;
    let limits = server.get("/v1/capabilities").await.is(200).json()["limits"].clone();
    assert_eq!(limits["memory_bytes"], LIMIT);
    let largest = limits["max_square_px"].as_u64().unwrap();
    assert!((64..2048).contains(&largest), "{limits}");

    for path in [
        "/v1/images",
        "/v1/images/estimate",
        "/v1/jobs",
        "/v1/images/generations",
    ] {
        for (body, field) in [
            (json!({"size": "2048x2048", "steps": 1}), "size"),
            (json!({"width": 2048, "height": 2048, "steps": 1}), "width"),
        ] {
            let answer = server.post(path, &red_with(1, &body)).await;
            assert_eq!(answer.header("x-should-retry"), "false");
            let error = answer.refused(422, "too_large_for_memory");
            assert_eq!(error["param"], field, "{path}");
            let message = error["message"].as_str().unwrap();
            let would_fit = format!("{largest}x{largest} would fit");
            for part in ["2048x2048 needs about", "the limit is 12885 MB", &would_fit] {
                assert!(message.contains(part), "no '{part}' in: {message}");
            }
        }
    }
    // What is said to fit does.
    let body = red_with(
        1,
        &json!({"size": format!("{largest}x{largest}"), "steps": 1}),
    );
    let told = server
        .post("/v1/images/estimate", &body)
        .await
        .is(200)
        .json();
    let needed = told["memory"]["needed_bytes"].as_u64().unwrap();
    assert!(needed <= LIMIT && needed > LIMIT / 2, "{told}");
    assert_eq!(told["memory"]["limit_bytes"], LIMIT);
    server
        .post("/v1/images", &red_with(1, &json!({"size": "64x64"})))
        .await
        .is(200);
    server.until_all_counted().await;
}

#[tokio::test]
async fn without_a_limit_nothing_is_refused_for_memory() {
    let studio = Studio::open();
    let server = Server::start(&studio, &[]).await;
    let body = red_with(1, &json!({"size": "2048x2048", "steps": 1}));
    let told = server
        .post("/v1/images/estimate", &body)
        .await
        .is(200)
        .json();
    assert!(told["memory"].is_null(), "{told}");
    let limits = server.get("/v1/capabilities").await.is(200).json()["limits"].clone();
    assert!(limits["memory_bytes"].is_null() && limits["max_square_px"].is_null());
}

#[tokio::test]
async fn decoding_counts_and_large_sizes_count_what_they_compute() {
    let studio = Studio::open();
    let server = Server::start(&studio, &[]).await;
    let cost = async |body| {
        let told = server
            .post("/v1/images/estimate", &red_with(1, &body))
            .await
            .is(200);
        told.json()["megapixel_steps"].as_f64().unwrap()
    };
    let one = cost(json!({"steps": 1})).await;
    let two = cost(json!({"steps": 2})).await;
    // A step of the model's own size is its million pixels, and what is left is decoding.
    assert!((two - one - 0.016_384).abs() < 1e-9, "{one} {two}");
    let shapes = shapes();
    let own = ImageSize::new(128, 128).unwrap();
    let decode = shapes.decode_cost(own, Decoder::Full) / shapes.pass_cost(own);
    assert!((one - 0.016_384 * (1.0 + decode)).abs() < 1e-9, "{one}");
    // Ten images of one step each are little denoising and much decoding.
    let ten = cost(json!({"steps": 1, "size": "1024x1024", "n": 10})).await;
    let large = ImageSize::new(1024, 1024).unwrap();
    let computed = shapes.pass_cost(large) + shapes.decode_cost(large, Decoder::Full);
    let expected = 10.0 * 0.016_384 * computed / shapes.pass_cost(own);
    assert!((ten / expected - 1.0).abs() < 1e-9, "{ten}");
    assert!(
        ten > 3.0 * 10.5,
        "three times what the pixels alone say: {ten}"
    );
}

/// Sizes are small, so that what images themselves take is little.
#[tokio::test]
async fn new_sizes_do_not_take_memory_for_ever() {
    let serving = Serving::start(&[]);
    let mut sizes = (4..14).flat_map(|width| (4..12).map(move |height| (16 * width, 16 * height)));
    let draw = async |count: usize, sizes: &mut dyn Iterator<Item = (u32, u32)>| {
        for (width, height) in sizes.take(count) {
            let body =
                json!({"prompt": "a", "seed": 1, "steps": 1, "width": width, "height": height});
            serving.png(&body).await;
        }
        serving.resident_bytes()
    };
    // The largest first: its activations stay.
    serving
        .png(&json!({"prompt": "a", "steps": 1, "size": "256x256"}))
        .await;
    let warm = draw(30, &mut sizes).await;
    let end = draw(50, &mut sizes).await;
    // 4 MB and more for each of them before.
    assert!(
        end < warm + (100 << 20),
        "{warm} bytes after 30 sizes, {end} after 50 more"
    );
}

#[tokio::test]
async fn an_image_that_exceeds_the_data_limit_fails_alone_and_the_next_one_is_drawn() {
    // The price is by a limit that is far off; what the process may really map is a sixth of what the image takes.
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("config.toml");
    fs::write(&config, "[limits]\nmemory_mib = 16384\n").unwrap();
    let serving = Serving::limited("-S -d 819200", &["--config", config.to_str().unwrap()]);
    let body = |size: &str| json!({"prompt": "a", "seed": 1, "steps": 1, "size": size});
    let first = serving.png(&body("256x256")).await;
    let failed = send(serving.posting("/v1/images", &body("1408x1408"))).await;
    failed.refused(500, "inference_failed");
    within(async { while serving.get("/readyz").await.status != 200 {} }).await;
    assert!(serving.png(&body("256x256")).await == first);
    serving
        .until(|numbers| numbers.of("pixart_worker_restarts_total{reason=\"engine\"}") == 1)
        .await;
}

#[tokio::test]
async fn a_limit_of_the_settings_is_held_and_shown() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("config.toml");
    fs::write(&config, "[limits]\nmemory_mib = 1024\n").unwrap();
    let serving = Serving::start(&["--config", config.to_str().unwrap()]);
    let body = |size: &str, decoder: &str| json!({"prompt": "a", "seed": 1, "steps": 1, "size": size, "decoder": decoder});
    let refused = send(serving.posting("/v1/images", &body("1408x1408", "full"))).await;
    let error = refused.refused(422, "too_large_for_memory");
    let message = error["message"].as_str().unwrap().to_owned();
    assert!(message.contains("the limit is 1074 MB"), "{message}");
    assert!(
        message.contains("would fit, or the decoder tiny"),
        "{message}"
    );
    serving.png(&body("512x512", "full")).await;
    // By turns: what one decoder keeps makes room for the other.
    for _ in 0..2 {
        serving.png(&body("1152x1152", "tiny")).await;
        serving.png(&body("640x640", "full")).await;
    }
    serving
        .until(|numbers| {
            let peak = numbers.of("pixart_memory_peak_bytes");
            numbers.of("pixart_memory_limit_bytes") == 1 << 30 && peak > 100 << 20 && peak < 1 << 30
        })
        .await;
}
