//! A diffusers directory as a whole: every part opened and checked against the others before anything is written.

use std::error::Error;
use std::io;
use std::path::Path;

use super::ConvertError;
use super::component::{Component, ComponentWeights, Opened, Part};
use super::missing::check_link;
use super::source::{Header, WeightsSource};
use super::staging::Staging;
use crate::model::tokenizer_json::Vocabulary;
use crate::model::{
    AddedTokens, BaseVocabulary, ConfigError, Defaults, ModelDirectory, ModelIndex,
    SchedulerConfig, SentencePieceModel, TextEncoderSpec, TinyVaeSpec, TransformerSpec, VaeSpec,
    WeightsFormat, read_bytes, read_text,
};

/// The small files of a diffusers directory, which fit together.
pub(super) struct Pages {
    pub(super) index: ModelIndex,
    pub(super) defaults: Defaults,
    pub(super) text_encoder: TextEncoderSpec,
    pub(super) transformer: TransformerSpec,
    pub(super) vae_decoder: VaeSpec,
    tokenizer: Vec<(&'static str, Vec<u8>)>,
    pub(super) scheduler_config: SchedulerConfig,
    /// Its text, which is copied.
    scheduler: String,
}

/// An opened diffusers directory.
pub(super) struct Checkpoint {
    pub(super) pages: Pages,
    pub(super) text_encoder: Opened<TextEncoderSpec>,
    pub(super) transformer: Opened<TransformerSpec>,
    pub(super) vae_decoder: Opened<VaeSpec>,
    pub(super) tiny_vae_decoder: Option<Opened<TinyVaeSpec>>,
}

impl Checkpoint {
    /// Opens the directory: small files are read whole, of the weights the headers. The tiny autoencoder is the one in the
    /// folder `tiny_vae`, or the directory's own where it has one.
    pub(super) fn open(
        directory: &Path,
        weights: ComponentWeights,
        tiny_vae: Option<&Path>,
    ) -> Result<Self, ConvertError> {
        let pages = Pages::open(directory)?;
        let own = Component::tiny_vae_decoder().folder_in(directory);
        let tiny_vae = tiny_vae.or(own.is_dir().then_some(own.as_path()));
        let tiny_vae_decoder = tiny_vae
            .map(|folder| open_tiny_vae(folder, weights.vae_decoder, &pages.vae_decoder))
            .transpose()?;
        Ok(Self {
            pages,
            text_encoder: Component::text_encoder().open(directory, weights.text_encoder)?,
            transformer: Component::transformer().open(directory, weights.transformer)?,
            vae_decoder: Component::vae_decoder().open(directory, weights.vae_decoder)?,
            tiny_vae_decoder,
        })
    }

    /// Of the directory the small files alone, and the headers of the weights from elsewhere, by component.
    pub(super) fn of_headers(
        directory: &Path,
        headers: &dyn Fn(&str) -> Vec<Header>,
        weights: ComponentWeights,
    ) -> Result<Self, ConvertError> {
        let (text_encoder, transformer, vae) = (
            Component::text_encoder(),
            Component::transformer(),
            Component::vae_decoder(),
        );
        Ok(Self {
            pages: Pages::open(directory)?,
            text_encoder: text_encoder.open_headers(
                directory,
                &headers("text_encoder"),
                weights.text_encoder,
            )?,
            transformer: transformer.open_headers(
                directory,
                &headers("transformer"),
                weights.transformer,
            )?,
            vae_decoder: vae.open_headers(directory, &headers("vae"), weights.vae_decoder)?,
            tiny_vae_decoder: None,
        })
    }

    /// What is converted.
    pub(super) fn parts(&self) -> Vec<&dyn Part> {
        let tiny = self.tiny_vae_decoder.as_ref();
        let mut parts: Vec<&dyn Part> =
            vec![&self.text_encoder, &self.transformer, &self.vae_decoder];
        parts.extend(tiny.map(|tiny| tiny as &dyn Part));
        parts
    }
}

/// Opens the folder of a tiny autoencoder and holds that it decodes the latents of the VAE `beside`.
pub(super) fn open_tiny_vae(
    folder: &Path,
    format: WeightsFormat,
    beside: &VaeSpec,
) -> Result<Opened<TinyVaeSpec>, ConvertError> {
    let component = Component::tiny_vae_decoder();
    let (spec, _) = component.read_folder(folder)?;
    spec.check_beside(beside)
        .map_err(config_error(&folder.join("config.json")))?;
    component.open_folder(folder, format)
}

/// The tiny autoencoder in a folder of its own, of whose weights the headers are known.
pub(super) fn open_tiny_vae_of_headers(
    folder: &Path,
    headers: &[Header],
) -> Result<TinyVaeSpec, ConvertError> {
    let component = Component::tiny_vae_decoder();
    let (spec, config) = component.read_folder(folder)?;
    let weights = WeightsSource::of_headers(folder, "diffusion_pytorch_model", headers)?;
    component
        .fit(spec, config, weights, WeightsFormat::F16)
        .map(|opened| opened.spec)
}

impl Pages {
    /// Reads them, whether the weights are there or not.
    pub(super) fn open(directory: &Path) -> Result<Self, ConvertError> {
        let index = directory.join("model_index.json");
        let index =
            ModelIndex::from_json(&read_source_text(&index)?).map_err(config_error(&index))?;

        let scheduler_path = directory.join(ModelDirectory::SCHEDULER);
        let scheduler = read_source_text(&scheduler_path)?;
        let scheduler_config =
            SchedulerConfig::from_json(&scheduler).map_err(|source| ConvertError::Config {
                path: scheduler_path,
                detail: source.to_string(),
            })?;

        let (text_encoder, _) = Component::text_encoder().read(directory)?;
        let (transformer, _) = Component::transformer().read(directory)?;
        let (vae_decoder, _) = Component::vae_decoder().read(directory)?;
        check_together(
            directory,
            [text_encoder.d_model, vae_decoder.latent_channels],
            &transformer,
        )?;

        let own_page = directory.join("pixart.json");
        let defaults = if own_page.exists() {
            Defaults::from_json(&read_source_text(&own_page)?).map_err(config_error(&own_page))?
        } else {
            Defaults::of(index.class, &transformer, &vae_decoder)
        };
        Ok(Self {
            index,
            defaults,
            tokenizer: tokenizer_files(directory, text_encoder.vocab_size)?,
            scheduler_config,
            scheduler,
            text_encoder,
            transformer,
            vae_decoder,
        })
    }

