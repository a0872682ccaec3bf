//! How long pictures take here: moving averages of what was measured, scaled to what is asked.
//!
//! Sizes that were drawn before are predicted from their own averages. Others are predicted by what the networks compute for them,
//! attention included ([`ImageCost`]): on the line through the two nearest sizes, which has what every call costs at any size, or in
//! proportion to the one there is. Never used for more than answers to "how long".

use std::time::Duration;

use crate::domain::{Decoder, GenerateRequest, Timings};
use crate::pipeline::{ImageCost, Plan};

/// Weight of the newest measurement. The first image of a size prepares its kernels, so the second one replaces what it took.
const NEWEST: f64 = 0.4;
/// Sizes remembered, the least recently drawn leaving first.
const SIZES: usize = 32;
/// Costs whose logarithms are nearer than this say nothing of how time grows: a factor of 1.5.
const ALIKE: f64 = 0.4;

/// What one picture costs.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Work {
    /// Pixels drawn, before any resize.
    pub pixels: u64,
    /// Denoising steps.
    pub steps: usize,
    /// Calls of the transformer in a step: 2 while guidance is active, in one batch.
    pub passes: u32,
    /// What makes pixels of latents.
    pub decoder: Decoder,
    /// What the networks compute for it.
    pub cost: ImageCost,
}

impl Work {
    /// The cost of a request that is drawn by `plan`.
    pub fn of(request: &GenerateRequest, plan: &Plan) -> Self {
        let size = plan.drawn_size;
        Self {
            pixels: u64::from(size.width_px()) * u64::from(size.height_px()),
            steps: request.steps.count(),
            passes: if request.guidance.is_active() { 2 } else { 1 },
            decoder: request.decoder,
            cost: plan.cost,
        }
    }

    /// Denoising and decoding together, in megapixel-steps of the model's own size.
    pub fn megapixel_steps(&self) -> f64 {
        let passes = self.steps as f64 * f64::from(self.passes);
        passes * self.cost.pass + self.cost.decode
    }
}

/// Moving averages of the stages.
#[derive(Debug, Default)]
pub struct Pace {
    text_seconds: Average,
    /// The most recently drawn last.
    sizes: Vec<SizePace>,
}

#[derive(Debug)]
struct SizePace {
    pixels: u64,
    pass_cost: f64,
    /// By each decoder, as far as it was used.
    decode_cost: [f64; 2],
    /// One pass of one step.
    pass_seconds: Average,
    /// The VAE and encoding, by each decoder.
    finish_seconds: [Average; 2],
}

#[derive(Debug, Default, Clone, Copy)]
struct Average {
    seconds: Option<f64>,
    /// Whether more than the first measurement is in it.
    is_settled: bool,
}

impl Average {
    fn observe(&mut self, seconds: f64) {
        self.seconds = Some(match self.seconds {
            Some(average) if self.is_settled => average + NEWEST * (seconds - average),
            Some(_first) => {
                self.is_settled = true;
                seconds
            }
            None => seconds,
        });
    }

    fn seconds(self) -> f64 {
        self.seconds.unwrap_or(0.0)
    }
}

impl Pace {
    /// Takes in a picture that was drawn.
    pub fn observe(&mut self, work: Work, timings: &Timings) {
        let text = timings.tokenize + timings.text_encode;
        // A text encoder is loaded now and then: that says nothing of the next picture.
        let text = text.saturating_sub(timings.text_encoder_load);
        self.text_seconds.observe(text.as_secs_f64());
        let mut size = match self
            .sizes
            .iter()
            .position(|size| size.pixels == work.pixels)
        {
            Some(index) => self.sizes.remove(index),
            None => SizePace {
                pixels: work.pixels,
                pass_cost: work.cost.pass,
                decode_cost: [0.0; 2],
                pass_seconds: Average::default(),
                finish_seconds: [Average::default(); 2],
            },
        };
        // The first step may have prepared kernels: the others say more, where there are others.
        let usual = match timings.steps.as_slice() {
            [_first, others @ ..] if !others.is_empty() => others,
            steps => steps,
        };
        if !usual.is_empty() {
            let passes = usual.len() as f64 * f64::from(work.passes);
            let denoise: Duration = usual.iter().sum();
            size.pass_seconds.observe(denoise.as_secs_f64() / passes);
        }
        size.decode_cost[work.decoder as usize] = work.cost.decode;
        size.finish_seconds[work.decoder as usize]
            .observe((timings.vae_decode + timings.png_encode).as_secs_f64());
        self.sizes.push(size);
        if self.sizes.len() > SIZES {
            self.sizes.remove(0);
        }
    }

