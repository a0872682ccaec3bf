//! Too little memory for a calibration is told before anything is read or written, not by the kernel minutes into it.
//!
//! What is counted is anonymous memory: the device's copies of the weights, and what the networks that are watched hold of an
//! image's values. First the text encoder is in memory by itself, then the networks of the image are, without it. The figures are
//! of `pixart quantize` on a checkpoint of the published shapes (α, 1024 px) on a processor with AMX, in bf16 (`RssAnon`, GB,
//! text encoder of two layers and process left out):
//!
//! | image | transformer, watched, over its weights | VAE, watched, over its weights |
//! |---|--:|--:|
//! | 256×256 | 0.03 | 0.4 |
//! | 512×512 | 0.11 | 1.3 |
//! | 1024×1024 | 0.46 | 5.6 |
//!
//! Both grow with the pixels, and with the width of the network.

use std::fmt;

use anyhow::Result;

use super::memory::{self, Weights};
use super::quantize::CalibrationOptions;
use super::scene::watched;
use super::{App, Parts, Rules};
use crate::config::Precision;
use crate::domain::ImageSize;
use crate::engine::Runtime;
use crate::model::{ModelDirectory, Part};
use crate::quantize::Work;

/// The process itself, with the runtime.
const PROCESS_BYTES: u64 = 100 << 20;
/// What the device keeps beside a transformer's weights, by those weights: a quarter.
const KEPT_BESIDE_WEIGHTS: u64 = 4;
/// Bytes of each channel of each token of a transformer that is watched, in bf16.
const TRANSFORMER_BYTES: u64 = 100;
/// Bytes of each channel of the VAE's outermost level, for each pixel, while it is watched, in bf16.
const VAE_BYTES: u64 = 40;

/// What a calibration needs memory for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Demand {
    text_encoder: Weights,
    transformer: Weights,
    /// None where images are not decoded, as only the transformer is watched.
    vae_decoder: Option<Weights>,
    precision: Precision,
    /// Of the images.
    size: ImageSize,
    /// Images side by side in the transformer: two under guidance.
    batch: u64,
    /// Pixels of a side of a token.
    token_side_px: u64,
    /// Width of the transformer.
    width: u64,
    /// Channels of the VAE's outermost level.
    channels: u64,
}

impl Demand {
    /// Anonymous memory at the peak, in bytes.
    fn bytes(&self) -> u64 {
        let packed = |weights: Weights| weights.packed_bytes(self.precision);
        let width_of_value = match self.precision {
            Precision::F32 => 2,
            Precision::Auto | Precision::Bf16 | Precision::F16 => 1,
        };
        let pixels = u64::from(self.size.width_px()) * u64::from(self.size.height_px());
        let tokens = self.batch * pixels / self.token_side_px.pow(2);
        let weights = packed(self.transformer);
        let transformer = weights
            + weights / KEPT_BESIDE_WEIGHTS
            + tokens * self.width * TRANSFORMER_BYTES * width_of_value;
        let vae_decoder = self.vae_decoder.map_or(0, |weights| {
            packed(weights) + pixels * self.channels * VAE_BYTES * width_of_value
        });
        PROCESS_BYTES + packed(self.text_encoder).max(transformer + vae_decoder)
    }

    /// Other options that take less, with what to do for them: a smaller size, no decoding, a smaller text encoder; of each the
    /// smallest change first.
    fn alternatives(&self) -> [Vec<(String, Self)>; 3] {
        let int8 = |demand: Self| Self {
            text_encoder: demand.text_encoder.as_int8(),
            ..demand
        };
        let sizes = [2, 4].into_iter().filter_map(|share| self.smaller(share));
        let sizes = sizes.map(|size| (format!("--size {size}"), Self { size, ..*self }));
        let without_decoding = Self {
            vae_decoder: None,
            ..*self
        };
        let how = "a model converted with --text-encoder-weights int8 (kept with --text-encoder-weights keep)";
        let smallest = self.smaller(4).unwrap_or(self.size);
        let smaller = Self {
            size: smallest,
            ..*self
        };
        let with_int8 = vec![
            (how.to_owned(), int8(*self)),
            (format!("{how} and --size {smallest}"), int8(smaller)),
        ];
        // Integers gain nothing by becoming it.
        let gains = int8(*self).text_encoder.bytes < self.text_encoder.bytes;
        [
            sizes.collect(),
            vec![("--vae-decoder weights".to_owned(), without_decoding)],
            if gains { with_int8 } else { Vec::new() },
        ]
    }

