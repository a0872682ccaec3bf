//! A model whose networks are written anew to be watched while they draw.
//!
//! The text encoder of a published model takes as much memory as everything else together. So it reads the prompts of some images
//! at a time and leaves memory before the first of them is drawn; the networks of the image make room for it meanwhile.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use tempfile::TempDir;

use super::networks::Watched;
use super::{App, Model, Parts, Rules};
use crate::convert::ConvertError;
use crate::engine::{CompiledGraph, Graph, Runtime};
use crate::model::{ModelDirectory, Part, check_free_space};
use crate::pipeline::{Pipeline, Planner, TextKeeping};
use crate::quantize::{BlankDecoder, QuantizeError, READ_TOGETHER, Work};

/// A model whose networks are written anew to be watched.
pub(super) struct Scene {
    pub(super) planner: Arc<Planner>,
    networks: Watched,
    /// Bytes of a prompt's text embeddings at most.
    embedding_bytes: usize,
    /// Where those networks lie, which are mapped into memory.
    folder: TempDir,
}

impl App {
    /// The model with the networks of `work` that are watched as `write` writes them.
    pub(super) fn scene(
        &self,
        runtime: &mut Runtime,
        model: &ModelDirectory,
        work: &[Work],
        write: impl Fn(&Work, &Path) -> Result<(), QuantizeError>,
    ) -> Result<Scene> {
        let folder = tempfile::tempdir().context(
            "calibration needs a folder for the networks that it watches: name one in TMPDIR",
        )?;
        let mut parts = Parts::of(&Model::Own(Box::new(model.clone())))?;
        let bytes = watched(work).map(|work| work.component.bytes()).sum();
        check_free_space(folder.path(), bytes).map_err(ConvertError::from)?;
        for work in watched(work) {
            let xml = folder.path().join(work.part.xml());
            write(work, &xml)?;
            match work.part {
                Part::TextEncoder => parts.text_encoder = xml,
                Part::Transformer => parts.transformer = xml,
                Part::VaeDecoder => parts.vae_decoder = xml,
                Part::TinyVaeDecoder => parts.tiny_vae_decoder = Some(xml),
            }
        }
        let rules = Rules::read(&parts)?;
        let networks = Watched::of(&self.settings, runtime, &parts)?;
        let planner = self.planner(&parts, rules, runtime, networks.computes())?;
        let width = model.manifest().text_encoder.spec.d_model;
        Ok(Scene {
            embedding_bytes: planner.max_tokens() * width * size_of::<f32>(),
            planner,
            networks,
            folder,
        })
    }
}

impl Scene {
    /// A pipeline that draws with each watched network behind what `watch` makes of it; and the folder, which is to outlive it.
    pub(super) fn pipeline(
        self,
        work: &[Work],
        watch: impl Fn(Part, CompiledGraph) -> Box<dyn Graph> + Clone + 'static,
    ) -> (Pipeline, TempDir) {
        let parts: Vec<Part> = watched(work).map(|work| work.part).collect();
        // It would take as long as two steps of a published model, for images that nobody looks at.
        let blank = (!parts.contains(&Part::VaeDecoder)).then(|| -> Box<dyn Graph> {
            Box::new(BlankDecoder::new(self.planner.facts().vae_scale_factor))
        });
        let watch = move |part, graph| -> Box<dyn Graph> {
            if parts.contains(&part) {
                watch(part, graph)
            } else {
                Box::new(graph)
            }
        };
        let networks = self.networks.behind(watch, blank);
        let keeping = TextKeeping {
            // A prompt and a negative prompt each; what is kept of one beside its embeddings is a few kilobytes.
            cache_bytes: 2 * READ_TOGETHER * (self.embedding_bytes + (8 << 10)),
            store: None,
            idle: Some(Duration::ZERO),
        };
        let pipeline = Pipeline::new(self.planner, networks).keeping(keeping);
        (pipeline, self.folder)
    }
}

/// The components that images are drawn for.
pub(super) fn watched(work: &[Work]) -> impl Iterator<Item = &Work> {
    work.iter().filter(|work| work.options.needs_calibration())
}
