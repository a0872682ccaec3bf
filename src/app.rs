//! The composition root: settings → runtime → model → a pipeline that draws.

pub mod bench;
mod calibration_memory;
mod core_dumps;
mod descriptors;
mod embedded;
mod home_folders;
pub mod inventory;
pub mod judge;
mod memory;
mod name_error;
pub mod names;
mod networks;
pub mod pulled;
pub mod quantize;
mod rules;
mod scene;
pub mod serve;
pub mod shell;
mod text;
mod threads;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Result;

use crate::config::{
    Environment, FileCheck, ModelSettings, OpenvinoSettings, Precision, Settings, cache_folder,
    openvino_folders,
};
use crate::convert::Progress;
use crate::domain::{Decoder, ImageSize, Processor, Quality, RequestDefaults};
use crate::engine::{CompileOptions, CompiledGraph, EngineError, InForce, Runtime};
use crate::model::{
    Choice, Circumstances, Defaults, Digests, ForeignModel, HeldFiles, Manifest, ModelDirectory,
    ModelShapes, NotebookFiles, PipelineClass, WeightsFormat, instruction_set,
};
use crate::pipeline::{MemoryLimit, ModelFacts, Pipeline, Planner};
use bench::{shapes_of, shapes_of_foreign};
pub use calibration_memory::NoMemoryToCalibrate;
pub use core_dumps::forbid_core_dumps;
pub use memory::NoMemory;
use names::{NameError, Names};
use rules::{Added, Rules};
pub use threads::threads;

/// Everything that a subcommand starts from.
pub struct App {
    settings: Settings,
    environment: Environment,
    /// How many variants of the model do not draw because they were measured on another processor alone.
    variants_elsewhere: usize,
}

/// A model, found and checked, not yet compiled.
pub enum Model {
    /// Made by `pixart convert`.
    Own(Box<ModelDirectory>),
    /// Made elsewhere.
    Foreign(Box<ForeignModel>),
}

/// A model that is ready to draw.
pub struct Loaded {
    /// Draws. Its planner fills in requests and checks them, on any thread.
    pub pipeline: Pipeline,
    /// Time of checking, reading and compiling.
    pub load: Duration,
    /// What it was read from, which the runtime has mapped into memory.
    pub files: Arc<HeldFiles>,
    /// What bounds memory; none where nothing is known to.
    pub memory: Option<MemoryLimit>,
}

impl App {
    /// Starts from resolved settings.
    pub fn new(settings: Settings, environment: Environment) -> Self {
        Self {
            settings,
            environment,
            variants_elsewhere: 0,
        }
    }

