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
    /// The decoder of the tiny autoencoder, where a model has one.
    TinyVaeDecoder,
}

impl Part {
    /// All of them, in the order of a picture's way.
    pub const ALL: [Self; 4] = [
        Self::TextEncoder,
        Self::Transformer,
        Self::VaeDecoder,
        Self::TinyVaeDecoder,
    ];

    /// Whether a model is none without it.
    pub fn is_required(self) -> bool {
        self != Self::TinyVaeDecoder
    }

    /// Its name in manifests, metrics and flags.
    pub fn name(self) -> &'static str {
        match self {
            Self::TextEncoder => "text_encoder",
            Self::Transformer => "transformer",
            Self::VaeDecoder => "vae_decoder",
            Self::TinyVaeDecoder => "tiny_vae_decoder",
        }
    }

    /// Its `.xml` in a model directory.
    pub fn xml(self) -> &'static str {
        match self {
            Self::TextEncoder => ModelDirectory::TEXT_ENCODER,
            Self::Transformer => ModelDirectory::TRANSFORMER,
            Self::VaeDecoder => ModelDirectory::VAE_DECODER,
            Self::TinyVaeDecoder => ModelDirectory::TINY_VAE_DECODER,
        }
    }

    /// Its `.bin` there.
    pub fn bin(self) -> String {
        format!("{}.bin", self.name())
    }
}
