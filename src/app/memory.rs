//! Too little memory is told before a model is loaded, not by the kernel in the middle of it; and what bounds an image is found out.
//!
//! What is counted is a lower bound of anonymous memory: the copy of the weights that the device packs for itself, and the VAE's
//! largest activations at the model's own size. The IR is mapped, its pages can go. So what is refused does not fit; what is
//! not refused may still not, with larger pictures or other work on the machine.

use std::fmt;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use anyhow::Result;

use super::{App, Loaded, Parts};
use crate::config::{Precision, Settings, TextEncoderResidency};
use crate::model::WeightsFormat;
use crate::pipeline::{ImageCost, MemoryBudget, MemoryLimit};
use crate::telemetry::{ProcessMemory, memory_limit_bytes};
use crate::worker;

/// Bytes of activations for each pixel of the picture: the VAE's last level has 128 channels of f32, input and output at a time.
const ACTIVATION_BYTES_PER_PIXEL: u64 = 2 * 128 * 4;

/// One network, as far as its memory goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Weights {
    /// Length of its `.bin`.
    pub(super) bytes: u64,
    /// How they are stored there; none for IR that pixart did not make.
    pub(super) format: Option<WeightsFormat>,
}

/// What a model needs memory for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Demand {
    pub(super) text_encoder: Weights,
    pub(super) transformer: Weights,
    pub(super) vae_decoder: Weights,
    /// Pixels of the model's own size.
    pub(super) pixels: u64,
    pub(super) precision: Precision,
    /// Whether the text encoder stays while pictures are drawn.
    pub(super) resident_text_encoder: bool,
}

impl App {
    /// Holds that the model fits into memory, on the device that has the process's own. Others have memory of theirs.
    pub(super) fn check_memory(&self, parts: &Parts) -> Result<(), NoMemory> {
        if self.settings.openvino.device != "CPU" {
            return Ok(());
        }
        available_bytes(self.settings.limits.memory_bytes())
            .map_or(Ok(()), |available| self.demand(parts).check(available))
    }

    fn demand(&self, parts: &Parts) -> Demand {
        let [text_encoder, transformer, vae_decoder] = parts.formats;
        Demand {
            text_encoder: Weights::of(&parts.text_encoder, text_encoder),
            transformer: Weights::of(&parts.transformer, transformer),
            vae_decoder: Weights::of(&parts.vae_decoder, vae_decoder),
            pixels: u64::from(parts.defaults.width_px) * u64::from(parts.defaults.height_px),
            precision: self.settings.openvino.precision,
            resident_text_encoder: self.settings.model.text_encoder == TextEncoderResidency::Always,
        }
    }

    /// What bounds the memory of images that a loaded model draws. None for other devices, and where the system shows nothing.
    pub(super) fn memory_limit(&self, parts: &Parts) -> Option<MemoryLimit> {
        if self.settings.openvino.device != "CPU" {
            return None;
        }
        let limit = hard_limit(self.settings.limits.memory_bytes());
        // Without any, what the machine has left beside what this process has already.
        let machine = || Some(machine_left()? + ProcessMemory::now()?.anonymous_bytes);
        let demand = self.demand(parts);
        let packed = |weights: Weights| weights.packed_bytes(demand.precision);
        let text_encoder = packed(demand.text_encoder);
        let (now, later) = match self.settings.model.text_encoder {
            TextEncoderResidency::Always => (text_encoder, 0),
            // It has left before the first step.
            TextEncoderResidency::OnDemand
                if self.settings.model.text_encoder_idle_seconds == 0 =>
            {
                (0, 0)
            }
            TextEncoderResidency::OnDemand => (0, text_encoder),
        };
        Some(MemoryLimit {
            bytes: limit.or_else(machine)?,
            is_hard: limit.is_some(),
            kept_bytes: 0,
            unpacked_bytes: now + packed(demand.transformer) + packed(demand.vae_decoder),
            text_encoder_bytes: later,
        })
    }
}

impl Loaded {
    /// Measures what images may take of memory; none where nothing bounds it.
    pub fn measure_memory(&mut self) -> Option<MemoryBudget> {
        let planner = Arc::clone(self.pipeline.planner());
        worker::measure_memory(self.memory?, &planner, &mut self.pipeline, false)
    }

    /// Has allocations fail where an image of this cost exceeds the limit.
    pub fn hold_memory(&self, cost: ImageCost) {
        if let Some(limit) = self.memory {
            worker::hold_memory(limit, cost);
        }
    }
}

impl Weights {
    /// Those of the IR at `xml`.
    pub(super) fn of(xml: &Path, format: Option<WeightsFormat>) -> Self {
        let bin = xml.with_extension("bin");
        Self {
            bytes: fs::metadata(bin).map_or(0, |metadata| metadata.len()),
            format,
        }
    }

