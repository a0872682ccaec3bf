//! Why a checkpoint was not made. Every message says what to do.

use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

use crate::model::NoSpace;

/// Why a checkpoint was not made.
#[derive(Debug, Error)]
pub enum SynthesizeError {
    /// The output is something else.
    #[error("{path} exists and is not an empty folder: give --output a new one", path = path.display())]
    InTheWay {
        /// The output.
        path: PathBuf,
    },
    /// Another run makes the same.
    #[error("another run is making {path}: wait for its end, or give --output another folder", path = path.display())]
    Busy {
        /// The output.
        path: PathBuf,
    },
    /// The disk has not enough room.
    #[error(transparent)]
    NoSpace(#[from] NoSpace),
    /// The output cannot be written.
    #[error("cannot write {path}: {source}; free some space or give --output another folder (nothing was left behind)", path = path.display())]
    Write {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The vocabulary is sketchbook's.
    #[error(
        "this binary was built without its embedded model, whose vocabulary is needed: build it with the feature embedded-model"
    )]
    NoVocabulary,
    /// A vocabulary has less room than the embedded one needs.
    #[error("vocab_size is {got}: it must be at least {least}")]
    VocabularyTooSmall {
        /// What was asked for.
        got: usize,
        /// What would do.
        least: usize,
    },
    /// The caller asked to stop.
    #[error("stopped before the checkpoint was whole; nothing was left behind")]
    Cancelled,
}

impl SynthesizeError {
    /// An error of the file system at `path`.
    pub(super) fn write(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Write { path, source }
    }
}
