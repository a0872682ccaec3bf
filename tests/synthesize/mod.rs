//! Checkpoints of generated weights: whole diffusers directories, the same on every machine, that convert and draw.

mod published;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use pixart::domain::{
    Decoder, GenerateRequest, Guidance, ImageSize, OutputFormat, Prompt, SchedulerKind, Seed, Steps,
};
use pixart::model::WeightsFormat;
use pixart::pipeline::{Event, Generate as _, Watch};
use pixart::synthesize::{
    Progress, Published, Shapes, Storage, SynthesizeError, SynthesizeOptions, Synthesized,
    synthesize,
};
use safetensors::{Dtype, SafeTensors};
use tempfile::TempDir;

use crate::support::{convert_to, load, names_in, outcome, pixart};

/// A folder for what is made.
struct Bench(TempDir);

impl Bench {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn make(&self, name: &str, change: impl FnOnce(&mut SynthesizeOptions)) -> Synthesized {
        let mut options = options(&self.path(name));
        change(&mut options);
        synthesize(&options, &Counted::default()).unwrap()
    }
}

/// PixArt-LCM-XL-2-1024-MS as small as it gets.
fn options(output: &Path) -> SynthesizeOptions {
    let like = Published::named("PixArt-alpha/PixArt-LCM-XL-2-1024-MS").unwrap();
    SynthesizeOptions {
        output: output.to_owned(),
        like,
        shapes: small(like),
        storage: None,
        seed: 0,
    }
}

/// A few megabytes.
fn small(like: &Published) -> Shapes {
    Shapes::of(like)
        .with_layers(2, 2)
        .with_width(Shapes::WIDTH_STEP)
}

/// Counts, and stops where a test says so.
#[derive(Default)]
struct Counted {
    stop_after: Option<u64>,
    total: AtomicU64,
    written: AtomicU64,
}

impl Progress for Counted {
    fn begin(&self, bytes: u64) {
        self.total.store(bytes, Ordering::SeqCst);
    }

    fn advance(&self, bytes: u64) {
        self.written.fetch_add(bytes, Ordering::SeqCst);
    }

    fn cancelled(&self) -> bool {
        self.stop_after
            .is_some_and(|bytes| self.written.load(Ordering::SeqCst) >= bytes)
    }
}

/// Keeps the spread of the latents and of the image.
#[derive(Default)]
struct Spreads {
    latents: f64,
    image: f64,
}

impl Watch for Spreads {
    fn cancelled(&self) -> bool {
        false
    }

    fn observe(&mut self, event: Event<'_>) {
        match event {
            Event::Stepped { latents, .. } => self.latents = deviation(latents.iter()),
            Event::Decoded { image } => self.image = deviation(image.iter()),
            _ => {}
        }
    }
}

fn deviation<'a>(values: impl ExactSizeIterator<Item = &'a f32>) -> f64 {
    let count = values.len() as f64;
    let squares: f64 = values.map(|&value| f64::from(value).powi(2)).sum();
    (squares / count).sqrt()
}

const TRANSFORMER: &str = "transformer/diffusion_pytorch_model.safetensors";
const WEIGHTS: [&str; 6] = [
    "text_encoder/model-00001-of-00004.safetensors",
    "text_encoder/model-00002-of-00004.safetensors",
    "text_encoder/model-00003-of-00004.safetensors",
    "text_encoder/model-00004-of-00004.safetensors",
    TRANSFORMER,
    "vae/diffusion_pytorch_model.safetensors",
];

#[test]
fn what_is_made_converts_and_draws_latents_and_images_of_a_sane_spread() {
    let bench = Bench::new();
    for (storage, weights) in [
        (Storage::F32, WeightsFormat::F32),
        (Storage::Bf16, WeightsFormat::Int8),
        (Storage::F16, WeightsFormat::F16),
    ] {
        let (source, model) = (format!("{storage:?}"), format!("{storage:?}-model"));
        bench.make(&source, |options| options.storage = Some(storage));
        convert_to(&bench.path(&source), &bench.path(&model), weights);
        let Spreads { latents, image } = draw(&bench.path(&model), SchedulerKind::Lcm);
        assert!((0.1..5.0).contains(&latents), "{storage:?}: {latents}");
        assert!((0.05..5.0).contains(&image), "{storage:?}: {image}");
    }
}

/// Draws 256x128 in four steps.
fn draw(model: &Path, scheduler: SchedulerKind) -> Spreads {
    let request = GenerateRequest {
        prompt: Prompt::new("A small cactus with a happy face").unwrap(),
        negative_prompt: Prompt::negative("").unwrap(),
        steps: Steps::new(4).unwrap(),
        guidance: Guidance::new(1.0).unwrap(),
        seed: Seed::new(7),
        size: ImageSize::new(256, 128).unwrap(),
        scheduler,
        decoder: Decoder::Full,
        resolution_binning: false,
        clean_caption: false,
        embed_prompt: false,
        output_format: OutputFormat::Png,
        output_compression: None,
    };
    let mut loaded = load(model, Path::new(""), "f32");
    let mut spreads = Spreads::default();
    // Numbers that are not finite are refused on the way.
    loaded.pipeline.generate(&request, &mut spreads).unwrap();
    spreads
}

