//! What happens to the output: refused where it is in the way, never half-made, taken over where nothing has changed.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use pixart::convert::{ComponentWeights, ConvertError, ConvertOptions, Progress, convert};
use pixart::model::{Manifest, ModelDirectory, WeightsFormat};

use super::{Attempt, contents};
use crate::support::{Silent, names_in, outcome, pixart, project, runtime};

/// Notes which components were made and which taken over, and can stop after so many bytes.
#[derive(Default)]
pub(super) struct Notes {
    made: Mutex<Vec<String>>,
    unchanged: Mutex<Vec<String>>,
    bytes: AtomicU64,
    stop_after: Option<u64>,
}

impl Notes {
    pub(super) fn stopping_after(bytes: u64) -> Self {
        Self {
            stop_after: Some(bytes),
            ..Self::default()
        }
    }

    pub(super) fn made(&self) -> Vec<String> {
        self.made.lock().unwrap().clone()
    }
}

impl Progress for Notes {
    fn begin(&self, component: &str, _bytes: u64) {
        self.made.lock().unwrap().push(component.to_owned());
    }
    fn advance(&self, bytes: u64) {
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }
    fn unchanged(&self, component: &str) {
        self.unchanged.lock().unwrap().push(component.to_owned());
    }
    fn cancelled(&self) -> bool {
        self.stop_after
            .is_some_and(|stop| self.bytes.load(Ordering::Relaxed) >= stop)
    }
}

const ALL: [&str; 3] = ["text_encoder", "transformer", "vae"];

impl Attempt {
    /// Converts again and holds that exactly `made` was made anew.
    #[track_caller]
    fn makes(&self, made: &[&str]) -> Manifest {
        let notes = Notes::default();
        let model = self.watched(&notes).unwrap();
        assert_eq!(*notes.made.lock().unwrap(), made);
        let unchanged: Vec<&str> = ALL
            .into_iter()
            .filter(|name| !made.contains(name))
            .collect();
        assert_eq!(*notes.unchanged.lock().unwrap(), unchanged);
        assert_eq!(names_in(self.outputs.path()), ["model"]);
        ModelDirectory::open(model.path())
            .unwrap()
            .manifest()
            .clone()
    }
}

/// Moves a file's time of change, as writing to it does.
fn touch(path: &Path) {
    let later = SystemTime::now() + Duration::from_secs(5);
    fs::File::options()
        .append(true)
        .open(path)
        .unwrap()
        .set_modified(later)
        .unwrap();
}

// In the way ------------------------------------------------------------------------------------------------------

#[test]
fn an_output_that_is_something_else_is_left_as_it_is() {
    let attempt = Attempt::new();
    fs::write(attempt.output(), "my notes").unwrap();
    let error = attempt.watched(&Silent).unwrap_err();
    assert!(
        matches!(error, ConvertError::OutputInTheWay { .. }),
        "{error}"
    );
    assert!(error.to_string().contains("--output"), "{error}");
    assert_eq!(fs::read_to_string(attempt.output()).unwrap(), "my notes");

    fs::remove_file(attempt.output()).unwrap();
    fs::create_dir(attempt.output()).unwrap();
    fs::write(attempt.output().join("letter.txt"), "dear").unwrap();
    let error = attempt.watched(&Silent).unwrap_err();
    assert!(
        matches!(error, ConvertError::OutputInTheWay { .. }),
        "{error}"
    );
    assert_eq!(names_in(attempt.outputs.path()), ["model"]);
    assert_eq!(names_in(&attempt.output()), ["letter.txt"]);
}

#[test]
fn an_empty_folder_is_filled() {
    let attempt = Attempt::new();
    fs::create_dir(attempt.output()).unwrap();
    attempt.makes(&ALL);
}

#[test]
fn folders_above_the_output_are_made() {
    let attempt = Attempt::new();
    let options = ConvertOptions {
        output: attempt.outputs.path().join("a/b/model"),
        ..attempt.options()
    };
    convert(&options, &mut runtime(), &Silent).unwrap();
    ModelDirectory::open(&options.output).unwrap();
}

