//! `openapi.yaml` against the service: what it promises is there, and what is there it promises.

use std::collections::{BTreeMap, BTreeSet};

use pixart::http::error::ErrorCode;
use pixart::http::{OPENAPI, routes};
use reqwest::Method;
use serde_json::{Value, json};

use super::schema::Schemas;
use super::{Answer, Events, Server, Studio, names, red, red_with, send};

fn contract() -> Value {
    serde_norway::from_str(OPENAPI).unwrap()
}

/// Operations by method and path.
fn operations(contract: &Value) -> BTreeMap<(String, String), Value> {
    let mut operations = BTreeMap::new();
    for (path, item) in contract["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            if method != "parameters" {
                let name = (method.to_uppercase(), path.clone());
                operations.insert(name, operation.clone());
            }
        }
    }
    operations
}

#[test]
fn the_contract_has_the_routes_that_the_router_has_and_no_others() {
    let written: BTreeSet<(String, String)> = operations(&contract()).into_keys().collect();
    let routed: BTreeSet<(String, String)> = routes()
        .into_iter()
        .map(|(method, path)| (method.to_string(), path.to_owned()))
        .collect();
    assert_eq!(written, routed);
}

#[tokio::test]
async fn every_route_is_answered_and_other_methods_are_told_which_there_are() {
    let server = Server::start(&Studio::open(), &[]).await;
    let mut all = BTreeSet::from(
        [
            Method::PUT,
            Method::PATCH,
            Method::GET,
            Method::POST,
            Method::DELETE,
        ]
        .map(|method| method.to_string()),
    );
    let mut by_path: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    for (method, path) in routes() {
        all.insert(method.to_string());
        by_path.entry(path).or_default().insert(method.to_string());
    }
    for (path, methods) in by_path {
        let concrete = path
            .replace("{id}", "00000000000000000000000000000000")
            .replace("{index}", "0")
            .replace("{file}", "style.css")
            .replace("{model}", "sketchbook");
        for method in &all {
            let verb = Method::from_bytes(method.as_bytes()).unwrap();
            let answer = send(server.client.request(verb, server.url(&concrete))).await;
            if methods.contains(method) {
                assert_ne!(answer.status, 405, "{method} {path}");
                if answer.status == 404 {
                    assert_eq!(answer.error()["code"], "job_not_found", "{method} {path}");
                }
            } else {
                let mut allowed: BTreeSet<String> = answer
                    .header("allow")
                    .split(',')
                    .map(str::to_owned)
                    .collect();
                allowed.remove("HEAD");
                assert_eq!(allowed, methods, "{method} {path}");
                answer.refused(405, "method_not_allowed");
            }
        }
    }
}

#[test]
fn the_contract_has_the_codes_that_errors_have_with_their_statuses_and_types() {
    let contract = contract();
    let body = &contract["components"]["schemas"]["ErrorBody"]["properties"];
    let words = |schema: &Value| -> BTreeSet<String> {
        let words = schema["enum"].as_array().unwrap();
        words
            .iter()
            .map(|word| word.as_str().unwrap().to_owned())
            .collect()
    };
    let names: BTreeSet<String> = ErrorCode::ALL
        .iter()
        .map(|code| code.name().to_owned())
        .collect();
    assert_eq!(words(&body["code"]), names);
    let kinds: BTreeSet<String> = ErrorCode::ALL
        .iter()
        .map(|code| code.kind().to_owned())
        .collect();
    assert_eq!(words(&body["type"]), kinds);

    // Which response has which status, by the operations that refer to it.
    let mut statuses: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for operation in operations(&contract).values() {
        for (status, response) in operation["responses"].as_object().unwrap() {
            if let Some(reference) = response["$ref"].as_str() {
                let name = reference.rsplit('/').next().unwrap().to_owned();
                statuses.entry(name).or_default().insert(status.clone());
            }
        }
    }
    // No operation lists it: any path may answer so.
    for (name, status) in [
        ("MethodNotAllowed", "405"),
        ("MisdirectedRequest", "421"),
        ("UriTooLong", "414"),
        ("HeadersTooLarge", "431"),
    ] {
        statuses.insert(name.to_owned(), BTreeSet::from([status.to_owned()]));
    }
    let mut shown = BTreeSet::new();
    for (name, response) in contract["components"]["responses"].as_object().unwrap() {
        let examples = &response["content"]["application/json"]["examples"];
        for (code, example) in examples.as_object().unwrap() {
            let error = &example["value"]["error"];
            assert_eq!(error["code"], *code, "{name}");
            let known = ErrorCode::ALL
                .iter()
                .find(|known| known.name() == code)
                .unwrap();
            assert_eq!(error["type"], known.kind(), "{code}");
            let status = known.status().as_u16().to_string();
            assert_eq!(statuses[name], BTreeSet::from([status]), "{name} {code}");
            shown.insert(code.clone());
        }
    }
    assert_eq!(shown, names, "every code is shown by an example");
}

