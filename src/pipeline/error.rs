//! Why a picture was not drawn.

use thiserror::Error;

use super::encode::EncodeError;
use super::pixels::PixelsError;
use super::schedule::ScheduleError;
use super::tokenizer::TokenizerError;
use crate::domain::{ImageSize, InvalidRequest};
use crate::engine::EngineError;
use crate::model::ModelError;

/// Why a picture was not drawn.
#[derive(Debug, Error)]
pub enum PipelineError {
    /// The request does not suit this model.
    #[error(transparent)]
    Request(#[from] InvalidRequest),
    /// The checkpoint has no aspect bins.
    #[error(
        "this model has no aspect bins (its sample_size is {sample_size}): ask without resolution binning"
    )]
    NoBins {
        /// Latents a side at the native resolution.
        sample_size: usize,
    },
    /// The IR was traced for one size.
    #[error(
        "this transformer was traced for {width_px}x{height_px} and cannot draw {asked}: a traced IR keeps its position table; ask for that size without resolution binning, or make IR for every size with 'pixart convert' on the diffusers directory"
    )]
    FrozenSize {
        /// Size asked for.
        asked: ImageSize,
        /// Width that it was traced for.
        width_px: usize,
        /// Height that it was traced for.
        height_px: usize,
    },
    /// The IR has fixed dimensions that this request does not fit.
    #[error("the {stage} was traced with fixed dimensions that do not fit this request: {source}")]
    FrozenShape {
        /// Which network.
        stage: &'static str,
        /// Which tensor.
        source: EngineError,
    },
    /// The model's files are not what they were when it was loaded.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// The prompt cannot be read.
    #[error(transparent)]
    Tokenizer(#[from] TokenizerError),
    /// The scheduler cannot walk that way.
    #[error(transparent)]
    Schedule(#[from] ScheduleError),
    /// A network failed.
    #[error("{stage}: {source}")]
    Engine {
        /// Which network.
        stage: &'static str,
        /// Why.
        source: EngineError,
    },
    /// A network gave something of another shape than its specification says.
    #[error(
        "{stage} gave the shape {got:?} where {expected} was expected: the model's files do not belong together"
    )]
    Shape {
        /// Which network.
        stage: &'static str,
        /// In words.
        expected: String,
        /// What came.
        got: Vec<usize>,
    },
    /// Numbers that are not finite, which would become a black picture.
    #[error("{stage} gave {count} value(s) that are not finite: {advice}")]
    NotFinite {
        /// Which stage.
        stage: String,
        /// How many.
        count: usize,
        /// What to do, which depends on the arithmetic in force.
        advice: &'static str,
    },
    /// Decoded values that are not a picture.
    #[error(transparent)]
    Pixels(#[from] PixelsError),
    /// The picture cannot be encoded.
    #[error(transparent)]
    Encode(#[from] EncodeError),
    /// The caller asked to stop.
    #[error("cancelled")]
    Cancelled,
}

impl PipelineError {
    /// Whether there was too little memory.
    pub fn is_out_of_memory(&self) -> bool {
        matches!(self, Self::Engine { source, .. } if source.is_out_of_memory())
    }

    /// The field of the request that does not suit, where the request is what has to change.
    pub fn field(&self) -> Option<&'static str> {
        match self {
            Self::Request(error) => Some(error.field()),
            Self::NoBins { .. } => Some("resolution_binning"),
            Self::FrozenSize { .. } => Some("size"),
            Self::Schedule(error) => Some(match error {
                ScheduleError::TooManySteps { .. } | ScheduleError::BeyondTraining { .. } => {
                    "steps"
                }
                ScheduleError::Config(_) | ScheduleError::NothingLeft { .. } => "scheduler",
            }),
            Self::FrozenShape { .. }
            | Self::Model(_)
            | Self::Tokenizer(_)
            | Self::Engine { .. }
            | Self::Shape { .. }
            | Self::NotFinite { .. }
            | Self::Pixels(_)
            | Self::Encode(_)
            | Self::Cancelled => None,
        }
    }

    /// An engine's error at `stage`; a cancelled inference is a cancelled picture.
    pub(super) fn engine(stage: &'static str, source: EngineError) -> Self {
        match source {
            EngineError::Cancelled => Self::Cancelled,
            source @ EngineError::Shape { .. } => Self::FrozenShape { stage, source },
            source => Self::Engine { stage, source },
        }
    }
}