    /// The settings in force.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The extensions of the instruction set that kernels are chosen by, as far as the environment lets oneDNN use them.
    pub fn instruction_set(&self) -> Vec<&'static str> {
        instruction_set(self.environment.onednn_max_cpu_isa().as_deref())
    }

    /// Has the settings name the variant of their model, and the arithmetic, that their quality comes to. Returns what was chosen
    /// among too.
    ///
    /// # Errors
    /// When there is no such model, or its manifest cannot be read.
    pub fn choosing(mut self) -> Result<(Self, Choice)> {
        self.settings.model.directory = self.model_folder()?;
        let ModelSettings {
            directory, quality, ..
        } = &self.settings.model;
        let openvino = &self.settings.openvino;
        let free = openvino.precision == Precision::Auto;
        // The embedded model has no folder, and foreign IR no manifest. What was measured was measured on processors.
        let has_variants = !directory.as_os_str().is_empty()
            && directory.join(Manifest::FILE_NAME).exists()
            && openvino.device == "CPU";
        let choice = if has_variants {
            let precision = openvino.precision.to_string();
            let circumstances = Circumstances {
                quality: *quality,
                instruction_set: &self.instruction_set(),
                precision: (!free).then_some(precision.as_str()),
            };
            Choice::of(directory, circumstances)?
        } else {
            Choice::plain(directory, *quality, free)
        };
        self.settings.model.directory.clone_from(&choice.directory);
        self.variants_elsewhere = choice.measured_elsewhere().count();
        if choice.in_f32 {
            self.settings.openvino.precision = Precision::F32;
        }
        Ok((self, choice))
    }

    /// The folder of the model that the settings name; empty for the embedded one.
    ///
    /// # Errors
    /// When there is no such model.
    pub fn model_folder(&self) -> Result<PathBuf, NameError> {
        Names::of(&self.environment).model(&self.settings.model.directory)
    }

    /// Finds and loads the runtime.
    ///
    /// # Errors
    /// When it is not there or too old.
    pub fn runtime(&self) -> Result<Runtime> {
        Ok(Runtime::load(&openvino_folders(
            &self.settings,
            &self.environment,
        ))?)
    }

    /// Finds and checks the model of the settings. The embedded one is converted at its first use.
    ///
    /// # Errors
    /// When there is none, or it is incomplete or damaged.
    pub fn model(
        &self,
        runtime: &mut Runtime,
        notebook_files: NotebookFiles,
        progress: &dyn Progress,
    ) -> Result<Model> {
        let folder = &self.model_folder()?;
        if folder.as_os_str().is_empty() {
            return Ok(Model::Own(Box::new(
                self.embedded_model(runtime, progress)?,
            )));
        }
        if ForeignModel::is_one(folder) {
            let checkpoint = &self.settings.model.checkpoint;
            let checkpoint = if checkpoint.as_os_str().is_empty() {
                folder
            } else {
                &Names::of(&self.environment).checkpoint(checkpoint)?.folder
            };
            return Ok(Model::Foreign(Box::new(ForeignModel::open(
                folder,
                checkpoint,
                notebook_files,
                self.digests(),
            )?)));
        }
        let directory = ModelDirectory::open_with(folder, &self.digests())?;
        Ok(Model::Own(Box::new(directory)))
    }

    /// Digests of a model's files: known from an earlier start where the settings and the machine allow that.
    fn digests(&self) -> Digests {
        match self.settings.model.check {
            FileCheck::Always => Digests::default(),
            FileCheck::Changed => cache_folder(&self.settings, &self.environment)
                .map(|cache| Digests::kept_in(cache.join("digests")))
                .unwrap_or_default(),
        }
    }

    /// Compiles a model's networks and puts the pipeline together.
    ///
    /// # Errors
    /// When a file of the model makes no sense, or a network does not compile on the device.
    pub fn load(&self, runtime: &mut Runtime, model: &Model) -> Result<Loaded> {
        let start = Instant::now();
        let parts = Parts::of(model)?;
        self.check_memory(&parts)?;
        let rules = Rules::read(&parts)?;
        let (networks, computes) = networks::load(&self.settings, runtime, &parts, &rules)?;
        let planner = self.planner(&parts, rules, runtime, computes)?;
        let keeping = text::keeping(&self.settings.model, planner.facts())?;
        let pipeline = Pipeline::new(planner, networks).keeping(keeping);
        Ok(Loaded {
            pipeline,
            load: start.elapsed(),
            memory: self.memory_limit(&parts),
            files: parts.files,
        })
    }

    /// What a model draws by, for networks that compute so.
    fn planner(
        &self,
        parts: &Parts,
        rules: Rules,
        runtime: &Runtime,
        computes: InForce,
    ) -> Result<Arc<Planner>> {
        let facts = ModelFacts {
            device: self.settings.openvino.device.clone(),
            precision: computes.precision,
            processor: computes.threads.map(|threads| Processor {
                instruction_set: self.instruction_set().join(" "),
                threads,
            }),
            openvino_version: runtime.version().to_owned(),
            ..parts.facts.clone()
        };
        let Rules {
            tokenizer,
            scheduler,
        } = rules;
        let defaults = RequestDefaults {
            scheduler: scheduler.kind(),
            decoder: match (self.settings.model.quality, facts.tiny_vae_scaling_factor) {
                (Quality::Fast, Some(_)) => Decoder::Tiny,
                _ => Decoder::Full,
            },
            size: ImageSize::new(parts.defaults.width_px, parts.defaults.height_px)?,
            resolution_binning: parts.defaults.resolution_binning,
        };
        Ok(Arc::new(Planner::new(
            tokenizer, scheduler, facts, defaults,
        )))
    }
}

/// Compiles a network as the settings have it.
fn compile(
    openvino: &OpenvinoSettings,
    runtime: &mut Runtime,
    xml: &Path,
    inputs: &[&str],
    fixed: Option<(&str, &[usize])>,
) -> Result<CompiledGraph, EngineError> {
    let options = CompileOptions {
        device: &openvino.device,
        precision: openvino.precision,
        threads: threads(openvino),
        inputs,
        fixed,
    };
    runtime.compile(xml, &options)
}

