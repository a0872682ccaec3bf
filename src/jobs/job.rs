//! One job: what it draws, how far it is, whether it shall stop. Its place in the line is the registry's affair.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::watch;
use uuid::Uuid;

use super::Order;
use crate::domain::Generated;
use crate::telemetry::JobOutcome;

/// A job's name: 32 hexadecimal digits that cannot be guessed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct JobId(Uuid);

impl JobId {
    pub(super) fn random() -> Self {
        Self(Uuid::new_v4())
    }
}

impl fmt::Display for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.simple())
    }
}

/// A text that is no job's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotAJobId;

impl FromStr for JobId {
    type Err = NotAJobId;

    fn from_str(text: &str) -> Result<Self, NotAJobId> {
        if text.len() != 32 {
            return Err(NotAJobId);
        }
        Uuid::try_parse(text).map(Self).map_err(|_| NotAJobId)
    }
}

/// Where a job stands. The last four are final.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JobState {
    /// It waits in the line.
    Queued,
    /// The worker draws it.
    Running,
    /// All its pictures are there.
    Succeeded,
    /// It will never be drawn; [`Progress::failure`] says why.
    Failed,
    /// Its caller has gone or took it back.
    Cancelled,
    /// Its deadline passed.
    Expired,
}

impl JobState {
    /// The name in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::Expired => "expired",
        }
    }

    /// Whether nothing will change any more.
    pub fn is_final(self) -> bool {
        !matches!(self, Self::Queued | Self::Running)
    }
}

/// Why a job failed. The cause is in the log: callers learn no more than this.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// A network failed or gave numbers that are no picture.
    Inference,
    /// The worker broke while it drew.
    Worker,
    /// The worker broke before it came to this job, and cannot say when it will draw again.
    WorkerDown,
    /// The service shuts down.
    Draining,
}

/// Why a job shall stop before its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Stop {
    /// Its caller has gone or took it back.
    Cancelled = 1,
    /// Its deadline passed.
    Expired,
    /// The service shuts down.
    Draining,
}

impl Stop {
    const ALL: [Self; 3] = [Self::Cancelled, Self::Expired, Self::Draining];
}

/// How a job ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// All its pictures are there.
    Succeeded,
    /// It failed.
    Failed(Failure),
    /// It was stopped.
    Stopped(Stop),
}

impl Ending {
    /// It was taken back, or nobody waits for it any more.
    pub const CANCELLED: Self = Self::Stopped(Stop::Cancelled);

    pub(super) fn state(self) -> JobState {
        match self {
            Self::Succeeded => JobState::Succeeded,
            Self::Failed(_) | Self::Stopped(Stop::Draining) => JobState::Failed,
            Self::Stopped(Stop::Cancelled) => JobState::Cancelled,
            Self::Stopped(Stop::Expired) => JobState::Expired,
        }
    }

    pub(super) fn failure(self) -> Option<Failure> {
        match self {
            Self::Failed(failure) => Some(failure),
            Self::Stopped(Stop::Draining) => Some(Failure::Draining),
            _ => None,
        }
    }

    pub(super) fn outcome(self) -> JobOutcome {
        match self {
            Self::Succeeded => JobOutcome::Succeeded,
            Self::Failed(Failure::Draining) | Self::Stopped(Stop::Draining) => JobOutcome::Drained,
            Self::Failed(_) => JobOutcome::Failed,
            Self::Stopped(Stop::Cancelled) => JobOutcome::Cancelled,
            Self::Stopped(Stop::Expired) => JobOutcome::Expired,
        }
    }
}

/// A picture in the making, from the latents of a step.
#[derive(Debug)]
pub struct Preview {
    /// Which picture of the job.
    pub image_index: u32,
    /// Which preview of that picture, from 0.
    pub partial_image_index: u8,
    /// Encoded as the picture itself will be.
    pub image: Vec<u8>,
}

/// How far a job is. Whoever looks sees the latest; nothing that was finished ever leaves it.
#[derive(Debug, Clone)]
pub struct Progress {
    /// Where it stands.
    pub state: JobState,
    /// The picture that is drawn now, from 0.
    pub image_index: u32,
    /// Steps of it that are done.
    pub step: usize,
    /// All previews so far.
    pub previews: Vec<Arc<Preview>>,
    /// The pictures that are finished.
    pub pictures: Vec<Arc<Generated>>,
    /// Time from admission to the worker's hand.
    pub queue_wait: Option<Duration>,
    /// When it came to its end.
    pub finished: Option<SystemTime>,
    /// Why it failed.
    pub failure: Option<Failure>,
}

