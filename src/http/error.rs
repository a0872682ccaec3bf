//! What a request is refused with: one type for every handler, one table from code to status, one JSON shape.
//!
//! `{"error": {"message", "type", "param", "code"}}`, all four keys always there: the OpenAI SDKs read exactly these.

use axum::http::header::{CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use super::context::RequestId;
use crate::domain::InvalidRequest;

/// Tells the OpenAI SDKs whether trying again makes sense, whatever the status says.
const X_SHOULD_RETRY: HeaderName = HeaderName::from_static("x-should-retry");

/// Why a request was refused, in a word that programs compare.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorCode {
    /// The body is not JSON.
    InvalidJson,
    /// The request cannot be read for another reason.
    InvalidRequest,
    /// No API key, or one that nobody was given.
    InvalidApiKey,
    /// No such path.
    NotFound,
    /// No such job, or one that was forgotten.
    JobNotFound,
    /// No such model.
    ModelNotFound,
    /// The path exists, the method does not.
    MethodNotAllowed,
    /// Nothing that `Accept` names can be sent.
    NotAcceptable,
    /// The body did not arrive in time.
    BodyTimeout,
    /// The job has no picture yet.
    JobNotFinished,
    /// The job was stopped and will have none.
    JobCancelled,
    /// The job failed and will have none.
    JobFailed,
    /// The body is longer than a request can be.
    BodyTooLarge,
    /// The body is in another format, charset or compression.
    UnsupportedMediaType,
    /// A required field is not there.
    MissingField,
    /// A field has a value that cannot be drawn.
    InvalidValue,
    /// A field that no such request has.
    UnknownField,
    /// One field twice.
    DuplicateField,
    /// Two spellings of one field.
    ConflictingFields,
    /// More pixels and steps than one request may ask for.
    TooCostly,
    /// An image that memory does not suffice for.
    TooLargeForMemory,
    /// An idempotency key that came with another request before.
    IdempotencyKeyReused,
    /// No place to wait in.
    QueueFull,
    /// No room for what it would come to: what is kept was promised.
    ResultsFull,
    /// The deadline cannot be met.
    DeadlineTooShort,
    /// Drawing failed.
    InferenceFailed,
    /// Anything else failed.
    InternalError,
    /// The model is not ready yet.
    Loading,
    /// The server is going away.
    Draining,
    /// What draws has stopped.
    WorkerDown,
    /// More connections than the server holds.
    TooManyConnections,
    /// The address of a request is longer than any here.
    UriTooLong,
    /// The head of a request is longer than any needs.
    HeadersTooLarge,
    /// A name in `Host` that the service does not answer under.
    HostNotAllowed,
    /// The deadline passed.
    DeadlineExceeded,
}

impl ErrorCode {
    /// Every code there is.
    pub const ALL: [Self; 35] = [
        Self::InvalidJson,
        Self::InvalidRequest,
        Self::InvalidApiKey,
        Self::NotFound,
        Self::JobNotFound,
        Self::ModelNotFound,
        Self::MethodNotAllowed,
        Self::NotAcceptable,
        Self::BodyTimeout,
        Self::JobNotFinished,
        Self::JobCancelled,
        Self::JobFailed,
        Self::BodyTooLarge,
        Self::UnsupportedMediaType,
        Self::MissingField,
        Self::InvalidValue,
        Self::UnknownField,
        Self::DuplicateField,
        Self::ConflictingFields,
        Self::TooCostly,
        Self::TooLargeForMemory,
        Self::IdempotencyKeyReused,
        Self::QueueFull,
        Self::ResultsFull,
        Self::DeadlineTooShort,
        Self::InferenceFailed,
        Self::InternalError,
        Self::Loading,
        Self::Draining,
        Self::WorkerDown,
        Self::TooManyConnections,
        Self::UriTooLong,
        Self::HeadersTooLarge,
        Self::HostNotAllowed,
        Self::DeadlineExceeded,
    ];