    /// Time of one picture; none before the first was drawn.
    pub fn predict(&self, work: Work) -> Option<Duration> {
        let passes = work.steps as f64 * f64::from(work.passes);
        let steps = self
            .sizes
            .iter()
            .filter_map(|size| Some((size.pass_cost, size.pass_seconds.seconds?)));
        let pass = by_cost(steps, work.cost.pass);
        // By what this decoder has taken; by the other one before it has decoded any.
        let finishes = |decoder: usize| {
            self.sizes.iter().filter_map(move |size| {
                Some((
                    size.decode_cost[decoder],
                    size.finish_seconds[decoder].seconds?,
                ))
            })
        };
        let decoder = work.decoder as usize;
        let finish = by_cost(finishes(decoder), work.cost.decode).or_else(|| {
            let nearest = self.sizes.iter().min_by(|a, b| {
                let distance =
                    |size: &SizePace| (size.pixels as f64 / work.pixels as f64).ln().abs();
                distance(a).total_cmp(&distance(b))
            })?;
            let scale = work.pixels as f64 / nearest.pixels as f64;
            Some(scale * nearest.finish_seconds[1 - decoder].seconds())
        });
        if self.sizes.is_empty() {
            return None;
        }
        let seconds =
            self.text_seconds.seconds() + passes * pass.unwrap_or(0.0) + finish.unwrap_or(0.0);
        Some(Duration::from_secs_f64(seconds))
    }
}

