//! The border between callers, who wait, and the worker, who draws: admission, progress, cancel, deadlines, drain, health.
//!
//! A request is admitted or refused at once. An admitted job waits in a line of bounded length; a bounded tokio channel of
//! tickets wakes the one worker, and each ticket claims the job that is first in the line then. So a job that is taken
//! back frees its place at once, which it could not inside a channel (`docs/adr/0008-the-line-and-its-tickets.md`).
//!
//! Knows nothing of HTTP, and nothing of how pictures are drawn.

mod attachment;
mod error;
mod finished;
mod health;
mod job;
mod kept;
mod order;
mod pace;
mod registry;
mod turns;
mod wait;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::{mpsc, watch};

pub use attachment::{Attachment, Lingering};
pub use error::SubmitError;
pub use health::{Health, Phase};
pub use job::{Ending, Failure, Job, JobId, JobState, NotAJobId, Preview, Progress, Stop};
pub use order::{AskedBy, Claim, Keeping, Order, Owner};
pub use pace::Work;

use crate::domain::Generated;
use crate::telemetry::Metrics;
use registry::Registry;
use wait::{TimedOut, receive_until};

/// What bounds the jobs.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// The most jobs that wait behind the one that is drawn.
    pub capacity: usize,
    /// How long results of asynchronous jobs are kept.
    pub ttl: Duration,
    /// Memory that kept results may take.
    pub max_memory_bytes: usize,
    /// How many results are kept at most.
    pub max_kept: usize,
    /// How many callers there can be: the API keys, or 1 where there are none. Of several, one can have half of the queue and
    /// of what is kept.
    pub owners: usize,
}

/// A place in the line is due. It names no job: the first in the line when it is drawn is meant.
struct Ticket;

struct Shared {
    registry: Mutex<Registry>,
    tickets: mpsc::Sender<Ticket>,
    /// Counts the moves of the line, for those who wait in it.
    moves: watch::Sender<u64>,
    health: Health,
    metrics: Metrics,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Registry> {
        // Every change under the lock is whole before anything could panic.
        self.registry.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the registry, and lets those who wait look at the line again.
    fn change<T>(&self, change: impl FnOnce(&mut Registry) -> T) -> T {
        let (changed, moves) = {
            let mut registry = self.lock();
            (change(&mut registry), registry.moves)
        };
        self.moves.send_if_modified(|told| {
            let is_news = *told < moves;
            *told = moves.max(*told);
            is_news
        });
        changed
    }
}

/// The callers' side. Clones are the same jobs.
#[derive(Clone)]
pub struct Jobs {
    shared: Arc<Shared>,
}

/// The worker's side: there is one.
pub struct Assignments {
    shared: Arc<Shared>,
    tickets: mpsc::Receiver<Ticket>,
}

/// What the worker does next.
#[derive(Debug)]
pub enum Turn {
    /// Draw this.
    Job(Arc<Job>),
    /// Nothing has come until the time that was named.
    Rest,
    /// The service closes.
    Over,
}

/// A job and whether it was there before.
#[derive(Debug)]
pub struct Submitted {
    /// The caller's hold on it.
    pub attachment: Attachment,
    /// Whether this request was known: the job is one that was asked for before.
    pub replayed: bool,
}

impl Jobs {
    /// No jobs yet.
    pub fn new(bounds: Bounds, metrics: Metrics) -> (Self, Assignments) {
        // A ticket for each job that waits and for the one that is next, and one to say that all is over.
        let (tickets, due) = mpsc::channel(bounds.capacity + 2);
        let shared = Arc::new(Shared {
            registry: Mutex::new(Registry::new(bounds, metrics.clone())),
            tickets,
            moves: watch::Sender::new(0),
            health: Health::new(metrics.clone()),
            metrics,
        });
        let assignments = Assignments {
            shared: Arc::clone(&shared),
            tickets: due,
        };
        (Self { shared }, assignments)
    }

    /// What the worker publishes of itself.
    pub fn health(&self) -> &Health {
        &self.shared.health
    }