    /// Copies what is not converted.
    pub(super) fn copy_small_files(&self, staging: &mut Staging) -> Result<(), ConvertError> {
        for (name, bytes) in &self.tokenizer {
            staging.write(name, bytes)?;
        }
        staging.write(ModelDirectory::SCHEDULER, self.scheduler.as_bytes())
    }
}

fn config_error(path: &Path) -> impl FnOnce(ConfigError) -> ConvertError {
    let path = path.to_owned();
    move |source| ConvertError::config(path, &source)
}

/// Reads a small text of the source.
pub(super) fn read_source_text(path: &Path) -> Result<String, ConvertError> {
    check_link(path)?;
    if path.exists() {
        Ok(read_text(path)?)
    } else {
        Err(ConvertError::MissingFile {
            path: path.to_owned(),
        })
    }
}

/// The tokenizer's files, one or both, and what they add to their vocabulary. Each is checked as far as whoever draws with it will:
/// `tokenizer.json` is preferred there, and a bad one must not hide a good `spiece.model`. All pieces must have a row in the text
/// encoder's table.
fn tokenizer_files(
    directory: &Path,
    vocab_size: usize,
) -> Result<Vec<(&'static str, Vec<u8>)>, ConvertError> {
    let mut files = Vec::new();
    let mut preferred = None;
    for name in [
        ModelDirectory::SENTENCEPIECE,
        ModelDirectory::TOKENIZER_JSON,
    ] {
        let path = directory.join(name);
        check_link(&path)?;
        if !path.exists() {
            continue;
        }
        let bytes = read_bytes(&path, SentencePieceModel::MAX_BYTES)?;
        let refused = |detail| ConvertError::Config { path, detail };
        let read = match name {
            ModelDirectory::SENTENCEPIECE => SentencePieceModel::parse(&bytes)
                .map(|model| {
                    let base = BaseVocabulary::of_sentencepiece(&model);
                    (model.pieces().len(), base)
                })
                .map_err(|source| in_words(&source)),
            _ => Vocabulary::from_tokenizer_json(&bytes)
                .map(|vocabulary| {
                    let base = BaseVocabulary::of_tokenizer_json(&vocabulary);
                    (vocabulary.pieces.len(), base)
                })
                .map_err(|source| in_words(&source)),
        };
        match read {
            Ok((pieces, base)) if pieces <= vocab_size => {
                files.push((name, bytes));
                preferred = Some((name, base));
            }
            Ok((pieces, _)) => {
                return Err(refused(format!(
                    "it has {pieces} pieces, and the text encoder's vocab_size is {vocab_size}: the components belong to different models"
                )));
            }
            Err(detail) => return Err(refused(detail)),
        }
    }
    let Some((name, base)) = preferred else {
        return Err(ConvertError::MissingFile {
            path: directory.join(ModelDirectory::SENTENCEPIECE),
        });
    };
    let json = files
        .last()
        .filter(|_| name == ModelDirectory::TOKENIZER_JSON);
    let json = json.map(|(_, bytes)| bytes.as_slice());
    let added = AddedTokens::of_checkpoint(directory, &base, json, vocab_size)?;
    if !added.is_empty() {
        let text = added.to_json().map_err(io::Error::from)?;
        files.push((ModelDirectory::ADDED_TOKENS, text.into_bytes()));
    }
    Ok(files)
}

/// An error with its cause: the parser's own words say where.
fn in_words(error: &dyn Error) -> String {
    match error.source() {
        Some(cause) => format!("{error} ({cause})"),
        None => error.to_string(),
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
                "in_channels is {} and out_channels {out}, and the VAE's latent_channels is {latent_channels}: in_channels must equal it, and out_channels it or twice it",
                transformer.in_channels
            ),
        });
    }
    Ok(())
}
