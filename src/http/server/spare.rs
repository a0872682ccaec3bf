//! Files kept open for nothing, to be closed when the process may open no more: what they leave is enough to take a probe's
//! connection and answer it, and to tell everybody else that there is no place.

use std::fs::File;
use std::io;

/// As many probes at once as a service has: health, readiness, metrics, and one more.
const FILES: usize = 4;

/// The files.
#[derive(Debug)]
pub(super) struct Spare(Vec<File>);

impl Spare {
    pub(super) fn new() -> Self {
        let mut spare = Self(Vec::new());
        spare.refill();
        spare
    }

    /// Closes one, so that one can be opened in its place. False where none is left.
    pub(super) fn give(&mut self) -> bool {
        if self.0.len() == FILES {
            tracing::warn!(
                "this process may open no more files, so new connections are answered on health pages alone: raise its limit \
                 (ulimit -n), or lower server.max_connections"
            );
        }
        self.0.pop().is_some()
    }

    /// Opens them again. False where the process may still open no more.
    pub(super) fn refill(&mut self) -> bool {
        while self.0.len() < FILES {
            match File::open("/dev/null") {
                Ok(file) => self.0.push(file),
                // A container without that device is none that is short of files.
                Err(error) => return !is_out_of_files(&error),
            }
        }
        true
    }
}

/// Whether the process, or the system, may open no more files.
pub(super) fn is_out_of_files(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_few_are_given_and_taken_again() {
        let mut spare = Spare::new();
        let given = std::iter::from_fn(|| spare.give().then_some(())).count();
        assert_eq!(given, FILES);
        assert!(spare.refill());
        assert!(spare.give());
        assert!(is_out_of_files(&io::Error::from_raw_os_error(libc::EMFILE)));
        assert!(!is_out_of_files(&io::Error::from_raw_os_error(
            libc::ECONNABORTED
        )));
    }
}
