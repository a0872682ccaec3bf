//! The line in the log for each job that has ended: who asked, what it was, what became of it, and how long that took.
//!
//! One job is one line, at info, from the one place where jobs end. It has no text of the caller's: of the prompt, nothing.

use std::time::Instant;

use super::{Ending, Job};

/// Logs the end of `job`, which has just been given it.
pub(super) fn log(job: &Job, ending: Ending, now: Instant) {
    let order = job.order();
    let progress = job.progress();
    let whole = now.saturating_duration_since(job.admitted());
    tracing::info!(
        target: "job",
        // Who ends a job may be in the span of another request, a DELETE for one.
        parent: None,
        job_id = %job.id(),
        request_id = order.asked_by.request_id.as_deref(),
        trace_id = order.asked_by.trace_id.as_deref(),
        key = order.asked_by.key_name.as_deref(),
        outcome = ending.outcome().name(),
        size = %order.first.size,
        steps = order.first.steps.count(),
        images = order.images,
        images_drawn = progress.pictures.len(),
        // A job that never had its turn has waited all the time.
        queue_wait_seconds = progress.queue_wait.unwrap_or(whole).as_secs_f64(),
        seconds = whole.as_secs_f64(),
        "job finished"
    );
}
