//! The path from a prompt to a picture's file, as diffusers' `PixArtAlphaPipeline` and `PixArtSigmaPipeline` walk it.
//!
//! [`Pipeline::generate`] is the recipe, one call a line. The networks stand behind [`engine::Graph`]; everything else is
//! plain arithmetic in f32, in the order of the reference. No async, no serde, no metrics.
//!
//! Reference: diffusers 0.42 `pipeline_pixart_alpha.py`.
//!
//! [`engine::Graph`]: crate::engine::Graph

mod added_words;
pub mod caption;
mod cost;
mod denoise;
mod embedding_cache;
mod embedding_store;
pub mod encode;
mod error;
pub mod guidance;
mod memory;
pub mod noise;
pub mod pixels;
mod plan;
pub mod png;
mod preview;
pub mod schedule;
mod text;
pub mod tokenizer;
mod vae;
mod watch;

use std::sync::Arc;
use std::time::{Duration, Instant};

use ndarray::Array4;

pub use cost::{ImageCost, ImageMemory};
pub use embedding_store::{EmbeddingStore, OpenError};
pub use error::PipelineError;
pub use memory::{MemoryBudget, MemoryLimit, TooLargeForMemory};
pub use plan::{Plan, Planner, TokenCount};
pub use preview::{LatentToRgb, PreviewFit, preview_file};
pub use text::TextKeeping;
pub use watch::{Event, Unwatched, Watch};

use crate::domain::{
    Decoder, GenerateRequest, Generated, ImageSize, Processor, Prompt, Receipt, Timings, Warning,
};
use crate::engine::{Graph, Tensor};
use crate::model::{ModelShapes, PipelineClass, value_bytes};
use memory::Held;
use pixels::Rgb8;
use text::{Reading, TextEncoder};
use vae::Decoders;

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

    /// Reads a prompt, as it stands, before it is asked for. The time that it took, loading left out.
    ///
    /// # Errors
    /// As [`Generate::generate`].
    fn read_ahead(
        &mut self,
        _prompt: &Prompt,
        _watch: &mut dyn Watch,
    ) -> Result<Duration, PipelineError> {
        Ok(Duration::ZERO)
    }

    /// Lets the networks hold no more than `bytes` for images, beside what they hold now.
    fn keep_within(&mut self, _bytes: u64) {}

    /// Puts away what has not been used for long at `now`. To be called when there is nothing to draw.
    fn rest(&mut self, _now: Instant) -> AtRest {
        AtRest::default()
    }
}

/// What is put away while there is nothing to draw.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct AtRest {
    /// Whether the text encoder has just left memory.
    pub released: bool,
    /// Whether it is in memory.
    pub resident: bool,
    /// When there will be something to put away again, if nothing is drawn until then.
    pub again: Option<Instant>,
    /// Text embeddings that are held in memory, in bytes.
    pub embedding_bytes: usize,
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
    /// The processor that the networks were compiled for; none where that is another device.
    pub processor: Option<Processor>,
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
    /// The same before the tiny decoder; none where the model has no such decoder.
    pub tiny_vae_scaling_factor: Option<f32>,
    /// The shapes of the networks.
    pub shapes: ModelShapes,
    /// Rows and columns of image tokens, the only ones that a traced transformer draws.
    pub frozen_grid: Option<(usize, usize)>,
}

/// The networks.
pub struct Networks {
    /// T5.
    pub text_encoder: Box<dyn Graph>,
    /// The diffusion transformer.
    pub transformer: Box<dyn Graph>,
    /// The VAE's decoder.
    pub vae_decoder: Box<dyn Graph>,
    /// The tiny autoencoder's, where there is one.
    pub tiny_vae_decoder: Option<Box<dyn Graph>>,
}

/// A model that is ready to draw.
pub struct Pipeline {
    planner: Arc<Planner>,
    text: TextEncoder,
    transformer: Box<dyn Graph>,
    decoders: Decoders,
    held: Held,
}

impl Pipeline {
    /// Puts the parts together.
    pub fn new(planner: Arc<Planner>, networks: Networks) -> Self {
        Self {
            planner,
            text: TextEncoder::new(networks.text_encoder, TextKeeping::default()),
            transformer: networks.transformer,
            decoders: Decoders {
                full: networks.vae_decoder,
                tiny: networks.tiny_vae_decoder,
            },
            held: Held::default(),
        }
    }

    /// Gives back what networks keep of larger images, where this one needs the room. Returns whether previews by the tiny decoder have
    /// room as well.
    fn make_room(&mut self, request: &GenerateRequest, plan: &Plan, wants_previews: bool) -> bool {
        let back = self.held.draw(plan.cost.memory, request.decoder);
        if back.transformer {
            self.transformer.release();
        }
        if back.decoders[Decoder::Full as usize] {
            self.decoders.full.release();
        }
        if let Some(tiny) = &mut self.decoders.tiny
            && back.decoders[Decoder::Tiny as usize]
        {
            tiny.release();
        }
        let facts = self.planner.facts();
        wants_previews && self.decoders.tiny.is_some() && {
            let value_bytes = value_bytes(&facts.precision);
            let bytes = facts
                .shapes
                .decoder_bytes(plan.drawn_size, Decoder::Tiny, value_bytes);
            self.held.preview(bytes)
        }
    }

    /// Keeps so much of text between pictures.
    #[must_use]
    pub fn keeping(self, keeping: TextKeeping) -> Self {
        Self {
            text: self.text.keeping(keeping),
            ..self
        }
    }

