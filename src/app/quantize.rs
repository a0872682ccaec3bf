//! What quantising needs of the rest: a pipeline over networks that are watched, and the settings in force.

use std::cell::RefCell;
use std::fs;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use anyhow::Result;

use super::App;
use super::scene::watched;
use crate::convert::{Attention, ConvertError, Staging};
use crate::domain::{
    Decoder, GenerateRequest, ImageSize, InvalidRequest, RequestDraft, Seed, Steps,
};
use crate::engine::{Runtime, give_back_memory};
use crate::model::{ForeignModel, ModelDirectory, Part, check_free_space};
use crate::pipeline::Planner;
use crate::quantize::{
    Assembly, Caption, Component, ComponentOptions, ObservedGraph, QuantizeError, QuantizeProgress,
    RangeRule, Statistics, StatisticsKey, Trial, TrialGraph, Work, built_in_captions, calibrate,
    captions_digest, draw_all, read_captions,
};

/// What becomes of each component.
#[derive(Debug, Clone)]
pub struct Choices {
    /// Components that change, and how.
    pub parts: Vec<(Part, ComponentOptions)>,
    /// Operations that stay in floats, of whichever component, beside those that do by default.
    pub in_float: Vec<String>,
    /// Of those that stay in floats by default, the ones that do not.
    pub in_integers: Vec<String>,
}

/// Which pictures are drawn to see ranges.
#[derive(Debug, Clone)]
pub struct CalibrationOptions {
    /// A file of captions; the built-in ones where there is none.
    pub captions: Option<PathBuf>,
    /// How many pictures.
    pub samples: u32,
    /// Denoising steps of each; the scheduler's own where left out.
    pub steps: Option<Steps>,
    /// Their size; the model's own where left out.
    pub size: Option<ImageSize>,
    /// Seed of the first.
    pub seed: u64,
    /// Which range counts.
    pub range: RangeRule,
    /// Where what was seen is kept.
    pub statistics: Option<PathBuf>,
    /// What an operation's output may err by, by its size, where it is tried in integers; none tries nothing.
    pub tolerance: Option<f64>,
}

/// What to quantise, and how.
#[derive(Debug, Clone)]
pub struct QuantizeOptions {
    /// The model.
    pub model: PathBuf,
    /// Where the new one goes.
    pub output: PathBuf,
    /// What it is called; as the model unless given.
    pub name: Option<String>,
    /// What becomes of each component.
    pub choices: Choices,
    /// Which pictures are drawn to see ranges.
    pub calibration: CalibrationOptions,
}

impl App {
    /// Names of the operations of each chosen component that can be computed in integers.
    ///
    /// # Errors
    /// When the model is not one that pixart converted, or is quantised already.
    pub fn operations(
        &self,
        model: &Path,
        choices: &Choices,
    ) -> Result<Vec<(Part, Vec<String>)>, QuantizeError> {
        let model = own_model(model)?;
        Ok(open(&model, choices)?
            .into_iter()
            .map(|work| (work.part, names(&work)))
            .collect())
    }

    /// Quantises a model.
    ///
    /// # Errors
    /// When the model or a caption makes no sense, the device has no integer kernels for it, or the output cannot be written.
    /// Nothing half-made is left, but for what calibration has seen.
    pub fn quantize(
        &self,
        runtime: &mut Runtime,
        options: QuantizeOptions,
        progress: &dyn QuantizeProgress,
    ) -> Result<ModelDirectory> {
        if options.choices.parts.is_empty() {
            return Err(QuantizeError::NothingToDo.into());
        }
        let model = own_model(&options.model)?;
        if same_folder(&options.output, model.path()) {
            return Err(QuantizeError::OntoItself {
                path: options.output,
            }
            .into());
        }
        check_size(&model, options.calibration.size)?;
        let mut work = open(&model, &options.choices)?;
        check_output(&options.output, &work, progress)?;
        let watched: Vec<usize> = (0..work.len())
            .filter(|&index| work[index].options.needs_calibration())
            .collect();
        let mut entry = None;
        if !watched.is_empty() {
            self.check_integers(runtime)?;
            let captions = match &options.calibration.captions {
                Some(path) => read_captions(path, options.calibration.samples as usize)
                    .map_err(QuantizeError::from)?,
                None => built_in_captions(
                    &model.manifest().source,
                    options.calibration.samples as usize,
                ),
            };
            let calibration = Calibration {
                model: &model,
                options: &options.calibration,
                captions,
            };
            if !calibration.is_kept() {
                self.check_calibration_memory(runtime, &model, &work, &options.calibration)?;
            }
            let seen = self.watch(runtime, &calibration, &work, progress)?;
            for index in watched {
                let Work {
                    part,
                    component,
                    options: treated,
                    ..
                } = &work[index];
                let takers = component.takers(treated);
                work[index].observed = seen
                    .observed(part.name(), options.calibration.range, &takers)
                    .map_err(QuantizeError::from)?;
            }
            entry = Some(seen.entry(options.calibration.range));
            if let Some(tolerance) = options.calibration.tolerance {
                self.try_out(runtime, &calibration, &mut work, tolerance, progress)?;
            }
        }
        let assembly = Assembly {
            source: &model,
            work,
            calibration: entry,
            output: &options.output,
            name: options.name,
            device: &self.settings.openvino.device,
            precision: self.settings.openvino.precision,
        };
        Ok(assembly.write(runtime, progress)?)
    }

