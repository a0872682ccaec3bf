//! A caller's hold on a job: when the last one lets go, a synchronous job is stopped.

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{Job, Shared};

/// When a lost connection does not mean that the caller has given up: a client whose read has timed out asks again.
#[derive(Debug, Clone, Copy)]
pub struct Lingering {
    /// A connection that is lost from then on was lost to the client's own time-out.
    pub from: Instant,
    /// How long the job goes on without it.
    pub grace: Duration,
}

/// Waits for a job. Dropping it is going away.
pub struct Attachment {
    shared: Arc<Shared>,
    job: Arc<Job>,
    lingering: Option<Lingering>,
}

impl Attachment {
    pub(super) fn new(shared: Arc<Shared>, job: Arc<Job>) -> Self {
        Self {
            shared,
            job,
            lingering: None,
        }
    }

    /// The job itself.
    pub fn job(&self) -> &Arc<Job> {
        &self.job
    }

    /// Says when going away is not giving up.
    #[must_use]
    pub fn lingering(mut self, lingering: Option<Lingering>) -> Self {
        self.lingering = lingering;
        self
    }
}

impl Deref for Attachment {
    type Target = Job;

    fn deref(&self) -> &Job {
        &self.job
    }
}

impl fmt::Debug for Attachment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Attachment({})", self.job.id())
    }
}

impl Drop for Attachment {
    fn drop(&mut self) {
        let now = Instant::now();
        let lingers = self
            .lingering
            .filter(|lingering| now >= lingering.from)
            .map(|lingering| now + lingering.grace);
        self.shared
            .change(|registry| registry.detach(self.job.id(), lingers, now));
    }
}
