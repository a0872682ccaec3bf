//! The service put together: worker, jobs, router, listeners, signals; and taken down again without losing anybody.
//!
//! ```text
//! bind → start the worker → serve (503 while the model loads) → ready → … → SIGTERM → (lame duck) → drain → the running job → exit 0
//! ```

use std::fs;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::{App, descriptors, memory};
use crate::config::Settings;
use crate::convert::Progress;
use crate::domain::{GenerateRequest, Generated, Prompt};
use crate::engine::{Runtime, give_back_memory, restore_reserve};
use crate::http::server::{ServerLimits, serve};
use crate::http::{Service, VITAL, metrics_router, router};
use crate::jobs::{Bounds, Jobs, Stop};
use crate::model::{HeldFiles, NotebookFiles};
use crate::pipeline::{AtRest, Generate, Pipeline, PipelineError, Watch};
use crate::telemetry::{BuildInfo, Metrics};
use crate::threads::check_available;
use crate::worker::{self, Built, StartError};

/// How often deadlines, lost callers and old results are looked at.
const SWEEP: Duration = Duration::from_millis(100);
/// Without a picture for so long, the service has time for its memory; and again after each such pause.
const IDLE: Duration = Duration::from_secs(1);
const BETWEEN: Duration = Duration::from_secs(30);
/// What shutting down may take beyond the grace period, altogether below a second: the running step is stopped, the last
/// answers are sent, the worker puts its models away.
const STOPPING: Duration = Duration::from_millis(300);
const LAST_ANSWERS: Duration = Duration::from_millis(300);
const LEAVING: Duration = Duration::from_millis(200);

/// Something to tell the person who started the service.
pub trait Announce {
    /// The address is bound, and the model loads.
    fn bound(&mut self, address: SocketAddr);
    /// Pictures can be asked for.
    fn ready(&mut self, address: SocketAddr);
}

/// How the service ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// Everything has been put away.
    Cleanly,
    /// All is answered and the worker still computes: only leaving the process ends it.
    WorkerBusy,
}

impl App {
    /// Serves until a signal comes. A second signal ends the process at once, with the exit code `second_signal`.
    ///
    /// # Errors
    /// When an address cannot be bound, or the model cannot be loaded.
    pub fn serve(
        self,
        notebook_files: NotebookFiles,
        second_signal: i32,
        announce: &mut dyn Announce,
    ) -> Result<Ended> {
        // tokio panics where it gets none.
        let too_few = "the system gives no threads";
        check_available(SERVING_THREADS + CLEANING_THREADS + 1).context(too_few)?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(SERVING_THREADS)
            .thread_name("pixart-http")
            .max_blocking_threads(CLEANING_THREADS)
            .thread_keep_alive(FOR_GOOD)
            .enable_all()
            .build()
            .context(too_few)?;
        // One that is there stays, and takes everything that no second one is there for; a first that cannot be had is a panic.
        drop(runtime.spawn_blocking(|| {}));
        let ended = runtime.block_on(run(self, notebook_files, second_signal, announce));
        runtime.shutdown_background();
        ended
    }
}

/// Threads that clean captions and give memory back, each for milliseconds.
const CLEANING_THREADS: usize = 2;
/// Longer than any process.
const FOR_GOOD: Duration = Duration::from_secs(1 << 31);
/// Threads that answer requests. They never compute for long: two keep health alive while one of them hashes or encodes.
const SERVING_THREADS: usize = 2;

