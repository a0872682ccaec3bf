//! `POST /v1/images`: draws while the caller waits. One job, three answers: JSON, the bytes, or events.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use axum::extract::{Request, State};
use axum::http::HeaderMap;
use axum::response::sse::Event;
use axum::response::{IntoResponse as _, Response};
use serde_json::{Value, json};

use super::accept::{self, Answer, Offer};
use super::admission::{self, Face};
use super::answer::{self, Pictures};
use super::context::RequestId;
use super::drawing::{Dialect, DrawingRequest, Note};
use super::error::{ApiError, ErrorCode};
use super::events::{self, Happened, Tell};
use super::meter::{Meter, outcome};
use super::received::Received;
use super::refusals::ending;
use super::service::Service;
use crate::domain::Generated;
use crate::jobs::{Attachment, Job, Keeping, Preview, Progress};
use crate::pipeline::Planner;
use crate::telemetry::{RequestOutcome, Stage};

const FACE: Face = Face {
    name: "images",
    dialect: Dialect::Own,
    keeping: Keeping::Nothing,
};

/// The handler.
pub(super) async fn draw(State(service): State<Service>, request: Request) -> Response {
    let mut received = Received::start(&service, request);
    match answer(&service, &mut received).await {
        Ok(response) => response,
        Err(error) => received.refuse(error),
    }
}

async fn answer(service: &Service, received: &mut Received) -> Result<Response, ApiError> {
    let mut drawing = received.drawing(service, FACE).await?;
    let answer = negotiated(received.headers(), &mut drawing)?;
    let (attachment, planner) = admission::admit(service, &received.asked(), FACE, &drawing)?;
    received.parsed(service);
    let pictures = Pictures::of(
        drawing.response_format,
        service.base_url(received.headers()),
    );
    if answer == Answer::Events {
        let teller = OwnTell {
            service: service.clone(),
            attachment,
            planner,
            pictures,
            notes: drawing.notes,
            request_id: received.request_id(),
            meter: received.take_meter(),
        };
        let moves = service.jobs().moves();
        return Ok(events::answer(teller, moves));
    }
    let progress = attachment.finished().await;
    if let Some(error) = ending(&progress) {
        return Err(error);
    }
    let began = Instant::now();
    let response = if answer == Answer::Json {
        whole(&attachment, &planner, &pictures, &drawing.notes, &progress).into_response()
    } else {
        let told = answer::told(&attachment, &progress.pictures);
        let codes: Vec<&str> = told
            .iter()
            .map(|warning| warning.code())
            .chain(drawing.notes.iter().map(|note| note.code))
            .collect();
        answer::bytes(&attachment, &progress.pictures[0], &codes)
    };
    service.metrics().stage(Stage::Respond, began.elapsed());
    received.answered(RequestOutcome::Ok);
    Ok(response)
}

/// The face that the Accept header and the body ask for together; what the header decides is put into the request.
fn negotiated(headers: &HeaderMap, drawing: &mut DrawingRequest) -> Result<Answer, ApiError> {
    let offer = Offer {
        bytes: true,
        events: true,
        format: drawing.output_format,
        stream: drawing.stream,
    };
    let answer = accept::negotiate(headers, offer)?;
    match answer {
        Answer::Json => {}
        Answer::Events => drawing.stream = true,
        Answer::Bytes(_) if drawing.images != 1 => {
            let what = format!(
                "n is {} and an answer of bytes holds one picture: ask for n = 1, or for application/json",
                drawing.images
            );
            return Err(ApiError::new(ErrorCode::InvalidValue, what).about("n"));
        }
        Answer::Bytes(format) => drawing.output_format = drawing.output_format.or(format),
    }
    Ok(answer)
}

/// The JSON answer with all pictures.
pub(super) fn whole(
    attachment: &Attachment,
    planner: &Planner,
    pictures: &Pictures,
    notes: &[Note],
    progress: &Progress,
) -> Response {
    let mut whole = answer::envelope(attachment, planner.facts(), notes);
    let data: Vec<Value> = progress
        .pictures
        .iter()
        .enumerate()
        .map(|(index, picture)| answer::picture(pictures, attachment, index, picture))
        .collect();
    whole.insert("data".to_owned(), data.into());
    let mut response = axum::Json(Value::Object(whole)).into_response();
    let headers = response.headers_mut();
    answer::set(headers, answer::JOB_ID, &attachment.id().to_string());
    answer::server_timing(headers, attachment);
    response
}

/// The events of our own endpoints.
pub(super) struct OwnTell {
    pub(super) service: Service,
    pub(super) attachment: Attachment,
    pub(super) planner: Arc<Planner>,
    pub(super) pictures: Pictures,
    pub(super) notes: Vec<Note>,
    pub(super) request_id: Option<RequestId>,
    /// The request that is answered so; none where a job is only looked at.
    pub(super) meter: Option<Meter>,
}

impl OwnTell {
    fn predicted_seconds(&self) -> Option<f64> {
        let predicted = self.service.jobs().predicted(&self.attachment)?;
        Some(predicted.as_secs_f64())
    }

    fn picture(&self, index: usize, picture: &Generated) -> Event {
        let mut data = answer::picture(&self.pictures, &self.attachment, index, picture);
        data["image_index"] = index.into();
        events::event("image", &data)
    }

    fn end(&mut self, progress: &Progress) -> Event {
        let (event, outcome) = match ending(progress) {
            None => {
                let envelope =
                    answer::envelope(&self.attachment, self.planner.facts(), &self.notes);
                (
                    events::event("completed", &Value::Object(envelope)),
                    RequestOutcome::Ok,
                )
            }
            Some(error) => (
                events::event("error", &error.json(self.request_id.as_ref())),
                outcome(error.code()),
            ),
        };
        if let Some(meter) = &mut self.meter {
            meter.answered(outcome);
        }
        event
    }
}

impl Tell for OwnTell {
    fn job(&self) -> &Job {
        &self.attachment
    }

    fn position(&self) -> Option<usize> {
        self.service.jobs().position(&self.attachment)
    }

    fn tell(&mut self, happened: Happened<'_>, events: &mut VecDeque<Event>) {
        let id = self.attachment.id().to_string();
        events.push_back(match happened {
            Happened::Queued { position } => events::event(
                "queued",
                &json!({"id": id, "position": position, "predicted_seconds": self.predicted_seconds()}),
            ),
            Happened::Started => events::event(
                "started",
                &json!({"id": id, "predicted_seconds": self.predicted_seconds()}),
            ),
            Happened::Step { image_index, step } => events::event(
                "step",
                &json!({
                    "image_index": image_index,
                    "step": step,
                    "steps": self.attachment.order().first.steps.count(),
                    "predicted_seconds": self.predicted_seconds(),
                }),
            ),
            Happened::Partial(preview) => {
                events::event("partial_image", &partial(&self.attachment, preview))
            }
            Happened::Picture { index } => {
                let picture = Arc::clone(&self.attachment.progress().pictures[index]);
                self.picture(index, &picture)
            }
            Happened::Ended(progress) => self.end(progress),
        });
    }
}

/// A preview, as both dialects tell it.
pub(super) fn partial(job: &Job, preview: &Preview) -> Value {
    let request = &job.order().first;
    json!({
        "image_index": preview.image_index,
        "partial_image_index": preview.partial_image_index,
        "b64_json": answer::base64(&preview.image),
        "output_format": request.output_format.name(),
        "size": request.size.to_string(),
    })
}
