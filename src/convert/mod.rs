//! A published diffusers directory → a model directory of OpenVINO IR, without Python or torch.
//!
//! [`convert`] is the whole of it: the parts are opened and checked against each other (`checkpoint.rs`, `source.rs`), then
//! each component is drawn as a graph (`graph/`) whose constants
//! stream into its `.bin` in the chosen weights format (`weights.rs`, the room `ir`), and read once by the runtime to check its
//! ports. All of it happens in a hidden folder (`staging.rs`) that takes the output's place when it is whole.

mod checkpoint;
mod component;
mod error;
mod gradual;
mod graph;
mod missing;
mod occupied;
mod plan;
mod ports;
mod progress;
mod quantise;
mod source;
mod staging;
mod tensor_names;
mod upsample;
mod weights;

use std::path::{Path, PathBuf};

use crate::domain::Decoder;
use crate::engine::Runtime;
use crate::model::{
    ComponentEntry, Manifest, Measurement, ModelDirectory, Part, TextEncoderSpec, TinyVaeSpec,
    TransformerSpec, VaeSpec, WeightsFormat, read_text,
};
use crate::shown::one_line;
use checkpoint::{Checkpoint, Pages, open_tiny_vae};
use component::make_all;
pub use component::{ComponentWeights, REVISION};
pub use error::ConvertError;
pub use gradual::{Gradual, GradualOptions};
pub use plan::{ComponentPlan, ConversionPlan};
pub use progress::{Attention, Progress};
pub(crate) use quantise::{quantise_int4, quantise_int8};
pub use source::{Header, WeightsSource, parse_header};
pub(crate) use staging::Staging;

/// What to convert, where to, and how its weights are stored.
#[derive(Debug, Clone)]
pub struct ConvertOptions {
    /// The diffusers directory.
    pub source: PathBuf,
    /// The model directory to make.
    pub output: PathBuf,
    /// What the model will be called; the source directory's name unless given.
    pub name: Option<String>,
    /// How each component's weights are stored.
    pub weights: ComponentWeights,
    /// The folder of a tiny autoencoder (diffusers' `AutoencoderTiny`) for the same latents, where it is not the source's own.
    pub tiny_vae: Option<PathBuf>,
}

/// Converts a diffusers directory. Parts of an earlier conversion to the same place that would come out the same are
/// taken over.
///
/// # Errors
/// When the source is incomplete, damaged or of another kind, the output cannot be written, the written IR does not
/// pass its check, or the caller asked to stop. Nothing half-made is left in any case.
pub fn convert(
    options: &ConvertOptions,
    runtime: &mut Runtime,
    progress: &dyn Progress,
) -> Result<ModelDirectory, ConvertError> {
    let checkpoint = Checkpoint::open(
        &options.source,
        options.weights,
        options.tiny_vae.as_deref(),
    )?;
    let _attention = Attention::begin(progress);
    let mut staging = Staging::begin(&options.output, progress)?;
    checkpoint.pages.copy_small_files(&mut staging)?;
    make_all(&checkpoint.parts(), &mut staging, progress)?;
    for part in checkpoint.parts() {
        if progress.cancelled() {
            return Err(ConvertError::Cancelled);
        }
        part.check_ports(&staging.path(""), runtime)?;
    }

    let source = directory_name(&options.source);
    let entries = Entries {
        text_encoder: checkpoint.text_encoder.entry(),
        transformer: checkpoint.transformer.entry(),
        vae_decoder: checkpoint.vae_decoder.entry(),
        tiny_vae_decoder: match &checkpoint.tiny_vae_decoder {
            Some(tiny) => Some(tiny.entry()),
            None => staging.keep_tiny_vae(&checkpoint.pages.vae_decoder)?,
        },
    };
    let names = Names {
        name: options.name.clone().unwrap_or_else(|| source.clone()),
        source,
    };
    let manifest = entries.manifest(names, checkpoint.pages, &staging, runtime);
    staging.publish(&manifest)
}

/// What [`add_tiny_vae`] adds, and to what.
#[derive(Debug, Clone)]
pub struct TinyVaeOptions {
    /// The folder of the tiny autoencoder: diffusers' `AutoencoderTiny`.
    pub source: PathBuf,
    /// The model directory that gets it.
    pub model: PathBuf,
}

/// Whether `source` is the folder of a tiny autoencoder and no whole checkpoint.
pub fn is_tiny_vae(source: &Path) -> bool {
    let config = read_text(&source.join("config.json"));
    !source.join("model_index.json").exists()
        && config.is_ok_and(|config| TinyVaeSpec::is_declared(&config))
}