    /// A size whose sides are `share` times shorter, and multiples of what every network takes; none below 256 px, which shows
    /// networks of 1024 px little.
    fn smaller(&self, share: u32) -> Option<ImageSize> {
        let side = |side: u32| side / share / 64 * 64;
        let (width_px, height_px) = (side(self.size.width_px()), side(self.size.height_px()));
        if width_px.min(height_px) < 256 {
            return None;
        }
        ImageSize::new(width_px, height_px).ok()
    }

    /// Holds that it fits into `available` bytes.
    fn check(&self, available: u64) -> Result<(), NoMemoryToCalibrate> {
        let needed = self.bytes();
        if needed <= available {
            return Ok(());
        }
        let mut fitting = Vec::new();
        for kind in self.alternatives() {
            let kind = kind.into_iter().map(|(how, demand)| (how, demand.bytes()));
            let fits = |&(_, bytes): &(String, u64)| bytes <= available && bytes < needed;
            let mut kind: Vec<(String, u64)> = kind.filter(fits).collect();
            // A larger change that gains no more is not offered.
            kind.dedup_by_key(|&mut (_, bytes)| bytes);
            fitting.extend(kind);
        }
        Err(NoMemoryToCalibrate {
            needed,
            available,
            fitting,
        })
    }
}

/// Less memory than a calibration needs.
#[derive(Debug, PartialEq, Eq)]
pub struct NoMemoryToCalibrate {
    needed: u64,
    available: u64,
    /// What would fit, and the bytes of it.
    fitting: Vec<(String, u64)>,
}

impl fmt::Display for NoMemoryToCalibrate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let gb = |bytes: u64| bytes as f64 / 1e9;
        write!(
            f,
            "calibrating this model takes about {:.1} GB of memory with these options and {:.1} GB are available: ",
            gb(self.needed),
            gb(self.available)
        )?;
        if self.fitting.is_empty() {
            return f.write_str(
                "free some, raise the container's limit, or quantise on a larger machine and copy the model",
            );
        }
        let ways = self.fitting.iter();
        let ways: Vec<String> = ways
            .map(|(how, bytes)| format!("{how} ({:.1} GB)", gb(*bytes)))
            .collect();
        write!(f, "what would fit is {}", ways.join(", or "))
    }
}

impl std::error::Error for NoMemoryToCalibrate {}

