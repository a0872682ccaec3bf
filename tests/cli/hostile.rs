//! Files that are none, models that were tampered with, and a system that gives too little: a sentence and a code, at once.

use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use super::{Desk, json as told};
use crate::support::{
    CLOSE_OTHERS, Outcome, change_json, checkpoint, outcome, pixart_at_home, small_model,
};

/// Runs `command` for a minute at most: what waits for a FIFO waits for ever.
fn bounded(command: &Command) -> Outcome {
    let mut with_end = Command::new("timeout");
    with_end
        .env_clear()
        .arg("60")
        .arg(command.get_program())
        .args(command.get_args())
        .envs(
            command
                .get_envs()
                .filter_map(|(name, value)| Some((name, value?))),
        );
    if let Some(folder) = command.get_current_dir() {
        with_end.current_dir(folder);
    }
    outcome(&mut with_end)
}

/// The same under a limit of the shell's.
fn limited(limit: &str, desk: &Desk, words: &[&str]) -> Outcome {
    let command = desk.pixart(words);
    let mut limited = Command::new("bash");
    limited
        .env_clear()
        .arg("-c")
        .arg(format!("{CLOSE_OTHERS} ulimit {limit}; exec \"$0\" \"$@\""))
        .arg(command.get_program())
        .args(command.get_args())
        .envs(
            command
                .get_envs()
                .filter_map(|(name, value)| Some((name, value?))),
        )
        .current_dir(desk.path(""));
    bounded(&limited)
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let place = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &place);
        } else {
            fs::copy(entry.path(), place).unwrap();
        }
    }
}

/// A working folder with the small model as `model`.
fn desk_with_model() -> Desk {
    let desk = Desk::new();
    copy(small_model(), &desk.path("model"));
    desk
}

fn draw(desk: &Desk, words: &[&str]) -> Outcome {
    let mut command = desk.pixart(&["generate", "a", "--no-resolution-binning", "--seed", "1"]);
    bounded(
        command
            .args(["--size", "32x32", "--output", "a.png"])
            .args(words),
    )
}

fn fifo(path: &Path) {
    let _ = fs::remove_file(path);
    assert!(Command::new("mkfifo").arg(path).status().unwrap().success());
}

fn device(path: &Path) {
    let _ = fs::remove_file(path);
    symlink("/dev/zero", path).unwrap();
}

/// What a file is replaced by, and what is said of it.
/// Puts something that is no regular file in the place of a path.
type Put = fn(&Path);

const NO_FILES: [(Put, &str); 2] = [(fifo, "it is a FIFO"), (device, "it is a device")];

#[test]
fn no_file_of_a_model_may_be_a_fifo_or_a_device() {
    for (replace, what) in NO_FILES {
        for name in [
            "transformer.bin",
            "vae_decoder.xml",
            "tokenizer/spiece.model",
            "scheduler/scheduler_config.json",
            "manifest.json",
        ] {
            let desk = desk_with_model();
            let path = desk.path("model").join(name);
            replace(&path);
            let model = ["--model", "model"];
            draw(&desk, &model).refused(3, &[name, what, "only regular files are read"]);
        }
    }
    // Links to files are what the cache of the hub's tools is made of.
    let desk = desk_with_model();
    let path = desk.path("model/transformer.bin");
    fs::rename(&path, desk.path("blob")).unwrap();
    symlink(desk.path("blob"), &path).unwrap();
    draw(&desk, &["--model", "model"]).done();
}

#[test]
fn no_file_of_a_checkpoint_may_be_a_fifo_or_a_device() {
    for (replace, what) in NO_FILES {
        for name in [
            "model_index.json",
            "text_encoder/config.json",
            "text_encoder/model.safetensors",
            "tokenizer/spiece.model",
            "scheduler/scheduler_config.json",
        ] {
            let source = checkpoint("tests/golden/checkpoints/tiny-alpha");
            let desk = Desk::new();
            replace(&source.path().join(name));
            let words = ["--output", "model"];
            let converted = bounded(desk.pixart(&["convert"]).arg(source.path()).args(words));
            assert_eq!(converted.code, Some(3), "{name}: {}", converted.stderr);
            for part in [name, what] {
                assert!(converted.stderr.contains(part), "{}", converted.stderr);
            }
        }
    }
}