async fn run(
    app: App,
    notebook_files: NotebookFiles,
    second_signal: i32,
    announce: &mut dyn Announce,
) -> Result<Ended> {
    let settings = app.settings().clone();
    let listeners = 1 + usize::from(settings.server.metrics_listen.is_some());
    let connections = descriptors::connections(settings.server.max_connections, listeners)?;
    let limits = limits(&settings, connections);
    let mut signals = Signals::listen(second_signal)?;
    let listener = bind("server.listen", settings.server.listen).await?;
    let metrics_listener = match settings.server.metrics_listen {
        Some(address) => Some(bind("server.metrics_listen", address).await?),
        None => None,
    };
    let address = listener.local_addr().context("the address is bound")?;
    announce.bound(address);

    let closing = Arc::new(AtomicBool::new(false));
    let metrics = Metrics::new(settings.queue.capacity);
    metrics.set_variants_measured_elsewhere(app.variants_elsewhere);
    let hard_limit = memory::hard_limit(settings.limits.memory_bytes());
    metrics.set_memory_limit(hard_limit.unwrap_or(0));
    let (jobs, assignments) = Jobs::new(bounds(&settings, hard_limit), metrics.clone());
    let worker = worker::spawn(
        build(app, notebook_files, metrics.clone(), Arc::clone(&closing)),
        assignments,
        settings.worker.warm_up,
        metrics.clone(),
    )
    .context("the system gives no thread for the worker")?;

    let (stop, stopped) = watch::channel(false);
    let mut servers = JoinSet::new();
    let service = Service::new(jobs.clone(), metrics, &settings);
    let with_metrics = metrics_listener.is_none();
    let whole = router(service.clone(), &settings.server.cors_origins, with_metrics);
    servers.spawn(serve(listener, whole, limits, until(stopped.clone())));
    if let Some(listener) = metrics_listener {
        let app = metrics_router(service);
        servers.spawn(serve(listener, app, limits, until(stopped)));
    }
    let sweeper = tokio::spawn(sweep(jobs.clone()));

    let mut started = worker.started;
    let mut outcome = Ok(());
    let mut loading = true;
    loop {
        tokio::select! {
            result = &mut started, if loading => {
                loading = false;
                match result {
                    Ok(Ok(())) => announce.ready(address),
                    Ok(Err(StartError::Stopped)) => {}
                    Ok(Err(StartError::Build(error))) => { outcome = Err(error); break; }
                    Ok(Err(StartError::WarmUp(error))) => {
                        outcome = Err(anyhow::Error::new(error).context("the first picture failed"));
                        break;
                    }
                    Ok(Err(StartError::Panicked)) => {
                        outcome = Err(anyhow::anyhow!("the worker panicked while the model was loaded"));
                        break;
                    }
                    // The worker's thread is gone without a word: a panic, which is in the log.
                    Err(_gone) => {
                        outcome = Err(anyhow::anyhow!("the worker ended while the model was loaded"));
                        break;
                    }
                }
            }
            name = signals.next() => {
                tracing::info!(signal = name, "shutting down");
                break;
            }
        }
    }
    if outcome.is_ok() && settings.server.lame_duck_seconds > 0 {
        jobs.leave();
        tokio::time::sleep(Duration::from_secs(settings.server.lame_duck_seconds)).await;
    }
    let end = Instant::now() + Duration::from_secs(settings.server.grace_seconds);
    closing.store(true, Ordering::Relaxed);
    shut_down(&jobs, end).await;
    let _ = stop.send(true);
    let last = end.max(Instant::now()) + LAST_ANSWERS;
    let answered = tokio::time::timeout_at(last.into(), async {
        while servers.join_next().await.is_some() {}
    });
    if answered.await.is_err() {
        tracing::warn!("connections were still open at the end of the grace period");
    }
    sweeper.abort();
    let ended = gone(worker.thread, Instant::now() + LEAVING).await;
    outcome.map(|()| ended)
}

/// Answers those who wait, lets the running job finish while there is time, and stops it then.
async fn shut_down(jobs: &Jobs, end: Instant) {
    jobs.drain();
    if let Some(running) = jobs.running()
        && tokio::time::timeout_at(end.into(), running.finished())
            .await
            .is_err()
    {
        jobs.stop_running(Stop::Draining);
        // It looks at that every few milliseconds.
        if tokio::time::timeout(STOPPING, running.finished())
            .await
            .is_err()
        {
            // One operation of a large picture may take longer than there is time: its caller is answered all the same.
            jobs.abandon_running();
        }
    }
    jobs.close();
}

