//! `pixart quantize`: what becomes of a model, that it draws nearly the same, and what is refused.
//!
//! Sketchbook is what is quantised where pictures count: weights that were trained have the outliers that random ones lack.

use std::fs;

use pixart::model::WeightsFormat;
use serde_json::{Value, json};

use super::{Desk, SKETCHBOOK};
use crate::support::{Outcome, Picture, convert_to, names_in, outcome, project};

/// Nothing but what a test is about.
const KEEP_ALL_ELSE: [&str; 4] = ["--vae-decoder", "keep", "--text-encoder-weights", "keep"];

fn quantize(desk: &Desk, words: &[&str]) -> Outcome {
    outcome(
        desk.pixart(&["quantize", "--quiet"])
            .arg(SKETCHBOOK.path("f16"))
            .args(words),
    )
}

fn manifest(desk: &Desk, model: &str) -> Value {
    serde_json::from_slice(&desk.read(&format!("{model}/manifest.json"))).unwrap()
}

const CACTUS: &str = "A small cactus with a happy face in the Sahara desert.";

fn draw(desk: &Desk, model: &std::path::Path, prompt: &str, output: &str) -> Picture {
    let words = ["generate", prompt, "--seed", "41", "--output", output];
    outcome(desk.pixart(&words).arg("--model").arg(model)).done();
    desk.picture(output)
}

/// Peak signal-to-noise ratio in dB.
fn psnr(one: &Picture, other: &Picture) -> f64 {
    let sum: f64 = one
        .rgb
        .iter()
        .zip(&other.rgb)
        .map(|(&a, &b)| (f64::from(a) - f64::from(b)).powi(2))
        .sum();
    10.0 * (255.0_f64.powi(2) * one.rgb.len() as f64 / sum).log10()
}

#[test]
fn a_fully_quantised_model_is_smaller_and_draws_nearly_the_same() {
    let desk = Desk::new();
    quantize(
        &desk,
        &["--output", "int8", "--samples", "32", "--group", "64"],
    )
    .done();
    let told = manifest(&desk, "int8");
    assert_eq!(told["transformer"]["weights"], "int8");
    assert_eq!(told["transformer"]["quantization"]["mode"], "full");
    assert_eq!(told["vae_decoder"]["quantization"]["mode"], "full");
    assert_eq!(told["text_encoder"]["weights"], "int4");
    assert_eq!(told["text_encoder"]["quantization"]["group"], 64);
    assert_eq!(told["calibration"]["samples"], 32);
    assert_eq!(told["calibration"]["size"], "256x256");
    let operations = &told["transformer"]["quantization"]["operations"];
    assert!(operations.as_u64().unwrap() > 60, "{operations}");

    let bytes = |model: &Value, file: &str| model["files"][file]["bytes"].as_f64().unwrap();
    let before = manifest(&SKETCHBOOK, "f16");
    for (file, least) in [
        ("transformer.bin", 1.9),
        ("vae_decoder.bin", 1.9),
        ("text_encoder.bin", 3.0),
    ] {
        let ratio = bytes(&before, file) / bytes(&told, file);
        assert!(ratio > least, "{file} became {ratio} times smaller");
    }

    // What a caption leaves open may turn out otherwise, and then the picture is another: of three most are the same.
    let mut ratios: Vec<f64> = [
        CACTUS,
        "A sad robot next to a yellow house",
        "A sleepy white cat at night",
    ]
    .into_iter()
    .enumerate()
    .map(|(index, prompt)| {
        let output = |model: &str| format!("{model}-{index}.png");
        let original = draw(&desk, &SKETCHBOOK.path("f16"), prompt, &output("f16"));
        let quantised = draw(&desk, &desk.path("int8"), prompt, &output("int8"));
        assert_eq!(
            quantised.text["pixart:weights"],
            "text_encoder int4, transformer int8 full, vae_decoder int8 full"
        );
        psnr(&original, &quantised)
    })
    .collect();
    ratios.sort_by(f64::total_cmp);
    assert!(ratios[1] > 28.0, "{ratios:?} dB");
}

#[test]
fn weights_alone_need_no_calibration_and_change_little() {
    let desk = Desk::new();
    let words = [
        "--output",
        "int8",
        "--transformer",
        "weights",
        "--vae-decoder",
        "weights",
    ];
    quantize(
        &desk,
        &[&words[..], &["--text-encoder-weights", "int8"]].concat(),
    )
    .done();
    let told = manifest(&desk, "int8");
    assert_eq!(told["calibration"], Value::Null);
    assert_eq!(told["vae_decoder"]["quantization"]["operations"], 0);
    let original = draw(&desk, &SKETCHBOOK.path("f16"), CACTUS, "f16.png");
    let quantised = draw(&desk, &desk.path("int8"), CACTUS, "int8.png");
    let psnr = psnr(&original, &quantised);
    assert!(psnr > 25.0, "{psnr} dB");
    assert_eq!(quantised.text["pixart:weights"], "int8");
}