#[test]
fn the_same_seed_gives_the_same_files_and_fewer_layers_the_same_other_weights() {
    let bench = Bench::new();
    bench.make("one", |_| {});
    bench.make("same", |_| {});
    bench.make("seed", |options| options.seed = 1);
    bench.make("shallow", |options| {
        options.shapes.transformer.num_layers = 1;
        options.shapes.text_encoder.num_layers = 1;
    });
    let read = |name: &str, file: &str| fs::read(bench.path(name).join(file)).unwrap();
    for file in WEIGHTS {
        assert!(read("one", file) == read("same", file), "{file}");
        assert!(read("one", file) != read("seed", file), "{file}");
    }
    let (whole, shallow) = (read("one", TRANSFORMER), read("shallow", TRANSFORMER));
    let whole = SafeTensors::deserialize(&whole).unwrap();
    let shallow = SafeTensors::deserialize(&shallow).unwrap();
    assert!(shallow.len() < whole.len());
    for (name, view) in shallow.tensors() {
        assert_eq!(view.data(), whole.tensor(&name).unwrap().data(), "{name}");
    }
}

#[test]
fn weights_have_the_type_that_was_asked_for_and_the_files_the_length_that_was_told() {
    let bench = Bench::new();
    for (storage, dtype) in [
        (Storage::F16, Dtype::F16),
        (Storage::F32, Dtype::F32),
        (Storage::Bf16, Dtype::BF16),
    ] {
        let name = format!("{storage:?}");
        let progress = Counted::default();
        let mut options = options(&bench.path(&name));
        options.storage = Some(storage);
        let made = synthesize(&options, &progress).unwrap();
        assert_eq!(
            progress.written.load(Ordering::SeqCst),
            progress.total.load(Ordering::SeqCst)
        );
        let mut weights = 0;
        for file in WEIGHTS {
            let bytes = fs::read(bench.path(&name).join(file)).unwrap();
            let file = SafeTensors::deserialize(&bytes).unwrap();
            for (name, view) in file.tensors() {
                assert_eq!(view.dtype(), dtype, "{name}");
                weights += view.shape().iter().product::<usize>();
            }
        }
        assert_eq!(made.weights, weights as u64);
        assert_eq!(made.bytes, bytes_below(&bench.path(&name)));
    }
}

fn bytes_below(folder: &Path) -> u64 {
    let lengths = fs::read_dir(folder).unwrap().map(|entry| {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_dir() {
            bytes_below(&entry.path())
        } else {
            entry.metadata().unwrap().len()
        }
    });
    lengths.sum()
}

#[test]
fn one_that_is_stopped_leaves_nothing_and_what_a_killed_one_left_is_removed() {
    let bench = Bench::new();
    let progress = Counted {
        stop_after: Some(1),
        ..Counted::default()
    };
    let error = synthesize(&options(&bench.path("made")), &progress).unwrap_err();
    assert!(matches!(error, SynthesizeError::Cancelled), "{error}");
    assert_eq!(names_in(bench.0.path()), [""; 0]);

    let left = bench.path(".made.synthesized/vae");
    fs::create_dir_all(&left).unwrap();
    fs::write(left.join("diffusion_pytorch_model.safetensors"), "half").unwrap();
    bench.make("made", |_| {});
    assert_eq!(names_in(bench.0.path()), ["made"]);
}

#[test]
fn a_folder_with_something_in_it_is_refused_and_an_empty_one_is_not() {
    let bench = Bench::new();
    let made = bench.path("made");
    fs::create_dir(&made).unwrap();
    bench.make("made", |_| {});
    for output in [made.clone(), made.join("model_index.json")] {
        let error = synthesize(&options(&output), &Counted::default()).unwrap_err();
        assert!(matches!(error, SynthesizeError::InTheWay { .. }), "{error}");
    }
    assert_eq!(names_in(bench.0.path()), ["made"]);
}

#[test]
fn a_disk_with_lost_and_found_is_filled_and_a_link_stays_one() {
    let bench = Bench::new();
    fs::create_dir_all(bench.path("made/lost+found")).unwrap();
    bench.make("made", |_| {});
    std::os::unix::fs::symlink("disk/made", bench.path("link")).unwrap();
    bench.make("link", |_| {});
    assert!(bench.path("link").is_symlink());
    assert_eq!(names_in(bench.0.path()), ["disk", "link", "made"]);
    let mut names = names_in(&bench.path("made"));
    names.retain(|name| name != "lost+found");
    assert_eq!(names, names_in(&bench.path("disk/made")));
}

#[test]
fn the_command_that_goes_on_is_shown_as_a_shell_takes_it() {
    let bench = Bench::new();
    let mut command = pixart();
    command
        .current_dir(bench.0.path())
        .args(["synthesize", "--output", "it's made", "--width", "96"])
        .args(["--layers", "1", "--text-layers", "1", "--quiet"]);
    let done = outcome(&mut command).done();
    let next = r"pixart convert 'it'\''s made' --output DIR";
    assert!(done.stdout.contains(next), "{}", done.stdout);
}

#[test]
fn the_command_refuses_what_no_published_checkpoint_has() {
    let bench = Bench::new();
    for words in [
        ["--layers", "29"],
        ["--text-layers", "0"],
        ["--dtype", "int8"],
        ["--like", "flux"],
        ["--like", "PixArt-alpha/PixArt-alpha"],
        ["--width", "100"],
        ["--width", "1248"],
    ] {
        let mut command = pixart();
        command
            .current_dir(bench.0.path())
            .args(["synthesize", "--output", "made"])
            .args(words);
        outcome(&mut command).refused(2, &words);
    }
    // Hidden in the list, shown by its own help.
    let help = outcome(pixart().arg("--help")).done();
    assert!(!help.stdout.contains("synthesize"), "{}", help.stdout);
    let help = outcome(pixart().args(["synthesize", "--help"])).done();
    assert!(help.stdout.contains("--text-layers"), "{}", help.stdout);
    for published in Published::ALL {
        assert!(help.stdout.contains(published.name), "{}", help.stdout);
    }
}
