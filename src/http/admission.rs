//! From a drawing request to a job: the one way in for every face.
//!
//! ```text
//! body → Fields → DrawingRequest → RequestDraft → (the model's defaults) → GenerateRequest → Plan → Order → Jobs::submit
//! ```

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::http::HeaderMap;
use sha2::{Digest as _, Sha256};
use tracing::Span;

use super::drawing::{Dialect, DrawingRequest, ResponseFormat};
use super::error::{ApiError, ErrorCode};
use super::identity::Caller;
use super::refusals;
use super::service::Service;
use crate::domain::{Compression, GenerateRequest, RequestDraft, Seed};
use crate::jobs::{AskedBy, Attachment, Claim, Keeping, Lingering, Order, Work};
use crate::pipeline::{MemoryBudget, Plan, Planner};

/// How long a job waits for the client whose read has timed out, to ask again. The SDKs come back within 8 seconds.
const LINGER: Duration = Duration::from_secs(15);
/// A connection that is lost so shortly before the client's time-out was lost to it.
const TIMEOUT_MARGIN: Duration = Duration::from_secs(1);
/// The SDKs pause so long before they ask again, twice as long before each further time, and never longer than the last.
const FIRST_PAUSE_SECONDS: f64 = 0.5;
const LONGEST_PAUSE_SECONDS: f64 = 8.0;
/// What a repeated request may need beside that pause.
const ON_THE_WAY: Duration = Duration::from_secs(1);
/// Longest `Idempotency-Key`, in bytes.
const LONGEST_KEY: usize = 255;

/// What a face makes of a drawing request.
#[derive(Debug, Clone, Copy)]
pub(super) struct Face {
    /// Its name, by which equal requests to different faces stay different.
    pub(super) name: &'static str,
    /// Whose field names and manners it has.
    pub(super) dialect: Dialect,
    /// What becomes of the job when nobody waits for it.
    pub(super) keeping: Keeping,
}

/// Who asks, when, and in what words.
pub(super) struct Asked<'a> {
    pub(super) headers: &'a HeaderMap,
    pub(super) caller: Caller,
    /// Digest of the body.
    pub(super) digest: [u8; 32],
    pub(super) received: Instant,
    /// What the log says of who asks.
    pub(super) by: AskedBy,
}

/// A drawing request that makes sense to the loaded model.
pub(super) struct Planned {
    pub(super) request: GenerateRequest,
    pub(super) plan: Plan,
    pub(super) planner: Arc<Planner>,
    pub(super) work: Work,
    pub(super) memory: Option<MemoryBudget>,
}

/// Holds a request against the model and the limits, without admitting it.
pub(super) async fn plan(service: &Service, drawing: &DrawingRequest) -> Result<Planned, ApiError> {
    if !drawing.clean_caption {
        return plan_here(service, drawing);
    }
    // Cleaning takes microseconds; of a prompt that is made to, tens of milliseconds, in which this thread answers nobody.
    let Some(place) = service.place_for_cleaning() else {
        return Err(ApiError::new(
            ErrorCode::QueueFull,
            "as many captions as may wait are waiting to be cleaned: come back after Retry-After seconds, or send clean_caption false",
        )
        .about("clean_caption")
        .retry_after(1));
    };
    let (service, drawing) = (service.clone(), drawing.clone());
    let planned = tokio::task::spawn_blocking(move || {
        // A caller that leaves meanwhile frees nothing: the work goes on.
        let _place = place;
        plan_here(&service, &drawing)
    });
    planned
        .await
        .unwrap_or_else(|_panic| Err(ApiError::internal()))
}

