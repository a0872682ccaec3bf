//! A job as server-sent events: what has changed since the last look, in order, nothing twice and nothing left out.
//!
//! A follower keeps a mark of what it has told. It wakes when the job or the line changes, compares, and tells the
//! difference; so a slow reader skips places in the queue and steps, and never a picture. Dropping it is going away.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::{HeaderValue, header};
use axum::response::Response;
use futures_util::Stream;
use futures_util::stream;
use serde_json::Value;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use super::answer::{self, Pictures};
use super::context::RequestId;
use super::drawing::Note;
use super::meter::{Meter, outcome};
use super::pieces::{File, Pieces};
use super::refusals::ending;
use super::service::Service;
use crate::domain::Generated;
use crate::jobs::{Attachment, JobState, Preview, Progress};
use crate::pipeline::Planner;
use crate::telemetry::RequestOutcome;

/// A comment goes out this often while nothing happens, so that proxies keep the connection.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// Something that has happened to a job.
pub(super) enum Happened<'a> {
    /// Its place in the queue is known or has changed: 1 is next.
    Queued { position: usize },
    /// The worker has taken it.
    Started,
    /// Steps of picture `image_index` are done.
    Step { image_index: u32, step: usize },
    /// A preview is there.
    Partial(&'a Arc<Preview>),
    /// Picture `index` is finished.
    Picture {
        index: usize,
        picture: &'a Arc<Generated>,
    },
    /// It is over.
    Ended(&'a Progress),
}

/// A caller who follows a job, and what the telling needs. Dropping it is going away.
pub(super) struct Following {
    pub(super) service: Service,
    pub(super) attachment: Attachment,
    pub(super) planner: Arc<Planner>,
    pub(super) pictures: Pictures,
    pub(super) notes: Vec<Note>,
    pub(super) request_id: Option<RequestId>,
    /// The request that is answered so; none where a job is only looked at.
    pub(super) meter: Option<Meter>,
}

impl Following {
    /// Predicted time until the job is done.
    pub(super) fn predicted_seconds(&self) -> Option<f64> {
        let predicted = self.service.jobs().predicted(&self.attachment)?;
        Some(predicted.as_secs_f64())
    }

    /// To be called when image `index` has been sent: it need not be kept for this caller any longer.
    pub(super) fn collects(&self, index: usize) -> impl FnOnce() + Send + 'static {
        let jobs = self.service.jobs().clone();
        let job = Arc::clone(self.attachment.job());
        move || jobs.collected_image(&job, index)
    }

    /// Counts the request as answered, and says why there is no picture where there is none.
    pub(super) fn ended(&mut self, progress: &Progress) -> Option<Value> {
        let error = ending(progress);
        if let Some(meter) = &mut self.meter {
            meter.answered(
                error
                    .as_ref()
                    .map_or(RequestOutcome::Ok, |error| outcome(error.code())),
            );
        }
        error.map(|error| error.json(self.request_id.as_ref()))
    }
}