    /// Length of the device's own copy. Integers stay as they are; floats become those of the arithmetic where that is shorter.
    pub(super) fn packed_bytes(self, precision: Precision) -> u64 {
        match (self.format, precision) {
            (Some(WeightsFormat::F32), Precision::Auto | Precision::Bf16 | Precision::F16) => {
                self.bytes / 2
            }
            _ => self.bytes,
        }
    }

    /// The same weights in int8; unknown ones are taken for f16.
    pub(super) fn as_int8(self) -> Self {
        let bytes = match self.format {
            Some(WeightsFormat::F32) => self.bytes / 4,
            Some(WeightsFormat::F16) | None => self.bytes / 2,
            Some(WeightsFormat::Int8 | WeightsFormat::Int4) => self.bytes,
        };
        Self {
            bytes,
            format: Some(WeightsFormat::Int8),
        }
    }
}

impl Demand {
    /// Least anonymous memory at the peak, in bytes.
    pub(super) fn bytes(&self) -> u64 {
        let text_encoder = self.text_encoder.packed_bytes(self.precision);
        let rest = self.transformer.packed_bytes(self.precision)
            + self.vae_decoder.packed_bytes(self.precision);
        let activations = self.pixels * ACTIVATION_BYTES_PER_PIXEL;
        if self.resident_text_encoder {
            rest + text_encoder + activations
        } else {
            // The others make room while it is loaded.
            text_encoder.max(rest + activations)
        }
    }

    /// Other settings that take less, with what to do for them; the smallest changes first.
    fn alternatives(&self) -> [(&'static str, Self); 3] {
        let on_demand = Self {
            resident_text_encoder: false,
            ..*self
        };
        let int8 = Self {
            text_encoder: self.text_encoder.as_int8(),
            ..*self
        };
        let both = Self {
            text_encoder: self.text_encoder.as_int8(),
            ..on_demand
        };
        [
            ("model.text_encoder = \"on_demand\"", on_demand),
            ("a model converted with --text-encoder-weights int8", int8),
            (
                "a model converted with --text-encoder-weights int8 and model.text_encoder = \"on_demand\"",
                both,
            ),
        ]
    }

    /// Holds that it fits into `available` bytes.
    pub(super) fn check(&self, available: u64) -> Result<(), NoMemory> {
        let needed = self.bytes();
        if needed <= available {
            return Ok(());
        }
        let mut fitting: Vec<Fit> = self
            .alternatives()
            .into_iter()
            .map(|(how, demand)| Fit {
                how,
                needed: demand.bytes(),
            })
            .filter(|fit| fit.needed <= available && fit.needed < needed)
            .collect();
        // Both changes are not offered where one alone gains as much.
        fitting.dedup_by_key(|fit| fit.needed);
        Err(NoMemory {
            needed,
            available,
            fitting,
        })
    }
}

/// Settings that fit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Fit {
    how: &'static str,
    needed: u64,
}

/// Less memory than a model needs.
#[derive(Debug, PartialEq, Eq)]
pub struct NoMemory {
    needed: u64,
    available: u64,
    fitting: Vec<Fit>,
}

impl fmt::Display for NoMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let gb = |bytes: u64| bytes as f64 / 1e9;
        write!(
            f,
            "this model needs at least {:.1} GB of memory with these settings and {:.1} GB are available: ",
            gb(self.needed),
            gb(self.available)
        )?;
        if self.fitting.is_empty() {
            return f.write_str(
                "free some, raise the container's limit, or take a smaller model (pixart convert --weights int8)",
            );
        }
        let ways = self
            .fitting
            .iter()
            .map(|fit| format!("{} ({:.1} GB)", fit.how, gb(fit.needed)));
        let ways: Vec<String> = ways.collect();
        write!(f, "what would fit is {}", ways.join(", or "))
    }
}

impl std::error::Error for NoMemory {}

/// Kept results take one of so many parts of the memory limit at most.
const KEPT_SHARE: u64 = 8;

/// What kept results may take: no more than an eighth of the memory limit, or images would have no room beside them.
pub(super) fn kept_bytes(settings: &Settings, hard_limit: Option<u64>) -> usize {
    let most = settings.jobs.max_memory_bytes();
    let share = hard_limit.and_then(|limit| usize::try_from(limit / KEPT_SHARE).ok());
    share.map_or(most, |share| most.min(share))
}

