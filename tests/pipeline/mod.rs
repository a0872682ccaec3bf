//! A whole pipeline around networks that answer what a test tells them to: what no good model does, and what is said of it.

mod preview;
mod prompts;
mod residency;

use std::cell::Cell;
use std::collections::BTreeMap;
use std::fs;
use std::sync::Arc;

use pixart::domain::{
    Decoder, GenerateRequest, Generated, Guidance, ImageSize, OutputFormat, Processor, Prompt,
    RequestDefaults, SchedulerKind, Seed, Steps, Warning,
};
use pixart::engine::{Graph, Tensor};
use pixart::model::{PipelineClass, SchedulerConfig};
use pixart::pipeline::tokenizer::PromptTokenizer;
use pixart::pipeline::{
    Event, Generate as _, ModelFacts, Networks, Pipeline, PipelineError, Planner, Unwatched, Watch,
};

use crate::support::fake_graph::{FakeGraph, ShapeOf};
use crate::support::{decode_png, project, shapes};

const CHANNELS: usize = 4;
const FACTOR: usize = 8;
/// Of the text embeddings.
const WIDTH: usize = 6;

fn facts() -> ModelFacts {
    ModelFacts {
        name: "fake".to_owned(),
        weights: "f16".to_owned(),
        device: "CPU".to_owned(),
        precision: "bf16".to_owned(),
        processor: Some(Processor {
            instruction_set: "AVX2 FMA".to_owned(),
            threads: 2,
        }),
        digest: "digest".to_owned(),
        openvino_version: "none".to_owned(),
        class: PipelineClass::Alpha,
        sample_size: 16,
        patch_size: 2,
        latent_channels: CHANNELS,
        micro_conditions: false,
        vae_scale_factor: FACTOR,
        vae_scaling_factor: 0.5,
        tiny_vae_scaling_factor: None,
        frozen_grid: None,
        shapes: shapes(),
    }
}

fn request() -> GenerateRequest {
    GenerateRequest {
        prompt: Prompt::new("a red circle").unwrap(),
        negative_prompt: Prompt::negative("").unwrap(),
        steps: Steps::new(3).unwrap(),
        guidance: Guidance::new(4.5).unwrap(),
        seed: Seed::new(7),
        size: ImageSize::new(48, 32).unwrap(),
        scheduler: SchedulerKind::DpmSolverPlusPlus,
        decoder: Decoder::Full,
        resolution_binning: false,
        clean_caption: false,
        embed_prompt: false,
        output_format: OutputFormat::Png,
        output_compression: None,
    }
}

/// A tensor of one value all over.
fn full(shape: Vec<usize>, value: f32) -> Tensor {
    let count = shape.iter().product();
    Tensor::f32(shape, vec![value; count])
}

/// One value at `at`, zeros elsewhere.
fn zeros_but(shape: Vec<usize>, at: usize, value: f32) -> Tensor {
    let mut values = vec![0.0; shape.iter().product()];
    values[at] = value;
    Tensor::f32(shape, values)
}

fn text_shape(shape_of: ShapeOf<'_>) -> Vec<usize> {
    vec![1, shape_of("input_ids")[1], WIDTH]
}

fn prediction_shape(shape_of: ShapeOf<'_>) -> Vec<usize> {
    let mut shape = shape_of("hidden_states");
    shape[1] = 2 * CHANNELS;
    shape
}

fn picture_shape(shape_of: ShapeOf<'_>) -> Vec<usize> {
    let shape = shape_of("latents");
    vec![1, 3, shape[2] * FACTOR, shape[3] * FACTOR]
}

fn good_text_encoder() -> Box<dyn Graph> {
    FakeGraph::boxed(|_, shape_of| full(text_shape(shape_of), 0.5))
}

fn good_transformer() -> Box<dyn Graph> {
    FakeGraph::boxed(|_, shape_of| full(prediction_shape(shape_of), 0.1))
}

fn good_vae_decoder() -> Box<dyn Graph> {
    FakeGraph::boxed(|_, shape_of| full(picture_shape(shape_of), 0.2))
}

fn good() -> Networks {
    Networks {
        text_encoder: good_text_encoder(),
        transformer: good_transformer(),
        vae_decoder: good_vae_decoder(),
        tiny_vae_decoder: None,
    }
}

