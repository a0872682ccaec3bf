//! How long pictures take here: moving averages of what was measured, scaled to what is asked.
//!
//! The network's time grows with the pixels and, by attention, a little faster. Sizes that were drawn before are
//! predicted from their own averages, others from the nearest size in proportion to the pixels: good to some ten percent
//! where the sizes are alike, and never used for more than answers to "how long".

use std::time::Duration;

use crate::domain::{Decoder, GenerateRequest, ImageSize, Timings};

/// Weight of the newest measurement. The first picture of a size is slower than the next ones; three later it is forgotten.
const NEWEST: f64 = 0.4;
/// Sizes remembered, the least recently drawn leaving first.
const SIZES: usize = 32;

/// What one picture costs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Work {
    /// Pixels drawn, before any resize.
    pub pixels: u64,
    /// Denoising steps.
    pub steps: usize,
    /// Calls of the transformer in a step: 2 while guidance is active, in one batch.
    pub passes: u32,
    /// What makes pixels of latents.
    pub decoder: Decoder,
}

impl Work {
    /// The cost of a request that is drawn at `drawn_size`.
    pub fn of(request: &GenerateRequest, drawn_size: ImageSize) -> Self {
        Self {
            pixels: u64::from(drawn_size.width_px()) * u64::from(drawn_size.height_px()),
            steps: request.steps.count(),
            passes: if request.guidance.is_active() { 2 } else { 1 },
            decoder: request.decoder,
        }
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
    /// One pass of one step.
    pass_seconds: Average,
    /// The VAE and encoding, by each decoder.
    finish_seconds: [Average; 2],
}

#[derive(Debug, Default, Clone, Copy)]
struct Average(Option<f64>);

impl Average {
    fn observe(&mut self, seconds: f64) {
        self.0 = Some(
            self.0
                .map_or(seconds, |average| average + NEWEST * (seconds - average)),
        );
    }

    fn seconds(self) -> f64 {
        self.0.unwrap_or(0.0)
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
                pass_seconds: Average::default(),
                finish_seconds: [Average::default(); 2],
            },
        };
        if !timings.steps.is_empty() {
            let passes = timings.steps.len() as f64 * f64::from(work.passes);
            size.pass_seconds
                .observe(timings.denoise().as_secs_f64() / passes);
        }
        size.finish_seconds[work.decoder as usize]
            .observe((timings.vae_decode + timings.png_encode).as_secs_f64());
        self.sizes.push(size);
        if self.sizes.len() > SIZES {
            self.sizes.remove(0);
        }
    }

    /// Time of one picture; none before the first was drawn.
    pub fn predict(&self, work: Work) -> Option<Duration> {
        let distance = |size: &SizePace| (size.pixels as f64 / work.pixels as f64).ln().abs();
        let nearest = self
            .sizes
            .iter()
            .min_by(|a, b| distance(a).total_cmp(&distance(b)))?;
        let scale = work.pixels as f64 / nearest.pixels as f64;
        let passes = work.steps as f64 * f64::from(work.passes);
        let decoder = work.decoder as usize;
        // By the nearest size that this decoder has decoded; by the other decoder before it has decoded any.
        let by_it = self.sizes.iter().filter_map(|size| {
            Some((
                size,
                work.pixels as f64 / size.pixels as f64 * size.finish_seconds[decoder].0?,
            ))
        });
        let by_it = by_it.min_by(|(a, _), (b, _)| distance(a).total_cmp(&distance(b)));
        let finish = by_it.map_or_else(
            || scale * nearest.finish_seconds[1 - decoder].seconds(),
            |(_, seconds)| seconds,
        );
        let seconds =
            self.text_seconds.seconds() + scale * passes * nearest.pass_seconds.seconds() + finish;
        Some(Duration::from_secs_f64(seconds))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
        let large = Work {
            pixels: 1 << 22,
            ..full
        };
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
