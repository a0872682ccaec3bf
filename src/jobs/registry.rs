//! All jobs and their order, behind one lock: every change of a job's place or end is made here, and counted here.
//!
//! Invariants: a job is in the line, running, or ended, and ends once; `accepted = ended + running + waiting`; at most
//! `capacity` jobs wait behind the one that is drawn; what is kept stays below its bounds.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use super::finished;
use super::kept::{self, Kept};
use super::pace::Pace;
use super::turns;
use super::{
    Bounds, Claim, Ending, Job, JobId, JobState, Keeping, Order, Owner, Stop, SubmitError,
};
use crate::telemetry::Metrics;

/// See the module.
pub(super) struct Registry {
    bounds: Bounds,
    line: VecDeque<Arc<Job>>,
    running: Option<Running>,
    entries: HashMap<JobId, Entry>,
    keys: HashMap<(Owner, String), JobId>,
    /// What ended jobs have come to, and room for what the others will.
    pub(super) kept: Kept,
    /// Counts the moves of the line.
    pub(super) moves: u64,
    pub(super) pace: Pace,
    pub(super) closed: bool,
    metrics: Metrics,
}

struct Running {
    job: Arc<Job>,
    since: Instant,
}

/// What is known of a job beside the job itself.
struct Entry {
    job: Arc<Job>,
    /// Callers that wait for it.
    attached: usize,
    /// Until when it goes on without a caller: one whose connection was lost, or one that has yet to follow it.
    orphan_until: Option<Instant>,
    /// Whether a lost connection has left it behind before: its pictures are kept for the caller that comes back.
    was_orphan: bool,
}

impl Entry {
    /// Whether what it came to is kept although nobody waits for it.
    fn is_kept(&self) -> bool {
        let order = self.job.order();
        match order.keeping {
            Keeping::All => true,
            Keeping::Pictures => self.has_succeeded(),
            Keeping::Nothing => {
                // Its caller may ask again and shall not wait again.
                self.has_succeeded() && (self.was_orphan || order.claim.idempotency_key.is_some())
            }
        }
    }

    /// Whether it has come to its pictures, or still may.
    fn is_worth_waiting_for(&self) -> bool {
        let is_on_its_way = !self.job.state().is_final() && self.job.stop().is_none();
        self.has_succeeded() || is_on_its_way
    }

    fn has_succeeded(&self) -> bool {
        self.job.state() == JobState::Succeeded
    }
}

impl Registry {
    pub(super) fn new(bounds: Bounds, metrics: Metrics) -> Self {
        Self {
            bounds,
            line: VecDeque::new(),
            running: None,
            entries: HashMap::new(),
            keys: HashMap::new(),
            kept: Kept::new(bounds),
            moves: 0,
            pace: Pace::default(),
            closed: false,
            metrics,
        }
    }

    /// The job that this request asked for before, if it did: by its key, or left behind by a lost connection.
    pub(super) fn claimed(&self, claim: &Claim) -> Result<Option<Arc<Job>>, SubmitError> {
        if let Some(key) = &claim.idempotency_key
            && let Some(entry) = self
                .keys
                .get(&(claim.owner, key.clone()))
                .and_then(|id| self.entries.get(id))
        {
            if entry.job.order().claim.fingerprint != claim.fingerprint {
                return Err(SubmitError::KeyReused);
            }
            if entry.is_worth_waiting_for() {
                return Ok(Some(Arc::clone(&entry.job)));
            }
        }
        if !claim.retry {
            return Ok(None);
        }
        let left_behind = self.entries.values().find(|entry| {
            let theirs = &entry.job.order().claim;
            entry.was_orphan
                && entry.attached == 0
                && entry.is_worth_waiting_for()
                && theirs.owner == claim.owner
                && theirs.fingerprint == claim.fingerprint
        });
        Ok(left_behind.map(|entry| Arc::clone(&entry.job)))
    }

