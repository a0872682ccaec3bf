//! What `pixart generate` draws and tells.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::process::Command;

use pixart::model::WeightsFormat;
use serde_json::Value;

use super::{Desk, json};
use crate::support::{
    checkpoint, convert_to, decode_png, model_measured_elsewhere, names_in, outcome, pixart,
    project, runtime, small_model,
};

#[test]
fn an_empty_folder_and_a_runtime_are_enough_wherever_the_runtime_is() {
    let desk = Desk::new();
    let cache = tempfile::tempdir().unwrap();
    let library = runtime().library().to_owned();
    let folder = library.parent().unwrap();
    let bare = || {
        let mut command = Command::new(env!("CARGO_BIN_EXE_pixart"));
        command
            .env_clear()
            .env("XDG_CACHE_HOME", cache.path())
            .current_dir(desk.0.path())
            .args(["generate", "a small cactus", "--seed", "7"]);
        command
    };

    let first = outcome(bare().env("PIXART__OPENVINO__LIBRARY", folder)).done();
    assert!(
        first.stdout.starts_with("pixart-7.png\n"),
        "{}",
        first.stdout
    );
    assert_eq!(desk.names(), ["pixart-7.png"]);
    let picture = desk.picture("pixart-7.png");
    assert_eq!((picture.width, picture.height), (256, 256));
    let kept = names_in(&cache.path().join("pixart"));
    assert_eq!(kept.len(), 1, "{kept:?}");
    let bytes = desk.read("pixart-7.png");

    outcome(bare().arg("--openvino").arg(&library)).done();
    assert!(desk.read("pixart-7.png") == bytes, "--openvino");

    fs::create_dir(desk.path(".openvino")).unwrap();
    symlink(folder, desk.path(".openvino/libs")).unwrap();
    outcome(&mut bare()).done();
    assert!(desk.read("pixart-7.png") == bytes, ".openvino/libs");
    assert_eq!(names_in(&cache.path().join("pixart")), kept);
}

/// On a processor with AMX each of these ended by SIGFPE, traced networks included.
#[test]
fn one_thread_and_one_core_are_enough() {
    let desk = Desk::new();
    let traced = project("tests/golden/traced");
    let source = checkpoint("tests/golden/checkpoints/tiny-alpha");
    let of_traced = |command: &mut Command| {
        let size = ["--size", "80x64", "--no-resolution-binning"];
        command.arg("--model").arg(&traced);
        command.arg("--checkpoint").arg(source.path()).args(size);
    };
    let words = ["generate", "a cat", "--seed", "1", "--threads", "1"];
    outcome(&mut desk.pixart(&words)).done();
    let mut command = desk.pixart(&words);
    of_traced(&mut command);
    outcome(&mut command).done();
    outcome(&mut desk.pixart(&["info", "--threads", "1"])).done();

    // What pins a process is on most machines, and not on all.
    let Ok(taskset) = Command::new("taskset").arg("--version").output() else {
        return;
    };
    assert!(taskset.status.success());
    for threads in ["0", "2"] {
        let inner = desk.pixart(&["generate", "a cat", "--seed", "1", "--threads", threads]);
        let mut pinned = Command::new("taskset");
        pinned
            .args(["--cpu-list", "0"])
            .arg(inner.get_program())
            .args(inner.get_args())
            .current_dir(desk.path(""));
        for (name, value) in inner.get_envs() {
            match value {
                Some(value) => pinned.env(name, value),
                None => pinned.env_remove(name),
            };
        }
        outcome(&mut pinned).done();
    }
}

#[test]
fn picture_i_of_a_series_is_the_one_that_its_seed_draws_alone() {
    let desk = Desk::new();
    let series = desk
        .draw(&[
            "a red house",
            "--seed",
            "41",
            "--count",
            "3",
            "--output",
            "a.png",
        ])
        .done();
    assert_eq!(desk.names(), ["a-0.png", "a-1.png", "a-2.png"]);
    for index in 0..3 {
        assert!(
            series.stdout.contains(&format!("a-{index}.png")),
            "{}",
            series.stdout
        );
    }
    desk.draw(&["a red house", "--seed", "43", "--output", "alone.png"])
        .done();
    assert!(desk.read("alone.png") == desk.read("a-2.png"));
    assert!(desk.read("a-0.png") != desk.read("a-1.png"));
    desk.draw(&["a red house", "--seed", "41", "--output", "again.png"])
        .done();
    assert!(desk.read("again.png") == desk.read("a-0.png"));
}