fn plan_here(service: &Service, drawing: &DrawingRequest) -> Result<Planned, ApiError> {
    let Some(planner) = service.jobs().health().planner() else {
        return Err(service.not_ready());
    };
    service.check_model(drawing.model.as_deref(), &planner)?;
    let request = draft(drawing).complete(planner.defaults());
    let plan = planner
        .plan(&request)
        .map_err(|error| refusals::by_model(&error, drawing.spelled))?;
    let work = Work::of(&request, &plan);
    service.check_cost(work, drawing.images)?;
    let memory = service.jobs().health().memory();
    if let Some(budget) = memory {
        planner
            .check_memory(&request, plan.drawn_size, budget)
            .map_err(|error| refusals::by_memory(&error, drawing.spelled))?;
    }
    Ok(Planned {
        request,
        plan,
        planner,
        work,
        memory,
    })
}

/// Admits a request, or finds the job that it has asked for before.
pub(super) async fn admit(
    service: &Service,
    asked: Asked<'_>,
    face: Face,
    drawing: &DrawingRequest,
) -> Result<(Attachment, Arc<Planner>), ApiError> {
    let idempotency_key = idempotency_key(asked.headers)?;
    let retry = retries(asked.headers);
    if idempotency_key.is_none() && !retry {
        // A crowd is turned away before anything is spent on it. Who may have a job here already is looked up first.
        service
            .jobs()
            .has_room(asked.caller.owner())
            .map_err(|error| refusals::at_once(&error))?;
    }
    let planned = plan(service, drawing).await?;
    let deadline = drawing.deadline.or(service.settings().default_deadline);
    let order = Order {
        first: planned.request,
        images: drawing.images,
        partial_images: if drawing.stream || face.keeping == Keeping::All {
            drawing.partial_images
        } else {
            0
        },
        plan: planned.plan,
        work: planned.work,
        deadline,
        keeping: match (face.keeping, drawing.response_format) {
            (Keeping::Nothing, ResponseFormat::Url) => Keeping::Pictures,
            (keeping, _) => keeping,
        },
        abandon_after: drawing.abandon_after,
        claim: Claim {
            owner: asked.caller.owner(),
            fingerprint: fingerprint(face, drawing, asked.digest),
            idempotency_key,
            retry,
        },
        span: Span::current(),
        asked_by: asked.by.clone(),
    };
    let (work, images, owner) = (order.work, order.images, order.claim.owner);
    let submitted = service.jobs().submit(order).map_err(|error| {
        refusals::by_jobs(&error, service.jobs(), (work, images, owner), deadline)
    })?;
    let request = &submitted.attachment.order().first;
    // Of the prompt no more than its length.
    tracing::debug!(
        job = %submitted.attachment.id(),
        face = face.name,
        replayed = submitted.replayed,
        images,
        steps = request.steps.count(),
        size = %request.size,
        prompt_chars = request.prompt.as_str().chars().count(),
        "admitted"
    );
    // A stream answers at once: whoever leaves it was not driven away by a time-out, and SDKs do not repeat it.
    let lingering = lingering(&asked).filter(|_| !drawing.stream);
    let attachment = submitted.attachment.lingering(lingering);
    Ok((attachment, planned.planner))
}

fn draft(drawing: &DrawingRequest) -> RequestDraft {
    RequestDraft {
        negative_prompt: drawing.negative_prompt.clone(),
        steps: drawing.steps,
        guidance: drawing.guidance,
        size: drawing.size,
        scheduler: drawing.scheduler,
        decoder: drawing.decoder,
        resolution_binning: drawing.resolution_binning,
        clean_caption: drawing.clean_caption,
        embed_prompt: drawing.embed_prompt,
        output_format: drawing.output_format.unwrap_or_default(),
        output_compression: drawing
            .output_compression
            .and_then(|percent| Compression::new(percent.into()).ok()),
        ..RequestDraft::new(
            drawing.prompt.clone(),
            drawing.seed.map_or_else(Seed::random, Seed::new),
        )
    }
}

/// What makes two requests the same: the face, the body, and what the Accept header has added to it.
fn fingerprint(face: Face, drawing: &DrawingRequest, body: [u8; 32]) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update(face.name);
    hash.update([0, u8::from(drawing.stream)]);
    hash.update(drawing.output_format.unwrap_or_default().name());
    hash.update([0]);
    hash.update(body);
    hash.finalize().into()
}