#[test]
fn a_place_that_cannot_be_written_is_named() {
    let attempt = Attempt::new();
    fs::write(attempt.outputs.path().join("file"), "").unwrap();
    for output in [
        attempt.outputs.path().join("file/model"),
        attempt.outputs.path().join("file/below/model"),
        PathBuf::from("/proc/pixart/model"),
        PathBuf::from("/proc/model"),
    ] {
        let options = ConvertOptions {
            output: output.clone(),
            ..attempt.options()
        };
        let error = convert(&options, &mut runtime(), &Silent).unwrap_err();
        assert!(
            matches!(error, ConvertError::Write { .. }),
            "{output:?}: {error}"
        );
        let message = error.to_string();
        assert!(
            message.contains("can be written to"),
            "{output:?}: {message}"
        );
        assert_eq!(names_in(attempt.outputs.path()), ["file"]);
    }
}

#[test]
fn an_output_without_a_name_is_refused() {
    let attempt = Attempt::new();
    for output in ["/", "..", ""] {
        let options = ConvertOptions {
            output: PathBuf::from(output),
            ..attempt.options()
        };
        let error = convert(&options, &mut runtime(), &Silent).unwrap_err();
        assert!(
            error.to_string().contains("--output"),
            "{output:?}: {error}"
        );
    }
}

#[test]
fn files_that_someone_put_into_a_model_are_never_removed_with_it() {
    let attempt = Attempt::new();
    attempt.converted();
    for name in ["cactus.png", "tokenizer/notes.txt"] {
        let mine = attempt.output().join(name);
        fs::write(&mine, "mine").unwrap();
        touch(&attempt.file("vae/diffusion_pytorch_model.safetensors"));
        let error = attempt.watched(&Silent).unwrap_err();
        let message = error.to_string();
        assert!(
            message.contains(name) && message.contains("--output"),
            "{message}"
        );
        assert_eq!(fs::read_to_string(&mine).unwrap(), "mine");
        assert_eq!(names_in(attempt.outputs.path()), ["model"]);
        fs::remove_file(&mine).unwrap();
    }
    attempt.makes(&["vae"]);
}

#[test]
fn a_model_whose_manifest_is_of_no_use_is_replaced() {
    let attempt = Attempt::new();
    attempt.converted();
    let before = contents(&attempt.output());
    let manifest = attempt.output().join("manifest.json");
    let damages: [fn(&Path); 4] = [
        |manifest| crate::support::set_json(manifest, "/format", serde_json::json!(99)),
        |manifest| fs::write(manifest, "{").unwrap(),
        |manifest| fs::write(manifest, [0xff]).unwrap(),
        |manifest| fs::remove_file(manifest).unwrap(),
    ];
    for damage in damages {
        damage(&manifest);
        attempt.makes(&ALL);
        assert!(contents(&attempt.output()) == before);
    }
}

#[test]
fn a_folder_without_a_manifest_that_has_anything_else_in_it_is_left_as_it_is() {
    let attempt = Attempt::new();
    attempt.converted();
    fs::remove_file(attempt.output().join("manifest.json")).unwrap();
    for name in [
        "cactus.png",
        "transformer_ir.xml",
        "tokenizer/notes.txt",
        "text_encoder/model.safetensors",
    ] {
        let mine = attempt.output().join(name);
        fs::create_dir_all(mine.parent().unwrap()).unwrap();
        fs::write(&mine, "mine").unwrap();
        let before = contents(&attempt.output());
        let error = attempt.watched(&Silent).unwrap_err();
        assert!(
            matches!(error, ConvertError::OutputInTheWay { .. }),
            "{name}: {error}"
        );
        assert!(contents(&attempt.output()) == before, "{name}");
        fs::remove_file(&mine).unwrap();
    }
    // What has no IR is no model, whatever its files are called.
    fs::remove_dir_all(attempt.output()).unwrap();
    fs::create_dir(attempt.output()).unwrap();
    fs::write(attempt.output().join("manifest.json"), "{}").unwrap();
    let error = attempt.watched(&Silent).unwrap_err();
    assert!(
        matches!(error, ConvertError::OutputInTheWay { .. }),
        "{error}"
    );
    assert_eq!(names_in(&attempt.output()), ["manifest.json"]);
}

// Half-made -------------------------------------------------------------------------------------------------------

#[test]
fn a_conversion_stopped_anywhere_leaves_nothing() {
    let attempt = Attempt::new();
    let whole = Notes::default();
    attempt.watched(&whole).unwrap();
    let total = whole.bytes.into_inner();
    fs::remove_dir_all(attempt.output()).unwrap();
    for stop_after in [0, 1, total / 3, total / 2, total - 1000] {
        let notes = Notes {
            stop_after: Some(stop_after),
            ..Notes::default()
        };
        let error = attempt.watched(&notes).unwrap_err();
        assert!(matches!(error, ConvertError::Cancelled), "{error}");
        assert_eq!(names_in(attempt.outputs.path()), [""; 0]);
    }
}

