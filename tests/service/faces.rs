//! What an answer looks like, who gets one, and from where.

use pixart::domain::{Decoder, ImageSize};
use reqwest::Method;
use serde_json::{Value, json};

use super::{Answer, Server, Studio, Trouble, red, red_with, send};
use crate::support::{decode_png, shapes};

async fn accepting(server: &Server, path: &str, accept: &str, more: &Value) -> Answer {
    let request = server.posting(path, &red_with(1, more));
    send(request.header("accept", accept)).await
}

#[tokio::test]
async fn accept_chooses_between_json_the_bytes_and_events() {
    let studio = Studio::open();
    let server = Server::start(&studio, &[]).await;
    let nothing = json!({});
    for (accept, media_type) in [
        ("*/*", "application/json"),
        ("application/json", "application/json"),
        ("image/png", "image/png"),
        ("image/*", "image/png"),
        ("image/jpeg", "image/jpeg"),
        ("image/webp, image/png;q=0.5", "image/webp"),
        ("application/json;q=0.4, image/*", "image/png"),
        ("text/event-stream", "text/event-stream"),
        ("text/html, */*;q=0.8", "application/json"),
    ] {
        let answer = accepting(&server, "/v1/images", accept, &nothing)
            .await
            .is(200);
        let got = answer.header("content-type");
        assert!(got.starts_with(media_type), "{accept}: {got}");
        let magic: &[u8] = match media_type {
            "image/png" => b"\x89PNG",
            "image/jpeg" => b"\xff\xd8\xff",
            "image/webp" => b"RIFF",
            "application/json" => b"{",
            _ => b"event: ",
        };
        assert!(answer.body.starts_with(magic), "{accept}");
    }
    for (accept, more) in [
        ("text/html", json!({})),
        ("image/gif", json!({})),
        ("image/png", json!({"output_format": "jpeg"})),
        ("image/png", json!({"stream": true})),
        ("application/json;q=0", json!({})),
    ] {
        let answer = accepting(&server, "/v1/images", accept, &more).await;
        answer.refused(406, "not_acceptable");
    }
    let jpeg = json!({"output_format": "jpeg"});
    let answer = accepting(&server, "/v1/images", "image/*", &jpeg)
        .await
        .is(200);
    assert_eq!(answer.header("content-type"), "image/jpeg");
    let two = accepting(&server, "/v1/images", "image/png", &json!({"n": 2})).await;
    assert_eq!(two.refused(422, "invalid_value")["param"], "n");
    // OpenAI's face has no bytes.
    let answer = accepting(&server, "/v1/images/generations", "image/png", &nothing).await;
    answer.refused(406, "not_acceptable");
    let numbers = server.until_all_counted().await;
    assert_eq!(
        (numbers.requests("ok"), numbers.requests("invalid")),
        (10, 7)
    );
}

#[tokio::test]
async fn the_bytes_come_with_everything_else_in_headers() {
    let studio = Studio::open();
    let server = Server::start(&studio, &[]).await;
    let more = json!({"negative_prompt": "rain", "num_inference_steps": 9});
    let answer = accepting(&server, "/v1/images", "image/png", &more)
        .await
        .is(200);
    assert_eq!(answer.header("x-seed"), "1");
    assert_eq!(answer.header("x-job-id").len(), 32);
    assert_eq!(
        answer.header("x-warnings"),
        "negative_prompt_without_effect, steps_outside_lcm_range"
    );
    let receipt: Value = serde_json::from_str(answer.header("x-receipt")).unwrap();
    assert_eq!(
        (&receipt["seed"], &receipt["steps"]),
        (&json!(1), &json!(9))
    );
    let timing = answer.header("server-timing");
    assert!(
        timing.starts_with("queue;dur=") && timing.contains("denoise;dur=9000"),
        "{timing}"
    );
    assert_eq!(decode_png(&answer.body).width, 128);
}

