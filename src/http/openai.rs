//! `POST /v1/images/generations` and `GET /v1/models`: what the OpenAI SDKs call, unmodified.
//!
//! Same jobs, other manners: fields that mean nothing here are taken with a warning, and the events have OpenAI's names.
//! Keys beyond theirs (seed, timings, receipt, warnings) are kept by the SDKs and harm nobody.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use axum::Json;
use axum::extract::{Path, Request, State};
use axum::response::sse::Event;
use axum::response::{IntoResponse as _, Response};
use serde_json::{Value, json};

use super::accept::{self, Answer, Offer};
use super::admission::{self, Face};
use super::answer::{self, Pictures};
use super::context::RequestId;
use super::drawing::{Dialect, Note};
use super::error::{ApiError, ErrorCode};
use super::events::{self, Happened, Tell};
use super::images::{partial, whole};
use super::meter::{Meter, outcome};
use super::received::Received;
use super::refusals::ending;
use super::service::Service;
use crate::jobs::{Attachment, Job, Keeping, Progress};
use crate::pipeline::Planner;
use crate::telemetry::{RequestOutcome, Stage};

const FACE: Face = Face {
    name: "generations",
    dialect: Dialect::Openai,
    keeping: Keeping::Nothing,
};

/// `POST /v1/images/generations`
pub(super) async fn generate(State(service): State<Service>, request: Request) -> Response {
    let mut received = Received::start(&service, request);
    match answer(&service, &mut received).await {
        Ok(response) => response,
        Err(error) => received.refuse(error),
    }
}

async fn answer(service: &Service, received: &mut Received) -> Result<Response, ApiError> {
    let mut drawing = received.drawing(service, FACE).await?;
    let offer = Offer {
        bytes: false,
        events: true,
        format: drawing.output_format,
        stream: drawing.stream,
    };
    drawing.stream = accept::negotiate(received.headers(), offer)? == Answer::Events;
    let (attachment, planner) = admission::admit(service, &received.asked(), FACE, &drawing)?;
    received.parsed(service);
    if drawing.stream {
        let teller = OpenaiTell {
            service: service.clone(),
            attachment,
            planner,
            notes: drawing.notes,
            request_id: received.request_id(),
            meter: received.take_meter(),
        };
        let moves = service.jobs().moves();
        return Ok(events::answer(teller, moves));
    }
    let pictures = Pictures::of(
        drawing.response_format,
        service.base_url(received.headers()),
    );
    let progress = attachment.finished().await;
    if let Some(error) = ending(&progress) {
        return Err(error);
    }
    let began = Instant::now();
    let response = whole(&attachment, &planner, &pictures, &drawing.notes, &progress);
    service.metrics().stage(Stage::Respond, began.elapsed());
    received.answered(RequestOutcome::Ok);
    Ok(response)
}

/// The events of OpenAI's image stream. What they have no event for goes into comments.
struct OpenaiTell {
    service: Service,
    attachment: Attachment,
    planner: Arc<Planner>,
    notes: Vec<Note>,
    request_id: Option<RequestId>,
    meter: Option<Meter>,
}

impl OpenaiTell {
    /// The keys that every event of theirs has.
    fn event(&self, name: &str, mut data: Value) -> Event {
        data["type"] = name.into();
        data["created_at"] = answer::unix_seconds(self.attachment.created()).into();
        data["quality"] = "auto".into();
        data["background"] = "opaque".into();
        events::event(name, &data)
    }

    fn completed(&self, index: usize) -> Event {
        let picture = Arc::clone(&self.attachment.progress().pictures[index]);
        let mut data = answer::picture(&Pictures::Base64, &self.attachment, index, &picture);
        let request = &self.attachment.order().first;
        data["output_format"] = request.output_format.name().into();
        data["size"] = request.size.to_string().into();
        data["usage"] = answer::usage(&self.attachment, self.planner.facts());
        let told = answer::told(&self.attachment, std::slice::from_ref(&picture));
        data["warnings"] = answer::warnings(&told, &self.notes);
        self.event("image_generation.completed", data)
    }

    fn ended(&mut self, progress: &Progress) -> Option<Event> {
        let error = ending(progress);
        let outcome = error
            .as_ref()
            .map_or(RequestOutcome::Ok, |error| outcome(error.code()));
        if let Some(meter) = &mut self.meter {
            meter.answered(outcome);
        }
        // Their SDKs raise what has a key `error`, whatever the event is called.
        error.map(|error| events::event("error", &error.json(self.request_id.as_ref())))
    }
}

impl Tell for OpenaiTell {
    fn job(&self) -> &Job {
        &self.attachment
    }

    fn position(&self) -> Option<usize> {
        self.service.jobs().position(&self.attachment)
    }

    fn tell(&mut self, happened: Happened<'_>, events: &mut VecDeque<Event>) {
        let event = match happened {
            Happened::Queued { position } => Some(events::comment(&format!("queued {position}"))),
            Happened::Started => Some(events::comment("started")),
            Happened::Step { image_index, step } => {
                let steps = self.attachment.order().first.steps.count();
                Some(events::comment(&format!(
                    "picture {image_index} step {step} of {steps}"
                )))
            }
            Happened::Partial(preview) => Some(self.event(
                "image_generation.partial_image",
                partial(&self.attachment, preview),
            )),
            Happened::Picture { index } => Some(self.completed(index)),
            Happened::Ended(progress) => self.ended(progress),
        };
        events.extend(event);
    }
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
