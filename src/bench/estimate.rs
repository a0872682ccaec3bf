//! How long an image will take on a machine where the model is not yet: FLOPs of its shapes over what the machine reaches.
//!
//! What it reaches is measured as matrix products ([`super::matmul_peak`]) and scaled by two shares that whole models were seen to
//! have. It is a first idea, good to a third; [`super::measure`] measures.

use crate::domain::{Decoder, ImageSize};
use crate::model::ModelShapes;

/// Share of the matmul peak that whole stages reach: 0.82 (a step) to 1.01 (the VAE) on two cores of an AMD EPYC without AMX
/// (`benches/results/2026-11-28-amd-epyc.md`).
const SHARE_OF_PEAK: f64 = 0.85;
/// The same where tiles multiply matrices so fast that everything else counts: 0.61 (the VAE) on two cores of an Intel Xeon with AMX.
const SHARE_OF_PEAK_WITH_TILES: f64 = 0.6;
/// FLOP/s a core that fused self-attention reaches in OpenVINO 2026.4.1 at most, whatever the length: 0.25e12 to 0.30e12 on an Intel
/// Xeon with AMX. Slower processors are held back by their peak instead.
const ATTENTION_FLOPS_A_CORE: f64 = 0.28e12;

/// What a machine reaches.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Throughput {
    /// FLOP/s of matrix products.
    pub peak: f64,
    /// Cores that compute.
    pub cores: usize,
    /// Whether they have matrix tiles (AMX).
    pub has_tiles: bool,
}

/// An image whose time is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ImageToEstimate<'a> {
    /// Its size as drawn.
    pub size: ImageSize,
    /// Steps.
    pub steps: usize,
    /// Tokens of each prompt: one, or two while guidance is active.
    pub tokens: &'a [usize],
}

impl Throughput {
    /// Seconds that drawing takes once the model is loaded.
    pub fn seconds(self, shapes: &ModelShapes, image: ImageToEstimate<'_>) -> f64 {
        let flops = shapes.flops(image.size, image.tokens, Decoder::Full);
        let attention = image.tokens.len() as u64 * shapes.self_attention_flops(image.size);
        let rest = flops.step.saturating_sub(attention);
        let share = if self.has_tiles {
            SHARE_OF_PEAK_WITH_TILES
        } else {
            SHARE_OF_PEAK
        };
        let dense = share * self.peak;
        let attending = dense.min(ATTENTION_FLOPS_A_CORE * self.cores as f64);
        let step = rest as f64 / dense + attention as f64 / attending;
        let once = (flops.text_encode + flops.vae_decode) as f64 / dense;
        once + image.steps as f64 * step
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::published;

    /// Measured on two cores: 95.8 s at a peak of 437 GFLOP/s (AMD EPYC), 44.7 s at 1.98 TFLOP/s (Intel Xeon with AMX).
    #[test]
    fn the_published_model_takes_about_what_was_measured() {
        let image = ImageToEstimate {
            size: ImageSize::new(1024, 1024).unwrap(),
            steps: 4,
            tokens: &[16],
        };
        for (peak, has_tiles, measured) in [(437e9, false, 95.8), (1.976e12, true, 44.7)] {
            let throughput = Throughput {
                peak,
                cores: 2,
                has_tiles,
            };
            let seconds = throughput.seconds(&published(), image);
            let ratio = seconds / measured;
            assert!((0.8..1.25).contains(&ratio), "{seconds} for {measured}");
        }
    }

    #[test]
    fn guidance_and_steps_cost_what_they_compute() {
        let throughput = Throughput {
            peak: 437e9,
            cores: 2,
            has_tiles: false,
        };
        let size = ImageSize::new(512, 512).unwrap();
        let seconds = |steps, tokens: &[usize]| {
            let image = ImageToEstimate {
                size,
                steps,
                tokens,
            };
            throughput.seconds(&published(), image)
        };
        let one = seconds(5, &[16]) - seconds(4, &[16]);
        let guided = seconds(5, &[16, 16]) - seconds(4, &[16, 16]);
        assert!((guided / one - 2.0).abs() < 1e-6, "{guided} {one}");
    }
}
