//! One job on the worker's thread: picture after picture, each step told to those who wait.

use std::sync::Arc;
use std::time::Duration;

use ndarray::ArrayView4;

use super::{Ready, hold_memory};
use crate::domain::{GenerateRequest, Generated};
use crate::jobs::{Assignments, Job, Preview};
use crate::pipeline::{Event, LatentToRgb, PipelineError, Watch, preview_file};
use crate::telemetry::{Metrics, Stage};

/// Draws those pictures of a job that are not finished yet, and hands over each as it is.
pub(super) fn draw(
    ready: &mut Ready,
    assignments: &Assignments,
    metrics: &Metrics,
    job: &Job,
) -> Result<(), PipelineError> {
    let progress = job.progress();
    let finished = u32::try_from(progress.pictures.len()).unwrap_or(u32::MAX);
    for index in finished..job.order().images {
        if job.stop().is_some() {
            return Err(PipelineError::Cancelled);
        }
        assignments.begun(job, index);
        let request = job.order().picture(index);
        let preview = ready.preview.as_ref();
        let made = |preview: &&Arc<Preview>| preview.image_index == index;
        let mut watch = JobWatch {
            assignments,
            metrics,
            job,
            request: &request,
            index,
            preview,
            previews: preview_steps(job.order().partial_images, request.steps.count()),
            previews_made: progress.previews.iter().filter(made).count(),
        };
        if let Some(limit) = ready.memory {
            hold_memory(limit, job.order().plan.cost);
        }
        let picture = ready.generate.generate(&request, &mut watch)?;
        record(metrics, &picture);
        ready.sizes.drawn(&picture, metrics);
        assignments.drawn(job, picture);
    }
    Ok(())
}

/// The text encoder was not in memory and is now.
pub(super) fn loaded(metrics: &Metrics, took: Duration) {
    metrics.text_encoder_loaded(took);
    tracing::info!(
        load_seconds = took.as_secs_f64(),
        "the text encoder is loaded"
    );
}

fn record(metrics: &Metrics, picture: &Generated) {
    let timings = &picture.timings;
    metrics.stage(Stage::Tokenize, timings.tokenize);
    metrics.stage(Stage::TextEncode, timings.text_encode);
    metrics.stage(Stage::Denoise, timings.denoise());
    metrics.stage(Stage::VaeDecode, timings.vae_decode);
    metrics.stage(Stage::PngEncode, timings.png_encode);
    metrics.prompt_cache(
        timings.prompt_cache.hits.into(),
        timings.prompt_cache.from_disk.into(),
        timings.prompt_cache.misses.into(),
    );
    let size = picture.receipt.request.size;
    metrics.picture(u64::from(size.width_px()) * u64::from(size.height_px()));
}

/// After which steps (from 1) a preview is made: spread evenly, and never after the last, which is the picture itself.
fn preview_steps(count: u8, steps: usize) -> Vec<usize> {
    let count = usize::from(count);
    let half = count.div_ceil(2);
    let mut after: Vec<usize> = (1..=count)
        .map(|index| (index * steps + half) / (count + 1))
        .filter(|&step| (1..steps).contains(&step))
        .collect();
    after.dedup();
    after
}

/// Tells those who wait for a job how far it is, and the pipeline when to stop.
struct JobWatch<'a> {
    assignments: &'a Assignments,
    metrics: &'a Metrics,
    job: &'a Job,
    request: &'a GenerateRequest,
    index: u32,
    preview: Option<&'a LatentToRgb>,
    /// Steps after which a preview is due.
    previews: Vec<usize>,
    /// Previews of this picture that an attempt before this one has made.
    previews_made: usize,
}

impl JobWatch<'_> {
    /// Which preview is due after `done` steps.
    fn due(&self, done: usize) -> Option<u8> {
        let number = self.previews.iter().position(|&due| due == done)?;
        if number < self.previews_made {
            return None;
        }
        u8::try_from(number).ok()
    }

    /// The preview that is due after `done` steps, of what the tiny decoder has made or else of the colours of latents.
    fn preview(
        &self,
        done: usize,
        denoised: ArrayView4<'_, f32>,
        decoded: Option<ArrayView4<'_, f32>>,
    ) -> Option<Preview> {
        let partial_image_index = self.due(done)?;
        let decoded = match decoded {
            Some(decoded) => decoded.to_owned(),
            None => self.preview?.decode(denoised).ok()?,
        };
        Some(Preview {
            image_index: self.index,
            partial_image_index,
            image: preview_file(decoded, self.request).ok()?,
        })
    }
}

impl Watch for JobWatch<'_> {
    fn cancelled(&self) -> bool {
        self.job.stop().is_some()
    }

    fn wants_preview(&self, step: usize) -> bool {
        self.due(step + 1).is_some()
    }

    fn observe(&mut self, event: Event<'_>) {
        match event {
            Event::TextEncoderLoaded { took } => {
                self.assignments.health().progressed();
                loaded(self.metrics, took);
            }
            Event::TextEncoderReleased => self.metrics.set_text_encoder_resident(false),
            Event::Stepped {
                step,
                took,
                denoised,
                preview,
                ..
            } => {
                self.metrics.step(took);
                let done = step + 1;
                let preview = self.preview(done, denoised, preview);
                self.assignments.stepped(self.job, done, preview);
            }
            Event::TextEncoded { .. } | Event::Decoded { .. } => {
                self.assignments.health().progressed();
            }
            Event::Predicted { .. } => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn previews_are_spread_over_the_steps_and_never_after_the_last() {
        assert_eq!(preview_steps(0, 4), [0; 0]);
        assert_eq!(preview_steps(1, 4), [2]);
        assert_eq!(preview_steps(3, 4), [1, 2, 3]);
        assert_eq!(preview_steps(3, 20), [5, 10, 15]);
        assert_eq!(preview_steps(3, 2), [1]);
        assert_eq!(preview_steps(3, 1), [0; 0]);
    }
}
