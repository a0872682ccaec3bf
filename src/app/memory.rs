//! Too little memory is told before a model is loaded, not by the kernel in the middle of it.
//!
//! What is counted is a lower bound of anonymous memory: the copy of the weights that the device packs for itself, and the VAE's
//! largest activations at the model's own size. The IR is mapped, its pages can go. So what is refused does not fit; what is
//! not refused may still not, with larger pictures or other work on the machine.

use std::fmt;
use std::fs;
use std::path::Path;

use anyhow::Result;

use crate::config::Precision;
use crate::model::WeightsFormat;
use crate::telemetry::memory_limit_bytes;

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

/// What this process may still take: what the system has left, and no more than its control group's limit. None where neither
/// is told.
pub(super) fn available_bytes() -> Option<u64> {
    let told = fs::read_to_string("/proc/meminfo").ok();
    let left = told.as_deref().and_then(left_in);
    match (left, memory_limit_bytes()) {
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
    fn what_the_system_has_left_is_read() {
        let meminfo = "MemTotal:  24592 kB\nMemFree:  1 kB\nMemAvailable:   20480 kB\n";
        assert_eq!(left_in(meminfo), Some(20 << 20));
        assert_eq!(left_in("MemTotal: 1 kB\n"), None);
        assert!(available_bytes().is_some_and(|bytes| bytes > 1 << 20));
    }
}
