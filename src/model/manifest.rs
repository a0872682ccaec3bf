//! `manifest.json` of a converted model: what it was made from, how, and the checksum of every file.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Component, Path};
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::config_json::ConfigError;
use super::digest::hex;
use super::directory::ModelDirectory;
use super::index::PipelineClass;
use super::manifest_checksum;
use super::measurement::Measurement;
use super::part::Part;
use super::quantization::{CalibrationEntry, Quantization, QuantizationMode};
use super::spec::{TextEncoderSpec, TinyVaeSpec, TransformerSpec, VaeSpec};
use super::unused::UnusedTensors;
use crate::shown::is_obeyed;

/// How the weights of a component are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum WeightsFormat {
    /// 32-bit floats: bit-true, for proofs.
    F32,
    /// 16-bit floats; the kernels of folded upsampling, which are sums of weights, as f32.
    F16,
    /// 8-bit integers with one scale a row for linear layers; the rest as f16.
    Int8,
    /// 4-bit integers with one scale for each 64 inputs for linear layers; the rest as f16.
    Int4,
}

impl WeightsFormat {
    /// The name in flags and manifests.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::Int8 => "int8",
            Self::Int4 => "int4",
        }
    }
}

impl fmt::Display for WeightsFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for WeightsFormat {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "f32" => Ok(Self::F32),
            "f16" => Ok(Self::F16),
            "int8" => Ok(Self::Int8),
            "int4" => Ok(Self::Int4),
            other => Err(format!(
                "weights '{other}' is not one of f32, f16, int8, int4"
            )),
        }
    }
}

/// What to draw when a request leaves it open.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Defaults {
    /// Width of a picture.
    pub width_px: u32,
    /// Height of a picture.
    pub height_px: u32,
    /// Whether sizes move to the nearest aspect bin that the checkpoint was trained for.
    pub resolution_binning: bool,
}

/// One component of the model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ComponentEntry<Spec> {
    /// Its shapes.
    pub spec: Spec,
    /// How its weights are stored.
    pub weights: WeightsFormat,
    /// Digest of everything that decided its files: source files, configuration, options, converter.
    pub fingerprint: String,
    /// How it was quantised, where `pixart quantize` did that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quantization: Option<Quantization>,
    /// Tensors of the checkpoint that were left out, where there were any that are not known to be of no use.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unused_tensors: Option<UnusedTensors>,
}

impl<Spec> ComponentEntry<Spec> {
    /// How its weights are stored and computed with, in words, such as `int8 full`.
    pub fn words(&self) -> String {
        match &self.quantization {
            Some(Quantization {
                mode: mode @ (QuantizationMode::Hybrid | QuantizationMode::Full),
                ..
            }) => format!("{} {mode}", self.weights),
            _ => self.weights.to_string(),
        }
    }
}

/// One file of the model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileEntry {
    /// Its length.
    pub bytes: u64,
    /// Its SHA-256 in hexadecimal.
    pub sha256: String,
}

/// The manifest.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// Version of this page's layout: [`Manifest::FORMAT`].
    pub format: u32,
    /// What the model is called: the name of its source directory, unless `--name` gave another.
    pub name: String,
    /// Name of the directory that it was converted from, which `--name` does not change. Empty in manifests of before it
    /// was kept.
    #[serde(default)]
    pub source: String,
    /// Version of the tool that made it.
    pub pixart: String,
    /// Version of the OpenVINO runtime that checked it.
    pub openvino: String,
    /// Which pipeline it belongs to.
    pub pipeline: PipelineClass,
    /// What to draw when a request leaves it open.
    pub defaults: Defaults,
    /// T5.
    pub text_encoder: ComponentEntry<TextEncoderSpec>,
    /// The diffusion transformer.
    pub transformer: ComponentEntry<TransformerSpec>,
    /// The decoder of the autoencoder.
    pub vae_decoder: ComponentEntry<VaeSpec>,
    /// The decoder of the tiny autoencoder, where the model has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tiny_vae_decoder: Option<ComponentEntry<TinyVaeSpec>>,
    /// Where the ranges of activations come from, where any are computed in integers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub calibration: Option<CalibrationEntry>,
    /// How near its pictures are to those of the model that it was made from, and how fast it draws beside it, where that was
    /// measured: the newest last.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub measured: Vec<Measurement>,
    /// Every file but this one, by its path with forward slashes.
    pub files: BTreeMap<String, FileEntry>,
}

impl Manifest {
    /// The layout that this version writes and reads.
    pub const FORMAT: u32 = 1;
    /// Its file name.
    pub const FILE_NAME: &'static str = "manifest.json";

    /// Reads a manifest.
    ///
    /// # Errors
    /// When it is not JSON, of another format, has numbers that no configuration may have or names that no terminal should be
    /// sent, lists too few files or one outside of its directory, or has another checksum than it says.
    pub fn from_json(text: &str) -> Result<Self, ConfigError> {
        Self::with_checksum(text).map(|(manifest, _)| manifest)
    }

