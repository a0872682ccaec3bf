//! The table of noise levels that a checkpoint was trained with, as torch computes it in f32.
//!
//! `beta_t` is the variance of the noise added at training timestep t; `alpha_bar_t = (1 - beta_0) … (1 - beta_t)` is
//! the share of the picture's variance that is left after it (`alphas_cumprod` in diffusers).
//! Sources: diffusers 0.42 `scheduling_lcm.py` and `scheduling_dpmsolver_multistep.py` (`__init__`,
//! `betas_for_alpha_bar`, `rescale_zero_terminal_snr`).

use std::f64::consts::PI;

use crate::model::scheduler_config::{Betas, TrainingNoise};

/// `alpha_bar` for each training timestep: f32, falling, within [0, 1].
pub(super) fn alphas_cumprod(noise: &TrainingNoise) -> Vec<f32> {
    let count = noise.num_train_timesteps;
    let betas = match &noise.betas {
        Betas::Linear { start, end } => linspace(*start, *end, count),
        Betas::ScaledLinear { start, end } => linspace(start.sqrt(), end.sqrt(), count)
            .into_iter()
            .map(|root| root * root)
            .collect(),
        Betas::SquaredCosine => squared_cosine(count),
        Betas::Trained(betas) => betas.clone(),
    };
    let betas = if noise.rescale_betas_zero_snr {
        rescale_to_zero_snr(&betas)
    } else {
        betas
    };
    cumulative_product(betas.iter().map(|beta| 1.0 - beta))
}

/// `torch.linspace` in f32: from each end to the middle, with fused multiply-adds as its build for AVX2 has them.
#[expect(
    clippy::cast_possible_truncation,
    reason = "torch rounds the ends to f32 first"
)]
fn linspace(start: f64, end: f64, count: usize) -> Vec<f32> {
    let (start, end) = (start as f32, end as f32);
    let step = (end - start) / (count - 1) as f32;
    (0..count)
        .map(|index| {
            if index < count / 2 {
                step.mul_add(index as f32, start)
            } else {
                (-step).mul_add((count - index - 1) as f32, end)
            }
        })
        .collect()
}

/// Glide's cosine schedule: `beta_t = min(1 - f((t + 1) / T) / f(t / T), 0.999)`, `f(x) = cos²((x + 0.008) / 1.008 · π/2)`.
#[expect(
    clippy::cast_possible_truncation,
    reason = "diffusers computes it in f64 and stores f32"
)]
fn squared_cosine(count: usize) -> Vec<f32> {
    let alpha_bar = |index: usize| {
        let cosine = ((index as f64 / count as f64 + 0.008) / 1.008 * PI / 2.0).cos();
        cosine * cosine
    };
    (0..count)
        .map(|index| (1.0 - alpha_bar(index + 1) / alpha_bar(index)).min(0.999) as f32)
        .collect()
}

/// Algorithm 1 of arXiv 2305.08891: shifts and scales `sqrt(alpha_bar)` so that it ends in 0 and begins as before.
fn rescale_to_zero_snr(betas: &[f32]) -> Vec<f32> {
    let roots: Vec<f32> = cumulative_product(betas.iter().map(|beta| 1.0 - beta))
        .into_iter()
        .map(f32::sqrt)
        .collect();
    let (first, last) = (roots[0], roots[roots.len() - 1]);
    let scale = first / (first - last);
    let alphas_bar = roots.iter().map(|root| {
        let root = (root - last) * scale;
        root * root
    });
    let mut before = 1.0;
    alphas_bar
        .map(|alpha_bar| {
            let alpha = alpha_bar / before;
            before = alpha_bar;
            1.0 - alpha
        })
        .collect()
}

/// `torch.cumprod` of f32 values: the running product is kept in f64 and each result rounded.
#[expect(
    clippy::cast_possible_truncation,
    reason = "torch stores the product in f32"
)]
fn cumulative_product(factors: impl Iterator<Item = f32>) -> Vec<f32> {
    factors
        .scan(1.0_f64, |product, factor| {
            *product *= f64::from(factor);
            Some(*product as f32)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noise(betas: Betas, rescale_betas_zero_snr: bool) -> TrainingNoise {
        TrainingNoise {
            num_train_timesteps: 1000,
            betas,
            rescale_betas_zero_snr,
        }
    }

    #[test]
    fn every_table_falls_from_almost_one() {
        let (start, end) = (0.0001, 0.02);
        for betas in [
            Betas::Linear { start, end },
            Betas::ScaledLinear { start, end },
            Betas::SquaredCosine,
            Betas::Trained(vec![0.01; 1000]),
        ] {
            let table = alphas_cumprod(&noise(betas, false));
            assert!(table[0] < 1.0 && table[0] > 0.98, "{}", table[0]);
            assert!(
                table
                    .windows(2)
                    .all(|pair| pair[1] < pair[0] && pair[1] > 0.0)
            );
        }
    }

    #[test]
    fn a_rescaled_table_ends_in_zero_and_begins_as_before() {
        let betas = Betas::Linear {
            start: 0.0001,
            end: 0.02,
        };
        let plain = alphas_cumprod(&noise(betas.clone(), false));
        let rescaled = alphas_cumprod(&noise(betas, true));
        assert!(rescaled[999].abs() < f32::EPSILON);
        assert!((rescaled[0] - plain[0]).abs() < 1e-6);
    }
}
