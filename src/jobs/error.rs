//! Why a request was not admitted.

use std::time::Duration;

use thiserror::Error;

/// Why a request was not admitted. None of these has cost the worker anything.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum SubmitError {
    /// The model is being loaded or warmed up.
    #[error("the model is still being loaded")]
    Loading,
    /// The service shuts down.
    #[error("the service is shutting down")]
    Draining,
    /// The worker broke and builds itself anew.
    #[error("the worker is being restarted after a fault")]
    WorkerDown,
    /// No place is free.
    #[error("the queue is full: {waiting} waiting, and {capacity} is its capacity")]
    QueueFull {
        /// Jobs that wait.
        waiting: usize,
        /// The most that may wait.
        capacity: usize,
        /// When what is here now will be done.
        retry_after: Duration,
    },
    /// This caller has as many jobs here as one of several may have.
    #[error(
        "this API key has {present} requests here, and one key may have {share} where there are several"
    )]
    ShareFull {
        /// Jobs of the caller that wait or are drawn.
        present: usize,
        /// The most that it may have.
        share: usize,
        /// When the first of them will be done.
        retry_after: Duration,
    },
    /// What is kept for callers, and was promised to them, leaves no room for what this would come to.
    #[error("{}", if *is_own_share {
        "results that this API key has not fetched fill its half of jobs.max_kept or jobs.max_memory_mib"
    } else {
        "results that nobody has fetched fill jobs.max_kept or jobs.max_memory_mib"
    })]
    ResultsFull {
        /// Whether the caller's own share is full, or else all of it.
        is_own_share: bool,
        /// When the first of them expires.
        retry_after: Duration,
    },
    /// The deadline would pass before the picture is there.
    #[error("the deadline cannot be met")]
    DeadlineTooShort {
        /// Time until the worker is free.
        wait: Duration,
        /// Time of drawing.
        drawing: Duration,
    },
    /// The key has been used for another request.
    #[error("this Idempotency-Key belongs to another request")]
    KeyReused,
}
