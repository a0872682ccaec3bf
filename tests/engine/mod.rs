//! The seam to OpenVINO: which device computes, and in which arithmetic.

use pixart::config::Precision;
use pixart::engine::{CompileOptions, Graph as _};
use pixart::model::{ModelDirectory, WeightsFormat};

use crate::support::{convert_to, project, runtime};

fn options(device: &str, precision: Precision) -> CompileOptions<'_> {
    CompileOptions {
        device,
        precision,
        threads: None,
        inputs: &["latents", "no such input"],
    }
}

#[test]
fn auto_computes_in_the_arithmetic_asked_for_and_says_which() {
    let folder = tempfile::tempdir().unwrap();
    let model = folder.path().join("model");
    convert_to(&project("models/sketchbook"), &model, WeightsFormat::F16);
    let vae = model.join(ModelDirectory::VAE_DECODER);
    let mut runtime = runtime();
    let default = runtime.devices().unwrap()[0].default_precision.clone();
    for (device, precision, expected) in [
        ("AUTO", Precision::F32, "f32"),
        // What one network was compiled with is not left to the next.
        ("AUTO", Precision::Auto, default.as_str()),
        ("CPU", Precision::F32, "f32"),
        ("CPU", Precision::Auto, default.as_str()),
        ("AUTO:CPU", Precision::F32, "f32"),
    ] {
        let graph = runtime.compile(&vae, &options(device, precision)).unwrap();
        assert_eq!(graph.precision(), expected, "{device} {precision}");
    }
    let graph = runtime
        .compile(&vae, &options("CPU", Precision::F32))
        .unwrap();
    assert!(graph.input("latents").is_some());
    assert!(graph.input("no such input").is_none());
}

#[test]
fn a_device_that_is_not_there_is_refused_by_name_also_beneath_auto() {
    let mut runtime = runtime();
    let xml = project("tests/golden/traced/vae_decoder.xml");
    for device in ["TPU", "AUTO:TPU", "AUTO:CPU,TPU", "", "CPU\nGPU"] {
        let Err(error) = runtime.compile(&xml, &options(device, Precision::Auto)) else {
            panic!("{device} is no device");
        };
        let text = error.to_string();
        assert!(
            text.contains("is not there") && text.contains("CPU"),
            "{text}"
        );
    }
}