/// Waits for the worker's thread, which is busy only while it reads or compiles a model.
async fn gone(thread: JoinHandle<()>, last: Instant) -> Ended {
    while !thread.is_finished() {
        if Instant::now() >= last {
            return Ended::WorkerBusy;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    // What it panicked with is in the log.
    let _ = thread.join();
    Ended::Cleanly
}

/// Loads the model on the worker's thread; the runtime itself is loaded once.
fn build(
    app: App,
    notebook_files: NotebookFiles,
    metrics: Metrics,
    closing: Arc<AtomicBool>,
) -> impl FnMut() -> Result<Built> + Send + 'static {
    let mut runtime: Option<Runtime> = None;
    let quiet = Quiet { closing };
    move || {
        let runtime = match &mut runtime {
            Some(runtime) => runtime,
            None => runtime.insert(app.runtime()?),
        };
        let model = app.model(runtime, notebook_files, &quiet)?;
        let loaded = app.load(runtime, &model)?;
        let planner = Arc::clone(loaded.pipeline.planner());
        let facts = planner.facts();
        metrics.build_info(&BuildInfo {
            version: env!("CARGO_PKG_VERSION"),
            openvino: &facts.openvino_version,
            model: &facts.name,
            weights: &facts.weights,
            precision: &facts.precision,
        });
        tracing::info!(
            model = facts.name,
            weights = facts.weights,
            precision = facts.precision,
            device = facts.device,
            openvino = facts.openvino_version,
            load_seconds = loaded.load.as_secs_f64(),
            "the model is loaded"
        );
        Ok(Built {
            memory: loaded
                .memory
                .map(|limit| memory::beside_results(limit, app.settings())),
            generate: Box::new(Unchanged {
                pipeline: loaded.pipeline,
                files: loaded.files,
            }),
            planner,
            load: loaded.load,
        })
    }
}

/// Draws with a model whose files nobody has written to. Who did meanwhile has changed the weights that are in use.
struct Unchanged {
    pipeline: Pipeline,
    files: Arc<HeldFiles>,
}

impl Generate for Unchanged {
    fn generate(
        &mut self,
        request: &GenerateRequest,
        watch: &mut dyn Watch,
    ) -> Result<Generated, PipelineError> {
        self.files.check()?;
        let generated = self.pipeline.generate(request, watch)?;
        self.files.check()?;
        Ok(generated)
    }

    fn read_ahead(
        &mut self,
        prompt: &Prompt,
        watch: &mut dyn Watch,
    ) -> Result<Duration, PipelineError> {
        self.pipeline.read_ahead(prompt, watch)
    }

    fn keep_within(&mut self, bytes: u64) {
        self.pipeline.keep_within(bytes);
    }

    fn rest(&mut self, now: Instant) -> AtRest {
        self.pipeline.rest(now)
    }
}

/// A conversion of the embedded model that only the log hears of.
struct Quiet {
    /// Whether the service shuts down.
    closing: Arc<AtomicBool>,
}

impl Progress for Quiet {
    fn begin(&self, component: &str, bytes: u64) {
        tracing::debug!(component, bytes, "converting the embedded model");
    }

    fn advance(&self, _bytes: u64) {}

    fn unchanged(&self, _component: &str) {}

    fn cancelled(&self) -> bool {
        self.closing.load(Ordering::Relaxed)
    }
}

async fn bind(key: &str, address: SocketAddr) -> Result<TcpListener> {
    TcpListener::bind(address)
        .await
        .with_context(|| format!("cannot listen on {address}: choose another address with {key}"))
}

fn bounds(settings: &Settings, hard_limit: Option<u64>) -> Bounds {
    Bounds {
        capacity: settings.queue.capacity,
        ttl: Duration::from_secs(settings.jobs.ttl_seconds),
        max_memory_bytes: memory::kept_bytes(settings, hard_limit),
        max_kept: settings.jobs.max_kept,
        owners: settings.auth.keys.len().max(1),
    }
}

fn limits(settings: &Settings, max_connections: usize) -> ServerLimits {
    let server = &settings.server;
    ServerLimits {
        max_connections,
        header_read: Duration::from_secs(server.header_read_seconds),
        write_stall: Duration::from_secs(server.write_stall_seconds),
        // The whole of shutting down is bounded where it is done.
        drain: Duration::from_secs(server.grace_seconds) + LAST_ANSWERS,
        vital: VITAL,
    }
}

/// Looks after the jobs, and after the memory when there is nothing else to do.
async fn sweep(jobs: Jobs) {
    let mut tick = tokio::time::interval(SWEEP);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut moves = jobs.moves();
    let mut rest = Rest::new(Instant::now());
    loop {
        tick.tick().await;
        let now = Instant::now();
        jobs.sweep(now);
        let has_moved = moves.has_changed().unwrap_or(false);
        moves.mark_unchanged();
        if rest.is_due(now, has_moved || jobs.running().is_some()) {
            if restore_reserve() {
                tracing::warn!(
                    "memory was so short that the service took its reserve; it is a reserve again"
                );
            }
            let _ = tokio::task::spawn_blocking(give_back_memory).await;
        }
    }
}

/// When freed memory is given back: soon after the last picture, and now and then while there is none.
struct Rest {
    last_work: Instant,
    last_time: Instant,
}

impl Rest {
    fn new(now: Instant) -> Self {
        Self {
            last_work: now,
            last_time: now,
        }
    }

    fn is_due(&mut self, now: Instant, works: bool) -> bool {
        if works {
            self.last_work = now;
        }
        let is_new = self.last_time <= self.last_work;
        let is_due = now.duration_since(self.last_work) >= IDLE
            && (is_new || now.duration_since(self.last_time) >= BETWEEN);
        if is_due {
            self.last_time = now;
        }
        is_due
    }
}

async fn until(mut stopped: watch::Receiver<bool>) {
    let _ = stopped.wait_for(|&stopped| stopped).await;
}

/// The signals that end the service: the first by way of a drain, the second at once.
///
/// SIGHUP, of a terminal that was closed, drains as well, and is never the second one: shells and systemd send it beside another.
/// Where it was ignored from the start, as `nohup` has it, it stays so. SIGUSR1 and SIGUSR2, by which other services open their log
/// anew, would end this one without a drain: they are noted, and nothing else.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hang_up: Option<Signal>,
    user_1: Signal,
    user_2: Signal,
}

