//! Why a quantisation stopped. Every message names the component, the layer or the file, and says what to do.

use std::io;
use std::path::PathBuf;

use thiserror::Error;

use super::captions::CaptionsError;
use super::statistics::StatisticsError;
use crate::convert::ConvertError;
use crate::engine::EngineError;
use crate::ir::IrError;
use crate::model::ModelError;
use crate::pipeline::PipelineError;

/// Why a model could not be quantised.
#[derive(Debug, Error)]
pub enum QuantizeError {
    /// The model was not made by `pixart convert`.
    #[error("{path} was not made by pixart: convert its checkpoint with 'pixart convert', and quantise what comes out", path = path.display())]
    ForeignModel {
        /// The model's folder.
        path: PathBuf,
    },
    /// A component has integer weights or quantised activations already.
    #[error(
        "the {component} is quantised already ({layer}): quantise the model that was converted with --weights f16 or f32, or keep this component as it is with --{flag} keep",
        flag = keeping_flag(.component)
    )]
    AlreadyQuantized {
        /// The component.
        component: String,
        /// Its first layer in integers.
        layer: String,
    },
    /// Everything would stay as it is.
    #[error("nothing is left to quantise: every component is kept as it is")]
    NothingToDo,
    /// The model would be replaced by itself.
    #[error("{path} is the model that is to be quantised: choose another --output", path = path.display())]
    OntoItself {
        /// The folder.
        path: PathBuf,
    },
    /// A name that is to stay in floats and is no operation's.
    #[error(
        "no component that is quantised has an operation '{name}': 'pixart quantize MODEL --operations' lists them"
    )]
    UnknownOperation {
        /// The name given.
        name: String,
    },
    /// A name that is to be computed in integers although it stays in floats by default, and is no such operation's.
    #[error(
        "--in-integers {name}: {}",
        match known.as_slice() {
            [] => "no operation stays in floats by default in these modes".to_owned(),
            known => format!("what stays in floats by default is {}", known.join(", ")),
        }
    )]
    NotFloatByDefault {
        /// The name given.
        name: String,
        /// Those that it could be.
        known: Vec<String>,
    },
    /// A name that is to stay in floats and to be computed in integers.
    #[error(
        "'{name}' cannot both stay in floats (--in-float) and be computed in integers (--in-integers)"
    )]
    BothWays {
        /// The name given.
        name: String,
    },
    /// The device has no integer arithmetic.
    #[error(
        "{device} computes nothing in 8-bit integers (it can {capabilities}): only the mode 'weights' is of use there"
    )]
    NoIntegers {
        /// The device.
        device: String,
        /// What it can.
        capabilities: String,
    },
    /// Operations that should be computed in integers and are not.
    #[error(
        "{count} of the {component}'s operations were compiled without an integer kernel, {name} for one ({kernel}): the model would be quantised in vain on this device"
    )]
    NotInIntegers {
        /// The component.
        component: String,
        /// How many.
        count: usize,
        /// One of them.
        name: String,
        /// What runs it.
        kernel: String,
    },
    /// An IR of the model.
    #[error(transparent)]
    Ir(#[from] IrError),
    /// Calibration captions.
    #[error(transparent)]
    Captions(#[from] CaptionsError),
    /// What calibration saw.
    #[error(transparent)]
    Statistics(#[from] StatisticsError),
    /// The model.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// The making of the new model's folder.
    #[error(transparent)]
    Output(ConvertError),
    /// The runtime.
    #[error(transparent)]
    Engine(EngineError),
    /// A picture of the calibration.
    #[error(transparent)]
    Pipeline(#[from] PipelineError),
    /// A file of the work, not of the output.
    #[error("cannot write {path}: {source} (calibration needs room for the network that it watches: name another folder in TMPDIR)", path = path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The weights of an IR cannot be read or written.
    #[error("cannot write the quantised IR: {0}")]
    WriteIr(io::Error),
    /// The caller asked to stop.
    #[error(
        "stopped before the model was whole; what calibration has seen is kept where --statistics names a file, and nothing else was left behind"
    )]
    Cancelled,
}

/// The flag that keeps a component as it is.
fn keeping_flag(component: &str) -> &'static str {
    match component {
        "transformer" => "transformer",
        "text_encoder" => "text-encoder-weights",
        _ => "vae-decoder",
    }
}