/// The limit for images beside which results are kept.
pub(super) fn beside_results(limit: MemoryLimit, settings: &Settings) -> MemoryLimit {
    let hard_limit = limit.is_hard.then_some(limit.bytes);
    MemoryLimit {
        kept_bytes: kept_bytes(settings, hard_limit) as u64,
        ..limit
    }
}

/// The limit that the settings name, and the control group's: the lower one.
pub(super) fn hard_limit(settings: Option<u64>) -> Option<u64> {
    match (settings, memory_limit_bytes()) {
        (Some(settings), Some(group)) => Some(settings.min(group)),
        (settings, group) => settings.or(group),
    }
}

/// What the machine has left.
fn machine_left() -> Option<u64> {
    left_in(&fs::read_to_string("/proc/meminfo").ok()?)
}

/// What this process may still take: what the system has left, and no more than its limit. None where neither is told.
pub(super) fn available_bytes(settings: Option<u64>) -> Option<u64> {
    match (machine_left(), hard_limit(settings)) {
        (Some(left), Some(limit)) => Some(left.min(limit)),
        (left, limit) => left.or(limit),
    }
}

/// `MemAvailable` of `/proc/meminfo`, in bytes.
fn left_in(meminfo: &str) -> Option<u64> {
    let line = meminfo
        .lines()
        .find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GB: u64 = 1_000_000_000;

    fn weights(bytes: u64, format: WeightsFormat) -> Weights {
        Weights {
            bytes,
            format: Some(format),
        }
    }

    /// The published shapes at 1024 px.
    fn published(text_encoder: Weights) -> Demand {
        Demand {
            text_encoder,
            transformer: weights(1_220_000_000, WeightsFormat::F16),
            vae_decoder: weights(100_000_000, WeightsFormat::F16),
            pixels: 1024 * 1024,
            precision: Precision::Auto,
            resident_text_encoder: true,
        }
    }

    #[test]
    fn what_fits_is_not_refused_and_the_settings_that_would_fit_are_named() {
        let demand = published(weights(9_500_000_000, WeightsFormat::F16));
        assert_eq!(demand.bytes(), 11_893_741_824);
        demand.check(12 * GB).unwrap();
        let told = demand.check(11 * GB).unwrap_err().to_string();
        for part in [
            "11.9 GB",
            "11.0 GB",
            "on_demand\" (9.5 GB)",
            "int8 (7.1 GB)",
        ] {
            assert!(told.contains(part), "no '{part}' in: {told}");
        }
        let told = demand.check(65 * GB / 10).unwrap_err().to_string();
        assert!(told.contains("int8 and model.text_encoder"), "{told}");
        assert!(
            !told.contains("(9.5 GB)") && !told.contains("(7.1 GB)"),
            "{told}"
        );
        assert!(!told.contains('\n'), "{told}");
    }

    #[test]
    fn where_nothing_would_fit_that_is_said_and_nothing_promised() {
        let demand = published(weights(4_800_000_000, WeightsFormat::Int8));
        let told = demand.check(GB).unwrap_err().to_string();
        assert!(told.contains("smaller model"), "{told}");
        assert!(!told.contains("would fit"), "{told}");
        // What is int8 already gains nothing by becoming it.
        let told = demand.check(7 * GB).unwrap_err().to_string();
        assert!(
            told.contains("on_demand") && !told.contains("int8"),
            "{told}"
        );
    }

    #[test]
    fn f32_weights_take_half_in_narrower_arithmetic_and_all_of_it_in_f32() {
        let mut demand = published(weights(19 * GB, WeightsFormat::F32));
        let narrow = demand.bytes();
        demand.precision = Precision::F32;
        assert_eq!(demand.bytes() - narrow, 19 * GB / 2);
    }

    #[test]
    fn kept_results_leave_room_for_images() {
        let settings = Settings::default();
        assert_eq!(kept_bytes(&settings, None), 256 << 20);
        assert_eq!(kept_bytes(&settings, Some(8 << 30)), 256 << 20);
        assert_eq!(kept_bytes(&settings, Some(512 << 20)), 64 << 20);
    }

    #[test]
    fn the_lower_limit_is_in_force() {
        assert!(hard_limit(Some(1 << 20)).is_some_and(|bytes| bytes <= 1 << 20));
        assert_eq!(hard_limit(None), memory_limit_bytes());
    }

    #[test]
    fn what_the_system_has_left_is_read() {
        let meminfo = "MemTotal:  24592 kB\nMemFree:  1 kB\nMemAvailable:   20480 kB\n";
        assert_eq!(left_in(meminfo), Some(20 << 20));
        assert_eq!(left_in("MemTotal: 1 kB\n"), None);
        assert!(available_bytes(None).is_some_and(|bytes| bytes > 1 << 20));
    }
}
