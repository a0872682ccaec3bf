//! One component's way: configuration and weights in, IR out, ports checked.

use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::ConvertError;
use super::checkpoint::read_source_text;
use super::graph;
use super::ports::{ExpectedPort, differences};
use super::progress::{Progress, Together, Unwatched, warn_of_unused};
use super::source::{Header, WeightsSource};
use super::staging::Staging;
use super::weights::Weights;
use crate::engine::Runtime;
use crate::ir::{BinSummary, BinWriter, Graph};
use crate::model::{
    ComponentEntry, ConfigError, ModelDirectory, TextEncoderSpec, TinyVaeSpec, TransformerSpec,
    UnusedTensors, VaeSpec, WeightsFormat, check_free_space, hex,
};
use crate::threads;

/// The converter's revision: changes whenever the same source and options would give other files.
pub const REVISION: u32 = 4;

/// How the weights of each component are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ComponentWeights {
    /// T5.
    pub text_encoder: WeightsFormat,
    /// The diffusion transformer.
    pub transformer: WeightsFormat,
    /// The VAE's decoder.
    pub vae_decoder: WeightsFormat,
}

impl ComponentWeights {
    /// The same format for all.
    pub fn all(format: WeightsFormat) -> Self {
        Self {
            text_encoder: format,
            transformer: format,
            vae_decoder: format,
        }
    }
}

/// What differs between components.
pub(super) struct Component<Spec> {
    /// Folder in the source.
    folder: &'static str,
    /// What its weights are called there.
    stem: &'static str,
    /// The IR in the output.
    xml: &'static str,
    /// How the names of tensors begin that published files carry along and no image needs.
    leftovers: fn(&Spec) -> Vec<&'static str>,
    parse: fn(&str) -> Result<Spec, ConfigError>,
    build: fn(&mut Graph, &Weights<'_>, &Spec) -> Result<(), ConvertError>,
    /// Inputs and output that the IR must have.
    ports: fn(&Spec) -> Vec<ExpectedPort>,
}

/// A component whose configuration and weights have been opened and not yet converted.
pub(super) struct Opened<Spec> {
    pub(super) spec: Spec,
    component: Component<Spec>,
    config: String,
    weights: WeightsSource,
    format: WeightsFormat,
    /// Length of the `.bin` that will be made.
    bin_bytes: u64,
    unused: Option<UnusedTensors>,
}

impl Component<TextEncoderSpec> {
    pub(super) fn text_encoder() -> Self {
        Self {
            folder: "text_encoder",
            stem: "model",
            xml: ModelDirectory::TEXT_ENCODER,
            // Full T5 checkpoints bring their decoder, and some the shared table a second time.
            leftovers: |_| vec!["decoder.", "lm_head.", "encoder.embed_tokens.weight"],
            parse: TextEncoderSpec::from_json,
            build: graph::text_encoder,
            ports: |_| {
                vec![
                    ("input_ids", "i64", 2),
                    ("attention_mask", "i64", 2),
                    ("last_hidden_state", "f32", 3),
                ]
            },
        }
    }
}

impl Component<TransformerSpec> {
    pub(super) fn transformer() -> Self {
        Self {
            folder: "transformer",
            stem: "diffusion_pytorch_model",
            xml: ModelDirectory::TRANSFORMER,
            leftovers: |spec| {
                // A table that every version computes, and the embeddings of no caption, which only training needs: files of
                // diffusers 0.22 have both.
                let mut names = vec!["pos_embed.pos_embed", "caption_projection.y_embedding"];
                if !spec.use_additional_conditions {
                    names.push("adaln_single.emb.resolution_embedder.");
                    names.push("adaln_single.emb.aspect_ratio_embedder.");
                }
                names
            },
            parse: TransformerSpec::from_json,
            build: graph::transformer,
            ports: |spec| {
                let mut ports = vec![
                    ("hidden_states", "f32", 4),
                    ("timestep", "i64", 1),
                    ("encoder_hidden_states", "f32", 3),
                    ("encoder_attention_mask", "f32", 2),
                    ("noise_pred", "f32", 4),
                ];
                if spec.use_additional_conditions {
                    ports.extend([("resolution", "f32", 2), ("aspect_ratio", "f32", 2)]);
                }
                ports
            },
        }
    }
}

impl Component<VaeSpec> {
    pub(super) fn vae_decoder() -> Self {
        Self {
            folder: "vae",
            stem: "diffusion_pytorch_model",
            xml: ModelDirectory::VAE_DECODER,
            leftovers: |spec| {
                let mut names = vec!["encoder.", "quant_conv."];
                if !spec.use_post_quant_conv {
                    names.push("post_quant_conv.");
                }
                if !spec.mid_block_add_attention {
                    names.push("decoder.mid_block.attentions.");
                }
                names
            },
            parse: VaeSpec::from_json,
            build: graph::vae_decoder,
            ports: |_| vec![("latents", "f32", 4), ("sample", "f32", 4)],
        }
    }
}

impl Component<TinyVaeSpec> {
    pub(super) fn tiny_vae_decoder() -> Self {
        Self {
            folder: "tiny_vae",
            stem: "diffusion_pytorch_model",
            xml: ModelDirectory::TINY_VAE_DECODER,
            leftovers: |_| vec!["encoder."],
            parse: TinyVaeSpec::from_json,
            build: graph::tiny_vae_decoder,
            ports: |_| vec![("latents", "f32", 4), ("sample", "f32", 4)],
        }
    }
}

impl<Spec> Component<Spec> {
    /// Its folder in the source at `directory`.
    pub(super) fn folder_in(&self, directory: &Path) -> PathBuf {
        directory.join(self.folder)
    }