    /// Status, type and code as they are sent. This is the only place that knows.
    fn row(self) -> (StatusCode, &'static str, &'static str) {
        const INVALID: &str = "invalid_request_error";
        const KEY: &str = "authentication_error";
        const RATE: &str = "rate_limit_error";
        const SERVER: &str = "server_error";
        match self {
            Self::InvalidJson => (StatusCode::BAD_REQUEST, INVALID, "invalid_json"),
            Self::InvalidRequest => (StatusCode::BAD_REQUEST, INVALID, "invalid_request"),
            Self::InvalidApiKey => (StatusCode::UNAUTHORIZED, KEY, "invalid_api_key"),
            Self::NotFound => (StatusCode::NOT_FOUND, INVALID, "not_found"),
            Self::JobNotFound => (StatusCode::NOT_FOUND, INVALID, "job_not_found"),
            Self::ModelNotFound => (StatusCode::NOT_FOUND, INVALID, "model_not_found"),
            Self::MethodNotAllowed => (
                StatusCode::METHOD_NOT_ALLOWED,
                INVALID,
                "method_not_allowed",
            ),
            Self::NotAcceptable => (StatusCode::NOT_ACCEPTABLE, INVALID, "not_acceptable"),
            Self::BodyTimeout => (StatusCode::REQUEST_TIMEOUT, INVALID, "body_timeout"),
            Self::JobNotFinished => (StatusCode::CONFLICT, INVALID, "job_not_finished"),
            Self::JobCancelled => (StatusCode::CONFLICT, INVALID, "job_cancelled"),
            Self::JobFailed => (StatusCode::CONFLICT, INVALID, "job_failed"),
            Self::BodyTooLarge => (StatusCode::PAYLOAD_TOO_LARGE, INVALID, "body_too_large"),
            Self::UnsupportedMediaType => (
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                INVALID,
                "unsupported_media_type",
            ),
            Self::MissingField => (StatusCode::UNPROCESSABLE_ENTITY, INVALID, "missing_field"),
            Self::InvalidValue => (StatusCode::UNPROCESSABLE_ENTITY, INVALID, "invalid_value"),
            Self::UnknownField => (StatusCode::UNPROCESSABLE_ENTITY, INVALID, "unknown_field"),
            Self::DuplicateField => (StatusCode::UNPROCESSABLE_ENTITY, INVALID, "duplicate_field"),
            Self::ConflictingFields => (
                StatusCode::UNPROCESSABLE_ENTITY,
                INVALID,
                "conflicting_fields",
            ),
            Self::TooCostly => (StatusCode::UNPROCESSABLE_ENTITY, INVALID, "too_costly"),
            Self::TooLargeForMemory => (
                StatusCode::UNPROCESSABLE_ENTITY,
                INVALID,
                "too_large_for_memory",
            ),
            Self::IdempotencyKeyReused => (
                StatusCode::UNPROCESSABLE_ENTITY,
                INVALID,
                "idempotency_key_reused",
            ),
            Self::QueueFull => (StatusCode::TOO_MANY_REQUESTS, RATE, "queue_full"),
            Self::ResultsFull => (StatusCode::TOO_MANY_REQUESTS, RATE, "results_full"),
            Self::DeadlineTooShort => (StatusCode::TOO_MANY_REQUESTS, RATE, "deadline_too_short"),
            Self::InferenceFailed => (
                StatusCode::INTERNAL_SERVER_ERROR,
                SERVER,
                "inference_failed",
            ),
            Self::InternalError => (StatusCode::INTERNAL_SERVER_ERROR, SERVER, "internal_error"),
            Self::Loading => (StatusCode::SERVICE_UNAVAILABLE, SERVER, "loading"),
            Self::Draining => (StatusCode::SERVICE_UNAVAILABLE, SERVER, "draining"),
            Self::WorkerDown => (StatusCode::SERVICE_UNAVAILABLE, SERVER, "worker_down"),
            Self::TooManyConnections => (
                StatusCode::SERVICE_UNAVAILABLE,
                SERVER,
                "too_many_connections",
            ),
            Self::UriTooLong => (StatusCode::URI_TOO_LONG, INVALID, "uri_too_long"),
            Self::HeadersTooLarge => (
                StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
                INVALID,
                "headers_too_large",
            ),
            Self::HostNotAllowed => (StatusCode::MISDIRECTED_REQUEST, INVALID, "host_not_allowed"),
            Self::DeadlineExceeded => (StatusCode::GATEWAY_TIMEOUT, SERVER, "deadline_exceeded"),
        }
    }

