//! `pixart compare`: what it tells of two models, and what it refuses.

use pixart::model::ModelDirectory;
use serde_json::Value;

use super::{Desk, SKETCHBOOK};
use crate::support::{Outcome, outcome, project, small_model};

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
    assert_eq!(sizes.len(), 4);
    for size in sizes {
        let ratio = size["ratio"].as_f64().unwrap();
        assert!((1.8..4.0).contains(&ratio), "{size}");
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
    let quality = &manifest["quality"];
    assert_eq!(quality["against"], told["models"]["a"]["digest"]);
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
fn a_model_is_as_near_to_itself_as_can_be() {
    let desk = Desk::new();
    let itself = SKETCHBOOK.path("f16");
    let words = ["--repeat", "0", "--prompt", "a cat", "--steps", "2"];
    compare(&desk, itself.to_str().unwrap(), &words).done();
    let told: Value = serde_json::from_slice(&desk.read("told.json")).unwrap();
    assert_eq!(told["quality"]["least_psnr_db"], 100.0);
    assert_eq!(told["sizes"][3]["ratio"], 1.0);
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
