//! Whole runs of diffusers' pipelines, in f32, against ours: text embeddings, every prediction, all latents, the picture.
//!
//! Bounds. A picture: at least 99.9 % of the bytes equal and none off by more than 2; diffusers itself, run in f64,
//! differs from its f32 run in up to 0.03 % of the bytes by 1. Everything before: cosine at least 0.999999, and a
//! maximal error of at most [`MAX_RELATIVE_ERROR`] (of predictions [`MAX_PREDICTION_ERROR`]) of the largest value, because the two runtimes add the same f32
//! products in other orders and every step of a solver carries the difference of the last.

use std::collections::BTreeMap;
use std::path::Path;

use ndarray::{ArrayView2, ArrayView4};
use pixart::domain::{
    Decoder, GenerateRequest, Guidance, ImageSize, OutputFormat, Prompt, Seed, Steps,
};
use pixart::model::WeightsFormat;
use pixart::pipeline::{Event, Generate as _, Watch};
use pixart::synthesize::{Progress, Published, Shapes, SynthesizeOptions, synthesize};
use safetensors::SafeTensors;
use sha2::{Digest as _, Sha256};

use super::f32_values;
use crate::support::{Picture, checkpoint, convert_to, decode_png, load, project};

/// Largest error of a tensor, as a share of its largest value. Steps and guidance let rounding grow: after the teacher's twelve
/// steps diffusers' own f32 run is off its f64 run by 3.1e-5, and two runs in f32 may be off by as much to either side.
const MAX_RELATIVE_ERROR: f64 = 1e-4;
/// The same of a predicted noise: its slope over the latents is one over sigma, so that the last steps carry ten times their
/// error. The last prediction of diffusers' own f32 run is off its f64 run's by 1.3e-4.
const MAX_PREDICTION_ERROR: f64 = 3e-4;
/// Smallest cosine of a tensor against the reference's.
const MIN_COSINE: f64 = 0.999_999;

/// Collects what a run computes.
#[derive(Default)]
struct Recorder(BTreeMap<String, Vec<f32>>);

impl Recorder {
    fn keep<'a>(&mut self, name: String, values: impl IntoIterator<Item = &'a f32>) {
        self.0.insert(name, values.into_iter().copied().collect());
    }
}

impl Watch for Recorder {
    fn cancelled(&self) -> bool {
        false
    }

    fn observe(&mut self, event: Event<'_>) {
        match event {
            Event::TextEncoded { prompt, negative } => {
                self.keep("prompt_embeds".to_owned(), prompt);
                if let Some(negative) = negative {
                    let negative: ArrayView2<'_, f32> = negative;
                    self.keep("negative_prompt_embeds".to_owned(), negative);
                }
            }
            Event::Predicted { step, prediction } => {
                let prediction: ArrayView4<'_, f32> = prediction;
                self.keep(format!("noise_pred.{step}"), prediction);
            }
            Event::Stepped { step, latents, .. } => self.keep(format!("latents.{step}"), latents),
            Event::TextEncoderLoaded { .. }
            | Event::TextEncoderReleased
            | Event::Decoded { .. } => {}
        }
    }
}

/// A recorded run of diffusers.
struct Case {
    file: Vec<u8>,
    parameters: BTreeMap<String, String>,
}

impl Case {
    fn read(name: &str) -> Self {
        let file =
            std::fs::read(project(&format!("tests/golden/cases/{name}.safetensors"))).unwrap();
        let (_, metadata) = SafeTensors::read_metadata(&file).unwrap();
        let parameters = metadata.metadata().clone().unwrap().into_iter().collect();
        Self { file, parameters }
    }

    fn parameter(&self, name: &str) -> &str {
        self.parameters
            .get(name)
            .unwrap_or_else(|| panic!("the fixture has no '{name}': {:?}", self.parameters.keys()))
    }

    fn number<T: std::str::FromStr>(&self, name: &str) -> T {
        let text = self.parameter(name);
        text.parse()
            .unwrap_or_else(|_| panic!("{name} is '{text}'"))
    }