    /// [`Self::from_json`], with the checksum that the manifest has of itself. Those of before it was kept have none.
    ///
    /// # Errors
    /// As [`Self::from_json`].
    pub fn with_checksum(text: &str) -> Result<(Self, Option<String>), ConfigError> {
        #[derive(Deserialize)]
        struct Head {
            format: u32,
        }
        let head: Head = serde_json::from_str(text)?;
        if head.format != Self::FORMAT {
            return Err(ConfigError::invalid(
                "format",
                head.format,
                format!(
                    "{}, as this version of pixart writes it: convert the model again",
                    Self::FORMAT
                ),
            ));
        }
        let manifest: Self = serde_json::from_str(text)?;
        manifest.check_numbers()?;
        if let Some(missing) = manifest.missing_file() {
            return Err(ConfigError::invalid(
                "files",
                format!("without {missing}"),
                "the list of every file of the model",
            ));
        }
        for (key, name) in [("name", &manifest.name), ("source", &manifest.source)] {
            if name.contains(is_obeyed) {
                let expected = "text without control characters";
                return Err(ConfigError::invalid(key, name, expected));
            }
        }
        for name in manifest.files.keys() {
            let inside = !name.is_empty()
                && !name.contains(is_obeyed)
                && !name.contains('\\')
                && Path::new(name)
                    .components()
                    .all(|component| matches!(component, Component::Normal(_)));
            if !inside {
                return Err(ConfigError::invalid(
                    "files",
                    name,
                    "paths inside of the model directory",
                ));
            }
        }
        // Last: what is wrong with a value says more than that it was changed.
        let checksum = manifest_checksum::checked(text)?;
        Ok((manifest, checksum))
    }

    /// A file that a model of these components cannot be without and that is not listed.
    fn missing_file(&self) -> Option<String> {
        let of_components = self
            .parts()
            .flat_map(|part| [part.xml().to_owned(), part.bin()]);
        of_components
            .chain([ModelDirectory::SCHEDULER.to_owned()])
            .find(|name| !self.files.contains_key(name))
            .or_else(|| {
                let without = self.tokenizer().is_none();
                without.then(|| ModelDirectory::SENTENCEPIECE.to_owned())
            })
    }

    /// The networks that it has.
    pub fn parts(&self) -> impl Iterator<Item = Part> {
        let has_tiny = self.tiny_vae_decoder.is_some();
        Part::ALL
            .into_iter()
            .filter(move |part| part.is_required() || has_tiny)
    }

    /// Holds the numbers to the same ranges as when they were read from the checkpoint: a manifest is a file like any
    /// other.
    fn check_numbers(&self) -> Result<(), ConfigError> {
        TextEncoderSpec::from_json(&serde_json::to_string(&self.text_encoder.spec)?)?;
        TransformerSpec::from_json(&serde_json::to_string(&self.transformer.spec)?)?;
        VaeSpec::from_json(&serde_json::to_string(&self.vae_decoder.spec)?)?;
        if let Some(tiny) = &self.tiny_vae_decoder {
            TinyVaeSpec::from_json(&serde_json::to_string(&tiny.spec)?)?;
            tiny.spec.check_beside(&self.vae_decoder.spec)?;
        }
        self.defaults.check()
    }

    /// The tokenizer that the model is read with: `tokenizer.json` where the manifest has one, `spiece.model` otherwise.
    pub fn tokenizer(&self) -> Option<&'static str> {
        [
            ModelDirectory::TOKENIZER_JSON,
            ModelDirectory::SENTENCEPIECE,
        ]
        .into_iter()
        .find(|&name| self.files.contains_key(name))
    }

    /// How the weights are stored, in words: one format where all components have the same, each one's otherwise.
    pub fn weights(&self) -> String {
        let [text_encoder, transformer, vae_decoder] = [
            self.text_encoder.words(),
            self.transformer.words(),
            self.vae_decoder.words(),
        ];
        if text_encoder == transformer && transformer == vae_decoder {
            transformer
        } else {
            format!(
                "text_encoder {text_encoder}, transformer {transformer}, vae_decoder {vae_decoder}"
            )
        }
    }

    /// The manifest as it is stored, with its checksum.
    ///
    /// # Errors
    /// Never in practice: every field is plain data.
    pub fn to_json(&self) -> Result<String, serde_json::Error> {
        manifest_checksum::sealed(self)
    }

    /// One digest for all files: equal exactly when every file is.
    pub fn digest(&self) -> String {
        self.digest_of(|_| true)
    }

    /// One digest for all files but the tiny decoder's, which has no part in what variants are measured by: so a model may get one
    /// later.
    pub fn measured_digest(&self) -> String {
        let tiny = Part::TinyVaeDecoder;
        self.digest_of(|name| name != tiny.xml() && name != tiny.bin())
    }

    fn digest_of(&self, counts: impl Fn(&str) -> bool) -> String {
        let mut digest = Sha256::new();
        for (name, entry) in self.files.iter().filter(|(name, _)| counts(name)) {
            digest.update(name.as_bytes());
            digest.update([0]);
            digest.update(entry.sha256.as_bytes());
            digest.update([b'\n']);
        }
        hex(&digest.finalize())
    }
}
