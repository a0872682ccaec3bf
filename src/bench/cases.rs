//! Pictures of one size, drawn and timed.

use std::time::{Duration, Instant};

use super::MemoryWatch;
use super::report::{CaseReport, StageReport};
use super::statistics::median;
use crate::domain::{GenerateRequest, Steps, Timings};
use crate::model::ModelShapes;
use crate::pipeline::{Generate as _, Pipeline, PipelineError, Watch};

/// What is drawn, and how often.
pub struct Case<'a> {
    /// Every picture's request.
    pub request: &'a GenerateRequest,
    /// Pictures that count.
    pub repeats: usize,
    /// The model's shapes.
    pub shapes: &'a ModelShapes,
}

/// Draws one picture of one step that does not count (the runtime packs weights and takes memory of this size at the first
/// one), then the others. Each encodes its prompt anew, and loads the text encoder for it where that is loaded on demand.
///
/// # Errors
/// Those of drawing; [`PipelineError::Cancelled`] when `watch` stops.
pub fn measure(
    pipeline: &mut Pipeline,
    case: &Case<'_>,
    watch: &mut dyn Watch,
) -> Result<CaseReport, PipelineError> {
    let request = case.request;
    let plan = pipeline.planner().plan(request)?;
    let memory = MemoryWatch::start();
    let warm_up = GenerateRequest {
        steps: Steps::new(1)?,
        ..request.clone()
    };
    pipeline.forget_embeddings();
    pipeline.generate(&warm_up, watch)?;
    let mut drawn: Vec<(Timings, Duration)> = Vec::new();
    for _ in 0..case.repeats {
        pipeline.forget_embeddings();
        pipeline.release_text_encoder();
        let start = Instant::now();
        let picture = pipeline.generate(request, watch)?;
        drawn.push((picture.timings, start.elapsed()));
    }

    let tokens: Vec<usize> = [Some(&plan.prompt), plan.negative_prompt.as_ref()]
        .into_iter()
        .flatten()
        .map(|count| count.read)
        .collect();
    let flops = case.shapes.flops(plan.drawn_size, &tokens, request.decoder);
    let denoise = flops.step * plan.steps as u64;
    let flops_of = |stage: &str| match stage {
        "text_encode" => Some(flops.text_encode),
        "denoise" => Some(denoise),
        "vae_decode" => Some(flops.vae_decode),
        _ => None,
    };
    let names = Timings::default().stages().map(|(name, _)| name);
    let stages = names
        .into_iter()
        .enumerate()
        .map(|(index, name)| {
            let seconds = drawn
                .iter()
                .map(|(timings, _)| timings.stages()[index].1.as_secs_f64())
                .collect();
            StageReport::new(name, seconds, flops_of(name))
        })
        .collect();
    let steps = drawn
        .iter()
        .flat_map(|(timings, _)| &timings.steps)
        .map(Duration::as_secs_f64)
        .collect();
    let loads = drawn
        .iter()
        .map(|(timings, _)| timings.text_encoder_load.as_secs_f64())
        .filter(|seconds| *seconds > 0.0)
        .collect();
    let whole = drawn.iter().map(|(_, whole)| whole.as_secs_f64()).collect();
    let shares: Vec<f64> = drawn
        .iter()
        .map(|(timings, whole)| timings.total().as_secs_f64() / whole.as_secs_f64())
        .collect();
    Ok(CaseReport {
        size: request.size.to_string(),
        drawn_size: plan.drawn_size.to_string(),
        steps: plan.steps,
        scheduler: request.scheduler.to_string(),
        guidance_scale: request.guidance.scale(),
        tokens,
        stages,
        text_encoder_load_seconds: loads,
        step: StageReport::new("step", steps, Some(flops.step)),
        whole: StageReport::new(
            "whole",
            whole,
            Some(flops.text_encode + denoise + flops.vae_decode),
        ),
        stage_sum_share: median(&shares),
        memory: memory.finish(),
    })
}
