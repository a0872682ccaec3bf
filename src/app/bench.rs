//! What measuring needs of a model beside drawing with it: its shapes, and one of its networks alone.

use anyhow::Result;

use super::{App, Model, Parts, networks};
use crate::engine::{Graph, Runtime};
use crate::model::{ForeignModel, Manifest, ModelShapes, Part};

impl Model {
    /// The shapes of its networks.
    pub fn shapes(&self) -> ModelShapes {
        match self {
            Self::Own(directory) => shapes_of(directory.manifest()),
            Self::Foreign(foreign) => shapes_of_foreign(foreign),
        }
    }
}

/// The shapes of a converted model.
pub(super) fn shapes_of(manifest: &Manifest) -> ModelShapes {
    ModelShapes {
        text_encoder: manifest.text_encoder.spec.clone(),
        transformer: manifest.transformer.spec.clone(),
        vae: manifest.vae_decoder.spec.clone(),
        tiny_vae: manifest
            .tiny_vae_decoder
            .as_ref()
            .map(|tiny| tiny.spec.clone()),
    }
}

/// The shapes of a model that was made elsewhere.
pub(super) fn shapes_of_foreign(foreign: &ForeignModel) -> ModelShapes {
    ModelShapes {
        text_encoder: foreign.text_encoder_spec.clone(),
        transformer: foreign.transformer_spec.clone(),
        vae: foreign.vae_spec.clone(),
        tiny_vae: None,
    }
}

impl App {
    /// Compiles one network of a model as drawing would, and none of the others. Returns it with the arithmetic in force.
    ///
    /// # Errors
    /// When a file of the model makes no sense, or the network does not compile on the device.
    pub fn load_component(
        &self,
        runtime: &Runtime,
        model: &Model,
        part: Part,
    ) -> Result<(Box<dyn Graph>, String)> {
        networks::alone(&self.settings, runtime, &Parts::of(model)?, part)
    }
}
