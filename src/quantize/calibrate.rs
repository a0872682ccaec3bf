//! Calibration: drawing pictures so that the ranges of a network's values can be seen.
//!
//! An 8-bit integer has 256 levels. Weights are known, so their levels can be spread over just the range that they have. What
//! flows between layers depends on the picture, and where its range is chosen too wide the levels are far apart, where too
//! narrow the largest values are cut off. So before it is quantised the model draws pictures of captions as people write them,
//! by the real pipeline and over all of its steps: a transformer sees noise in the first and nearly a picture in the last, and
//! its values differ as much. Meanwhile every network that is to compute in integers tells the extremes of every value that
//! will be one.
//!
//! A picture counts as a whole or not at all: what one that was stopped midway has shown is taken back.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::path::Path;
use std::rc::Rc;
use std::time::Instant;

use super::statistics::Statistics;
use super::{QuantizeError, QuantizeProgress};
use crate::domain::GenerateRequest;
use crate::pipeline::{Event, Generate, PipelineError, Watch};

/// Pictures between two savings: what an interruption loses at most.
const SAVE_EVERY: u32 = 4;

/// Images whose prompts are read together, before the first of them is drawn: a text encoder that does not fit beside what draws is
/// loaded once for so many. Their embeddings are 126 MB of a published α model at the most, 315 MB of a Σ.
pub const READ_TOGETHER: usize = 32;

/// Draws the pictures of `requests` that `statistics` do not have yet, with a pipeline whose networks fold into them, and keeps
/// them in `file` on the way.
///
/// # Errors
/// When a picture cannot be drawn, the statistics cannot be kept, or the caller asked to stop; the pictures that were whole
/// by then are kept.
pub fn calibrate(
    pipeline: &mut dyn Generate,
    requests: &[GenerateRequest],
    statistics: &Rc<RefCell<Statistics>>,
    file: Option<&Path>,
    progress: &dyn QuantizeProgress,
) -> Result<(), QuantizeError> {
    let save = || match file {
        Some(path) => statistics.borrow().save(path),
        None => Ok(()),
    };
    let done = statistics.borrow().samples();
    progress.calibrating(done, u32::try_from(requests.len()).unwrap_or(u32::MAX));
    let left = requests.get(done as usize..).unwrap_or_default();
    if left.is_empty() {
        return Ok(());
    }
    // A file that cannot be written is told now, not after the minutes of the first pictures.
    save()?;
    // Networks were compiled before, which looks at nothing.
    if progress.cancelled() {
        return Err(QuantizeError::Cancelled);
    }
    for together in left.chunks(READ_TOGETHER) {
        if let Err(error) = read(pipeline, together, progress) {
            save()?;
            return Err(error);
        }
        for request in together {
            let before = statistics.borrow().clone();
            let drawn = pipeline.generate(request, &mut Stop(progress));
            if let Err(error) = drawn {
                statistics.replace(before);
                save()?;
                return Err(stopped(error));
            }
            statistics.borrow_mut().sampled();
            progress.sampled();
            if statistics.borrow().samples().is_multiple_of(SAVE_EVERY) {
                save()?;
            }
        }
    }
    Ok(save()?)
}

/// Reads the prompts of `requests`, and has the text encoder leave memory before anything is drawn.
fn read(
    pipeline: &mut dyn Generate,
    requests: &[GenerateRequest],
    progress: &dyn QuantizeProgress,
) -> Result<(), QuantizeError> {
    let mut known = BTreeSet::new();
    for request in requests {
        let negative = request.guidance.is_active();
        let prompts = negative.then_some(&request.negative_prompt).into_iter();
        for prompt in prompts.chain([&request.prompt]) {
            if known.insert(prompt.as_str()) {
                let read = pipeline.read_ahead(prompt, &mut Stop(progress));
                read.map_err(stopped)?;
            }
        }
    }
    pipeline.rest(Instant::now());
    Ok(())
}

fn stopped(error: PipelineError) -> QuantizeError {
    match error {
        PipelineError::Cancelled => QuantizeError::Cancelled,
        error => error.into(),
    }
}

