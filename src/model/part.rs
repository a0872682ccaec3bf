//! The networks of a model, by name.

use super::ModelDirectory;

/// Which network of a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// T5.
    TextEncoder,
    /// The diffusion transformer.
    Transformer,
    /// The VAE's decoder.
    VaeDecoder,
}

impl Part {
    /// Its name in manifests, metrics and flags.
    pub fn name(self) -> &'static str {
        match self {
            Self::TextEncoder => "text_encoder",
            Self::Transformer => "transformer",
            Self::VaeDecoder => "vae_decoder",
        }
    }

    /// Its `.xml` in a model directory.
    pub fn xml(self) -> &'static str {
        match self {
            Self::TextEncoder => ModelDirectory::TEXT_ENCODER,
            Self::Transformer => ModelDirectory::TRANSFORMER,
            Self::VaeDecoder => ModelDirectory::VAE_DECODER,
        }
    }
}