    /// Whether one more of `owner` may come.
    pub(super) fn has_room(&self, owner: Owner, now: Instant) -> Result<(), SubmitError> {
        let present = self.line.len() + usize::from(self.running.is_some());
        if present > self.bounds.capacity {
            return Err(SubmitError::QueueFull {
                waiting: self.line.len(),
                capacity: self.bounds.capacity,
                retry_after: self.wait(now),
            });
        }
        let share = kept::share(self.bounds.capacity, self.bounds.owners);
        let own = turns::of(self.present(), owner);
        if own > share {
            return Err(SubmitError::ShareFull {
                present: own,
                share: share + 1,
                retry_after: self.wait_until_first_of(owner, now),
            });
        }
        Ok(())
    }

    /// The job that is drawn and those that wait.
    fn present(&self) -> impl Iterator<Item = &Arc<Job>> {
        let running = self.running.iter().map(|running| &running.job);
        running.chain(&self.line)
    }

    /// Predicted time until one of `owner`'s jobs is done.
    fn wait_until_first_of(&self, owner: Owner, now: Instant) -> Duration {
        self.present()
            .find(|job| job.order().claim.owner == owner)
            .and_then(|job| self.predicted(job.id(), now))
            .unwrap_or_default()
    }

    /// Where in the line the next job of `owner` goes.
    fn place_of(&self, owner: Owner) -> usize {
        let drawn = self.running.as_ref().map(|running| &running.job);
        turns::place(drawn, &self.line, owner)
    }

    /// Gives the request its place in the line.
    pub(super) fn admit(&mut self, order: Order, now: Instant) -> Result<Arc<Job>, SubmitError> {
        let owner = order.claim.owner;
        self.has_room(owner, now)?;
        let is_promised = order.keeping != Keeping::Nothing;
        if is_promised {
            self.kept
                .has_room(&order, now)
                .map_err(|full| SubmitError::ResultsFull {
                    is_own_share: full.is_own_share,
                    retry_after: full.retry_after,
                })?;
        }
        let place = self.place_of(owner);
        let wait = self.wait_at(place, now);
        if let (Some(deadline), Some(drawing)) = (order.deadline, self.drawing(&order))
            && wait + drawing > deadline
        {
            return Err(SubmitError::DeadlineTooShort { wait, drawing });
        }
        let job = Arc::new(Job::new(order, now));
        let claim = &job.order().claim;
        if let Some(key) = &claim.idempotency_key {
            self.keys.insert((claim.owner, key.clone()), job.id());
        }
        self.entries.insert(
            job.id(),
            Entry {
                job: Arc::clone(&job),
                attached: 0,
                orphan_until: None,
                was_orphan: false,
            },
        );
        if is_promised {
            self.kept.promise(job.id(), job.order());
        }
        self.line.insert(place, Arc::clone(&job));
        self.metrics.accepted();
        self.show_line();
        Ok(job)
    }

    /// Somebody begins to wait for the job.
    pub(super) fn attach(&mut self, id: JobId) {
        if let Some(entry) = self.entries.get_mut(&id) {
            entry.attached += 1;
            if entry.job.order().keeping == Keeping::All {
                entry.orphan_until = None;
            }
        }
    }

    /// The caller whose job it is begins to wait for it, or has come back.
    pub(super) fn attach_caller(&mut self, id: JobId) {
        self.attach(id);
        if let Some(entry) = self.entries.get_mut(&id) {
            // What was left behind is picked up once: the next request of the same words is another one.
            entry.orphan_until = None;
            entry.was_orphan = false;
        }
    }

    /// A caller has gone. A job that nobody waits for is stopped, now or, where its caller may come back, at `lingers`.
    pub(super) fn detach(&mut self, id: JobId, lingers: Option<Instant>, now: Instant) {
        let Some(entry) = self.entries.get_mut(&id) else {
            return;
        };
        entry.attached = entry.attached.saturating_sub(1);
        if entry.attached > 0 {
            return;
        }
        let order = entry.job.order();
        if order.keeping == Keeping::All {
            entry.orphan_until = order.abandon_after.map(|grace| now + grace);
            return;
        }
        if entry.job.state().is_final() {
            if !entry.is_kept() {
                self.forget(id);
            }
        } else if lingers.is_some() {
            entry.orphan_until = lingers;
            entry.was_orphan = true;
        } else if entry.orphan_until.is_none() {
            let job = Arc::clone(&entry.job);
            self.stop(&job, Stop::Cancelled, now);
        }
    }

