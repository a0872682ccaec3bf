//! What a manifest says of a model that `pixart quantize` made: how far each component is computed in integers, and by which
//! calibration.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::manifest::WeightsFormat;

/// How far a component is computed in integers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum QuantizationMode {
    /// Weights are stored in integers, everything is computed in floats: smaller, hardly faster.
    Weights,
    /// Attention is computed in integers, linear layers in floats; in a VAE, convolutions are too.
    Hybrid,
    /// Everything that multiplies is computed in integers, but for what was left out by name.
    Full,
}

impl QuantizationMode {
    /// The name in flags and manifests.
    pub fn name(self) -> &'static str {
        match self {
            Self::Weights => "weights",
            Self::Hybrid => "hybrid",
            Self::Full => "full",
        }
    }
}

impl fmt::Display for QuantizationMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for QuantizationMode {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        [Self::Weights, Self::Hybrid, Self::Full]
            .into_iter()
            .find(|mode| mode.name() == text)
            .ok_or_else(|| format!("mode '{text}' is not one of weights, hybrid, full"))
    }
}

/// How one component was quantised.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Quantization {
    /// How far.
    pub mode: QuantizationMode,
    /// The exponent of SmoothQuant, where channels were balanced between activations and weights.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub smoothing: Option<f32>,
    /// Weights that share a scale in 4-bit weights; a row in 8-bit ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<usize>,
    /// How the rows of its table of embeddings are stored, where it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub embeddings: Option<WeightsFormat>,
    /// Operations that are computed in integers.
    pub operations: usize,
    /// Operations that stayed in floats although the mode means them, by the names that profiles have for them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub in_float: Vec<String>,
}

/// The calibration that ranges of activations come from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CalibrationEntry {
    /// Digest of the statistics.
    pub digest: String,
    /// Digest of the model that was watched.
    pub model_digest: String,
    /// Pictures that were drawn.
    pub samples: u32,
    /// Denoising steps of each.
    pub steps: u32,
    /// Their size, such as `512x512`.
    pub size: String,
    /// Seed of the first; picture i has the seed + i.
    pub seed: u64,
    /// Which range of what was seen counts.
    pub range: String,
}