    /// Admits a request, or says at once why not. The same request with the same key is the same job.
    ///
    /// # Errors
    /// When the service is not ready, no place is free, or the deadline cannot be met.
    pub fn submit(&self, order: Order) -> Result<Submitted, SubmitError> {
        let now = Instant::now();
        let submitted = self.shared.change(|registry| {
            // Under the lock: a drain that has begun has seen every job that was admitted before it.
            let known = registry.claimed(&order.claim)?;
            let replayed = known.is_some();
            let job = if let Some(job) = known {
                job
            } else {
                self.ready()?;
                registry.admit(order, now)?
            };
            registry.attach_caller(job.id());
            Ok(Submitted {
                attachment: Attachment::new(Arc::clone(&self.shared), job),
                replayed,
            })
        })?;
        if !submitted.replayed {
            // A channel that is full has more tickets than there are jobs: the worker comes by anyway.
            let _ = self.shared.tickets.try_send(Ticket);
        }
        Ok(submitted)
    }

    /// Whether a request would be taken now, its cost and the queue aside.
    ///
    /// # Errors
    /// When it would not.
    pub fn ready(&self) -> Result<(), SubmitError> {
        let health = &self.shared.health;
        if health.draining() {
            return Err(SubmitError::Draining);
        }
        match health.phase() {
            Phase::Loading | Phase::WarmingUp => Err(SubmitError::Loading),
            Phase::Ready => Ok(()),
            Phase::Down | Phase::Ended => Err(SubmitError::WorkerDown),
        }
    }

    /// Whether a place is free now for `owner`.
    ///
    /// # Errors
    /// When none is, or nothing is taken.
    pub fn has_room(&self, owner: Owner) -> Result<(), SubmitError> {
        self.ready()?;
        self.shared.lock().has_room(owner, Instant::now())
    }

    /// A job that lives or is kept, if `owner` is whose it is.
    pub fn find(&self, id: JobId, owner: Owner) -> Option<Arc<Job>> {
        self.shared
            .lock()
            .find(id)
            .filter(|job| job.order().claim.owner == owner)
    }

    /// The job of this name, whoever has asked for it: for those who were given a link to one of its pictures.
    pub fn find_for_anyone(&self, id: JobId) -> Option<Arc<Job>> {
        self.shared.lock().find(id)
    }

    /// Waits for a job as one of its callers.
    pub fn attach(&self, job: &Arc<Job>) -> Attachment {
        self.shared.lock().attach(job.id());
        Attachment::new(Arc::clone(&self.shared), Arc::clone(job))
    }

    /// Image `index` of a job has been sent to its caller.
    pub fn collected_image(&self, job: &Job, index: usize) {
        self.shared.lock().kept.collected_image(job.id(), index);
    }

    /// Takes a job back. One that has ended is forgotten with its images; to one that has not, none is
    /// added any more.
    pub fn take_back(&self, job: &Arc<Job>) {
        self.shared
            .change(|registry| registry.take_back(job, Instant::now()));
    }

    /// Ends what has waited too long, and forgets what was kept long enough. To be called a few times a second.
    pub fn sweep(&self, now: Instant) {
        self.shared.change(|registry| registry.sweep(now));
    }

    /// Place in the queue: 1 is next, 0 is drawn now, none is not there any more.
    pub fn position(&self, job: &Job) -> Option<usize> {
        self.shared.lock().position(job.id())
    }

    /// Predicted time until a job is done; none for one that has ended, and before anything was drawn.
    pub fn predicted(&self, job: &Job) -> Option<Duration> {
        self.shared.lock().predicted(job.id(), Instant::now())
    }

    /// Predicted time until the worker comes to the next job of `owner`, and then that of `images` pictures.
    pub fn estimate(&self, work: Work, images: u32, owner: Owner) -> (Duration, Option<Duration>) {
        let registry = self.shared.lock();
        let drawing = registry.pace.predict(work).map(|picture| picture * images);
        (registry.wait_of(owner, Instant::now()), drawing)
    }

    /// When a kept job's pictures leave.
    pub fn expires(&self, job: &Job) -> Option<SystemTime> {
        self.shared.lock().expires(job.id())
    }

    /// Wakes whenever the line has moved.
    pub fn moves(&self) -> watch::Receiver<u64> {
        self.shared.moves.subscribe()
    }

    /// Looks at the metrics while nothing changes, so that what they say of the jobs adds up.
    pub fn at_rest<T>(&self, look: impl FnOnce(&Metrics) -> T) -> T {
        let registry = self.shared.lock();
        let is_ready = self.ready().is_ok() && !self.shared.health.leaving();
        self.shared.metrics.set_ready(is_ready);
        self.shared
            .metrics
            .set_predicted_wait(registry.wait(Instant::now()));
        look(&self.shared.metrics)
    }

