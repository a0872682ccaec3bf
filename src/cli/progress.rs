//! Progress bars on standard error, and Ctrl-C.
//!
//! Drawing and converting look at a flag and stop by themselves, with nothing half-made. Anything else (finding, hashing,
//! compiling) looks at nothing, and Ctrl-C ends the process there at once.

use std::io::{self, Write as _};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result};
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::flag;

use crate::convert;
use crate::pipeline::{Event, PipelineError, Watch};
use crate::pull;
use crate::quantize;
use crate::shown::shown;
use crate::synthesize;

/// Whether Ctrl-C (or a request to terminate) has come. Where nobody looks at it, and at the second, the process ends.
///
/// It ends by `_exit`, in the signal's handler. [`std::process::exit`] runs OpenVINO's destructors under the threads that
/// are using what they destroy: 5 in 117 runs that were interrupted so while compiling ended by a segmentation fault.
#[derive(Debug, Clone)]
pub(super) struct Interrupt {
    came: Arc<AtomicBool>,
    /// Whether the next one ends the process.
    ends: Arc<AtomicBool>,
}

impl Interrupt {
    /// Begins to listen.
    pub(super) fn listen() -> Result<Self> {
        let interrupt = Self {
            came: Arc::new(AtomicBool::new(false)),
            ends: Arc::new(AtomicBool::new(true)),
        };
        let code = i32::from(super::exit::INTERRUPTED);
        for signal in [SIGINT, SIGTERM, SIGHUP] {
            // They run in this order: the first that comes is not yet the second.
            flag::register_conditional_shutdown(signal, code, Arc::clone(&interrupt.ends))
                .and_then(|_| flag::register(signal, Arc::clone(&interrupt.came)))
                .and_then(|_| flag::register(signal, Arc::clone(&interrupt.ends)))
                .context("cannot listen to Ctrl-C")?;
        }
        Ok(interrupt)
    }

    /// Whether it has come.
    pub(super) fn came(&self) -> bool {
        self.came.load(Ordering::SeqCst)
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
        self.ends.store(false, Ordering::SeqCst);
        if self.came() {
            self.ends.store(true, Ordering::SeqCst);
        }
    }

    fn leave(&self) {
        self.ends.store(true, Ordering::SeqCst);
    }
}

/// A bar whose length is told later; nothing is seen of a quiet one.
fn growing_bar(template: &str, quiet: bool) -> ProgressBar {
    let bar = if quiet {
        ProgressBar::hidden()
    } else {
        ProgressBar::new(0)
    };
    bar.set_style(style(template));
    bar
}

/// A conversion's progress: one bar over all components, which are made side by side.
pub(super) struct ConvertProgress {
    interrupt: Interrupt,
    bar: ProgressBar,
    quiet: bool,
}

impl ConvertProgress {
    pub(super) fn new(interrupt: Interrupt, quiet: bool) -> Self {
        Self {
            interrupt,
            bar: growing_bar(
                "converting {wide_bar} {bytes}/{total_bytes} {bytes_per_sec} {eta}",
                quiet,
            ),
            quiet,
        }
    }

    /// Below the bar of a pull, whose components it converts.
    pub(super) fn beside(pull: &PullProgress) -> Self {
        let mut progress = Self::new(pull.interrupt.clone(), pull.quiet);
        if !pull.quiet {
            progress.bar = pull.bars.add(progress.bar);
        }
        progress
    }

    /// Takes the bar away.
    pub(super) fn finish(&self) {
        self.bar.finish_and_clear();
    }
}

impl convert::Progress for ConvertProgress {
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
                shown(&folder.display().to_string())
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

    fn warning(&self, message: &str) {
        // Nothing is lost with a terminal that is gone.
        self.bar.suspend(|| {
            let _ = writeln!(io::stderr(), "warning: {}", shown(message));
        });
    }

    fn cancelled(&self) -> bool {
        self.interrupt.came()
    }
}

/// A quantisation's progress: a bar over the pictures of the calibration, then one over weights.
pub(super) struct QuantizeProgress {
    interrupt: Interrupt,
    pictures: ProgressBar,
    weights: ProgressBar,
}

impl QuantizeProgress {
    pub(super) fn new(interrupt: Interrupt, quiet: bool) -> Self {
        Self {
            interrupt,
            pictures: growing_bar(
                "calibrating {wide_bar} picture {pos}/{len} {elapsed}, {eta} left",
                quiet,
            ),
            weights: growing_bar(
                "quantising {wide_bar} {human_pos}/{human_len} weights {eta}",
                quiet,
            ),
        }
    }

    /// Takes the bars away.
    pub(super) fn finish(&self) {
        self.pictures.finish_and_clear();
        self.weights.finish_and_clear();
    }
}

impl convert::Progress for QuantizeProgress {
    fn entered(&self) {
        self.interrupt.enter();
    }

    fn left(&self) {
        self.interrupt.leave();
    }

    fn begin(&self, _component: &str, weights: u64) {
        self.pictures.finish_and_clear();
        self.weights.inc_length(weights);
    }

    fn advance(&self, weights: u64) {
        self.weights.inc(weights);
    }

    fn unchanged(&self, _component: &str) {}

    fn cancelled(&self) -> bool {
        self.interrupt.came()
    }
}

impl quantize::QuantizeProgress for QuantizeProgress {
    fn calibrating(&self, done: u32, samples: u32) {
        self.pictures.set_length(samples.into());
        self.pictures.set_position(done.into());
        self.pictures.reset_eta();
        // A large model's picture takes minutes: the clock shows that it lives.
        self.pictures.enable_steady_tick(Duration::from_millis(200));
    }

