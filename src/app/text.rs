//! The text encoder as the settings want it: in memory always, or on demand; and what is kept of what it computes.

use std::path::Path;
use std::sync::Arc;

use super::compile;
use crate::config::{ModelSettings, Settings, TextEncoderResidency};
use crate::engine::{EngineError, Graph, OnDemandGraph, Runtime};
use crate::model::HeldFiles;
use crate::pipeline::TextKeeping;

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
pub(super) fn keeping(settings: &ModelSettings) -> TextKeeping {
    TextKeeping {
        cache_bytes: settings.embedding_cache_bytes(),
        idle: settings.text_encoder_idle(),
    }
}
