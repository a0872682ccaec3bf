//! One drawing request in the metrics: counted once, by how it was answered, or as cancelled when nobody was left to answer.

use std::time::Instant;

use super::error::ErrorCode;
use crate::telemetry::{Metrics, RequestOutcome};

/// Counts a request when it is answered or dropped.
pub(super) struct Meter {
    metrics: Metrics,
    received: Instant,
    answered: bool,
}

impl Meter {
    /// A request has come.
    pub(super) fn start(metrics: &Metrics, received: Instant) -> Self {
        Self {
            metrics: metrics.clone(),
            received,
            answered: false,
        }
    }

    /// It was answered. Only the first answer counts.
    pub(super) fn answered(&mut self, outcome: RequestOutcome) {
        if !self.answered {
            self.answered = true;
            self.metrics.request(outcome, self.received.elapsed());
        }
    }
}

impl Drop for Meter {
    fn drop(&mut self) {
        self.answered(RequestOutcome::Cancelled);
    }
}

/// How a refusal counts.
pub(super) fn outcome(code: ErrorCode) -> RequestOutcome {
    match code {
        ErrorCode::BodyTooLarge | ErrorCode::TooCostly | ErrorCode::TooLargeForMemory => {
            RequestOutcome::TooLarge
        }
        ErrorCode::QueueFull | ErrorCode::ResultsFull | ErrorCode::DeadlineTooShort => {
            RequestOutcome::QueueFull
        }
        ErrorCode::Draining => RequestOutcome::Draining,
        ErrorCode::Loading | ErrorCode::WorkerDown => RequestOutcome::NotReady,
        ErrorCode::DeadlineExceeded | ErrorCode::BodyTimeout => RequestOutcome::Timeout,
        ErrorCode::JobCancelled => RequestOutcome::Cancelled,
        ErrorCode::InferenceFailed | ErrorCode::InternalError => RequestOutcome::Error,
        ErrorCode::InvalidJson
        | ErrorCode::InvalidRequest
        | ErrorCode::InvalidApiKey
        | ErrorCode::NotFound
        | ErrorCode::JobNotFound
        | ErrorCode::ModelNotFound
        | ErrorCode::MethodNotAllowed
        | ErrorCode::NotAcceptable
        | ErrorCode::JobNotFinished
        | ErrorCode::JobFailed
        | ErrorCode::UnsupportedMediaType
        | ErrorCode::MissingField
        | ErrorCode::InvalidValue
        | ErrorCode::UnknownField
        | ErrorCode::DuplicateField
        | ErrorCode::ConflictingFields
        | ErrorCode::IdempotencyKeyReused
        | ErrorCode::TooManyConnections
        | ErrorCode::UriTooLong
        | ErrorCode::HeadersTooLarge
        | ErrorCode::HostNotAllowed => RequestOutcome::Invalid,
    }
}
