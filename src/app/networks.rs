//! The networks as the settings want them: compiled side by side, in memory always or on demand.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, Result};

use super::{Parts, Rules, compile};
use crate::config::{OpenvinoSettings, Settings, TextEncoderResidency};
use crate::engine::{
    CompiledGraph, EngineError, Graph, InForce, OnDemandGraph, Runtime, ShapedGraph,
};
use crate::model::{HeldFiles, Part};
use crate::pipeline::Networks;
use crate::threads::beside;

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

/// Fewest image tokens for which networks of their own pay: below, a step takes a second at most.
const SHAPED_TOKENS: usize = 1024;

/// Compiles the networks of a model. Returns them with how the transformer computes, by the device's own word.
///
/// A text encoder on demand is compiled later. The others can then be given back too, to make room for it, and come again. Where
/// it stays, the others are compiled for the size that most pictures have.
///
/// # Errors
/// When one of those that are to be in memory now does not compile.
pub(super) fn load(
    settings: &Settings,
    runtime: &mut Runtime,
    parts: &Parts,
    rules: &Rules,
) -> Result<(Networks, InForce)> {
    let openvino = &settings.openvino;
    let on_demand = settings.model.text_encoder == TextEncoderResidency::OnDemand;
    let networks = Compiling {
        openvino,
        files: &parts.files,
    };
    let any = |runtime: &Runtime, xml, inputs| networks.again(runtime, xml, inputs, None);
    if on_demand {
        let transformer = any(runtime, &parts.transformer, TRANSFORMER)()?;
        let computes = transformer.in_force().clone();
        let vae_decoder = any(runtime, &parts.vae_decoder, VAE_DECODER)()?;
        // The tiny decoder stays: it would make no room.
        let tiny_vae_decoder = networks.tiny_vae_decoder(runtime, parts, None)?;
        let found = Networks {
            text_encoder: Box::new(coming(
                None,
                any(runtime, &parts.text_encoder, TEXT_ENCODER),
            )),
            transformer: Box::new(coming(
                Some(transformer),
                any(runtime, &parts.transformer, TRANSFORMER),
            )),
            vae_decoder: Box::new(coming(
                Some(vae_decoder),
                any(runtime, &parts.vae_decoder, VAE_DECODER),
            )),
            tiny_vae_decoder,
        };
        return Ok((found, computes));
    }
    let shape = shape_of_most_pictures(openvino, parts, rules);
    // The text encoder takes as long as the other two.
    let mut text_encoder = any(&runtime.another()?, &parts.text_encoder, TEXT_ENCODER);
    let (text_encoder, others) = beside(&mut text_encoder, || {
        let transformer = networks.transformer(runtime, &parts.transformer, shape)?;
        let vae_decoder = networks.vae_decoder(runtime, &parts.vae_decoder, shape)?;
        let tiny_vae_decoder = networks.tiny_vae_decoder(runtime, parts, shape)?;
        Ok::<_, EngineError>((transformer, vae_decoder, tiny_vae_decoder))
    });
    let text_encoder = text_encoder?;
    let ((transformer, computes), vae_decoder, tiny_vae_decoder) = others?;
    let found = Networks {
        text_encoder: Box::new(text_encoder),
        transformer,
        vae_decoder: vae_decoder.0,
        tiny_vae_decoder,
    };
    Ok((found, computes))
}

/// A network that comes and goes, there already or not.
fn coming(
    there: Option<CompiledGraph>,
    mut again: impl FnMut() -> Result<CompiledGraph, EngineError> + 'static,
) -> OnDemandGraph {
    let compile = move || -> Result<Box<dyn Graph>, EngineError> { Ok(Box::new(again()?)) };
    match there {
        Some(graph) => OnDemandGraph::there(Box::new(graph), compile),
        None => OnDemandGraph::new(compile),
    }
}