    /// The worker takes the next job.
    pub(super) fn next(&mut self, now: Instant) -> Option<Arc<Job>> {
        let job = loop {
            let job = self.line.pop_front()?;
            match job.stop() {
                None => break job,
                Some(why) => self.end(&job, Ending::Stopped(why), now),
            }
        };
        let queue_wait = now.saturating_duration_since(job.admitted());
        self.metrics.queue_wait(queue_wait);
        job.update(|progress| {
            progress.state = JobState::Running;
            progress.queue_wait = Some(queue_wait);
        });
        self.running = Some(Running {
            job: Arc::clone(&job),
            since: now,
        });
        self.show_line();
        Some(job)
    }

    /// A caller wants nothing more of a job: it is stopped, or where nothing is left to stop, forgotten.
    pub(super) fn take_back(&mut self, job: &Arc<Job>, now: Instant) {
        if job.has_all_images() {
            // The worker has yet to say that it has ended.
            self.end(job, Ending::Succeeded, now);
        }
        if job.state().is_final() {
            self.forget(job.id());
        } else {
            self.stop(job, Stop::Cancelled, now);
        }
    }

    /// Stops a job: one that waits ends here, one that is drawn ends in the worker's hand within milliseconds.
    pub(super) fn stop(&mut self, job: &Arc<Job>, why: Stop, now: Instant) {
        job.ask_to_stop(why);
        // Who asks again with its key asks for another one.
        self.release_key(job);
        if job.state() == JobState::Queued {
            self.abandon(job, Ending::Stopped(why), now);
        }
    }

    /// Ends a job that nobody will draw.
    pub(super) fn abandon(&mut self, job: &Arc<Job>, ending: Ending, now: Instant) {
        self.line.retain(|waiting| waiting.id() != job.id());
        self.end(job, ending, now);
    }

    /// Stops all that wait.
    pub(super) fn stop_waiting(&mut self, why: Stop, now: Instant) {
        for job in self.line.clone() {
            self.stop(&job, why, now);
        }
    }

    /// The job comes to its one end.
    pub(super) fn end(&mut self, job: &Arc<Job>, ending: Ending, now: Instant) {
        if job.state().is_final() {
            return;
        }
        // What was finished after the job was taken back is not among its images.
        let is_too_late = job.is_taken_back() && ending == Ending::Succeeded;
        let ending = if is_too_late {
            Ending::CANCELLED
        } else {
            ending
        };
        if self
            .running
            .as_ref()
            .is_some_and(|running| running.job.id() == job.id())
        {
            self.running = None;
        }
        if matches!(ending, Ending::Stopped(_)) {
            self.metrics.steps_saved(job.steps_left());
        }
        job.update(|progress| {
            progress.state = ending.state();
            progress.failure = ending.failure();
            progress.finished = Some(SystemTime::now());
        });
        self.metrics.finished(ending.outcome());
        finished::log(job, ending, now);
        self.show_line();
        if ending != Ending::Succeeded {
            self.release_key(job);
        }
        self.keep_or_forget(job, now);
    }

    fn keep_or_forget(&mut self, job: &Arc<Job>, now: Instant) {
        let Some(entry) = self.entries.get_mut(&job.id()) else {
            return;
        };
        if entry.is_kept() {
            let owner = job.order().claim.owner;
            let has_succeeded = job.state() == JobState::Succeeded;
            self.kept
                .keep(job.id(), owner, (job.bytes(), has_succeeded), now);
            while let Some(id) = self.kept.next_to_go() {
                self.forget(id);
            }
        } else if entry.attached == 0 {
            self.forget(job.id());
        } else {
            self.kept.forget(job.id());
        }
    }

    /// Removes an ended job from memory.
    pub(super) fn forget(&mut self, id: JobId) {
        let Some(entry) = self.entries.remove(&id) else {
            return;
        };
        self.kept.forget(id);
        self.release_key(&entry.job);
    }