    /// Reads the configuration in the source at `directory`: what it says, and its text.
    pub(super) fn read(&self, directory: &Path) -> Result<(Spec, String), ConvertError> {
        self.read_folder(&self.folder_in(directory))
    }

    pub(super) fn read_folder(&self, folder: &Path) -> Result<(Spec, String), ConvertError> {
        let path = folder.join("config.json");
        let config = read_source_text(&path)?;
        let spec = (self.parse)(&config).map_err(|source| ConvertError::config(path, &source))?;
        Ok((spec, config))
    }

    /// Reads the configuration and the headers of the weights in the source at `directory`.
    pub(super) fn open(
        self,
        directory: &Path,
        format: WeightsFormat,
    ) -> Result<Opened<Spec>, ConvertError> {
        let folder = self.folder_in(directory);
        self.open_folder(&folder, format)
    }

    /// Reads the configuration and the headers of the weights in a folder of its own, and holds that they fit together.
    pub(super) fn open_folder(
        self,
        folder: &Path,
        format: WeightsFormat,
    ) -> Result<Opened<Spec>, ConvertError> {
        let (spec, config) = self.read_folder(folder)?;
        let weights = WeightsSource::open(folder, self.stem)?;
        self.fit(spec, config, weights, format)
    }

    /// Reads the configuration in the source at `directory`, of whose weights the headers are known.
    pub(super) fn open_headers(
        self,
        directory: &Path,
        headers: &[Header],
        format: WeightsFormat,
    ) -> Result<Opened<Spec>, ConvertError> {
        let (spec, config) = self.read(directory)?;
        let weights = WeightsSource::of_headers(&self.folder_in(directory), self.stem, headers)?;
        self.fit(spec, config, weights, format)
    }

    /// Draws the graph without its values: so every tensor that is missing or has another shape is known before anything is written,
    /// and so is every tensor that has no place in it.
    pub(super) fn fit(
        self,
        spec: Spec,
        config: String,
        weights: WeightsSource,
        format: WeightsFormat,
    ) -> Result<Opened<Spec>, ConvertError> {
        let mut outline = Graph::new(self.folder, BinWriter::counting());
        let reader = Weights::new(&weights, format, &Unwatched);
        (self.build)(&mut outline, &reader, &spec)?;
        let (_, counted) = outline.finish();
        let unused = weights.unused(&(self.leftovers)(&spec))?;
        Ok(Opened {
            spec,
            component: self,
            config,
            weights,
            format,
            bin_bytes: counted.finish()?.bytes,
            unused,
        })
    }
}

/// A component's IR as it was written, but for the `.xml`.
pub(super) struct Made {
    pub(super) xml: String,
    pub(super) bin: BinSummary,
}

/// An opened component, whatever its specification.
pub(super) trait Part: Sync {
    /// What it is called, for progress.
    fn name(&self) -> &'static str;

    /// Length of the weights that will be read.
    fn bytes(&self) -> u64;

    /// Length of the `.bin`.
    fn bin_bytes(&self) -> u64;

    /// Tensors of the source that are left out, beyond those that are known to be of no use.
    fn unused(&self) -> Option<&UnusedTensors>;

    /// Takes it over from the earlier model in the output's place, if it would come out the same.
    fn take_over(&self, staging: &mut Staging) -> Result<bool, ConvertError>;

    /// Writes the `.bin` to `folder` and draws the graph over it.
    fn make(&self, folder: &Path, progress: &dyn Progress) -> Result<Made, ConvertError>;

    /// Notes what was made, and adds the `.xml`.
    fn record(&self, made: &Made, staging: &mut Staging) -> Result<(), ConvertError>;

