//! Any size, portrait and landscape, one after the other in one service.

use serde_json::json;

use super::binary::Serving;
use super::send;
use crate::support::decode_png;

#[tokio::test]
async fn every_size_from_256_to_2048_in_steps_of_16_is_drawn_without_a_restart() {
    let service = Serving::start(&[]);
    let body = |size: &str| json!({"prompt": "a red circle", "seed": 1, "steps": 2, "size": size});
    let mut first = Vec::new();
    for (width, height) in [
        (256, 256),
        (272, 256),
        (256, 1024),
        (1024, 256),
        (528, 592),
        (2048, 256),
        (256, 2048),
    ] {
        let bytes = service.png(&body(&format!("{width}x{height}"))).await;
        let picture = decode_png(&bytes);
        assert_eq!((picture.width, picture.height), (width, height));
        if first.is_empty() {
            first = bytes;
        }
    }
    // What was drawn in between leaves no trace.
    assert_eq!(service.png(&body("256x256")).await, first);
    service
        .until(|numbers| {
            // Warming up has drawn the first.
            numbers.of("pixart_sizes_prepared_total") == 6
                && numbers.of("pixart_worker_restarts_total{reason=\"engine\"}") == 0
        })
        .await;
    for (size, told) in [
        ("250x256", "256x256"),
        ("256x2064", "2048"),
        ("264x256", "16"),
    ] {
        let answer = send(service.posting("/v1/images", &body(size)))
            .await
            .is(422);
        let error = answer.error();
        assert_eq!(error["param"], "size", "{error}");
        assert!(error["message"].as_str().unwrap().contains(told), "{error}");
    }
}