    /// The status that it is sent with.
    pub fn status(self) -> StatusCode {
        self.row().0
    }

    /// The family of errors that it belongs to, in OpenAI's words.
    pub fn kind(self) -> &'static str {
        self.row().1
    }

    /// The code as it is sent.
    pub fn name(self) -> &'static str {
        self.row().2
    }
}

/// A refusal, ready to be sent.
///
/// The message says what to do next and is meant for the caller. What failed inside the server is not: with status 500
/// the message given here is dropped, and the caller reads a fixed sentence and the request's id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiError {
    code: ErrorCode,
    message: String,
    param: Option<String>,
    retry_after: Option<u64>,
    should_retry: Option<bool>,
}

impl ApiError {
    /// A refusal with nothing but a code and a message.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            param: None,
            retry_after: None,
            should_retry: None,
        }
    }

    /// A failure inside the server. Why goes to the log, where it is handled.
    pub fn internal() -> Self {
        Self::new(ErrorCode::InternalError, "")
    }

    /// The same, naming the field that it is about.
    #[must_use]
    pub fn about(mut self, param: impl Into<String>) -> Self {
        self.param = Some(param.into());
        self
    }

    /// The same, saying after how many seconds to come back (`Retry-After`).
    #[must_use]
    pub fn retry_after(mut self, seconds: u64) -> Self {
        self.retry_after = Some(seconds);
        self
    }

    /// The same, telling SDKs whether to try again by themselves (`x-should-retry`).
    #[must_use]
    pub fn should_retry(mut self, retry: bool) -> Self {
        self.should_retry = Some(retry);
        self
    }

    /// Why, in a word.
    pub fn code(&self) -> ErrorCode {
        self.code
    }

    /// The field that it is about.
    pub fn param(&self) -> Option<&str> {
        self.param.as_deref()
    }

    /// What the caller reads: the message, or with status 500 a fixed sentence and the request's id.
    pub fn message(&self, request_id: Option<&RequestId>) -> String {
        let what = match self.code {
            ErrorCode::InferenceFailed => "the picture could not be drawn",
            ErrorCode::InternalError => "the server failed on this request",
            _ => return self.message.clone(),
        };
        match request_id {
            Some(id) => format!(
                "{what}: the server's log says why, under request id {}",
                id.as_str()
            ),
            None => what.to_owned(),
        }
    }

    /// The JSON that is sent, in a body or as an event of a stream.
    pub fn json(&self, request_id: Option<&RequestId>) -> Value {
        json!({
            "error": {
                "message": self.message(request_id),
                "type": self.code.kind(),
                "param": self.param,
                "code": self.code.name(),
            }
        })
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let body = self.json(None).to_string();
        let json = [(CONTENT_TYPE, HeaderValue::from_static("application/json"))];
        let mut response = (self.code.status(), json, body).into_response();
        let headers = response.headers_mut();
        if let Some(seconds) = self.retry_after {
            headers.insert(RETRY_AFTER, seconds.into());
        }
        if let Some(retry) = self.should_retry {
            let word = if retry { "true" } else { "false" };
            headers.insert(X_SHOULD_RETRY, HeaderValue::from_static(word));
        }
        if self.code == ErrorCode::InvalidApiKey {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        // The middleware of `context` knows the request's id, and puts it where it is needed.
        response.extensions_mut().insert(self);
        response
    }
}

