//! What is kept of what the text encoder computes, as the settings want it.

use anyhow::{Context as _, Result};

use crate::config::ModelSettings;
use crate::pipeline::{EmbeddingStore, ModelFacts, TextKeeping};

/// What the settings keep of text between pictures.
///
/// # Errors
/// When the folder for embeddings cannot be written to.
pub(super) fn keeping(settings: &ModelSettings, facts: &ModelFacts) -> Result<TextKeeping> {
    let folder = &settings.embedding_cache_directory;
    let store = if folder.as_os_str().is_empty() {
        None
    } else {
        // Everything beside the ids that decides an embedding's numbers.
        let context = [
            facts.digest.as_str(),
            &facts.device,
            &facts.precision,
            &facts.openvino_version,
        ];
        let store = EmbeddingStore::open(folder, &context).with_context(|| {
            format!(
                "text embeddings cannot be kept in {}: give model.embedding_cache_directory a folder that can be written to, or leave it empty",
                folder.display()
            )
        })?;
        Some(store)
    };
    Ok(TextKeeping {
        cache_bytes: settings.embedding_cache_bytes(),
        store,
        idle: settings.text_encoder_idle(),
    })
}
