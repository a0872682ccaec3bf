//! Why a conversion stopped. Every message names the file and says what to do.

use std::io;
use std::path::PathBuf;

use thiserror::Error;

use crate::engine::EngineError;
use crate::model::{AddedTokensError, ConfigError, ModelError, NoSpace, UnusedTensors};

/// Why a checkpoint could not be converted.
#[derive(Debug, Error)]
pub enum ConvertError {
    /// A file of the source is not there.
    #[error("{path} is missing: SOURCE must be a diffusers directory (model_index.json, tokenizer/, text_encoder/, transformer/, vae/, scheduler/)", path = path.display())]
    MissingFile {
        /// The file.
        path: PathBuf,
    },
    /// A link to a file that is not there.
    #[error("{path} is a link to {target}, which is not there: of the hub's cache, copy the whole folder models--OWNER--NAME, or follow its links (cp -rL); or fetch the checkpoint with 'pixart pull'", path = path.display(), target = target.display())]
    Dangling {
        /// The link.
        path: PathBuf,
        /// Where it leads.
        target: PathBuf,
    },
    /// Shards, and nothing that says which tensor is in which.
    #[error("{shard} is one of several, and {index} is not beside it: fetch that file of the same checkpoint, too", shard = shard.display())]
    NoIndex {
        /// The first shard.
        shard: PathBuf,
        /// What their index is called.
        index: String,
    },
    /// Weights by another name.
    #[error("{path} is missing, and {there} is there: if it holds these weights, call it so", path = path.display())]
    OtherName {
        /// What was looked for.
        path: PathBuf,
        /// What is there.
        there: String,
    },
    /// Weights come only as a pickle.
    #[error("{path} is a pickle, or the index of pickles, which can run code when read: get the safetensors files of this checkpoint instead", path = path.display())]
    Pickle {
        /// The file.
        path: PathBuf,
    },
    /// A file of the source cannot be read.
    #[error("cannot read {path}: {source}", path = path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A safetensors file is not what its header says.
    #[error("{path} is not a whole safetensors file ({detail}): fetch it again", path = path.display())]
    BadWeights {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        detail: String,
    },
    /// A sharded checkpoint's index makes no sense.
    #[error("{path} makes no sense ({detail}): fetch the checkpoint again", path = path.display())]
    BadIndex {
        /// The index.
        path: PathBuf,
        /// What is wrong.
        detail: String,
    },
    /// A tensor that the configuration asks for is not in the files.
    #[error(
        "{component} has no tensor '{tensor}', which its config.json implies: the weights and the configuration belong to different models, or a file is incomplete"
    )]
    MissingTensor {
        /// Directory of the component.
        component: String,
        /// Name of the tensor.
        tensor: String,
    },
    /// A tensor has another shape than the configuration implies.
    #[error(
        "{component}: tensor '{tensor}' has the shape {got:?} and config.json implies {expected:?}: the weights and the configuration belong to different models"
    )]
    TensorShape {
        /// Directory of the component.
        component: String,
        /// Name of the tensor.
        tensor: String,
        /// By the configuration.
        expected: Vec<usize>,
        /// In the file.
        got: Vec<usize>,
    },
    /// A tensor has an element type that is not taken.
    #[error("{component}: tensor '{tensor}' is {got}; f32, f16 and bf16 are read")]
    TensorType {
        /// Directory of the component.
        component: String,
        /// Name of the tensor.
        tensor: String,
        /// In the file.
        got: String,
    },
    /// More layers than the configuration says.
    #[error(
        "{component} has {tensors}. Its config.json says that there are fewer layers: the weights and the configuration belong to different models"
    )]
    MoreLayers {
        /// Directory of the component.
        component: String,
        /// Tensors of the layers that are too many.
        tensors: UnusedTensors,
    },
    /// Tensors of something that is not built in and that changes what is computed.
    #[error(
        "{component} has {tensors}. They belong to {what}, which is not built in: without it the images would be wrong"
    )]
    OtherArchitecture {
        /// Directory of the component.
        component: String,
        /// What they belong to.
        what: &'static str,
        /// The tensors.
        tensors: UnusedTensors,
    },
    /// A weight that is not finite, or not in the chosen format.
    #[error(
        "{component}: tensor '{tensor}' has a value that {} ({value}) at index {index}: {advice}", why_not(*format)
    )]
    NotFinite {
        /// Directory of the component.
        component: String,
        /// Name of the tensor.
        tensor: String,
        /// The format that cannot hold it; nothing where none can.
        format: Option<&'static str>,
        /// The value.
        value: f32,
        /// Where.
        index: usize,
        /// What to do.
        advice: &'static str,
    },
    /// A configuration makes no sense.
    #[error("{path} cannot be used: {detail}", path = path.display())]
    Config {
        /// The file.
        path: PathBuf,
        /// Why, naming the key.
        detail: String,
    },
    /// What the tokenizer adds to its vocabulary.
    #[error(transparent)]
    AddedTokens(#[from] AddedTokensError),
    /// A model directory's own file.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// The output exists and is something else.
    #[error("{path} exists and is not a model that 'pixart convert' made: choose another --output, or remove it first", path = path.display())]
    OutputInTheWay {
        /// The output folder.
        path: PathBuf,
    },
    /// The output is a model that has something in it which is not the model's.
    #[error("{path} is not part of the model that would be replaced: move it away, or choose another --output", path = path.display())]
    OtherFile {
        /// The file.
        path: PathBuf,
    },
    /// The output cannot be written.
    #[error("cannot write {path}: {source}{advice}", path = path.display(), advice = write_advice(source))]
    Write {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The disk has less room than the IR needs.
    #[error("{0}; nothing was left behind")]
    NoSpace(#[from] NoSpace),
    /// The weights of an IR cannot be written; [`Self::in_file`] says which.
    #[error("cannot write the IR: {0}{advice}", advice = write_advice(.0))]
    WriteIr(#[from] io::Error),
    /// The written IR does not load, or has other ports than it should.
    #[error("the written {file} does not pass its check: {detail}")]
    Check {
        /// The IR.
        file: String,
        /// What is wrong.
        detail: String,
    },
    /// The runtime that checks the IR.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The caller asked to stop.
    #[error("stopped before the model was whole; nothing was left behind")]
    Cancelled,
}

fn why_not(format: Option<&str>) -> String {
    match format {
        Some(format) => format!("{format} cannot hold"),
        None => "is no finite number".to_owned(),
    }
}

fn write_advice(source: &io::Error) -> &'static str {
    match source.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            " (free some space, or choose a folder on another disk; nothing was left behind)"
        }
        io::ErrorKind::FileTooLarge => {
            " (the disk or 'ulimit -f' allows no larger file: choose a folder on another disk; nothing was left behind)"
        }
        _ => " (choose a folder that can be written to; nothing was left behind)",
    }
}

impl ConvertError {
    /// Names the file whose writing failed.
    pub(super) fn in_file(self, path: &std::path::Path) -> Self {
        match self {
            Self::WriteIr(source) => Self::Write {
                path: path.to_owned(),
                source,
            },
            other => other,
        }
    }

    /// Names the file that a configuration error came from.
    pub(super) fn config(path: PathBuf, source: &ConfigError) -> Self {
        Self::Config {
            path,
            detail: source.to_string(),
        }
    }
}
