//! The denoising loop: noise → latents, one call of the transformer a step.

use std::sync::Arc;
use std::time::{Duration, Instant};

use ndarray::{Array2, Array4, ArrayView4, Axis, concatenate};

use super::embedding_cache::Embeddings;
use super::noise::TorchGenerator;
use super::schedule::Schedule;
use super::text::{Both, frozen_length};
use super::vae::Decoders;
use super::{Event, ModelFacts, PipelineError, Watch, check_finite, guidance, tensor_of};
use crate::domain::{GenerateRequest, ImageSize};
use crate::engine::{Graph, Tensor};

pub(super) const STAGE: &str = "transformer";

/// All that one picture's loop needs.
pub(super) struct Denoise<'a> {
    pub(super) transformer: &'a mut dyn Graph,
    pub(super) decoders: &'a mut Decoders,
    pub(super) facts: &'a ModelFacts,
    pub(super) schedule: &'a Schedule,
    pub(super) text: &'a Both<Embeddings>,
    pub(super) request: &'a GenerateRequest,
    pub(super) drawn_size: ImageSize,
    /// Whether the tiny decoder may make previews.
    pub(super) previews: bool,
}

impl Denoise<'_> {
    /// Walks the schedule; `times` gets the time of each step. Returns f32 `[1, latent_channels, h, w]`.
    pub(super) fn run(
        mut self,
        times: &mut Vec<Duration>,
        watch: &mut dyn Watch,
    ) -> Result<Array4<f32>, PipelineError> {
        let mut generator = TorchGenerator::new(self.request.seed);
        let mut latents = self.initial_latents(&mut generator);
        let conditions = self.conditions();
        let mut solver = self.schedule.solver();
        let timesteps = self.schedule.timesteps();
        for (step, &timestep) in timesteps.iter().enumerate() {
            if watch.cancelled() {
                return Err(PipelineError::Cancelled);
            }
            let start = Instant::now();
            let prediction = self.predict(&latents, timestep, &conditions, watch)?;
            watch.observe(Event::Predicted {
                step,
                prediction: prediction.view(),
            });
            check_finite(
                self.facts,
                format!("{STAGE}, step {}", step + 1),
                &prediction,
            )?;
            let noise = self.guided(prediction.view());
            let noise = guidance::keep_epsilon(noise.view(), self.facts.latent_channels);
            let stepped = solver.step(step, noise, &latents, &mut generator);
            latents = stepped.latents;
            check_finite(
                self.facts,
                format!("scheduler, step {}", step + 1),
                &latents,
            )?;
            let took = start.elapsed();
            times.push(took);
            let denoised = stepped.denoised.view();
            let preview = if self.previews && watch.wants_preview(step) {
                self.decoders.preview(denoised, self.facts, watch)
            } else {
                None
            };
            watch.observe(Event::Stepped {
                step,
                steps: timesteps.len(),
                took,
                latents: latents.view(),
                denoised,
                preview: preview.as_ref().map(|decoded| decoded.view()),
            });
        }
        Ok(latents)
    }

    /// `randn([1, latent_channels, h, w]) · init_noise_sigma`.
    fn initial_latents(&self, generator: &mut TorchGenerator) -> Array4<f32> {
        let scale_factor = self.facts.vae_scale_factor;
        let shape = (
            1,
            self.facts.latent_channels,
            self.drawn_size.height_px() as usize / scale_factor,
            self.drawn_size.width_px() as usize / scale_factor,
        );
        let count = shape.0 * shape.1 * shape.2 * shape.3;
        let noise = Array4::from_shape_vec(shape, generator.randn(count))
            .expect("as many as the shape has");
        noise * self.schedule.init_noise_sigma()
    }

    /// The inputs that are the same in every step, unconditional half first while guidance is active.
    fn conditions(&self) -> Vec<(&'static str, Tensor)> {
        let halves: Vec<&Array2<f32>> = self
            .text
            .negative
            .iter()
            .chain([&self.text.prompt])
            .map(Arc::as_ref)
            .collect();
        let batch = halves.len();
        let width = self.text.prompt.ncols();
        let longest = halves.iter().map(|half| half.nrows()).max().unwrap_or(0);
        let length = frozen_length(self.transformer, "encoder_hidden_states")
            .unwrap_or(longest)
            .max(longest);
        let mut embeddings = vec![0.0; batch * length * width];
        let mut mask = vec![0.0; batch * length];
        for (row, half) in halves.iter().enumerate() {
            let flat = half.as_standard_layout();
            let values = flat.as_slice().expect("standard layout is contiguous");
            embeddings[row * length * width..][..values.len()].copy_from_slice(values);
            mask[row * length..][..half.nrows()].fill(1.0);
        }
        let mut conditions = vec![
            (
                "encoder_hidden_states",
                Tensor::f32([batch, length, width], embeddings),
            ),
            ("encoder_attention_mask", Tensor::f32([batch, length], mask)),
        ];
        if self.facts.micro_conditions {
            let (height, width) = (
                self.drawn_size.height_px() as f32,
                self.drawn_size.width_px() as f32,
            );
            conditions.push((
                "resolution",
                Tensor::f32([batch, 2], [height, width].repeat(batch)),
            ));
            // diffusers divides in f64 and rounds to f32: the same number as an f32 division of whole numbers.
            conditions.push((
                "aspect_ratio",
                Tensor::f32([batch, 1], vec![height / width; batch]),
            ));
        }
        conditions
    }

    /// One call of the transformer. Neither scheduler scales its input. Returns f32 `[1 or 2, out_channels, h, w]`.
    fn predict(
        &mut self,
        latents: &Array4<f32>,
        timestep: i64,
        conditions: &[(&'static str, Tensor)],
        watch: &dyn Watch,
    ) -> Result<Array4<f32>, PipelineError> {
        let halves = if self.text.negative.is_some() { 2 } else { 1 };
        let input = concatenate(Axis(0), &vec![latents.view(); halves]).expect("equal shapes");
        let (_, _, height, width) = input.dim();
        let hidden_states = tensor_of(&input);
        let timestep = Tensor::i64([halves], vec![timestep; halves]);
        let mut inputs = vec![("hidden_states", &hidden_states), ("timestep", &timestep)];
        inputs.extend(conditions.iter().map(|(name, tensor)| (*name, tensor)));
        let (shape, values) = self
            .transformer
            .infer(&inputs, &|| watch.cancelled())
            .and_then(Tensor::into_f32)
            .map_err(|source| PipelineError::engine(STAGE, source))?;
        let latent_channels = self.facts.latent_channels;
        match shape[..] {
            [batch, channels, rows, columns]
                if batch == halves
                    && rows == height
                    && columns == width
                    && (channels == latent_channels || channels == 2 * latent_channels) =>
            {
                Ok(
                    Array4::from_shape_vec((batch, channels, rows, columns), values)
                        .expect("the runtime's own shape"),
                )
            }
            _ => Err(PipelineError::Shape {
                stage: STAGE,
                expected: format!("[{halves}, {latent_channels} or twice that, {height}, {width}]"),
                got: shape,
            }),
        }
    }

    /// Guidance over all channels; the learned sigma is dropped afterwards, as diffusers has it.
    fn guided(&self, prediction: ArrayView4<'_, f32>) -> Array4<f32> {
        if self.text.negative.is_some() {
            guidance::guide(prediction, self.request.guidance.scale())
        } else {
            prediction.to_owned()
        }
    }
}