/// Gives a model a tiny autoencoder's decoder beside its own, in place of one that it may have. Its other files stay. Weights are f32
/// where those of the model's own VAE are, f16 otherwise.
///
/// # Errors
/// As [`convert`], and when there is no model.
pub fn add_tiny_vae(
    options: &TinyVaeOptions,
    runtime: &mut Runtime,
    progress: &dyn Progress,
) -> Result<ModelDirectory, ConvertError> {
    let _attention = Attention::begin(progress);
    // Under its lock no other conversion takes the model's place.
    let mut staging = Staging::begin(&options.model, progress)?;
    let model = ModelDirectory::open(&options.model)?;
    let own = &model.manifest().vae_decoder;
    let format = match own.weights {
        WeightsFormat::F32 => WeightsFormat::F32,
        WeightsFormat::F16 | WeightsFormat::Int8 | WeightsFormat::Int4 => WeightsFormat::F16,
    };
    let tiny = open_tiny_vae(&options.source, format, &own.spec)?;
    let replaced = [
        Part::TinyVaeDecoder.xml().to_owned(),
        Part::TinyVaeDecoder.bin(),
    ];
    for (name, entry) in &model.manifest().files {
        if !replaced.contains(name) {
            staging.keep(model.path(), name, entry)?;
        }
    }
    make_all(&[&tiny], &mut staging, progress)?;
    if progress.cancelled() {
        return Err(ConvertError::Cancelled);
    }
    component::Part::check_ports(&tiny, &staging.path(""), runtime)?;
    let manifest = Manifest {
        tiny_vae_decoder: Some(tiny.entry()),
        pixart: env!("CARGO_PKG_VERSION").to_owned(),
        openvino: runtime.version().to_owned(),
        files: staging.files().clone(),
        // What was measured with another tiny decoder is not true of this one.
        measured: measured_without_tiny(model.manifest()),
        ..model.manifest().clone()
    };
    staging.publish(&manifest)
}

fn measured_without_tiny(manifest: &Manifest) -> Vec<Measurement> {
    let measured = manifest.measured.iter();
    measured
        .filter(|found| found.decoder == Decoder::Full.name())
        .cloned()
        .collect()
}

/// What a model is called, and what it was made from.
struct Names {
    name: String,
    source: String,
}

/// The components of a manifest.
struct Entries {
    text_encoder: ComponentEntry<TextEncoderSpec>,
    transformer: ComponentEntry<TransformerSpec>,
    vae_decoder: ComponentEntry<VaeSpec>,
    tiny_vae_decoder: Option<ComponentEntry<TinyVaeSpec>>,
}

impl Entries {
    fn manifest(
        self,
        names: Names,
        pages: Pages,
        staging: &Staging,
        runtime: &Runtime,
    ) -> Manifest {
        Manifest {
            format: Manifest::FORMAT,
            name: one_line(&names.name).into_owned(),
            source: one_line(&names.source).into_owned(),
            pixart: env!("CARGO_PKG_VERSION").to_owned(),
            openvino: runtime.version().to_owned(),
            pipeline: pages.index.class,
            defaults: pages.defaults,
            text_encoder: self.text_encoder,
            transformer: self.transformer,
            vae_decoder: self.vae_decoder,
            tiny_vae_decoder: self.tiny_vae_decoder,
            calibration: None,
            measured: Vec::new(),
            files: staging.files().clone(),
        }
    }
}

/// The last name in a path, for the manifest; of a snapshot in the hub's cache, `OWNER/NAME@COMMIT`.
fn directory_name(path: &Path) -> String {
    let absolute = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    if let Some(source) = cached_source(&absolute) {
        return source;
    }
    absolute.file_name().map_or_else(
        || "model".to_owned(),
        |name| name.to_string_lossy().into_owned(),
    )
}

/// `models--OWNER--NAME/snapshots/COMMIT` → `OWNER/NAME@COMMIT`.
fn cached_source(path: &Path) -> Option<String> {
    let snapshots = path.parent()?;
    let repository = snapshots.parent()?.file_name()?.to_str()?;
    let name = repository.strip_prefix("models--")?.replacen("--", "/", 1);
    let commit = path.file_name()?.to_str()?;
    snapshots
        .ends_with("snapshots")
        .then(|| format!("{name}@{commit}"))
}
