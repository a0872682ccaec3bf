//! The worker: one named thread that builds the pipeline, owns its compiled models, and draws one job at a time.
//!
//! A job that fails takes nothing with it: its caller is told, and where the fault may have left the models in pieces
//! (a panic, an error of the runtime, files that were written over) the worker builds them anew before it draws again. Until it has, nobody is admitted.

mod draw;
mod memory;
mod sizes;
mod warm_up;

use std::fmt::Display;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use thiserror::Error;
use tokio::sync::oneshot;

use crate::jobs::{Assignments, Ending, Failure, Job, Phase, Stop, Turn};
use crate::pipeline::{Generate, LatentToRgb, MemoryLimit, PipelineError, Planner};
use crate::telemetry::{Metrics, RestartReason};
pub use memory::{hold_memory, measure_memory};
use sizes::Sizes;

/// The thread's name, as debuggers and `top -H` show it.
const NAME: &str = "pixart-worker";
/// Waits between attempts to build the pipeline anew: doubled from the first to the last.
const FIRST_WAIT: Duration = Duration::from_secs(1);
const LAST_WAIT: Duration = Duration::from_secs(60);
/// How often a waiting worker looks whether the service closes.
const LOOK: Duration = Duration::from_millis(50);

/// What the worker draws with. Compiled models are made and dropped on the worker's own thread.
pub struct Built {
    /// Draws.
    pub generate: Box<dyn Generate>,
    /// What is known of the model without drawing.
    pub planner: Arc<Planner>,
    /// Time of reading and compiling.
    pub load: Duration,
    /// What bounds memory; none where nothing does.
    pub memory: Option<MemoryLimit>,
}