impl Signals {
    fn listen(second_signal: i32) -> Result<Self> {
        let listen = |kind| signal(kind).context("cannot listen to signals");
        let signals = Self {
            terminate: listen(SignalKind::terminate())?,
            interrupt: listen(SignalKind::interrupt())?,
            hang_up: if ignores_hang_up(&fs::read_to_string(OWN_STATUS).unwrap_or_default()) {
                None
            } else {
                Some(listen(SignalKind::hangup())?)
            },
            user_1: listen(SignalKind::user_defined1())?,
            user_2: listen(SignalKind::user_defined2())?,
        };
        // Only now: a first signal that nobody listens to would be lost.
        let ends = Arc::new(AtomicBool::new(false));
        for signal in [SIGTERM, SIGINT] {
            // They run in this order: the first that comes is not yet the second.
            flag::register_conditional_shutdown(signal, second_signal, Arc::clone(&ends))
                .and_then(|_| flag::register(signal, Arc::clone(&ends)))
                .context("cannot listen to signals")?;
        }
        Ok(signals)
    }

    /// The name of the signal that ends the service.
    async fn next(&mut self) -> &'static str {
        loop {
            let without_effect = tokio::select! {
                _ = self.terminate.recv() => return "SIGTERM",
                _ = self.interrupt.recv() => return "SIGINT",
                () = hung_up(self.hang_up.as_mut()) => return "SIGHUP",
                _ = self.user_1.recv() => "SIGUSR1",
                _ = self.user_2.recv() => "SIGUSR2",
            };
            tracing::info!(
                signal = without_effect,
                "a signal that has no effect here: SIGTERM stops the service"
            );
        }
    }
}

/// Waits for SIGHUP, for ever where it is ignored.
async fn hung_up(hang_up: Option<&mut Signal>) {
    match hang_up {
        Some(signal) => {
            signal.recv().await;
        }
        None => std::future::pending().await,
    }
}

/// What the system says of this process.
const OWN_STATUS: &str = "/proc/self/status";

/// Whether SIGHUP is ignored, by the mask in `/proc/self/status`: its lowest bit is signal 1.
fn ignores_hang_up(status: &str) -> bool {
    status
        .lines()
        .find_map(|line| line.strip_prefix("SigIgn:"))
        .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .is_some_and(|mask| mask & 1 == 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hang_up_that_nohup_has_ignored_stays_ignored() {
        for (status, ignored) in [
            ("SigIgn:\t0000000000001001\n", true),
            (
                "Name:\tpixart\nSigBlk:\t0000000000000001\nSigIgn:\t0000000000001000\n",
                false,
            ),
            ("", false),
        ] {
            assert_eq!(ignores_hang_up(status), ignored, "{status:?}");
        }
    }

    #[test]
    fn memory_is_given_back_a_second_after_the_last_picture_and_then_now_and_then() {
        let start = Instant::now();
        let mut rest = Rest::new(start);
        let mut at = |seconds: f64, works: bool| {
            rest.is_due(start + Duration::from_secs_f64(seconds), works)
        };
        assert!(!at(0.5, true));
        assert!(!at(1.4, false));
        assert!(at(1.5, false));
        assert!(!at(1.6, false));
        assert!(!at(31.4, false));
        assert!(at(31.5, false));
        assert!(!at(32.0, true));
        assert!(at(33.0, false));
    }
}