fn idempotency_key(headers: &HeaderMap) -> Result<Option<String>, ApiError> {
    let Some(value) = headers.get("idempotency-key") else {
        return Ok(None);
    };
    match value.to_str() {
        Ok(key)
            if (1..=LONGEST_KEY).contains(&key.len())
                && key.bytes().all(|byte| byte.is_ascii_graphic()) =>
        {
            Ok(Some(key.to_owned()))
        }
        _ => Err(ApiError::new(
            ErrorCode::InvalidValue,
            format!("Idempotency-Key must be 1 to {LONGEST_KEY} characters of visible ASCII"),
        )
        .about("Idempotency-Key")),
    }
}

/// Whether an SDK says that it asks again.
fn retries(headers: &HeaderMap) -> bool {
    seconds(headers, "x-stainless-retry-count").is_some_and(|count| count >= 1.0)
}

/// An SDK that reads no longer than its time-out closes the connection and asks again: the job waits for that. One that
/// closes it earlier has been stopped by its user.
///
/// npm's package tells its time-out only where the request has one of its own. Where it is not told, every lost connection
/// may be either: the job waits as long as the next attempt would need to come, and no longer.
fn lingering(asked: &Asked<'_>) -> Option<Lingering> {
    let told = seconds(asked.headers, "x-stainless-read-timeout")
        .or_else(|| seconds(asked.headers, "x-stainless-timeout"))
        .filter(|&timeout| timeout > 0.0)
        .and_then(|timeout| Duration::try_from_secs_f64(timeout).ok());
    let Some(timeout) = told else {
        let attempts = seconds(asked.headers, "x-stainless-retry-count").filter(|it| *it >= 0.0)?;
        // Below infinity by `min`.
        let pause = (FIRST_PAUSE_SECONDS * attempts.exp2()).min(LONGEST_PAUSE_SECONDS);
        return Some(Lingering {
            from: asked.received,
            grace: Duration::from_secs_f64(pause) + ON_THE_WAY,
        });
    };
    // A margin of a second, and less where the time-out itself is not much longer.
    let margin = TIMEOUT_MARGIN.min(timeout / 10);
    Some(Lingering {
        from: asked.received.checked_add(timeout.saturating_sub(margin))?,
        grace: LINGER,
    })
}

