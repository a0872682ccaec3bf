//! A repository judged before it is pulled: what it is, what it takes here, and what is in the way.
//!
//! `pull` looks at the repository, `convert` holds its headers against its configurations; here the two meet. What cannot work is an
//! error; what does not fit this machine is reported with what to do.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use serde::Serialize;

use super::memory::{self, Demand, NoMemory, Weights};
use super::pulled::work_folder;
use crate::bench::{ImageToEstimate, Throughput};
use crate::config::Precision;
use crate::convert::{ComponentPlan, ComponentWeights, ConversionPlan, ConvertError, Header};
use crate::domain::ImageSize;
use crate::model::{
    ModelIndex, ModelShapes, NoSpace, PipelineClass, bytes_below, check_free_space, free_bytes,
    resolved,
};
use crate::pull::{Inspection, PullError, WeightsHeader};

/// Tokens of a prompt of a sentence or two; the estimate hardly depends on them.
const PROMPT_TOKENS: usize = 32;

/// What would be pulled.
#[derive(Debug, Clone)]
pub enum Judged {
    /// A whole checkpoint.
    Checkpoint(Box<ConversionPlan>),
    /// A tiny autoencoder alone, which a model may be given.
    TinyVae,
}

/// Judges what was seen of a repository, whose weights would be stored as `weights`.
///
/// # Errors
/// When it cannot be converted: the message names the file on the hub and says what to do.
pub fn judge(inspection: &Inspection, weights: ComponentWeights) -> Result<Judged> {
    let folder =
        tempfile::tempdir().context("judging a repository needs 16 MB of temporary files")?;
    for (name, bytes) in &inspection.documents {
        let path = folder.path().join(name);
        let parent = path.parent().unwrap_or(folder.path());
        fs::create_dir_all(parent)
            .and_then(|()| fs::write(&path, bytes))
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    let judged = if inspection.documents.contains_key(ModelIndex::FILE_NAME) {
        let headers = |component: &str| {
            let weights = inspection.weights.iter();
            let own = weights.filter(|header| header.is_of(component));
            own.map(|header| as_header(folder.path(), header)).collect()
        };
        ConversionPlan::of(folder.path(), &headers, weights)
            .map(|plan| Judged::Checkpoint(plan.into()))
    } else {
        let headers: Vec<Header> = inspection
            .weights
            .iter()
            .map(|header| as_header(folder.path(), header))
            .collect();
        ConversionPlan::of_tiny_vae(folder.path(), &headers).map(|_| Judged::TinyVae)
    };
    judged.map_err(|error| unusable(inspection, folder.path(), error).into())
}

fn as_header(folder: &Path, header: &WeightsHeader) -> Header {
    Header {
        path: folder.join(&header.name),
        json: header.json.clone(),
        file_bytes: header.file_bytes,
    }
}

/// The refusal of a conversion in the hub's own names: nobody knows the folder in which it was judged.
fn unusable(inspection: &Inspection, folder: &Path, error: ConvertError) -> PullError {
    let repository = inspection.repository.clone();
    match error {
        ConvertError::BadWeights { path, detail } => PullError::BadHeader {
            repository,
            file: path
                .strip_prefix(folder)
                .unwrap_or(&path)
                .display()
                .to_string(),
            detail,
        },
        error => PullError::Unusable {
            repository,
            detail: error
                .to_string()
                .replace(&format!("{}/", folder.display()), ""),
        },
    }
}

/// What a checkpoint takes on this machine.
#[derive(Debug, Clone, Serialize)]
pub struct Needs {
    /// Bytes that have to come from the hub.
    pub fetch_bytes: u64,
    /// Room on the disk at the most, and what of it stays.
    pub disk: Disk,
    /// Memory to draw an image of the model's own size.
    pub memory: Memory,
}

/// Room on a disk.
#[derive(Debug, Clone, Serialize)]
pub struct Disk {
    /// The folder whose disk it is.
    pub folder: PathBuf,
    /// At the most, while it comes.
    pub peak_bytes: u64,
    /// What of it is there from an earlier run.
    pub here_bytes: u64,
    /// Afterwards.
    pub kept_bytes: u64,
    /// What is free now, where the system says so.
    pub free_bytes: Option<u64>,
}

/// Memory.
#[derive(Debug, Clone, Serialize)]
pub struct Memory {
    /// At least, with the text encoder resident.
    pub resident_bytes: u64,
    /// At least, with the text encoder on demand.
    pub on_demand_bytes: u64,
    /// What this process may take now, where the system says so.
    pub available_bytes: Option<u64>,
    /// Why it does not fit, and what would.
    #[serde(skip)]
    pub shortage: Option<String>,
}

impl Disk {
    /// Holds that there is room.
    ///
    /// # Errors
    /// When there is not, before anything has come.
    pub fn check(&self) -> Result<(), NoSpace> {
        check_free_space(
            &self.folder,
            self.peak_bytes.saturating_sub(self.here_bytes),
        )
    }
}

/// Whether a pull converts as it goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Converting {
    /// Each component as soon as it is whole; its weights are dropped then.
    AsItComes,
    /// Later, by 'pixart convert'.
    Later,
}

