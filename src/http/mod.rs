//! The HTTP face: the only room that knows axum and JSON. This page is the table of contents of what can be asked.
//!
//! A drawing request walks `received` (read, parse) → `admission` (plan, admit) → the job → `answer` or `events`. Around
//! every request stands `context` (its id, its trace, its line in the access log); around every connection, `server`.

pub mod accept;
mod admission;
pub mod answer;
pub mod body;
mod capabilities;
pub mod context;
pub mod drawing;
pub mod error;
mod estimate;
mod events;
pub mod fields;
mod health;
pub mod identity;
mod images;
mod jobs;
mod meter;
mod openai;
mod received;
mod refusals;
pub mod server;
mod service;

use axum::Router;
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderName, HeaderValue, Method};
use axum::middleware::from_fn_with_state;
use axum::routing::{MethodRouter, get, post};
use tower_http::cors::{AllowHeaders, AllowOrigin, CorsLayer, ExposeHeaders};

pub use service::Service;

/// The contract, as it is served.
pub const OPENAPI: &str = include_str!("../../openapi.yaml");

/// What is asked with a key, where keys are configured. A test holds `openapi.yaml` to this list and the next.
fn drawing_routes() -> Vec<(&'static str, MethodRouter<Service>)> {
    vec![
        ("/v1/images", post(images::draw)),
        ("/v1/images/estimate", post(estimate::estimate)),
        ("/v1/images/generations", post(openai::generate)),
        ("/v1/jobs", post(jobs::create)),
        ("/v1/jobs/{id}", get(jobs::look).delete(jobs::take_back)),
        ("/v1/jobs/{id}/events", get(jobs::events)),
        ("/v1/jobs/{id}/images/{index}", get(jobs::image)),
        ("/v1/models", get(openai::models)),
        ("/v1/models/{model}", get(openai::model_by_name)),
        ("/v1/capabilities", get(capabilities::capabilities)),
    ]
}

/// What anybody may ask.
fn open_routes() -> Vec<(&'static str, MethodRouter<Service>)> {
    vec![
        ("/healthz", get(health::healthz)),
        ("/readyz", get(health::readyz)),
        ("/openapi.yaml", get(openapi)),
    ]
}

/// What is answered even when every connection is taken.
pub const VITAL: &[&str] = &["/healthz", "/readyz", "/metrics"];

/// The paths of the service, `/metrics` among them where it has no listener of its own.
pub fn router(service: Service, cors_origins: &[String], with_metrics: bool) -> Router {
    let mut drawing = Router::new();
    for (path, method) in drawing_routes() {
        drawing = drawing.route(path, method);
    }
    let mut router = drawing.layer(from_fn_with_state(service.keys(), identity::require_key));
    for (path, method) in open_routes() {
        router = router.route(path, method);
    }
    if with_metrics {
        router = router.route("/metrics", get(health::metrics));
    }
    let router = router.with_state(service);
    context::surround(match cors(cors_origins) {
        Some(cors) => router.layer(cors),
        None => router,
    })
}

/// `/metrics` and the health pages, for a listener that the world does not see.
pub fn metrics_router(service: Service) -> Router {
    let router = Router::new()
        .route("/metrics", get(health::metrics))
        .route("/healthz", get(health::healthz))
        .route("/readyz", get(health::readyz))
        .with_state(service);
    context::surround(router)
}

/// Closed unless origins are named.
fn cors(origins: &[String]) -> Option<CorsLayer> {
    if origins.is_empty() {
        return None;
    }
    let origin = if origins.iter().any(|origin| origin == "*") {
        AllowOrigin::any()
    } else {
        let origins = origins
            .iter()
            .filter_map(|origin| HeaderValue::from_str(origin).ok());
        AllowOrigin::list(origins)
    };
    let exposed = [
        "location",
        "retry-after",
        "server-timing",
        "x-job-id",
        "x-receipt",
        "x-request-id",
        "x-seed",
        "x-warnings",
    ];
    Some(
        CorsLayer::new()
            .allow_origin(origin)
            .allow_methods([Method::GET, Method::POST, Method::DELETE])
            .allow_headers(AllowHeaders::mirror_request())
            .expose_headers(ExposeHeaders::list(exposed.map(HeaderName::from_static))),
    )
}

async fn openapi() -> ([(HeaderName, &'static str); 1], &'static str) {
    ([(CONTENT_TYPE, "application/yaml")], OPENAPI)
}