    /// Sends balancers away by `/readyz`. What comes meanwhile is taken all the same.
    pub fn leave(&self) {
        self.shared.health.leave();
    }

    /// Admits nothing more, and answers all that wait. The running job goes on.
    pub fn drain(&self) {
        self.shared.change(|registry| {
            self.shared.health.drain();
            registry.stop_waiting(Stop::Draining, Instant::now());
        });
    }

    /// Stops the job that is drawn.
    pub fn stop_running(&self, why: Stop) {
        self.shared.change(|registry| {
            if let Some(job) = registry.running() {
                registry.stop(&job, why, Instant::now());
            }
        });
    }

    /// Ends the job that is drawn although the worker has not let go of it yet: the service is about to end.
    pub fn abandon_running(&self) {
        self.shared.change(|registry| {
            if let Some(job) = registry.running() {
                registry.end(&job, Ending::Stopped(Stop::Draining), Instant::now());
            }
        });
    }

    /// The job that is drawn now.
    pub fn running(&self) -> Option<Arc<Job>> {
        self.shared.lock().running()
    }

    /// Sends the worker home when it has done what it is at.
    pub fn close(&self) {
        self.shared.lock().closed = true;
        let _ = self.shared.tickets.try_send(Ticket);
    }
}

impl Assignments {
    /// Waits for the next job, at most until `until`. Blocks its thread.
    pub fn claim(&mut self, until: Option<Instant>) -> Turn {
        loop {
            match receive_until(&mut self.tickets, until) {
                Ok(Some(Ticket)) if !self.closed() => {}
                Ok(_) => return Turn::Over,
                Err(TimedOut) => return Turn::Rest,
            }
            // Before the job is seen to run: the pause before it was no stall.
            self.health().progressed();
            if let Some(job) = self.shared.change(|registry| registry.next(Instant::now())) {
                return Turn::Job(job);
            }
        }
    }

    /// Ends all that wait: the worker cannot say when it will draw again.
    pub fn refuse_waiting(&self) {
        self.shared.change(|registry| {
            for job in registry.waiting() {
                registry.abandon(&job, Ending::Failed(Failure::WorkerDown), Instant::now());
            }
        });
    }

    /// Whether the service closes.
    pub fn closed(&self) -> bool {
        self.shared.lock().closed
    }

    /// Where the worker publishes its state.
    pub fn health(&self) -> &Health {
        &self.shared.health
    }

    /// A step of the current picture is done.
    pub fn stepped(&self, job: &Job, step: usize, preview: Option<Preview>) {
        self.health().progressed();
        job.update(|progress| {
            progress.step = step;
            progress.previews.extend(preview.map(Arc::new));
        });
    }

    /// The worker begins with picture `index`.
    pub fn begun(&self, job: &Job, index: u32) {
        self.health().progressed();
        job.update(|progress| {
            progress.image_index = index;
            progress.step = 0;
        });
    }

    /// A picture is finished. Nobody is given one that was finished after its job was taken back.
    pub fn drawn(&self, job: &Job, picture: Generated) {
        self.measured(job.order().work, &picture);
        // Jobs are taken back under the lock.
        let _registry = self.shared.lock();
        if !job.is_taken_back() {
            job.update(|progress| progress.pictures.push(Arc::new(picture)));
        }
    }

    /// A picture took so long, one that was drawn for warming up included.
    pub fn measured(&self, work: Work, picture: &Generated) {
        self.health().progressed();
        self.shared.lock().pace.observe(work, &picture.timings);
    }

    /// The job has come to its end.
    pub fn ended(&self, job: &Arc<Job>, ending: Ending) {
        self.health().progressed();
        self.shared
            .change(|registry| registry.end(job, ending, Instant::now()));
    }
}

impl Drop for Assignments {
    /// Without its worker no job will ever be drawn: nobody is left waiting.
    fn drop(&mut self) {
        self.health().enter(Phase::Ended);
        self.shared.change(|registry| {
            let now = Instant::now();
            let why = if self.shared.health.draining() {
                Failure::Draining
            } else {
                Failure::Worker
            };
            for job in registry.running().into_iter().chain(registry.waiting()) {
                registry.abandon(&job, Ending::Failed(why), now);
            }
        });
    }
}
