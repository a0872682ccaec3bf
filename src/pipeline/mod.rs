//! The path from a prompt to a PNG, as diffusers' `PixArtAlphaPipeline` and `PixArtSigmaPipeline` walk it.
//!
//! [`Pipeline::generate`] is the recipe, one call a line. The networks stand behind [`engine::Graph`]; everything else is
//! plain arithmetic in f32, in the order of the reference. No async, no serde, no metrics.
//!
//! Reference: diffusers 0.42 `pipeline_pixart_alpha.py`.
//!
//! [`engine::Graph`]: crate::engine::Graph

pub mod caption;
mod denoise;
mod error;
pub mod guidance;
pub mod noise;
pub mod pixels;
pub mod png;
pub mod schedule;
mod text;
pub mod tokenizer;
mod vae;
mod watch;

use std::time::{Duration, Instant};

use ndarray::Array4;

pub use error::PipelineError;
pub use watch::{Event, Unwatched, Watch};

use crate::domain::{
    GenerateRequest, Generated, ImageSize, Receipt, SchedulerKind, Timings, Warning,
};
use crate::engine::{Graph, Tensor};
use crate::model::{Bins, PipelineClass, SchedulerConfig};
use schedule::Schedule;
use tokenizer::PromptTokenizer;

/// Steps that LCM students are trained for.
const LCM_STEPS: std::ops::RangeInclusive<usize> = 2..=8;

/// Draws pictures: the seam that everything above the pipeline sees.
pub trait Generate {
    /// Draws one picture. `watch` sees every stage and can stop it, within milliseconds.
    ///
    /// # Errors
    /// When the request does not suit the model, a network fails or gives numbers that are not finite, or `watch` stops.
    fn generate(
        &mut self,
        request: &GenerateRequest,
        watch: &mut dyn Watch,
    ) -> Result<Generated, PipelineError>;
}

/// What a pipeline needs to know of its model beside the networks themselves.
#[derive(Debug, Clone, PartialEq)]
pub struct ModelFacts {
    /// What the model is called.
    pub name: String,
    /// Weights format of the components, as [`Receipt::weights`] has it.
    pub weights: String,
    /// Device that the networks were compiled for.
    pub device: String,
    /// Arithmetic of the device.
    pub precision: String,
    /// Digest of the model's files.
    pub digest: String,
    /// Version of the runtime.
    pub openvino_version: String,
    /// Which pipeline it belongs to.
    pub class: PipelineClass,
    /// Latents a side at the native resolution.
    pub sample_size: usize,
    /// Latents a side of a token.
    pub patch_size: usize,
    /// Channels of the latents.
    pub latent_channels: usize,
    /// Whether the transformer wants resolution and aspect ratio.
    pub micro_conditions: bool,
    /// Pixels a side of a latent.
    pub vae_scale_factor: usize,
    /// What latents are divided by before decoding.
    pub vae_scaling_factor: f32,
    /// Rows and columns of image tokens, the only ones that a traced transformer draws.
    pub frozen_grid: Option<(usize, usize)>,
}

/// The three networks.
pub struct Networks {
    /// T5.
    pub text_encoder: Box<dyn Graph>,
    /// The diffusion transformer.
    pub transformer: Box<dyn Graph>,
    /// The VAE's decoder.
    pub vae_decoder: Box<dyn Graph>,
}

/// A model that is ready to draw.
pub struct Pipeline {
    tokenizer: PromptTokenizer,
    networks: Networks,
    scheduler: SchedulerConfig,
    facts: ModelFacts,
}

impl Pipeline {
    /// Puts the parts together.
    pub fn new(
        tokenizer: PromptTokenizer,
        networks: Networks,
        scheduler: SchedulerConfig,
        facts: ModelFacts,
    ) -> Self {
        Self {
            tokenizer,
            networks,
            scheduler,
            facts,
        }
    }

    /// What it knows of its model.
    pub fn facts(&self) -> &ModelFacts {
        &self.facts
    }

    /// The scheduler that the checkpoint was made for.
    pub fn own_scheduler(&self) -> SchedulerKind {
        self.scheduler.kind()
    }

    /// The size that a request is drawn at: its own, or its aspect bin's.
    fn drawn_size(&self, request: &GenerateRequest) -> Result<ImageSize, PipelineError> {
        let facts = &self.facts;
        let drawn = if request.resolution_binning {
            u32::try_from(facts.sample_size)
                .ok()
                .and_then(|sample_size| Bins::for_sample_size(facts.class, sample_size))
                .ok_or(PipelineError::NoBins {
                    sample_size: facts.sample_size,
                })?
                .nearest(request.size)
        } else {
            request.size
        };
        let multiple = facts.vae_scale_factor * facts.patch_size;
        drawn.check_multiple(u32::try_from(multiple).expect("at most 2^7 × 64"))?;
        let grid = (
            drawn.height_px() as usize / multiple,
            drawn.width_px() as usize / multiple,
        );
        match facts.frozen_grid {
            Some(frozen) if frozen != grid => Err(PipelineError::FrozenSize {
                asked: drawn,
                height_px: frozen.0 * multiple,
                width_px: frozen.1 * multiple,
            }),
            _ => Ok(drawn),
        }
    }

