//! `GET /healthz` and `GET /readyz`: answered from what the worker publishes, never through the queue.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use serde_json::json;

use super::service::Service;
use crate::jobs::Phase;
use crate::telemetry::Metrics;

/// Whether the process is alive. 503 once the worker is gone, or has drawn, loaded or been down for long without a sign of
/// progress: then a restart is the only help.
pub(super) async fn healthz(State(service): State<Service>) -> Response {
    let jobs = service.jobs();
    let health = jobs.health();
    let drawing = jobs.running().is_some();
    let worker = match health.phase() {
        Phase::Loading => "loading",
        Phase::WarmingUp => "warming_up",
        Phase::Ready if drawing => "drawing",
        Phase::Ready => "idle",
        Phase::Down => "down",
        Phase::Ended => "ended",
    };
    let is_idle = health.phase() == Phase::Ready && !drawing;
    let stalled = (!is_idle && health.since_progress() > service.settings().stall)
        || (health.phase() == Phase::Ended && !health.draining());
    let (status, word) = if stalled {
        (StatusCode::SERVICE_UNAVAILABLE, "stalled")
    } else {
        (StatusCode::OK, "ok")
    };
    (status, Json(json!({"status": word, "worker": worker}))).into_response()
}

/// Whether requests should be sent here: the model is warm, the worker lives, and nobody has asked to stop.
pub(super) async fn readyz(State(service): State<Service>) -> Response {
    let health = service.jobs().health();
    let word = if health.draining() || health.leaving() {
        "draining"
    } else {
        match health.phase() {
            Phase::Loading => "loading",
            Phase::WarmingUp => "warming_up",
            Phase::Ready => "ready",
            Phase::Down | Phase::Ended => "worker_down",
        }
    };
    let status = if word == "ready" {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    (status, Json(json!({"status": word}))).into_response()
}

/// `GET /metrics`, in Prometheus' text format.
pub(super) async fn metrics(State(service): State<Service>) -> Response {
    // Gathered while no job moves, so that what is accepted, ended, running and waiting adds up.
    let families = service.jobs().at_rest(Metrics::gather);
    (
        [(axum::http::header::CONTENT_TYPE, Metrics::MEDIA_TYPE)],
        Metrics::encode(&families),
    )
        .into_response()
}