#[tokio::test]
async fn a_picture_by_url_is_where_it_says() {
    let studio = Studio::open();
    let server = Server::start(&studio, &[]).await;
    for path in ["/v1/images", "/v1/images/generations"] {
        let more = json!({"response_format": "url", "n": 2, "output_format": "webp"});
        let answer = server.post(path, &red_with(1, &more)).await.is(200).json();
        for image in answer["data"].as_array().unwrap() {
            assert_eq!(image.get("b64_json"), None);
            let url = image["url"].as_str().unwrap();
            let picture = send(server.client.get(url)).await.is(200);
            assert_eq!(picture.header("content-type"), "image/webp");
            assert_eq!(picture.header("x-seed"), image["seed"].to_string());
        }
    }
    let studio = Studio::open();
    let flags = [("server.public_url", "https://pictures.example/draw/")];
    let server = Server::start(&studio, &flags).await;
    let answer = server
        .post(
            "/v1/images",
            &red_with(1, &json!({"response_format": "url"})),
        )
        .await
        .is(200)
        .json();
    let url = answer["data"][0]["url"].as_str().unwrap();
    assert!(
        url.starts_with("https://pictures.example/draw/v1/jobs/"),
        "{url}"
    );
}

#[tokio::test]
async fn an_openai_client_finds_what_it_expects() {
    let studio = Studio::open();
    let server = Server::start(&studio, &[]).await;
    let body = json!({
        "model": "dall-e-3", "prompt": "a red circle", "n": 1, "size": "auto", "quality": "hd",
        "style": "vivid", "user": "u", "response_format": "b64_json", "input_fidelity": "high",
    });
    let answer = server
        .post("/v1/images/generations", &body)
        .await
        .is(200)
        .json();
    assert!(answer["created"].as_u64().unwrap() > 1_700_000_000);
    assert_eq!(answer["model"], "sketchbook");
    assert!(answer["data"][0]["b64_json"].is_string());
    assert!(answer["data"][0]["seed"].as_u64().unwrap() < 1 << 32);
    let told: Vec<_> = answer["warnings"]
        .as_array()
        .unwrap()
        .iter()
        .map(|warning| warning["param"].as_str().unwrap())
        .collect();
    assert_eq!(told, ["quality", "style", "input_fidelity"]);
    let usage = &answer["usage"];
    let sum = usage["input_tokens"].as_u64().unwrap() + usage["output_tokens"].as_u64().unwrap();
    assert_eq!(
        (usage["total_tokens"].as_u64(), &usage["output_tokens"]),
        (Some(sum), &json!(64))
    );
    // On our own endpoints those fields are mistakes.
    let own = server.post("/v1/images", &body).await;
    own.refused(422, "unknown_field");
    let other = server
        .post(
            "/v1/images/generations",
            &red_with(1, &json!({"model": "sdxl"})),
        )
        .await;
    assert_eq!(other.refused(404, "model_not_found")["param"], "model");
}

#[tokio::test]
async fn models_and_capabilities_tell_what_is_loaded() {
    let studio = Studio::open();
    let server = Server::start(&studio, &[("limits.max_steps", "30")]).await;
    let model = json!({"id": "sketchbook", "object": "model", "created": 0, "owned_by": "pixart"});
    let models = server.get("/v1/models").await.is(200).json();
    assert_eq!(models, json!({"object": "list", "data": [model]}));
    for name in ["sketchbook", "gpt-image-1"] {
        let answer = server.get(&format!("/v1/models/{name}")).await.is(200);
        assert_eq!(answer.json(), model);
    }
    let other = server.get("/v1/models/sdxl").await;
    assert_eq!(other.refused(404, "model_not_found")["param"], "model");
    let told = server.get("/v1/capabilities").await.is(200).json();
    assert_eq!(told["limits"]["max_steps"], 30);
    assert_eq!(told["limits"]["max_body_bytes"], 65536);
    assert_eq!(told["defaults"]["num_inference_steps"], 4);
    assert_eq!(told["schedulers"][0]["max_steps"], 30);
    let above = server
        .post("/v1/images", &red_with(1, &json!({"steps": 31})))
        .await;
    assert_eq!(above.refused(422, "invalid_value")["param"], "steps");
    let contract = server.get("/openapi.yaml").await.is(200);
    assert_eq!(contract.text(), pixart::http::OPENAPI);
}