#[test]
fn the_vae_is_stored_in_eight_bits_or_four_and_draws_nearly_the_same() {
    let desk = Desk::new();
    let keep = ["--transformer", "keep", "--text-encoder-weights", "keep"];
    let robot = "A sad robot next to a yellow house";
    let original = draw(&desk, &SKETCHBOOK.path("f16"), robot, "f16.png");
    let mut bytes = Vec::new();
    for (weights, nearest) in [("int8", 35.0), ("int4-asymmetric", 22.0), ("int4", 22.0)] {
        let words = [
            "--output",
            weights,
            "--vae-decoder",
            "weights",
            "--group",
            "72",
        ];
        let words = [&words[..], &["--vae-decoder-weights", weights], &keep].concat();
        quantize(&desk, &words).done();
        let told = manifest(&desk, weights);
        assert_eq!(told["calibration"], Value::Null);
        let stored = told["vae_decoder"]["weights"].as_str().unwrap();
        assert!(weights.starts_with(stored), "{stored}");
        bytes.push(told["files"]["vae_decoder.bin"]["bytes"].as_u64().unwrap());
        let picture = draw(&desk, &desk.path(weights), robot, "drawn.png");
        let psnr = psnr(&original, &picture);
        assert!(psnr > nearest, "{weights}: {psnr} dB");
    }
    assert!(bytes.is_sorted_by(|more, less| more > less), "{bytes:?}");
}

#[test]
fn a_table_of_embeddings_has_eight_bits_or_four() {
    let desk = Desk::new();
    let keep = ["--transformer", "keep", "--vae-decoder", "keep"];
    let bytes = |embeddings: &str| {
        let words = [
            "--output",
            embeddings,
            "--group",
            "64",
            "--embeddings",
            embeddings,
        ];
        quantize(&desk, &[&words[..], &keep].concat()).done();
        let told = manifest(&desk, embeddings);
        assert_eq!(
            told["text_encoder"]["quantization"]["embeddings"],
            embeddings
        );
        told["files"]["text_encoder.bin"]["bytes"].as_u64().unwrap()
    };
    let [eight, four] = ["int8", "int4"].map(bytes);
    // Of each of 489 rows: 192 bytes and a scale of 4, or 96 bytes and 3 of 2.
    let apart = 489 * (192 + 4 - 96 - 3 * 2);
    assert!(eight.abs_diff(four + apart) < 1024, "{eight} and {four}");
    // Groups that do not divide its rows leave it 8 bits, and the manifest says so.
    let words = [
        "--output",
        "other",
        "--group",
        "128",
        "--embeddings",
        "int4",
    ];
    quantize(&desk, &[&words[..], &keep].concat()).done();
    let told = manifest(&desk, "other");
    assert_eq!(told["text_encoder"]["quantization"]["embeddings"], "int8");

    let robot = "A sad robot next to a yellow house";
    let original = draw(&desk, &SKETCHBOOK.path("f16"), robot, "f16.png");
    for embeddings in ["int8", "int4"] {
        let picture = draw(&desk, &desk.path(embeddings), robot, "drawn.png");
        let psnr = psnr(&original, &picture);
        assert!(psnr > 28.0, "{embeddings}: {psnr} dB");
    }
}

#[test]
fn a_calibration_that_goes_on_ends_as_one_that_was_never_interrupted() {
    let desk = Desk::new();
    fs::write(
        desk.path("captions.txt"),
        "a red boat\na cat\na star at night\na yellow house\n",
    )
    .unwrap();
    let calibrate = |output: &str, samples: &str, file: &str| {
        let words = [
            "--captions",
            "captions.txt",
            "--steps",
            "1",
            "--transformer",
            "hybrid",
        ];
        let words = [&words[..], &KEEP_ALL_ELSE].concat();
        let more = [
            "--output",
            output,
            "--samples",
            samples,
            "--statistics",
            file,
        ];
        quantize(&desk, &[words, more.to_vec()].concat()).done();
        manifest(&desk, output)
    };
    let whole = calibrate("whole", "4", "whole.json");
    calibrate("part", "2", "part.json");
    // The captions asked for decide what the statistics are of: two of them were others.
    let words = [
        "--captions",
        "captions.txt",
        "--steps",
        "1",
        "--samples",
        "4",
    ];
    quantize(
        &desk,
        &[
            &words[..],
            &["--statistics", "part.json", "--output", "again"],
        ]
        .concat(),
    )
    .refused(2, &["part.json", "another list of captions"]);
    let again = calibrate("again", "4", "whole.json");
    assert_eq!(whole["calibration"], again["calibration"]);
    assert_eq!(whole["files"], again["files"]);
    assert_eq!(whole["transformer"]["quantization"]["mode"], "hybrid");
}