/// One admitted job.
#[derive(Debug)]
pub struct Job {
    id: JobId,
    order: Order,
    created: SystemTime,
    admitted: Instant,
    deadline: Option<Instant>,
    stop: AtomicU8,
    progress: watch::Sender<Progress>,
}

impl Job {
    pub(super) fn new(order: Order, now: Instant) -> Self {
        let deadline = order
            .deadline
            .and_then(|deadline| now.checked_add(deadline));
        Self {
            id: JobId::random(),
            order,
            created: SystemTime::now(),
            admitted: now,
            deadline,
            stop: AtomicU8::new(0),
            progress: watch::Sender::new(Progress {
                state: JobState::Queued,
                image_index: 0,
                step: 0,
                previews: Vec::new(),
                pictures: Vec::new(),
                queue_wait: None,
                finished: None,
                failure: None,
            }),
        }
    }

    /// Its name.
    pub fn id(&self) -> JobId {
        self.id
    }

    /// What it was asked with.
    pub fn order(&self) -> &Order {
        &self.order
    }

    /// When it was admitted, by the clock on the wall.
    pub fn created(&self) -> SystemTime {
        self.created
    }

    /// When it was admitted.
    pub fn admitted(&self) -> Instant {
        self.admitted
    }

    /// When its caller stops waiting.
    pub fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    /// How far it is now.
    pub fn progress(&self) -> Progress {
        self.progress.borrow().clone()
    }

    /// Where it stands now.
    pub fn state(&self) -> JobState {
        self.progress.borrow().state
    }

    /// Follows it from here on.
    pub fn follow(&self) -> watch::Receiver<Progress> {
        self.progress.subscribe()
    }

    /// Waits for its end.
    pub async fn finished(&self) -> Progress {
        let mut follow = self.follow();
        match follow.wait_for(|progress| progress.state.is_final()).await {
            Ok(progress) => progress.clone(),
            // The sender is this job's own, and the job is borrowed here.
            Err(_) => self.progress(),
        }
    }

    /// Why it shall stop, if it shall. Looked at every few milliseconds while it is drawn.
    pub fn stop(&self) -> Option<Stop> {
        let asked = self.stop.load(Ordering::Relaxed);
        let asked = Stop::ALL.into_iter().find(|&why| why as u8 == asked);
        asked.or_else(|| {
            let deadline = self.deadline?;
            (Instant::now() >= deadline).then_some(Stop::Expired)
        })
    }

    /// Whether every image that was asked for is finished.
    pub(super) fn has_all_images(&self) -> bool {
        self.progress.borrow().pictures.len() == self.order.images as usize
    }

    /// Whether nobody wants it any more.
    pub(super) fn is_taken_back(&self) -> bool {
        self.stop.load(Ordering::Relaxed) == Stop::Cancelled as u8
    }

    /// Asks it to stop. The first reason stays.
    pub(super) fn ask_to_stop(&self, why: Stop) {
        let _ = self
            .stop
            .compare_exchange(0, why as u8, Ordering::Relaxed, Ordering::Relaxed);
    }

    pub(super) fn update(&self, change: impl FnOnce(&mut Progress)) {
        self.progress.send_modify(change);
    }

    /// Memory that its pictures and previews take.
    pub(super) fn bytes(&self) -> usize {
        let progress = self.progress.borrow();
        // Each picture's receipt has the prompts with it.
        let request = &self.order.first;
        let prompts = request.prompt.as_str().len() + request.negative_prompt.as_str().len();
        let pictures: usize = progress
            .pictures
            .iter()
            .map(|it| it.image.len() + prompts)
            .sum();
        let previews: usize = progress.previews.iter().map(|it| it.image.len()).sum();
        pictures + previews
    }

    /// Steps that were not walked.
    pub(super) fn steps_left(&self) -> u64 {
        let progress = self.progress.borrow();
        let done = progress.pictures.len() as u64 * self.order.first.steps.count() as u64;
        // The step counter belongs to a picture that is not among the finished ones.
        let current = if progress.pictures.len() == progress.image_index as usize {
            progress.step as u64
        } else {
            0
        };
        self.order.steps().saturating_sub(done + current)
    }
}
