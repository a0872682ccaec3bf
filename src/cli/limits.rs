//! The limits that a shell or a supervisor sets for the process (`ulimit`), made harmless before anything runs into them.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Takes as many open files as the process may have, and has a file that may grow no longer be an error of its writing instead of
/// the end of the process.
pub(super) fn prepare() {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current != maximum {
        // Distributions leave the soft limit at 1024 for programs that use select(2), of which this is none.
        let most = Rlimit {
            current: maximum,
            maximum,
        };
        // Where that is forbidden, it stays as it was.
        let _ = setrlimit(Resource::Nofile, most);
    }
    // SIGXFSZ kills without a word. With any handler the write fails with EFBIG, which is reported, and nothing is left behind.
    let _ = signal_hook::flag::register(libc::SIGXFSZ, Arc::new(AtomicBool::new(false)));
}
