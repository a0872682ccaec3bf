//! What smaller weights and quicker arithmetic cost in quality: `cargo bench --bench quality`.
//!
//! Sketchbook draws the same eight prompts with the same seeds in every weights format and precision; each picture is
//! held against the one of f32 weights in f32 arithmetic, which is the one that diffusers draws. Printed are the size of
//! the model, the PSNR of the pictures (mean and worst, in dB) and the smallest cosine of the last latents.
#![expect(clippy::print_stdout, reason = "a benchmark prints its table")]
#![allow(
    clippy::unwrap_used,
    reason = "a benchmark that cannot run says so by panicking"
)]

use std::path::Path;

use pixart::app::App;
use pixart::config::{Environment, Settings};
use pixart::convert::{ComponentWeights, ConvertOptions, Progress, convert};
use pixart::domain::{ImageSize, Prompt, RequestDraft, SchedulerKind, Seed};
use pixart::model::{NotebookFiles, WeightsFormat};
use pixart::pipeline::{Event, Generate as _, Watch};

const PROMPTS: [&str; 8] = [
    "A small cactus with a happy face in the Sahara desert.",
    "A big red rocket flying in outer space",
    "a white sailboat on the ocean at sunset",
    "An orange cat with a happy face on the grass",
    "Tiny pink house in the mountains in the evening",
    "a gloomy green star in the night sky",
    "big white flower with a big smile, meadow, sunset",
    "A green tree in winter, night",
];
const FORMATS: [WeightsFormat; 4] = [
    WeightsFormat::F32,
    WeightsFormat::F16,
    WeightsFormat::Int8,
    WeightsFormat::Int4,
];
const PRECISIONS: [&str; 2] = ["f32", "bf16"];

fn main() {
    let folder = tempfile::tempdir().unwrap();
    let mut reference = None;
    println!("| weights | arithmetic | model | PSNR mean | PSNR worst | cosine of latents |");
    println!("|---|---|---|---|---|---|");
    for format in FORMATS {
        let model = folder.path().join(format.name());
        let bytes = convert_sketchbook(&model, format);
        for precision in PRECISIONS {
            let drawn = draw_all(&model, precision);
            let reference: &Vec<Drawn> = reference.get_or_insert_with(|| drawn.clone());
            let psnr: Vec<f64> = drawn
                .iter()
                .zip(reference)
                .map(|(a, b)| psnr(&a.rgb, &b.rgb))
                .collect();
            let cosine = drawn
                .iter()
                .zip(reference)
                .map(|(a, b)| cosine(&a.latents, &b.latents))
                .fold(f64::INFINITY, f64::min);
            println!(
                "| {format} | {precision} | {:.1} MB | {} | {} | {cosine:.5} |",
                bytes as f64 / 1e6,
                decibel(psnr.iter().sum::<f64>() / psnr.len() as f64),
                decibel(psnr.iter().copied().fold(f64::INFINITY, f64::min)),
            );
        }
    }
}

/// One picture, and the latents that it was decoded from.
#[derive(Clone, Default)]
struct Drawn {
    rgb: Vec<u8>,
    latents: Vec<f32>,
}

impl Watch for Drawn {
    fn cancelled(&self) -> bool {
        false
    }

    fn observe(&mut self, event: Event<'_>) {
        if let Event::Stepped { latents, .. } = event {
            self.latents = latents.iter().copied().collect();
        }
    }
}

struct Unwatched;

impl Progress for Unwatched {
    fn begin(&self, _component: &str, _bytes: u64) {}
    fn advance(&self, _bytes: u64) {}
    fn unchanged(&self, _component: &str) {}
    fn cancelled(&self) -> bool {
        false
    }
}

fn app(flags: &[(&str, String)]) -> App {
    let environment = Environment::of_process();
    let settings = Settings::resolve(None, &environment, flags).unwrap();
    App::new(settings, environment)
}

/// Returns the size of the networks' weights in bytes.
fn convert_sketchbook(output: &Path, format: WeightsFormat) -> u64 {
    let options = ConvertOptions {
        source: Path::new(env!("CARGO_MANIFEST_DIR")).join("models/sketchbook"),
        output: output.to_owned(),
        name: None,
        weights: ComponentWeights::all(format),
        tiny_vae: None,
    };
    let model = convert(&options, &mut app(&[]).runtime().unwrap(), &Unwatched).unwrap();
    let files = &model.manifest().files;
    files
        .iter()
        .filter(|(name, _)| {
            Path::new(name)
                .extension()
                .is_some_and(|ending| ending == "bin")
        })
        .map(|(_, file)| file.bytes)
        .sum()
}

fn draw_all(model: &Path, precision: &str) -> Vec<Drawn> {
    let app = app(&[
        ("model.directory", model.display().to_string()),
        ("openvino.precision", precision.to_owned()),
    ]);
    let mut runtime = app.runtime().unwrap();
    let model = app
        .model(&mut runtime, NotebookFiles::Plain, &Unwatched)
        .unwrap();
    let mut pipeline = app.load(&mut runtime, &model).unwrap().pipeline;
    PROMPTS
        .iter()
        .zip(1..)
        .map(|(prompt, seed)| {
            let draft = RequestDraft {
                size: Some(ImageSize::new(256, 256).unwrap()),
                resolution_binning: Some(false),
                scheduler: Some(SchedulerKind::Lcm),
                ..RequestDraft::new(Prompt::new(*prompt).unwrap(), Seed::new(seed))
            };
            let request = draft.complete(pipeline.planner().defaults());
            let mut drawn = Drawn::default();
            let png = pipeline.generate(&request, &mut drawn).unwrap().image;
            let mut reader = png::Decoder::new(std::io::Cursor::new(png))
                .read_info()
                .unwrap();
            drawn.rgb = vec![0; reader.output_buffer_size().unwrap()];
            reader.next_frame(&mut drawn.rgb).unwrap();
            drawn
        })
        .collect()
}

/// `10 · log10(255² / mean squared error)`; infinite for equal pictures.
fn psnr(a: &[u8], b: &[u8]) -> f64 {
    let squares: f64 = a
        .iter()
        .zip(b)
        .map(|(&a, &b)| f64::from(a.abs_diff(b)).powi(2))
        .sum();
    10.0 * (255.0_f64.powi(2) * a.len() as f64 / squares).log10()
}

fn decibel(psnr: f64) -> String {
    if psnr.is_infinite() {
        "equal".to_owned()
    } else {
        format!("{psnr:.1} dB")
    }
}

fn cosine(a: &[f32], b: &[f32]) -> f64 {
    let dot = |a: &[f32], b: &[f32]| -> f64 {
        a.iter()
            .zip(b)
            .map(|(&a, &b)| f64::from(a) * f64::from(b))
            .sum()
    };
    dot(a, b) / (dot(a, a).sqrt() * dot(b, b).sqrt())
}
