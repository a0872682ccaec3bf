//! The text encoder as the settings want it: in memory always, or on demand; and what is kept of what it computes.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, Result};

use super::compile;
use crate::config::{ModelSettings, Settings, TextEncoderResidency};
use crate::engine::{EngineError, Graph, OnDemandGraph, Runtime};
use crate::model::HeldFiles;
use crate::pipeline::{EmbeddingStore, ModelFacts, TextKeeping};

const INPUTS: [&str; 2] = ["input_ids", "attention_mask"];

/// The text encoder at `xml`. One on demand is compiled later, from the very file that `files` hold.
///
/// # Errors
/// When it is to be in memory now and does not compile.
pub(super) fn encoder(
    settings: &Settings,
    runtime: &mut Runtime,
    xml: &Path,
    files: &Arc<HeldFiles>,
) -> Result<Box<dyn Graph>, EngineError> {
    match settings.model.text_encoder {
        TextEncoderResidency::Always => {
            let graph = compile(&settings.openvino, runtime, xml, &INPUTS)?;
            Ok(Box::new(graph))
        }
        TextEncoderResidency::OnDemand => {
            let mut runtime = runtime.clone();
            let openvino = settings.openvino.clone();
            let (xml, files) = (xml.to_owned(), Arc::clone(files));
            Ok(Box::new(OnDemandGraph::new(move || {
                let placed = files.place(&xml).map_err(|error| EngineError::Graph {
                    path: xml.clone(),
                    verb: "read",
                    detail: format!(
                        "another file has its name, and the former one cannot be linked to: {error}"
                    ),
                })?;
                let graph = compile(&openvino, &mut runtime, placed.xml(), &INPUTS)?;
                Ok(Box::new(graph))
            })))
        }
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
