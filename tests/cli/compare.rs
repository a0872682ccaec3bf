//! `pixart compare`: what it tells of two models, and what it refuses.

use pixart::model::{ModelDirectory, WeightsFormat};
use serde_json::Value;

use super::{Desk, SKETCHBOOK, binned_model};
use crate::support::{Outcome, convert_to, outcome, project, small_model};

/// Sketchbook's original against `other`, told as JSON too.
fn compare(desk: &Desk, other: &str, words: &[&str]) -> Outcome {
    outcome(
        desk.pixart(&["compare", "--quiet", "--json", "told.json"])
            .arg(SKETCHBOOK.path("f16"))
            .arg(desk.path(other))
            .args(words),
    )
}

/// Sketchbook with 8-bit weights.
fn smaller(desk: &Desk) {
    let modes = ["--transformer", "weights", "--vae-decoder", "weights"];
    outcome(
        desk.pixart(&["quantize", "--quiet", "--output", "int8"])
            .args(modes)
            .arg(SKETCHBOOK.path("f16")),
    )
    .done();
}

#[test]
fn a_smaller_model_is_told_by_its_sizes_pictures_and_times() {
    let desk = Desk::new();
    smaller(&desk);
    let files = ["--html", "told.html", "--side-by-side", "told.png"];
    let prompts = [
        "--prompt",
        "A sad robot next to a yellow house",
        "--prompt",
        "<b>a boat</b>",
    ];
    let words = [
        &files[..],
        &prompts,
        &["--repeat", "1", "--reference-precision", "f32", "--record"],
    ]
    .concat();
    let said = compare(&desk, "int8", &words).done();
    assert!(said.stdout.contains("| transformer |"), "{}", said.stdout);
    assert!(said.stdout.contains("by turns"), "{}", said.stdout);

    let told: Value = serde_json::from_slice(&desk.read("told.json")).unwrap();
    assert_eq!(told["models"]["a"]["weights"], "f16");
    assert_eq!(told["models"]["a"]["precision"], "f32");
    assert_eq!(
        told["models"]["b"]["weights"],
        "text_encoder int4, transformer int8, vae_decoder int8"
    );
    let sizes = told["sizes"].as_array().unwrap();
    assert_eq!(sizes.len(), 5);
    for size in sizes {
        let ratio = size["ratio"].as_f64().unwrap();
        let expected = match size["component"].as_str().unwrap() {
            // It stays as it is.
            "tiny_vae_decoder" => 1.0..1.01,
            _ => 1.8..4.0,
        };
        assert!(expected.contains(&ratio), "{size}");
    }
    let pictures = told["pictures"].as_array().unwrap();
    assert_eq!(pictures.len(), 2);
    assert_eq!([&pictures[0]["seed"], &pictures[1]["seed"]], [41, 42]);
    let robot = &pictures[0];
    let psnr = robot["psnr_db"].as_f64().unwrap();
    assert!((28.0..70.0).contains(&psnr), "{robot}");
    assert!(robot["ssim"].as_f64().unwrap() > 0.95, "{robot}");
    let cosines = robot["latents_cosine"].as_array().unwrap();
    assert_eq!(cosines.len(), 4);
    assert!(
        cosines.iter().all(|cosine| cosine.as_f64().unwrap() > 0.98),
        "{robot}"
    );
    let ratios = told["times"]["ratios"].as_array().unwrap();
    assert!(
        ratios
            .iter()
            .any(|ratio| ratio["stage"] == "whole" && ratio["pairs"][0].is_f64())
    );

    // What was measured is kept with the model, which stays the same one.
    let manifest: Value = serde_json::from_slice(&desk.read("int8/manifest.json")).unwrap();
    let quality = &manifest["measured"][0];
    let original = ModelDirectory::open(&SKETCHBOOK.path("f16")).unwrap();
    assert_eq!(quality["against"], original.manifest().measured_digest());
    assert_eq!(quality["asked_precision"], "auto");
    assert_eq!(quality["median_psnr_db"], told["quality"]["median_psnr_db"]);
    assert_eq!(quality["pictures"], 2);
    assert!(quality["times_faster"].is_f64(), "{quality}");
    let model = ModelDirectory::open(&desk.path("int8")).unwrap();
    assert_eq!(model.manifest().digest(), told["models"]["b"]["digest"]);

    let page = String::from_utf8(desk.read("told.html")).unwrap();
    assert_eq!(page.matches("data:image/png;base64,").count(), 4);
    assert!(page.contains("&lt;b&gt;a boat&lt;/b&gt;"));
    let sheet = desk.picture("told.png");
    assert_eq!((sheet.width, sheet.height), (3 * 256 + 4 * 8, 2 * 264 + 8));
}

