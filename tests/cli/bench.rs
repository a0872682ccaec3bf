//! `pixart bench`, on a model of a few kilobytes: that it measures what it says. How fast a machine is, is nobody's test.

use std::fs;
use std::io::Write as _;
use std::process::Stdio;

use serde_json::{Value, json};

use super::Desk;
use crate::support::{Outcome, outcome, small_model};

/// Stages by their names in the metrics, in their order.
const STAGES: [&str; 5] = [
    "tokenize",
    "text_encode",
    "denoise",
    "vae_decode",
    "png_encode",
];

fn bench(desk: &Desk, words: &[&str]) -> Outcome {
    outcome(
        desk.pixart(&["bench", "--quiet", "--no-peak", "--model"])
            .arg(small_model())
            .args(words),
    )
}

fn report(desk: &Desk) -> Value {
    serde_json::from_slice(&desk.read("report.json")).unwrap()
}

#[test]
fn bench_tells_every_stage_with_all_its_samples() {
    let desk = Desk::new();
    let said = bench(
        &desk,
        &[
            "--sizes",
            "64x64,96x64",
            "--steps",
            "2",
            "--repeat",
            "3",
            "--json",
            "report.json",
        ],
    )
    .done();
    assert!(said.stdout.contains("| text_encode |"), "{}", said.stdout);
    let report = report(&desk);
    assert_eq!(report["schema"], 1);
    assert_eq!(report["matmul_flops_per_second"], Value::Null);
    let cases = report["cases"].as_array().unwrap();
    assert_eq!(cases.len(), 2);
    for (case, size) in cases.iter().zip(["64x64", "96x64"]) {
        assert_eq!(case["size"], size);
        assert_eq!(case["steps"], 2);
        let stages = case["stages"].as_array().unwrap();
        let names: Vec<&str> = stages
            .iter()
            .map(|stage| stage["name"].as_str().unwrap())
            .collect();
        assert_eq!(names, STAGES);
        for stage in stages {
            assert_eq!(stage["n"], 3, "{stage}");
            assert_eq!(stage["seconds"].as_array().unwrap().len(), 3);
            let is_network =
                ["text_encode", "denoise", "vae_decode"].contains(&stage["name"].as_str().unwrap());
            assert_eq!(stage["flops"].is_u64(), is_network, "{stage}");
        }
        assert_eq!(case["step"]["n"], 6);
        let whole = case["whole"]["median"].as_f64().unwrap();
        let text = stages[1]["median"].as_f64().unwrap();
        // From the cache it would take microseconds: each picture encodes its prompt anew.
        assert!(text > 1e-4 && text < whole, "{text} of {whole}");
        let share = case["stage_sum_share"].as_f64().unwrap();
        assert!(share > 0.5 && share <= 1.0, "{share}");
        if cfg!(target_os = "linux") {
            assert!(case["memory"]["anonymous_bytes"].as_u64().unwrap() > 1 << 20);
        }
    }
}

#[test]
fn two_models_take_turns_and_the_ratio_is_told_pair_by_pair() {
    let desk = Desk::new();
    let other = small_model().display().to_string();
    let said = bench(
        &desk,
        &[
            "--against",
            &other,
            "--sizes",
            "64x64",
            "--steps",
            "1",
            "--repeat",
            "2",
            "--json",
            "report.json",
        ],
    )
    .done();
    assert!(said.stdout.contains("| 64x64 | whole |"), "{}", said.stdout);
    let report = report(&desk);
    for side in ["model", "against"] {
        assert_eq!(report[side].as_array().unwrap().len(), 2);
    }
    let ratios = report["ratios"].as_array().unwrap();
    let stages: Vec<&str> = ratios
        .iter()
        .map(|ratio| ratio["stage"].as_str().unwrap())
        .collect();
    assert_eq!(
        stages,
        ["text_encode", "denoise", "vae_decode", "step", "whole"]
    );
    for ratio in ratios {
        let number = |field: &str, pair: usize| ratio[field][pair].as_f64().unwrap();
        for pair in 0..2 {
            let expected = number("against_seconds", pair) / number("seconds", pair);
            assert!((number("pairs", pair) - expected).abs() < 1e-9);
        }
    }
}

