//! What was compared, as the JSON of `--json` has it; docs/compare.md documents every field.

use serde::{Deserialize, Serialize};

use super::score::Score;
use crate::bench::{Comparison, Machine, Spread};
use crate::model::{Manifest, Measurement, Part};

/// Of the JSON; a field that changes its meaning raises it.
pub const SCHEMA: u32 = 1;

/// Two of something, of the first model and of the second.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pair<T> {
    /// Of the model that the other is held against.
    pub a: T,
    /// Of the other.
    pub b: T,
}

/// Both models.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Report {
    /// [`SCHEMA`].
    pub schema: u32,
    /// Where it was measured.
    pub machine: Machine,
    /// Version of pixart.
    pub pixart: String,
    /// Version of the OpenVINO runtime.
    pub openvino: String,
    /// Which models.
    pub models: Pair<ModelReport>,
    /// Each network's size, and that of all.
    pub sizes: Vec<ComponentSizes>,
    /// One for each prompt.
    pub pictures: Vec<PictureReport>,
    /// The middle of them, and the worst.
    pub quality: Option<QualityFigures>,
    /// How far sketchbook's captions were followed, where that was asked for.
    pub scores: Option<Pair<Score>>,
    /// Both by turns; none where no times were asked for. Its `model` is `b`, its `against` is `a`.
    pub times: Option<Comparison>,
}

impl Report {
    /// What the second model's manifest is to say; none where nothing was drawn. `against`: the first model's measured digest;
    /// `asked_precision`: of the second model's pictures; `instruction_set`: that kernels were chosen by.
    pub fn measurement(
        &self,
        against: String,
        asked_precision: String,
        instruction_set: &[&str],
    ) -> Option<Measurement> {
        let quality = self.quality.clone()?;
        let times = self.times.as_ref().into_iter();
        let whole = times
            .flat_map(|times| &times.ratios)
            .find(|ratio| ratio.stage == "whole");
        Some(Measurement {
            against,
            against_precision: self.models.a.precision.clone(),
            precision: self.models.b.precision.clone(),
            asked_precision,
            decoder: self.models.b.decoder.clone(),
            pictures: self.pictures.len(),
            median_psnr_db: quality.median_psnr_db,
            least_psnr_db: quality.least_psnr_db,
            median_ssim: quality.median_ssim,
            median_latents_cosine: quality.median_latents_cosine,
            times_faster: whole.map(|ratio| ratio.median),
            least_times_faster: whole
                .and_then(|ratio| ratio.pairs.iter().copied().min_by(f64::total_cmp)),
            cpu: self.machine.cpu.clone(),
            cores: self.machine.cores,
            instruction_set: instruction_set
                .iter()
                .map(|&name| name.to_owned())
                .collect(),
        })
    }
}

/// One model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ModelReport {
    /// What it is called.
    pub name: String,
    /// Weights format of the components, as the receipt has it.
    pub weights: String,
    /// Digest of its files.
    pub digest: String,
    /// The arithmetic of its pictures.
    pub precision: String,
    /// What made pixels of latents: `full` or `tiny`.
    pub decoder: String,
}

/// The length of one network's files.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ComponentSizes {
    /// `text_encoder`, `transformer`, `vae_decoder`, or `whole`: everything in the folder.
    pub component: String,
    /// Bytes.
    pub bytes: Pair<u64>,
    /// How many times smaller the second is.
    pub ratio: f64,
}

/// One prompt, drawn by both.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PictureReport {
    /// What was drawn.
    pub prompt: String,
    /// Of both.
    pub seed: u64,
    /// Peak signal-to-noise ratio in dB, 100 at most.
    pub psnr_db: f64,
    /// Structural similarity; none of a picture smaller than 11×11.
    pub ssim: Option<f64>,
    /// Cosine of the latents after each step.
    pub latents_cosine: Vec<f64>,
}

/// How near the pictures are.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct QualityFigures {
    /// The median.
    pub median_psnr_db: f64,
    /// The worst picture's.
    pub least_psnr_db: f64,
    /// The median.
    pub median_ssim: Option<f64>,
    /// The median of the cosines after the last step.
    pub median_latents_cosine: f64,
}

impl QualityFigures {
    /// Of all pictures; none where there are none.
    pub fn of(pictures: &[PictureReport]) -> Option<Self> {
        let psnr: Vec<f64> = pictures.iter().map(|picture| picture.psnr_db).collect();
        let similar: Vec<f64> = pictures.iter().filter_map(|picture| picture.ssim).collect();
        let last: Vec<f64> = pictures
            .iter()
            .filter_map(|picture| picture.latents_cosine.last().copied())
            .collect();
        Some(Self {
            median_psnr_db: median(&psnr)?,
            least_psnr_db: psnr.into_iter().min_by(f64::total_cmp)?,
            median_ssim: median(&similar),
            median_latents_cosine: median(&last)?,
        })
    }
}

/// The middle of the samples; none of nothing.
fn median(samples: &[f64]) -> Option<f64> {
    (!samples.is_empty()).then(|| Spread::of(samples).median)
}

/// The sizes of both models' networks, and of all of their files.
pub fn sizes(a: &Manifest, b: &Manifest) -> Vec<ComponentSizes> {
    let whole = |manifest: &Manifest| manifest.files.values().map(|file| file.bytes).sum();
    let network = |manifest: &Manifest, part: Part| {
        [part.xml().to_owned(), part.bin()]
            .iter()
            .filter_map(|name| manifest.files.get(name))
            .map(|file| file.bytes)
            .sum::<u64>()
    };
    let sizes = |component: &str, bytes: Pair<u64>| ComponentSizes {
        component: component.to_owned(),
        ratio: bytes.a as f64 / bytes.b.max(1) as f64,
        bytes,
    };
    // A network that only one of them has is in the sum alone.
    a.parts()
        .filter(|&part| b.parts().any(|other| other == part))
        .map(|part| {
            let bytes = Pair {
                a: network(a, part),
                b: network(b, part),
            };
            sizes(part.name(), bytes)
        })
        .chain([sizes(
            "whole",
            Pair {
                a: whole(a),
                b: whole(b),
            },
        )])
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_middle_of_pictures_forgives_one_that_turned_out_otherwise() {
        let picture = |psnr_db: f64, cosine: f64| PictureReport {
            prompt: String::new(),
            seed: 0,
            psnr_db,
            ssim: None,
            latents_cosine: vec![1.0, cosine],
        };
        let found = QualityFigures::of(&[
            picture(38.0, 0.999),
            picture(12.0, 0.4),
            picture(36.0, 0.997),
        ]);
        let expected = QualityFigures {
            median_psnr_db: 36.0,
            least_psnr_db: 12.0,
            median_ssim: None,
            median_latents_cosine: 0.997,
        };
        assert_eq!(found, Some(expected));
        assert_eq!(QualityFigures::of(&[]), None);
        assert_eq!(median(&[4.0, 1.0]), Some(2.5));
    }
}