#[tokio::test]
async fn an_estimate_tells_time_and_cost_and_draws_nothing() {
    let studio = Studio::open();
    let server = Server::warm(&studio, &[("queue.capacity", "0")]).await;
    studio.close();
    let running = server.begin_post("/v1/images", &red(1));
    studio.at(1, 0).await;
    let long = "red circle ".repeat(100);
    let body =
        json!({"prompt": long, "n": 2, "cfg_scale": 3, "steps": 5, "resolution_binning": true});
    // The queue is full, which is nothing to an estimate.
    let told = server
        .post("/v1/images/estimate", &body)
        .await
        .is(200)
        .json();
    assert_eq!(
        (&told["size"], &told["drawn_size"]),
        (&json!("128x128"), &json!("512x512"))
    );
    assert_eq!((&told["n"], &told["steps"]), (&json!(2), &json!(5)));
    assert_eq!(
        (&told["scheduler"], &told["guidance_scale"]),
        (&json!("lcm"), &json!(3.0))
    );
    // In units of the model's own size, 128x128: two images, five steps of two passes each, and decoding.
    let [own, drawn] = [128, 512].map(|side| ImageSize::new(side, side).unwrap());
    let shapes = shapes();
    let unit = shapes.pass_cost(own);
    let pass = shapes.pass_cost(drawn) / unit;
    let decode = shapes.decode_cost(drawn, Decoder::Full) / unit;
    let cost = told["megapixel_steps"].as_f64().unwrap();
    let expected = 2.0 * 0.016_384 * (10.0 * pass + decode);
    assert!((cost - expected).abs() < 1e-9, "{cost}");
    let wait = told["wait_seconds"].as_f64().unwrap();
    assert!((3.0..=4.0).contains(&wait), "{wait}");
    // A step of the known size takes a second, and one of 16 times the pixels more than 16 times as long, by attention.
    let drawing = told["predicted_seconds"].as_f64().unwrap();
    assert!(pass > 16.0);
    assert!((drawing / (20.0 * pass) - 1.0).abs() < 0.01, "{drawing}");
    let prompt = &told["tokens"]["prompt"];
    assert_eq!(
        (&prompt["read"], &prompt["limit"]),
        (&json!(120), &json!(120))
    );
    assert!(prompt["found"].as_u64().unwrap() > 200);
    assert!(prompt["lost"].as_str().unwrap().contains("red circle"));
    assert!(told["tokens"]["negative_prompt"].is_object());
    let codes: Vec<_> = told["warnings"]
        .as_array()
        .unwrap()
        .iter()
        .map(|warning| warning["code"].as_str().unwrap())
        .collect();
    assert_eq!(codes, ["size_binned", "prompt_cut"]);
    studio.let_all_go();
    running.await.unwrap().is(200);
    assert_eq!(
        server
            .until_all_counted()
            .await
            .of("pixart_jobs_accepted_total"),
        1
    );
}

#[tokio::test]
async fn more_than_one_request_may_cost_is_refused_with_what_would_do() {
    let studio = Studio::open();
    let server = Server::start(&studio, &[("limits.max_megapixel_steps", "1")]).await;
    // 56 · 16384 = 0.92 million, and decoding.
    for path in [
        "/v1/images",
        "/v1/images/estimate",
        "/v1/jobs",
        "/v1/images/generations",
    ] {
        let answer = server
            .post(path, &red_with(1, &json!({"n": 4, "steps": 14})))
            .await;
        let error = answer.refused(422, "too_costly");
        let message = error["message"].as_str().unwrap();
        assert!(message.contains("ask for n = 3 at most"), "{message}");
    }
    server
        .post("/v1/images", &red_with(1, &json!({"n": 3, "steps": 14})))
        .await
        .is(200);
    let guided = red_with(1, &json!({"n": 3, "steps": 14, "cfg_scale": 2}));
    server
        .post("/v1/images", &guided)
        .await
        .refused(422, "too_costly");
    server.until_all_counted().await;
}

const KEYS: [&str; 2] = ["first-key-of-the-house", "second-key-of-the-house"];

async fn with_key(server: &Server, method: Method, path: &str, key: &str) -> Answer {
    let mut request = server.request(method.clone(), path).bearer_auth(key);
    if method == Method::POST {
        request = request.json(&red(1));
    }
    send(request).await
}

