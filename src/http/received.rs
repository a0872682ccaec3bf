//! A drawing request as it arrives: read, parsed, timed and counted, whatever face it came by.

use std::sync::Arc;
use std::time::Instant;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use sha2::{Digest as _, Sha256};

use super::admission::{Asked, Face};
use super::body::{self, BodyLimits};
use super::context::{RequestId, TraceId};
use super::drawing::DrawingRequest;
use super::error::ApiError;
use super::fields::Fields;
use super::identity::{Caller, KeyName};
use super::meter::{Meter, outcome};
use super::service::Service;
use crate::jobs::AskedBy;
use crate::telemetry::{RequestOutcome, Stage};

/// Middleware that counts the drawing requests that the check of keys refuses: they never come to a handler.
pub(super) async fn count_strangers(
    State(service): State<Service>,
    request: Request,
    next: Next,
) -> Response {
    let at = Instant::now();
    let draws = request.method() == Method::POST;
    let response = next.run(request).await;
    if draws && response.status() == StatusCode::UNAUTHORIZED {
        Meter::start(service.metrics(), at).answered(RequestOutcome::Invalid);
    }
    response
}

/// One drawing request on its way in.
pub(super) struct Received {
    headers: HeaderMap,
    body: Option<Body>,
    caller: Caller,
    key_name: Option<KeyName>,
    request_id: Option<RequestId>,
    trace_id: Option<TraceId>,
    digest: [u8; 32],
    at: Instant,
    /// Taken by an answer that outlives the handler.
    meter: Option<Meter>,
}

impl Received {
    /// It has come, and the metrics will count it.
    pub(super) fn start(service: &Service, request: Request) -> Self {
        let mut received = Self::uncounted(request);
        received.meter = Some(Meter::start(service.metrics(), received.at));
        received
    }

    /// It has come, and asks for no picture.
    pub(super) fn uncounted(request: Request) -> Self {
        let at = Instant::now();
        let (parts, body) = request.into_parts();
        let caller = parts.extensions.get::<Caller>().copied();
        Self {
            headers: parts.headers,
            body: Some(body),
            // The layer that checks keys has put it there.
            caller: caller.unwrap_or(Caller::ANONYMOUS),
            key_name: parts.extensions.get::<KeyName>().cloned(),
            request_id: parts.extensions.get::<RequestId>().cloned(),
            trace_id: parts.extensions.get::<TraceId>().cloned(),
            digest: [0; 32],
            at,
            meter: None,
        }
    }

    pub(super) fn headers(&self) -> &HeaderMap {
        &self.headers
    }

    /// The request's name.
    pub(super) fn request_id(&self) -> Option<RequestId> {
        self.request_id.clone()
    }

    /// Who asks, for admission.
    pub(super) fn asked(&self) -> Asked<'_> {
        Asked {
            headers: &self.headers,
            caller: self.caller,
            digest: self.digest,
            received: self.at,
            by: AskedBy {
                request_id: self.request_id.as_ref().map(|id| id.as_str().into()),
                trace_id: self.trace_id.as_ref().map(|id| id.as_str().into()),
                key_name: self.key_name.as_ref().map(|name| Arc::clone(&name.0)),
            },
        }
    }

    /// Reads the body and parses it.
    pub(super) async fn drawing(
        &mut self,
        service: &Service,
        face: Face,
    ) -> Result<DrawingRequest, ApiError> {
        let settings = service.settings();
        let body = self.body.take().unwrap_or_default();
        let limits = BodyLimits {
            max_bytes: settings.max_body_bytes,
            time: settings.body_read,
        };
        let object = body::read_object(&self.headers, body, limits).await?;
        let mut hash = Sha256::new();
        for (name, value) in object.entries() {
            hash.update(name);
            hash.update([0]);
            hash.update(value.to_string());
            hash.update([0]);
        }
        self.digest = hash.finalize().into();
        DrawingRequest::parse(Fields::new(object), face.dialect, &service.limits())
    }

    /// It is parsed, planned and admitted: so long did that take.
    pub(super) fn parsed(&self, service: &Service) {
        service.metrics().stage(Stage::Parse, self.at.elapsed());
    }

    /// It was answered.
    pub(super) fn answered(&mut self, outcome: RequestOutcome) {
        if let Some(meter) = &mut self.meter {
            meter.answered(outcome);
        }
    }

    /// What counts it, for an answer that outlives the handler: a stream of events.
    pub(super) fn take_meter(&mut self) -> Option<Meter> {
        self.meter.take()
    }

    /// It is refused.
    pub(super) fn refuse(&mut self, error: ApiError) -> Response {
        self.answered(outcome(error.code()));
        error.into_response()
    }
}