#[test]
fn operations_are_listed_by_the_names_that_keep_them_in_floats() {
    let desk = Desk::new();
    let listed = quantize(&desk, &["--operations"]).done().stdout;
    let of = |part: &str| -> Vec<&str> {
        listed
            .lines()
            .filter_map(|line| line.split_once('\t'))
            .filter_map(|(found, name)| (found == part).then_some(name))
            .collect()
    };
    assert!(of("vae_decoder").len() > 10, "{listed}");
    let name = of("transformer")[20];
    let words = [
        "--output",
        "int8",
        "--samples",
        "1",
        "--steps",
        "1",
        "--in-float",
        name,
    ];
    quantize(&desk, &[&words[..], &KEEP_ALL_ELSE].concat()).done();
    let told = manifest(&desk, "int8");
    assert_eq!(
        told["transformer"]["quantization"]["in_float"],
        json!([name])
    );
    assert_eq!(
        told["transformer"]["quantization"]["operations"],
        of("transformer").len() - 1
    );
}

#[test]
fn what_makes_no_sense_is_refused_and_leaves_nothing() {
    let desk = Desk::new();
    fs::write(desk.path("binary"), [0xff, 0xfe, 0x00]).unwrap();
    fs::write(desk.path("short.txt"), "one\ntwo\n").unwrap();
    fs::write(desk.path("damaged.json"), "{").unwrap();
    let keep_all = [&KEEP_ALL_ELSE[..], &["--transformer", "keep"]].concat();
    for (words, code, parts) in [
        (keep_all, 2, vec!["nothing is left to quantise"]),
        (vec!["--captions", "none"], 2, vec!["none"]),
        (vec!["--captions", "binary"], 2, vec!["binary", "not UTF-8"]),
        (
            vec!["--captions", "short.txt", "--samples", "3"],
            2,
            vec!["2 captions", "--samples 2"],
        ),
        (
            vec!["--in-float", "Sesame"],
            2,
            vec!["'Sesame'", "--operations"],
        ),
        (
            vec!["--statistics", "damaged.json", "--samples", "1"],
            2,
            vec!["damaged.json"],
        ),
        (vec!["--range", "wide"], 2, vec!["percentile:P"]),
        (vec!["--smoothing", "2"], 2, vec!["between 0 and 1"]),
    ] {
        let words = [&["--output", "out"][..], &words].concat();
        quantize(&desk, &words).refused(code, &parts);
        assert!(!desk.path("out").exists(), "{words:?}");
    }
    // Before an hour of calibration.
    fs::create_dir(desk.path("taken")).unwrap();
    fs::write(desk.path("taken/letter.txt"), "dear").unwrap();
    let done = quantize(&desk, &["--output", "taken", "--statistics", "seen.json"]);
    done.refused(5, &["taken", "choose another --output"]);
    fs::remove_dir_all(desk.path("taken")).unwrap();
    let model = SKETCHBOOK.path("f16");
    quantize(&desk, &["--output", model.to_str().unwrap()]).refused(2, &["another --output"]);
    let mut left = names_in(desk.path("").as_path());
    left.sort();
    assert_eq!(left, ["binary", "damaged.json", "short.txt"]);
}

#[test]
fn a_model_in_integers_is_not_quantised_again() {
    let desk = Desk::new();
    convert_to(
        &project("models/sketchbook"),
        &desk.path("int8"),
        WeightsFormat::Int8,
    );
    outcome(&mut desk.pixart(&["quantize", "int8", "--output", "again", "--samples", "1"]))
        .refused(
            3,
            &[
                "quantised already",
                "--weights f16",
                "--text-encoder-weights keep",
            ],
        );
}

#[test]
fn what_errs_too_much_where_it_is_tried_stays_in_floats() {
    let desk = Desk::new();
    let kept = |output: &str, tolerance: &str| -> (usize, usize) {
        let words = [
            "--output",
            output,
            "--samples",
            "4",
            "--tolerance",
            tolerance,
        ];
        quantize(&desk, &[&words[..], &KEEP_ALL_ELSE].concat()).done();
        let quantization = &manifest(&desk, output)["transformer"]["quantization"];
        let in_float = quantization["in_float"].as_array().map_or(0, Vec::len);
        let operations = quantization["operations"].as_u64().unwrap();
        (in_float, usize::try_from(operations).unwrap())
    };
    let (none, all) = kept("loose", "1");
    assert_eq!(none, 0);
    let (some, rest) = kept("strict", "0.03");
    assert!(some > 0 && rest > 0, "{some} in floats, {rest} in integers");
    assert_eq!(some + rest, all);
    assert_eq!(kept("exact", "0").1, 0);

    let words = ["--output", "int8", "--tolerance", "1.5"];
    quantize(&desk, &words).refused(2, &["--tolerance", "between 0 and 1"]);
}
