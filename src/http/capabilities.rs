//! `GET /v1/capabilities`: limits, defaults, schedulers, sizes, formats and the model, for clients that want to know.

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use serde_json::{Value, json};

use super::answer;
use super::drawing::MAX_PARTIAL_IMAGES;
use super::error::ApiError;
use super::service::Service;
use crate::domain::{Compression, Decoder, OutputFormat, Prompt, SchedulerKind};
use crate::pipeline::Planner;

/// The handler.
pub(super) async fn capabilities(State(service): State<Service>) -> Result<Response, ApiError> {
    let Some(planner) = service.jobs().health().planner() else {
        return Err(service.not_ready());
    };
    let facts = planner.facts();
    let defaults = planner.defaults();
    let settings = service.settings();
    let memory = service.jobs().health().memory();
    let formats: Vec<Value> = OutputFormat::ALL
        .into_iter()
        .map(|format| {
            json!({
                "name": format.name(),
                "media_type": format.media_type(),
                "compression": format == OutputFormat::Jpeg,
            })
        })
        .collect();
    Ok(Json(json!({
        "version": env!("CARGO_PKG_VERSION"),
        "model": {
            "name": facts.name,
            "weights": facts.weights,
            "precision": facts.precision,
            "device": facts.device,
            "instruction_set": facts.processor.as_ref().map(|it| &it.instruction_set),
            "threads": facts.processor.as_ref().map(|it| it.threads),
            "digest": facts.digest,
            "openvino": facts.openvino_version,
        },
        "limits": {
            "max_images": settings.limits.max_images,
            "max_side_px": settings.limits.max_side_px,
            "max_steps": settings.limits.max_steps,
            "max_megapixel_steps": settings.limits.max_megapixel_steps,
            "memory_bytes": memory.map(|budget| budget.limit_bytes),
            "max_square_px": memory
                .and_then(|budget| planner.largest_square(budget))
                .map(|size| size.width_px().min(settings.limits.max_side_px)),
            "max_prompt_chars": Prompt::MAX_CHARS,
            "max_body_bytes": settings.max_body_bytes,
            "max_tokens": planner.max_tokens(),
            "size_multiple_px": planner.size_multiple_px(),
            "queue_capacity": settings.queue_capacity,
        },
        "defaults": {
            "scheduler": defaults.scheduler.name(),
            "num_inference_steps": defaults.scheduler.default_steps().count(),
            "guidance_scale": answer::number(defaults.scheduler.default_guidance().scale()),
            "decoder": defaults.decoder.name(),
            "size": defaults.size.to_string(),
            "resolution_binning": defaults.resolution_binning,
            "output_format": OutputFormat::default().name(),
            "output_compression": Compression::DEFAULT.percent(),
            "deadline_seconds": settings.default_deadline.map(|deadline| deadline.as_secs_f64()),
        },
        "schedulers": schedulers(&planner, settings.limits.max_steps),
        "decoders": decoders(&planner),
        "sizes": sizes(&planner),
        "output_formats": formats,
        "partial_images": {"max": MAX_PARTIAL_IMAGES},
    }))
    .into_response())
}

/// Those that this checkpoint can be walked with.
fn schedulers(planner: &Planner, limit: u32) -> Vec<Value> {
    [SchedulerKind::Lcm, SchedulerKind::DpmSolverPlusPlus]
        .into_iter()
        .filter_map(|kind| {
            let most = planner.max_steps(kind)?.count().min(limit as usize);
            let recommended = kind.recommended_steps();
            Some(json!({
                "name": kind.name(),
                "default_steps": kind.default_steps().count(),
                "default_guidance_scale": answer::number(kind.default_guidance().scale()),
                "max_steps": most,
                "recommended_steps": {"min": recommended.start(), "max": recommended.end()},
            }))
        })
        .collect()
}

/// Those that the model has.
fn decoders(planner: &Planner) -> Vec<&'static str> {
    Decoder::ALL
        .into_iter()
        .filter(|&decoder| decoder == Decoder::Full || planner.has_tiny_decoder())
        .map(Decoder::name)
        .collect()
}

fn sizes(planner: &Planner) -> Value {
    let fixed = planner.frozen_size().map(|size| size.to_string());
    let bins: Vec<String> = planner
        .bins()
        .map(|bins| bins.entries().map(|(_, size)| size.to_string()).collect())
        .unwrap_or_default();
    json!({"fixed": fixed, "bins": bins})
}