fn pipeline(networks: Networks, facts: ModelFacts) -> Pipeline {
    let sketchbook = project("models/sketchbook");
    let spiece = fs::read(sketchbook.join("tokenizer/spiece.model")).unwrap();
    let scheduler = fs::read_to_string(sketchbook.join("scheduler/scheduler_config.json")).unwrap();
    let scheduler = SchedulerConfig::from_json(&scheduler).unwrap();
    let defaults = RequestDefaults {
        scheduler: scheduler.kind(),
        decoder: Decoder::Full,
        size: ImageSize::new(48, 32).unwrap(),
        resolution_binning: false,
    };
    let tokenizer = PromptTokenizer::from_sentencepiece(&spiece, 120).unwrap();
    let planner = Planner::new(tokenizer, scheduler, facts, defaults);
    Pipeline::new(Arc::new(planner), networks)
}

fn drawn(networks: Networks) -> Result<Generated, PipelineError> {
    pipeline(networks, facts()).generate(&request(), &mut Unwatched)
}

/// Holds that no picture came, but the error of `stage` with `count` values.
#[track_caller]
fn not_finite(outcome: Result<Generated, PipelineError>, stage: &str, count: usize) {
    let Err(error) = outcome else {
        panic!("a picture was drawn in spite of the {stage}");
    };
    let message = error.to_string();
    match error {
        PipelineError::NotFinite {
            stage: found_stage,
            count: found_count,
            ..
        } => assert_eq!((found_stage.as_str(), found_count), (stage, count)),
        other => panic!("{other}"),
    }
    assert!(message.starts_with(stage), "{message}");
    assert!(message.contains("--precision f32"), "{message}");
}

/// Holds that no picture came, but the error of `stage` about `shape`.
#[track_caller]
fn wrong_shape(outcome: Result<Generated, PipelineError>, stage: &str, shape: &[usize]) {
    match outcome {
        Err(PipelineError::Shape {
            stage: found_stage,
            got,
            ..
        }) => assert_eq!((found_stage, got.as_slice()), (stage, shape)),
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("a picture was drawn in spite of the {stage}"),
    }
}

#[test]
fn good_networks_give_a_png_with_its_receipt() {
    let picture = drawn(good()).unwrap();
    assert_eq!(picture.warnings, [Warning::FlatPicture]);
    assert_eq!(picture.timings.steps.len(), 3);
    let decoded = decode_png(&picture.image);
    assert_eq!((decoded.width, decoded.height), (48, 32));
    // 0.2 / 2 + 0.5 of 255.
    assert!(decoded.rgb.iter().all(|&byte| byte == 153));
    let receipt: BTreeMap<String, String> = picture
        .receipt
        .fields()
        .into_iter()
        .map(|(name, value)| (format!("pixart:{name}"), value))
        .collect();
    assert_eq!(receipt["pixart:model"], "fake");
    assert_eq!(decoded.text, receipt);
}

#[test]
fn the_receipt_has_everything_that_decides_the_bytes() {
    let fields = |request: &GenerateRequest, facts: ModelFacts| -> BTreeMap<_, _> {
        let picture = pipeline(good(), facts).generate(request, &mut Unwatched);
        picture.unwrap().receipt.fields().into_iter().collect()
    };
    let plain = fields(&request(), facts());
    for (field, value) in [
        ("resolution_binning", "false"),
        ("clean_caption", "false"),
        ("device", "CPU"),
        ("weights", "f16"),
    ] {
        assert_eq!(plain[field], value, "{field}");
    }
    let request = GenerateRequest {
        resolution_binning: true,
        clean_caption: true,
        size: ImageSize::new(256, 256).unwrap(),
        ..request()
    };
    let other = fields(
        &request,
        ModelFacts {
            sample_size: 32,
            device: "GPU.1".to_owned(),
            ..facts()
        },
    );
    assert_eq!(other["resolution_binning"], "true");
    assert_eq!(other["clean_caption"], "true");
    assert_eq!(other["device"], "GPU.1");
}

#[test]
fn a_text_encoder_that_gives_nan_is_named() {
    let text_encoder = FakeGraph::boxed(|_, shape_of| zeros_but(text_shape(shape_of), 3, f32::NAN));
    let networks = Networks {
        text_encoder,
        ..good()
    };
    not_finite(drawn(networks), "text encoder", 1);
}