/// The seconds of what costs `cost`, by `known` pairs of cost and seconds.
///
/// Between two of them, and beyond, on the line through the two nearest: a call of a network takes some time whatever its size. Never
/// more than in proportion to the nearest, nor less than that one took where the cost is larger: two sizes that are alike, measured by a
/// clock, would else promise anything for a third.
fn by_cost(known: impl Iterator<Item = (f64, f64)>, cost: f64) -> Option<f64> {
    let mut known: Vec<(f64, f64)> = known.collect();
    let distance = |&(there, _): &(f64, f64)| (there / cost).ln().abs();
    known.sort_by(|a, b| distance(a).total_cmp(&distance(b)));
    let &(near_cost, near) = known.first()?;
    let proportional = near * cost / near_cost;
    let Some(&(far_cost, far)) = known
        .iter()
        .find(|&&(far_cost, _)| (far_cost / near_cost).ln().abs() > ALIKE)
    else {
        return Some(proportional);
    };
    let slope = (far - near) / (far_cost - near_cost);
    let on_the_line = near + slope * (cost - near_cost);
    Some(on_the_line.clamp(near.min(proportional), near.max(proportional)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipeline::ImageMemory;

    fn timings(step: u64, steps: usize, finish: u64) -> Timings {
        Timings {
            text_encode: Duration::from_millis(500),
            steps: vec![Duration::from_millis(step); steps],
            vae_decode: Duration::from_millis(finish),
            ..Timings::default()
        }
    }

    fn work(pixels: u64, steps: usize, passes: u32) -> Work {
        Work {
            pixels,
            steps,
            passes,
            decoder: Decoder::Full,
            cost: ImageCost {
                pass: pixels as f64,
                decode: pixels as f64,
                memory: ImageMemory::default(),
            },
        }
    }

    fn seconds(pace: &Pace, work: Work) -> f64 {
        pace.predict(work).unwrap().as_secs_f64()
    }

    #[test]
    fn nothing_is_predicted_before_anything_was_drawn() {
        assert_eq!(Pace::default().predict(work(1 << 20, 4, 1)), None);
    }

    #[test]
    fn what_was_drawn_is_predicted_as_it_was() {
        let mut pace = Pace::default();
        pace.observe(work(1 << 20, 4, 1), &timings(1000, 4, 2000));
        assert!((seconds(&pace, work(1 << 20, 4, 1)) - 6.5).abs() < 1e-9);
    }

    #[test]
    fn steps_guidance_and_pixels_scale_the_prediction() {
        let mut pace = Pace::default();
        pace.observe(work(1 << 20, 4, 1), &timings(1000, 4, 2000));
        assert!((seconds(&pace, work(1 << 20, 8, 1)) - 10.5).abs() < 1e-9);
        assert!((seconds(&pace, work(1 << 20, 4, 2)) - 10.5).abs() < 1e-9);
        assert!((seconds(&pace, work(1 << 18, 4, 1)) - 2.0).abs() < 1e-9);
    }

    #[test]
    fn each_decoder_has_a_pace_of_its_own() {
        let mut pace = Pace::default();
        let full = work(1 << 20, 4, 1);
        let tiny = Work {
            decoder: Decoder::Tiny,
            ..full
        };
        pace.observe(full, &timings(1000, 4, 2000));
        assert!((seconds(&pace, tiny) - 6.5).abs() < 1e-9);
        pace.observe(tiny, &timings(1000, 4, 100));
        assert!((seconds(&pace, tiny) - 4.6).abs() < 1e-9);
        assert!((seconds(&pace, full) - 6.5).abs() < 1e-9);
        // What it took at another size says more than what the other decoder took at this one.
        let large = work(1 << 22, 4, 1);
        pace.observe(large, &timings(4000, 4, 9000));
        let tiny = Work {
            decoder: Decoder::Tiny,
            ..large
        };
        assert!((seconds(&pace, tiny) - 16.9).abs() < 1e-9);
    }

    #[test]
    fn the_nearest_size_that_was_drawn_counts() {
        let mut pace = Pace::default();
        pace.observe(work(1 << 20, 4, 1), &timings(1000, 4, 2000));
        pace.observe(work(1 << 14, 4, 1), &timings(10, 4, 20));
        assert!((seconds(&pace, work(1 << 14, 4, 1)) - 0.56).abs() < 1e-9);
        assert!((seconds(&pace, work(1 << 20, 4, 1)) - 6.5).abs() < 1e-9);
    }

    #[test]
    fn sizes_never_drawn_are_predicted_by_what_they_compute() {
        // A call takes 10 ms at any size, and a microsecond for each unit of its cost: for four times the pixels six times as many.
        let costs = |factor: f64| ImageCost {
            pass: 1e3 * factor,
            decode: 1e3 * factor,
            memory: ImageMemory::default(),
        };
        let at = |pixels: u64, factor: f64| Work {
            cost: costs(factor),
            ..work(pixels, 1, 1)
        };
        let mut pace = Pace::default();
        pace.observe(at(1 << 14, 1.0), &timings(11, 1, 11));
        // One size says nothing of what a call costs anyway: in proportion.
        assert!((seconds(&pace, at(1 << 16, 6.0)) - 0.632).abs() < 1e-9);
        pace.observe(at(1 << 16, 6.0), &timings(16, 1, 16));
        for (pixels, factor, each) in [
            (1 << 18, 60.0, 70.0),
            (1 << 15, 2.0, 12.0),
            (1 << 12, 0.2, 10.2),
        ] {
            let expected = 0.5 + 2.0 * each / 1e3;
            let found = seconds(&pace, at(pixels, factor));
            assert!((found - expected).abs() < 1e-9, "{factor}: {found}");
        }
        // A clock that went wrong at one of them promises nothing absurd.
        pace.observe(at(1 << 17, 20.0), &timings(1, 1, 1));
        let found = seconds(&pace, at(1 << 18, 60.0));
        assert!((0.502..0.507).contains(&found), "{found}");
    }

    #[test]
    fn what_prepared_kernels_is_not_taken_for_what_images_take() {
        let mut pace = Pace::default();
        let first = Timings {
            steps: [900, 100, 100].map(Duration::from_millis).to_vec(),
            ..timings(0, 0, 800)
        };
        pace.observe(work(1 << 20, 3, 1), &first);
        assert!((seconds(&pace, work(1 << 20, 3, 1)) - 1.6).abs() < 1e-9);
        pace.observe(work(1 << 20, 3, 1), &timings(100, 3, 200));
        assert!((seconds(&pace, work(1 << 20, 3, 1)) - 1.0).abs() < 1e-9);
    }

    #[test]
    fn newer_pictures_count_more_and_memory_is_bounded() {
        let mut pace = Pace::default();
        pace.observe(work(1000, 1, 1), &timings(100_000, 1, 0));
        for _ in 0..12 {
            pace.observe(work(1000, 1, 1), &timings(1000, 1, 0));
        }
        assert!(seconds(&pace, work(1000, 1, 1)) < 2.0);
        for pixels in 1..200 {
            pace.observe(work(pixels, 1, 1), &timings(1, 1, 0));
        }
        assert_eq!(pace.sizes.len(), SIZES);
    }
}
