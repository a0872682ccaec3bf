//! A text encoder on demand in a service: it comes and goes, and nobody who asks for health or pictures sees that.

use std::fs;

use serde_json::json;

use super::binary::Serving;

#[tokio::test]
async fn an_idle_text_encoder_leaves_memory_and_comes_back_for_a_new_prompt_while_the_service_stays_ready()
 {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("pixart.toml");
    fs::write(
        &config,
        "[model]\ntext_encoder = 'on_demand'\ntext_encoder_idle_seconds = 1\n",
    )
    .unwrap();
    let always = Serving::start(&[]);
    let service = Serving::start(&["--config", config.to_str().unwrap()]);
    let red = json!({"prompt": "a red circle", "seed": 1});
    let blue = json!({"prompt": "a blue square", "seed": 1});
    let away = |loads: u64| {
        service.until(move |numbers| {
            numbers.of("pixart_text_encoder_resident") == 0
                && numbers.of("pixart_text_encoder_loads_total") == loads
                && numbers.of("pixart_ready") == 1
        })
    };
    // Warm-up has loaded it once.
    away(1).await;
    service.get("/readyz").await.is(200);
    let first = service.png(&red).await;
    assert_eq!(first, always.png(&red).await);
    away(2).await;
    service.get("/readyz").await.is(200);
    service.get("/healthz").await.is(200);
    assert_eq!(first, service.png(&red).await, "from what is at hand");
    assert_eq!(service.png(&blue).await, always.png(&blue).await);
    away(3).await;
    always
        .until(|numbers| {
            numbers.of("pixart_text_encoder_resident") == 1
                && numbers.of("pixart_text_encoder_loads_total") == 0
        })
        .await;
}
