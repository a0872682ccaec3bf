//! What the tests share: checkpoints put together, models converted, pictures read back.

use std::fs;
use std::path::{Path, PathBuf};

use pixart::app::{App, Loaded};
use pixart::config::{Environment, Settings};
use pixart::convert::{ComponentWeights, ConvertOptions, Progress, convert};
use pixart::engine::Runtime;
use pixart::model::{Variant, WeightsFormat};
use tempfile::TempDir;

/// A file of the project.
pub(crate) fn project(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// The whole diffusers directory of a checkpoint of the fixtures, in a folder of its own that a test may damage.
///
/// The fixtures leave out what several share: the tokenizer is always sketchbook's, and so are the text encoder and VAE
/// of its teacher.
pub(crate) fn checkpoint(path: &str) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let sketchbook = project("models/sketchbook");
    copy_folder(
        &sketchbook.join("tokenizer"),
        &folder.path().join("tokenizer"),
    );
    if path.ends_with("sketchbook-teacher") {
        for part in ["text_encoder", "vae"] {
            copy_folder(&sketchbook.join(part), &folder.path().join(part));
        }
    }
    copy_folder(&project(path), folder.path());
    folder
}

fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_folder(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// A conversion that nobody watches.
pub(crate) struct Silent;

impl Progress for Silent {
    fn begin(&self, _component: &str, _bytes: u64) {}
    fn advance(&self, _bytes: u64) {}
    fn unchanged(&self, _component: &str) {}
    fn cancelled(&self) -> bool {
        false
    }
}

/// The composition root with flags on top of the process's environment.
pub(crate) fn app(flags: &[(&str, String)]) -> App {
    let environment = Environment::of_process();
    let settings = Settings::resolve(None, &environment, flags).unwrap();
    App::new(settings, environment)
}

/// The runtime that `make runtime` fetched.
pub(crate) fn runtime() -> Runtime {
    app(&[]).runtime().unwrap()
}

/// Converts a diffusers directory to `weights` in `output`.
pub(crate) fn convert_to(source: &Path, output: &Path, weights: WeightsFormat) {
    let options = ConvertOptions {
        source: source.to_owned(),
        output: output.to_owned(),
        name: None,
        weights: ComponentWeights::all(weights),
    };
    convert(&options, &mut runtime(), &Silent).unwrap();
}

/// A model that is ready to draw in `precision`.
pub(crate) fn load(model: &Path, checkpoint: &Path, precision: &str) -> Loaded {
    let app = app(&[
        ("model.directory", model.display().to_string()),
        ("model.checkpoint", checkpoint.display().to_string()),
        ("openvino.precision", precision.to_owned()),
    ]);
    let mut runtime = app.runtime().unwrap();
    let model = app.model(&mut runtime, Variant::Plain, &Silent).unwrap();
    app.load(&mut runtime, &model).unwrap()
}

/// A decoded PNG.
pub(crate) struct Picture {
    pub(crate) width: usize,
    pub(crate) height: usize,
    pub(crate) rgb: Vec<u8>,
}

/// Decodes a PNG that pixart wrote.
pub(crate) fn decode_png(bytes: &[u8]) -> Picture {
    let mut reader = png::Decoder::new(std::io::Cursor::new(bytes))
        .read_info()
        .unwrap();
    let mut rgb = vec![0; reader.output_buffer_size().unwrap()];
    let frame = reader.next_frame(&mut rgb).unwrap();
    assert_eq!(frame.color_type, png::ColorType::Rgb);
    Picture {
        width: frame.width as usize,
        height: frame.height as usize,
        rgb,
    }
}