/// What a checkpoint takes: pulled to `output`, and drawn with at `precision`.
pub fn needs(
    inspection: &Inspection,
    plan: &ConversionPlan,
    output: &Path,
    converting: Converting,
    precision: Precision,
) -> Needs {
    let fetch_bytes = inspection.total_bytes;
    let model_bytes: u64 = plan.components.iter().map(|part| part.model_bytes).sum();
    let (peak_bytes, kept_bytes, here) = match converting {
        Converting::Later => (fetch_bytes, fetch_bytes, output.to_owned()),
        Converting::AsItComes => {
            let work = work_folder(output).unwrap_or_else(|_| output.to_owned());
            (peak_of(inspection, plan), model_bytes, work)
        }
    };
    let folder = existing(output);
    let demand = demand(plan, precision);
    let available = memory::available_bytes(None);
    let shortage = available.and_then(|bytes| demand.check(bytes).err());
    Needs {
        fetch_bytes,
        disk: Disk {
            free_bytes: free_bytes(&folder),
            folder,
            peak_bytes,
            here_bytes: bytes_below(&here),
            kept_bytes,
        },
        memory: Memory {
            resident_bytes: demand.bytes(),
            on_demand_bytes: Demand {
                resident_text_encoder: false,
                ..demand
            }
            .bytes(),
            available_bytes: available,
            shortage: shortage.as_ref().map(NoMemory::to_string),
        },
    }
}

/// Components come one after the other: what was made of the former ones, the weights of one, and what is made of it.
fn peak_of(inspection: &Inspection, plan: &ConversionPlan) -> u64 {
    let mut made = 0;
    let mut peak = 0;
    for part in &plan.components {
        made += part.model_bytes;
        let files = inspection
            .weights
            .iter()
            .filter(|file| file.is_of(part.name));
        let source: u64 = files.filter_map(|file| file.file_bytes).sum();
        peak = peak.max(made + source);
    }
    peak
}

fn demand(plan: &ConversionPlan, precision: Precision) -> Demand {
    let [text_encoder, transformer, vae_decoder] = &plan.components;
    let weights = |part: &ComponentPlan| Weights {
        bytes: part.model_bytes,
        format: Some(part.weights),
    };
    let defaults = &plan.defaults;
    Demand {
        text_encoder: weights(text_encoder),
        transformer: weights(transformer),
        vae_decoder: weights(vae_decoder),
        pixels: u64::from(defaults.width_px) * u64::from(defaults.height_px),
        precision,
        resident_text_encoder: true,
    }
}

/// The folder itself, or the nearest one above that is there.
fn existing(output: &Path) -> PathBuf {
    let output = resolved(output).unwrap_or_else(|_| output.to_owned());
    let absolute = std::path::absolute(&output).unwrap_or(output);
    let mut folders = absolute.ancestors();
    let found = folders.find(|folder| folder.is_dir());
    found.map_or_else(|| PathBuf::from("/"), Path::to_owned)
}

/// An image as a model draws it unless asked otherwise.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct DefaultImage {
    /// Width.
    pub width_px: u32,
    /// Height.
    pub height_px: u32,
    /// Steps of its own scheduler.
    pub steps: usize,
    /// Whether each step computes both halves of guidance.
    pub guided: bool,
}

impl DefaultImage {
    /// That of a checkpoint.
    pub fn of(plan: &ConversionPlan) -> Self {
        let kind = plan.scheduler.kind();
        Self {
            width_px: plan.defaults.width_px,
            height_px: plan.defaults.height_px,
            steps: kind.default_steps().count(),
            guided: kind.default_guidance().is_active(),
        }
    }

    /// Seconds that drawing it takes on a machine of this throughput; none for a size that is not drawn.
    pub fn seconds(self, plan: &ConversionPlan, throughput: Throughput) -> Option<f64> {
        let shapes = ModelShapes {
            text_encoder: plan.text_encoder.clone(),
            transformer: plan.transformer.clone(),
            vae: plan.vae.clone(),
            tiny_vae: None,
        };
        let tokens = [PROMPT_TOKENS; 2];
        let image = ImageToEstimate {
            size: ImageSize::new(self.width_px, self.height_px).ok()?,
            steps: self.steps,
            tokens: if self.guided { &tokens } else { &tokens[..1] },
        };
        Some(throughput.seconds(&shapes, image))
    }
}

/// In words, such as `PixArt-α, 28 layers of 1152`.
pub fn in_words(plan: &ConversionPlan) -> String {
    let family = match plan.pipeline {
        PipelineClass::Alpha => "PixArt-α",
        PipelineClass::Sigma => "PixArt-Σ",
    };
    let (transformer, text_encoder) = (&plan.transformer, &plan.text_encoder);
    format!(
        "{family}, {} layers of {}{}; T5 of {} layers of {}, {} tokens; scheduler {}",
        transformer.num_layers,
        transformer.inner_dim(),
        if transformer.use_additional_conditions {
            ", micro-conditions"
        } else {
            ""
        },
        text_encoder.num_layers,
        text_encoder.d_model,
        plan.pipeline.max_tokens(),
        plan.scheduler.kind(),
    )
}