impl App {
    /// Holds that a calibration fits into memory, on the device that has the process's own. Others have memory of theirs.
    pub(super) fn check_calibration_memory(
        &self,
        runtime: &Runtime,
        model: &ModelDirectory,
        work: &[Work],
        options: &CalibrationOptions,
    ) -> Result<()> {
        let openvino = &self.settings.openvino;
        let Some(available) = memory::available_bytes(None) else {
            return Ok(());
        };
        if openvino.device != "CPU" {
            return Ok(());
        }
        let parts = Parts::of_own(model);
        let manifest = model.manifest();
        let [text_encoder, transformer, vae_decoder] = parts.formats;
        let decodes = watched(work).any(|work| work.part == Part::VaeDecoder);
        let guidance = Rules::read(&parts)?.scheduler.kind().default_guidance();
        let own = ImageSize::new(parts.defaults.width_px, parts.defaults.height_px)?;
        // What the device computes in where nobody says.
        let in_f32 = openvino.precision == Precision::Auto
            && runtime
                .devices()?
                .iter()
                .any(|device| device.name == "CPU" && device.default_precision == "f32");
        let demand = Demand {
            text_encoder: Weights::of(&parts.text_encoder, text_encoder),
            transformer: Weights::of(&parts.transformer, transformer),
            vae_decoder: decodes.then(|| Weights::of(&parts.vae_decoder, vae_decoder)),
            precision: if in_f32 {
                Precision::F32
            } else {
                openvino.precision
            },
            size: options.size.unwrap_or(own),
            batch: 1 + u64::from(guidance.is_active()),
            token_side_px: (parts.facts.vae_scale_factor * parts.facts.patch_size) as u64,
            width: manifest.transformer.spec.inner_dim() as u64,
            channels: manifest
                .vae_decoder
                .spec
                .block_out_channels
                .first()
                .map_or(0, |&channels| channels as u64),
        };
        Ok(demand.check(available)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::WeightsFormat;

    const GB: u64 = 1_000_000_000;

    fn weights(bytes: u64) -> Weights {
        Weights {
            bytes,
            format: Some(WeightsFormat::F16),
        }
    }

    /// The published shapes at 1024 px.
    fn published() -> Demand {
        Demand {
            text_encoder: weights(9_525_194_623),
            transformer: weights(1_222_745_928),
            vae_decoder: Some(weights(126_119_904)),
            precision: Precision::Auto,
            size: ImageSize::new(1024, 1024).unwrap(),
            batch: 1,
            token_side_px: 16,
            width: 1152,
            channels: 128,
        }
    }

    fn told(demand: &Demand, available: u64) -> String {
        let told = demand.check(available).unwrap_err().to_string();
        assert!(!told.contains('\n'), "{told}");
        told
    }

    #[test]
    fn the_larger_of_reading_and_drawing_counts_and_the_published_shapes_fit_into_14_gb() {
        let demand = published();
        demand.check(14 * GB).unwrap();
        // The text encoder is the largest where it has 16 bits, and images are where it has 8.
        let int8 = Demand {
            text_encoder: demand.text_encoder.as_int8(),
            ..demand
        };
        assert_eq!(demand.bytes(), 9_525_194_623 + PROCESS_BYTES);
        assert!((7 * GB..9 * GB).contains(&int8.bytes()), "{}", int8.bytes());
        let guided = Demand { batch: 2, ..int8 };
        assert!(guided.bytes() > int8.bytes());
        let in_f32 = Demand {
            precision: Precision::F32,
            ..int8
        };
        assert!(in_f32.bytes() > int8.bytes() + 5 * GB);
    }

    #[test]
    fn what_does_not_fit_is_told_with_the_options_that_would() {
        let told_at = |available| told(&published(), available);
        let text = told_at(9 * GB);
        for part in ["9.6 GB", "9.0 GB are available", "int8", "keep) (7."] {
            assert!(text.contains(part), "no '{part}' in: {text}");
        }
        // The text encoder alone is too large for these.
        assert!(
            !text.contains("--size 512x512 (") && !text.contains("--vae-decoder"),
            "{text}"
        );
        let text = told_at(6 * GB);
        assert!(
            text.contains("int8") && text.contains("and --size 256x256"),
            "{text}"
        );
        let text = told_at(GB);
        assert!(
            text.contains("larger machine") && !text.contains("would fit"),
            "{text}"
        );

        let int8 = Demand {
            text_encoder: published().text_encoder.as_int8(),
            ..published()
        };
        let text = told(&int8, 6 * GB);
        for part in ["--size 512x512 (4.9 GB)", "--vae-decoder weights (4.9 GB)"] {
            assert!(text.contains(part), "no '{part}' in: {text}");
        }
        // The text encoder is the larger part by then.
        assert!(!text.contains("256x256"), "{text}");
        assert!(!text.contains("int8"), "it is that already: {text}");
    }
}