#[test]
fn a_size_is_compared_as_it_was_asked_for_and_in_no_aspect_bin() {
    let desk = Desk::new();
    let model = binned_model(&desk);
    let robot = "A sad robot next to a yellow house";
    let drawing = ["--size", "128x96", "--steps", "2"];
    let words = ["compare", "--quiet", "--repeat", "0", "--prompt", robot];
    let words = [&words[..], &["--side-by-side", "told.png"], &drawing].concat();
    outcome(desk.pixart(&words).args([&model, &model])).done();
    let words = ["generate", robot, "--seed", "41", "--output", "drawn.png"];
    let drawn = |binning: &str| {
        let words = [&words[..], &drawing, &[binning, "--model"]].concat();
        outcome(desk.pixart(&words).arg(&model)).done();
        desk.picture("drawn.png").rgb
    };
    let sheet = desk.picture("told.png");
    assert_eq!((sheet.width, sheet.height), (3 * 128 + 4 * 8, 96 + 2 * 8));
    let across = sheet.width * 3;
    let compared: Vec<u8> = (8..8 + 96)
        .flat_map(|row| &sheet.rgb[row * across + 8 * 3..][..128 * 3])
        .copied()
        .collect();
    // In its bin it is drawn at 288x224 and made smaller.
    assert!(compared != drawn("--resolution-binning"));
    assert!(compared == drawn("--no-resolution-binning"));
}

#[test]
fn a_model_is_as_near_to_itself_as_can_be() {
    let desk = Desk::new();
    let itself = SKETCHBOOK.path("f16");
    let words = ["--repeat", "0", "--prompt", "a cat", "--steps", "2"];
    compare(&desk, itself.to_str().unwrap(), &words).done();
    let told: Value = serde_json::from_slice(&desk.read("told.json")).unwrap();
    assert_eq!(told["quality"]["least_psnr_db"], 100.0);
    assert_eq!(told["sizes"][4]["ratio"], 1.0);
    assert_eq!(told["times"], Value::Null);
    assert_eq!(
        told["pictures"][0]["latents_cosine"]
            .as_array()
            .unwrap()
            .len(),
        2
    );
}

#[test]
fn what_cannot_be_compared_is_refused_and_leaves_nothing() {
    let desk = Desk::new();
    compare(&desk, "nothing", &["--repeat", "0"]).refused(3, &["nothing", "is not a directory"]);
    compare(&desk, "nothing", &["--size", "12x12"]).refused(2, &["12x12"]);
    std::fs::write(desk.path("captions.txt"), "a boat\n").unwrap();
    let few = ["--captions", "captions.txt", "--samples", "2"];
    compare(&desk, "nothing", &few).refused(2, &["captions.txt", "--samples 1"]);

    let small = small_model().to_str().unwrap();
    let other_size = ["--repeat", "0", "--prompt", "a cat"];
    compare(&desk, small, &other_size).refused(2, &["a draws 256x256 in 4 steps", "--size"]);

    let notebook = project("tests/golden/traced");
    let foreign = ["--repeat", "0", "--prompt", "a cat"];
    compare(&desk, notebook.to_str().unwrap(), &foreign).refused(3, &[]);
    assert_eq!(desk.names(), ["captions.txt"]);
}

#[test]
fn the_tiny_decoder_is_held_against_the_full_one() {
    let desk = Desk::new();
    let itself = SKETCHBOOK.path("f16");
    let words = [
        "--repeat",
        "1",
        "--decoder",
        "tiny",
        "--prompt",
        "a sad robot",
    ];
    let said = compare(&desk, itself.to_str().unwrap(), &words).done();
    assert!(said.stdout.contains("tiny decoder"), "{}", said.stdout);
    let told: Value = serde_json::from_slice(&desk.read("told.json")).unwrap();
    assert_eq!(told["models"]["a"]["decoder"], "full");
    assert_eq!(told["models"]["b"]["decoder"], "tiny");
    let picture = &told["pictures"][0];
    assert_eq!(
        picture["latents_cosine"][3], 1.0,
        "the latents are the same"
    );
    let psnr = picture["psnr_db"].as_f64().unwrap();
    assert!((22.0..40.0).contains(&psnr), "{picture}");
    assert_eq!(told["times"]["model"][0]["decoder"], "tiny");
    assert_eq!(told["times"]["against"][0]["decoder"], "full");
}