    /// Holds that the device computes in 8-bit integers at all.
    fn check_integers(&self, runtime: &Runtime) -> Result<(), QuantizeError> {
        let device = &self.settings.openvino.device;
        let devices = runtime.devices()?;
        let meant: Vec<_> = devices
            .iter()
            .filter(|found| found.name == *device || found.name.split('.').next() == Some(device))
            .collect();
        // A device that is not there is refused when the first network is compiled.
        match meant.first() {
            Some(first)
                if !meant
                    .iter()
                    .any(|found| found.capabilities.iter().any(|can| can == "INT8")) =>
            {
                Err(QuantizeError::NoIntegers {
                    device: device.clone(),
                    capabilities: first.capabilities.join(", "),
                })
            }
            _ => Ok(()),
        }
    }

    /// Draws the pictures of the calibration with the networks of `work` that need it watched. Returns what was seen.
    fn watch(
        &self,
        runtime: &mut Runtime,
        calibration: &Calibration<'_>,
        work: &[Work],
        progress: &dyn QuantizeProgress,
    ) -> Result<Statistics> {
        // The scene's folder may hold gigabytes, which must go with it.
        let _attention = Attention::begin(progress);
        let scene = self.scene(runtime, calibration.model, work, |work, xml| {
            work.component.write_observed(xml)
        })?;
        let requests = calibration.requests(&scene.planner);
        let key = calibration.key(&scene.planner, &requests);
        let points: Vec<(String, Vec<String>)> = watched(work)
            .map(|work| (work.part.name().to_owned(), work.component.point_names()))
            .collect();
        let mut statistics = Statistics::new(key, &points);
        let file = calibration.options.statistics.as_deref();
        if let Some(path) = file {
            statistics = Statistics::kept(path, statistics).map_err(QuantizeError::from)?;
        }
        let statistics = Rc::new(RefCell::new(statistics));
        let shown = Rc::clone(&statistics);
        let (mut pipeline, _folder) = scene.pipeline(work, move |part, graph| {
            Box::new(ObservedGraph::new(part.name(), graph, Rc::clone(&shown)))
        });
        calibrate(&mut pipeline, &requests, &statistics, file, progress)?;
        // It holds the other end of what is unwrapped, and memory that the proof of the new networks takes.
        drop(pipeline);
        give_back_memory();
        Ok(Rc::unwrap_or_clone(statistics).into_inner())
    }

    /// Tries every operation that is to be computed in integers beside the exact one, over the first pictures of the calibration,
    /// and leaves those in floats whose output errs by more than `tolerance` of its size.
    fn try_out(
        &self,
        runtime: &mut Runtime,
        calibration: &Calibration<'_>,
        work: &mut [Work],
        tolerance: f64,
        progress: &dyn QuantizeProgress,
    ) -> Result<()> {
        let _attention = Attention::begin(progress);
        let scene = self.scene(runtime, calibration.model, work, |work, xml| {
            let Work {
                component,
                options,
                observed,
                ..
            } = work;
            component.write_trial(options, observed, xml, progress)
        })?;
        let mut requests = calibration.requests(&scene.planner);
        requests.truncate(TRIED);
        let trial = Rc::new(RefCell::new(Trial::default()));
        let told = Rc::clone(&trial);
        let (mut pipeline, _folder) = scene.pipeline(work, move |part, graph| {
            Box::new(TrialGraph::new(part.name(), graph, Rc::clone(&told)))
        });
        draw_all(&mut pipeline, &requests, progress)?;
        drop(pipeline);
        give_back_memory();
        for work in work {
            let names = names(work);
            let errors = trial.borrow().errors(work.part.name());
            let sensitive = errors.iter().filter(|&(_, &error)| error > tolerance);
            let sensitive = sensitive.map(|(&operation, _)| names[operation].clone());
            work.options.in_float.extend(sensitive);
        }
        Ok(())
    }
}

/// Pictures that operations are tried with: every step of a few is hundreds of inputs of each.
const TRIED: usize = 4;

/// A calibration with its captions read.
struct Calibration<'a> {
    model: &'a ModelDirectory,
    options: &'a CalibrationOptions,
    captions: Vec<Caption>,
}