/// One network alone, as drawing would compile it, with the arithmetic in force.
///
/// # Errors
/// When it does not compile.
pub(super) fn alone(
    settings: &Settings,
    runtime: &Runtime,
    parts: &Parts,
    part: Part,
) -> Result<(Box<dyn Graph>, String)> {
    let networks = Compiling {
        openvino: &settings.openvino,
        files: &parts.files,
    };
    let shape = || -> Result<_> {
        let rules = Rules::read(parts)?;
        Ok(shape_of_most_pictures(&settings.openvino, parts, &rules))
    };
    let loaded = match part {
        Part::TextEncoder => networks.shaped(runtime, &parts.text_encoder, TEXT_ENCODER, None),
        Part::Transformer => networks.transformer(runtime, &parts.transformer, shape()?),
        Part::VaeDecoder => networks.vae_decoder(runtime, &parts.vae_decoder, shape()?),
        Part::TinyVaeDecoder => {
            let xml = parts.tiny_vae_decoder.as_ref();
            let xml = xml.context("this model has no tiny decoder")?;
            networks.vae_decoder(runtime, xml, shape()?)
        }
    };
    let (graph, computes) = loaded?;
    Ok((graph, computes.precision))
}

/// Networks to be watched while they draw. Each is in memory while it is needed: what calibration holds of a transformer or a VAE
/// comes beside the gigabytes of a text encoder otherwise.
pub(super) struct Watched {
    openvino: OpenvinoSettings,
    runtime: Runtime,
    files: Arc<HeldFiles>,
    text_encoder: PathBuf,
    transformer: PathBuf,
    vae_decoder: PathBuf,
    /// The transformer, compiled to know its arithmetic.
    compiled: CompiledGraph,
}

impl Watched {
    /// The networks of `parts`, of which the transformer is compiled.
    ///
    /// # Errors
    /// When it does not compile.
    pub(super) fn of(settings: &Settings, runtime: &mut Runtime, parts: &Parts) -> Result<Self> {
        let openvino = settings.openvino.clone();
        let compiled = compile(&openvino, runtime, &parts.transformer, TRANSFORMER, None)?;
        Ok(Self {
            openvino,
            runtime: runtime.clone(),
            files: Arc::clone(&parts.files),
            text_encoder: parts.text_encoder.clone(),
            transformer: parts.transformer.clone(),
            vae_decoder: parts.vae_decoder.clone(),
            compiled,
        })
    }

    /// How the transformer computes, by the device's own word.
    pub(super) fn computes(&self) -> InForce {
        self.compiled.in_force().clone()
    }

    /// Each network of the image behind what `watch` makes of it, whenever it is compiled; the VAE is `vae_decoder` where there is
    /// one.
    pub(super) fn behind(
        self,
        watch: impl Fn(Part, CompiledGraph) -> Box<dyn Graph> + Clone + 'static,
        vae_decoder: Option<Box<dyn Graph>>,
    ) -> Networks {
        let networks = Compiling {
            openvino: &self.openvino,
            files: &self.files,
        };
        let text_encoder = networks.again(&self.runtime, &self.text_encoder, TEXT_ENCODER, None);
        let watched = |part: Part, xml: &Path, inputs| {
            let mut compile = networks.again(&self.runtime, xml, inputs, None);
            let watch = watch.clone();
            move || Ok(watch(part, compile()?))
        };
        let transformer = watched(Part::Transformer, &self.transformer, TRANSFORMER);
        let there = watch(Part::Transformer, self.compiled);
        Networks {
            text_encoder: Box::new(coming(None, text_encoder)),
            transformer: Box::new(OnDemandGraph::there(there, transformer)),
            vae_decoder: vae_decoder.unwrap_or_else(|| {
                let compile = watched(Part::VaeDecoder, &self.vae_decoder, VAE_DECODER);
                Box::new(OnDemandGraph::new(compile))
            }),
            tiny_vae_decoder: None,
        }
    }
}

