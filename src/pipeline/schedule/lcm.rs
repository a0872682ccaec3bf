//! Latent consistency sampling: predict the clean picture, add fresh noise at the next level, repeat.
//!
//! Paper: Luo et al., "Latent Consistency Models", arXiv 2310.04378, algorithm 3 and appendix D (boundary condition).
//! Source: diffusers 0.42 `scheduling_lcm.py`, `set_timesteps` and `step`.
//!
//! | here | paper, diffusers |
//! |---|---|
//! | `alpha_bar` | ᾱ_t, `alphas_cumprod[t]` |
//! | `c_skip`, `c_out` | the boundary condition: at t = 0 the student's answer is its input |
//! | `x0` | the predicted clean latents |
//!
//! Arithmetic is in f32, in torch's order of operations.

use ndarray::{Array4, ArrayView4, Zip};

use super::betas::alphas_cumprod;
use super::{ScheduleError, Stepped, as_model_input};
use crate::domain::{SchedulerKind, Steps};
use crate::model::scheduler_config::{LcmConfig, Prediction};
use crate::pipeline::noise::TorchGenerator;

/// The standard deviation of the data that the boundary condition assumes (EDM), squared.
const SIGMA_DATA_SQUARED: f32 = 0.25;

/// Timesteps and coefficients of each step.
#[derive(Debug, Clone)]
pub(super) struct LcmSchedule {
    pub(super) timesteps: Vec<i64>,
    prediction: Prediction,
    clip_sample: Option<f32>,
    steps: Vec<Step>,
}

#[derive(Debug, Clone)]
struct Step {
    alpha_bar: f32,
    c_skip: f32,
    c_out: f32,
    /// `alpha_bar` of the next step; none for the last, which adds no noise.
    next_alpha_bar: Option<f32>,
}

impl LcmSchedule {
    pub(super) fn new(config: &LcmConfig, steps: Steps) -> Result<Self, ScheduleError> {
        let timesteps = timesteps(config, steps)?;
        let table = alphas_cumprod(&config.noise);
        let alpha_bars: Vec<f32> = timesteps.iter().map(|&timestep| table[timestep]).collect();
        if config.prediction == Prediction::Epsilon
            && let Some(step) = alpha_bars.iter().position(|&alpha_bar| alpha_bar <= 0.0)
        {
            return Err(ScheduleError::NothingLeft {
                timestep: timesteps[step],
            });
        }
        let steps = timesteps
            .iter()
            .zip(&alpha_bars)
            .enumerate()
            .map(|(step, (&timestep, &alpha_bar))| {
                let scaled = timestep as f32 * config.timestep_scaling;
                let denominator = scaled * scaled + SIGMA_DATA_SQUARED;
                Step {
                    alpha_bar,
                    c_skip: SIGMA_DATA_SQUARED / denominator,
                    c_out: scaled / denominator.sqrt(),
                    next_alpha_bar: alpha_bars.get(step + 1).copied(),
                }
            })
            .collect();
        Ok(Self {
            timesteps: as_model_input(&timesteps),
            prediction: config.prediction,
            clip_sample: config.clip_sample,
            steps,
        })
    }

    /// f32 [B, C, h, w] → the same; draws noise of that shape on every step but the last.
    pub(super) fn step(
        &self,
        step: usize,
        model_output: ArrayView4<'_, f32>,
        sample: &Array4<f32>,
        generator: &mut TorchGenerator,
    ) -> Stepped {
        let &Step {
            alpha_bar,
            c_skip,
            c_out,
            next_alpha_bar,
        } = &self.steps[step];
        let (root_alpha, root_beta) = (alpha_bar.sqrt(), (1.0 - alpha_bar).sqrt());
        let denoised = Zip::from(sample)
            .and(model_output)
            .map_collect(|&sample, &output| {
                let x0 = match self.prediction {
                    Prediction::Epsilon => (sample - root_beta * output) / root_alpha,
                    Prediction::Sample => output,
                    Prediction::Velocity => root_alpha * sample - root_beta * output,
                };
                let x0 = self.clip_sample.map_or(x0, |range| x0.clamp(-range, range));
                c_out * x0 + c_skip * sample
            });
        let Some(next_alpha_bar) = next_alpha_bar else {
            return Stepped {
                latents: denoised.clone(),
                denoised,
            };
        };
        let (root_alpha, root_beta) = (next_alpha_bar.sqrt(), (1.0 - next_alpha_bar).sqrt());
        let noise = Array4::from_shape_vec(denoised.raw_dim(), generator.randn(denoised.len()))
            .expect("as many values are drawn as the shape has");
        let latents = Zip::from(&denoised)
            .and(&noise)
            .map_collect(|&denoised, &noise| root_alpha * denoised + root_beta * noise);
        Stepped { latents, denoised }
    }
}

/// Every `num_train_timesteps / original_inference_steps`-th timestep is one of the student's; of these, from the
/// noisiest down, `steps` are taken at even distances.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "floor of a number between 0 and original_inference_steps"
)]
fn timesteps(config: &LcmConfig, steps: Steps) -> Result<Vec<usize>, ScheduleError> {
    let original = config.original_inference_steps;
    let count = steps.count();
    if count > original {
        return Err(ScheduleError::TooManySteps {
            scheduler: SchedulerKind::Lcm,
            steps: count,
            limit: original,
            reason: "original_inference_steps in scheduler_config.json",
        });
    }
    let skip = config.noise.num_train_timesteps / original;
    // numpy's linspace without its end: i * (original / count) in f64.
    let distance = original as f64 / count as f64;
    Ok((0..count)
        .map(|index| (index as f64 * distance).floor() as usize)
        .map(|from_noisiest| (original - from_noisiest) * skip - 1)
        .collect())
}
