//! The first pictures, which nobody sees: they show that the model draws, measure how long it takes, and fit the previews.

use std::sync::Arc;
use std::time::Duration;

use super::Built;
use super::draw::loaded;
use crate::domain::{Decoder, ImageSize, Prompt, RequestDraft, Seed, Steps};
use crate::jobs::{Assignments, Work};
use crate::pipeline::{Event, Generate, LatentToRgb, PipelineError, Planner, PreviewFit, Watch};
use crate::telemetry::Metrics;

/// Pictures of many colours, so that the fit from latents to colours sees them all.
const PROMPTS: [&str; 6] = [
    "A small cactus with a happy face in the Sahara desert.",
    "a bright red rocket in the black night sky",
    "a white sailboat on the deep blue sea at noon",
    "a green tree in a yellow field, autumn",
    "a purple flower in the snow",
    "an orange cat on a pink sofa",
];
/// An image that takes less is drawn once more.
const QUICK: Duration = Duration::from_secs(1);
/// Pictures for the fit are drawn at a quarter of the model's size, and not below this: a few seconds altogether.
const SMALLEST_PX: u32 = 128;
/// The picture of the model's own size needs not be good.
const STEPS_TO_MEASURE: u32 = 2;
/// Small pictures are drawn in no more steps than this: colours settle early.
const MOST_STEPS: u32 = 8;

/// Reads, draws, and fits the map from latents to colours; none where the model's latents have none.
pub(super) fn warm_up(
    built: &mut Built,
    assignments: &Assignments,
    metrics: &Metrics,
) -> Result<Option<LatentToRgb>, PipelineError> {
    let planner = Arc::clone(&built.planner);
    let generate = built.generate.as_mut();
    // The tiny decoder makes previews without a fit, and is warmed up in its place.
    let has_tiny = planner.has_tiny_decoder();
    let mut fitting = WarmUpWatch {
        assignments,
        metrics,
        fit: (!has_tiny).then(PreviewFit::default),
    };
    // A traced transformer draws one size only; two pictures of it are enough for a fit.
    let small = match planner.frozen_size() {
        None if has_tiny => (Some(small_size(&planner)?), 1),
        None => (Some(small_size(&planner)?), PROMPTS.len()),
        Some(_) => (None, 2),
    };
    // All prompts at once: a text encoder that is loaded on demand is loaded but once. The empty one is the negative prompt
    // of all who give none.
    generate.read_ahead(&Prompt::empty(), &mut fitting)?;
    let mut read = Vec::new();
    for prompt in PROMPTS.into_iter().take(small.1) {
        read.push(generate.read_ahead(&Prompt::new(prompt)?, &mut fitting)?);
    }
    for ((prompt, seed), read) in PROMPTS.into_iter().zip(1..).zip(read) {
        let draft = RequestDraft {
            size: small.0,
            resolution_binning: small.0.map(|_| false),
            steps: Some(few_steps(&planner)?),
            decoder: has_tiny.then_some(Decoder::Tiny),
            ..RequestDraft::new(Prompt::new(prompt)?, Seed::new(seed))
        };
        draw(generate, &planner, draft, read, &mut fitting)?;
    }
    if small.0.is_some() {
        // The model's own size: so large is the memory that pictures will take, and so long is a step.
        let draft = RequestDraft {
            steps: Some(Steps::new(STEPS_TO_MEASURE)?),
            decoder: Some(Decoder::Full),
            ..RequestDraft::new(Prompt::new(PROMPTS[0])?, Seed::new(0))
        };
        let mut watch = WarmUpWatch {
            assignments,
            metrics,
            fit: None,
        };
        draw(generate, &planner, draft, Duration::ZERO, &mut watch)?;
    }
    Ok(fitting.fit.and_then(|fit| fit.finish()))
}

fn draw(
    generate: &mut dyn Generate,
    planner: &Planner,
    draft: RequestDraft,
    read: Duration,
    watch: &mut WarmUpWatch<'_>,
) -> Result<(), PipelineError> {
    let mut is_first = true;
    let request = draft.complete(planner.defaults());
    let plan = planner.plan(&request)?;
    let work = Work::of(&request, &plan);
    loop {
        let mut picture = generate.generate(&request, watch)?;
        // What it took to read the prompt beforehand belongs to the picture.
        picture.timings.text_encode += read;
        watch.assignments.measured(work, &picture);
        // The first one prepared kernels. Where that was quick, the second says what the next ones take; those for the fit follow each other.
        let is_first = std::mem::replace(&mut is_first, false);
        if !is_first || watch.fit.is_some() || picture.timings.total() > QUICK {
            return Ok(());
        }
    }
}

fn small_size(planner: &Planner) -> Result<ImageSize, PipelineError> {
    let size = planner.defaults().size;
    let multiple = planner.size_multiple_px();
    let small = |side: u32| {
        let side = (side / 4).max(SMALLEST_PX).min(side);
        (side / multiple * multiple).max(multiple)
    };
    Ok(ImageSize::new(
        small(size.width_px()),
        small(size.height_px()),
    )?)
}

fn few_steps(planner: &Planner) -> Result<Steps, PipelineError> {
    let usual = planner.defaults().scheduler.default_steps().count();
    let usual = u32::try_from(usual).unwrap_or(MOST_STEPS);
    Ok(Steps::new(usual.min(MOST_STEPS))?)
}

/// Fits, shows that the worker is alive, and stops when the service closes.
struct WarmUpWatch<'a> {
    assignments: &'a Assignments,
    metrics: &'a Metrics,
    /// What is fitted, where the picture is good enough.
    fit: Option<PreviewFit>,
}

impl Watch for WarmUpWatch<'_> {
    fn cancelled(&self) -> bool {
        self.assignments.closed()
    }

    fn observe(&mut self, event: Event<'_>) {
        self.assignments.health().progressed();
        if let Event::TextEncoderLoaded { took } = event {
            loaded(self.metrics, took);
        }
        if let Some(fit) = &mut self.fit {
            fit.observe(event);
        }
    }
}