#[test]
fn a_transformer_that_gives_nan_is_named_with_its_step() {
    let transformer = FakeGraph::boxed(|call, shape_of| {
        let value = if call == 1 { f32::NAN } else { 0.1 };
        zeros_but(prediction_shape(shape_of), 5, value)
    });
    let networks = Networks {
        transformer,
        ..good()
    };
    not_finite(drawn(networks), "transformer, step 2", 1);
}

#[test]
fn latents_that_the_scheduler_makes_infinite_are_named_with_their_step() {
    // Finite, and beyond f32 once it is divided by the signal's small share in the first step.
    let transformer =
        FakeGraph::boxed(|_, shape_of| zeros_but(prediction_shape(shape_of), 0, f32::MAX));
    let networks = Networks {
        transformer,
        ..good()
    };
    not_finite(drawn(networks), "scheduler, step 1", 1);
}

#[test]
fn a_vae_decoder_that_gives_nan_or_infinity_is_named() {
    for value in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let vae_decoder =
            FakeGraph::boxed(move |_, shape_of| zeros_but(picture_shape(shape_of), 100, value));
        let networks = Networks {
            vae_decoder,
            ..good()
        };
        not_finite(drawn(networks), "VAE decoder", 1);
    }
}

#[test]
fn f32_is_not_advised_to_who_computes_in_f32() {
    for (precision, advised) in [("f32", false), ("bf16", true), ("f16", true)] {
        let vae_decoder = FakeGraph::boxed(|_, shape_of| full(picture_shape(shape_of), f32::NAN));
        let networks = Networks {
            vae_decoder,
            ..good()
        };
        let facts = ModelFacts {
            precision: precision.to_owned(),
            ..facts()
        };
        let error = pipeline(networks, facts)
            .generate(&request(), &mut Unwatched)
            .unwrap_err()
            .to_string();
        assert_eq!(error.contains("--precision f32"), advised, "{error}");
        assert!(error.contains("weights are damaged"), "{error}");
    }
}

#[test]
fn outputs_of_another_shape_are_named() {
    let text_encoder = FakeGraph::boxed(|_, _| full(vec![1, 2, WIDTH], 0.0));
    let networks = Networks {
        text_encoder,
        ..good()
    };
    wrong_shape(drawn(networks), "text encoder", &[1, 2, WIDTH]);

    for shape in [
        vec![1, 2 * CHANNELS, 4, 6],
        vec![2, CHANNELS + 1, 4, 6],
        vec![2, CHANNELS - 1, 4, 6],
        vec![2, CHANNELS, 6, 4],
        vec![2, CHANNELS, 24],
    ] {
        let answer = shape.clone();
        let transformer = FakeGraph::boxed(move |_, _| full(answer.clone(), 0.0));
        let networks = Networks {
            transformer,
            ..good()
        };
        wrong_shape(drawn(networks), "transformer", &shape);
    }

    for shape in [vec![1, 3, 48, 32], vec![1, 4, 32, 48], vec![3, 32, 48]] {
        let answer = shape.clone();
        let vae_decoder = FakeGraph::boxed(move |_, _| full(answer.clone(), 0.0));
        let networks = Networks {
            vae_decoder,
            ..good()
        };
        wrong_shape(drawn(networks), "VAE decoder", &shape);
    }
}

#[test]
fn integers_where_floats_belong_are_an_error_of_that_network() {
    let vae_decoder = FakeGraph::boxed(|_, shape_of| {
        let shape = picture_shape(shape_of);
        let count = shape.iter().product();
        Tensor::i64(shape, vec![0; count])
    });
    let networks = Networks {
        vae_decoder,
        ..good()
    };
    let error = drawn(networks).map(|_| ()).unwrap_err();
    assert!(
        matches!(
            error,
            PipelineError::Engine {
                stage: "VAE decoder",
                ..
            }
        ),
        "{error}"
    );
}

/// Stops after so many steps.
struct StopAfter {
    steps: usize,
    seen: Cell<usize>,
}

impl Watch for StopAfter {
    fn cancelled(&self) -> bool {
        self.seen.get() >= self.steps
    }

