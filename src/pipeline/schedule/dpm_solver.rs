//! DPM-Solver++ multistep, order 1 and 2: a deterministic solver of the diffusion ODE.
//!
//! Paper: Lu et al., "DPM-Solver++", arXiv 2211.01095, algorithm 2 (2M), in its midpoint and Heun forms.
//! Source: diffusers 0.42 `scheduling_dpmsolver_multistep.py`, `set_timesteps`, `convert_model_output`,
//! `dpm_solver_first_order_update`, `multistep_dpm_solver_second_order_update`, `step`.
//!
//! | here | paper, diffusers |
//! |---|---|
//! | `sigmas` | noise to signal, `sqrt((1 - ᾱ) / ᾱ)`, one for each step and one for after the last |
//! | `alpha_t`, `sigma_t` | signal and noise of unit total variance, `alpha_t² + sigma_t² = 1` |
//! | `lambda_t` | `ln(alpha_t / sigma_t)`, half the log signal-to-noise ratio |
//! | `h` | `lambda_t - lambda_s`, the step's length; `s` is where it begins, `t` where it ends |
//! | `d0`, `d1` | the predicted clean latents and their first divided difference |
//!
//! Arithmetic on latents is in f32, in torch's order of operations. Logarithms and exponentials of the coefficients are
//! computed in f64 and rounded, torch's own being within 1 ulp of that.
//!
//! In one place this is not diffusers: with `trailing` spacing its `arange` may end in an extra timestep, -1 (61 steps
//! of 1000 give 62). No model was trained there, so it is left out.

use ndarray::{Array4, ArrayView4, Zip};

use super::betas::alphas_cumprod;
use super::{ScheduleError, Stepped, as_model_input};
use crate::domain::{SchedulerKind, Steps};
use crate::model::scheduler_config::{
    DpmSolverConfig, FinalSigma, Prediction, SolverType, Spacing,
};

/// From this many steps on, `lower_order_final` has no effect.
const MANY_STEPS: usize = 15;

/// Timesteps, noise levels and coefficients of each step.
#[derive(Debug, Clone)]
pub(super) struct DpmSolverSchedule {
    pub(super) timesteps: Vec<i64>,
    pub(super) sigmas: Vec<f32>,
    prediction: Prediction,
    steps: Vec<Step>,
}

/// The clean latents predicted by the step before, f32 [B, C, h, w]; none before the first.
#[derive(Debug, Default)]
pub(super) struct History {
    previous: Option<Array4<f32>>,
}

/// `x_t = of_sample * x_s - of_d0 * d0 + of_d1 * d1`, with `d1 = (d0 - previous d0) * per_difference`.
#[derive(Debug, Clone)]
struct Step {
    alpha_s: f32,
    sigma_s: f32,
    of_sample: f32,
    of_d0: f32,
    second_order: Option<SecondOrder>,
}

#[derive(Debug, Clone)]
struct SecondOrder {
    per_difference: f32,
    of_d1: f32,
}

impl DpmSolverSchedule {
    pub(super) fn new(config: &DpmSolverConfig, steps: Steps) -> Result<Self, ScheduleError> {
        let mut table = alphas_cumprod(&config.noise);
        if config.noise.rescale_betas_zero_snr
            && let Some(last) = table.last_mut()
        {
            // diffusers: the smallest f16, "close to 0 without being 0 so first sigma is not inf".
            *last = 1.0 / 16_777_216.0;
        }
        if let Some(timestep) = table.iter().position(|&alpha_bar| alpha_bar <= 0.0) {
            return Err(ScheduleError::NothingLeft { timestep });
        }
        let timesteps = timesteps(config, &table, steps)?;
        let noise_to_signal = |alpha_bar: f32| ((1.0 - alpha_bar) / alpha_bar).sqrt();
        let sigmas: Vec<f32> = timesteps
            .iter()
            .map(|&timestep| noise_to_signal(table[timestep]))
            .chain([match config.final_sigma {
                FinalSigma::Zero => 0.0,
                FinalSigma::SigmaMin => noise_to_signal(table[0]),
            }])
            .collect();
        let steps = (0..timesteps.len())
            .map(|step| Step::new(config, &sigmas, step))
            .collect();
        Ok(Self {
            timesteps: as_model_input(&timesteps),
            sigmas,
            prediction: config.prediction,
            steps,
        })
    }

    /// f32 [B, C, h, w] → the same. Steps are taken in order; one without history is of order 1.
    pub(super) fn step(
        &self,
        step: usize,
        model_output: ArrayView4<'_, f32>,
        sample: &Array4<f32>,
        history: &mut History,
    ) -> Stepped {
        let &Step {
            alpha_s,
            sigma_s,
            of_sample,
            of_d0,
            ref second_order,
        } = &self.steps[step];
        let d0 = Zip::from(sample)
            .and(model_output)
            .map_collect(|&sample, &output| match self.prediction {
                Prediction::Epsilon => (sample - sigma_s * output) / alpha_s,
                Prediction::Sample => output,
                Prediction::Velocity => alpha_s * sample - sigma_s * output,
            });
        let mut next = Zip::from(sample)
            .and(&d0)
            .map_collect(|&sample, &d0| of_sample * sample - of_d0 * d0);
        if let (Some(second_order), Some(previous)) = (second_order, &history.previous) {
            let &SecondOrder {
                per_difference,
                of_d1,
            } = second_order;
            Zip::from(&mut next)
                .and(&d0)
                .and(previous)
                .for_each(|next, &d0, &previous| {
                    *next += of_d1 * (per_difference * (d0 - previous));
                });
        }
        history.previous = Some(d0.clone());
        Stepped {
            latents: next,
            denoised: d0,
        }
    }
}