fn seconds(headers: &HeaderMap, name: &str) -> Option<f64> {
    headers.get(name)?.to_str().ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Environment, Settings};
    use crate::domain::OutputFormat;
    use crate::http::body::Object;
    use crate::http::drawing::Limits;
    use crate::http::fields::Fields;
    use crate::jobs::{Bounds, Jobs};
    use crate::telemetry::Metrics;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|&(name, value)| (name.parse().unwrap(), value.parse().unwrap()))
            .collect()
    }

    fn lingers(pairs: &[(&'static str, &str)]) -> Option<Duration> {
        let received = Instant::now();
        let headers = headers(pairs);
        let asked = Asked {
            headers: &headers,
            caller: Caller::ANONYMOUS,
            digest: [0; 32],
            received,
            by: AskedBy::default(),
        };
        lingering(&asked).map(|lingering| lingering.from - received)
    }

    #[test]
    fn only_a_client_that_tells_its_time_out_is_waited_for_and_only_from_then_on() {
        assert_eq!(lingers(&[]), None);
        assert_eq!(
            lingers(&[("x-stainless-read-timeout", "600")]),
            Some(Duration::from_secs(599))
        );
        assert_eq!(
            lingers(&[("x-stainless-timeout", "1")]),
            Some(Duration::from_millis(900))
        );
        for nonsense in ["none", "-1", "nan", "inf", "1e400", ""] {
            assert_eq!(lingers(&[("x-stainless-read-timeout", nonsense)]), None);
        }
    }

    #[test]
    fn an_sdk_that_does_not_tell_its_time_out_is_waited_for_as_long_as_it_pauses() {
        let grace = |count: &str| {
            let headers = headers(&[("x-stainless-retry-count", count)]);
            let asked = Asked {
                headers: &headers,
                caller: Caller::ANONYMOUS,
                digest: [0; 32],
                received: Instant::now(),
                by: AskedBy::default(),
            };
            let lingering = lingering(&asked)?;
            assert_eq!(lingering.from, asked.received);
            Some(lingering.grace.as_secs_f64())
        };
        assert_eq!(grace("0"), Some(1.5));
        assert_eq!(grace("2"), Some(3.0));
        assert_eq!(grace("9"), Some(9.0));
        assert_eq!(grace("inf"), Some(9.0));
        for nonsense in ["none", "-1", "nan", ""] {
            assert_eq!(grace(nonsense), None);
        }
    }

    #[test]
    fn a_retry_is_one_from_the_first_repetition_on() {
        assert!(!retries(&headers(&[])));
        assert!(!retries(&headers(&[("x-stainless-retry-count", "0")])));
        assert!(retries(&headers(&[("x-stainless-retry-count", "1")])));
    }

    #[test]
    fn keys_are_visible_ascii_of_some_length() {
        assert_eq!(idempotency_key(&headers(&[])).unwrap(), None);
        let key = idempotency_key(&headers(&[("idempotency-key", "a-b")])).unwrap();
        assert_eq!(key.as_deref(), Some("a-b"));
        for bad in [String::new(), "a b".to_owned(), "k".repeat(256)] {
            assert!(idempotency_key(&headers(&[("idempotency-key", &bad)])).is_err());
        }
    }

    #[tokio::test]
    async fn captions_that_wait_to_be_cleaned_are_bounded() {
        let settings = Settings::resolve(None, &Environment::of([]), &[]).unwrap();
        let metrics = Metrics::new(1);
        let bounds = Bounds {
            capacity: 1,
            ttl: Duration::from_secs(1),
            max_memory_bytes: 1,
            max_kept: 1,
            owners: 1,
        };
        let (jobs, _assignments) = Jobs::new(bounds, metrics.clone());
        let service = Service::new(jobs, metrics, &settings);
        let object = Object::parse(br#"{"prompt": "<b>a boat", "clean_caption": true}"#).unwrap();
        let fields = Fields::new(object);
        let drawing = DrawingRequest::parse(fields, Dialect::Own, &service.limits()).unwrap();
        let refused = async || plan(&service, &drawing).await.err().unwrap().code();
        let places: Vec<_> = std::iter::from_fn(|| service.place_for_cleaning()).collect();
        assert_eq!(refused().await, ErrorCode::QueueFull);
        drop(places);
        // There is a place now, and no model yet.
        assert_eq!(refused().await, ErrorCode::Loading);
    }

    #[test]
    fn the_same_body_to_another_face_or_with_another_accept_is_another_request() {
        let face = |name| Face {
            name,
            dialect: Dialect::Own,
            keeping: Keeping::Nothing,
        };
        let drawing = || {
            let object = Object::parse(br#"{"prompt": "a boat"}"#).unwrap();
            let limits = Limits {
                max_images: 1,
                max_steps: 1,
                max_side_px: 64,
            };
            DrawingRequest::parse(Fields::new(object), Dialect::Own, &limits).unwrap()
        };
        let jpeg = DrawingRequest {
            output_format: Some(OutputFormat::Jpeg),
            ..drawing()
        };
        let stream = DrawingRequest {
            stream: true,
            ..drawing()
        };
        let first = fingerprint(face("a"), &drawing(), [1; 32]);
        assert_eq!(first, fingerprint(face("a"), &drawing(), [1; 32]));
        for other in [
            fingerprint(face("b"), &drawing(), [1; 32]),
            fingerprint(face("a"), &jpeg, [1; 32]),
            fingerprint(face("a"), &stream, [1; 32]),
            fingerprint(face("a"), &drawing(), [2; 32]),
        ] {
            assert_ne!(first, other);
        }
    }
}