    fn request(&self) -> GenerateRequest {
        GenerateRequest {
            // A case draws from the empty prompt, which a person is asked to fill and diffusers takes.
            prompt: Prompt::negative(self.parameter("prompt")).unwrap(),
            negative_prompt: Prompt::negative(self.parameter("negative_prompt")).unwrap(),
            steps: Steps::new(self.number("num_inference_steps")).unwrap(),
            guidance: Guidance::new(self.number("guidance_scale")).unwrap(),
            seed: Seed::new(self.number("seed")),
            size: ImageSize::new(self.number("width"), self.number("height")).unwrap(),
            scheduler: self.number("scheduler"),
            decoder: if self.parameters.contains_key("decoder") {
                self.number("decoder")
            } else {
                Decoder::Full
            },
            resolution_binning: self.parameter("use_resolution_binning") == "true",
            clean_caption: self.parameter("clean_caption") == "true",
            embed_prompt: false,
            output_format: OutputFormat::Png,
            output_compression: None,
        }
    }
}

/// Converts the case's checkpoint to f32 and holds that the run is diffusers'.
fn draws_what_diffusers_draws(name: &str) {
    let case = Case::read(name);
    let source = checkpoint(case.parameter("checkpoint"));
    let models = tempfile::tempdir().unwrap();
    let model = models.path().join("model");
    convert_to(source.path(), &model, WeightsFormat::F32);
    runs_like_diffusers(name, &case, &model, source.path());
}

/// The same of a checkpoint that is made here, like a published repository: the fixture has the sums of its weights.
fn draws_a_published_repository_as_diffusers_does(name: &str) {
    let case = Case::read(name);
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("source");
    let like = Published::named(case.parameter("checkpoint")).unwrap();
    let options = SynthesizeOptions {
        output: source.clone(),
        like,
        shapes: Shapes::of(like)
            .with_layers(2, 2)
            .with_width(Shapes::WIDTH_STEP),
        storage: None,
        seed: 0,
    };
    synthesize(&options, &Unwatched).unwrap();
    let mut files = 0;
    for (key, expected) in &case.parameters {
        if let Some(file) = key.strip_prefix("sha256 ") {
            let bytes = std::fs::read(source.join(file)).unwrap();
            let sum: Vec<String> = Sha256::digest(&bytes)
                .iter()
                .map(|byte| format!("{byte:02x}"))
                .collect();
            assert_eq!(
                sum.concat(),
                *expected,
                "{name}: {file} is another one than diffusers drew from"
            );
            files += 1;
        }
    }
    assert!(files >= 4, "{name}: {files}");
    let model = folder.path().join("model");
    convert_to(&source, &model, WeightsFormat::F32);
    runs_like_diffusers(name, &case, &model, &source);
}

/// A synthesis that nobody watches.
struct Unwatched;

impl Progress for Unwatched {
    fn begin(&self, _bytes: u64) {}
    fn advance(&self, _bytes: u64) {}
    fn cancelled(&self) -> bool {
        false
    }
}

fn runs_like_diffusers(name: &str, case: &Case, model: &Path, source: &Path) {
    let mut pipeline = load(model, source, "f32").pipeline;
    let mut recorder = Recorder::default();
    let generated = pipeline.generate(&case.request(), &mut recorder).unwrap();

    let tensors = SafeTensors::deserialize(&case.file).unwrap();
    let mut compared = 0;
    for tensor in tensors.names() {
        if let Some(ours) = recorder.0.get(tensor) {
            compare(
                &format!("{name}: {tensor}"),
                if tensor.starts_with("noise_pred.") {
                    MAX_PREDICTION_ERROR
                } else {
                    MAX_RELATIVE_ERROR
                },
                ours,
                &f32_values(&tensors, tensor),
            );
            compared += 1;
        }
    }
    let steps = recorder
        .0
        .keys()
        .filter(|key| key.starts_with("latents."))
        .count();
    if case.parameter("captured") == "all" {
        assert!(
            compared > 2 * steps,
            "{name}: only {compared} tensors were compared"
        );
    } else {
        assert!(compared > 0, "{name}: no tensor was compared");
    }
    compare_pictures(name, &decode_png(&generated.image), &tensors);
}

