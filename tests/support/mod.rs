//! What the tests share: checkpoints put together, models converted, pictures read back.

pub(crate) mod fake_graph;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::LazyLock;

use pixart::app::{App, Loaded};
use pixart::config::{Environment, Settings};
use pixart::convert::{ComponentWeights, ConvertOptions, Progress, convert};
use pixart::engine::Runtime;
use pixart::model::{
    ModelDirectory, ModelShapes, NotebookFiles, TextEncoderSpec, TinyVaeSpec, TransformerSpec,
    VaeSpec, WeightsFormat,
};
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use tempfile::TempDir;

/// A file of the project.
pub(crate) fn project(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// The whole diffusers directory of a checkpoint of the fixtures, in a folder of its own that a test may damage.
///
/// The fixtures leave out what they share: the tokenizer is sketchbook's.
pub(crate) fn checkpoint(path: &str) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    copy_folder(
        &project("models/sketchbook/tokenizer"),
        &folder.path().join("tokenizer"),
    );
    copy_folder(&project(path), folder.path());
    folder
}

/// Copies a folder with everything in it.
pub(crate) fn copy_folder(from: &Path, to: &Path) {
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

/// The shapes of sketchbook's networks, for models that are fakes.
pub(crate) fn shapes() -> ModelShapes {
    let text = |path: &str| fs::read_to_string(project("models/sketchbook").join(path)).unwrap();
    ModelShapes {
        text_encoder: TextEncoderSpec::from_json(&text("text_encoder/config.json")).unwrap(),
        transformer: TransformerSpec::from_json(&text("transformer/config.json")).unwrap(),
        vae: VaeSpec::from_json(&text("vae/config.json")).unwrap(),
        tiny_vae: Some(TinyVaeSpec::from_json(&text("tiny_vae/config.json")).unwrap()),
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
        tiny_vae: None,
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
    let model = app
        .model(&mut runtime, NotebookFiles::Plain, &Silent)
        .unwrap();
    app.load(&mut runtime, &model).unwrap()
}

/// A decoded PNG.
pub(crate) struct Picture {
    pub(crate) width: usize,
    pub(crate) height: usize,
    pub(crate) rgb: Vec<u8>,
    /// The text chunks of both kinds, by keyword.
    pub(crate) text: BTreeMap<String, String>,
}

/// Decodes a PNG that pixart wrote.
pub(crate) fn decode_png(bytes: &[u8]) -> Picture {
    let mut reader = png::Decoder::new(std::io::Cursor::new(bytes))
        .read_info()
        .unwrap();
    let mut rgb = vec![0; reader.output_buffer_size().unwrap()];
    let frame = reader.next_frame(&mut rgb).unwrap();
    assert_eq!(frame.color_type, png::ColorType::Rgb);
    reader.finish().unwrap();
    let info = reader.info();
    let latin1 = info
        .uncompressed_latin1_text
        .iter()
        .map(|chunk| (chunk.keyword.clone(), chunk.text.clone()));
    let utf8 = info
        .utf8_text
        .iter()
        .map(|chunk| (chunk.keyword.clone(), chunk.get_text().unwrap()));
    Picture {
        width: frame.width as usize,
        height: frame.height as usize,
        rgb,
        text: latin1.chain(utf8).collect(),
    }
}

/// A tensor of a safetensors file, taken out for a test to change.
#[derive(Clone)]
pub(crate) struct StoredTensor {
    pub(crate) dtype: Dtype,
    pub(crate) shape: Vec<usize>,
    pub(crate) data: Vec<u8>,
}

/// Changes the tensors of a safetensors file.
pub(crate) fn rewrite_tensors(
    path: &Path,
    change: impl FnOnce(&mut BTreeMap<String, StoredTensor>),
) {
    let bytes = fs::read(path).unwrap();
    let mut tensors: BTreeMap<String, StoredTensor> = SafeTensors::deserialize(&bytes)
        .unwrap()
        .tensors()
        .into_iter()
        .map(|(name, view)| {
            let stored = StoredTensor {
                dtype: view.dtype(),
                shape: view.shape().to_vec(),
                data: view.data().to_vec(),
            };
            (name, stored)
        })
        .collect();
    change(&mut tensors);
    let views = tensors.iter().map(|(name, tensor)| {
        let view = TensorView::new(tensor.dtype, tensor.shape.clone(), &tensor.data).unwrap();
        (name, view)
    });
    fs::write(path, safetensors::serialize(views, None).unwrap()).unwrap();
}

/// Changes one key of a JSON file; null removes nothing and is written as it is.
pub(crate) fn set_json(path: &Path, pointer: &str, value: serde_json::Value) {
    change_json(path, |json| {
        *json
            .pointer_mut(pointer)
            .unwrap_or_else(|| panic!("no {pointer}")) = value;
    });
}

/// Changes a JSON file. A manifest is then as those of before they had a checksum, which is another's test.
pub(crate) fn change_json(path: &Path, change: impl FnOnce(&mut serde_json::Value)) {
    let mut json: serde_json::Value =
        serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap();
    change(&mut json);
    if path.ends_with("manifest.json")
        && let Some(manifest) = json.as_object_mut()
    {
        manifest.remove("sha256");
    }
    fs::write(path, json.to_string()).unwrap();
}

/// For bash: closes what a test process has opened and its children inherit, as OpenVINO opens files so.
pub(crate) const CLOSE_OTHERS: &str =
    r#"for fd in /proc/$$/fd/*; do fd=${fd##*/}; [ "$fd" -gt 2 ] && eval "exec $fd>&-"; done;"#;

/// Names in a folder, sorted.
pub(crate) fn names_in(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

/// The binary as a person runs it who has configured nothing but where the runtime is.
pub(crate) fn pixart() -> Command {
    static LIBRARY: LazyLock<PathBuf> = LazyLock::new(|| runtime().library().to_owned());
    let mut command = Command::new(env!("CARGO_BIN_EXE_pixart"));
    command
        .env_clear()
        .env("PIXART__OPENVINO__LIBRARY", LIBRARY.as_path());
    command
}

/// The binary with the embedded model already converted.
pub(crate) fn pixart_at_home() -> Command {
    let mut command = pixart();
    command.env("PIXART__MODEL__CACHE", home());
    command
}

/// A copy of `small_model` in `folder` with a variant `int8` that was measured on a processor with AVX2 alone. Returns its path.
pub(crate) fn model_measured_elsewhere(folder: &Path) -> PathBuf {
    let model = folder.join("model");
    let variant = model.join("variants/int8");
    copy_folder(small_model(), &model);
    copy_folder(small_model(), &variant);
    let digest = ModelDirectory::open(&model).unwrap();
    let digest = digest.manifest().measured_digest();
    change_json(&variant.join("manifest.json"), |manifest| {
        manifest["measured"] = serde_json::json!([{
            "against": digest, "against_precision": "f32", "precision": "f32", "asked_precision": "auto", "decoder": "full",
            "pictures": 8, "median_psnr_db": 41.0, "least_psnr_db": 38.0, "median_latents_cosine": 1.0,
            "times_faster": 1.5, "least_times_faster": 1.4, "cpu": "Some Other CPU", "cores": 2, "instruction_set": ["AVX2"],
        }]);
    });
    model
}

/// A small converted model that draws at once, for runs of the binary that are about something else.
pub(crate) fn small_model() -> &'static Path {
    static MODEL: LazyLock<PathBuf> = LazyLock::new(|| {
        let output = home().join("tiny-alpha");
        let source = checkpoint("tests/golden/checkpoints/tiny-alpha");
        convert_to(source.path(), &output, WeightsFormat::F32);
        output
    });
    &MODEL
}

/// A folder that the runs of one test binary share, below the build's own. Those of earlier builds are removed.
fn home() -> &'static Path {
    static HOME: LazyLock<PathBuf> = LazyLock::new(|| {
        let built = fs::metadata(env!("CARGO_BIN_EXE_pixart"))
            .and_then(|metadata| metadata.modified())
            .unwrap()
            .duration_since(std::time::UNIX_EPOCH)
            .unwrap();
        let name = format!("home-{}", built.as_nanos());
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
        for old in names_in(folder) {
            if old.starts_with("home-") && old != name {
                let _ = fs::remove_dir_all(folder.join(old));
            }
        }
        let home = folder.join(name);
        // Converts the embedded model where no run before this one has.
        outcome(pixart().env("PIXART__MODEL__CACHE", &home).arg("info")).done();
        home
    });
    &HOME
}

/// How a run of the binary ended.
pub(crate) struct Outcome {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// Runs `command` to its end.
pub(crate) fn outcome(command: &mut Command) -> Outcome {
    let Output {
        status,
        stdout,
        stderr,
    } = command.output().unwrap();
    Outcome {
        code: status.code(),
        stdout: String::from_utf8(stdout).unwrap(),
        stderr: String::from_utf8(stderr).unwrap(),
    }
}

impl Outcome {
    /// Holds that it ended well.
    #[track_caller]
    pub(crate) fn done(self) -> Self {
        assert_eq!(self.code, Some(0), "{}", self.stderr);
        self
    }

    /// Holds that it ended with `code` and one message that has every one of `parts`.
    #[track_caller]
    pub(crate) fn refused(self, code: i32, parts: &[&str]) -> Self {
        assert_eq!(self.code, Some(code), "{}{}", self.stdout, self.stderr);
        for part in parts {
            assert!(
                self.stderr.contains(part),
                "no '{part}' in: {}",
                self.stderr
            );
        }
        assert!(!self.stderr.contains("panicked"), "{}", self.stderr);
        assert_eq!(self.stdout, "");
        self
    }
}
