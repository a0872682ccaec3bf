//! What each model of a comparison draws, and the pairs that it comes to.

use anyhow::Result;
use ndarray::Array4;

use crate::app::{App, Loaded, Model};
use crate::cli::progress::{BenchBar, ConvertProgress, Interrupt};
use crate::compare::{
    Captioned, CompareError, ModelReport, Pair, PictureReport, Reader, Score, ScoreError, cosine,
    psnr, ssim,
};
use crate::domain::{Decoder, GenerateRequest, Prompt, RequestDraft, Seed, Steps};
use crate::engine::Runtime;
use crate::model::{EMBEDDED_NAME, ModelDirectory, NotebookFiles};
use crate::pipeline::pixels::{Rgb8, to_rgb8};
use crate::pipeline::{Event, Generate as _, Watch};

/// What one model drew.
pub(super) struct Drawn {
    pub(super) directory: Box<ModelDirectory>,
    pub(super) report: ModelReport,
    pub(super) openvino: String,
    /// The arithmetic that was asked for.
    pub(super) asked_precision: String,
    /// How far captions were followed, where there were any.
    pub(super) score: Option<Score>,
    pictures: Vec<Picture>,
}

/// One picture, and the latents after each step.
#[derive(Default)]
struct Picture {
    pixels: Option<Rgb8>,
    latents: Vec<Array4<f32>>,
}

/// What both draw.
pub(super) struct Task<'a> {
    /// To be compared picture by picture.
    pub(super) drafts: &'a [RequestDraft],
    /// To be judged; caption i has the seed i.
    pub(super) captions: &'a [Captioned],
    /// Denoising steps of those; the scheduler's own where left out.
    pub(super) steps: Option<Steps>,
    pub(super) bar: &'a BenchBar,
    pub(super) interrupt: &'a Interrupt,
}

impl Task<'_> {
    /// Draws everything with one model, which leaves memory afterwards.
    pub(super) fn draw(
        &self,
        app: &App,
        runtime: &mut Runtime,
        name: &str,
        decoder: Decoder,
    ) -> Result<Drawn> {
        self.bar.tell(name);
        // Nothing is converted: a model was named.
        let progress = ConvertProgress::new(self.interrupt.clone(), true);
        let Model::Own(directory) = app.model(runtime, NotebookFiles::Plain, &progress)? else {
            let path = app.settings().model.directory.clone();
            return Err(CompareError::Foreign { path }.into());
        };
        let mut loaded = app.load(runtime, &Model::Own(directory.clone()))?;
        let mut pictures = Vec::with_capacity(self.drafts.len());
        for draft in self.drafts {
            pictures.push(self.picture(&mut loaded, draft.clone(), decoder)?);
        }
        let score = if self.captions.is_empty() {
            None
        } else {
            let source_name = &directory.manifest().source;
            if !source_name.starts_with(EMBEDDED_NAME) {
                return Err(ScoreError::OtherWorld {
                    source_name: source_name.clone(),
                }
                .into());
            }
            Some(self.score(&mut loaded, &mut Reader::load(runtime)?, decoder)?)
        };
        let facts = loaded.pipeline.planner().facts();
        Ok(Drawn {
            report: ModelReport {
                name: facts.name.clone(),
                weights: facts.weights.clone(),
                digest: facts.digest.clone(),
                precision: facts.precision.clone(),
                decoder: decoder.name().to_owned(),
            },
            openvino: facts.openvino_version.clone(),
            asked_precision: app.settings().openvino.precision.to_string(),
            directory,
            score,
            pictures,
        })
    }

    fn score(&self, loaded: &mut Loaded, reader: &mut Reader, decoder: Decoder) -> Result<Score> {
        let mut verdicts = Vec::with_capacity(self.captions.len());
        for (seed, captioned) in (0..).zip(self.captions) {
            let prompt = Prompt::new(captioned.caption.as_str())?;
            let draft = RequestDraft {
                steps: self.steps,
                ..RequestDraft::new(prompt, Seed::new(seed))
            };
            let picture = self.picture(loaded, draft, decoder)?;
            let pixels = picture.pixels.ok_or(CompareError::NoPicture)?;
            verdicts.push(captioned.judge(&reader.read(&pixels)?));
        }
        Ok(Score::of(&verdicts))
    }

    fn picture(
        &self,
        loaded: &mut Loaded,
        draft: RequestDraft,
        decoder: Decoder,
    ) -> Result<Picture> {
        let draft = RequestDraft {
            decoder: Some(decoder),
            ..draft
        };
        let request: GenerateRequest = draft.complete(loaded.pipeline.planner().defaults());
        let mut eye = Eye {
            interrupt: self.interrupt,
            picture: Picture::default(),
        };
        loaded.pipeline.generate(&request, &mut eye)?;
        self.bar.advance();
        Ok(eye.picture)
    }
}

/// Keeps what a picture is made of.
struct Eye<'a> {
    interrupt: &'a Interrupt,
    picture: Picture,
}

impl Watch for Eye<'_> {
    fn cancelled(&self) -> bool {
        self.interrupt.came()
    }

    fn observe(&mut self, event: Event<'_>) {
        match event {
            Event::Stepped { latents, .. } => self.picture.latents.push(latents.to_owned()),
            Event::Decoded { image } => self.picture.pixels = to_rgb8(image).ok(),
            _ => {}
        }
    }
}

/// The same prompt, drawn by both.
pub(super) struct Both<'a> {
    pub(super) a: &'a Rgb8,
    pub(super) b: &'a Rgb8,
    latents: Vec<f64>,
}

impl Both<'_> {
    pub(super) fn report(&self, draft: &RequestDraft) -> PictureReport {
        PictureReport {
            prompt: draft.prompt.as_str().to_owned(),
            seed: draft.seed.value(),
            psnr_db: psnr(self.a, self.b),
            ssim: ssim(self.a, self.b),
            latents_cosine: self.latents.clone(),
        }
    }
}

/// The pictures of both, prompt by prompt.
pub(super) fn pairs<'a>(a: &'a Drawn, b: &'a Drawn) -> Result<Vec<Both<'a>>, CompareError> {
    a.pictures
        .iter()
        .zip(&b.pictures)
        .map(|(one, other)| {
            let (Some(a), Some(b)) = (&one.pixels, &other.pixels) else {
                return Err(CompareError::NoPicture);
            };
            let told = |picture: &Rgb8, steps: usize| {
                format!("{}x{} in {steps} steps", picture.width, picture.height)
            };
            let drawn = Pair {
                a: told(a, one.latents.len()),
                b: told(b, other.latents.len()),
            };
            if drawn.a != drawn.b {
                return Err(CompareError::DifferentPictures { drawn });
            }
            let latents = one
                .latents
                .iter()
                .zip(&other.latents)
                .map(|(one, other)| cosine(one.view(), other.view()))
                .collect();
            Ok(Both { a, b, latents })
        })
        .collect()
}
