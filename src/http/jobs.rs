//! `/v1/jobs`: pictures that nobody waits for with an open connection. Ask, look, fetch, take back.

use std::time::Duration;

use axum::Extension;
use axum::Json;
use axum::body::Body;
use axum::extract::{Path, RawQuery, Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use serde_json::{Value, json};
use std::sync::Arc;

use super::admission::{self, Face};
use super::answer::{self, Pictures};
use super::context::RequestId;
use super::drawing::{Dialect, Note, ResponseFormat};
use super::error::{ApiError, ErrorCode};
use super::events::{self, Following};
use super::identity::Caller;
use super::images;
use super::links::{Links, Signed};
use super::pieces::{self, Pieces};
use super::received::Received;
use super::refusals::{ending, whole_seconds};
use super::service::Service;
use crate::jobs::{Job, JobId, JobState, Keeping};
use crate::telemetry::RequestOutcome;

const FACE: Face = Face {
    name: "jobs",
    dialect: Dialect::Own,
    keeping: Keeping::All,
};

/// Come back so soon to a job whose time nobody can predict.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// `POST /v1/jobs`: 202, and where the job can be looked at.
pub(super) async fn create(State(service): State<Service>, request: Request) -> Response {
    let mut received = Received::start(&service, request);
    match admitted(&service, &mut received).await {
        Ok(response) => response,
        Err(error) => received.refuse(error),
    }
}

async fn admitted(service: &Service, received: &mut Received) -> Result<Response, ApiError> {
    let drawing = received.drawing(service, FACE).await?;
    if drawing.stream {
        return Err(ApiError::new(
            ErrorCode::InvalidValue,
            "a job is not answered by a stream: leave stream out, and GET /v1/jobs/{id}/events",
        )
        .about("stream"));
    }
    let (attachment, _) = admission::admit(service, received.asked(), FACE, &drawing).await?;
    received.parsed(service);
    received.answered(RequestOutcome::Ok);
    let links = service.links(received.headers());
    // Relative unless the settings say where the service is reached.
    let location = format!("{}/v1/jobs/{}", service.public_url(), attachment.id());
    let mut response = (
        StatusCode::ACCEPTED,
        Json(status(service, &attachment, links, &drawing.notes)),
    )
        .into_response();
    let headers = response.headers_mut();
    answer::set(headers, header::LOCATION, &location);
    answer::set(headers, answer::JOB_ID, &attachment.id().to_string());
    Ok(response)
}

/// `GET /v1/jobs/{id}`
pub(super) async fn look(
    State(service): State<Service>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let job = find(&service, caller, &id)?;
    let mut response = Json(status(&service, &job, service.links(&headers), &[])).into_response();
    if !job.state().is_final() {
        let seconds = look_again(&service, &job);
        response
            .headers_mut()
            .insert(header::RETRY_AFTER, seconds.into());
    }
    Ok(response)
}

/// `DELETE /v1/jobs/{id}`: stops it; one that has ended is forgotten.
pub(super) async fn take_back(
    State(service): State<Service>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let job = find(&service, caller, &id)?;
    service.jobs().take_back(&job);
    // One that is drawn stops within milliseconds: its caller hears that it has.
    let attachment = service.jobs().attach(&job);
    attachment.finished().await;
    Ok(Json(status(&service, &job, service.links(&headers), &[])).into_response())
}

/// `GET /v1/jobs/{id}/images/{index}`
pub(super) async fn image(
    State(service): State<Service>,
    signed: Option<Extension<Signed>>,
    caller: Option<Extension<Caller>>,
    Path((id, index)): Path<(String, String)>,
) -> Result<Response, ApiError> {
    let caller = caller.map_or(Caller::ANONYMOUS, |Extension(caller)| caller);
    let job = match signed {
        Some(Extension(Signed)) => find_by(&id, |id| service.jobs().find_for_anyone(id))?,
        None => find(&service, caller, &id)?,
    };
    let progress = job.progress();
    let index: usize = index
        .parse()
        .ok()
        .filter(|&index| index < job.order().images as usize)
        .ok_or_else(|| {
            ApiError::new(
                ErrorCode::NotFound,
                format!(
                    "the job has {} picture(s), counted from 0",
                    job.order().images
                ),
            )
            .about("index")
        })?;
    let Some(picture) = progress.pictures.get(index) else {
        return Err(match ending(&progress) {
            Some(error) if progress.state != JobState::Cancelled => ApiError::new(
                ErrorCode::JobFailed,
                format!("the picture will never be there: {}", error.message(None)),
            ),
            Some(error) => error,
            None => ApiError::new(
                ErrorCode::JobNotFinished,
                "the picture is not finished: come back after Retry-After seconds, or follow GET /v1/jobs/{id}/events",
            )
            .retry_after(look_again(&service, &job)),
        });
    };
    let codes: Vec<&str> = answer::told(&job, &progress.pictures)
        .iter()
        .map(|warning| warning.code())
        .collect();
    let file = pieces::file(picture);
    let collects = {
        let (jobs, job) = (service.jobs().clone(), Arc::clone(&job));
        move || jobs.collected_image(&job, index)
    };
    let mut response = answer::bytes(&job, picture, &codes)
        .map(|_| Body::new(Pieces::plain(file).when_sent(collects)));
    // A picture never changes, and is its owner's alone.
    response.headers_mut().insert(
        header::CACHE_CONTROL,
        HeaderValue::from_static("private, max-age=31536000, immutable"),
    );
    Ok(response)
}

/// `GET /v1/jobs/{id}/events`
pub(super) async fn events(
    State(service): State<Service>,
    Extension(caller): Extension<Caller>,
    Extension(request_id): Extension<RequestId>,
    Path(id): Path<String>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let format = response_format(query.as_deref().unwrap_or_default())?;
    let job = find(&service, caller, &id)?;
    let Some(planner) = service.jobs().health().planner() else {
        return Err(service.not_ready());
    };
    let following = Following {
        attachment: service.jobs().attach(&job),
        planner,
        pictures: Pictures::of(format, service.links(&headers)),
        notes: Vec::new(),
        request_id: Some(request_id),
        meter: None,
        service,
    };
    Ok(events::answer(following, images::tell))
}

/// How the events of a job carry its pictures: by URL, or within themselves, which also a server that shuts down can do.
fn response_format(query: &str) -> Result<ResponseFormat, ApiError> {
    const NAME: &str = "response_format";
    let asked = query
        .split('&')
        .find_map(|pair| pair.strip_prefix(NAME)?.strip_prefix('='));
    let Some(asked) = asked else {
        return Ok(ResponseFormat::Url);
    };
    let found = ResponseFormat::NAMED
        .iter()
        .find(|(name, _)| *name == asked);
    found.map(|&(_, format)| format).ok_or_else(|| {
        let known = ResponseFormat::NAMED.map(|(name, _)| name).join(" or ");
        ApiError::new(ErrorCode::InvalidValue, format!("{NAME} is {known}")).about(NAME)
    })
}

fn find(service: &Service, caller: Caller, id: &str) -> Result<Arc<Job>, ApiError> {
    find_by(id, |id| service.jobs().find(id, caller.owner()))
}

fn find_by(id: &str, look: impl FnOnce(JobId) -> Option<Arc<Job>>) -> Result<Arc<Job>, ApiError> {
    id.parse::<JobId>()
        .ok()
        .and_then(look)
        .ok_or_else(|| {
            ApiError::new(
                ErrorCode::JobNotFound,
                "there is no such job: it was never made, or its results have outlived jobs.ttl_seconds or jobs.max_memory_mib",
            )
            .about("id")
        })
}

fn look_again(service: &Service, job: &Job) -> u64 {
    whole_seconds(service.jobs().predicted(job).unwrap_or(LOOK_AGAIN))
}

/// A job as JSON.
fn status(service: &Service, job: &Job, links: Links, notes: &[Note]) -> Value {
    let pictures = Pictures::Url(links);
    let progress = job.progress();
    let order = job.order();
    let images: Vec<Value> = progress
        .pictures
        .iter()
        .enumerate()
        .map(|(index, picture)| {
            let mut entry = answer::picture(&pictures, job, index, picture);
            entry["index"] = index.into();
            entry
        })
        .collect();
    let told = answer::told(job, &progress.pictures);
    json!({
        "id": job.id().to_string(),
        "object": "job",
        "state": progress.state.name(),
        "created": answer::unix_seconds(job.created()),
        "finished": progress.finished.map(answer::unix_seconds),
        "expires": service.jobs().expires(job).map(answer::unix_seconds),
        "position": service.jobs().position(job),
        "n": order.images,
        "image_index": progress.image_index,
        "step": progress.step,
        "steps": order.first.steps.count(),
        "predicted_seconds": service.jobs().predicted(job).map(|left| left.as_secs_f64()),
        "deadline_seconds": order.deadline.map(|deadline| deadline.as_secs_f64()),
        "queue_wait_seconds": progress.queue_wait.map(|wait| wait.as_secs_f64()),
        "seed": order.first.seed.value(),
        "size": order.first.size.to_string(),
        "output_format": order.first.output_format.name(),
        "images": images,
        "warnings": answer::warnings(&told, notes),
        "error": ending(&progress).map(|error| error.json(None)["error"].take()),
    })
}