#[tokio::test]
async fn with_keys_only_their_holders_come_in_and_each_sees_their_own_jobs_alone() {
    let studio = Studio::open();
    let keys = KEYS.join(",");
    let server = Server::start(&studio, &[("auth.keys", &keys)]).await;
    for (method, path) in [
        (Method::GET, "/v1/models"),
        (Method::GET, "/v1/capabilities"),
        (Method::GET, "/v1/jobs/00000000000000000000000000000000"),
        (Method::POST, "/v1/images/estimate"),
    ] {
        let answer = send(server.request(method.clone(), path)).await;
        assert_eq!(answer.header("www-authenticate"), "Bearer");
        answer.refused(401, "invalid_api_key");
        let answer = with_key(&server, method, path, "a-key-of-nobody-at-all").await;
        answer.refused(401, "invalid_api_key");
    }
    for path in ["/healthz", "/readyz", "/metrics", "/openapi.yaml"] {
        server.get(path).await.is(200);
    }
    let made = with_key(&server, Method::POST, "/v1/jobs", KEYS[0])
        .await
        .is(202);
    let job = made.header("location").to_owned();
    super::within(async {
        while with_key(&server, Method::GET, &job, KEYS[0])
            .await
            .is(200)
            .json()["state"]
            != "succeeded"
        {}
    })
    .await;
    for path in [
        job.clone(),
        format!("{job}/images/0"),
        format!("{job}/events"),
    ] {
        let answer = with_key(&server, Method::GET, &path, KEYS[1]).await;
        answer.refused(404, "job_not_found");
    }
    let answer = with_key(&server, Method::DELETE, &job, KEYS[1]).await;
    answer.refused(404, "job_not_found");
    with_key(&server, Method::GET, &format!("{job}/images/0"), KEYS[0])
        .await
        .is(200);
    // The same Idempotency-Key of another holder is another request.
    let keyed = |key: &str| {
        let request = server.posting("/v1/jobs", &red(1)).header("x-api-key", key);
        send(request.header("idempotency-key", "k"))
    };
    let (first, second) = (keyed(KEYS[0]).await.is(202), keyed(KEYS[1]).await.is(202));
    assert_ne!(first.json()["id"], second.json()["id"]);
    server.until_all_counted().await;
}

#[tokio::test]
async fn a_drawing_request_without_a_key_is_refused_and_counted() {
    let studio = Studio::open();
    let server = Server::start(&studio, &[("auth.keys", KEYS[0])]).await;
    for path in ["/v1/images", "/v1/images/generations", "/v1/jobs"] {
        let answer = server.post(path, &red(1)).await;
        answer.refused(401, "invalid_api_key");
    }
    let numbers = server.until_all_counted().await;
    assert_eq!(numbers.requests("invalid"), 3);
}

async fn from_origin(server: &Server, method: Method, path: &str, origin: &str) -> Answer {
    let request = server.client.request(method, server.url(path));
    let request = request
        .header("origin", origin)
        .header("access-control-request-method", "POST")
        .header(
            "access-control-request-headers",
            "authorization,content-type",
        );
    send(request).await
}

#[tokio::test]
async fn pages_of_other_origins_are_let_in_by_name_only() {
    const ALLOW: &str = "access-control-allow-origin";
    let studio = Studio::open();
    let server = Server::start(&studio, &[]).await;
    let answer = from_origin(&server, Method::OPTIONS, "/v1/images", "https://a.example").await;
    assert!(!answer.headers.contains_key(ALLOW));
    answer.refused(405, "method_not_allowed");
    let answer = from_origin(&server, Method::GET, "/v1/models", "https://a.example").await;
    assert!(!answer.is(200).headers.contains_key(ALLOW));

    let flags = [
        (
            "server.cors_origins",
            "https://a.example,http://localhost:3000",
        ),
        ("auth.keys", KEYS[0]),
    ];
    let server = Server::start(&Studio::open(), &flags).await;
    for origin in ["https://a.example", "http://localhost:3000"] {
        let answer = from_origin(&server, Method::OPTIONS, "/v1/images", origin)
            .await
            .is(200);
        assert_eq!(answer.header(ALLOW), origin);
        let headers = answer
            .header("access-control-allow-headers")
            .to_ascii_lowercase();
        assert!(headers.contains("authorization"), "{headers}");
        // A refusal can be read by the page too.
        let answer = from_origin(&server, Method::GET, "/v1/models", origin).await;
        assert_eq!(answer.header(ALLOW), origin);
        assert!(
            answer
                .header("access-control-expose-headers")
                .contains("x-request-id")
        );
        answer.refused(401, "invalid_api_key");
    }
    let answer = from_origin(&server, Method::OPTIONS, "/v1/images", "https://b.example").await;
    assert!(!answer.headers.contains_key(ALLOW));
    let server = Server::start(&Studio::open(), &[("server.cors_origins", "*")]).await;
    let answer = from_origin(&server, Method::GET, "/v1/models", "https://b.example").await;
    assert_eq!(answer.is(200).header(ALLOW), "*");
}

