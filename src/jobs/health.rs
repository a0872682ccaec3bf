//! What the worker publishes of itself: health is read from here and never waits for anything.

use std::sync::Arc;
use std::sync::RwLock;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::pipeline::{MemoryBudget, Planner};
use crate::telemetry::Metrics;

/// What the worker is at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Phase {
    /// Reads and compiles the model.
    Loading,
    /// Draws the first pictures, which nobody sees.
    WarmingUp,
    /// Draws or waits for work.
    Ready,
    /// Broke, and builds itself anew.
    Down,
    /// Has ended.
    Ended,
}

impl Phase {
    const ALL: [Self; 5] = [
        Self::Loading,
        Self::WarmingUp,
        Self::Ready,
        Self::Down,
        Self::Ended,
    ];
}

/// The worker's state as everybody may read it.
pub struct Health {
    started: Instant,
    phase: AtomicU8,
    /// Milliseconds from `started` to the last sign of life.
    last_progress: AtomicU64,
    leaving: AtomicBool,
    draining: AtomicBool,
    planner: RwLock<Option<Arc<Planner>>>,
    memory: RwLock<Option<MemoryBudget>>,
    metrics: Metrics,
}

impl Health {
    pub(super) fn new(metrics: Metrics) -> Self {
        Self {
            started: Instant::now(),
            phase: AtomicU8::new(Phase::Loading as u8),
            last_progress: AtomicU64::new(0),
            leaving: AtomicBool::new(false),
            draining: AtomicBool::new(false),
            planner: RwLock::new(None),
            memory: RwLock::new(None),
            metrics,
        }
    }

    /// What the worker is at.
    pub fn phase(&self) -> Phase {
        let code = self.phase.load(Ordering::Acquire);
        Phase::ALL
            .into_iter()
            .find(|&phase| phase as u8 == code)
            .unwrap_or(Phase::Ended)
    }

    /// Time since the worker last came forward.
    pub fn since_progress(&self) -> Duration {
        let last = Duration::from_millis(self.last_progress.load(Ordering::Relaxed));
        self.started.elapsed().saturating_sub(last)
    }

    /// What is known of the model, once one is loaded.
    pub fn planner(&self) -> Option<Arc<Planner>> {
        self.planner
            .read()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .clone()
    }

    /// What images may take of memory; none where nothing bounds it, and before it was measured.
    pub fn memory(&self) -> Option<MemoryBudget> {
        *self
            .memory
            .read()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// The worker has measured what images may take.
    pub fn measured(&self, memory: Option<MemoryBudget>) {
        *self
            .memory
            .write()
            .unwrap_or_else(std::sync::PoisonError::into_inner) = memory;
    }

    /// The worker enters a phase.
    pub fn enter(&self, phase: Phase) {
        let before = self.phase.swap(phase as u8, Ordering::AcqRel);
        self.metrics
            .set_worker_up(!matches!(phase, Phase::Down | Phase::Ended));
        // Another attempt at what has failed is no progress.
        if before != phase as u8 {
            self.progressed();
        }
    }

    /// Whether others should be asked instead, though requests are still taken: the service is about to shut down.
    pub fn leaving(&self) -> bool {
        self.leaving.load(Ordering::Acquire)
    }

    pub(super) fn leave(&self) {
        self.leaving.store(true, Ordering::Release);
    }

    /// Whether the service shuts down.
    pub fn draining(&self) -> bool {
        self.draining.load(Ordering::Acquire)
    }

    pub(super) fn drain(&self) {
        self.draining.store(true, Ordering::Release);
        self.metrics.set_draining(true);
    }

    /// The worker has a model.
    pub fn loaded(&self, planner: Arc<Planner>) {
        *self
            .planner
            .write()
            .unwrap_or_else(std::sync::PoisonError::into_inner) = Some(planner);
    }

    /// The worker came forward: a stage or a step is done.
    pub fn progressed(&self) {
        let elapsed = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.last_progress.store(elapsed, Ordering::Relaxed);
        self.metrics.worker_progress_now();
    }
}