#[test]
fn a_series_is_refused_before_it_is_drawn_when_one_of_its_names_is_in_the_way() {
    let desk = Desk::new();
    fs::create_dir(desk.path("a-1.png")).unwrap();
    let told = desk.draw_small(&[
        "a tree", "--size", "64x32", "--count", "3", "--output", "a.png", "--json",
    ]);
    assert_eq!(told.code, Some(5), "{}", told.stderr);
    assert!(
        told.stderr.contains("cannot write a-1.png"),
        "{}",
        told.stderr
    );
    assert_eq!(desk.names(), ["a-1.png"]);
}

#[test]
fn an_empty_prompt_is_drawn_with_a_note_and_a_seed_of_minus_one_is_any() {
    let desk = Desk::new();
    for prompt in ["", " \t\n"] {
        let words = [prompt, "--size", "64x32", "--json", "--seed", "-1"];
        let told = json(&desk.draw_small(&words).done());
        let image = &told["images"][0];
        let warning = image["warnings"][0].as_str().unwrap();
        assert!(warning.starts_with("prompt has no word"), "{warning}");
        assert!(u32::try_from(image["receipt"]["seed"].as_u64().unwrap()).is_ok());
    }
}

#[test]
fn the_seed_that_is_told_draws_the_picture_again() {
    let desk = Desk::new();
    let told = json(
        &desk
            .draw_small(&["a tree", "--size", "64x32", "--json"])
            .done(),
    );
    let receipt = &told["images"][0]["receipt"];
    let seed = receipt["seed"].as_u64().unwrap().to_string();
    let path = format!("pixart-{seed}.png");
    assert_eq!(told["images"][0]["path"], Value::from(path.as_str()));
    let other = json(
        &desk
            .draw_small(&["a tree", "--size", "64x32", "--json"])
            .done(),
    );
    assert_ne!(other["images"][0]["receipt"]["seed"], receipt["seed"]);
    desk.draw_small(&[
        "a tree",
        "--size",
        "64x32",
        "--seed",
        &seed,
        "--output",
        "again.png",
    ])
    .done();
    assert!(desk.read("again.png") == desk.read(&path));
}

#[test]
fn json_tells_numbers_as_numbers_and_the_png_tells_the_same() {
    let desk = Desk::new();
    let told = desk
        .draw(&[
            "a secret garden",
            "--negative-prompt",
            "a hidden wish",
            "--seed",
            "18446744073709551615",
            "--steps",
            "3",
            "--guidance-scale",
            "7.1",
            "--scheduler",
            "dpmsolver++",
            "--size",
            "64x96",
            "--json",
            "--output",
            "a.png",
        ])
        .done();
    let told = json(&told);
    assert!(told["load_seconds"].as_f64().unwrap() > 0.0);
    assert_eq!(told["notes"], Value::Array(Vec::new()));
    let images = told["images"].as_array().unwrap();
    assert_eq!(images.len(), 1);
    let image = &images[0];
    assert_eq!(image["path"], "a.png");
    assert_eq!(image["warnings"], Value::Array(Vec::new()));

    let receipt = image["receipt"].as_object().unwrap();
    assert_eq!(receipt["seed"], Value::from(u64::MAX));
    assert_eq!(receipt["steps"], Value::from(3));
    assert_eq!(receipt["guidance_scale"].to_string(), "7.1");
    assert_eq!(receipt["scheduler"], "dpmsolver++");
    assert_eq!(receipt["size"], "64x96");
    assert_eq!(receipt["drawn_size"], "64x96");
    assert_eq!(receipt["resolution_binning"], false);
    assert_eq!(receipt["clean_caption"], false);
    assert_eq!(receipt["model"], "sketchbook");
    assert_eq!(receipt["weights"], "f16");
    assert_eq!(receipt["device"], "CPU");
    assert_eq!(receipt["openvino"], runtime().version());
    assert_eq!(receipt["pixart"], env!("CARGO_PKG_VERSION"));
    assert_eq!(receipt["model_digest"].as_str().unwrap().len(), 64);
    assert!(["f32", "bf16", "f16"].contains(&receipt["precision"].as_str().unwrap()));

    let timings = image["timings"].as_object().unwrap();
    for stage in [
        "tokenize",
        "text_encode",
        "denoise",
        "vae_decode",
        "png_encode",
        "total",
    ] {
        let key = format!("{stage}_seconds");
        assert!(timings[&key].as_f64().unwrap() >= 0.0, "{key}");
    }
    assert_eq!(timings["steps_seconds"].as_array().unwrap().len(), 3);

    let picture = desk.picture("a.png");
    assert_eq!((picture.width, picture.height), (64, 96));
    let in_png: BTreeMap<String, String> = receipt
        .iter()
        .map(|(name, value)| {
            let text = value
                .as_str()
                .map_or_else(|| value.to_string(), str::to_owned);
            (format!("pixart:{name}"), text)
        })
        .collect();
    assert_eq!(picture.text, in_png);
    let bytes = desk.read("a.png");
    for word in ["garden", "hidden", "secret"] {
        let found = bytes
            .windows(word.len())
            .any(|window| window == word.as_bytes());
        assert!(!found, "the file says '{word}'");
    }
}

