//! What a conversion would make of a checkpoint whose weights are elsewhere: judged by its small files and the headers of its weights.
//!
//! Nothing is written. What is refused here would be refused by [`super::convert`] after the weights had come.

use std::path::Path;

use super::ConvertError;
use super::checkpoint::{Checkpoint, open_tiny_vae_of_headers};
use super::component::{ComponentWeights, Part};
use super::source::Header;
use crate::model::{
    Defaults, PipelineClass, SchedulerConfig, TextEncoderSpec, TinyVaeSpec, TransformerSpec,
    UnusedTensors, VaeSpec, WeightsFormat,
};

/// A model that a conversion would make.
#[derive(Debug, Clone)]
pub struct ConversionPlan {
    /// Which pipeline it belongs to.
    pub pipeline: PipelineClass,
    /// What it draws unless asked otherwise.
    pub defaults: Defaults,
    /// Its noise, and how it is walked.
    pub scheduler: SchedulerConfig,
    /// T5.
    pub text_encoder: TextEncoderSpec,
    /// The diffusion transformer.
    pub transformer: TransformerSpec,
    /// The autoencoder.
    pub vae: VaeSpec,
    /// Text encoder, transformer and VAE decoder, in the order in which they come.
    pub components: [ComponentPlan; 3],
}

/// One component of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ComponentPlan {
    /// Its folder in the checkpoint.
    pub name: &'static str,
    /// How its weights will be stored.
    pub weights: WeightsFormat,
    /// Length of the weights that will be read.
    pub source_bytes: u64,
    /// Length of the weights that will be written.
    pub model_bytes: u64,
    /// Tensors that will be left out, beyond those that are known to be of no use.
    pub unused: Option<UnusedTensors>,
}

impl ConversionPlan {
    /// Judges the checkpoint with the small files below `folder`, whose weights have the headers that `headers` gives for each
    /// component. They are to be stored as `weights`.
    ///
    /// # Errors
    /// Those of [`super::convert`] before it reads a value.
    pub fn of(
        folder: &Path,
        headers: &dyn Fn(&str) -> Vec<Header>,
        weights: ComponentWeights,
    ) -> Result<Self, ConvertError> {
        let checkpoint = Checkpoint::of_headers(folder, headers, weights)?;
        let components = [
            component_plan(&checkpoint.text_encoder, weights.text_encoder),
            component_plan(&checkpoint.transformer, weights.transformer),
            component_plan(&checkpoint.vae_decoder, weights.vae_decoder),
        ];
        Ok(Self {
            pipeline: checkpoint.pages.index.class,
            scheduler: checkpoint.pages.scheduler_config,
            defaults: checkpoint.pages.defaults,
            text_encoder: checkpoint.text_encoder.spec,
            transformer: checkpoint.transformer.spec,
            vae: checkpoint.vae_decoder.spec,
            components,
        })
    }

    /// Judges the folder of a tiny autoencoder alone.
    ///
    /// # Errors
    /// As [`Self::of`].
    pub fn of_tiny_vae(folder: &Path, headers: &[Header]) -> Result<TinyVaeSpec, ConvertError> {
        open_tiny_vae_of_headers(folder, headers)
    }
}

fn component_plan(part: &dyn Part, weights: WeightsFormat) -> ComponentPlan {
    ComponentPlan {
        name: part.name(),
        weights,
        source_bytes: part.bytes(),
        model_bytes: part.bin_bytes(),
        unused: part.unused().cloned(),
    }
}