impl From<InvalidRequest> for ApiError {
    fn from(invalid: InvalidRequest) -> Self {
        Self::new(ErrorCode::InvalidValue, invalid.to_string()).about(invalid.field())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::domain::Prompt;

    /// The table of the contract, row by row.
    const CONTRACT: [(u16, &str, &[&str]); 17] = [
        (
            400,
            "invalid_request_error",
            &["invalid_json", "invalid_request"],
        ),
        (401, "authentication_error", &["invalid_api_key"]),
        (
            404,
            "invalid_request_error",
            &["not_found", "job_not_found", "model_not_found"],
        ),
        (405, "invalid_request_error", &["method_not_allowed"]),
        (406, "invalid_request_error", &["not_acceptable"]),
        (408, "invalid_request_error", &["body_timeout"]),
        (
            409,
            "invalid_request_error",
            &["job_not_finished", "job_cancelled", "job_failed"],
        ),
        (413, "invalid_request_error", &["body_too_large"]),
        (414, "invalid_request_error", &["uri_too_long"]),
        (415, "invalid_request_error", &["unsupported_media_type"]),
        (421, "invalid_request_error", &["host_not_allowed"]),
        (
            422,
            "invalid_request_error",
            &[
                "missing_field",
                "invalid_value",
                "unknown_field",
                "duplicate_field",
                "conflicting_fields",
                "too_costly",
                "too_large_for_memory",
                "idempotency_key_reused",
            ],
        ),
        (431, "invalid_request_error", &["headers_too_large"]),
        (
            429,
            "rate_limit_error",
            &["queue_full", "results_full", "deadline_too_short"],
        ),
        (500, "server_error", &["inference_failed", "internal_error"]),
        (
            503,
            "server_error",
            &["loading", "draining", "worker_down", "too_many_connections"],
        ),
        (504, "server_error", &["deadline_exceeded"]),
    ];

    #[test]
    fn every_code_has_the_status_and_type_of_the_contract() {
        let rows: HashSet<_> = ErrorCode::ALL
            .iter()
            .map(|code| (code.status().as_u16(), code.kind(), code.name()))
            .collect();
        let contract: HashSet<_> = CONTRACT
            .iter()
            .flat_map(|&(status, kind, codes)| codes.iter().map(move |&code| (status, kind, code)))
            .collect();
        assert_eq!(rows, contract);
        assert_eq!(rows.len(), ErrorCode::ALL.len());
    }

    #[test]
    fn all_four_keys_are_always_there() {
        let error = ApiError::new(ErrorCode::QueueFull, "come back later").json(None);
        assert_eq!(
            error,
            json!({"error": {
                "message": "come back later",
                "type": "rate_limit_error",
                "param": null,
                "code": "queue_full",
            }})
        );
    }

    #[test]
    fn what_failed_inside_stays_inside() {
        let error = ApiError::new(ErrorCode::InferenceFailed, "/secret/path: tensor t5 is bad");
        let said = error.json(None).to_string();
        assert!(!said.contains("secret"), "{said}");
        let id = RequestId::from_header(Some("abc-1"));
        assert!(error.message(Some(&id)).contains("abc-1"));
    }

    #[test]
    fn advice_on_trying_again_goes_into_headers() {
        let response = ApiError::new(ErrorCode::Loading, "")
            .retry_after(7)
            .should_retry(false)
            .into_response();
        assert_eq!(response.status(), 503);
        assert_eq!(response.headers()["retry-after"], "7");
        assert_eq!(response.headers()["x-should-retry"], "false");
        let response = ApiError::new(ErrorCode::InvalidApiKey, "").into_response();
        assert_eq!(response.headers()["www-authenticate"], "Bearer");
    }

    #[test]
    fn an_invalid_value_of_the_domain_names_its_field() {
        let error: ApiError = Prompt::negative("\0").unwrap_err().into();
        assert_eq!(error.code(), ErrorCode::InvalidValue);
        assert_eq!(error.param(), Some("negative_prompt"));
    }
}