fn compare(what: &str, bound: f64, ours: &[f32], reference: &[f32]) {
    assert_eq!(
        ours.len(),
        reference.len(),
        "{what}: another number of values"
    );
    let (mut dot, mut ours_squared, mut reference_squared) = (0.0, 0.0, 0.0);
    let (mut worst, mut at, mut largest) = (0.0_f64, 0, 0.0_f64);
    for (index, (&a, &b)) in ours.iter().zip(reference).enumerate() {
        let (a, b) = (f64::from(a), f64::from(b));
        dot += a * b;
        ours_squared += a * a;
        reference_squared += b * b;
        largest = largest.max(b.abs());
        if (a - b).abs() > worst {
            (worst, at) = ((a - b).abs(), index);
        }
    }
    let cosine = dot / (ours_squared.sqrt() * reference_squared.sqrt());
    let relative = worst / largest;
    assert!(
        cosine >= MIN_COSINE && relative <= bound,
        "{what}: cosine {cosine}, max abs error {worst:e} at {at}, {relative:e} of the largest value {largest}"
    );
    eprintln!(
        "{what}: cosine 1-{:.1e}, max abs error {worst:.1e} ({relative:.1e} of the largest)",
        1.0 - cosine
    );
}

fn compare_pictures(name: &str, ours: &Picture, tensors: &SafeTensors<'_>) {
    let reference = tensors.tensor("image").unwrap();
    assert_eq!([ours.height, ours.width, 3], reference.shape(), "{name}");
    let differences: Vec<u8> = ours
        .rgb
        .iter()
        .zip(reference.data())
        .map(|(a, b)| a.abs_diff(*b))
        .collect();
    let different = differences.iter().filter(|&&by| by != 0).count();
    let share = 1.0 - different as f64 / differences.len() as f64;
    let worst = differences.iter().max().copied().unwrap_or(0);
    eprintln!(
        "{name}: {:.3} % of the bytes equal, none off by more than {worst}",
        share * 100.0
    );
    assert!(
        share >= 0.999 && worst <= 2,
        "{name}: {share} of the bytes equal, worst {worst}"
    );
}

macro_rules! cases {
    ($draws:ident: $($test:ident: $name:literal,)+) => {
        $(
            #[test]
            fn $test() {
                $draws($name);
            }
        )+
    };
}

cases! {
    draws_what_diffusers_draws:
    sketchbook_draws_the_cactus_in_four_lcm_steps: "sketchbook-lcm-cactus",
    sketchbook_draws_wide_pictures: "sketchbook-lcm-wide",
    sketchbook_draws_by_its_tiny_decoder: "sketchbook-tiny-decoder",
    sketchbook_draws_at_a_bin_then_resizes_and_crops: "sketchbook-binned",
    the_teacher_draws_with_guidance_and_a_negative_prompt: "sketchbook-teacher-dpm",
    the_teacher_draws_tall_pictures: "sketchbook-teacher-tall",
    an_alpha_with_micro_conditions_draws_with_lcm: "tiny-alpha-lcm",
    an_alpha_with_micro_conditions_draws_with_dpm_solver: "tiny-alpha-dpm",
    an_alpha_without_micro_conditions_in_f16_shards_draws_with_dpm_solver: "tiny-alpha-plain-dpm",
    an_alpha_without_micro_conditions_in_f16_shards_draws_with_lcm: "tiny-alpha-plain-lcm",
    a_sigma_in_bf16_shards_draws_at_a_bin: "tiny-sigma-dpm",
    a_sigma_reads_three_hundred_tokens: "tiny-sigma-long",
}

cases! {
    draws_a_published_repository_as_diffusers_does:
    pixart_xl_2_1024_ms: "published-alpha-1024",
    pixart_xl_2_512x512: "published-alpha-512",
    pixart_xl_2_256x256: "published-alpha-256",
    pixart_xl_2_sam_256x256_at_a_bin: "published-alpha-sam-256",
    pixart_lcm_xl_2_1024_ms: "published-alpha-lcm-1024",
    pixart_sigma_xl_2_1024_ms: "published-sigma-1024",
}

#[test]
fn ir_traced_by_python_draws_what_diffusers_draws() {
    let case = Case::read("traced-tiny-alpha");
    let source = checkpoint(case.parameter("checkpoint"));
    runs_like_diffusers(
        "traced-tiny-alpha",
        &case,
        &project("tests/golden/traced"),
        source.path(),
    );
}
