//! What a job is asked with: the pictures, their bounds in time, and who may claim them.

use std::sync::Arc;
use std::time::Duration;

use tracing::Span;

use super::pace::Work;
use crate::domain::GenerateRequest;
use crate::pipeline::Plan;

/// One or several pictures of one request, admitted and drawn together.
#[derive(Debug)]
pub struct Order {
    /// The first picture. Picture `i` differs in its seed alone: `seed + i`.
    pub first: GenerateRequest,
    /// How many pictures, at least 1.
    pub images: u32,
    /// Previews of each picture while it is drawn.
    pub partial_images: u8,
    /// What drawing it comes to.
    pub plan: Plan,
    /// What one picture costs.
    pub work: Work,
    /// How long the caller waits, from now.
    pub deadline: Option<Duration>,
    /// What becomes of it when nobody waits for it.
    pub keeping: Keeping,
    /// How long an asynchronous job goes on while nobody follows it. None: to its end.
    pub abandon_after: Option<Duration>,
    /// Who asks, and how the same request is known again.
    pub claim: Claim,
    /// What the worker's log lines belong to: the caller's request.
    pub span: Span,
    /// What the log says of who asked.
    pub asked_by: AskedBy,
}

/// What the line of a finished job says of its request. Nothing in it is text of a caller's, but an id of checked characters.
#[derive(Debug, Clone, Default)]
pub struct AskedBy {
    /// The request's id.
    pub request_id: Option<Arc<str>>,
    /// The trace that the request belongs to.
    pub trace_id: Option<Arc<str>>,
    /// The name that the settings give the caller's key.
    pub key_name: Option<Arc<str>>,
}

impl Order {
    /// The request of picture `index`.
    pub fn picture(&self, index: u32) -> GenerateRequest {
        GenerateRequest {
            seed: self.first.seed.for_picture(index),
            ..self.first.clone()
        }
    }

    /// Denoising steps of all its pictures.
    pub fn steps(&self) -> u64 {
        self.first.steps.count() as u64 * u64::from(self.images)
    }
}

/// What becomes of a job when nobody waits for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keeping {
    /// It is stopped, and its pictures are forgotten: a caller who waits with an open connection.
    Nothing,
    /// It is stopped; but once it has succeeded, its pictures are kept for a while: they are fetched by their URL.
    Pictures,
    /// It goes on, unless `abandon_after` says otherwise, and whatever it comes to is kept for a while: an asynchronous job.
    All,
}

/// Whose a job is: the key that the caller showed, digested, or nobody's where no keys are configured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Owner(pub Option<[u8; 16]>);

/// By what a request is known again.
#[derive(Debug, Clone)]
pub struct Claim {
    /// Who asks.
    pub owner: Owner,
    /// Digest of the request as it was sent, and of the face that it came by.
    pub fingerprint: [u8; 32],
    /// The caller's own `Idempotency-Key`: the same key and request are the same job.
    pub idempotency_key: Option<String>,
    /// Whether the caller says that it asks again: it is given the job that its lost connection has left behind.
    pub retry: bool,
}