    /// Loads the IR in `folder` once and holds that its ports are those that it should have.
    fn check_ports(&self, folder: &Path, runtime: &mut Runtime) -> Result<(), ConvertError>;
}

impl<Spec: Clone> Opened<Spec> {
    /// Its entry in the manifest.
    pub(super) fn entry(&self) -> ComponentEntry<Spec> {
        ComponentEntry {
            spec: self.spec.clone(),
            weights: self.format,
            fingerprint: self.fingerprint(),
            quantization: None,
            unused_tensors: self.unused.clone(),
        }
    }
}

impl<Spec> Opened<Spec> {
    /// Digest of everything that decides the component's files.
    fn fingerprint(&self) -> String {
        let mut digest = Sha256::new();
        digest.update(env!("CARGO_PKG_VERSION"));
        digest.update(REVISION.to_le_bytes());
        digest.update(self.format.name());
        digest.update(&self.config);
        digest.update(self.weights.fingerprint());
        hex(&digest.finalize())
    }

    /// `transformer.xml` → `transformer.bin`.
    fn bin_name(&self) -> String {
        self.component.xml.replace(".xml", ".bin")
    }
}

impl<Spec: Sync> Part for Opened<Spec> {
    fn name(&self) -> &'static str {
        self.component.folder
    }

    fn bytes(&self) -> u64 {
        self.weights.used_bytes()
    }

    fn bin_bytes(&self) -> u64 {
        self.bin_bytes
    }

    fn unused(&self) -> Option<&UnusedTensors> {
        self.unused.as_ref()
    }

    fn take_over(&self, staging: &mut Staging) -> Result<bool, ConvertError> {
        let names = [self.component.xml, &self.bin_name()];
        staging.take_over(&self.fingerprint(), &names)
    }

    fn make(&self, folder: &Path, progress: &dyn Progress) -> Result<Made, ConvertError> {
        let component = &self.component;
        let path = folder.join(self.bin_name());
        let in_file = |error: std::io::Error| ConvertError::from(error).in_file(&path);
        let writer = BinWriter::create(&path).map_err(in_file)?;
        let mut graph = Graph::new(component.folder, writer);
        let weights = Weights::new(&self.weights, self.format, progress);
        (component.build)(&mut graph, &weights, &self.spec)
            .map_err(|error| error.in_file(&path))?;
        let (xml, writer) = graph.finish();
        let bin = writer.finish().map_err(in_file)?;
        Ok(Made { xml, bin })
    }

    fn record(&self, made: &Made, staging: &mut Staging) -> Result<(), ConvertError> {
        staging.record(&self.bin_name(), &made.bin);
        staging.write(self.component.xml, made.xml.as_bytes())
    }

    fn check_ports(&self, folder: &Path, runtime: &mut Runtime) -> Result<(), ConvertError> {
        let xml = self.component.xml;
        let (inputs, outputs) = runtime.inspect(&folder.join(xml))?;
        let found: Vec<_> = inputs.into_iter().chain(outputs).collect();
        let differences = differences(&(self.component.ports)(&self.spec), &found);
        if differences.is_empty() {
            return Ok(());
        }
        Err(ConvertError::Check {
            file: xml.to_owned(),
            detail: differences.join(", "),
        })
    }
}

/// Makes every part that cannot be taken over, each on a thread of its own: the digest of a file takes longer than its
/// copy, and the digests of two files are taken at the same time.
pub(super) fn make_all(
    parts: &[&dyn Part],
    staging: &mut Staging,
    progress: &dyn Progress,
) -> Result<(), ConvertError> {
    let mut changed = Vec::new();
    for &part in parts {
        if progress.cancelled() {
            return Err(ConvertError::Cancelled);
        }
        warn_of_unused(progress, part.name(), part.unused());
        if part.take_over(staging)? {
            progress.unchanged(part.name());
        } else {
            progress.begin(part.name(), part.bytes());
            changed.push(part);
        }
    }
    let folder = staging.path("");
    check_free_space(&folder, changed.iter().map(|part| part.bin_bytes()).sum())?;
    let together = Together::new(progress);
    let outcomes = threads::map(&changed, changed.len(), |part| {
        together.watch(part.make(&folder, &together))
    });
    let made = all_or_first_failure(outcomes)?;
    for (part, made) in changed.iter().zip(&made) {
        part.record(made, staging)?;
    }
    Ok(())
}

/// A part that fails stops the others, which then were cancelled: the failure is the one to tell.
fn all_or_first_failure(
    outcomes: Vec<Result<Made, ConvertError>>,
) -> Result<Vec<Made>, ConvertError> {
    let (made, failures): (Vec<_>, Vec<_>) = outcomes.into_iter().partition(Result::is_ok);
    let mut failures: Vec<ConvertError> = failures.into_iter().filter_map(Result::err).collect();
    let told = failures
        .iter()
        .position(|failure| !matches!(failure, ConvertError::Cancelled))
        .unwrap_or(0);
    if failures.is_empty() {
        Ok(made.into_iter().flatten().collect())
    } else {
        Err(failures.swap_remove(told))
    }
}
