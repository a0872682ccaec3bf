//! What a manifest says of how near a model's pictures are to those of another, and by whose measurement.

use serde::{Deserialize, Serialize};

/// A comparison that `pixart compare --record` made.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Measurement {
    /// [`Manifest::measured_digest`](super::Manifest::measured_digest) of the model that it was held against.
    pub against: String,
    /// The arithmetic of that model's pictures.
    pub against_precision: String,
    /// The arithmetic of its own.
    pub precision: String,
    /// What was asked for it: `auto` where it is the device's own choice.
    pub asked_precision: String,
    /// What made pixels of its latents: `full` or `tiny`. The other model's are of the full decoder.
    pub decoder: String,
    /// How many pictures were drawn by both.
    pub pictures: usize,
    /// The median of their PSNR in dB.
    pub median_psnr_db: f64,
    /// The worst picture's.
    pub least_psnr_db: f64,
    /// The median of their SSIM.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub median_ssim: Option<f64>,
    /// The median cosine of their last latents.
    pub median_latents_cosine: f64,
    /// How many times as fast it draws, the median of pairs; none where that was not measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub times_faster: Option<f64>,
    /// The same of the pair in which it gained the least; none where that was not measured, or by a version that kept the median
    /// alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub least_times_faster: Option<f64>,
    /// The processor that all of it was measured on.
    pub cpu: String,
    /// Its cores.
    pub cores: usize,
    /// What its kernels were chosen by, as [`instruction_set`](super::instruction_set) tells it.
    pub instruction_set: Vec<String>,
}

impl Measurement {
    /// How many times as fast it draws at least, as far as that is known: in its worst pair, or the median where only that was
    /// kept.
    pub fn gain(&self) -> Option<f64> {
        self.least_times_faster.or(self.times_faster)
    }

    /// The processor that it was measured on, for people: its name, and what its kernels were chosen by.
    pub fn processor(&self) -> String {
        let mut words = self.cpu.clone();
        for feature in &self.instruction_set {
            words.push_str(if words.len() == self.cpu.len() {
                ", "
            } else {
                " "
            });
            words.push_str(feature);
        }
        words
    }

    /// Whether `other` tells the same of another time, and takes this one's place.
    pub fn is_renewed_by(&self, other: &Self) -> bool {
        (&self.against_precision, &self.precision, &self.decoder)
            == (&other.against_precision, &other.precision, &other.decoder)
            && (&self.against, &self.asked_precision) == (&other.against, &other.asked_precision)
            && self.instruction_set == other.instruction_set
    }
}
