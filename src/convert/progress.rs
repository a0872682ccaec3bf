//! How a conversion tells where it is and learns that it should stop.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::model::UnusedTensors;

/// The caller's side of a running conversion. Components are made side by side, each on a thread of its own.
pub trait Progress: Sync {
    /// From here on the conversion looks at [`Self::cancelled`], until [`Self::left`].
    fn entered(&self) {}
    /// Nothing looks at [`Self::cancelled`] any more, and nothing half-made is left.
    fn left(&self) {}
    /// Another conversion into `folder` is running, and this one waits for its end. Told once.
    fn waiting(&self, _folder: &Path) {}
    /// A component begins; `bytes` of weights will be read.
    fn begin(&self, component: &str, bytes: u64);
    /// `bytes` more were read, of whichever component.
    fn advance(&self, bytes: u64);
    /// The component stands as it was and is not made again.
    fn unchanged(&self, component: &str);
    /// Something that the caller should know, and that stops nothing.
    fn warning(&self, _message: &str) {}
    /// Whether to stop.
    fn cancelled(&self) -> bool;
}

/// Of a run that nobody watches.
pub(super) struct Unwatched;

impl Progress for Unwatched {
    fn begin(&self, _component: &str, _bytes: u64) {}
    fn advance(&self, _bytes: u64) {}
    fn unchanged(&self, _component: &str) {}
    fn cancelled(&self) -> bool {
        false
    }
}

/// Reports the tensors of `component` that are left out.
pub(super) fn warn_of_unused(
    progress: &dyn Progress,
    component: &str,
    unused: Option<&UnusedTensors>,
) {
    if let Some(unused) = unused {
        progress.warning(&format!(
            "{component}: this architecture has no use for {unused}; left out, as diffusers does"
        ));
    }
}

/// The part of a run that looks at [`Progress::cancelled`]. Dropped last, it has seen the staging folder go.
pub struct Attention<'a>(&'a dyn Progress);

impl<'a> Attention<'a> {
    /// From here on until it is dropped.
    pub fn begin(progress: &'a dyn Progress) -> Self {
        progress.entered();
        Self(progress)
    }
}

impl Drop for Attention<'_> {
    fn drop(&mut self) {
        self.0.left();
    }
}

/// A progress that also stops when one of the components has failed.
pub(super) struct Together<'a> {
    progress: &'a dyn Progress,
    failed: AtomicBool,
}

impl<'a> Together<'a> {
    pub(super) fn new(progress: &'a dyn Progress) -> Self {
        Self {
            progress,
            failed: AtomicBool::new(false),
        }
    }

    /// Passes a component's outcome on, and stops the others if it has failed.
    pub(super) fn watch<T, E>(&self, outcome: Result<T, E>) -> Result<T, E> {
        if outcome.is_err() {
            self.failed.store(true, Ordering::Relaxed);
        }
        outcome
    }
}

impl Progress for Together<'_> {
    fn begin(&self, component: &str, bytes: u64) {
        self.progress.begin(component, bytes);
    }

    fn advance(&self, bytes: u64) {
        self.progress.advance(bytes);
    }

    fn unchanged(&self, component: &str) {
        self.progress.unchanged(component);
    }

    fn warning(&self, message: &str) {
        self.progress.warning(message);
    }

    fn cancelled(&self) -> bool {
        self.failed.load(Ordering::Relaxed) || self.progress.cancelled()
    }
}