    fn sampled(&self) {
        self.pictures.inc(1);
    }
}

/// A synthesis' progress: one bar over all files.
pub(super) struct SynthesizeProgress {
    interrupt: Interrupt,
    bar: ProgressBar,
}

impl SynthesizeProgress {
    pub(super) fn new(interrupt: Interrupt, quiet: bool) -> Self {
        Self {
            interrupt,
            bar: growing_bar(
                "generating {wide_bar} {bytes}/{total_bytes} {bytes_per_sec} {eta}",
                quiet,
            ),
        }
    }

    /// Takes the bar away.
    pub(super) fn finish(&self) {
        self.bar.finish_and_clear();
    }
}

impl synthesize::Progress for SynthesizeProgress {
    fn entered(&self) {
        self.interrupt.enter();
    }

    fn left(&self) {
        self.interrupt.leave();
    }

    fn begin(&self, bytes: u64) {
        self.bar.set_length(bytes);
    }

    fn advance(&self, bytes: u64) {
        self.bar.inc(bytes);
    }

    fn cancelled(&self) -> bool {
        self.interrupt.came()
    }
}

/// A pull's progress: one bar over all files, with their speed and the time that is left.
pub(super) struct PullProgress {
    interrupt: Interrupt,
    /// The bar, and what else is shown beside it.
    bars: MultiProgress,
    bar: ProgressBar,
    quiet: bool,
}

impl PullProgress {
    pub(super) fn new(interrupt: Interrupt, quiet: bool) -> Self {
        let bars = MultiProgress::new();
        let mut bar = growing_bar(
            "pulling {wide_bar} {bytes}/{total_bytes} {bytes_per_sec} {eta} left",
            quiet,
        );
        if !quiet {
            bar = bars.add(bar);
        }
        Self {
            interrupt,
            bars,
            bar,
            quiet,
        }
    }

    /// Takes the bar away.
    pub(super) fn finish(&self) {
        self.bar.finish_and_clear();
    }

    /// A line above the bar, where there is one.
    pub(super) fn note(&self, line: &str) {
        self.bar.println(shown(line));
    }

    /// A line above the bar, or without one where there is none.
    pub(super) fn tell(&self, line: &str) {
        if !self.quiet {
            // Nothing is lost with a terminal that is gone.
            let _ = self
                .bar
                .suspend(|| writeln!(io::stderr(), "{}", shown(line)));
        }
    }
}

impl pull::Progress for PullProgress {
    fn entered(&self) {
        self.interrupt.enter();
    }

    fn left(&self) {
        self.interrupt.leave();
    }

    fn waiting(&self, folder: &Path) {
        self.tell(&format!(
            "another pull into {} is running: waiting for its end",
            folder.display()
        ));
    }

    fn begin(&self, bytes: u64) {
        self.bar.set_length(bytes);
        // The time that is left is told anew while nothing comes, too.
        self.bar.enable_steady_tick(Duration::from_millis(200));
    }

    fn already(&self, bytes: u64) {
        self.bar.inc(bytes);
        // What lay here says nothing of the line's speed.
        self.bar.reset_eta();
    }

    fn advance(&self, bytes: u64) {
        self.bar.inc(bytes);
    }

    fn lost(&self, bytes: u64) {
        self.bar.dec(bytes);
    }

    fn again(&self, what: &str, why: &str, wait: Duration) {
        self.tell(&format!(
            "{what}: {why}; asked for again in {} s",
            wait.as_secs_f32().ceil()
        ));
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
        bar.set_style(style("{msg} {wide_bar} step {pos}/{len} {elapsed}"));
        bar.set_message("reading");
        // Steps of a large model take seconds: the clock shows that it lives.
        bar.enable_steady_tick(Duration::from_millis(200));
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
        match event {
            Event::TextEncoded { .. } => self.bar.set_message("drawing"),
            Event::Stepped { step, steps, .. } => {
                self.bar.set_position(step as u64 + 1);
                if step + 1 == steps {
                    self.bar.set_message("decoding");
                }
            }
            Event::TextEncoderLoaded { .. }
            | Event::TextEncoderReleased
            | Event::Predicted { .. }
            | Event::Decoded { .. } => {}
        }
    }
}

/// Progress of measuring: one bar over the steps of all pictures, or over the turns of other processes.
#[derive(Clone)]
pub(super) struct BenchBar {
    interrupt: Interrupt,
    bar: ProgressBar,
}

impl BenchBar {
    pub(super) fn new(interrupt: Interrupt, units: usize, unit: &str, quiet: bool) -> Self {
        let bar = if quiet {
            ProgressBar::hidden()
        } else {
            ProgressBar::new(units as u64)
        };
        bar.set_style(style(&format!(
            "{{msg}} {{wide_bar}} {unit} {{pos}}/{{len}} {{elapsed}}, {{eta}} left"
        )));
        bar.enable_steady_tick(Duration::from_millis(200));
        Self { interrupt, bar }
    }

    /// What is going on now.
    pub(super) fn tell(&self, what: impl Into<String>) {
        self.bar.set_message(what.into());
    }

    /// One more is done.
    pub(super) fn advance(&self) {
        self.bar.inc(1);
    }

    /// Takes the bar away.
    pub(super) fn finish(&self) {
        self.bar.finish_and_clear();
    }
}

impl Watch for BenchBar {
    fn cancelled(&self) -> bool {
        self.interrupt.came()
    }

    fn observe(&mut self, event: Event<'_>) {
        if let Event::Stepped { .. } = event {
            self.advance();
        }
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template)
        .expect("the templates of this file are well-formed")
        .progress_chars("━╸ ")
}
