//! Peak memory of this process while something runs, sampled.
//!
//! Anonymous pages are what the process needs of the machine; file-backed ones (mapped weights) are the page cache's, which
//! the system takes back when others need it. Linux tells both in `/proc/self/status`; elsewhere there is nothing to tell.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::telemetry::ProcessMemory;

/// A reading costs tens of microseconds: one in a hundred of the time at most.
const INTERVAL: Duration = Duration::from_millis(10);

/// The largest readings, each for itself, in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemoryPeak {
    /// Anonymous pages (`RssAnon`).
    pub anonymous_bytes: u64,
    /// File-backed pages (`RssFile`).
    pub file_backed_bytes: u64,
}

/// A thread that reads until it is asked for the peak.
pub struct MemoryWatch {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    anonymous: AtomicU64,
    file_backed: AtomicU64,
    done: AtomicBool,
}

impl Shared {
    fn read(&self) {
        let Some(now) = ProcessMemory::now() else {
            return;
        };
        self.anonymous
            .fetch_max(now.anonymous_bytes, Ordering::Relaxed);
        self.file_backed
            .fetch_max(now.file_backed_bytes, Ordering::Relaxed);
    }
}

impl MemoryWatch {
    /// Begins to read. Where the system gives no thread, only the two ends are read.
    pub fn start() -> Self {
        let shared = Arc::new(Shared::default());
        shared.read();
        let reader = Arc::clone(&shared);
        let thread = thread::Builder::new()
            .name("pixart-memory".to_owned())
            .spawn(move || {
                while !reader.done.load(Ordering::Relaxed) {
                    reader.read();
                    thread::sleep(INTERVAL);
                }
            })
            .ok();
        Self { shared, thread }
    }

    /// The peak since the start; none where the system tells nothing.
    pub fn finish(self) -> Option<MemoryPeak> {
        self.shared.read();
        let peak = MemoryPeak {
            anonymous_bytes: self.shared.anonymous.load(Ordering::Relaxed),
            file_backed_bytes: self.shared.file_backed.load(Ordering::Relaxed),
        };
        (peak != MemoryPeak::default()).then_some(peak)
    }
}

impl Drop for MemoryWatch {
    fn drop(&mut self) {
        self.shared.done.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // It reads and sleeps: there is no panic to pass on.
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(target_os = "linux")]
    #[test]
    fn memory_that_was_held_for_a_moment_is_seen() {
        let watch = MemoryWatch::start();
        let held = vec![1_u8; 64 << 20];
        watch.shared.read();
        drop(held);
        let peak = watch.finish().unwrap();
        assert!(peak.anonymous_bytes >= 64 << 20, "{peak:?}");
    }
}