    fn receipt(&self, request: &GenerateRequest, drawn_size: ImageSize) -> Receipt {
        Receipt {
            request: request.clone(),
            drawn_size,
            model: self.facts.name.clone(),
            weights: self.facts.weights.clone(),
            device: self.facts.device.clone(),
            precision: self.facts.precision.clone(),
            model_digest: self.facts.digest.clone(),
            openvino_version: self.facts.openvino_version.clone(),
        }
    }
}

impl Generate for Pipeline {
    fn generate(
        &mut self,
        request: &GenerateRequest,
        watch: &mut dyn Watch,
    ) -> Result<Generated, PipelineError> {
        let drawn_size = self.drawn_size(request)?;
        let schedule = Schedule::new(request.scheduler, &self.scheduler, request.steps)?;
        let mut timings = Timings::default();
        let mut warnings = warnings_of(request, drawn_size);

        let tokens = timed(&mut timings.tokenize, || {
            text::tokenize(&self.tokenizer, request, &mut warnings)
        })?;
        let text = timed(&mut timings.text_encode, || {
            text::encode(
                self.networks.text_encoder.as_mut(),
                &tokens,
                &self.facts,
                watch,
            )
        })?;
        let latents = denoise::Denoise {
            transformer: self.networks.transformer.as_mut(),
            facts: &self.facts,
            schedule: &schedule,
            text: &text,
            request,
            drawn_size,
        }
        .run(&mut timings.steps, watch)?;
        let decoded = timed(&mut timings.vae_decode, || {
            vae::decode(
                self.networks.vae_decoder.as_mut(),
                latents,
                &self.facts,
                watch,
            )
        })?;
        let receipt = self.receipt(request, drawn_size);
        let png = timed(&mut timings.png_encode, || {
            encode(decoded, request, &receipt)
        })?;
        Ok(Generated {
            png,
            timings,
            receipt,
            warnings,
        })
    }
}

/// Decoded values → the PNG: resize and crop after binning, 8 bits, receipt in the text chunks.
fn encode(
    decoded: Array4<f32>,
    request: &GenerateRequest,
    receipt: &Receipt,
) -> Result<Vec<u8>, PipelineError> {
    let picture = pixels::to_rgb8(pixels::resize_and_crop(decoded, request.size).view())?;
    let mut text: Vec<(String, String)> = receipt
        .fields()
        .into_iter()
        .map(|(name, value)| (format!("pixart:{name}"), value))
        .collect();
    if request.embed_prompt {
        text.push((
            "pixart:prompt".to_owned(),
            request.prompt.as_str().to_owned(),
        ));
        text.push((
            "pixart:negative_prompt".to_owned(),
            request.negative_prompt.as_str().to_owned(),
        ));
    }
    Ok(png::encode(&picture, &text)?)
}

/// What can be told from the request alone.
fn warnings_of(request: &GenerateRequest, drawn: ImageSize) -> Vec<Warning> {
    let mut warnings = Vec::new();
    if !request.guidance.is_active() && !request.negative_prompt.as_str().is_empty() {
        warnings.push(Warning::NegativePromptWithoutEffect);
    }
    if drawn != request.size {
        warnings.push(Warning::SizeBinned {
            drawn,
            asked: request.size,
        });
    }
    let steps = request.steps.count();
    if request.scheduler == SchedulerKind::Lcm && !LCM_STEPS.contains(&steps) {
        warnings.push(Warning::StepsOutsideLcmRange { steps });
    }
    warnings
}

/// Runs `work` and puts the time that it took into `slot`.
fn timed<T>(slot: &mut Duration, work: impl FnOnce() -> T) -> T {
    let start = Instant::now();
    let done = work();
    *slot = start.elapsed();
    done
}

/// Holds that every value of `stage` is finite.
fn check_finite<'a>(
    facts: &ModelFacts,
    stage: impl Into<String>,
    values: impl IntoIterator<Item = &'a f32>,
) -> Result<(), PipelineError> {
    match values
        .into_iter()
        .filter(|value| !value.is_finite())
        .count()
    {
        0 => Ok(()),
        count => Err(PipelineError::NotFinite {
            stage: stage.into(),
            count,
            advice: if facts.precision.eq_ignore_ascii_case("f32") {
                "the arithmetic is f32 already, so the weights are damaged: fetch the checkpoint and convert it again"
            } else {
                "try --precision f32, and if that does not help the weights are damaged"
            },
        }),
    }
}

/// An array's elements in row-major order, whatever its layout in memory.
fn tensor_of(array: &Array4<f32>) -> Tensor {
    Tensor::f32(array.shape(), array.iter().copied().collect())
}
