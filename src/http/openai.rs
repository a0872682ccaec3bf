//! `POST /v1/images/generations` and `GET /v1/models`: what the OpenAI SDKs call, unmodified.
//!
//! Same jobs, other manners: fields that mean nothing here are taken with a warning, and the events have OpenAI's names.
//! Keys beyond theirs (seed, timings, receipt, warnings) are kept by the SDKs and harm nobody.

use std::collections::VecDeque;
use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, Request, State};
use axum::response::{IntoResponse as _, Response};
use serde_json::{Value, json};

use super::admission::Face;
use super::answer::{self, Pictures};
use super::drawing::Dialect;
use super::error::{ApiError, ErrorCode};
use super::events::{Event, Following, Happened};
use super::images::{partial, while_waiting};
use super::pieces::{self, File};
use super::service::Service;
use crate::jobs::{Job, Keeping};
use crate::pipeline::Planner;

const FACE: Face = Face {
    name: "generations",
    dialect: Dialect::Openai,
    keeping: Keeping::Nothing,
};

/// `POST /v1/images/generations`
pub(super) async fn generate(State(service): State<Service>, request: Request) -> Response {
    while_waiting(&service, request, FACE, tell).await
}

/// The events of OpenAI's image stream. What they have no event for goes into comments.
fn tell(following: &mut Following, happened: Happened<'_>, events: &mut VecDeque<Event>) {
    let job = Arc::clone(following.attachment.job());
    let event = match happened {
        Happened::Queued { position } => Event::comment(&format!("queued {position}")),
        Happened::Started => Event::comment("started"),
        Happened::Step { image_index, step } => {
            let steps = job.order().first.steps.count();
            Event::comment(&format!("picture {image_index} step {step} of {steps}"))
        }
        Happened::Partial(preview) => event(
            &job,
            "image_generation.partial_image",
            partial(&job, preview),
            pieces::preview_file(preview),
        ),
        Happened::Picture { index, picture } => {
            let mut data = answer::picture(&Pictures::Base64, &job, index, picture);
            let request = &job.order().first;
            data["output_format"] = request.output_format.name().into();
            data["size"] = request.size.to_string().into();
            data["usage"] = answer::usage(&job, following.planner.facts());
            let told = answer::told(&job, std::slice::from_ref(picture));
            data["warnings"] = answer::warnings(&told, &following.notes);
            let file = pieces::file(picture);
            event(&job, "image_generation.completed", data, file)
                .when_sent(following.collects(index))
        }
        // Their SDKs raise what has a key `error`, whatever the event is called.
        Happened::Ended(progress) => match following.ended(progress) {
            Some(error) => Event::new("error", &error, None),
            None => return,
        },
    };
    events.push_back(event);
}

/// An event with the keys that every one of theirs has.
fn event(job: &Job, name: &str, mut data: Value, file: File) -> Event {
    data["type"] = name.into();
    data["created_at"] = answer::unix_seconds(job.created()).into();
    data["quality"] = "auto".into();
    data["background"] = "opaque".into();
    Event::new(name, &data, Some(file))
}

/// `GET /v1/models`
pub(super) async fn models(State(service): State<Service>) -> Response {
    let models: Vec<Value> = service
        .jobs()
        .health()
        .planner()
        .map(|planner| model(&planner))
        .into_iter()
        .collect();
    Json(json!({"object": "list", "data": models})).into_response()
}

/// `GET /v1/models/{model}`
pub(super) async fn model_by_name(
    State(service): State<Service>,
    Path(name): Path<String>,
) -> Result<Response, ApiError> {
    let planner = service
        .jobs()
        .health()
        .planner()
        .filter(|planner| service.means_model(&name, planner))
        .ok_or_else(|| {
            ApiError::new(
                ErrorCode::ModelNotFound,
                "there is no such model here: GET /v1/models lists what there is",
            )
            .about("model")
        })?;
    Ok(Json(model(&planner)).into_response())
}

fn model(planner: &Planner) -> Value {
    let facts = planner.facts();
    json!({
        "id": facts.name,
        "object": "model",
        // When it was made is not written anywhere; their type wants a number.
        "created": 0,
        "owned_by": "pixart",
    })
}