/// Shape `[batch, channels, h, w]` of the latents that most pictures will have, where a network of their own pays.
fn shape_of_most_pictures(
    openvino: &OpenvinoSettings,
    parts: &Parts,
    rules: &Rules,
) -> Option<[usize; 4]> {
    let facts = &parts.facts;
    let latents = |pixels: u32| pixels as usize / facts.vae_scale_factor;
    let (height, width) = (
        latents(parts.defaults.height_px),
        latents(parts.defaults.width_px),
    );
    let tokens = height * width / facts.patch_size.pow(2);
    let guided = rules.scheduler.kind().default_guidance().is_active();
    // A traced transformer has one shape already, or computes something else for another.
    let worth = openvino.device == "CPU" && parts.formats[1].is_some() && tokens >= SHAPED_TOKENS;
    worth.then_some([
        1 + usize::from(guided),
        facts.latent_channels,
        height,
        width,
    ])
}

/// Compiles networks from the very files that are held.
struct Compiling<'a> {
    openvino: &'a OpenvinoSettings,
    files: &'a Arc<HeldFiles>,
}

impl Compiling<'_> {
    /// The transformer, with how it computes.
    fn transformer(
        &self,
        runtime: &Runtime,
        xml: &Path,
        latents: Option<[usize; 4]>,
    ) -> Result<(Box<dyn Graph>, InForce), EngineError> {
        let fixed = latents.map(|shape| ("hidden_states", shape));
        self.shaped(runtime, xml, TRANSFORMER, fixed)
    }

    /// The VAE decoder, with how it computes. It decodes the latents of one picture at a time.
    fn vae_decoder(
        &self,
        runtime: &Runtime,
        xml: &Path,
        latents: Option<[usize; 4]>,
    ) -> Result<(Box<dyn Graph>, InForce), EngineError> {
        let one = |[_, channels, height, width]: [usize; 4]| [1, channels, height, width];
        let fixed = latents.map(|shape| ("latents", one(shape)));
        self.shaped(runtime, xml, VAE_DECODER, fixed)
    }

    /// The tiny decoder, where the model has one.
    fn tiny_vae_decoder(
        &self,
        runtime: &Runtime,
        parts: &Parts,
        latents: Option<[usize; 4]>,
    ) -> Result<Option<Box<dyn Graph>>, EngineError> {
        let xml = parts.tiny_vae_decoder.as_deref();
        xml.map(|xml| Ok(self.vae_decoder(runtime, xml, latents)?.0))
            .transpose()
    }

    /// A network for the `fixed` shape of an input beside the same for any, or for any alone; with how it computes.
    fn shaped(
        &self,
        runtime: &Runtime,
        xml: &Path,
        inputs: &'static [&'static str],
        fixed: Option<(&'static str, [usize; 4])>,
    ) -> Result<(Box<dyn Graph>, InForce), EngineError> {
        let mut compile = self.again(runtime, xml, inputs, fixed);
        let graph = compile()?;
        let computes = graph.in_force().clone();
        let Some((input, shape)) = fixed else {
            // What it keeps of large images can be given back by giving it back.
            return Ok((Box::new(coming(Some(graph), compile)), computes));
        };
        let any = self.again(runtime, xml, inputs, None);
        let graph = ShapedGraph::new(
            input,
            shape.to_vec(),
            coming(Some(graph), compile),
            coming(None, any),
        );
        Ok((Box::new(graph), computes))
    }

    /// Compiles the network at `xml` whenever it is called; with `fixed`, for that shape of that input alone.
    fn again(
        &self,
        runtime: &Runtime,
        xml: &Path,
        inputs: &'static [&'static str],
        fixed: Option<(&'static str, [usize; 4])>,
    ) -> impl FnMut() -> Result<CompiledGraph, EngineError> + use<> {
        let (openvino, mut runtime) = (self.openvino.clone(), runtime.clone());
        let (xml, files) = (xml.to_owned(), Arc::clone(self.files));
        move || {
            let placed = files.place(&xml).map_err(|error| EngineError::Graph {
                path: xml.clone(),
                verb: "read",
                detail: format!(
                    "another file has its name, and the former one cannot be linked to: {error}"
                ),
            })?;
            let fixed = fixed
                .as_ref()
                .map(|(input, shape)| (*input, shape.as_slice()));
            compile(&openvino, &mut runtime, placed.xml(), inputs, fixed)
        }
    }
}
