//! What clients bring along as it is: names of the service and of models, joined paths, links that are opened without a key.

use reqwest::Method;
use serde_json::{Value, json};

use super::{Answer, Events, Server, Studio, red, red_with, send};

const KEY: &str = "a-key-of-somebody-0001";
const OTHER_KEY: &str = "a-key-of-somebody-0002";

async fn under(server: &Server, method: Method, path: &str, host: &str) -> Answer {
    let request = server.client.request(method, server.url(path));
    send(request.header("host", host)).await
}

#[tokio::test]
async fn on_the_loopback_a_page_with_a_name_of_its_own_draws_nothing() {
    let studio = Studio::open();
    let server = Server::start(&studio, &[]).await;
    for (method, path) in [
        (Method::POST, "/v1/images"),
        (Method::POST, "/v1/jobs"),
        (Method::GET, "/v1/models"),
        (Method::GET, "/"),
        (Method::GET, "/nowhere"),
        (Method::OPTIONS, "/v1/images"),
    ] {
        let answer = under(&server, method.clone(), path, "evil.example").await;
        let error = answer.refused(421, "host_not_allowed");
        let message = error["message"].as_str().unwrap();
        assert!(message.contains("server.allowed_hosts"), "{message}");
        assert!(!message.contains("evil"), "{message}");
    }
    for path in ["/healthz", "/readyz", "/metrics"] {
        under(&server, Method::GET, path, "10.0.0.7:9090")
            .await
            .is(200);
    }
    for own in ["localhost:1", "127.0.0.1", "[::1]:80"] {
        under(&server, Method::GET, "/v1/models", own).await.is(200);
    }
    // The metrics' own listener is asked by an address that it cannot know.
    server.numbers().await;
    assert_eq!(studio.look(|scene| scene.drawn.len()), 0);
    let open = Server::start(&Studio::open(), &[("server.listen", "0.0.0.0:8080")]).await;
    under(&open, Method::GET, "/v1/models", "pixart")
        .await
        .is(200);
    let flags = [
        ("server.listen", "0.0.0.0:8080"),
        ("server.allowed_hosts", "pixart,*.example"),
    ];
    let listed = Server::start(&Studio::open(), &flags).await;
    for (host, status) in [("pixart:8080", 200), ("a.example", 200), ("localhost", 421)] {
        under(&listed, Method::GET, "/v1/models", host)
            .await
            .is(status);
    }
}

fn with_key(server: &Server, method: Method, path: &str, key: &str) -> reqwest::RequestBuilder {
    server.request(method, path).header("x-api-key", key)
}

#[tokio::test]
async fn a_link_opens_its_image_without_a_key_and_nothing_else() {
    let studio = Studio::open();
    let keys = [KEY, OTHER_KEY].join(",");
    let server = Server::start(&studio, &[("auth.keys", &keys)]).await;
    let body = red_with(1, &json!({"response_format": "url", "n": 2}));
    for path in ["/v1/images", "/v1/images/generations"] {
        let set = send(with_key(&server, Method::POST, path, KEY).json(&body)).await;
        let set = set.is(200).json();
        let urls: Vec<&str> = set["data"]
            .as_array()
            .unwrap()
            .iter()
            .map(|image| image["url"].as_str().unwrap())
            .collect();
        for url in &urls {
            let image = send(server.client.get(*url)).await.is(200);
            assert_eq!(image.header("content-type"), "image/png");
            let head = send(server.client.head(*url)).await.is(200);
            assert!(head.body.is_empty());
            // With a key of somebody else it still is a link.
            send(server.client.get(*url).header("x-api-key", OTHER_KEY))
                .await
                .is(200);
        }
        let (address, query) = urls[0].split_once('?').unwrap();
        let job = address.strip_suffix("/images/0").unwrap();
        let (expires, signature) = query.split_once('&').unwrap();
        let later = format!("expires=99999999999&{signature}");
        for refused in [
            address.to_owned(),
            format!("{job}?{query}"),
            format!("{job}/events?{query}"),
            format!("{job}/images/1?{query}"),
            format!("{job}/images/0?{expires}"),
            format!("{job}/images/0?{later}"),
            format!("{job}/images/0?{expires}&signature="),
            server.url(&format!("/v1/jobs/{}/images/0?{query}", "0".repeat(32))),
        ] {
            let answer = send(server.client.get(&refused)).await;
            answer.refused(401, "invalid_api_key");
        }
        let delete = send(server.client.delete(format!("{job}?{query}"))).await;
        delete.refused(401, "invalid_api_key");
        // A key of its owner opens it whatever the signature is; another one does not.
        let broken = format!("{job}/images/0?{later}");
        send(server.client.get(&broken).header("x-api-key", KEY))
            .await
            .is(200);
        let other = send(server.client.get(&broken).header("x-api-key", OTHER_KEY)).await;
        other.refused(404, "job_not_found");
        // What is taken back is gone for those who have the link, too.
        send(server.client.delete(job).header("x-api-key", KEY))
            .await
            .is(200);
        send(server.client.get(urls[0]))
            .await
            .refused(404, "job_not_found");
    }
}

