//! What was measured, as the JSON of `--json` has it; docs/bench.md documents every field.

use std::fs;

use serde::{Deserialize, Serialize};

use super::{MemoryPeak, Spread};
use crate::telemetry::cpus;

/// Of the JSON; a field that changes its meaning raises it.
pub const SCHEMA: u32 = 1;

/// One model on one machine.
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
    /// What the model is called.
    pub model: String,
    /// Weights format of the components, as the receipt has it.
    pub weights: String,
    /// Digest of the model's files.
    pub model_digest: String,
    /// Device, by its name in the settings.
    pub device: String,
    /// Arithmetic in force.
    pub precision: String,
    /// What made pixels of latents: `full` or `tiny`.
    pub decoder: String,
    /// Checking, reading and compiling.
    pub load_seconds: f64,
    /// Peak memory meanwhile.
    pub load_memory: Option<MemoryPeak>,
    /// The machine's matmul peak in FLOP/s; none where it was not measured.
    pub matmul_flops_per_second: Option<f64>,
    /// One for each size.
    pub cases: Vec<CaseReport>,
}

/// Where it was measured.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    /// The processor by its maker's name.
    pub cpu: String,
    /// Cores that the process may use.
    pub cores: usize,
    /// Memory of the machine; none where it is unknown.
    pub memory_bytes: Option<u64>,
}

impl Machine {
    /// This one.
    pub fn here() -> Self {
        let field = |path: &str, name: &str| {
            let text = fs::read_to_string(path).ok()?;
            let line = text.lines().find(|line| line.starts_with(name))?;
            Some(line.split_once(':')?.1.trim().to_owned())
        };
        let kib = field("/proc/meminfo", "MemTotal")
            .and_then(|text| text.split_whitespace().next()?.parse::<u64>().ok());
        Self {
            cpu: field("/proc/cpuinfo", "model name").unwrap_or_else(|| "unknown".to_owned()),
            cores: cpus(),
            memory_bytes: kib.map(|kib| kib * 1024),
        }
    }
}

/// Pictures of one size.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct CaseReport {
    /// Width × height in pixels, as asked for.
    pub size: String,
    /// What was drawn before resize and crop.
    pub drawn_size: String,
    /// Calls of the transformer.
    pub steps: usize,
    /// As the receipt has it.
    pub scheduler: String,
    /// As the receipt has it.
    pub guidance_scale: f32,
    /// Tokens of each prompt that was encoded, end mark included.
    pub tokens: Vec<usize>,
    /// The stages in their order.
    pub stages: Vec<StageReport>,
    /// The part of `text_encode` in which the text encoder was read and compiled, picture by picture; empty where it stays
    /// in memory.
    pub text_encoder_load_seconds: Vec<f64>,
    /// Each denoising step of all pictures; the stage `denoise` has them, too.
    pub step: StageReport,
    /// From request to file, by a clock around all of it.
    pub whole: StageReport,
    /// Median of the stages' sum by the whole: what the stages leave unexplained is the rest to 1.
    pub stage_sum_share: f64,
    /// Peak memory while these pictures were drawn.
    pub memory: Option<MemoryPeak>,
}

/// One stage.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct StageReport {
    /// By its name in the metrics and in the timings of a picture.
    pub name: String,
    /// Where the samples lie, in seconds.
    #[serde(flatten)]
    pub spread: Spread,
    /// Each sample, in the order in which they were taken.
    pub seconds: Vec<f64>,
    /// FLOPs of one sample, where the stage is a network.
    pub flops: Option<u64>,
    /// By the median.
    pub flops_per_second: Option<f64>,
    /// Of the machine's matmul peak.
    pub peak_share: Option<f64>,
}

impl StageReport {
    /// Of samples.
    pub(super) fn new(name: &str, seconds: Vec<f64>, flops: Option<u64>) -> Self {
        let spread = Spread::of(&seconds);
        Self {
            name: name.to_owned(),
            flops_per_second: flops
                .filter(|_| spread.median > 0.0)
                .map(|flops| flops as f64 / spread.median),
            spread,
            seconds,
            flops,
            peak_share: None,
        }
    }
}

impl CaseReport {
    /// Tells the shares of the machine's matmul peak.
    pub fn hold_against(&mut self, peak: f64) {
        for stage in self
            .stages
            .iter_mut()
            .chain([&mut self.step, &mut self.whole])
        {
            stage.peak_share = stage.flops_per_second.map(|flops| flops / peak);
        }
    }
}
