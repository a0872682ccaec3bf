//! `POST /v1/images`: draws while the caller waits. One job, three answers: JSON, the bytes, or events.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::Response;
use serde_json::{Value, json};

use super::accept::{self, Answer, Offer};
use super::admission::{self, Face};
use super::answer::{self, Pictures};
use super::drawing::{Dialect, DrawingRequest, Note};
use super::error::{ApiError, ErrorCode};
use super::events::{self, Event, Following, Happened, Tell};
use super::pieces::{self, Pieces};
use super::received::Received;
use super::refusals::ending;
use super::service::Service;
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
    while_waiting(&service, request, FACE, tell).await
}

/// Draws while the caller waits, whatever words the face has.
pub(super) async fn while_waiting(
    service: &Service,
    request: Request,
    face: Face,
    tell: Tell,
) -> Response {
    let mut received = Received::start(service, request);
    match answer(service, &mut received, face, tell).await {
        Ok(response) => response,
        Err(error) => received.refuse(error),
    }
}

async fn answer(
    service: &Service,
    received: &mut Received,
    face: Face,
    tell: Tell,
) -> Result<Response, ApiError> {
    let mut drawing = received.drawing(service, face).await?;
    let answer = negotiated(received.headers(), face, &mut drawing)?;
    let (attachment, planner) = admission::admit(service, received.asked(), face, &drawing).await?;
    received.parsed(service);
    let links = service.links(received.headers());
    let pictures = Pictures::of(drawing.response_format, links);
    if answer == Answer::Events {
        let following = Following {
            service: service.clone(),
            attachment,
            planner,
            pictures,
            notes: drawing.notes,
            request_id: received.request_id(),
            meter: received.take_meter(),
        };
        return Ok(events::answer(following, tell));
    }
    let progress = attachment.finished().await;
    if let Some(error) = ending(&progress) {
        return Err(error);
    }
    let began = Instant::now();
    let response = if answer == Answer::Json {
        whole(&attachment, &planner, &pictures, &drawing.notes, &progress)
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
fn negotiated(
    headers: &HeaderMap,
    face: Face,
    drawing: &mut DrawingRequest,
) -> Result<Answer, ApiError> {
    let offer = Offer {
        // OpenAI's clients read JSON and events alone.
        bytes: face.dialect == Dialect::Own,
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
fn whole(
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
    let files = progress.pictures.iter().filter_map(|it| pictures.file(it));
    let body = Pieces::json(&Value::Object(whole), files);
    let mut response = Response::new(Body::new(body));
    let headers = response.headers_mut();
    let json = HeaderValue::from_static("application/json");
    headers.insert(header::CONTENT_TYPE, json);
    answer::set(headers, answer::JOB_ID, &attachment.id().to_string());
    answer::server_timing(headers, attachment);
    response
}

/// Our own events.
pub(super) fn tell(
    following: &mut Following,
    happened: Happened<'_>,
    events: &mut VecDeque<Event>,
) {
    let job = Arc::clone(following.attachment.job());
    let id = job.id().to_string();
    let predicted_seconds = following.predicted_seconds();
    let mut file = None;
    let mut collects = None;
    let (name, data) = match happened {
        Happened::Queued { position } => (
            "queued",
            json!({"id": id, "position": position, "predicted_seconds": predicted_seconds}),
        ),
        Happened::Started => (
            "started",
            json!({"id": id, "predicted_seconds": predicted_seconds}),
        ),
        Happened::Step { image_index, step } => (
            "step",
            json!({
                "image_index": image_index,
                "step": step,
                "steps": job.order().first.steps.count(),
                "predicted_seconds": predicted_seconds,
            }),
        ),
        Happened::Partial(preview) => {
            file = Some(pieces::preview_file(preview));
            ("partial_image", partial(&job, preview))
        }
        Happened::Picture { index, picture } => {
            file = following.pictures.file(picture);
            collects = file.as_ref().map(|_| following.collects(index));
            let mut data = answer::picture(&following.pictures, &job, index, picture);
            data["image_index"] = index.into();
            ("image", data)
        }
        Happened::Ended(progress) => {
            if let Some(error) = following.ended(progress) {
                ("error", error)
            } else {
                let envelope = answer::envelope(&job, following.planner.facts(), &following.notes);
                ("completed", Value::Object(envelope))
            }
        }
    };
    let event = Event::new(name, &data, file);
    events.push_back(match collects {
        Some(collects) => event.when_sent(collects),
        None => event,
    });
}

/// A preview, as both dialects tell it, with a hole for its file.
pub(super) fn partial(job: &Job, preview: &Preview) -> Value {
    let request = &job.order().first;
    json!({
        "image_index": preview.image_index,
        "partial_image_index": preview.partial_image_index,
        pieces::BASE64_KEY: pieces::hole(),
        "output_format": request.output_format.name(),
        "size": request.size.to_string(),
    })
}