#[tokio::test]
async fn jobs_and_their_events_have_links_that_stay_the_same() {
    let studio = Studio::open();
    let server = Server::start(&studio, &[("auth.keys", KEY)]).await;
    let made = send(with_key(&server, Method::POST, "/v1/jobs", KEY).json(&red(1))).await;
    let job = made.is(202).header("location").to_owned();
    let events = with_key(&server, Method::GET, &format!("{job}/events"), KEY);
    let events = Events::of(events).await.rest().await;
    let image: &Value = &events
        .iter()
        .find(|event| event.name == "image")
        .unwrap()
        .data;
    send(server.client.get(image["url"].as_str().unwrap()))
        .await
        .is(200);
    let url = async || {
        let job = send(with_key(&server, Method::GET, &job, KEY))
            .await
            .is(200)
            .json();
        job["images"][0]["url"].as_str().unwrap().to_owned()
    };
    let first = url().await;
    assert!(first.contains("&signature="), "{first}");
    assert_eq!(first, url().await);
    send(server.client.get(&first)).await.is(200);
}

#[tokio::test]
async fn paths_as_clients_join_them_are_served_and_others_are_told_which_was_meant() {
    let studio = Studio::open();
    let server = Server::start(&studio, &[("auth.keys", KEY)]).await;
    for path in [
        "//v1/images/generations",
        "/v1//images/generations",
        "/v1/images/generations/",
        "//v1///images//generations//?a=b",
    ] {
        let post = || server.client.post(server.url(path)).json(&red(1));
        // Keys are asked for as anywhere.
        server.count();
        send(post()).await.refused(401, "invalid_api_key");
        server.count();
        send(post().header("x-api-key", KEY)).await.is(200);
    }
    server.get("/healthz/").await.is(200);
    for (path, meant) in [
        ("/images/generations", "/v1/images/generations"),
        ("/v1/v1/images/generations", "/v1/images/generations"),
        ("/v3/images/generations", "/v1/images/generations"),
        (
            "/openai/deployments/dall-e-3/images/generations?api-version=1",
            "/v1/images/generations",
        ),
        ("/v1/images/edits", "draws from text alone"),
        ("/health", "/healthz"),
        ("/v1/chat/completions", "no language model"),
        ("/v1", "base_url"),
    ] {
        let answer = send(server.client.post(server.url(path)).json(&red(1))).await;
        let error = answer.refused(404, "not_found");
        let message = error["message"].as_str().unwrap();
        assert!(message.contains(meant), "{path}: {message}");
    }
    let numbers = server.until_all_counted().await;
    assert_eq!(numbers.requests("ok"), 4);
    assert_eq!(numbers.requests("invalid"), 4);
}

#[tokio::test]
async fn the_names_that_clients_have_for_models_mean_the_one_that_is_loaded() {
    let studio = Studio::open();
    let server = Server::start(&studio, &[]).await;
    for name in [
        "gpt-image-1",
        "gpt-image-2.5-sunburst",
        "chatgpt-image-latest",
        "dall-e-3",
        "sketchbook",
        "Sketchbook",
        "sketchbook:latest",
        "",
        " ",
    ] {
        let body = red_with(1, &json!({"model": name, "response_format": "b64_json"}));
        for path in ["/v1/images", "/v1/images/generations"] {
            let answer = server.post(path, &body).await.is(200);
            assert_eq!(answer.json()["model"], "sketchbook", "{name}");
        }
        if !name.trim().is_empty() {
            let model = server.get(&format!("/v1/models/{name}")).await.is(200);
            assert_eq!(model.json()["id"], "sketchbook", "{name}");
        }
    }
    for name in ["gpt-image", "gpt-5", "sketchbook:other", "sketchbook2"] {
        let error = server
            .post(
                "/v1/images/generations",
                &red_with(1, &json!({"model": name})),
            )
            .await
            .refused(404, "model_not_found");
        assert_eq!(error["param"], "model");
        let answer = server.get(&format!("/v1/models/{name}")).await;
        answer.refused(404, "model_not_found");
    }
    let none = Server::start(&Studio::open(), &[("openai.model_aliases", "")]).await;
    let body = red_with(1, &json!({"model": "dall-e-3"}));
    let answer = none.post("/v1/images/generations", &body).await;
    answer.refused(404, "model_not_found");
}

#[tokio::test]
async fn programs_that_were_written_for_dall_e_find_a_url() {
    let server = Server::start(&Studio::open(), &[]).await;
    for (model, key) in [
        ("dall-e-2", "url"),
        ("dall-e-3", "url"),
        ("gpt-image-1", "b64_json"),
    ] {
        let body = red_with(1, &json!({"model": model}));
        let answer = server.post("/v1/images/generations", &body).await.is(200);
        let image = &answer.json()["data"][0];
        assert!(image[key].is_string(), "{model}");
        if key == "url" {
            assert!(image.get("b64_json").is_none());
            send(server.client.get(image["url"].as_str().unwrap()))
                .await
                .is(200);
        }
    }
}

#[tokio::test]
async fn an_empty_prompt_is_drawn_with_a_warning() {
    let server = Server::start(&Studio::open(), &[]).await;
    for (prompt, clean) in [("", false), (" \u{3000}\n", false), ("<b></b>", true)] {
        let body = json!({"prompt": prompt, "clean_caption": clean, "seed": 1});
        for path in ["/v1/images", "/v1/images/estimate"] {
            let answer = server.post(path, &body).await.is(200).json();
            let warning = &answer["warnings"][0];
            assert_eq!(warning["code"], "empty_prompt", "{prompt:?}: {answer}");
            assert_eq!(warning["param"], "prompt");
        }
        if !clean {
            let refused = server
                .post("/v1/images/generations", &json!({"prompt": prompt}))
                .await;
            assert_eq!(refused.refused(422, "invalid_value")["param"], "prompt");
        }
    }
    let answer = server.post("/v1/images", &red(1)).await.is(200).json();
    assert_eq!(answer["warnings"], json!([]));
}
