//! Sketchbook, the small trained checkpoint that is compiled into the binary (feature `embedded-model`).
//!
//! It is kept as a diffusers directory, exactly as published ones look: the first use converts it like any other.

use std::fs;
use std::io;
use std::path::Path;

use sha2::{Digest, Sha256};

use super::digest::hex;

/// What the embedded model is called.
pub const EMBEDDED_NAME: &str = "sketchbook";

#[cfg(feature = "embedded-model")]
macro_rules! sketchbook {
    ($($name:literal),+ $(,)?) => {
        &[$(($name, include_bytes!(concat!("../../models/sketchbook/", $name)))),+]
    };
}

/// Its files, by their path in the diffusers directory.
#[cfg(feature = "embedded-model")]
static FILES: &[(&str, &[u8])] = sketchbook![
    "model_index.json",
    "pixart.json",
    "scheduler/scheduler_config.json",
    "text_encoder/config.json",
    "text_encoder/model.safetensors",
    "tiny_vae/config.json",
    "tiny_vae/diffusion_pytorch_model.safetensors",
    "tokenizer/spiece.model",
    "transformer/config.json",
    "transformer/diffusion_pytorch_model.safetensors",
    "vae/config.json",
    "vae/diffusion_pytorch_model.safetensors",
];
/// Built without it.
#[cfg(not(feature = "embedded-model"))]
static FILES: &[(&str, &[u8])] = &[];

/// Whether the binary carries the model.
pub fn has_embedded_model() -> bool {
    !FILES.is_empty()
}

/// An embedded file by its path in the diffusers directory; none where the binary was built without the model.
pub(crate) fn embedded_file(name: &str) -> Option<&'static [u8]> {
    let (_, bytes) = FILES.iter().find(|(there, _)| *there == name)?;
    Some(bytes)
}

/// Digest of the embedded files.
pub fn embedded_digest() -> String {
    let mut digest = Sha256::new();
    for (name, bytes) in FILES {
        digest.update(name);
        digest.update(bytes.len().to_le_bytes());
        digest.update(bytes);
    }
    hex(&digest.finalize())
}

/// Writes the embedded diffusers directory to `folder`.
///
/// # Errors
/// When the folder cannot be written.
pub fn unpack_embedded_model(folder: &Path) -> io::Result<()> {
    for (name, bytes) in FILES {
        let path = folder.join(name);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        fs::write(&path, bytes)?;
    }
    Ok(())
}