#[test]
fn a_replacement_that_is_stopped_or_fails_keeps_the_old_model() {
    let mut attempt = Attempt::new();
    attempt.converted();
    let before = contents(&attempt.output());
    attempt.weights = ComponentWeights::all(WeightsFormat::F32);
    let notes = Notes {
        stop_after: Some(150_000),
        ..Notes::default()
    };
    attempt.watched(&notes).unwrap_err();
    assert!(contents(&attempt.output()) == before, "after a stop");

    fs::write(attempt.file("vae/config.json"), "{}").unwrap();
    attempt.watched(&Silent).unwrap_err();
    assert!(contents(&attempt.output()) == before, "after a failure");
    assert_eq!(names_in(attempt.outputs.path()), ["model"]);
}

#[test]
fn what_a_killed_conversion_left_is_removed_by_the_next() {
    let attempt = Attempt::new();
    for name in [".model.partial-AbCdEf", ".model.partial-x"] {
        let left = attempt.outputs.path().join(name);
        fs::create_dir(&left).unwrap();
        fs::write(left.join("transformer.bin"), [0; 1000]).unwrap();
    }
    // Another model's, and a file that no conversion leaves.
    fs::create_dir(attempt.outputs.path().join(".model2.partial-AbCdEf")).unwrap();
    fs::write(attempt.outputs.path().join(".model.partial-file"), "").unwrap();
    attempt.converted();
    assert_eq!(
        names_in(attempt.outputs.path()),
        [".model.partial-file", ".model2.partial-AbCdEf", "model"]
    );
}

#[test]
fn a_conversion_killed_between_two_renames_loses_neither_model() {
    let attempt = Attempt::new();
    attempt.converted();
    let before = contents(&attempt.output());
    // As it looks when the old model has been moved away and the new one not yet come.
    let aside = attempt.outputs.path().join(".model.partial-old");
    fs::rename(attempt.output(), &aside).unwrap();
    attempt.makes(&[]);
    assert!(
        contents(&attempt.output()) == before,
        "the old model came back"
    );

    // As it looks when the new one has come and the old one was not yet removed.
    fs::create_dir(&aside).unwrap();
    fs::copy(
        attempt.output().join("manifest.json"),
        aside.join("manifest.json"),
    )
    .unwrap();
    touch(&attempt.file("vae/diffusion_pytorch_model.safetensors"));
    attempt.makes(&["vae"]);
}

#[test]
fn a_full_disk_is_told_and_leaves_nothing() {
    let outputs = tempfile::tempdir().unwrap();
    // A limit on the size of files fails a write as a full disk does, in the middle of some weights (the components are made
    // side by side): dash counts blocks of 512 bytes, bash of 1024.
    let command = "trap '' XFSZ; ulimit -f 3000; exec \"$0\" \"$@\"";
    let binary = pixart();
    let mut limited = Command::new("sh");
    limited
        .env_clear()
        .envs(
            binary
                .get_envs()
                .filter_map(|(name, value)| Some((name, value?))),
        )
        .args(["-c", command])
        .arg(binary.get_program())
        .arg("convert")
        .arg(project("models/sketchbook"))
        .args(["--quiet", "--output"])
        .arg(outputs.path().join("model"));
    outcome(&mut limited).refused(
        5,
        &[
            "cannot write",
            ".bin: ",
            "another disk",
            "nothing was left behind",
        ],
    );
    assert_eq!(names_in(outputs.path()), [""; 0]);
}

// Taken over ------------------------------------------------------------------------------------------------------

#[test]
fn what_has_not_changed_is_not_made_again() {
    let attempt = Attempt::new();
    let first = attempt.makes(&ALL);
    let before = contents(&attempt.output());
    assert_eq!(attempt.makes(&[]), first);
    assert!(contents(&attempt.output()) == before);
}

#[test]
fn another_format_for_one_component_makes_that_one_alone() {
    let mut attempt = Attempt::new();
    attempt.makes(&ALL);
    attempt.weights.text_encoder = WeightsFormat::Int8;
    let manifest = attempt.makes(&["text_encoder"]);
    assert_eq!(manifest.text_encoder.weights, WeightsFormat::Int8);
    assert_eq!(manifest.transformer.weights, WeightsFormat::F16);
}

