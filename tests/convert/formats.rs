//! What comes out of whole checkpoints: weights formats, names of old files, tokenizers, checksums, free dimensions.

use std::fs;
use std::sync::atomic::{AtomicU64, Ordering};

use pixart::convert::{ComponentWeights, Progress};
use pixart::model::{Manifest, ModelDirectory, WeightsFormat, file_sha256};
use serde_json::json;

use super::{Attempt, contents};
use crate::support::{Silent, names_in, outcome, pixart, rewrite_tensors, runtime};

#[test]
fn every_format_stands_in_the_manifest_and_takes_less_room_than_the_one_before() {
    let mut sizes = Vec::new();
    for format in [
        WeightsFormat::F32,
        WeightsFormat::F16,
        WeightsFormat::Int8,
        WeightsFormat::Int4,
    ] {
        let mut attempt = Attempt::on("models/sketchbook");
        attempt.weights = ComponentWeights::all(format);
        let manifest = attempt.converted();
        let made = [
            manifest.text_encoder.weights,
            manifest.transformer.weights,
            manifest.vae_decoder.weights,
        ];
        assert_eq!(made, [format; 3]);
        sizes.push(manifest.files["transformer.bin"].bytes);
    }
    assert!(sizes.is_sorted_by(|a, b| a > b), "{sizes:?}");
}

#[test]
fn each_component_has_the_format_that_was_asked_for_it() {
    let attempt = Attempt::new();
    outcome(
        pixart()
            .arg("convert")
            .arg(attempt.source.path())
            .args(["--weights", "int8"])
            .args(["--text-encoder-weights", "int4"])
            .args(["--vae-decoder-weights", "f32"])
            .args(["--name", "a name of its own", "--output"])
            .arg(attempt.output()),
    )
    .done();
    let model = ModelDirectory::open(&attempt.output()).unwrap();
    let manifest = model.manifest();
    assert_eq!(manifest.text_encoder.weights, WeightsFormat::Int4);
    assert_eq!(manifest.transformer.weights, WeightsFormat::Int8);
    assert_eq!(manifest.vae_decoder.weights, WeightsFormat::F32);
    assert_eq!(
        manifest.weights(),
        "text_encoder int4, transformer int8, vae_decoder f32"
    );
    assert_eq!(manifest.name, "a name of its own");
    let source = attempt.source.path().file_name().unwrap().to_str().unwrap();
    assert_eq!(manifest.source, source);
}

#[test]
fn a_manifest_lists_every_file_with_its_length_and_checksum() {
    let attempt = Attempt::new();
    let manifest = attempt.converted();
    let mut found: Vec<String> = contents(&attempt.output())
        .into_iter()
        .map(|(name, _)| name)
        .filter(|name| name != Manifest::FILE_NAME)
        .collect();
    found.sort();
    let listed: Vec<String> = manifest.files.keys().cloned().collect();
    assert_eq!(found, listed);
    for (name, entry) in &manifest.files {
        let (bytes, sha256) = file_sha256(&attempt.output().join(name)).unwrap();
        assert_eq!((bytes, &sha256), (entry.bytes, &entry.sha256), "{name}");
    }
    let source = attempt.source.path().file_name().unwrap().to_str().unwrap();
    assert_eq!(manifest.name, source);
    assert_eq!(manifest.source, source);
    assert_eq!(manifest.weights(), "f16");
    assert_eq!(manifest.pixart, env!("CARGO_PKG_VERSION"));
    assert_eq!(manifest.openvino, runtime().version());
}

#[test]
fn the_same_source_gives_the_same_bytes() {
    let attempt = Attempt::new();
    attempt.converted();
    let first = contents(&attempt.output());
    fs::remove_dir_all(attempt.output()).unwrap();
    attempt.converted();
    assert!(contents(&attempt.output()) == first);
}

#[test]
fn the_vaes_attention_is_read_by_its_old_names() {
    let attempt = Attempt::new();
    attempt.converted();
    let first = fs::read(attempt.output().join("vae_decoder.bin")).unwrap();
    rewrite_tensors(
        &attempt.file("vae/diffusion_pytorch_model.safetensors"),
        |tensors| {
            let mut renamed = 0;
            for (old, new) in [
                ("query", "to_q"),
                ("key", "to_k"),
                ("value", "to_v"),
                ("proj_attn", "to_out.0"),
            ] {
                for part in ["weight", "bias"] {
                    let prefix = "decoder.mid_block.attentions.0";
                    let tensor = tensors.remove(&format!("{prefix}.{new}.{part}")).unwrap();
                    tensors.insert(format!("{prefix}.{old}.{part}"), tensor);
                    renamed += 1;
                }
            }
            assert_eq!(renamed, 8);
        },
    );
    attempt.converted();
    let second = fs::read(attempt.output().join("vae_decoder.bin")).unwrap();
    assert!(first == second, "the same weights by other names");
}

#[test]
fn a_transformer_may_call_itself_by_its_published_name() {
    let attempt = Attempt::new();
    crate::support::set_json(
        &attempt.file("transformer/config.json"),
        "/_class_name",
        json!("Transformer2DModel"),
    );
    attempt.converted();
}

