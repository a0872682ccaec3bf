//! Progress bars on standard error, and Ctrl-C.
//!
//! Drawing and converting look at a flag and stop by themselves, with nothing half-made. Anything else (finding, hashing,
//! compiling) looks at nothing, and Ctrl-C ends the process there at once.

use std::io::{self, Write as _};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use anyhow::{Context as _, Result};
use indicatif::{ProgressBar, ProgressStyle};

use crate::convert::Progress;
use crate::pipeline::{Event, PipelineError, Watch};

/// Whether Ctrl-C (or a request to terminate) has come. Where nobody looks at it, and at the second, the process ends.
#[derive(Debug, Clone)]
pub(super) struct Interrupt(Arc<Wish>);

#[derive(Debug, Default)]
struct Wish {
    came: AtomicBool,
    /// Sections under way that stop by themselves.
    attended: AtomicUsize,
}

impl Interrupt {
    /// Begins to listen.
    pub(super) fn listen() -> Result<Self> {
        let wish = Arc::new(Wish::default());
        let heard = Arc::clone(&wish);
        ctrlc::set_handler(move || {
            let again = heard.came.swap(true, Ordering::SeqCst);
            if again || heard.attended.load(Ordering::SeqCst) == 0 {
                end_at_once();
            }
        })
        .context("cannot listen to Ctrl-C")?;
        Ok(Self(wish))
    }

    /// Whether it has come.
    pub(super) fn came(&self) -> bool {
        self.0.came.load(Ordering::SeqCst)
    }

    /// Does what looks at [`Self::came`] and stops by itself.
    pub(super) fn attended<T>(&self, work: impl FnOnce() -> T) -> T {
        self.enter();
        let done = work();
        self.leave();
        done
    }

    /// Stops here if Ctrl-C came too late for the section before to see it.
    pub(super) fn check(&self) -> Result<(), PipelineError> {
        if self.came() {
            return Err(PipelineError::Cancelled);
        }
        Ok(())
    }

    fn enter(&self) {
        self.0.attended.fetch_add(1, Ordering::SeqCst);
    }

    fn leave(&self) {
        self.0.attended.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Ends the process where nothing half-made can be left, or where it was asked to twice.
#[expect(
    clippy::exit,
    reason = "the thread that would return an exit code is hashing, compiling or waiting and looks at nothing"
)]
fn end_at_once() {
    std::process::exit(i32::from(super::exit::INTERRUPTED));
}

/// A conversion's progress: one bar over all components, which are made side by side.
pub(super) struct ConvertProgress {
    interrupt: Interrupt,
    bar: ProgressBar,
    quiet: bool,
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
        Self {
            interrupt,
            bar,
            quiet,
        }
    }

    /// Takes the bar away.
    pub(super) fn finish(&self) {
        self.bar.finish_and_clear();
    }
}

impl Progress for ConvertProgress {
    fn entered(&self) {
        self.interrupt.enter();
    }

    fn left(&self) {
        self.interrupt.leave();
    }

    fn waiting(&self, folder: &Path) {
        if !self.quiet {
            // Nothing is lost with a terminal that is gone.
            let _ = writeln!(
                io::stderr(),
                "another conversion into {} is running: waiting for its end",
                folder.display()
            );
        }
    }

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