impl Calibration<'_> {
    /// Whether a file has seen all images already, so that none will be drawn.
    fn is_kept(&self) -> bool {
        let file = self.options.statistics.as_deref();
        let kept = file.and_then(Statistics::samples_in);
        self.options.tolerance.is_none()
            && kept.is_some_and(|samples| samples >= self.options.samples)
    }

    /// Picture i has the seed + i.
    fn requests(&self, planner: &Planner) -> Vec<GenerateRequest> {
        (0..)
            .zip(&self.captions)
            .map(|(index, caption)| {
                let seed = Seed::new(self.options.seed.wrapping_add(index));
                let draft = RequestDraft {
                    negative_prompt: caption.negative_prompt.clone(),
                    steps: self.options.steps,
                    size: self.options.size,
                    // Ranges are those of the size that was asked for, not of an aspect bin near it.
                    resolution_binning: Some(false),
                    decoder: Some(Decoder::Full),
                    ..RequestDraft::new(caption.prompt.clone(), seed)
                };
                draft.complete(planner.defaults())
            })
            .collect()
    }

    fn key(&self, planner: &Planner, requests: &[GenerateRequest]) -> StatisticsKey {
        let first = requests.first().expect("at least one sample is asked for");
        StatisticsKey {
            model_digest: self.model.manifest().digest(),
            captions_digest: captions_digest(&self.captions),
            steps: u32::try_from(first.steps.count()).expect("steps are parsed from u32"),
            size: first.size.to_string(),
            as_asked: planner.defaults().resolution_binning
                && planner
                    .bins()
                    .is_some_and(|bins| bins.nearest(first.size) != first.size),
            seed: self.options.seed,
            precision: planner.facts().precision.clone(),
        }
    }
}

/// Holds that the new model can take its place, before an hour is spent on calibration.
fn check_output(
    output: &Path,
    work: &[Work],
    progress: &dyn QuantizeProgress,
) -> Result<(), QuantizeError> {
    // Given up at once, it has looked at all that stands in the way.
    let staging = Staging::begin(output, progress)?;
    let bytes = |work: &Work| work.component.quantized_bytes(&work.options);
    let room = check_free_space(&staging.path(""), work.iter().map(bytes).sum());
    Ok(room.map_err(ConvertError::from)?)
}

/// A model that pixart converted; no other can be quantised.
fn own_model(path: &Path) -> Result<ModelDirectory, QuantizeError> {
    if ForeignModel::is_one(path) {
        return Err(QuantizeError::ForeignModel {
            path: path.to_owned(),
        });
    }
    Ok(ModelDirectory::open(path)?)
}

/// Holds that the model draws images of this size.
fn check_size(model: &ModelDirectory, size: Option<ImageSize>) -> Result<(), InvalidRequest> {
    let manifest = model.manifest();
    let multiple = manifest.vae_decoder.spec.scale_factor() * manifest.transformer.spec.patch_size;
    let multiple_px = u32::try_from(multiple).unwrap_or(u32::MAX);
    size.map_or(Ok(()), |size| size.check_multiple(multiple_px))
}

/// Opens the networks of the chosen components, and finds the operations among them that stay in floats, by default or by name.
fn open(model: &ModelDirectory, choices: &Choices) -> Result<Vec<Work>, QuantizeError> {
    let mut work = Vec::with_capacity(choices.parts.len());
    for (part, options) in &choices.parts {
        let component = Component::open(&model.path().join(part.xml()))?;
        work.push(Work {
            part: *part,
            component,
            options: options.clone(),
            observed: Vec::new(),
        });
    }
    let mut by_default = Vec::new();
    for work in work
        .iter_mut()
        .filter(|work| work.options.needs_calibration())
    {
        by_default.extend(work.component.in_float_by_default());
        let mut stay = work.component.in_float_by_default();
        stay.retain(|name| !choices.in_integers.contains(name));
        work.options.in_float.extend(stay);
    }
    for name in &choices.in_integers {
        if !by_default.contains(name) {
            return Err(QuantizeError::NotFloatByDefault {
                name: name.clone(),
                known: by_default,
            });
        }
        if choices.in_float.contains(name) {
            return Err(QuantizeError::BothWays { name: name.clone() });
        }
    }
    for name in &choices.in_float {
        let mut known = false;
        for work in &mut work {
            if names(work).contains(name) {
                work.options.in_float.insert(name.clone());
                known = true;
            }
        }
        if !known {
            return Err(QuantizeError::UnknownOperation { name: name.clone() });
        }
    }
    Ok(work)
}

fn names(work: &Work) -> Vec<String> {
    let names = work.component.operation_names();
    names.into_iter().map(str::to_owned).collect()
}

fn same_folder(one: &Path, other: &Path) -> bool {
    match (fs::canonicalize(one), fs::canonicalize(other)) {
        (Ok(one), Ok(other)) => one == other,
        _ => false,
    }
}
