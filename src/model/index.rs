//! `model_index.json`: which pipeline a diffusers directory is, and `pixart.json`, our own optional page beside it.

use serde::Deserialize;

use super::Bins;
use super::config_json::{ConfigError, ConfigJson};
use super::manifest::Defaults;
use super::python_json::from_python;
use super::spec::{TransformerSpec, VaeSpec};
use crate::domain::ImageSize;

/// How the names of weights end that are pickles, or may hold one.
pub(crate) const PICKLE_ENDINGS: [&str; 6] = ["bin", "ckpt", "pt", "pth", "pkl", "msgpack"];

/// What stands before the ending of a checkpoint's files of weights, the preferred first: nothing, or the variant that they are.
pub(crate) const WEIGHTS_VARIANTS: [&str; 3] = ["", ".fp16", ".bf16"];

/// The two pipelines that share PixArt's architecture.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PipelineClass {
    /// PixArt-α: 120 tokens.
    Alpha,
    /// PixArt-Σ: 300 tokens.
    Sigma,
}

impl PipelineClass {
    /// Tokens that the text encoder reads, end mark included (diffusers' `max_sequence_length`).
    pub fn max_tokens(self) -> usize {
        match self {
            Self::Alpha => 120,
            Self::Sigma => 300,
        }
    }
}

/// What a diffusers directory says of itself as a whole.
#[derive(Debug, Clone, PartialEq)]
pub struct ModelIndex {
    /// The pipeline.
    pub class: PipelineClass,
}

impl ModelIndex {
    /// Its file name.
    pub const FILE_NAME: &'static str = "model_index.json";

    /// Reads `model_index.json`.
    ///
    /// # Errors
    /// When it is not JSON or names another pipeline.
    pub fn from_json(text: &str) -> Result<Self, ConfigError> {
        let config = ConfigJson::parse(text)?;
        let class = match config.text("_class_name")? {
            Some("PixArtAlphaPipeline") => PipelineClass::Alpha,
            Some("PixArtSigmaPipeline") => PipelineClass::Sigma,
            Some(other) => {
                return Err(ConfigError::invalid(
                    "_class_name",
                    other,
                    "PixArtAlphaPipeline or PixArtSigmaPipeline",
                ));
            }
            None => return Err(ConfigError::Missing { key: "_class_name" }),
        };
        Ok(Self { class })
    }
}

/// `pixart.json`: what a checkpoint's makers know of its use and diffusers has no place for.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PixartJson {
    defaults: Defaults,
}

impl Defaults {
    /// diffusers' own default: the native resolution, sizes moved to the bins of the checkpoint where it has some.
    pub fn of(class: PipelineClass, transformer: &TransformerSpec, vae: &VaeSpec) -> Self {
        // A size beyond u32 has no bins, and the longest side bounds what is drawn.
        let sample_size = u32::try_from(transformer.sample_size).unwrap_or(u32::MAX);
        let side_px = u32::try_from(transformer.sample_size * vae.scale_factor())
            .unwrap_or(u32::MAX)
            .min(ImageSize::MAX_SIDE_PX);
        Self {
            width_px: side_px,
            height_px: side_px,
            resolution_binning: Bins::for_sample_size(class, sample_size).is_some(),
        }
    }

    /// Reads the optional `pixart.json` of a diffusers directory.
    ///
    /// # Errors
    /// When it is not JSON, or has an unknown key or a size out of range.
    pub fn from_json(text: &str) -> Result<Self, ConfigError> {
        let page: PixartJson = from_python(text)?;
        page.defaults.check()?;
        Ok(page.defaults)
    }

    /// Holds that the size can be asked for.
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        for (key, side) in [
            ("defaults.width_px", self.width_px),
            ("defaults.height_px", self.height_px),
        ] {
            if !(1..=ImageSize::MAX_SIDE_PX).contains(&side) {
                return Err(ConfigError::invalid(
                    key,
                    side,
                    format!("1 to {}", ImageSize::MAX_SIDE_PX),
                ));
            }
        }
        Ok(())
    }
}
