//! Progress bars on standard error, and Ctrl-C as a wish to stop.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context as _, Result};
use indicatif::{ProgressBar, ProgressStyle};

use crate::convert::Progress;
use crate::pipeline::{Event, Watch};

/// Whether Ctrl-C (or a request to terminate) has come. A second one ends the process at once.
#[derive(Debug, Clone)]
pub(super) struct Interrupt(Arc<AtomicBool>);

impl Interrupt {
    /// Begins to listen.
    pub(super) fn listen() -> Result<Self> {
        let came = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&came);
        ctrlc::set_handler(move || {
            if seen.swap(true, Ordering::Relaxed) {
                std::process::abort();
            }
        })
        .context("cannot listen to Ctrl-C")?;
        Ok(Self(came))
    }

    /// Whether it has come.
    pub(super) fn came(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// A conversion's progress: one bar over all components, which are made side by side.
pub(super) struct ConvertProgress {
    interrupt: Interrupt,
    bar: ProgressBar,
}

impl ConvertProgress {
    pub(super) fn new(interrupt: Interrupt, quiet: bool) -> Self {
        let bar = if quiet {
            ProgressBar::hidden()
        } else {
            ProgressBar::new(0)
        };
        bar.set_style(style(
            "converting {bar:32} {bytes:>11} of {total_bytes:11} {bytes_per_sec:>12} {eta:>4} left",
        ));
        Self { interrupt, bar }
    }

    /// Takes the bar away.
    pub(super) fn finish(&self) {
        self.bar.finish_and_clear();
    }
}

impl Progress for ConvertProgress {
    fn begin(&self, _component: &str, bytes: u64) {
        self.bar.inc_length(bytes);
    }

    fn advance(&self, bytes: u64) {
        self.bar.inc(bytes);
    }

    fn unchanged(&self, component: &str) {
        self.bar.println(format!("{component} is unchanged"));
    }

    fn cancelled(&self) -> bool {
        self.interrupt.came()
    }
}

/// One picture's progress: a bar of its steps.
pub(super) struct StepBar {
    interrupt: Interrupt,
    bar: ProgressBar,
}

impl StepBar {
    pub(super) fn new(interrupt: Interrupt, steps: usize, quiet: bool) -> Self {
        let bar = if quiet {
            ProgressBar::hidden()
        } else {
            ProgressBar::new(steps as u64)
        };
        bar.set_style(style(
            "drawing {bar:32} step {pos} of {len} {elapsed:>4} {eta:>4} left",
        ));
        bar.tick();
        Self { interrupt, bar }
    }

    /// Takes the bar away.
    pub(super) fn finish(&self) {
        self.bar.finish_and_clear();
    }
}

impl Watch for StepBar {
    fn cancelled(&self) -> bool {
        self.interrupt.came()
    }

    fn observe(&mut self, event: Event<'_>) {
        if let Event::Stepped { step, .. } = event {
            self.bar.set_position(step as u64 + 1);
        }
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template)
        .expect("the templates of this file are well-formed")
        .progress_chars("━╸ ")
}
