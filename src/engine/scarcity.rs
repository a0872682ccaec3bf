//! What the system did not give while the runtime asked for it: memory, a thread, an open file. The runtime's own words for that are
//! those of whatever part of it came across it, and say nothing of what to do.

use std::fmt;
use std::fs::File;

use rustix::process::{Resource, getrlimit};

use super::EngineError;

/// What there was too little of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scarcity {
    /// Memory, or addresses for it.
    Memory,
    /// Threads.
    Threads,
    /// Files that are open at once.
    Files,
}

impl fmt::Display for Scarcity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Memory => {
                "too little memory: raise the limit of the container or of this process (ulimit -v), or take a smaller model or size"
            }
            Self::Threads => {
                "the system gives no more threads: raise the limit of processes (ulimit -u, pids of the container) or of memory \
                 (ulimit -v), or set openvino.threads"
            }
            Self::Files => "too many files are open: raise the limit of this process (ulimit -n)",
        })
    }
}

impl Scarcity {
    /// What the runtime's words come to, where they say so.
    pub(super) fn in_words(words: &str) -> Option<Self> {
        let words = words.to_lowercase();
        let says = |parts: &[&str]| parts.iter().any(|part| words.contains(part));
        // Said by C++, by the CPU plugin of its nodes, by the loader of libraries, and by the C library.
        if says(&[
            "bad_alloc",
            "can't alloc",
            "can not allocate",
            "failed to allocate",
            "failed to map segment",
            "cannot allocate memory",
        ]) {
            return Some(Self::Memory);
        }
        if says(&["resource temporarily unavailable"]) {
            return Some(Self::Threads);
        }
        let cannot_open = says(&["too many open files"])
            || (says(&["can not open", "cannot open", "could not open"]) && is_out_of_files());
        cannot_open.then_some(Self::Files)
    }

    /// The error of `what` with the runtime's words `detail`, where those come to one of these.
    pub(super) fn error(what: impl fmt::Display, detail: &str) -> Option<EngineError> {
        Self::in_words(detail).map(|scarcity| EngineError::Scarce {
            what: what.to_string(),
            scarcity,
            detail: last_line(detail),
        })
    }
}

/// Addresses that the runtime takes by itself, before any network. Measured with OpenVINO 2026.4.1 on two cores: under a limit of 390 MiB
/// no network compiles, and under 215 MiB TBB has been seen to wait for ever in the middle of throwing an exception.
const LEAST_ADDRESS_BYTES: u64 = 400 << 20;

/// Holds that the process may use enough addresses for the runtime (`ulimit -v`).
///
/// # Errors
/// When the runtime could not even be loaded, or would hang.
pub(super) fn check_addresses() -> Result<(), EngineError> {
    addresses_suffice(getrlimit(Resource::As).current)
}

fn addresses_suffice(limit: Option<u64>) -> Result<(), EngineError> {
    match limit {
        Some(limit) if limit < LEAST_ADDRESS_BYTES => Err(EngineError::Scarce {
            what: "OpenVINO does not load".to_owned(),
            scarcity: Scarcity::Memory,
            detail: format!(
                "this process may use {} MiB of addresses, and the runtime alone takes {}",
                limit >> 20,
                LEAST_ADDRESS_BYTES >> 20
            ),
        }),
        _ => Ok(()),
    }
}

/// Whether no further file can be opened now.
fn is_out_of_files() -> bool {
    let opened = File::open("/dev/null");
    opened.is_err_and(|error| matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE)))
}

/// The runtime says where in its own source it failed, and last why.
fn last_line(detail: &str) -> String {
    let mut lines = detail.lines().map(str::trim);
    let last = lines.rfind(|line| !line.is_empty());
    last.unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_runtimes_words_are_told_as_what_is_scarce() {
        for (words, expected) in [
            (
                "Exception from src/inference/src/dev/plugin.cpp:54:\nstd::bad_alloc\n\n",
                Some(Scarcity::Memory),
            ),
            (
                "[CPU] MVN node with name 'MVN_43255' can't alloc",
                Some(Scarcity::Memory),
            ),
            (
                "libopenvino.so.2641: failed to map segment from shared object",
                Some(Scarcity::Memory),
            ),
            (
                "Can not create file mapping for 16, err=Cannot allocate memory",
                Some(Scarcity::Memory),
            ),
            ("Resource temporarily unavailable", Some(Scarcity::Threads)),
            ("Too many open files", Some(Scarcity::Files)),
            ("Can not open file transformer.bin for mapping", None),
            ("Unsupported operation", None),
        ] {
            assert_eq!(Scarcity::in_words(words), expected, "{words}");
        }
        assert!(addresses_suffice(None).is_ok());
        assert!(addresses_suffice(Some(LEAST_ADDRESS_BYTES)).is_ok());
        let told = addresses_suffice(Some(220_000 << 10))
            .unwrap_err()
            .to_string();
        assert!(
            told.contains("ulimit -v") && told.contains("214 MiB"),
            "{told}"
        );
        let error = Scarcity::error(
            "a.xml cannot be compiled",
            "Exception from x:1:\nstd::bad_alloc\n",
        );
        let told = error.unwrap().to_string();
        assert!(
            told.starts_with("a.xml cannot be compiled: too little memory: "),
            "{told}"
        );
        assert!(told.ends_with("(std::bad_alloc)"), "{told}");
    }
}