    /// Gives an idle text encoder back while a picture is drawn.
    fn release_idle(&mut self, watch: &mut dyn Watch) {
        if self.text.release_idle(Instant::now()) {
            watch.observe(Event::TextEncoderReleased);
        }
    }

    /// Has text read by the text encoder. While it is loaded the other networks make room, where they can be loaded again:
    /// weights and activations together are as large as it is.
    fn read<T>(
        &mut self,
        timings: &mut Timings,
        watch: &mut dyn Watch,
        read: impl FnOnce(&mut TextEncoder, &mut Reading<'_>) -> Result<T, PipelineError>,
    ) -> Result<T, PipelineError> {
        let mut reading = Reading {
            facts: self.planner.facts(),
            timings,
            watch,
            make_room: &mut || {
                self.transformer.release();
                // The tiny one would make none.
                self.decoders.full.release();
            },
        };
        read(&mut self.text, &mut reading)
    }

    /// Loads the networks that made room. Returns how long that took.
    fn load_others(&mut self) -> Result<Duration, PipelineError> {
        let others = [
            (denoise::STAGE, &mut self.transformer),
            (vae::STAGE, &mut self.decoders.full),
        ];
        let mut took = Duration::ZERO;
        for (stage, graph) in others {
            let loaded = graph
                .load()
                .map_err(|source| PipelineError::engine(stage, source))?;
            took += loaded.unwrap_or_default();
        }
        Ok(took)
    }

    /// What it knows of its model, and what it would draw.
    pub fn planner(&self) -> &Arc<Planner> {
        &self.planner
    }

    /// Forgets the text embeddings of earlier prompts, those on disk too, so that the next picture encodes its own: for who
    /// measures that.
    pub fn forget_embeddings(&mut self) {
        self.text.forget();
    }

    /// Gives a text encoder back that is loaded on demand, so that the next picture loads it: for who measures that.
    pub fn release_text_encoder(&mut self) {
        self.text.release();
    }

    fn receipt(&self, request: &GenerateRequest, drawn_size: ImageSize) -> Receipt {
        let facts = self.planner.facts();
        Receipt {
            request: request.clone(),
            drawn_size,
            model: facts.name.clone(),
            weights: facts.weights.clone(),
            device: facts.device.clone(),
            precision: facts.precision.clone(),
            processor: facts.processor.clone(),
            model_digest: facts.digest.clone(),
            openvino_version: facts.openvino_version.clone(),
        }
    }
}

impl Generate for Pipeline {
    fn generate(
        &mut self,
        request: &GenerateRequest,
        watch: &mut dyn Watch,
    ) -> Result<Generated, PipelineError> {
        let planner = Arc::clone(&self.planner);
        let facts = planner.facts();
        let plan = planner.plan(request)?;
        let wants_previews = (0..plan.steps).any(|step| watch.wants_preview(step));
        let previews = self.make_room(request, &plan, wants_previews);
        let mut warnings = plan.warnings;
        let mut timings = Timings {
            tokenize: plan.tokenize,
            ..Timings::default()
        };

        let start = Instant::now();
        let text = self.read(&mut timings, watch, |text, reading| {
            text.encode(&plan.ids, reading)
        })?;
        self.release_idle(watch);
        timings.text_encoder_load += self.load_others()?;
        timings.text_encode = start.elapsed();
        let latents = denoise::Denoise {
            transformer: self.transformer.as_mut(),
            decoders: &mut self.decoders,
            facts,
            schedule: &plan.schedule,
            text: &text,
            request,
            drawn_size: plan.drawn_size,
            previews,
        }
        .run(&mut timings.steps, watch)?;
        // Decoding takes the most memory of all.
        self.release_idle(watch);
        let decoded = timed(&mut timings.vae_decode, || {
            self.decoders
                .decode(request.decoder, latents.view(), facts, watch)
        })?;
        watch.observe(Event::Decoded {
            image: decoded.view(),
        });
        let receipt = self.receipt(request, plan.drawn_size);
        let (image, is_flat) = timed(&mut timings.png_encode, || {
            let picture = pixels::to_rgb8(pixels::resize_and_crop(decoded, request.size).view())?;
            Ok::<_, PipelineError>((encode(&picture, request, &receipt)?, picture.is_flat()))
        })?;
        if is_flat {
            warnings.push(Warning::FlatPicture);
        }
        Ok(Generated {
            image,
            timings,
            receipt,
            warnings,
        })
    }

    fn read_ahead(
        &mut self,
        prompt: &Prompt,
        watch: &mut dyn Watch,
    ) -> Result<Duration, PipelineError> {
        let ids = self.planner.ids(prompt)?;
        let mut timings = Timings::default();
        let start = Instant::now();
        self.read(&mut timings, watch, |text, reading| {
            text.read_ahead(&ids, reading)
        })?;
        Ok(start.elapsed().saturating_sub(timings.text_encoder_load))
    }

    fn keep_within(&mut self, bytes: u64) {
        self.held = Held::within(bytes);
    }

    fn rest(&mut self, now: Instant) -> AtRest {
        AtRest {
            released: self.text.release_idle(now),
            resident: self.text.is_resident(),
            again: self.text.release_due(),
            embedding_bytes: self.text.held_bytes(),
        }
    }
}

/// The file of a picture, with the receipt where its format carries one.
fn encode(
    picture: &Rgb8,
    request: &GenerateRequest,
    receipt: &Receipt,
) -> Result<Vec<u8>, PipelineError> {
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
    Ok(encode::encode(picture, request, &text)?)
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