#[test]
fn a_changed_source_makes_its_component_again() {
    let attempt = Attempt::new();
    attempt.makes(&ALL);
    touch(&attempt.file("transformer/diffusion_pytorch_model.safetensors"));
    attempt.makes(&["transformer"]);
    let config = attempt.file("vae/config.json");
    crate::support::set_json(&config, "/scaling_factor", serde_json::json!(0.2));
    let manifest = attempt.makes(&["vae"]);
    assert!((manifest.vae_decoder.spec.scaling_factor - 0.2).abs() < 1e-12);
}

#[test]
fn a_scheduler_that_has_changed_is_the_new_models() {
    let attempt = Attempt::new();
    attempt.makes(&ALL);
    crate::support::set_json(
        &attempt.file("scheduler/scheduler_config.json"),
        "/beta_end",
        serde_json::json!(0.015),
    );
    attempt.makes(&[]);
    let text =
        fs::read_to_string(attempt.output().join("scheduler/scheduler_config.json")).unwrap();
    assert!(text.contains("0.015"), "{text}");
}

#[test]
fn a_damaged_file_is_never_taken_over() {
    let attempt = Attempt::new();
    attempt.makes(&ALL);
    let before = contents(&attempt.output());
    for (name, component) in [
        ("transformer.bin", "transformer"),
        ("vae_decoder.xml", "vae"),
    ] {
        let path = attempt.output().join(name);
        let mut bytes = fs::read(&path).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        fs::remove_file(&path).unwrap();
        fs::write(&path, bytes).unwrap();
        attempt.makes(&[component]);
        assert!(contents(&attempt.output()) == before, "{name}");

        fs::remove_file(&path).unwrap();
        attempt.makes(&[component]);
        assert!(contents(&attempt.output()) == before, "{name}");
    }
    let scheduler = attempt.output().join("scheduler/scheduler_config.json");
    fs::File::options()
        .append(true)
        .open(scheduler)
        .unwrap()
        .write_all(b" ")
        .unwrap();
    attempt.makes(&[]);
    assert!(contents(&attempt.output()) == before, "the scheduler");
}

#[test]
fn a_model_that_would_come_out_the_same_is_left_where_it_lies() {
    use std::os::unix::fs::MetadataExt as _;
    let attempt = Attempt::new();
    attempt.makes(&ALL);
    let inode = |path: PathBuf| fs::metadata(path).unwrap().ino();
    let before = inode(attempt.output());
    attempt.makes(&[]);
    assert_eq!(inode(attempt.output()), before, "someone may be reading it");
}

/// A conversion that is stopped while it waits.
#[derive(Default)]
struct Waits(Mutex<Vec<PathBuf>>);

impl Progress for Waits {
    fn begin(&self, _component: &str, _bytes: u64) {}
    fn advance(&self, _bytes: u64) {}
    fn unchanged(&self, _component: &str) {}
    fn waiting(&self, folder: &Path) {
        self.0.lock().unwrap().push(folder.to_owned());
    }
    fn cancelled(&self) -> bool {
        !self.0.lock().unwrap().is_empty()
    }
}

#[test]
fn a_conversion_that_waits_for_another_can_be_stopped() {
    let attempt = Attempt::new();
    let other = fs::File::open(attempt.outputs.path()).unwrap();
    other.lock().unwrap();
    let waits = Waits::default();
    let error = attempt.watched(&waits).unwrap_err();
    assert!(matches!(error, ConvertError::Cancelled), "{error}");
    assert_eq!(*waits.0.lock().unwrap(), [attempt.outputs.path()]);
    assert_eq!(names_in(attempt.outputs.path()), [""; 0]);
    other.unlock().unwrap();
    attempt.makes(&ALL);
}

#[test]
fn two_conversions_to_the_same_place_both_end_well() {
    let attempt = Attempt::new();
    let mut other = attempt.options();
    other.weights = ComponentWeights::all(WeightsFormat::F32);
    std::thread::scope(|scope| {
        for options in [attempt.options(), other] {
            scope.spawn(move || convert(&options, &mut runtime(), &Silent).unwrap());
        }
    });
    ModelDirectory::open(&attempt.output()).unwrap();
    assert_eq!(names_in(attempt.outputs.path()), ["model"]);
}