#[test]
fn prompts_stand_in_the_png_when_that_is_asked_for() {
    let desk = Desk::new();
    desk.draw_small(&[
        "ein Schloß",
        "--negative-prompt",
        "צבר 🌵",
        "--embed-prompt",
        "--size",
        "32x32",
        "--output",
        "a.png",
    ])
    .done();
    let text = desk.picture("a.png").text;
    assert_eq!(text["pixart:prompt"], "ein Schloß");
    assert_eq!(text["pixart:negative_prompt"], "צבר 🌵");
}

#[test]
fn steps_and_guidance_follow_the_checkpoints_scheduler() {
    let desk = Desk::new();
    let student = json(&desk.draw(&["a boat", "--json"]).done());
    let receipt = &student["images"][0]["receipt"];
    assert_eq!(receipt["scheduler"], "lcm");
    assert_eq!(receipt["steps"], Value::from(4));
    assert_eq!(receipt["guidance_scale"].as_f64(), Some(0.0));
    assert_eq!(receipt["size"], "256x256");

    let teacher = checkpoint("models/sketchbook-teacher");
    convert_to(teacher.path(), &desk.path("teacher"), WeightsFormat::F16);
    let told = json(
        &desk
            .draw(&[
                "a boat",
                "--model",
                "teacher",
                "--size",
                "64x64",
                "--no-resolution-binning",
                "--json",
            ])
            .done(),
    );
    let receipt = &told["images"][0]["receipt"];
    assert_eq!(receipt["scheduler"], "dpmsolver++");
    assert_eq!(receipt["steps"], Value::from(20));
    assert_eq!(receipt["guidance_scale"].as_f64(), Some(4.5));
    // And what is asked for goes before.
    let told = json(
        &desk
            .draw(&[
                "a boat",
                "--model",
                "teacher",
                "--size",
                "64x64",
                "--no-resolution-binning",
                "--scheduler",
                "lcm",
                "--json",
            ])
            .done(),
    );
    let receipt = &told["images"][0]["receipt"];
    assert_eq!(receipt["scheduler"], "lcm");
    assert_eq!(receipt["steps"], Value::from(4));
}

#[test]
fn what_a_caller_may_not_expect_is_told_beside_the_picture() {
    let desk = Desk::new();
    let long = "cat ".repeat(400);
    let told = desk
        .draw_small(&[
            &long,
            "--negative-prompt",
            "a dog",
            "--steps",
            "1",
            "--size",
            "32x32",
            "--json",
        ])
        .done();
    let told = json(&told);
    let warnings: Vec<&str> = told["images"][0]["warnings"]
        .as_array()
        .unwrap()
        .iter()
        .map(|warning| warning.as_str().unwrap())
        .collect();
    for part in [
        "prompt was cut",
        "the model reads 120",
        "negative_prompt has no effect",
        "trained for 2 to 8",
    ] {
        assert!(
            warnings.iter().any(|warning| warning.contains(part)),
            "no '{part}' in {warnings:?}"
        );
    }
    assert_eq!(warnings.len(), 3, "{warnings:?}");

    let readable = desk
        .draw_small(&["a cat", "--steps", "1", "--size", "32x32"])
        .done();
    assert!(
        readable.stdout.contains("note") && readable.stdout.contains("2 to 8"),
        "{}",
        readable.stdout
    );
}

#[test]
fn binning_is_the_checkpoints_way_and_can_be_left() {
    let desk = Desk::new();
    let source = checkpoint("tests/golden/checkpoints/tiny-sigma");
    convert_to(source.path(), &desk.path("model"), WeightsFormat::F16);
    let draw = |words: &[&str]| {
        let mut all = vec![
            "a cat", "--model", "model", "--size", "64x48", "--steps", "1",
        ];
        all.extend(["--scheduler", "lcm", "--json", "--output", "a.png"]);
        all.extend(words);
        let told = json(&desk.draw(&all).done());
        let picture = desk.picture("a.png");
        assert_eq!((picture.width, picture.height), (64, 48), "{words:?}");
        told["images"][0].clone()
    };
    let exact = draw(&["--no-resolution-binning"]);
    assert_eq!(exact["receipt"]["drawn_size"], "64x48");
    let binned = draw(&[]);
    let drawn = binned["receipt"]["drawn_size"].as_str().unwrap().to_owned();
    assert_ne!(drawn, "64x48");
    assert!(binned["warnings"].to_string().contains(&drawn), "{binned}");
    // The last of two wishes counts.
    let last = draw(&["--no-resolution-binning", "--resolution-binning"]);
    assert_eq!(last["receipt"]["drawn_size"].as_str().unwrap(), drawn);
    let last = draw(&["--resolution-binning", "--no-resolution-binning"]);
    assert_eq!(last["receipt"]["drawn_size"], "64x48");
}

