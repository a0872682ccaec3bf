//! One component's way: configuration and weights in, IR out, ports checked.

use std::panic::resume_unwind;
use std::path::{Path, PathBuf};
use std::thread;

use sha2::{Digest, Sha256};

use super::ConvertError;
use super::checkpoint::read_source_text;
use super::graph;
use super::ports::{ExpectedPort, differences};
use super::progress::{Progress, Together};
use super::source::WeightsSource;
use super::staging::Staging;
use super::weights::Weights;
use crate::engine::Runtime;
use crate::ir::{BinSummary, BinWriter, Graph};
use crate::model::{
    ComponentEntry, ConfigError, ModelDirectory, TextEncoderSpec, TinyVaeSpec, TransformerSpec,
    VaeSpec, WeightsFormat, check_free_space, hex,
};

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
    /// Tensors that belong to halves which are not drawn.
    ignored: &'static [&'static str],
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
}

impl Component<TextEncoderSpec> {
    pub(super) fn text_encoder() -> Self {
        Self {
            folder: "text_encoder",
            stem: "model",
            xml: ModelDirectory::TEXT_ENCODER,
            // Full T5 checkpoints bring their decoder, and some the shared table a second time.
            ignored: &["decoder.", "lm_head.", "encoder.embed_tokens.weight"],
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
            // A table that old files carry and every version computes.
            ignored: &["pos_embed.pos_embed"],
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
            ignored: &["encoder.", "quant_conv."],
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
            ignored: &["encoder."],
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

    fn read_folder(&self, folder: &Path) -> Result<(Spec, String), ConvertError> {
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

    /// Reads the configuration and the headers of the weights in a folder of its own.
    pub(super) fn open_folder(
        self,
        folder: &Path,
        format: WeightsFormat,
    ) -> Result<Opened<Spec>, ConvertError> {
        let (spec, config) = self.read_folder(folder)?;
        let weights = WeightsSource::open(folder, self.stem)?;
        Ok(Opened {
            spec,
            component: self,
            config,
            weights,
            format,
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

    /// Length of the `.bin`, or a little less.
    fn bin_bytes(&self) -> u64;

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
        self.weights.total_bytes(self.component.ignored)
    }

    fn bin_bytes(&self) -> u64 {
        self.weights
            .stored_bytes(self.format, self.component.ignored)
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
        self.weights.check_all_used(component.ignored)?;
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
    let outcomes: Vec<_> = thread::scope(|scope| {
        let makers: Vec<_> = changed
            .iter()
            .map(|part| scope.spawn(|| together.watch(part.make(&folder, &together))))
            .collect();
        makers
            .into_iter()
            .map(|maker| maker.join().unwrap_or_else(|panic| resume_unwind(panic)))
            .collect()
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