#[test]
fn a_turn_that_fails_says_why() {
    let desk = Desk::new();
    let told = bench(
        &desk,
        &[
            "--against",
            "nowhere",
            "--sizes",
            "64x64",
            "--steps",
            "1",
            "--repeat",
            "1",
        ],
    );
    assert_ne!(told.code, Some(0));
    assert!(told.stderr.contains("nowhere"), "{}", told.stderr);
    assert!(
        told.stderr.contains("there is no folder 'nowhere' here"),
        "{}",
        told.stderr
    );
}

#[test]
fn what_makes_no_sense_is_refused_before_a_model_is_loaded() {
    let desk = Desk::new();
    let refused = |words: &[&str], parts: &[&str]| {
        outcome(desk.pixart(&["bench", "--model", "nowhere"]).args(words)).refused(2, parts);
    };
    refused(&["--sizes", "64x64,large"], &["large"]);
    refused(&["--steps", "0"], &["steps"]);
    refused(&["--repeat", "0"], &["--repeat"]);
    refused(&["--start", "--against", "x"], &["--against"]);
    outcome(&mut desk.pixart(&["bench", "--model", "nowhere", "--json", "."]))
        .refused(5, &["folder"]);
}

#[test]
fn starts_are_measured_with_a_cache_of_compiled_networks_and_without() {
    let desk = Desk::new();
    bench(
        &desk,
        &[
            "--start=none,size",
            "--sizes",
            "64x64",
            "--repeat",
            "1",
            "--json",
            "report.json",
        ],
    )
    .done();
    let report = report(&desk);
    let kinds = report["kinds"].as_array().unwrap();
    assert_eq!(kinds[0]["cache"], "none");
    assert_eq!(kinds[0]["cache_bytes"], 0);
    assert_eq!(kinds[1]["cache"], "size");
    assert!(kinds[1]["cache_bytes"].as_u64().unwrap() > 0);
    for kind in kinds {
        let ready = kind["ready"]["median"].as_f64().unwrap();
        let compiling = kind["starts"][0]["compile_seconds"].as_f64().unwrap();
        assert!(compiling < ready, "{kind}");
        assert!(kind["first_picture"]["median"].as_f64().unwrap() > ready);
    }
}

#[test]
fn a_network_runs_alone_on_orders_and_writes_what_comes_out() {
    let desk = Desk::new();
    let ids: Vec<u8> = [3_i64, 4, 1]
        .iter()
        .flat_map(|id| id.to_le_bytes())
        .collect();
    let mask: Vec<u8> = [1_i64; 3].iter().flat_map(|id| id.to_le_bytes()).collect();
    fs::write(desk.path("ids"), ids).unwrap();
    fs::write(desk.path("mask"), mask).unwrap();
    let tensor = |file: &str| json!({"shape": [1, 3], "type": "i64", "file": file});
    let order = json!({
        "inputs": {"input_ids": tensor("ids"), "attention_mask": tensor("mask")},
        "output": "embeddings"
    });
    let run = |lines: &str| {
        let mut child = desk
            .pixart(&["bench", "--component", "text_encoder", "--model"])
            .arg(small_model())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // A process that has refused reads no more.
        let _ = child.stdin.take().unwrap().write_all(lines.as_bytes());
        child.wait_with_output().unwrap()
    };
    let done = run(&format!("{order}\n{{}}\n"));
    assert!(done.status.success());
    let answers: Vec<Value> = String::from_utf8(done.stdout)
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert!(answers[0]["ready_seconds"].is_f64());
    assert_eq!(answers.len(), 3, "the second order keeps the inputs");
    let shape = &answers[2]["shape"];
    let count: u64 = shape
        .as_array()
        .unwrap()
        .iter()
        .map(|size| size.as_u64().unwrap())
        .product();
    assert_eq!(
        desk.read("embeddings").len(),
        usize::try_from(4 * count).unwrap()
    );

    let short = json!({"inputs": {"input_ids": {"shape": [1, 4], "type": "i64", "file": "ids"}}});
    let refused = run(&format!("{short}\n"));
    assert!(!refused.status.success());
    let words = String::from_utf8(refused.stderr).unwrap();
    assert!(words.contains("ids has 24 bytes"), "{words}");
}