#[test]
fn every_script_and_emoji_draws() {
    let desk = Desk::new();
    for prompt in [
        "צבר קטן עם פנים שמחות",
        "صبار صغير سعيد",
        "🌵🚀🐈‍⬛",
        "小さなサボテン",
        "a\u{202e}b\u{200b}\u{feff}\r\n\t\u{7}",
        "x",
    ] {
        desk.draw_small(&[prompt, "--size", "32x32", "--steps", "1", "--quiet"])
            .done();
    }
}

#[test]
fn a_prompt_at_the_limit_of_characters_draws() {
    let desk = Desk::new();
    let prompt = "ä".repeat(4096);
    desk.draw_small(&[&prompt, "--size", "32x32", "--steps", "1"])
        .done();
}

#[test]
fn a_converted_model_draws_from_a_folder_whose_name_is_a_number() {
    let desk = Desk::new();
    let source = checkpoint("tests/golden/checkpoints/tiny-alpha");
    let said = outcome(
        desk.pixart(&["convert", "--output", "123"])
            .arg(source.path()),
    )
    .done();
    assert!(said.stdout.contains("--model 123"), "{}", said.stdout);
    desk.draw(&[
        "a cat",
        "--model",
        "123",
        "--no-resolution-binning",
        "--size",
        "32x32",
        "--output",
        "a.png",
    ])
    .done();
    assert_eq!(desk.names(), ["123", "a.png"]);
}

#[test]
fn settings_come_from_file_environment_and_flags() {
    let desk = Desk::new();
    let text = format!(
        "[model]\ndirectory = '{}'\n[openvino]\nprecision = 'f32'\n",
        small_model().display()
    );
    fs::write(desk.path("mine.toml"), text).unwrap();
    let drawn = |command: &mut Command| {
        let told = outcome(
            command
                .current_dir(desk.0.path())
                .args([
                    "generate",
                    "a cat",
                    "--size",
                    "32x32",
                    "--no-resolution-binning",
                    "--json",
                ])
                .args(["--output", "a.png"]),
        )
        .done();
        json(&told)["images"][0]["receipt"].clone()
    };
    let by_file = drawn(pixart().args(["--config", "mine.toml"]));
    assert_eq!(by_file["precision"], "f32");
    let by_variable = drawn(pixart().env("PIXART_CONFIG", "mine.toml"));
    assert_eq!(by_variable, by_file_with_seed(&by_file, &by_variable));
    assert!(decode_png(&desk.read("a.png")).width == 32);
}

/// The one field that no settings decide.
fn by_file_with_seed(by_file: &Value, other: &Value) -> Value {
    let mut expected = by_file.clone();
    expected["seed"] = other["seed"].clone();
    expected
}

#[test]
fn a_variant_that_was_measured_on_another_processor_is_named() {
    let desk = Desk::new();
    let model = model_measured_elsewhere(&desk.path(""));
    let draw = |more: &[&str]| {
        let words = [
            "generate",
            "a tree",
            "--no-resolution-binning",
            "--size",
            "64x64",
        ];
        let words = [&words[..], &["--output", "a.png", "--model"]].concat();
        outcome(desk.pixart(&words).arg(&model).args(more)).done()
    };
    let parts = [
        "variant int8",
        "another processor",
        "Some Other CPU, AVX2",
        "--record",
    ];
    let said = draw(&["--count", "2"]).stdout;
    assert_eq!(said.matches("variant int8").count(), 1, "once: {said}");
    let told = json(&draw(&["--json"]));
    let note = told["notes"][0].as_str().unwrap();
    for part in parts {
        assert!(said.contains(part) && note.contains(part), "{said}{note}");
    }
    let info = outcome(desk.pixart(&["info", "--model"]).arg(&model)).done();
    assert!(
        info.stdout.contains("Some Other CPU, AVX2"),
        "{}",
        info.stdout
    );
}
