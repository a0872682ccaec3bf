//! `pixart quantize`: what becomes of a model, that it draws nearly the same, and what is refused.
//!
//! Sketchbook is what is quantised where pictures count: weights that were trained have the outliers that random ones lack.

use std::fs;

use pixart::model::{WeightsFormat, hex};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::{Desk, SKETCHBOOK, binned_model};
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
    // The convolution of each that takes the latents.
    for part in ["transformer", "vae_decoder"] {
        let in_float = told[part]["quantization"]["in_float"].as_array();
        assert_eq!(in_float.map(Vec::len), Some(1), "{part}");
    }
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

/// How many rows calibration has seen of the point `name` of the transformer in one inference, by its file.
fn rows_seen(desk: &Desk, file: &str, name: &str) -> u64 {
    let told: Value = serde_json::from_slice(&desk.read(file)).unwrap();
    let points = told["statistics"]["components"]["transformer"].as_array();
    let point = points.unwrap().iter().find(|point| point["name"] == name);
    let bins = point.unwrap()["rows_min"].as_object().unwrap().values();
    bins.map(|rows| rows.as_u64().unwrap()).sum()
}

#[test]
fn calibration_sees_the_size_that_was_asked_for_and_no_aspect_bin() {
    let desk = Desk::new();
    let model = binned_model(&desk);
    let calibrate = |output: &str, size: &str| {
        let words = ["--samples", "1", "--steps", "1", "--transformer", "hybrid"];
        let more = ["--output", output, "--size", size, "--statistics", size];
        let words = [&["quantize", "--quiet"], &words[..], &KEEP_ALL_ELSE, &more].concat();
        outcome(desk.pixart(&words).arg(&model))
    };
    // Latents of four channels, an eighth as high as the image, both halves of guidance.
    for (size, rows) in [("256x256", 2 * 4 * 32), ("96x128", 2 * 4 * 16)] {
        calibrate("int8", size).done();
        assert_eq!(rows_seen(&desk, size, "hidden_states"), rows, "{size}");
        assert_eq!(manifest(&desk, "int8")["calibration"]["size"], size);
    }
    // What an earlier version has kept of such a size was seen in the bin near it; of the model's own it is as good as ever.
    for (size, as_asked) in [("256x256", false), ("96x128", true)] {
        let text = String::from_utf8(desk.read(size)).unwrap();
        let earlier = text.replace(r#","as_asked":true"#, "");
        assert_eq!(earlier != text, as_asked, "{size}");
        fs::write(desk.path(size), reseal(&earlier)).unwrap();
        let again = calibrate("again", size);
        if as_asked {
            again.refused(2, &["96x128", "steps, size, seed or precision"]);
        } else {
            again.done();
        }
    }
    calibrate("odd", "100x96").refused(2, &["100x96", "96x96"]);
}

/// A file of statistics with the digest of what it has now.
fn reseal(text: &str) -> String {
    let (_, statistics) = text.split_once(r#""statistics":"#).unwrap();
    let statistics = statistics.trim_end().strip_suffix('}').unwrap();
    let digest = Sha256::digest(statistics);
    let digest = hex(&digest);
    format!(r#"{{"digest":"{digest}","statistics":{statistics}}}"#)
}

#[test]
fn the_convolution_that_cuts_patches_stays_in_floats_unless_it_is_asked_for() {
    let desk = Desk::new();
    let quick = ["--samples", "1", "--steps", "1", "--output", "int8"];
    let told = |words: &[&str]| {
        quantize(&desk, &[&quick[..], &KEEP_ALL_ELSE, words].concat()).done();
        manifest(&desk, "int8")["transformer"]["quantization"].clone()
    };
    let listed = quantize(&desk, &["--operations"]).done().stdout;
    let mut patches = listed
        .lines()
        .filter_map(|line| line.strip_prefix("transformer\t"))
        .filter(|name| name.starts_with("pos_embed/"));
    let patches = patches.next().unwrap();
    for mode in ["full", "hybrid"] {
        let own = ["--transformer", mode];
        let by_default = told(&own);
        assert_eq!(by_default["in_float"], json!([patches]), "{mode}");
        let asked = told(&[&own[..], &["--in-integers", patches]].concat());
        assert_eq!(asked["in_float"], Value::Null, "{mode}");
        assert_eq!(
            asked["operations"].as_u64().unwrap(),
            by_default["operations"].as_u64().unwrap() + 1,
            "{mode}"
        );
    }
    // Weights that are stored alone cost it nothing.
    assert_eq!(told(&["--transformer", "weights"])["in_float"], Value::Null);

    let refused = |words: &[&str], parts: &[&str]| {
        let words = [&["--output", "none"][..], &KEEP_ALL_ELSE, words].concat();
        quantize(&desk, &words).refused(2, parts);
        assert!(!desk.path("none").exists());
    };
    refused(&["--in-integers", "Sesame"], &["Sesame", patches]);
    let weights = ["--transformer", "weights", "--in-integers", patches];
    refused(&weights, &["no operation stays in floats by default"]);
    let both = ["--in-integers", patches, "--in-float", patches];
    refused(&both, &[patches, "cannot both"]);
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
    // Beside the one that does by default.
    let in_float = told["transformer"]["quantization"]["in_float"].as_array();
    let in_float = in_float.unwrap();
    assert!(
        in_float.len() == 2 && in_float.contains(&json!(name)),
        "{in_float:?}"
    );
    assert_eq!(
        told["transformer"]["quantization"]["operations"],
        of("transformer").len() - 2
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
    assert_eq!(none, 1, "the one that does by default");
    let (some, rest) = kept("strict", "0.03");
    assert!(some > 1 && rest > 0, "{some} in floats, {rest} in integers");
    assert_eq!(some + rest, all + none);
    assert_eq!(kept("exact", "0").1, 0);

    let words = ["--output", "int8", "--tolerance", "1.5"];
    quantize(&desk, &words).refused(2, &["--tolerance", "between 0 and 1"]);
}