/// Every example of a request body: path, name, body.
fn examples(contract: &Value) -> Vec<(String, String, Value)> {
    let mut examples = Vec::new();
    for ((_, path), operation) in operations(contract) {
        let mut body = &operation["requestBody"];
        if let Some(reference) = body["$ref"].as_str() {
            body = contract.pointer(&reference[1..]).unwrap();
        }
        let Some(shown) = body["content"]["application/json"]["examples"].as_object() else {
            continue;
        };
        for (name, example) in shown {
            examples.push((path.clone(), name.clone(), example["value"].clone()));
        }
    }
    examples
}

#[tokio::test]
async fn every_example_of_a_request_is_taken() {
    let contract = contract();
    let schemas = Schemas::of(&contract);
    let examples = examples(&contract);
    assert!(examples.len() >= 12, "{}", examples.len());
    for (path, name, body) in examples {
        let schema = match path.as_str() {
            "/v1/jobs" => "JobRequest",
            "/v1/images/generations" => "OpenAIDrawingRequest",
            _ => "DrawingRequest",
        };
        schemas.hold(schema, &body);
        // Of each its own: nothing was drawn yet, and no deadline is too short.
        let server = Server::start(&Studio::open(), &[]).await;
        let answer = server.post(&path, &body).await;
        let status = if path == "/v1/jobs" { 202 } else { 200 };
        assert_eq!(answer.status, status, "{path} {name}: {}", answer.text());
    }
}

#[tokio::test]
async fn answers_are_as_the_contract_describes_them() {
    let contract = contract();
    let schemas = Schemas::of(&contract);
    let studio = Studio::open();
    let server = Server::warm(&studio, &[]).await;
    let hold = |name: &str, answer: Answer| {
        let json = answer.json();
        schemas.hold(name, &json);
        json
    };
    for more in [
        json!({}),
        json!({"n": 2, "response_format": "url", "output_format": "jpeg", "output_compression": 3}),
        json!({"negative_prompt": "rain", "cfg_scale": 2.5, "resolution_binning": true, "seed": u64::MAX}),
    ] {
        let body = red_with(1, &more);
        hold("ImageSet", server.post("/v1/images", &body).await.is(200));
        hold(
            "ImageSet",
            server.post("/v1/images/generations", &body).await.is(200),
        );
        hold(
            "Estimate",
            server.post("/v1/images/estimate", &body).await.is(200),
        );
        let made = hold("Job", server.post("/v1/jobs", &body).await.is(202));
        let job = format!("/v1/jobs/{}", made["id"].as_str().unwrap());
        server.ended(&job).await;
        hold("Job", server.get(&job).await.is(200));
        hold("Job", server.delete(&job).await.is(200));
    }
    studio.close();
    let running = server.job(&red(1)).await;
    studio.at(1, 0).await;
    let waiting = server
        .job(&red_with(2, &json!({"deadline_seconds": 100})))
        .await;
    for job in [&running, &waiting] {
        hold("Job", server.get(job).await.is(200));
    }
    hold(
        "Estimate",
        server.post("/v1/images/estimate", &red(1)).await.is(200),
    );
    for job in [&waiting, &running] {
        hold("Job", server.delete(job).await.is(200));
        hold("Job", server.get(job).await.is(200));
    }
    studio.let_all_go();
    hold("Capabilities", server.get("/v1/capabilities").await.is(200));
    hold("ModelList", server.get("/v1/models").await.is(200));
    hold("Model", server.get("/v1/models/sketchbook").await.is(200));
    hold("Health", server.get("/healthz").await.is(200));
    hold("Readiness", server.get("/readyz").await.is(200));
    hold("Error", server.get("/v1/models/other").await.is(404));
    let bytes = server
        .posting("/v1/images", &red(1))
        .header("accept", "image/png");
    let receipt = send(bytes).await.is(200);
    schemas.hold(
        "Receipt",
        &serde_json::from_str(receipt.header("x-receipt")).unwrap(),
    );
}

#[tokio::test]
async fn events_are_as_the_contract_describes_them() {
    let contract = contract();
    let schemas = Schemas::of(&contract);
    let studio = Studio::open();
    let server = Server::warm(&studio, &[]).await;
    let body = red_with(1, &json!({"stream": true, "partial_images": 3, "n": 2}));
    for path in ["/v1/images", "/v1/images/generations"] {
        let stream = "/responses/200/content/text~1event-stream/x-sse-events";
        let post = &contract["paths"][path]["post"];
        let described = post.pointer(stream).unwrap();
        let told = Events::of(server.posting(path, &body)).await.rest().await;
        assert!(names(&told).len() > 6);
        for told in told.iter().filter(|told| told.name != ":") {
            let schema = described[&told.name]["$ref"].as_str().unwrap();
            schemas.hold(schema.rsplit('/').next().unwrap(), &told.data);
        }
    }
}
