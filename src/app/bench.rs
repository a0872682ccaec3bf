//! What measuring needs of a model beside drawing with it: its shapes, and one of its networks alone.

use anyhow::Result;

use super::{App, Model, Parts};
use crate::bench::ModelShapes;
use crate::engine::{CompiledGraph, Runtime};

/// The inputs of all three networks; each has some of them.
const INPUTS: [&str; 9] = [
    "input_ids",
    "attention_mask",
    "hidden_states",
    "timestep",
    "encoder_hidden_states",
    "encoder_attention_mask",
    "resolution",
    "aspect_ratio",
    "latents",
];

/// One of a model's networks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Component {
    /// T5.
    TextEncoder,
    /// The diffusion transformer.
    Transformer,
    /// The VAE's decoder.
    VaeDecoder,
}

impl Model {
    /// The shapes of its networks.
    pub fn shapes(&self) -> ModelShapes {
        match self {
            Self::Own(directory) => {
                let manifest = directory.manifest();
                ModelShapes {
                    text_encoder: manifest.text_encoder.spec.clone(),
                    transformer: manifest.transformer.spec.clone(),
                    vae: manifest.vae_decoder.spec.clone(),
                }
            }
            Self::Foreign(foreign) => ModelShapes {
                text_encoder: foreign.text_encoder_spec.clone(),
                transformer: foreign.transformer_spec.clone(),
                vae: foreign.vae_spec.clone(),
            },
        }
    }
}

impl App {
    /// Compiles one network of a model as drawing would, and none of the others.
    ///
    /// # Errors
    /// When a file of the model makes no sense, or the network does not compile on the device.
    pub fn load_component(
        &self,
        runtime: &mut Runtime,
        model: &Model,
        component: Component,
    ) -> Result<CompiledGraph> {
        let parts = Parts::of(model)?;
        let xml = match component {
            Component::TextEncoder => &parts.text_encoder,
            Component::Transformer => &parts.transformer,
            Component::VaeDecoder => &parts.vae_decoder,
        };
        self.compile(runtime, xml, &INPUTS)
    }
}
