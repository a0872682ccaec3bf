//! The seam to OpenVINO: which device computes, and in which arithmetic.

use pixart::config::Precision;
use pixart::engine::{CompileOptions, CompiledGraph, EngineError, Graph as _, Tensor};
use pixart::ir::{self, BinWriter, ElementType};
use pixart::model::{ModelDirectory, WeightsFormat};

use crate::support::{convert_to, project, runtime};

fn options(device: &str, precision: Precision) -> CompileOptions<'_> {
    CompileOptions {
        device,
        precision,
        threads: None,
        inputs: &["latents", "no such input"],
        fixed: None,
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

const TRANSFORMER_INPUTS: [&str; 6] = [
    "hidden_states",
    "timestep",
    "encoder_hidden_states",
    "encoder_attention_mask",
    "resolution",
    "aspect_ratio",
];

/// One call of sketchbook's transformer: latents of `side` and a text of `tokens`.
fn predict(
    graph: &mut CompiledGraph,
    (side, tokens): (usize, usize),
    cancelled: &dyn Fn() -> bool,
) -> Result<Tensor, EngineError> {
    let ones = |shape: &[usize]| Tensor::f32(shape, vec![1.0; shape.iter().product()]);
    let inputs: Vec<(&str, Tensor)> = TRANSFORMER_INPUTS
        .into_iter()
        .filter_map(|name| {
            let port = graph.input(name)?;
            let tensor = match name {
                "hidden_states" => ones(&[1, 4, side, side]),
                "timestep" => Tensor::i64([1], vec![999]),
                "encoder_hidden_states" => ones(&[1, tokens, port.dims[2]?]),
                "encoder_attention_mask" => ones(&[1, tokens]),
                "resolution" => ones(&[1, 2]),
                _ => ones(&[1, 1]),
            };
            Some((name, tensor))
        })
        .collect();
    let inputs: Vec<(&str, &Tensor)> = inputs
        .iter()
        .map(|(name, tensor)| (*name, tensor))
        .collect();
    graph.infer(&inputs, cancelled)
}

#[test]
fn a_cancelled_inference_of_new_shapes_leaves_the_network_whole_for_the_former_ones() {
    let folder = tempfile::tempdir().unwrap();
    let model = folder.path().join("model");
    convert_to(&project("models/sketchbook"), &model, WeightsFormat::F16);
    let options = CompileOptions {
        inputs: &TRANSFORMER_INPUTS,
        ..options("CPU", Precision::Auto)
    };
    let mut graph = runtime()
        .compile(&model.join(ModelDirectory::TRANSFORMER), &options)
        .unwrap();
    let first = predict(&mut graph, (24, 9), &|| false).unwrap();
    for side in [64, 96, 128] {
        // Where it is over before it is asked, nothing was cancelled and nothing can be broken.
        let stopped = predict(&mut graph, (side, 2), &|| true);
        assert!(stopped.is_ok() || matches!(stopped, Err(EngineError::Cancelled)));
        let again = predict(&mut graph, (24, 9), &|| false).unwrap();
        assert_eq!(again, first, "after {side}");
    }
    predict(&mut graph, (128, 2), &|| false).unwrap();
    let stopped = predict(&mut graph, (128, 2), &|| true);
    assert!(matches!(stopped, Err(EngineError::Cancelled)));
    assert_eq!(predict(&mut graph, (24, 9), &|| false).unwrap(), first);
}

#[test]
fn every_output_comes_by_its_name_and_stays_what_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let xml = folder.path().join("graph.xml");
    let bin = BinWriter::create(&xml.with_extension("bin")).unwrap();
    let mut graph = ir::Graph::new("shown", bin);
    let latents = graph.parameter("latents", ElementType::F32, &[-1, 3]);
    let twice = graph.add(latents, latents);
    graph.result("noise_pred", twice);
    let lowest = graph.reduce_min(twice).unwrap();
    graph.result("observe/0/rows_min", lowest);
    let highest = graph.reduce_max(twice).unwrap();
    graph.result("observe/0/rows_max", highest);
    let (text, bin) = graph.finish();
    bin.finish().unwrap();
    std::fs::write(&xml, text).unwrap();

    let mut graph = runtime()
        .compile(&xml, &options("CPU", Precision::F32))
        .unwrap();
    let latents = Tensor::f32([2, 3], vec![1.0, -2.0, 3.0, 0.0, 5.0, 0.5]);
    let all = graph.infer_all(&[("latents", &latents)], &|| false);
    let all = all.unwrap();
    let other = Tensor::f32([1, 3], vec![7.0; 3]);
    let others = graph.infer_all(&[("latents", &other)], &|| false);
    assert_eq!(others.unwrap()[2].1, Tensor::f32([1, 1], vec![14.0]));
    let expected = [
        (
            "noise_pred",
            Tensor::f32([2, 3], vec![2.0, -4.0, 6.0, 0.0, 10.0, 1.0]),
        ),
        ("observe/0/rows_min", Tensor::f32([2, 1], vec![-4.0, 0.0])),
        ("observe/0/rows_max", Tensor::f32([2, 1], vec![6.0, 10.0])),
    ];
    assert_eq!(
        all,
        expected.map(|(name, tensor)| (name.to_owned(), tensor))
    );
    let first = graph.infer(&[("latents", &latents)], &|| false).unwrap();
    assert_eq!(first, all[0].1);
}
