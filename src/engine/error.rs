//! What can go wrong between us and OpenVINO.

use std::path::{Path, PathBuf};

use thiserror::Error;

use super::scarcity::Scarcity;

/// An error of the runtime, or of what was asked of it.
#[derive(Debug, Error)]
pub enum EngineError {
    /// No runtime library in any of the places.
    #[error(
        "the OpenVINO runtime was not found{looked}\n  type 'make runtime' in pixart's source folder, or 'pip install openvino' and then --openvino \"$(python3 -c 'import openvino; print(openvino.__path__[0])')/libs\"",
        looked = looked_in(.folders)
    )]
    RuntimeNotFound {
        /// Folders that were searched.
        folders: Vec<PathBuf>,
    },
    /// A library that is there and does not load.
    #[error("{path} does not load: {detail}", path = path.display())]
    RuntimeBroken {
        /// The library.
        path: PathBuf,
        /// What the loader says.
        detail: String,
    },
    /// A runtime that is too old.
    #[error("OpenVINO {got} at {path} is too old: version {needed} or later is needed", path = path.display())]
    RuntimeTooOld {
        /// The library.
        path: PathBuf,
        /// Its version.
        got: String,
        /// The oldest that is known to work.
        needed: &'static str,
    },
    /// A device that this machine does not have.
    #[error(
        "the device {device} is not there: this machine has {available}, and AUTO takes the best of them"
    )]
    UnknownDevice {
        /// The name asked for.
        device: String,
        /// Names that would do.
        available: String,
    },
    /// No device at all: the part of the runtime that knows the processor did not load.
    #[error("OpenVINO at {library} finds no device, not even the processor: {detail}; the files of the runtime may not be whole", library = library.display())]
    NoDevice {
        /// The runtime's library.
        library: PathBuf,
        /// What the runtime says when it is asked for the device.
        detail: String,
    },
    /// The system did not give what the runtime asked for.
    #[error("{what}: {scarcity} ({detail})")]
    Scarce {
        /// What could not be done.
        what: String,
        /// What there was too little of.
        scarcity: Scarcity,
        /// What the runtime says.
        detail: String,
    },
    /// A precision that the device does not compute in.
    #[error(
        "the device {device} does not compute in {precision}: it can {available}; leave --precision at auto"
    )]
    UnsupportedPrecision {
        /// The device.
        device: String,
        /// What was asked for.
        precision: &'static str,
        /// What the device can.
        available: String,
    },
    /// IR that cannot be read or compiled.
    #[error("{path} cannot be {verb}: {detail}", path = path.display())]
    Graph {
        /// The `.xml`.
        path: PathBuf,
        /// read or compiled.
        verb: &'static str,
        /// What the runtime says.
        detail: String,
    },
    /// A graph without a port that is needed.
    #[error("{path} has no input '{port}'", path = path.display())]
    MissingPort {
        /// The `.xml`.
        path: PathBuf,
        /// The name looked for.
        port: String,
    },
    /// A tensor whose shape a port does not take.
    #[error("{tensor} has the shape {got:?} and {expected} is expected")]
    Shape {
        /// The tensor.
        tensor: String,
        /// The port's dimensions, `?` for free ones.
        expected: String,
        /// The tensor's.
        got: Vec<usize>,
    },
    /// An element type that is not used here.
    #[error("{tensor} is {got}: {expected} is expected")]
    ElementType {
        /// The tensor.
        tensor: String,
        /// What would do.
        expected: &'static str,
        /// What it is.
        got: String,
    },
    /// The graph failed while it ran.
    #[error("{graph} failed: {detail}")]
    Inference {
        /// The graph.
        graph: String,
        /// What the runtime says.
        detail: String,
    },
    /// The network was stopped midway and cannot be used again as it is.
    #[error(
        "{path} was stopped in the middle of an inference and does not come to rest: {detail}; load it again",
        path = path.display()
    )]
    NotAtRest {
        /// The network.
        path: PathBuf,
        /// What stood in the way.
        detail: String,
    },
    /// The caller asked to stop.
    #[error("cancelled")]
    Cancelled,
    /// Any other call of the runtime.
    #[error("OpenVINO: {0}")]
    Runtime(String),
}

impl EngineError {
    /// Whether there was too little memory.
    pub fn is_out_of_memory(&self) -> bool {
        matches!(
            self,
            Self::Scarce {
                scarcity: Scarcity::Memory,
                ..
            }
        )
    }

    /// A network that could not be read or compiled, with what the runtime says.
    pub(super) fn graph(path: &Path, verb: &'static str, detail: String) -> Self {
        let what = format!("{} cannot be {verb}", path.display());
        Scarcity::error(what, &detail).unwrap_or_else(|| Self::Graph {
            path: path.to_owned(),
            verb,
            detail,
        })
    }

    /// A network that failed while it ran, with what the runtime says.
    pub(super) fn inference(path: &Path, detail: String) -> Self {
        let graph = path.display().to_string();
        Scarcity::error(format!("{graph} failed"), &detail)
            .unwrap_or(Self::Inference { graph, detail })
    }
}

fn looked_in(folders: &[PathBuf]) -> String {
    let folders: Vec<String> = folders
        .iter()
        .map(|folder| folder.display().to_string())
        .collect();
    if folders.is_empty() {
        String::new()
    } else {
        format!(" in {}", folders.join(", "))
    }
}
