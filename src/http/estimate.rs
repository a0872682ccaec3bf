//! `POST /v1/images/estimate`: what a request would come to, without drawing it.

use axum::Json;
use axum::extract::{Request, State};
use axum::response::{IntoResponse as _, Response};
use serde_json::{Value, json};

use super::admission::{self, Face};
use super::answer;
use super::drawing::Dialect;
use super::error::ApiError;
use super::received::Received;
use super::service::{Service, megapixel_steps};
use crate::jobs::Keeping;
use crate::pipeline::TokenCount;

const FACE: Face = Face {
    name: "estimate",
    dialect: Dialect::Own,
    keeping: Keeping::Nothing,
};

/// The handler.
pub(super) async fn estimate(
    State(service): State<Service>,
    request: Request,
) -> Result<Response, ApiError> {
    // Not a drawing request: the metrics do not count it.
    let mut received = Received::uncounted(request);
    let drawing = received.drawing(&service, FACE).await?;
    let planned = admission::plan(&service, &drawing).await?;
    let owner = received.asked().caller.owner();
    let (wait, picture) = service.jobs().estimate(planned.work, drawing.images, owner);
    let request = &planned.request;
    let limit = planned.planner.max_tokens();
    let warnings: Vec<_> = planned.plan.warnings.iter().collect();
    Ok(Json(json!({
        "predicted_seconds": picture.map(|picture| picture.as_secs_f64()),
        "wait_seconds": wait.as_secs_f64(),
        "size": request.size.to_string(),
        "drawn_size": planned.plan.drawn_size.to_string(),
        "scheduler": request.scheduler.name(),
        "steps": request.steps.count(),
        "guidance_scale": answer::number(request.guidance.scale()),
        "n": drawing.images,
        "memory": planned.memory.map(|budget| json!({
            "needed_bytes": budget.needed_bytes(planned.plan.cost),
            "limit_bytes": budget.limit_bytes,
        })),
        "megapixel_steps": megapixel_steps(planned.work, drawing.images),
        "tokens": {
            "prompt": tokens(&planned.plan.prompt, limit),
            "negative_prompt": planned.plan.negative_prompt.as_ref().map(|count| tokens(count, limit)),
        },
        "warnings": answer::warnings(&warnings, &drawing.notes),
    }))
    .into_response())
}

fn tokens(count: &TokenCount, limit: usize) -> Value {
    json!({"found": count.found, "read": count.read, "limit": limit, "lost": count.lost})
}
