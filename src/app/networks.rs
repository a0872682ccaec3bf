//! The three networks as the settings want them: compiled side by side, in memory always or on demand.

use std::path::Path;
use std::sync::Arc;
use std::thread;

use anyhow::{Result, anyhow};

use super::{Parts, compile};
use crate::config::{OpenvinoSettings, Settings, TextEncoderResidency};
use crate::engine::{CompiledGraph, EngineError, Graph, OnDemandGraph, Runtime};
use crate::model::HeldFiles;
use crate::pipeline::Networks;

const TEXT_ENCODER: &[&str] = &["input_ids", "attention_mask"];
const TRANSFORMER: &[&str] = &[
    "hidden_states",
    "timestep",
    "encoder_hidden_states",
    "encoder_attention_mask",
    "resolution",
    "aspect_ratio",
];
const VAE_DECODER: &[&str] = &["latents"];

/// Compiles the networks of a model. Returns them with the arithmetic of the transformer, by the device's own word.
///
/// A text encoder on demand is compiled later. The others can then be given back too, to make room for it, and come again.
///
/// # Errors
/// When one of those that are to be in memory now does not compile.
pub(super) fn load(
    settings: &Settings,
    runtime: &mut Runtime,
    parts: &Parts,
) -> Result<(Networks, String)> {
    let openvino = &settings.openvino;
    let on_demand = settings.model.text_encoder == TextEncoderResidency::OnDemand;
    let (text_encoder, transformer, vae_decoder) = if on_demand {
        (
            None,
            compile(openvino, runtime, &parts.transformer, TRANSFORMER)?,
            compile(openvino, runtime, &parts.vae_decoder, VAE_DECODER)?,
        )
    } else {
        // The text encoder takes as long as the other two.
        let mut beside = runtime.another()?;
        thread::scope(|scope| {
            let text_encoder =
                scope.spawn(|| compile(openvino, &mut beside, &parts.text_encoder, TEXT_ENCODER));
            let transformer = compile(openvino, runtime, &parts.transformer, TRANSFORMER);
            let vae_decoder = compile(openvino, runtime, &parts.vae_decoder, VAE_DECODER);
            let text_encoder = text_encoder
                .join()
                .map_err(|_| anyhow!("a panic while the text encoder was compiled"))?;
            Ok::<_, anyhow::Error>((Some(text_encoder?), transformer?, vae_decoder?))
        })?
    };
    let precision = transformer.precision().to_owned();
    let again = |xml, inputs| compile_again(openvino, runtime, xml, &parts.files, inputs);
    let staying = |graph: CompiledGraph, xml, inputs| -> Box<dyn Graph> {
        if on_demand {
            Box::new(OnDemandGraph::there(Box::new(graph), again(xml, inputs)))
        } else {
            Box::new(graph)
        }
    };
    let networks = Networks {
        text_encoder: match text_encoder {
            Some(graph) => Box::new(graph),
            None => Box::new(OnDemandGraph::new(again(&parts.text_encoder, TEXT_ENCODER))),
        },
        transformer: staying(transformer, &parts.transformer, TRANSFORMER),
        vae_decoder: staying(vae_decoder, &parts.vae_decoder, VAE_DECODER),
    };
    Ok((networks, precision))
}

/// Compiles the network at `xml` whenever it is called, from the very file that `files` hold.
fn compile_again(
    openvino: &OpenvinoSettings,
    runtime: &Runtime,
    xml: &Path,
    files: &Arc<HeldFiles>,
    inputs: &'static [&'static str],
) -> impl FnMut() -> Result<Box<dyn Graph>, EngineError> + use<> {
    let (openvino, mut runtime) = (openvino.clone(), runtime.clone());
    let (xml, files) = (xml.to_owned(), Arc::clone(files));
    move || {
        let placed = files.place(&xml).map_err(|error| EngineError::Graph {
            path: xml.clone(),
            verb: "read",
            detail: format!(
                "another file has its name, and the former one cannot be linked to: {error}"
            ),
        })?;
        let graph = compile(&openvino, &mut runtime, placed.xml(), inputs)?;
        Ok(Box::new(graph))
    }
}