#[test]
fn weights_that_are_not_drawn_may_be_there() {
    let attempt = Attempt::new();
    let tensor = |shape: &[usize]| crate::support::StoredTensor {
        dtype: safetensors::Dtype::F32,
        shape: shape.to_vec(),
        data: vec![0; shape.iter().product::<usize>() * 4],
    };
    rewrite_tensors(&attempt.file("text_encoder/model.safetensors"), |tensors| {
        let table = tensors["shared.weight"].clone();
        tensors.insert("encoder.embed_tokens.weight".to_owned(), table);
        tensors.insert("decoder.final_layer_norm.weight".to_owned(), tensor(&[20]));
        tensors.insert("lm_head.weight".to_owned(), tensor(&[750, 20]));
    });
    rewrite_tensors(
        &attempt.file("transformer/diffusion_pytorch_model.safetensors"),
        |tensors| {
            tensors.insert("pos_embed.pos_embed".to_owned(), tensor(&[1, 4096, 24]));
        },
    );
    attempt.converted();
}

#[test]
fn either_tokenizer_or_both_are_taken() {
    // The smallest file that says what T5's does: Unigram pieces with their scores.
    let tokenizer = json!({
        "normalizer": null,
        "pre_tokenizer": {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always"},
        "model": {
            "type": "Unigram", "unk_id": 2,
            "vocab": [["<pad>", 0.0], ["</s>", 0.0], ["<unk>", 0.0], ["▁a", -1.0], ["▁", -2.0], ["c", -3.0]],
        },
    });
    let attempt = Attempt::new();
    fs::write(
        attempt.file("tokenizer/tokenizer.json"),
        tokenizer.to_string(),
    )
    .unwrap();
    let draw = |output: &str| {
        let picture = attempt.outputs.path().join(output);
        outcome(
            pixart()
                .args([
                    "generate",
                    "a c",
                    "--size",
                    "32x32",
                    "--no-resolution-binning",
                ])
                .args([
                    "--steps",
                    "1",
                    "--seed",
                    "1",
                    "--precision",
                    "f32",
                    "--model",
                ])
                .arg(attempt.output())
                .arg("--output")
                .arg(&picture),
        )
        .done();
        crate::support::decode_png(&fs::read(picture).unwrap()).rgb
    };
    attempt.converted();
    assert_eq!(
        names_in(&attempt.output().join("tokenizer")),
        ["spiece.model", "tokenizer.json"]
    );
    let both = draw("both.png");
    fs::remove_file(attempt.file("tokenizer/spiece.model")).unwrap();
    attempt.converted();
    assert_eq!(
        names_in(&attempt.output().join("tokenizer")),
        ["tokenizer.json"]
    );
    assert_eq!(
        draw("alone.png"),
        both,
        "tokenizer.json is preferred where both are"
    );
}

#[test]
fn batch_height_width_and_length_are_free_in_every_network() {
    let attempt = Attempt::new();
    attempt.converted();
    let mut runtime = runtime();
    let mut ports = |name: &str| {
        let (inputs, outputs) = runtime.inspect(&attempt.output().join(name)).unwrap();
        inputs
            .into_iter()
            .chain(outputs)
            .map(|(name, port)| (name, (port.element, port.dims)))
            .collect::<std::collections::BTreeMap<_, _>>()
    };
    let port = |element: &str, dims: &[Option<usize>]| (element.to_owned(), dims.to_vec());

    let text = ports("text_encoder.xml");
    assert_eq!(text["input_ids"], port("i64", &[None, None]));
    assert_eq!(text["attention_mask"], port("i64", &[None, None]));
    assert_eq!(
        text["last_hidden_state"],
        port("f32", &[None, None, Some(20)])
    );

    let transformer = ports("transformer.xml");
    assert_eq!(
        transformer["hidden_states"],
        port("f32", &[None, Some(4), None, None])
    );
    assert_eq!(
        transformer["encoder_hidden_states"],
        port("f32", &[None, None, Some(20)])
    );
    assert_eq!(transformer["encoder_attention_mask"].1, [None, None]);
    assert_eq!(transformer["timestep"].1, [None]);
    assert_eq!(transformer["resolution"], port("f32", &[None, Some(2)]));
    assert_eq!(transformer["aspect_ratio"], port("f32", &[None, Some(1)]));
    assert_eq!(
        transformer["noise_pred"],
        port("f32", &[None, Some(8), None, None])
    );

    let vae = ports("vae_decoder.xml");
    assert_eq!(vae["latents"], port("f32", &[None, Some(4), None, None]));
    assert_eq!(vae["sample"], port("f32", &[None, Some(3), None, None]));
}

#[test]
fn progress_counts_every_byte_that_is_read() {
    #[derive(Default)]
    struct Counter {
        promised: AtomicU64,
        read: AtomicU64,
    }
    impl Progress for Counter {
        fn begin(&self, _component: &str, bytes: u64) {
            self.promised.fetch_add(bytes, Ordering::Relaxed);
        }
        fn advance(&self, bytes: u64) {
            self.read.fetch_add(bytes, Ordering::Relaxed);
        }
        fn unchanged(&self, _component: &str) {}
        fn cancelled(&self) -> bool {
            false
        }
    }
    let attempt = Attempt::new();
    let counter = Counter::default();
    attempt.watched(&counter).unwrap();
    let (promised, read) = (counter.promised.into_inner(), counter.read.into_inner());
    assert!(
        read <= promised && read * 10 > promised * 9,
        "{read} of {promised} bytes were told"
    );
    attempt.watched(&Silent).unwrap();
}
