//! What is kept of what the text encoder computes, as the settings want it.

use std::path::Path;

use anyhow::{Context as _, Result};

use crate::config::ModelSettings;
use crate::pipeline::{EmbeddingStore, ModelFacts, OpenError, TextKeeping};

/// The embeddings in `folder`; none where others may write to it: what lies there is not believed, and drawing goes on without.
fn open(folder: &Path, context: &[&str]) -> Result<Option<EmbeddingStore>> {
    match EmbeddingStore::open(folder, context) {
        Ok(store) => Ok(Some(store)),
        Err(OpenError::Others(how)) => {
            tracing::warn!(
                folder = %folder.display(),
                "text embeddings are not kept on disk, as others could put theirs there: {how}; have this user own the folder and \
                 take the right to write from all others (chmod go-w), or name another one in model.embedding_cache_directory"
            );
            Ok(None)
        }
        Err(OpenError::Folder(error)) => Err(error).with_context(|| {
            format!(
                "text embeddings cannot be kept in {}: give model.embedding_cache_directory a folder that can be written to, or leave it empty",
                folder.display()
            )
        }),
    }
}

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
            &facts.processor.as_ref().map_or_else(String::new, |it| {
                format!("{} {}", it.instruction_set, it.threads)
            }),
        ];
        open(folder, &context)?
    };
    Ok(TextKeeping {
        cache_bytes: settings.embedding_cache_bytes(),
        store,
        idle: settings.text_encoder_idle(),
    })
}