    fn observe(&mut self, event: Event<'_>) {
        if let Event::Stepped { step, .. } = event {
            self.seen.set(step + 1);
        }
    }
}

#[test]
fn the_wish_to_stop_is_heard_before_between_and_after_the_steps() {
    for steps in 0..=3 {
        let mut watch = StopAfter {
            steps,
            seen: Cell::new(0),
        };
        let outcome = pipeline(good(), facts()).generate(&request(), &mut watch);
        assert!(
            matches!(outcome, Err(PipelineError::Cancelled)),
            "after {steps} steps"
        );
        assert_eq!(watch.seen.get(), steps);
    }
}

#[test]
fn alpha_has_no_bins_at_2048_px_and_sigma_has() {
    for (class, bins) in [(PipelineClass::Alpha, false), (PipelineClass::Sigma, true)] {
        let facts = ModelFacts {
            class,
            sample_size: 256,
            ..facts()
        };
        let request = GenerateRequest {
            resolution_binning: true,
            ..request()
        };
        // Stopped as soon as the size is known: 2048 px are many.
        let mut watch = StopAfter {
            steps: 0,
            seen: Cell::new(0),
        };
        match pipeline(good(), facts).generate(&request, &mut watch) {
            Err(PipelineError::NoBins { sample_size: 256 }) => assert!(!bins),
            Err(PipelineError::Cancelled) => assert!(bins),
            other => panic!("{:?}", other.map(|_| ())),
        }
    }
}

#[test]
fn pixels_are_made_by_the_decoder_that_is_asked_for() {
    let tiny = || {
        Some(FakeGraph::boxed(|_, shape_of| {
            full(picture_shape(shape_of), -0.6)
        }))
    };
    let with_tiny = || ModelFacts {
        tiny_vae_scaling_factor: Some(1.0),
        ..facts()
    };
    let drawn_by = |decoder| {
        let networks = Networks {
            tiny_vae_decoder: tiny(),
            ..good()
        };
        let request = GenerateRequest {
            decoder,
            ..request()
        };
        let picture = pipeline(networks, with_tiny())
            .generate(&request, &mut Unwatched)
            .unwrap();
        let fields = picture.receipt.fields();
        assert!(fields.contains(&("decoder", decoder.name().to_owned())));
        decode_png(&picture.image).rgb[0]
    };
    // 0.2 and -0.6 of -1 to 1.
    assert_eq!(drawn_by(Decoder::Full), 153);
    assert_eq!(drawn_by(Decoder::Tiny), 51);

    let request = GenerateRequest {
        decoder: Decoder::Tiny,
        ..request()
    };
    let error = pipeline(good(), facts())
        .generate(&request, &mut Unwatched)
        .unwrap_err();
    assert!(error.to_string().contains("decoder is tiny"), "{error}");
}

/// Wants the preview of one step, and keeps what comes.
struct OnePreview(Vec<Option<f32>>);

impl Watch for OnePreview {
    fn cancelled(&self) -> bool {
        false
    }

    fn wants_preview(&self, step: usize) -> bool {
        step == 1
    }

    fn observe(&mut self, event: Event<'_>) {
        if let Event::Stepped { preview, .. } = event {
            self.0.push(preview.map(|preview| preview[[0, 0, 0, 0]]));
        }
    }
}

#[test]
fn previews_are_the_tiny_decoders_where_there_is_one_and_never_stop_a_picture() {
    let with_tiny = ModelFacts {
        tiny_vae_scaling_factor: Some(1.0),
        ..facts()
    };
    for (tiny, expected) in [
        (Some(-0.6), vec![None, Some(-0.6), None]),
        (Some(f32::NAN), vec![None; 3]),
        (None, vec![None; 3]),
    ] {
        let networks = Networks {
            tiny_vae_decoder: tiny.map(|value| {
                FakeGraph::boxed(move |_, shape_of| full(picture_shape(shape_of), value))
            }),
            ..good()
        };
        let facts = if tiny.is_some() {
            with_tiny.clone()
        } else {
            facts()
        };
        let mut watch = OnePreview(Vec::new());
        pipeline(networks, facts)
            .generate(&request(), &mut watch)
            .unwrap();
        assert_eq!(watch.0, expected);
    }
}
