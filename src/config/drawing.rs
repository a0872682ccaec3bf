//! `[openvino]` and `[model]`: what draws, and on what.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::range::{DAY_SECONDS, within};
use crate::domain::Quality;

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

/// Which files of a model are read at start, to be compared with their SHA-256.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum FileCheck {
    /// Those that changed since they were read last.
    #[default]
    Changed,
    /// All.
    Always,
}

/// When the text encoder is in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum TextEncoderResidency {
    /// From the start to the end.
    #[default]
    Always,
    /// From a prompt whose embeddings are not at hand until none has come for a while.
    OnDemand,
}

impl TextEncoderResidency {
    /// The name in settings and flags.
    pub fn name(self) -> &'static str {
        match self {
            Self::Always => "always",
            Self::OnDemand => "on_demand",
        }
    }
}

impl fmt::Display for TextEncoderResidency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for TextEncoderResidency {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        [Self::Always, Self::OnDemand]
            .into_iter()
            .find(|residency| residency.name() == text)
            .ok_or_else(|| format!("text encoder '{text}' is not one of always, on_demand"))
    }
}

/// A word of the domain's, which knows no serde.
mod words {
    use std::fmt::Display;
    use std::str::FromStr;

    use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};

    pub(super) fn serialize<S: Serializer>(
        word: &impl Display,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_str(word)
    }

    pub(super) fn deserialize<'de, D, T>(deserializer: D) -> Result<T, D::Error>
    where
        D: Deserializer<'de>,
        T: FromStr<Err: Display>,
    {
        String::deserialize(deserializer)?
            .parse()
            .map_err(D::Error::custom)
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
    /// CPU threads; 0 follows the quota of the container, or leaves the number to the runtime where there is none.
    pub threads: u16,
}

/// `[model]`
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct ModelSettings {
    /// Model directory; empty means the embedded model.
    pub directory: PathBuf,
    /// diffusers directory with tokenizer and scheduler, for IR that pixart did not make.
    pub checkpoint: PathBuf,
    /// How near to the original's pictures have to be: what chooses among the model's variants.
    #[serde(with = "words")]
    pub quality: Quality,
    /// Where the embedded model's IR is kept, and digests of models' files; empty means the user's cache folder.
    pub cache: PathBuf,
    /// Which files are read at start, to be compared with their SHA-256.
    pub check: FileCheck,
    /// When the text encoder is in memory.
    pub text_encoder: TextEncoderResidency,
    /// How long an `on_demand` text encoder stays after the last prompt that it read; 0 lets it go before the picture is drawn.
    pub text_encoder_idle_seconds: u64,
    /// What text embeddings of earlier prompts may take in memory; 0 keeps none.
    pub embedding_cache_mib: usize,
    /// Where they are kept from one start to the next; empty keeps none.
    pub embedding_cache_directory: PathBuf,
}

impl Default for ModelSettings {
    fn default() -> Self {
        Self {
            directory: PathBuf::new(),
            checkpoint: PathBuf::new(),
            quality: Quality::Balanced,
            cache: PathBuf::new(),
            check: FileCheck::Changed,
            text_encoder: TextEncoderResidency::Always,
            text_encoder_idle_seconds: 60,
            embedding_cache_mib: 64,
            embedding_cache_directory: PathBuf::new(),
        }
    }
}

impl ModelSettings {
    /// How long an `on_demand` text encoder stays after its last prompt; none where it stays always.
    pub fn text_encoder_idle(&self) -> Option<Duration> {
        let idle = Duration::from_secs(self.text_encoder_idle_seconds);
        (self.text_encoder == TextEncoderResidency::OnDemand).then_some(idle)
    }

    /// What text embeddings may take in memory, in bytes.
    pub fn embedding_cache_bytes(&self) -> usize {
        self.embedding_cache_mib.saturating_mul(1024 * 1024)
    }

    pub(super) fn check(&self) -> Result<(), String> {
        within(
            "model.text_encoder_idle_seconds",
            self.text_encoder_idle_seconds,
            0..=DAY_SECONDS,
            "seconds",
        )?;
        within(
            "model.embedding_cache_mib",
            self.embedding_cache_mib,
            0..=65_536,
            "MiB",
        )
    }
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
