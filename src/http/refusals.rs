//! Refusals in words: what was found, what would do, and when to come back.

use std::time::Duration;

use super::drawing::Spelled;
use super::error::{ApiError, ErrorCode};
use crate::domain::InvalidRequest;
use crate::jobs::{Failure, JobState, Jobs, Owner, Progress, SubmitError, Work};
use crate::pipeline::{PipelineError, TooLargeForMemory};

/// A caller comes back after so many seconds when nobody can say when.
const COME_BACK_SECONDS: u64 = 5;

/// What the model says against a request: the caller's affair, or nobody's.
pub(super) fn by_model(error: &PipelineError, spelled: Spelled) -> ApiError {
    if let Some(field) = error.field() {
        let field = spelled.name(field, side_at_fault(error));
        return ApiError::new(ErrorCode::InvalidValue, error.to_string()).about(field);
    }
    tracing::error!(%error, "a request cannot be planned");
    ApiError::internal()
}

/// The side of a size that cannot be drawn; the first where both are at fault.
fn side_at_fault(error: &PipelineError) -> Option<&'static str> {
    let is_width = match *error {
        PipelineError::Request(InvalidRequest::SizeMultiple {
            width_px,
            multiple_px,
            ..
        }) => !width_px.is_multiple_of(multiple_px),
        PipelineError::FrozenSize {
            asked, width_px, ..
        } => asked.width_px() as usize != width_px,
        _ => return None,
    };
    Some(if is_width { "width" } else { "height" })
}

/// Memory does not suffice for it, here and now; the same request will not fit a moment later.
pub(super) fn by_memory(error: &TooLargeForMemory, spelled: Spelled) -> ApiError {
    ApiError::new(ErrorCode::TooLargeForMemory, error.to_string())
        .about(spelled.name("size", None))
        .should_retry(false)
}

/// Why a request was not admitted.
pub(super) fn by_jobs(
    error: &SubmitError,
    jobs: &Jobs,
    (work, images, owner): (Work, u32, Owner),
    deadline: Option<Duration>,
) -> ApiError {
    let SubmitError::DeadlineTooShort { wait, drawing } = *error else {
        return at_once(error);
    };
    let deadline = deadline.unwrap_or_default();
    let needed = wait + drawing;
    let fits = |steps: usize| {
        let (_, drawing) = jobs.estimate(Work { steps, ..work }, images, owner);
        drawing.is_some_and(|drawing| wait + drawing <= deadline)
    };
    let enough = needed.as_secs_f64().ceil();
    let what_would_fit = match (1..work.steps).rev().find(|&steps| fits(steps)) {
        Some(steps) => format!("{steps} steps would fit, or a deadline of {enough} s"),
        None => format!("ask for a deadline of {enough} s or more"),
    };
    let message = format!(
        "deadline_seconds is {} and {} would take about {:.1} s, {:.1} s of waiting and {:.1} s of drawing: {what_would_fit}",
        deadline.as_secs_f64(),
        if images == 1 {
            "the picture"
        } else {
            "the pictures"
        },
        needed.as_secs_f64(),
        wait.as_secs_f64(),
        drawing.as_secs_f64(),
    );
    let refused = ApiError::new(ErrorCode::DeadlineTooShort, message).about("deadline_seconds");
    if drawing > deadline {
        // Waiting makes nothing better.
        refused.should_retry(false)
    } else {
        refused.retry_after(whole_seconds(needed.saturating_sub(deadline)))
    }
}

/// Why no request of this kind is admitted now, whatever it asks for.
pub(super) fn at_once(error: &SubmitError) -> ApiError {
    let (code, advice, retry_after) = match error {
        SubmitError::Loading => (
            ErrorCode::Loading,
            "come back in a moment; GET /readyz says when it is ready",
            COME_BACK_SECONDS,
        ),
        SubmitError::Draining => (
            ErrorCode::Draining,
            "ask again, another instance will answer",
            COME_BACK_SECONDS,
        ),
        SubmitError::WorkerDown => (
            ErrorCode::WorkerDown,
            "come back in a moment",
            COME_BACK_SECONDS,
        ),
        SubmitError::QueueFull { retry_after, .. } | SubmitError::ShareFull { retry_after, .. } => {
            (
                ErrorCode::QueueFull,
                "come back after Retry-After seconds",
                whole_seconds(*retry_after),
            )
        }
        SubmitError::ResultsFull { retry_after, .. } => (
            ErrorCode::ResultsFull,
            "fetch their images or DELETE their jobs, or come back after Retry-After seconds, when the first of them expires",
            whole_seconds(*retry_after),
        ),
        SubmitError::DeadlineTooShort { wait, drawing } => (
            ErrorCode::DeadlineTooShort,
            "allow more time",
            whole_seconds(*wait + *drawing),
        ),
        SubmitError::KeyReused => {
            return ApiError::new(
                ErrorCode::IdempotencyKeyReused,
                format!("{error}: send the same body with it, or use a new key"),
            )
            .about("Idempotency-Key");
        }
    };
    ApiError::new(code, format!("{error}: {advice}")).retry_after(retry_after)
}

/// Why a job that has ended has no pictures; none for one that has, or that has not ended.
pub(super) fn ending(progress: &Progress) -> Option<ApiError> {
    Some(match (progress.state, progress.failure) {
        (JobState::Succeeded | JobState::Queued | JobState::Running, _) => return None,
        (JobState::Expired, _) => ApiError::new(
            ErrorCode::DeadlineExceeded,
            "deadline_seconds passed before the picture was finished: allow more time, or ask for fewer steps or a smaller size",
        ),
        (JobState::Cancelled, _) => {
            ApiError::new(ErrorCode::JobCancelled, "the job was cancelled").should_retry(false)
        }
        (JobState::Failed, Some(Failure::Draining)) => at_once(&SubmitError::Draining),
        (JobState::Failed, Some(Failure::Worker)) => ApiError::internal(),
        (JobState::Failed, Some(Failure::WorkerDown)) => at_once(&SubmitError::WorkerDown),
        (JobState::Failed, Some(Failure::Inference) | None) => {
            // The same request would fail the same way.
            ApiError::new(ErrorCode::InferenceFailed, "").should_retry(false)
        }
    })
}

/// At least one second, rounded up.
pub(super) fn whole_seconds(time: Duration) -> u64 {
    let part = u64::from(time.subsec_nanos() > 0);
    (time.as_secs() + part).max(1)
}