#[test]
fn settings_keys_and_captions_are_regular_files() {
    let desk = Desk::new();
    for (replace, what) in NO_FILES {
        replace(&desk.path("file"));
        for (words, code) in [
            (&["info", "--config", "file"][..], 2),
            (
                &["serve", "--listen", "127.0.0.1:0", "--keys-file", "file"],
                2,
            ),
        ] {
            bounded(&desk.pixart(words)).refused(code, &["file", what]);
        }
    }
}

#[test]
fn a_number_changed_in_a_manifest_is_refused_and_a_manifest_of_before_is_read() {
    let desk = desk_with_model();
    let path = desk.path("model/manifest.json");
    let info = |desk: &Desk| bounded(&desk.pixart(&["info", "--json", "--model", "model"]));
    let whole: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    let sha256 = whole["sha256"].clone();
    assert_eq!(
        told(&info(&desk).done())["model"]["manifest_sha256"],
        sha256
    );
    // Laid out in another way it says the same.
    fs::write(&path, whole.to_string()).unwrap();
    draw(&desk, &["--model", "model"]).done();
    let first = desk.picture("a.png").rgb;

    let mut changed = whole.clone();
    changed["vae_decoder"]["spec"]["scaling_factor"] = json!(0.5);
    fs::write(&path, changed.to_string()).unwrap();
    let parts = ["manifest.json", "sha256", "something in it was changed"];
    draw(&desk, &["--model", "model"]).refused(3, &parts);
    for wrong in [json!("0".repeat(64)), json!(null), json!(7)] {
        let mut changed = whole.clone();
        changed["sha256"] = wrong;
        fs::write(&path, changed.to_string()).unwrap();
        draw(&desk, &["--model", "model"]).refused(3, &parts);
    }
    // An unknown field is part of it too.
    let mut changed = whole.clone();
    changed["later"] = json!(1);
    fs::write(&path, changed.to_string()).unwrap();
    draw(&desk, &["--model", "model"]).refused(3, &parts);

    fs::write(&path, whole.to_string()).unwrap();
    change_json(&path, |_| {});
    draw(&desk, &["--model", "model"]).done();
    assert_eq!(desk.picture("a.png").rgb, first);
    assert_eq!(
        told(&info(&desk).done())["model"]["manifest_sha256"],
        Value::Null
    );
    let said = bounded(&desk.pixart(&["info", "--model", "model"])).done();
    assert!(
        said.stdout.contains("without a checksum"),
        "{}",
        said.stdout
    );
}

#[test]
fn what_a_terminal_obeys_never_reaches_one() {
    let desk = desk_with_model();
    let path = desk.path("model/manifest.json");
    let whole = fs::read(&path).unwrap();
    let escape = "\u{1b}[31mRED\u{1b}]0;title\u{7}";
    let plain = |outcome: &Outcome| {
        let all = format!("{}{}", outcome.stdout, outcome.stderr);
        assert!(!all.contains(['\u{1b}', '\u{7}', '\u{9b}']), "{all:?}");
    };
    for change in [
        (|manifest, text| manifest["name"] = text) as fn(&mut Value, Value),
        |manifest, text| manifest["source"] = text,
        |manifest, text| manifest["openvino"] = text,
        |manifest, text| manifest["pipeline"] = text,
        |manifest, text| {
            let entry = manifest["files"]["transformer.bin"].clone();
            manifest["files"][text.as_str().unwrap()] = entry;
        },
    ] {
        fs::write(&path, &whole).unwrap();
        change_json(&path, |manifest| change(manifest, json!(escape)));
        plain(&bounded(&desk.pixart(&["info", "--model", "model"])));
        plain(&draw(&desk, &["--model", "model"]));
    }
    fs::write(&path, &whole).unwrap();
    change_json(&path, |manifest| manifest["name"] = json!(escape));
    draw(&desk, &["--model", "model"]).refused(3, &["name", "control characters"]);
    // The names of folders are somebody else's too, and become the names of models.
    fs::write(&path, &whole).unwrap();
    let folder = PathBuf::from(std::ffi::OsStr::from_bytes(b"m\x1b[31m\n"));
    fs::rename(desk.path("model"), desk.0.path().join(&folder)).unwrap();
    let said = bounded(desk.pixart(&["info", "--model"]).arg(&folder));
    plain(&said);
    said.done();
    let source = checkpoint("tests/golden/checkpoints/tiny-alpha");
    let renamed = desk.0.path().join("c\u{1b}[31m");
    copy(source.path(), &renamed);
    plain(&bounded(desk.pixart(&["convert", "--output", "model"]).arg(&renamed)).done());
    let manifest: Value = serde_json::from_slice(&desk.read("model/manifest.json")).unwrap();
    assert_eq!(manifest["name"], "c\\u{1b}[31m");
    plain(&draw(&desk, &["--model", "model"]).done());
}