#[test]
fn sketchbook_is_scored_and_nothing_else() {
    let desk = Desk::new();
    let itself = SKETCHBOOK.path("f16");
    let words = ["--repeat", "0", "--prompt", "a cat", "--score", "8"];
    let said = compare(&desk, itself.to_str().unwrap(), &words).done();
    assert!(
        said.stdout.contains("captions followed, of 8"),
        "{}",
        said.stdout
    );
    let told: Value = serde_json::from_slice(&desk.read("told.json")).unwrap();
    let all = &told["scores"]["b"]["all_three"];
    assert_eq!(all["of"], 8);
    assert!(all["right"].as_u64().unwrap() >= 7, "{told}");
    assert_eq!(told["scores"]["a"], told["scores"]["b"]);

    let other = small_model();
    let refused = outcome(
        desk.pixart(&["compare", "--quiet", "--repeat", "0", "--score", "1"])
            .args(["--prompt", "a cat", "--size", "64x64"])
            .args([other, other]),
    );
    refused.refused(2, &["is not sketchbook"]);
}

#[test]
fn what_was_measured_chooses_what_draws() {
    let desk = Desk::new();
    let model = "model";
    convert_to(
        &project("models/sketchbook"),
        &desk.path(model),
        WeightsFormat::F16,
    );
    let info = |quality: &str| -> Value {
        let words = ["info", "--json", "--model", model, "--quality", quality];
        let said = outcome(&mut desk.pixart(&words)).done();
        serde_json::from_str::<Value>(&said.stdout).unwrap()
    };
    outcome(desk.pixart(&["quantize", "--quiet", model]).args([
        "--output",
        "model/variants/int8",
        "--transformer",
        "weights",
        "--vae-decoder",
        "keep",
        "--text-encoder-weights",
        "keep",
    ]))
    .done();
    let told = info("balanced");
    assert_eq!(told["choice"]["variant"], Value::Null);
    let useless = told["choice"]["variants"][0]["useless"].as_str().unwrap();
    assert!(useless.contains("not measured here"), "{useless}");

    let words = [
        "compare",
        "--quiet",
        model,
        "model/variants/int8",
        "--record",
    ];
    let prompt = [
        "--repeat",
        "1",
        "--prompt",
        "A sad robot next to a yellow house",
    ];
    outcome(desk.pixart(&words).args(prompt)).done();
    // Whether it is faster is up to the machine: let it be.
    let path = desk.path("model/variants/int8/manifest.json");
    let mut manifest: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    assert_eq!(manifest["measured"][0]["against_precision"], "f32");
    // What a person writes by hand has no checksum.
    assert!(manifest.as_object_mut().unwrap().remove("sha256").is_some());
    let measured = manifest["measured"][0].as_object_mut().unwrap();
    assert_eq!(
        measured["least_times_faster"], measured["times_faster"],
        "of one pair"
    );
    measured.insert("times_faster".to_owned(), 1.25.into());
    // A variant that gains a twentieth in its worst pair may gain nothing.
    for (least, taken) in [(1.05, false), (1.15, true)] {
        manifest["measured"][0]["least_times_faster"] = least.into();
        std::fs::write(&path, manifest.to_string()).unwrap();
        let choice = &info("balanced")["choice"];
        assert_eq!(choice["variant"] == "int8", taken, "{choice}");
    }

    let told = info("balanced");
    assert_eq!(told["choice"]["variant"], "int8", "{}", told["choice"]);
    let directory = told["model"]["directory"].as_str().unwrap();
    assert!(directory.ends_with("variants/int8"), "{directory}");
    let words = [
        "generate", "a cat", "--json", "--model", model, "--output", "a.png",
    ];
    let drawn = |quality: &str| -> Value {
        let said = outcome(desk.pixart(&words).args(["--quality", quality])).done();
        let told: Value = serde_json::from_str(&said.stdout).unwrap();
        told["images"][0]["receipt"].clone()
    };
    let balanced = drawn("balanced");
    assert!(
        balanced["weights"]
            .as_str()
            .unwrap()
            .contains("transformer int8")
    );
    assert_eq!(balanced["decoder"], "full");
    let fast = drawn("fast");
    assert!(
        fast["weights"]
            .as_str()
            .unwrap()
            .contains("transformer int8")
    );
    assert_eq!(fast["decoder"], "tiny");
    // 8-bit weights are not within 40 dB of exact pictures, or the machine computes in bf16: f32 it is, either way.
    let exact = drawn("exact");
    if manifest["measured"][0]["median_psnr_db"].as_f64().unwrap() < 40.0 {
        assert_eq!(
            (&exact["weights"], &exact["precision"]),
            (&"f16".into(), &"f32".into())
        );
    }
    outcome(desk.pixart(&words).args(["--quality", "best"])).refused(2, &["exact, balanced, fast"]);
}