/// Why the worker never became ready.
#[derive(Debug, Error)]
pub enum StartError<E> {
    /// The model cannot be loaded.
    #[error("{0}")]
    Build(E),
    /// The model is loaded and cannot draw.
    #[error("the first picture failed: {0}")]
    WarmUp(#[source] PipelineError),
    /// Something panicked meanwhile; the log has what.
    #[error("a panic while the model was loaded: the log says where")]
    Panicked,
    /// The service was told to stop before the model was ready.
    #[error("stopped while loading")]
    Stopped,
}

/// A running worker.
pub struct Worker<E> {
    /// Its thread.
    pub thread: JoinHandle<()>,
    /// Whether the first start went well, as soon as that is known.
    pub started: oneshot::Receiver<Result<(), StartError<E>>>,
}

/// Starts the worker. `build` is called on its thread, at the start and after every fault.
///
/// # Errors
/// When the system gives no thread.
pub fn spawn<E, Build>(
    build: Build,
    assignments: Assignments,
    warm_up: bool,
    metrics: Metrics,
) -> io::Result<Worker<E>>
where
    E: Display + Send + 'static,
    Build: FnMut() -> Result<Built, E> + Send + 'static,
{
    let (tell, started) = oneshot::channel();
    let bench = Bench {
        build,
        assignments,
        warm_up,
        metrics,
    };
    let thread = thread::Builder::new()
        .name(NAME.to_owned())
        .spawn(move || bench.work(tell))?;
    Ok(Worker { thread, started })
}

/// Where the worker works.
struct Bench<Build> {
    build: Build,
    assignments: Assignments,
    warm_up: bool,
    metrics: Metrics,
}

/// A pipeline that has drawn its first pictures.
struct Ready {
    generate: Box<dyn Generate>,
    preview: Option<LatentToRgb>,
    sizes: Sizes,
    memory: Option<MemoryLimit>,
}

impl<E, Build> Bench<Build>
where
    E: Display,
    Build: FnMut() -> Result<Built, E>,
{
    fn work(mut self, tell: oneshot::Sender<Result<(), StartError<E>>>) {
        let mut ready = match self.make_ready(Phase::Loading) {
            Ok(ready) => {
                // Nobody may want to know any more: then the service closes, and the next look at the line says so.
                let _ = tell.send(Ok(()));
                ready
            }
            Err(error) => {
                let _ = tell.send(Err(error));
                return;
            }
        };
        loop {
            let until = self.rest(&mut ready);
            let job = match self.assignments.claim(until) {
                Turn::Job(job) => job,
                Turn::Rest => continue,
                Turn::Over => return,
            };
            let span = job.order().span.clone();
            let mut may_repeat = true;
            while let Some(reason) = span.in_scope(|| self.draw(&mut ready, &job, may_repeat)) {
                self.metrics.worker_restarted(reason);
                // The broken one goes first: two models may not fit into memory.
                drop(ready);
                match self.make_ready_again(&job) {
                    Some(again) => ready = again,
                    None => return,
                }
                if job.state().is_final() {
                    break;
                }
                may_repeat = false;
            }
        }
    }

    /// Puts away what is idle. Returns when to look again.
    fn rest(&self, ready: &mut Ready) -> Option<Instant> {
        let rest = ready.generate.rest(Instant::now());
        self.metrics.set_text_encoder_resident(rest.resident);
        self.metrics.set_prompt_cache_bytes(rest.embedding_bytes);
        if rest.released {
            tracing::info!("the text encoder was idle and has left memory");
        }
        rest.again
    }

    /// Draws a job to its end. Returns why the pipeline must be built anew, if it must. A job that found too little memory has
    /// not ended then where it `may_repeat`: what was kept of images before it is gone in a new pipeline.
    fn draw(
        &mut self,
        ready: &mut Ready,
        job: &Arc<Job>,
        may_repeat: bool,
    ) -> Option<RestartReason> {
        let drawn = catch_unwind(AssertUnwindSafe(|| {
            draw::draw(ready, &self.assignments, &self.metrics, job)
        }));
        let (ending, broken) = match drawn {
            Ok(Ok(())) => (Ending::Succeeded, None),
            Ok(Err(PipelineError::Cancelled)) => {
                let why = job.stop().unwrap_or(Stop::Cancelled);
                (Ending::Stopped(why), None)
            }
            Ok(Err(error)) if may_repeat && error.is_out_of_memory() && job.stop().is_none() => {
                tracing::warn!(job = %job.id(), %error, "too little memory for an image: it is drawn again when the model has been loaded anew");
                self.assignments.health().enter(Phase::Down);
                return Some(RestartReason::Memory);
            }
            Ok(Err(error)) => {
                tracing::error!(job = %job.id(), %error, "a picture failed");
                // A network that was stopped and does not come to rest fails nobody but who stopped it.
                let ending = job
                    .stop()
                    .map_or(Ending::Failed(Failure::Inference), Ending::Stopped);
                let broken = matches!(
                    error,
                    PipelineError::Engine { .. }
                        | PipelineError::Shape { .. }
                        | PipelineError::Model(_)
                );
                (ending, broken.then_some(RestartReason::Engine))
            }
            Err(_panic) => {
                // The panic's own words are in the log already, by the hook.
                tracing::error!(job = %job.id(), "the worker panicked while it drew");
                (Ending::Failed(Failure::Worker), Some(RestartReason::Panic))
            }
        };
        if broken.is_some() {
            // Before the caller hears of it: whoever asks again at once must not be admitted to a broken worker.
            self.assignments.health().enter(Phase::Down);
        }
        self.assignments.ended(job, ending);
        broken
    }

    /// Builds and warms up, again and again with growing pauses; none when the service closes first. A `job` that is to be drawn
    /// again waits for the first attempt alone.
    fn make_ready_again(&mut self, job: &Arc<Job>) -> Option<Ready> {
        let mut wait = FIRST_WAIT;
        loop {
            match self.make_ready(Phase::Down) {
                Ok(ready) => {
                    tracing::info!("the worker is ready again");
                    return Some(ready);
                }
                Err(StartError::Stopped) => return None,
                Err(error) => {
                    self.assignments.ended(job, Ending::Failed(Failure::Worker));
                    self.assignments.refuse_waiting();
                    tracing::error!(%error, retry_seconds = wait.as_secs(), "the model cannot be loaded again");
                }
            }
            let until = Instant::now() + wait;
            while Instant::now() < until {
                if self.assignments.closed() {
                    return None;
                }
                thread::sleep(LOOK);
            }
            wait = (wait * 2).min(LAST_WAIT);
        }
    }

    /// Builds and warms up; what panics meanwhile is an attempt that has failed.
    fn make_ready(&mut self, phase: Phase) -> Result<Ready, StartError<E>> {
        catch_unwind(AssertUnwindSafe(|| self.build_and_warm_up(phase)))
            .unwrap_or(Err(StartError::Panicked))
    }

    fn build_and_warm_up(&mut self, phase: Phase) -> Result<Ready, StartError<E>> {
        let health = self.assignments.health();
        health.enter(phase);
        // What was freed goes first, and the data limit is for drawing: loading takes more for a moment, as it did at the start.
        memory::make_room();
        let mut built = (self.build)().map_err(StartError::Build)?;
        self.metrics.model_loaded(built.load);
        health.loaded(Arc::clone(&built.planner));
        let mut preview = None;
        if self.warm_up {
            if phase == Phase::Loading {
                health.enter(Phase::WarmingUp);
            }
            preview = warm_up::warm_up(&mut built, &self.assignments, &self.metrics).map_err(
                |error| match error {
                    PipelineError::Cancelled => StartError::Stopped,
                    error => StartError::WarmUp(error),
                },
            )?;
        }
        if self.assignments.closed() {
            return Err(StartError::Stopped);
        }
        let budget = built.memory.and_then(|limit| {
            let generate = built.generate.as_mut();
            measure_memory(limit, &built.planner, generate, self.warm_up)
        });
        self.assignments.health().measured(budget);
        self.assignments.health().enter(Phase::Ready);
        let own_size = self.warm_up.then(|| built.planner.defaults().size);
        Ok(Ready {
            generate: built.generate,
            preview,
            sizes: Sizes::new(own_size),
            memory: built.memory,
        })
    }
}
