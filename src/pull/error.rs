//! Why a pull stopped. Every message says what to do.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use thiserror::Error;

use crate::model::{ConfigError, NoSpace};

/// Why a checkpoint could not be pulled.
#[derive(Debug, Error)]
pub enum PullError {
    /// The hub's address, or the proxy's.
    #[error("{what} is no address that can be reached ({detail})")]
    Address {
        /// Variable.
        what: &'static str,
        /// Why.
        detail: String,
    },
    /// Nothing on this machine says whom to trust.
    #[error(
        "no certificate of an authority was found on this machine: install the package ca-certificates, or name a file of certificates in SSL_CERT_FILE"
    )]
    NoAuthorities,
    /// A certificate that no authority of this machine vouches for, or another failure of TLS.
    #[error(
        "{host} cannot be trusted ({detail}): check HF_ENDPOINT, and if your network has an authority of its own, name its file of certificates in SSL_CERT_FILE"
    )]
    Untrusted {
        /// Who.
        host: String,
        /// Why.
        detail: String,
    },
    /// The repository or the revision is not there.
    #[error(
        "the hub {hub} has no repository {repository}, or that one no such revision: check the name and what follows the @"
    )]
    NotFound {
        /// The hub's host.
        hub: String,
        /// Name and revision.
        repository: String,
    },
    /// 401.
    #[error("the hub {hub} does not open {repository} to you (401): {advice}")]
    Unauthorized {
        /// The hub's host.
        hub: String,
        /// Name and revision.
        repository: String,
        /// What to do.
        advice: &'static str,
    },
    /// 403.
    #[error(
        "{repository} is gated (403): accept its conditions at {page}, and set HF_TOKEN to a token of the account that did, which may read it"
    )]
    Gated {
        /// Name and revision.
        repository: String,
        /// Where its conditions are.
        page: String,
    },
    /// A file has gone between listing and fetching.
    #[error("the hub listed {file} and then had it no more (404): run the same command again")]
    FileGone {
        /// The file.
        file: String,
    },
    /// A status that means nothing here.
    #[error(
        "{host} answered {status} to the request for {what}, which is nothing that a hub says: check HF_ENDPOINT"
    )]
    Status {
        /// Who.
        host: String,
        /// The status.
        status: u16,
        /// What was asked for.
        what: String,
    },
    /// Something that is no answer of a hub.
    #[error("{hub} does not answer as a hub does ({detail}): check HF_ENDPOINT")]
    NoHub {
        /// Who.
        hub: String,
        /// What is wrong.
        detail: String,
    },
    /// It failed too often without a byte between.
    #[error(
        "{what} did not come: {why}, {attempts} times in a row. What has come is kept: run the same command again to go on"
    )]
    GaveUp {
        /// What.
        what: String,
        /// The last failure.
        why: String,
        /// How often.
        attempts: u32,
    },
    /// The host's name does not resolve.
    #[error(
        "no host {host} was found, twice: check the network, and HF_ENDPOINT and HTTPS_PROXY where they are set. What has come is kept; HF_HUB_OFFLINE=1 takes what is in the hub's cache on this machine"
    )]
    NoHost {
        /// The name.
        host: String,
    },
    /// A variable forbids requests, and something is not on this machine.
    #[error(
        "{variable} is set, and {missing}: unset it, or fetch {repository} where there is a network ('hf download {name}')"
    )]
    Offline {
        /// The variable.
        variable: &'static str,
        /// What is not here.
        missing: String,
        /// Name and revision.
        repository: String,
        /// The name alone.
        name: String,
    },
    /// The hub wants to be left alone for long.
    #[error(
        "the hub {host} wants no request for {} s. What has come is kept: run the same command again then, or set HF_TOKEN for a higher limit",
        wait.as_secs()
    )]
    Busy {
        /// Who.
        host: String,
        /// How long.
        wait: Duration,
    },
    /// A file name that leads elsewhere.
    #[error(
        "the hub lists a file called '{name}', which leads out of the folder: nothing of this repository is taken"
    )]
    HostileName {
        /// The name, escaped.
        name: String,
    },
    /// No diffusers directory.
    #[error(
        "{repository} has no {file}: it is not a whole diffusers directory of PixArt (model_index.json, tokenizer/, text_encoder/, transformer/, vae/, scheduler/)"
    )]
    MissingFile {
        /// Name and revision.
        repository: String,
        /// What was looked for.
        file: String,
    },
    /// A part of a pipeline.
    #[error(
        "{repository} has {has}, and no {lacks}: it is a part of a pipeline, and a whole one is needed, such as PixArt-alpha/PixArt-XL-2-1024-MS or PixArt-alpha/PixArt-Sigma-XL-2-1024-MS"
    )]
    Incomplete {
        /// Name and revision.
        repository: String,
        /// Folders that it has.
        has: String,
        /// Folders that it lacks.
        lacks: String,
    },
    /// Only pickles.
    #[error(
        "{repository} has no safetensors for {component}, only {pickle}, which can run code when read: look for a conversion of it on the hub, often the revision refs/pr/N"
    )]
    NoSafetensors {
        /// Name and revision.
        repository: String,
        /// The component's directory.
        component: String,
        /// What is there instead.
        pickle: String,
    },
    /// Another family.
    #[error("{repository} is no PixArt checkpoint: {source}")]
    OtherFamily {
        /// Name and revision.
        repository: String,
        /// Why.
        source: ConfigError,
    },
    /// A tiny autoencoder alone, which is no model.
    #[error(
        "{repository} is a tiny autoencoder alone: pull it without --convert, and 'pixart convert' gives it to a model"
    )]
    TinyVaeAlone {
        /// Name and revision.
        repository: String,
    },
    /// A sharded checkpoint's index makes no sense.
    #[error("{file} of {repository} makes no sense: {detail}")]
    BadIndex {
        /// Name and revision.
        repository: String,
        /// The index.
        file: String,
        /// What is wrong.
        detail: String,
    },
    /// A file of weights whose header is none.
    #[error(
        "{file} of {repository} is not a whole safetensors file ({detail}): nothing was fetched; take another revision, or report it to the repository's owner"
    )]
    BadHeader {
        /// Name and revision.
        repository: String,
        /// The file.
        file: String,
        /// What is wrong.
        detail: String,
    },
    /// A file of weights that begins otherwise than when it was judged.
    #[error(
        "{file} came with another header than the hub gave before: it is not kept; run the same command again, and ask another hub if it stays so"
    )]
    HeaderChanged {
        /// The file.
        file: String,
    },
    /// A checkpoint that cannot be converted.
    #[error("{repository} cannot be used: {detail}. Nothing was fetched")]
    Unusable {
        /// Name and revision.
        repository: String,
        /// Why, naming the file.
        detail: String,
    },
    /// A file of another length than the listing says.
    #[error(
        "the hub lists {file} with {expected} bytes and sends {got}: it is not kept; ask another hub, or tell the repository's owner"
    )]
    Length {
        /// The file.
        file: String,
        /// What the listing says.
        expected: u64,
        /// What comes.
        got: u64,
    },
    /// A file of another digest than the listing says.
    #[error(
        "{file} came whole, and with another SHA-256 than the hub lists ({got} instead of {expected}): it is not kept; ask another hub, or tell the repository's owner"
    )]
    Hash {
        /// The file.
        file: String,
        /// What the listing says.
        expected: String,
        /// What came.
        got: String,
    },
    /// The output is something else.
    #[error(
        "{path} is not empty, and no earlier 'pixart pull' has made it: give --output a new folder", path = path.display()
    )]
    InTheWay {
        /// The output.
        path: PathBuf,
    },
    /// The output is of another repository.
    #[error("{path} holds {there}: give --output another folder", path = path.display())]
    OtherRepository {
        /// The output.
        path: PathBuf,
        /// What it holds.
        there: String,
    },
    /// No space is left.
    #[error(
        "the disk of {path} is full: make room and run the same command again, what has come is kept", path = path.display()
    )]
    DiskFull {
        /// The file.
        path: PathBuf,
    },
    /// The disk has less room than is missing.
    #[error("{0}; what has come is kept")]
    NoSpace(#[from] NoSpace),
    /// The output cannot be written.
    #[error("cannot write {path}: {source}; give --output a folder that you can write to", path = path.display())]
    Write {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The caller asked to stop.
    #[error("stopped: what has come is kept, the same command goes on from there")]
    Cancelled,
}

impl PullError {
    /// An error of the file system at `path`.
    pub(super) fn write(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::DiskFull { path },
            _ => Self::Write { path, source },
        }
    }
}