    fn release_key(&mut self, job: &Job) {
        let claim = &job.order().claim;
        if let Some(key) = &claim.idempotency_key {
            let key = (claim.owner, key.clone());
            if self.keys.get(&key) == Some(&job.id()) {
                self.keys.remove(&key);
            }
        }
    }

    /// Ends what has waited too long and forgets what was kept long enough.
    pub(super) fn sweep(&mut self, now: Instant) {
        for job in self.line.clone() {
            if let Some(why) = job.stop() {
                self.stop(&job, why, now);
            }
        }
        let lost: Vec<Arc<Job>> = self
            .entries
            .values()
            .filter(|entry| entry.orphan_until.is_some_and(|until| until <= now))
            .filter(|entry| !entry.job.state().is_final())
            .map(|entry| Arc::clone(&entry.job))
            .collect();
        for job in lost {
            if let Some(entry) = self.entries.get_mut(&job.id()) {
                entry.orphan_until = None;
            }
            self.stop(&job, Stop::Cancelled, now);
        }
        while let Some(id) = self.kept.next_expired(now) {
            self.forget(id);
        }
    }

    pub(super) fn find(&self, id: JobId) -> Option<Arc<Job>> {
        self.entries.get(&id).map(|entry| Arc::clone(&entry.job))
    }

    pub(super) fn running(&self) -> Option<Arc<Job>> {
        self.running
            .as_ref()
            .map(|running| Arc::clone(&running.job))
    }

    pub(super) fn waiting(&self) -> VecDeque<Arc<Job>> {
        self.line.clone()
    }

    /// Place in the queue: 1 is next, 0 is drawn now, none is not (or no longer) there.
    pub(super) fn position(&self, id: JobId) -> Option<usize> {
        if self
            .running
            .as_ref()
            .is_some_and(|running| running.job.id() == id)
        {
            return Some(0);
        }
        let index = self.line.iter().position(|job| job.id() == id)?;
        Some(index + 1)
    }

    /// Time of drawing all pictures of an order; none before anything was drawn.
    pub(super) fn drawing(&self, order: &Order) -> Option<Duration> {
        self.pace
            .predict(order.work)
            .map(|picture| picture * order.images)
    }

    /// Predicted time until the worker has done all that is here.
    pub(super) fn wait(&self, now: Instant) -> Duration {
        self.wait_at(self.line.len(), now)
    }

    /// Predicted time until the worker comes to the next job of `owner`.
    pub(super) fn wait_of(&self, owner: Owner, now: Instant) -> Duration {
        self.wait_at(self.place_of(owner), now)
    }

    /// Predicted time until the worker has done what is before `place` in the line.
    fn wait_at(&self, place: usize, now: Instant) -> Duration {
        let before: Duration = self
            .line
            .iter()
            .take(place)
            .filter_map(|job| self.drawing(job.order()))
            .sum();
        self.left_of_running(now) + before
    }

    /// Predicted time until this job is done; none for one that has ended, and before anything was drawn.
    pub(super) fn predicted(&self, id: JobId, now: Instant) -> Option<Duration> {
        let position = self.position(id)?;
        self.drawing(self.entries.get(&id)?.job.order())?;
        Some(self.wait_at(position, now))
    }

    /// Nothing is left of a job that was asked to stop: it lets go within one call of the engine.
    fn left_of_running(&self, now: Instant) -> Duration {
        self.running
            .as_ref()
            .filter(|running| running.job.stop().is_none())
            .and_then(|running| {
                let whole = self.drawing(running.job.order())?;
                Some(whole.saturating_sub(now.saturating_duration_since(running.since)))
            })
            .unwrap_or_default()
    }

    /// When a kept job's pictures leave.
    pub(super) fn expires(&self, id: JobId) -> Option<SystemTime> {
        self.kept.since(id)?;
        self.find(id)?
            .progress()
            .finished?
            .checked_add(self.bounds.ttl)
    }

    fn show_line(&mut self) {
        self.moves += 1;
        self.metrics
            .set_line(usize::from(self.running.is_some()), self.line.len());
    }
}