/// Where a model's parts lie, whoever made it.
struct Parts {
    text_encoder: PathBuf,
    transformer: PathBuf,
    vae_decoder: PathBuf,
    tiny_vae_decoder: Option<PathBuf>,
    tokenizer: PathBuf,
    added_tokens: Added,
    scheduler: PathBuf,
    max_tokens: usize,
    vocab_size: usize,
    defaults: Defaults,
    /// How the weights of text encoder, transformer and VAE are stored, where that is known.
    formats: [Option<WeightsFormat>; 3],
    facts: ModelFacts,
    files: Arc<HeldFiles>,
}

impl Parts {
    fn of(model: &Model) -> Result<Self> {
        match model {
            Model::Own(directory) => Ok(Self::of_own(directory)),
            Model::Foreign(foreign) => Self::of_foreign(foreign),
        }
    }

    fn of_own(directory: &ModelDirectory) -> Self {
        let manifest = directory.manifest();
        let at = |name: &str| directory.path().join(name);
        Self {
            text_encoder: at(ModelDirectory::TEXT_ENCODER),
            transformer: at(ModelDirectory::TRANSFORMER),
            vae_decoder: at(ModelDirectory::VAE_DECODER),
            tiny_vae_decoder: manifest
                .tiny_vae_decoder
                .as_ref()
                .map(|_| at(ModelDirectory::TINY_VAE_DECODER)),
            tokenizer: at(manifest
                .tokenizer()
                .expect("a manifest without tokenizer is refused when it is read")),
            added_tokens: if manifest.files.contains_key(ModelDirectory::ADDED_TOKENS) {
                Added::InFile(at(ModelDirectory::ADDED_TOKENS))
            } else {
                Added::Nothing
            },
            scheduler: at(ModelDirectory::SCHEDULER),
            max_tokens: manifest.pipeline.max_tokens(),
            vocab_size: manifest.text_encoder.spec.vocab_size,
            defaults: manifest.defaults.clone(),
            formats: [
                manifest.text_encoder.weights,
                manifest.transformer.weights,
                manifest.vae_decoder.weights,
            ]
            .map(Some),
            files: Arc::clone(directory.held()),
            facts: ModelFacts {
                name: manifest.name.clone(),
                weights: manifest.weights(),
                digest: manifest.digest(),
                tiny_vae_scaling_factor: manifest
                    .tiny_vae_decoder
                    .as_ref()
                    .map(|tiny| narrow(tiny.spec.scaling_factor)),
                ..facts(manifest.pipeline, shapes_of(manifest))
            },
        }
    }

    fn of_foreign(foreign: &ForeignModel) -> Result<Self> {
        Ok(Self {
            files: Arc::new(HeldFiles::open(foreign.files())?),
            text_encoder: foreign.text_encoder.clone(),
            transformer: foreign.transformer.clone(),
            vae_decoder: foreign.vae_decoder.clone(),
            tiny_vae_decoder: None,
            tokenizer: foreign.tokenizer()?,
            added_tokens: Added::ByCheckpoint(foreign.checkpoint.clone()),
            scheduler: foreign.checkpoint.join(ModelDirectory::SCHEDULER),
            max_tokens: foreign.index.class.max_tokens(),
            vocab_size: foreign.text_encoder_spec.vocab_size,
            defaults: Defaults::of(
                foreign.index.class,
                &foreign.transformer_spec,
                &foreign.vae_spec,
            ),
            formats: [None; 3],
            facts: ModelFacts {
                name: "notebook".to_owned(),
                weights: "foreign".to_owned(),
                digest: foreign.digest()?,
                frozen_grid: foreign.frozen_grid,
                ..facts(foreign.index.class, shapes_of_foreign(foreign))
            },
        })
    }
}

/// The facts that follow from the shapes; the others are left empty.
fn facts(class: PipelineClass, shapes: ModelShapes) -> ModelFacts {
    let (transformer, vae) = (&shapes.transformer, &shapes.vae);
    ModelFacts {
        name: String::new(),
        weights: String::new(),
        device: String::new(),
        precision: String::new(),
        processor: None,
        digest: String::new(),
        openvino_version: String::new(),
        class,
        sample_size: transformer.sample_size,
        patch_size: transformer.patch_size,
        latent_channels: vae.latent_channels,
        micro_conditions: transformer.use_additional_conditions,
        vae_scale_factor: vae.scale_factor(),
        vae_scaling_factor: narrow(vae.scaling_factor),
        tiny_vae_scaling_factor: None,
        frozen_grid: None,
        shapes,
    }
}

/// A scaling factor as torch divides f32 latents by it.
#[expect(
    clippy::cast_possible_truncation,
    reason = "torch divides f32 latents by this number"
)]
fn narrow(scaling_factor: f64) -> f32 {
    scaling_factor as f32
}