/// How a face puts what has happened into events: several, one, or none.
pub(super) type Tell = fn(&mut Following, Happened<'_>, &mut VecDeque<Event>);

/// The answer that follows a job: proxies are asked not to hold the events back.
pub(super) fn answer(following: Following, tell: Tell) -> Response {
    let id = following.attachment.id().to_string();
    let mut response = Response::new(Body::from_stream(follow(following, tell)));
    let headers = response.headers_mut();
    let events = HeaderValue::from_static("text/event-stream");
    headers.insert(header::CONTENT_TYPE, events);
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    answer::set(headers, answer::JOB_ID, &id);
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    response
}

/// Follows a job to its end.
fn follow(
    following: Following,
    tell: Tell,
) -> impl Stream<Item = Result<Bytes, Infallible>> + Send {
    let follower = Follower {
        progress: following.attachment.follow(),
        moves: following.service.jobs().moves(),
        following,
        tell,
        told: Told::default(),
        pending: VecDeque::new(),
    };
    stream::unfold(follower, |mut follower| async {
        let bytes = follower.next().await?;
        Some((Ok(bytes), follower))
    })
}

/// What is sent of something that has happened.
#[derive(Debug)]
pub(super) struct Event(Pieces);

impl Event {
    /// An event with a name and JSON, and with the file that goes into the JSON's hole.
    pub(super) fn new(name: &str, data: &Value, file: Option<File>) -> Self {
        // JSON has no line breaks, which is all that an event's data must not have.
        let data = Pieces::json(data, file);
        Self(data.between(format!("event: {name}\ndata: "), "\n\n"))
    }

    /// The same, and `act` when it has been sent.
    #[must_use]
    pub(super) fn when_sent(self, act: impl FnOnce() + Send + 'static) -> Self {
        Self(self.0.when_sent(act))
    }

    /// A line that readers skip.
    pub(super) fn comment(text: &str) -> Self {
        Self(Pieces::text(format!(": {text}\n\n")))
    }
}

/// The mark of what was told.
#[derive(Default)]
struct Told {
    position: Option<usize>,
    started: bool,
    step: (u32, usize),
    previews: usize,
    pictures: usize,
    ended: bool,
}

struct Follower {
    following: Following,
    tell: Tell,
    progress: watch::Receiver<Progress>,
    moves: watch::Receiver<u64>,
    told: Told,
    pending: VecDeque<Event>,
}

impl Follower {
    async fn next(&mut self) -> Option<Bytes> {
        let quiet_until = Instant::now() + KEEP_ALIVE;
        loop {
            while let Some(Event(event)) = self.pending.front_mut() {
                if let Some(bytes) = event.next_chunk() {
                    return Some(bytes);
                }
                self.pending.pop_front();
            }
            if self.told.ended {
                return None;
            }
            self.look();
            if !self.pending.is_empty() || self.told.ended {
                continue;
            }
            let waits = !self.told.started;
            tokio::select! {
                changed = self.progress.changed() => changed.ok()?,
                moved = self.moves.changed(), if waits => moved.ok()?,
                () = sleep_until(quiet_until) => self.pending.push_back(Event::comment("keep-alive")),
            }
        }
    }

    /// Tells what is new.
    fn look(&mut self) {
        let now = self.progress.borrow_and_update().clone();
        let told = &mut self.told;
        let mut tell =
            |happened: Happened<'_>| (self.tell)(&mut self.following, happened, &mut self.pending);
        if now.state == JobState::Queued {
            self.moves.mark_unchanged();
            let jobs = self.following.service.jobs();
            let position = jobs
                .position(&self.following.attachment)
                .filter(|&position| position > 0);
            if position != told.position
                && let Some(position) = position
            {
                told.position = Some(position);
                (self.tell)(
                    &mut self.following,
                    Happened::Queued { position },
                    &mut self.pending,
                );
            }
            return;
        }
        if now.queue_wait.is_some() && !told.started {
            told.started = true;
            tell(Happened::Started);
        }
        // Previews and pictures in the order in which they were made: those of a picture go before it.
        while told.pictures < now.pictures.len() || told.previews < now.previews.len() {
            match now.previews.get(told.previews) {
                Some(preview) if preview.image_index as usize <= told.pictures => {
                    told.previews += 1;
                    tell(Happened::Partial(preview));
                }
                _ => {
                    let index = told.pictures;
                    told.pictures += 1;
                    tell(Happened::Picture {
                        index,
                        picture: &now.pictures[index],
                    });
                }
            }
        }
        let step = (now.image_index, now.step);
        if now.state == JobState::Running && step.1 > 0 && step != told.step {
            told.step = step;
            tell(Happened::Step {
                image_index: step.0,
                step: step.1,
            });
        }
        if now.state.is_final() {
            told.ended = true;
            tell(Happened::Ended(&now));
        }
    }
}
