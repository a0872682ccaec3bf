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