#[test]
fn too_little_memory_and_too_few_threads_are_told_as_such() {
    let desk = Desk::new();
    for kilobytes in [220_000, 300_000, 500_000, 1_000_000] {
        let words = ["generate", "a", "--output", "a.png"];
        let ended = limited(&format!("-v {kilobytes}"), &desk, &words);
        let told = &ended.stderr;
        assert_ne!(ended.code, Some(0), "{kilobytes}");
        assert!(!told.contains("panicked"), "{kilobytes}: {told}");
        assert!(!told.contains("this machine has ,"), "{kilobytes}: {told}");
        let is_told = told.contains("ulimit -v") || told.contains("memory allocation of");
        assert!(is_told, "{kilobytes}: {told}");
    }
    assert_eq!(desk.names(), [""; 0]);
}

#[test]
fn too_few_open_files_are_told_as_such() {
    let desk = Desk::new();
    let serve = ["serve", "--listen", "127.0.0.1:0"];
    for files in [16, 24, 90] {
        let ended = limited(&format!("-n {files}"), &desk, &serve);
        assert_eq!(ended.code, Some(1), "{files}: {}", ended.stderr);
        let said = format!("may have {files} files open at once");
        assert!(ended.stderr.contains(&said), "{}", ended.stderr);
        assert!(ended.stderr.contains("ulimit -n"), "{}", ended.stderr);
    }
    let ended = limited("-n 8", &desk, &["generate", "a", "--output", "a.png"]);
    assert_eq!(ended.code, Some(1), "{}", ended.stderr);
    assert!(ended.stderr.contains("ulimit -n"), "{}", ended.stderr);
}

#[test]
fn a_file_that_may_not_grow_so_far_is_an_error_and_leaves_nothing() {
    let desk = desk_with_model();
    let words = ["generate", "a", "--model", "model", "--output", "a.png"];
    let ended = limited(
        "-f 1",
        &desk,
        &[
            &words[..],
            &["--size", "256x256", "--no-resolution-binning"],
        ]
        .concat(),
    );
    assert_eq!(ended.code, Some(5), "{}", ended.stderr);
    for part in ["a.png", "ulimit -f"] {
        assert!(
            ended.stderr.contains(part),
            "no '{part}' in {}",
            ended.stderr
        );
    }
    assert_eq!(desk.names(), ["model"]);
}

#[test]
fn receipts_say_by_what_a_processor_computed() {
    let desk = desk_with_model();
    let receipt = |variable: Option<&str>, threads: &str| -> Value {
        let mut command = pixart_at_home();
        command.current_dir(desk.path("")).args([
            "generate",
            "a",
            "--json",
            "--model",
            "model",
            "--size",
            "32x32",
            "--no-resolution-binning",
            "--output",
            "a.png",
            "--threads",
            threads,
        ]);
        if let Some(most) = variable {
            command.env("ONEDNN_MAX_CPU_ISA", most);
        }
        let told = told(&outcome(&mut command).done());
        told["images"][0]["receipt"].clone()
    };
    let (one, two) = (receipt(None, "1"), receipt(None, "2"));
    assert_eq!(one["threads"], json!(1));
    // As many as were asked for where there are so many cores.
    let many = two["threads"].as_u64().unwrap();
    assert!((1..=2).contains(&many), "{many}");
    assert_eq!(one["instruction_set"], two["instruction_set"]);
    let text = desk.picture("a.png").text;
    assert_eq!(text["pixart:threads"], many.to_string());
    assert_eq!(
        text["pixart:instruction_set"],
        two["instruction_set"].as_str().unwrap()
    );
    // Others leave the runtime without kernels that it needs.
    let here = two["instruction_set"].as_str().unwrap();
    if here.contains("AMX") {
        let told = receipt(Some("avx512_core_bf16"), "2");
        let told = told["instruction_set"].as_str().unwrap();
        assert!(
            told.contains("AVX512-BF16") && !told.contains("AMX"),
            "{told}"
        );
    }
}