#[tokio::test]
async fn metrics_are_on_their_own_listener_alone_where_one_is_set() {
    let server = Server::start(&Studio::open(), &[]).await;
    let answer = server.get("/metrics").await.is(200);
    assert!(
        answer
            .header("content-type")
            .starts_with("text/plain; version=0.0.4")
    );
    assert!(
        answer
            .text()
            .contains("pixart_requests_total{outcome=\"ok\"} 0")
    );
    let server = Server::start(
        &Studio::open(),
        &[("server.metrics_listen", "127.0.0.1:9090")],
    )
    .await;
    server.get("/metrics").await.refused(404, "not_found");
    server.numbers().await;
}

#[tokio::test]
async fn a_request_keeps_its_own_id_where_that_can_be_repeated() {
    let server = Server::start(&Studio::open(), &[]).await;
    let ask = async |id: &str| {
        let request = server
            .request(Method::GET, "/v1/nothing")
            .header("x-request-id", id);
        let answer = send(request).await;
        let id = answer.header("x-request-id").to_owned();
        answer.refused(404, "not_found");
        id
    };
    for own in ["a", "order-7.b_C", &"x".repeat(64)] {
        assert_eq!(ask(own).await, own);
    }
    for other in ["", "a b", "<script>", "../../etc", &"x".repeat(65)] {
        assert_ne!(ask(other).await, other);
    }
}

#[tokio::test]
async fn every_refusal_has_the_one_shape_and_an_id() {
    let studio = Studio::open();
    let server = Server::start(&studio, &[]).await;
    let post = |path: &str, media_type: &str, body: Vec<u8>| {
        let request = server.request(Method::POST, path);
        send(request.header("content-type", media_type).body(body))
    };
    for path in [
        "/v1/images",
        "/v1/images/generations",
        "/v1/jobs",
        "/v1/images/estimate",
    ] {
        post(path, "application/json", b"{".to_vec())
            .await
            .refused(400, "invalid_json");
        post(path, "application/json", b"[]".to_vec())
            .await
            .refused(400, "invalid_request");
        post(path, "application/json", Vec::new())
            .await
            .refused(400, "invalid_json");
        post(path, "text/plain", b"{}".to_vec())
            .await
            .refused(415, "unsupported_media_type");
        let long = format!("{{\"prompt\": \"{}\"}}", "a".repeat(70_000));
        post(path, "application/json", long.into())
            .await
            .refused(413, "body_too_large");
        let answer = server.get(path).await;
        assert!(answer.header("allow").contains("POST"), "{answer:?}");
        answer.refused(405, "method_not_allowed");
    }
    studio.break_next(Trouble::NotFinite);
    server
        .post("/v1/images", &red(1))
        .await
        .refused(500, "inference_failed");
    for path in [
        "/page",
        "/page/",
        "/v1",
        "/v1/",
        "/v1/images/x",
        "/v2/images",
        "/%ff",
        "/metrics/x",
    ] {
        server.get(path).await.refused(404, "not_found");
    }
    let numbers = server.until_all_counted().await;
    assert_eq!(numbers.requests("too_large"), 3);
    assert_eq!(numbers.requests("invalid"), 12);
}

#[tokio::test]
async fn a_body_that_was_refused_before_it_was_read_ends_its_connection_and_says_so() {
    let server = Server::start(&Studio::open(), &[("auth.keys", KEYS[0])]).await;
    let long = json!({"prompt": "a".repeat(200_000)});
    for _ in 0..20 {
        // Too large, and without a key: neither body is read.
        let request = server.posting("/v1/images", &long);
        let answer = send(request.bearer_auth(KEYS[0])).await;
        assert_eq!(answer.header("connection"), "close");
        answer.refused(413, "body_too_large");
        let answer = server.post("/v1/images", &long).await;
        assert_eq!(answer.header("connection"), "close");
        answer.refused(401, "invalid_api_key");
        // A client that goes on by the same connection would find it closed.
        let answer = with_key(&server, Method::POST, "/v1/images", KEYS[0]).await;
        assert!(!answer.is(200).headers.contains_key("connection"));
    }
    server.until_all_counted().await;
}
