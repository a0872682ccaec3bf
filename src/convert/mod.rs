//! A published diffusers directory → a model directory of OpenVINO IR, without Python or torch.
//!
//! [`convert`] is the whole of it: each component is opened (`source.rs`), drawn as a graph (`graph/`) whose constants
//! stream into its `.bin` in the chosen weights format (`weights.rs`, `ir/`), and read once by the runtime to check its
//! ports. All of it happens in a hidden sibling of the output (`staging.rs`) that takes its place when it is whole.

mod component;
mod error;
mod graph;
pub mod ir;
mod progress;
mod source;
mod staging;
mod upsample;
mod weights;

use std::fs;
use std::path::{Path, PathBuf};

pub use component::ComponentWeights;
pub use error::ConvertError;
pub use progress::Progress;
pub use source::WeightsSource;

use crate::engine::Runtime;
use crate::model::{
    Defaults, Manifest, ModelDirectory, ModelIndex, SchedulerConfig, SentencePieceModel,
    TransformerSpec, read_text,
};
use component::Conversion;
use staging::Staging;

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
    let source = Source::open(&options.source)?;
    let mut staging = Staging::begin(&options.output)?;
    source.copy_small_files(&mut staging)?;

    let mut conversion = Conversion {
        source: &options.source,
        staging: &mut staging,
        runtime,
        progress,
    };
    let text_encoder = conversion.text_encoder(options.weights.text_encoder)?;
    let transformer = conversion.transformer(options.weights.transformer)?;
    let vae_decoder = conversion.vae_decoder(options.weights.vae_decoder)?;
    check_together(
        &options.source,
        [text_encoder.spec.d_model, vae_decoder.spec.latent_channels],
        &transformer.spec,
    )?;

    let defaults = match source.defaults {
        Some(defaults) => defaults,
        None => Defaults::of(&transformer.spec, &vae_decoder.spec),
    };
    let manifest = Manifest {
        format: Manifest::FORMAT,
        name: options
            .name
            .clone()
            .unwrap_or_else(|| directory_name(&options.source)),
        pixart: env!("CARGO_PKG_VERSION").to_owned(),
        openvino: runtime.version().to_owned(),
        pipeline: source.index.class,
        defaults,
        text_encoder,
        transformer,
        vae_decoder,
        files: staging.files().clone(),
    };
    staging.publish(&manifest)?;
    Ok(ModelDirectory::open_unchecked(&options.output)?)
}

/// The parts of a diffusers directory that are small enough to be read whole.
struct Source {
    index: ModelIndex,
    defaults: Option<Defaults>,
    tokenizer: Vec<(&'static str, Vec<u8>)>,
    scheduler: String,
}

impl Source {
    fn open(directory: &Path) -> Result<Self, ConvertError> {
        let index = directory.join("model_index.json");
        let config_error = |path: &Path| {
            let path = path.to_owned();
            move |source: crate::model::ConfigError| ConvertError::config(path, &source)
        };
        let index =
            ModelIndex::from_json(&read_source_text(&index)?).map_err(config_error(&index))?;

        let own_page = directory.join("pixart.json");
        let defaults = if own_page.exists() {
            let text = read_source_text(&own_page)?;
            Some(Defaults::from_json(&text).map_err(config_error(&own_page))?)
        } else {
            None
        };

        let scheduler_path = directory.join(ModelDirectory::SCHEDULER);
        let scheduler = read_source_text(&scheduler_path)?;
        SchedulerConfig::from_json(&scheduler).map_err(|source| ConvertError::Config {
            path: scheduler_path,
            detail: source.to_string(),
        })?;

        let mut tokenizer = Vec::new();
        for name in [
            ModelDirectory::SENTENCEPIECE,
            ModelDirectory::TOKENIZER_JSON,
        ] {
            let path = directory.join(name);
            if path.exists() {
                let bytes = fs::read(&path).map_err(|source| ConvertError::Read {
                    path: path.clone(),
                    source,
                })?;
                if name == ModelDirectory::SENTENCEPIECE {
                    SentencePieceModel::parse(&bytes).map_err(|source| ConvertError::Config {
                        path,
                        detail: source.to_string(),
                    })?;
                }
                tokenizer.push((name, bytes));
            }
        }
        if tokenizer.is_empty() {
            return Err(ConvertError::MissingFile {
                path: directory.join(ModelDirectory::SENTENCEPIECE),
            });
        }
        Ok(Self {
            index,
            defaults,
            tokenizer,
            scheduler,
        })
    }

    fn copy_small_files(&self, staging: &mut Staging) -> Result<(), ConvertError> {
        for (name, bytes) in &self.tokenizer {
            staging.write(name, bytes)?;
        }
        staging.write(ModelDirectory::SCHEDULER, self.scheduler.as_bytes())
    }
}

/// Reads a small text of the source.
fn read_source_text(path: &Path) -> Result<String, ConvertError> {
    if path.exists() {
        Ok(read_text(path)?)
    } else {
        Err(ConvertError::MissingFile {
            path: path.to_owned(),
        })
    }
}

/// Holds that the three components belong to one pipeline: `[d_model, latent_channels]` against the transformer.
fn check_together(
    source: &Path,
    [d_model, latent_channels]: [usize; 2],
    transformer: &TransformerSpec,
) -> Result<(), ConvertError> {
    let path = || source.join("transformer/config.json");
    if transformer.caption_channels != d_model {
        return Err(ConvertError::Config {
            path: path(),
            detail: format!(
                "caption_channels is {}, and the text encoder's d_model is {d_model}: the components belong to different models",
                transformer.caption_channels
            ),
        });
    }
    let out = transformer.out_channels;
    if transformer.in_channels != latent_channels
        || (out != latent_channels && out != 2 * latent_channels)
    {
        return Err(ConvertError::Config {
            path: path(),
            detail: format!(
                "in_channels is {} and out_channels {out}, and the VAE has {latent_channels} latent channels: in_channels must equal them, out_channels be as many or twice as many",
                transformer.in_channels
            ),
        });
    }
    Ok(())
}

/// The last name in a path, for the manifest.
fn directory_name(path: &Path) -> String {
    let absolute = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    absolute.file_name().map_or_else(
        || "model".to_owned(),
        |name| name.to_string_lossy().into_owned(),
    )
}
