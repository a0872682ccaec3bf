//! `[openvino]` and `[model]`: what draws, and on what.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Which arithmetic a device uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// The device's own choice: bf16 on CPUs that have it, f32 on others.
    #[default]
    Auto,
    /// f32 throughout, weights unpacked and activations never quantised: the proof's setting.
    F32,
    /// bf16.
    Bf16,
    /// f16.
    F16,
}

impl Precision {
    /// The name in settings, flags and of OpenVINO's hint.
    pub fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
            Self::F16 => "f16",
        }
    }
}

impl fmt::Display for Precision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Precision {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        [Self::Auto, Self::F32, Self::Bf16, Self::F16]
            .into_iter()
            .find(|precision| precision.name() == text)
            .ok_or_else(|| format!("precision '{text}' is not one of auto, f32, bf16, f16"))
    }
}

/// `[openvino]`
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct OpenvinoSettings {
    /// Folder of the runtime's libraries; empty searches the usual places.
    pub library: PathBuf,
    /// `CPU`, `GPU`, `GPU.1`, `NPU`, `AUTO`.
    pub device: String,
    /// Arithmetic.
    pub precision: Precision,
    /// CPU threads; 0 leaves the number to the runtime.
    pub threads: u16,
}

/// `[model]`
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct ModelSettings {
    /// Model directory; empty means the embedded model.
    pub directory: PathBuf,
    /// diffusers directory with tokenizer and scheduler, for IR that pixart did not make.
    pub checkpoint: PathBuf,
    /// Where the embedded model's IR is kept; empty means the user's cache folder.
    pub cache: PathBuf,
}

impl Default for OpenvinoSettings {
    fn default() -> Self {
        Self {
            library: PathBuf::new(),
            device: "CPU".to_owned(),
            precision: Precision::Auto,
            threads: 0,
        }
    }
}
