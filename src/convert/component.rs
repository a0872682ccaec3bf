//! One component's way: configuration and weights in, IR out, ports checked.

use std::path::Path;

use sha2::{Digest, Sha256};

use super::ConvertError;
use super::checkpoint::read_source_text;
use super::graph;
use super::ir::{BinWriter, Graph};
use super::progress::Progress;
use super::source::WeightsSource;
use super::staging::Staging;
use super::weights::Weights;
use crate::engine::Runtime;
use crate::model::{
    ComponentEntry, ConfigError, ModelDirectory, TextEncoderSpec, TransformerSpec, VaeSpec,
    WeightsFormat, hex,
};

/// Changes whenever the same source and options would give other files.
const REVISION: u32 = 2;

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
    ports: fn(&Spec) -> Vec<&'static str>,
}

/// A component whose configuration and weights have been opened and not yet converted.
pub(super) struct Opened<Spec> {
    pub(super) spec: Spec,
    component: Component<Spec>,
    config: String,
    weights: WeightsSource,
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
            ports: |_| vec!["input_ids", "attention_mask", "last_hidden_state"],
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
                    "hidden_states",
                    "timestep",
                    "encoder_hidden_states",
                    "encoder_attention_mask",
                    "noise_pred",
                ];
                if spec.use_additional_conditions {
                    ports.extend(["resolution", "aspect_ratio"]);
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
            ports: |_| vec!["latents", "sample"],
        }
    }
}

impl<Spec> Component<Spec> {
    /// Reads the configuration and the headers of the weights below `directory`.
    pub(super) fn open(self, directory: &Path) -> Result<Opened<Spec>, ConvertError> {
        let folder = directory.join(self.folder);
        let path = folder.join("config.json");
        let config = read_source_text(&path)?;
        let spec = (self.parse)(&config).map_err(|source| ConvertError::config(path, &source))?;
        let weights = WeightsSource::open(&folder, self.stem)?;
        Ok(Opened {
            spec,
            component: self,
            config,
            weights,
        })
    }
}

/// A conversion under way.
pub(super) struct Conversion<'a> {
    pub(super) staging: &'a mut Staging,
    pub(super) runtime: &'a mut Runtime,
    pub(super) progress: &'a dyn Progress,
}

impl Conversion<'_> {
    /// Makes a component's IR, or takes it over from the earlier model.
    pub(super) fn run<Spec: Clone>(
        &mut self,
        opened: &Opened<Spec>,
        format: WeightsFormat,
    ) -> Result<ComponentEntry<Spec>, ConvertError> {
        let Opened {
            spec,
            component,
            config,
            weights: source,
        } = opened;
        let fingerprint = fingerprint(config, format, source);
        let bin = bin_name(component.xml);
        if self
            .staging
            .take_over(&fingerprint, &[component.xml, &bin])?
        {
            self.progress.unchanged(component.folder);
        } else {
            self.progress
                .begin(component.folder, source.total_bytes(component.ignored));
            self.write(
                component,
                &Weights::new(source, format, self.progress),
                spec,
            )?;
            source.check_all_used(component.ignored)?;
        }
        self.check_ports(component, spec)?;
        Ok(ComponentEntry {
            spec: spec.clone(),
            weights: format,
            fingerprint,
        })
    }

    fn write<Spec>(
        &mut self,
        component: &Component<Spec>,
        weights: &Weights<'_>,
        spec: &Spec,
    ) -> Result<(), ConvertError> {
        let bin = bin_name(component.xml);
        let path = self.staging.path(&bin);
        let in_file = |error: std::io::Error| ConvertError::from(error).in_file(&path);
        let writer = BinWriter::create(&path).map_err(in_file)?;
        let mut graph = Graph::new(component.folder, writer);
        (component.build)(&mut graph, weights, spec).map_err(|error| error.in_file(&path))?;
        let (xml, writer) = graph.finish();
        let summary = writer.finish().map_err(in_file)?;
        self.staging.record(&bin, &summary);
        self.staging.write(component.xml, xml.as_bytes())
    }

    fn check_ports<Spec>(
        &mut self,
        component: &Component<Spec>,
        spec: &Spec,
    ) -> Result<(), ConvertError> {
        let failed = |detail: String| ConvertError::Check {
            file: component.xml.to_owned(),
            detail,
        };
        let (inputs, outputs) = self.runtime.inspect(&self.staging.path(component.xml))?;
        let mut found: Vec<&str> = inputs
            .iter()
            .chain(&outputs)
            .map(|(name, _)| name.as_str())
            .collect();
        let mut expected = (component.ports)(spec);
        found.sort_unstable();
        expected.sort_unstable();
        if found == expected {
            Ok(())
        } else {
            Err(failed(format!(
                "its ports are {found:?} and should be {expected:?}"
            )))
        }
    }
}

/// `transformer.xml` → `transformer.bin`.
fn bin_name(xml: &str) -> String {
    xml.replace(".xml", ".bin")
}

/// Digest of everything that decides a component's files.
fn fingerprint(config: &str, format: WeightsFormat, source: &WeightsSource) -> String {
    let mut digest = Sha256::new();
    digest.update(env!("CARGO_PKG_VERSION"));
    digest.update(REVISION.to_le_bytes());
    digest.update(format.name());
    digest.update(config);
    digest.update(source.fingerprint());
    hex(&digest.finalize())
}
