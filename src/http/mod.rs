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
mod host;
pub mod identity;
mod images;
mod jobs;
mod json_text;
mod links;
mod meter;
mod openai;
mod page;
mod paths;
mod pieces;
mod received;
mod refusals;
pub mod server;
mod service;

use axum::Router;
use axum::handler::Handler;
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderName, HeaderValue, Method, Uri};
use axum::middleware::from_fn_with_state;
use axum::routing::{MethodFilter, MethodRouter, on};
use tower_http::cors::{AllowHeaders, AllowOrigin, CorsLayer, ExposeHeaders};

pub use service::Service;

/// The contract, as it is served.
pub const OPENAPI: &str = include_str!("../../openapi.yaml");

/// A method of a path, and what answers it.
struct Route {
    method: Method,
    path: &'static str,
    answer: MethodRouter<Service>,
}

impl Route {
    fn new<H, T>(method: Method, path: &'static str, handler: H) -> Self
    where
        H: Handler<T, Service>,
        T: 'static,
    {
        let filter = MethodFilter::try_from(method.clone()).expect("the methods below are usual");
        Self {
            method,
            path,
            answer: on(filter, handler),
        }
    }
}

/// What asks for pictures: with a key, where keys are configured, and counted by the metrics.
fn drawing_routes() -> Vec<Route> {
    vec![
        Route::new(Method::POST, "/v1/images", images::draw),
        Route::new(Method::POST, "/v1/images/generations", openai::generate),
        Route::new(Method::POST, "/v1/jobs", jobs::create),
    ]
}

/// What else is asked with a key.
fn keyed_routes() -> Vec<Route> {
    vec![
        Route::new(Method::POST, "/v1/images/estimate", estimate::estimate),
        Route::new(Method::GET, "/v1/jobs/{id}", jobs::look),
        Route::new(Method::DELETE, "/v1/jobs/{id}", jobs::take_back),
        Route::new(Method::GET, "/v1/jobs/{id}/events", jobs::events),
        Route::new(Method::GET, "/v1/models", openai::models),
        Route::new(Method::GET, "/v1/models/{model}", openai::model_by_name),
        Route::new(Method::GET, "/v1/capabilities", capabilities::capabilities),
    ]
}

/// What is asked with a key, or by a link that was given to somebody who had one.
fn linked_routes() -> Vec<Route> {
    let path = "/v1/jobs/{id}/images/{index}";
    vec![Route::new(Method::GET, path, jobs::image)]
}

/// What anybody may ask.
fn open_routes() -> Vec<Route> {
    vec![
        Route::new(Method::GET, "/", page::index),
        Route::new(Method::GET, "/page/{file}", page::file),
        Route::new(Method::GET, "/healthz", health::healthz),
        Route::new(Method::GET, "/readyz", health::readyz),
        Route::new(Method::GET, "/openapi.yaml", openapi),
    ]
}

/// What Prometheus asks.
fn metrics_routes() -> Vec<Route> {
    vec![Route::new(Method::GET, "/metrics", health::metrics)]
}

/// Every method and path that there is: the router is built from the same lists. A test holds `openapi.yaml` to it.
pub fn routes() -> Vec<(Method, &'static str)> {
    [
        drawing_routes(),
        keyed_routes(),
        linked_routes(),
        open_routes(),
        metrics_routes(),
    ]
    .into_iter()
    .flatten()
    .map(|route| (route.method, route.path))
    .collect()
}

fn routed(routes: Vec<Route>) -> Router<Service> {
    routes.into_iter().fold(Router::new(), |router, route| {
        router.route(route.path, route.answer)
    })
}

/// The paths that probes and Prometheus ask: they are answered even when every connection's place is taken.
pub const VITAL: &[&str] = &["/healthz", "/readyz", "/metrics"];

/// The paths of what stands in the binary and is the same for everybody.
const STATIC: &[&str] = &["/", "/page/{file}", "/openapi.yaml"];

/// The paths of the service, `/metrics` among them where it has no listener of its own.
pub fn router(service: Service, cors_origins: &[String], with_metrics: bool) -> Router {
    let hosts = service.settings().allowed_hosts.clone();
    let keyed = |routes| {
        let check = from_fn_with_state(service.keys(), identity::require_key);
        routed(routes).layer(check)
    };
    let count = from_fn_with_state(service.clone(), received::count_strangers);
    let links = from_fn_with_state(service.clone(), links::open_by_signature);
    let mut router = keyed(drawing_routes())
        .layer(count)
        .merge(keyed(keyed_routes()))
        .merge(routed(linked_routes()).layer(links))
        .merge(routed(open_routes()));
    if with_metrics {
        router = router.merge(routed(metrics_routes()));
    }
    let nowhere = async |uri: Uri| paths::nowhere(&uri);
    let router = context::answer_all(router.with_state(service)).fallback(nowhere);
    let router = match cors(cors_origins) {
        Some(cors) => router.layer(cors),
        None => router,
    };
    paths::joined(context::watch(host::guard(router, hosts)))
}

/// `/metrics` and the health pages, for a listener that the world does not see.
pub fn metrics_router(service: Service) -> Router {
    let mut vital = open_routes();
    vital.extend(metrics_routes());
    vital.retain(|route| VITAL.contains(&route.path));
    let router = context::answer_all(routed(vital).with_state(service));
    paths::joined(context::watch(host::guard(router, host::AllowedHosts::Any)))
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
