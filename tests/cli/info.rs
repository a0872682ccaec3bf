//! `pixart info`.

use pixart::model::Manifest;
use serde_json::Value;

use super::{Desk, json};
use crate::support::{outcome, runtime, small_model};

#[test]
fn info_tells_runtime_devices_precision_and_manifest() {
    let desk = Desk::new();
    let told = outcome(
        desk.pixart(&["info", "--json", "--model"])
            .arg(small_model()),
    )
    .done();
    let told = json(&told);
    assert_eq!(told["pixart"], env!("CARGO_PKG_VERSION"));
    assert_eq!(told["openvino"]["version"], runtime().version());
    let devices = told["devices"].as_array().unwrap();
    let cpu = devices
        .iter()
        .find(|device| device["name"] == "CPU")
        .unwrap();
    assert!(
        cpu["capabilities"]
            .as_array()
            .unwrap()
            .iter()
            .any(|can| can == "FP32")
    );
    assert_eq!(told["device"], "CPU");
    assert_eq!(told["precision"], cpu["default_precision"]);
    assert!(told["instruction_set"].is_array());
    // Whether this machine has a quota is not known here.
    assert_eq!(told["threads"]["setting"], 0);
    assert_eq!(
        told["threads"]["cpu_quota"].is_null(),
        pixart::telemetry::cpu_quota().is_none()
    );
    let manifest = Manifest::from_json(&told["model"]["manifest"].to_string()).unwrap();
    assert_eq!(told["model"]["digest"], Value::from(manifest.digest()));

    let said = outcome(desk.pixart(&["info", "--model"]).arg(small_model()))
        .done()
        .stdout;
    for part in [
        runtime().version(),
        "device CPU",
        "instruction set",
        "threads  ",
        "CPU quota",
        "in force",
        &manifest.digest(),
        "transformer.bin",
        &manifest.files["transformer.bin"].sha256,
        "micro-conditions",
    ] {
        assert!(said.contains(part), "no '{part}' in:\n{said}");
    }
    let in_f32 = outcome(
        desk.pixart(&["info", "--json", "--precision", "f32", "--threads", "2"])
            .arg("--model")
            .arg(small_model()),
    )
    .done();
    assert_eq!(json(&in_f32)["precision"], "f32");
    assert_eq!(json(&in_f32)["threads"]["asked_for"], 2);
}

#[test]
fn info_tells_the_runtime_and_devices_whatever_is_wrong_with_the_model() {
    let desk = Desk::new();
    std::fs::create_dir(desk.path("model")).unwrap();
    std::fs::write(desk.path("model/manifest.json"), "{").unwrap();
    let told = outcome(&mut desk.pixart(&["info", "--model", "model"]));
    assert_eq!(told.code, Some(3), "{}", told.stderr);
    assert!(told.stderr.contains("manifest.json"), "{}", told.stderr);
    for part in [runtime().version(), "device CPU", "instruction set"] {
        assert!(
            told.stdout.contains(part),
            "no '{part}' in:\n{}",
            told.stdout
        );
    }
    outcome(&mut desk.pixart(&["info", "--json", "--model", "model"]))
        .refused(3, &["manifest.json"]);
}

#[test]
fn info_of_the_embedded_model_needs_nothing_else() {
    let desk = Desk::new();
    let said = outcome(&mut desk.pixart(&["info"])).done();
    assert!(said.stdout.contains("sketchbook"), "{}", said.stdout);
    assert!(said.stdout.contains("256x256 px"), "{}", said.stdout);
}

#[test]
fn help_lists_the_exit_codes_and_version_is_the_crates() {
    let desk = Desk::new();
    let help = outcome(&mut desk.pixart(&["--help"])).done();
    for part in ["generate", "convert", "info", "Exit codes", "130"] {
        assert!(
            help.stdout.contains(part),
            "no '{part}' in:\n{}",
            help.stdout
        );
    }
    let version = outcome(&mut desk.pixart(&["--version"])).done();
    assert_eq!(
        version.stdout,
        concat!("pixart ", env!("CARGO_PKG_VERSION"), "\n")
    );
}
