//! How a pull tells where it is and learns that it should stop.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// The caller's side of a running pull. Files come side by side, each on a thread of its own.
pub trait Progress: Sync {
    /// From here on the pull looks at [`Self::cancelled`], until [`Self::left`].
    fn entered(&self) {}
    /// Nothing looks at [`Self::cancelled`] any more.
    fn left(&self) {}
    /// Another pull into `folder` is running, and this one waits for its end. Told once.
    fn waiting(&self, _folder: &Path) {}
    /// What is needed is known: so many bytes altogether.
    fn begin(&self, bytes: u64);
    /// `bytes` of them are here from an earlier run.
    fn already(&self, bytes: u64);
    /// `bytes` more came.
    fn advance(&self, bytes: u64);
    /// `bytes` that had come turned out to be of no use.
    fn lost(&self, bytes: u64);
    /// `what` failed, and is asked for again after `wait`.
    fn again(&self, _what: &str, _why: &str, _wait: Duration) {}
    /// Whether to stop.
    fn cancelled(&self) -> bool;
}

/// A pull that stops when its caller says so, and also when one of its files has failed for good.
pub(super) struct Together<'a> {
    pub(super) progress: &'a dyn Progress,
    failed: AtomicBool,
}

impl<'a> Together<'a> {
    pub(super) fn begin(progress: &'a dyn Progress) -> Self {
        progress.entered();
        Self {
            progress,
            failed: AtomicBool::new(false),
        }
    }

    /// Stops the others.
    pub(super) fn fail(&self) {
        self.failed.store(true, Ordering::Relaxed);
    }

    /// Whether to stop.
    pub(super) fn stopped(&self) -> bool {
        self.failed.load(Ordering::Relaxed) || self.progress.cancelled()
    }
}

impl Drop for Together<'_> {
    fn drop(&mut self) {
        self.progress.left();
    }
}