impl Step {
    fn new(config: &DpmSolverConfig, sigmas: &[f32], step: usize) -> Self {
        let count = sigmas.len() - 1;
        let (alpha_s, sigma_s) = alpha_and_sigma(sigmas[step]);
        let (alpha_t, sigma_t) = alpha_and_sigma(sigmas[step + 1]);
        let lambda_s = ln(alpha_s) - ln(sigma_s);
        let h = ln(alpha_t) - ln(sigma_t) - lambda_s;
        // exp(-h) - 1, which is -1 when the step ends without noise and h is infinite.
        let decay = exp(-h) - 1.0;

        let first_order = config.order == 1
            || step == 0
            || step + 1 == count
                && (config.euler_at_final
                    || (config.lower_order_final && count < MANY_STEPS)
                    || config.final_sigma == FinalSigma::Zero);
        let second_order = (!first_order).then(|| {
            let (alpha_before, sigma_before) = alpha_and_sigma(sigmas[step - 1]);
            let h_before = lambda_s - (ln(alpha_before) - ln(sigma_before));
            let r0 = h_before / h;
            SecondOrder {
                per_difference: 1.0 / r0,
                of_d1: match config.solver_type {
                    SolverType::Midpoint => -(0.5 * (alpha_t * decay)),
                    SolverType::Heun => alpha_t * (decay / h + 1.0),
                },
            }
        });
        Self {
            alpha_s,
            sigma_s,
            of_sample: sigma_t / sigma_s,
            of_d0: alpha_t * decay,
            second_order,
        }
    }
}

/// Signal and noise of unit total variance for a noise-to-signal ratio.
fn alpha_and_sigma(sigma: f32) -> (f32, f32) {
    let alpha_t = 1.0 / (sigma * sigma + 1.0).sqrt();
    (alpha_t, sigma * alpha_t)
}

#[expect(clippy::cast_possible_truncation, reason = "rounds to f32, as torch")]
fn ln(x: f32) -> f32 {
    f64::from(x).ln() as f32
}

#[expect(clippy::cast_possible_truncation, reason = "rounds to f32, as torch")]
fn exp(x: f32) -> f32 {
    f64::from(x).exp() as f32
}

/// Timesteps from the noisiest down, each one below the one before.
fn timesteps(
    config: &DpmSolverConfig,
    table: &[f32],
    steps: Steps,
) -> Result<Vec<usize>, ScheduleError> {
    let count = steps.count();
    let train = config.noise.num_train_timesteps;
    // Timesteps whose lambda is below the clip are left out; lambda falls with the timestep.
    let usable = train
        - table
            .iter()
            .rev()
            .take_while(|&&alpha_bar| {
                ln(alpha_bar.sqrt()) - ln((1.0 - alpha_bar).sqrt()) < config.lambda_min_clipped
            })
            .count();
    let (limit, reason) = match config.spacing {
        Spacing::Linspace | Spacing::Leading => (
            usable.saturating_sub(1),
            "one less than the training timesteps that scheduler_config.json leaves",
        ),
        Spacing::Trailing => (train, "num_train_timesteps in scheduler_config.json"),
    };
    if count > limit || usable == 0 {
        return Err(ScheduleError::TooManySteps {
            scheduler: SchedulerKind::DpmSolverPlusPlus,
            steps: count,
            limit,
            reason,
        });
    }
    let timesteps: Vec<usize> = match config.spacing {
        Spacing::Linspace => {
            let last = usable - 1;
            let distance = last as f64 / count as f64;
            (1..=count)
                .rev()
                .map(|index| {
                    if index == count {
                        last
                    } else {
                        rounded(index as f64 * distance)
                    }
                })
                .collect()
        }
        Spacing::Leading => {
            let distance = usable / (count + 1);
            (1..=count)
                .rev()
                .map(|index| index * distance + config.steps_offset)
                .collect()
        }
        Spacing::Trailing => {
            // numpy's arange(usable, 0, -distance): its increment is the difference of the first two values.
            let distance = train as f64 / count as f64;
            let high = usable as f64;
            let increment = (high - distance) - high;
            (0..count)
                .map(|index| rounded((high + index as f64 * increment).max(0.0)))
                .take_while(|&timestep| timestep > 0)
                .map(|timestep| timestep - 1)
                .collect()
        }
    };
    match timesteps.first() {
        Some(&timestep) if timestep >= train => Err(ScheduleError::BeyondTraining {
            timestep,
            num_train_timesteps: train,
        }),
        _ => Ok(timesteps),
    }
}

/// The nearest whole number, halves to even as in numpy.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "between 0 and the number of training timesteps"
)]
fn rounded(timestep: f64) -> usize {
    timestep.round_ties_even() as usize
}