/// Draws the pictures of `requests`, whose networks tell somebody else what is to be told.
///
/// # Errors
/// When a picture cannot be drawn, or the caller asked to stop.
pub fn draw_all(
    pipeline: &mut dyn Generate,
    requests: &[GenerateRequest],
    progress: &dyn QuantizeProgress,
) -> Result<(), QuantizeError> {
    progress.calibrating(0, u32::try_from(requests.len()).unwrap_or(u32::MAX));
    for together in requests.chunks(READ_TOGETHER) {
        read(pipeline, together, progress)?;
        for request in together {
            if progress.cancelled() {
                return Err(QuantizeError::Cancelled);
            }
            let drawn = pipeline.generate(request, &mut Stop(progress));
            drawn.map_err(stopped)?;
            progress.sampled();
        }
    }
    Ok(())
}

/// A picture that nobody looks at, and that stops with the calibration.
struct Stop<'a>(&'a dyn QuantizeProgress);

impl Watch for Stop<'_> {
    fn cancelled(&self) -> bool {
        self.0.cancelled()
    }

    fn observe(&mut self, _: Event<'_>) {}
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::time::Duration;

    use super::*;
    use crate::convert::Progress;
    use crate::domain::{
        Decoder, Generated, Guidance, ImageSize, Prompt, Receipt, RequestDefaults, RequestDraft,
        SchedulerKind, Seed, Timings,
    };
    use crate::engine::EngineError;
    use crate::pipeline::AtRest;
    use crate::quantize::statistics::Reduction;
    use crate::quantize::{StatisticsError, StatisticsKey};

    /// Asks to stop once so many pictures are done, and remembers what it was told.
    struct Told {
        stop_after: u32,
        sampled: AtomicU32,
        begun: Mutex<Vec<(u32, u32)>>,
    }

    impl Told {
        fn stopping_after(pictures: u32) -> Self {
            Self {
                stop_after: pictures,
                sampled: AtomicU32::new(0),
                begun: Mutex::default(),
            }
        }
    }

    impl Progress for Told {
        fn begin(&self, _component: &str, _bytes: u64) {}
        fn advance(&self, _bytes: u64) {}
        fn unchanged(&self, _component: &str) {}
        fn cancelled(&self) -> bool {
            self.sampled.load(Ordering::Relaxed) >= self.stop_after
        }
    }

    impl QuantizeProgress for Told {
        fn calibrating(&self, done: u32, samples: u32) {
            self.begun.lock().unwrap().push((done, samples));
        }

        fn sampled(&self) {
            self.sampled.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Three steps a picture, each of which shows numbers that no other has; it looks at cancellation behind the second.
    struct Drawing {
        statistics: Rc<RefCell<Statistics>>,
        seeds: Vec<u64>,
        breaks_at: Option<u64>,
    }

    impl Generate for Drawing {
        fn generate(
            &mut self,
            request: &GenerateRequest,
            watch: &mut dyn Watch,
        ) -> Result<Generated, PipelineError> {
            let seed = request.seed.value();
            self.seeds.push(seed);
            for step in 0_u16..3 {
                if step == 2 && watch.cancelled() {
                    return Err(PipelineError::Cancelled);
                }
                if step == 2 && self.breaks_at == Some(seed) {
                    return Err(PipelineError::Engine {
                        stage: "transformer",
                        source: EngineError::Runtime("no memory".to_owned()),
                    });
                }
                let value = f32::from(u16::try_from(seed).unwrap()).sin() / (f32::from(step) + 0.3);
                let mut statistics = self.statistics.borrow_mut();
                for (reduction, value) in [
                    (Reduction::RowsMin, -value.abs()),
                    (Reduction::RowsMax, value),
                    (Reduction::ChannelsMax, value.abs()),
                ] {
                    statistics.fold("transformer", 0, reduction, &[value, value / 3.0]);
                }
            }
            Ok(Generated {
                image: Vec::new(),
                timings: Timings::default(),
                receipt: Receipt {
                    request: request.clone(),
                    drawn_size: request.size,
                    model: String::new(),
                    weights: String::new(),
                    device: String::new(),
                    precision: String::new(),
                    processor: None,
                    model_digest: String::new(),
                    openvino_version: String::new(),
                },
                warnings: Vec::new(),
            })
        }
    }

    fn requests(count: u64) -> Vec<GenerateRequest> {
        let defaults = RequestDefaults {
            scheduler: SchedulerKind::Lcm,
            decoder: Decoder::Full,
            size: ImageSize::new(64, 64).unwrap(),
            resolution_binning: false,
        };
        (0..count)
            .map(|seed| {
                let prompt = Prompt::new("a fox").unwrap();
                RequestDraft::new(prompt, Seed::new(seed)).complete(&defaults)
            })
            .collect()
    }

    fn nothing_seen() -> Statistics {
        let key = StatisticsKey {
            model_digest: "model".to_owned(),
            captions_digest: "captions".to_owned(),
            steps: 3,
            size: "64x64".to_owned(),
            as_asked: false,
            seed: 0,
            precision: "f32".to_owned(),
        };
        let points = vec!["block/Add_1".to_owned()];
        Statistics::new(key, &[("transformer".to_owned(), points)])
    }

    /// Calibrates on ten pictures from `statistics` on. Returns the outcome, what was seen, and the seeds that were drawn.
    fn run(
        statistics: Statistics,
        file: Option<&Path>,
        told: &Told,
        breaks_at: Option<u64>,
    ) -> (Result<(), QuantizeError>, Statistics, Vec<u64>) {
        let statistics = Rc::new(RefCell::new(statistics));
        let mut drawing = Drawing {
            statistics: Rc::clone(&statistics),
            seeds: Vec::new(),
            breaks_at,
        };
        let outcome = calibrate(&mut drawing, &requests(10), &statistics, file, told);
        let seen = statistics.borrow().clone();
        (outcome, seen, drawing.seeds)
    }

    fn undisturbed() -> Statistics {
        let told = Told::stopping_after(u32::MAX);
        let (outcome, seen, seeds) = run(nothing_seen(), None, &told, None);
        outcome.unwrap();
        assert_eq!(seeds, (0..10).collect::<Vec<u64>>());
        assert_eq!(*told.begun.lock().unwrap(), [(0, 10)]);
        seen
    }

    #[test]
    fn wherever_it_is_interrupted_it_goes_on_to_the_same_numbers() {
        let whole = undisturbed();
        assert_eq!(whole.samples(), 10);
        for pictures in 0_u32..10 {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("statistics.json");
            let told = Told::stopping_after(pictures);
            let (outcome, seen, _) = run(nothing_seen(), Some(&path), &told, None);
            assert!(matches!(outcome, Err(QuantizeError::Cancelled)));
            // The picture that was stopped behind its second step is in neither.
            let kept = Statistics::kept(&path, nothing_seen()).unwrap();
            assert_eq!(kept, seen);
            assert_eq!(kept.samples(), pictures);

            let told = Told::stopping_after(u32::MAX);
            let (outcome, seen, seeds) = run(kept, Some(&path), &told, None);
            outcome.unwrap();
            assert_eq!(seeds.first(), Some(&u64::from(pictures)));
            assert_eq!(*told.begun.lock().unwrap(), [(pictures, 10)]);
            assert_eq!(seen, whole, "after {pictures}");
            assert_eq!(Statistics::kept(&path, nothing_seen()).unwrap(), whole);
        }
    }

    #[test]
    fn a_picture_that_fails_is_told_and_those_before_it_are_kept() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("statistics.json");
        let told = Told::stopping_after(u32::MAX);
        let (outcome, _, _) = run(nothing_seen(), Some(&path), &told, Some(6));
        let error = outcome.unwrap_err();
        assert!(matches!(error, QuantizeError::Pipeline(_)), "{error}");
        let kept = Statistics::kept(&path, nothing_seen()).unwrap();
        assert_eq!(kept.samples(), 6);
        let (outcome, seen, _) = run(kept, Some(&path), &told, None);
        outcome.unwrap();
        assert_eq!(seen, undisturbed());
    }

    #[test]
    fn what_has_all_its_pictures_is_taken_as_it_is() {
        let told = Told::stopping_after(u32::MAX);
        // It need not be in a folder that can be written to.
        let path = Path::new("/no/such/folder/statistics.json");
        let (outcome, seen, seeds) = run(undisturbed(), Some(path), &told, None);
        outcome.unwrap();
        assert!(seeds.is_empty());
        assert_eq!(seen, undisturbed());
    }

    #[test]
    fn a_process_that_is_killed_loses_the_pictures_since_the_last_saving_at_most() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("statistics.json");
        let statistics = Rc::new(RefCell::new(nothing_seen()));
        let mut drawing = Looking {
            drawing: Drawing {
                statistics: Rc::clone(&statistics),
                seeds: Vec::new(),
                breaks_at: None,
            },
            path: &path,
            kept: Vec::new(),
        };
        let told = Told::stopping_after(u32::MAX);
        calibrate(&mut drawing, &requests(10), &statistics, Some(&path), &told).unwrap();
        assert_eq!(drawing.kept, [0, 0, 0, 0, 4, 4, 4, 4, 8, 8]);
    }

    /// Looks at what is kept before each picture.
    struct Looking<'a> {
        drawing: Drawing,
        path: &'a Path,
        kept: Vec<u32>,
    }

    impl Generate for Looking<'_> {
        fn generate(
            &mut self,
            request: &GenerateRequest,
            watch: &mut dyn Watch,
        ) -> Result<Generated, PipelineError> {
            let kept = Statistics::kept(self.path, nothing_seen()).unwrap();
            self.kept.push(kept.samples());
            self.drawing.generate(request, watch)
        }
    }

    /// Notes what it is asked for; the text encoder is in memory from the first prompt that is read until it rests.
    #[derive(Default)]
    struct Noting {
        notes: Vec<String>,
        has_text_encoder: bool,
    }

    impl Generate for Noting {
        fn generate(
            &mut self,
            request: &GenerateRequest,
            watch: &mut dyn Watch,
        ) -> Result<Generated, PipelineError> {
            assert!(!self.has_text_encoder, "nothing is drawn beside it");
            self.notes.push(format!("draw {}", request.seed.value()));
            let statistics = Rc::new(RefCell::new(nothing_seen()));
            let mut drawing = Drawing {
                statistics,
                seeds: Vec::new(),
                breaks_at: None,
            };
            drawing.generate(request, watch)
        }

        fn read_ahead(
            &mut self,
            prompt: &Prompt,
            watch: &mut dyn Watch,
        ) -> Result<Duration, PipelineError> {
            if watch.cancelled() {
                return Err(PipelineError::Cancelled);
            }
            self.has_text_encoder = true;
            self.notes.push(format!("read {}", prompt.as_str()));
            Ok(Duration::ZERO)
        }

        fn rest(&mut self, _now: Instant) -> AtRest {
            self.has_text_encoder = false;
            self.notes.push("rest".to_owned());
            AtRest::default()
        }
    }

    #[test]
    fn prompts_are_read_together_and_the_text_encoder_leaves_before_anything_is_drawn() {
        let many = READ_TOGETHER as u64 + 2;
        let mut requests = requests(many);
        let other = Prompt::new("a cat").unwrap();
        requests[1].prompt = other.clone();
        requests[2].guidance = Guidance::new(4.5).unwrap();
        requests[2].negative_prompt = other;
        let statistics = Rc::new(RefCell::new(nothing_seen()));
        let told = Told::stopping_after(u32::MAX);
        let expected = |last: u64| -> Vec<String> {
            let draw = |seeds: std::ops::Range<u64>| seeds.map(|seed| format!("draw {seed}"));
            // Each prompt once, a negative one where there is guidance.
            let first = ["read a fox", "read a cat", "rest"].map(str::to_owned);
            let then = ["read a fox", "rest"].map(str::to_owned);
            let whole = first.into_iter().chain(draw(0..last.min(32)));
            let then = then.into_iter().chain(draw(32..last));
            whole
                .chain(then.take(if last > 32 { usize::MAX } else { 0 }))
                .collect()
        };
        let mut noting = Noting::default();
        calibrate(&mut noting, &requests, &statistics, None, &told).unwrap();
        assert_eq!(noting.notes, expected(many));
        let mut noting = Noting::default();
        draw_all(&mut noting, &requests[..4], &told).unwrap();
        assert_eq!(noting.notes, expected(4));
        // Who stops meanwhile is not told of an image that failed.
        let stopped = Told::stopping_after(0);
        let stopped = draw_all(&mut Noting::default(), &requests, &stopped);
        assert!(matches!(stopped, Err(QuantizeError::Cancelled)));
    }

    #[test]
    fn a_file_that_cannot_be_written_is_told_before_anything_is_drawn() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("no/statistics.json");
        let told = Told::stopping_after(u32::MAX);
        let (outcome, _, seeds) = run(nothing_seen(), Some(&path), &told, None);
        assert!(matches!(
            outcome,
            Err(QuantizeError::Statistics(StatisticsError::File { .. }))
        ));
        assert!(seeds.is_empty());
        assert!(fs::read_dir(folder.path()).unwrap().next().is_none());
    }
}
