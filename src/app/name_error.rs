//! Why the name of a model or a checkpoint leads to no folder that can be used. Every message has the command that goes on.

use std::path::PathBuf;

use thiserror::Error;

use super::shell::quoted;
use crate::config::SettingsError;
use crate::pull::InvalidRepository;

/// Why a name leads to no folder.
#[derive(Debug, Error)]
pub enum NameError {
    /// The home's own place makes no sense.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// An address of something that is no model.
    #[error(transparent)]
    Address(#[from] InvalidRepository),
    /// No variable says where models are.
    #[error("there is no folder for models: set PIXART_HOME or HOME, or name one with --output")]
    NoHome,
    /// Neither a folder nor a name that is known.
    #[error("there is no folder '{given}' here, and no {what} of that name{places}: {advice}")]
    NotHere {
        /// What was asked for.
        given: String,
        /// `model` or `checkpoint`.
        what: &'static str,
        /// Where else was looked.
        places: String,
        /// What to do.
        advice: String,
    },
    /// Several owners have it.
    #[error("'{given}' is the name of several: write {names}")]
    Ambiguous {
        /// What was asked for.
        given: String,
        /// The full names.
        names: String,
    },
    /// A checkpoint where a model is wanted.
    #[error("{path} is a checkpoint that is not converted{beside}; convert it: {command}", path = path.display())]
    NotConverted {
        /// The checkpoint.
        path: PathBuf,
        /// What converts it.
        command: String,
        /// What else is called so.
        beside: String,
    },
    /// A tiny autoencoder where a model is wanted.
    #[error("{path} is a tiny autoencoder, which draws with a model only; give it to one: pixart convert {word} --output MODEL", path = path.display(), word = quoted(path))]
    TinyVae {
        /// Its folder.
        path: PathBuf,
    },
    /// A pull that has not ended.
    #[error("{path} is not whole, as its pull was interrupted: run 'pixart pull {repository}' again with the same options", path = path.display())]
    NotWhole {
        /// The folder.
        path: PathBuf,
        /// What is pulled to it.
        repository: String,
    },
    /// A link of the hub's cache to nothing.
    #[error("{path} is a link to a file that is not there: the hub's cache has not all of {name}; fetch the rest with 'hf download {name}', or with 'pixart pull {name}'", path = path.display())]
    Dangling {
        /// The link.
        path: PathBuf,
        /// The repository.
        name: String,
    },
    /// A repository of the hub's cache, of whose commits none is the one.
    #[error("{path} is a repository of the hub's cache and not one commit of it: name a folder below its snapshots ({})", if commits.is_empty() { "which has none yet" } else { commits.as_str() }, path = path.display())]
    NoSnapshot {
        /// The repository's folder.
        path: PathBuf,
        /// The commits that are there.
        commits: String,
    },
    /// A folder's own name is taken in the home.
    #[error("{path} is there, made of something that was called the same: choose --output, which may be that folder too", path = path.display())]
    Taken {
        /// The model that is there.
        path: PathBuf,
    },
    /// A folder whose name is no name of a model.
    #[error("'{called}' cannot name a model in the home: choose --output")]
    NoName {
        /// The folder's name.
        called: String,
    },
}
