//! Tensors that are missing, unknown, of another shape or type, or hold what no picture can be drawn with.

use std::fs;
use std::path::Path;
use std::sync::Mutex;

use half::{bf16, f16};
use pixart::convert::{ComponentWeights, ConvertError, Progress};
use pixart::model::{Manifest, ModelDirectory, WeightsFormat};
use safetensors::Dtype;

use super::{Attempt, TEXT_ENCODER, TRANSFORMER, VAE, contents, put};
use crate::support::{StoredTensor, rewrite_tensors};

// Tensors -------------------------------------------------------------------------------------------------------------

#[test]
fn a_missing_tensor_is_named() {
    for (file, tensor) in [
        (TEXT_ENCODER, "encoder.final_layer_norm.weight"),
        (TEXT_ENCODER, "shared.weight"),
        (TRANSFORMER, "transformer_blocks.2.attn2.to_v.bias"),
        (
            TRANSFORMER,
            "adaln_single.emb.resolution_embedder.linear_1.weight",
        ),
        (VAE, "decoder.mid_block.attentions.0.to_q.weight"),
    ] {
        let attempt = Attempt::new();
        rewrite_tensors(&attempt.file(file), |tensors| {
            tensors.remove(tensor).unwrap();
        });
        let error = attempt.refused(&[tensor, "config.json"]);
        assert!(
            matches!(error, ConvertError::MissingTensor { .. }),
            "{error}"
        );
    }
}

#[test]
fn a_tensor_of_another_shape_is_refused_with_both_shapes() {
    let attempt = Attempt::new();
    rewrite_tensors(&attempt.file(TRANSFORMER), |tensors| {
        tensors
            .get_mut("caption_projection.linear_1.weight")
            .unwrap()
            .shape = vec![20, 24];
    });
    let error = attempt.refused(&[
        "caption_projection.linear_1.weight",
        "[20, 24]",
        "[24, 20]",
        "config.json",
    ]);
    assert!(matches!(error, ConvertError::TensorShape { .. }), "{error}");
}

#[test]
fn a_tensor_of_integers_is_refused() {
    let attempt = Attempt::new();
    rewrite_tensors(&attempt.file(VAE), |tensors| {
        let tensor = tensors.get_mut("decoder.conv_in.bias").unwrap();
        tensor.dtype = Dtype::I64;
        tensor.data = vec![0; 8 * 12];
    });
    let error = attempt.refused(&["decoder.conv_in.bias", "I64", "f32, f16 and bf16"]);
    assert!(matches!(error, ConvertError::TensorType { .. }), "{error}");
}

// Tensors too many ----------------------------------------------------------------------------------------------------

fn tensor(shape: &[usize]) -> StoredTensor {
    StoredTensor {
        dtype: Dtype::F32,
        shape: shape.to_vec(),
        data: vec![0; 4 * shape.iter().product::<usize>()],
    }
}

fn add(path: &Path, names: &[&str]) {
    rewrite_tensors(path, |tensors| {
        for name in names {
            tensors.insert((*name).to_owned(), tensor(&[3]));
        }
    });
}

/// Converts with the attempt's own options; returns every warning.
fn warnings(attempt: &Attempt) -> Vec<String> {
    #[derive(Default)]
    struct Warned(Mutex<Vec<String>>);

    impl Progress for Warned {
        fn begin(&self, _component: &str, _bytes: u64) {}
        fn advance(&self, _bytes: u64) {}
        fn unchanged(&self, _component: &str) {}
        fn warning(&self, message: &str) {
            self.0.lock().unwrap().push(message.to_owned());
        }
        fn cancelled(&self) -> bool {
            false
        }
    }

    let warned = Warned::default();
    attempt.watched(&warned).unwrap();
    warned.0.into_inner().unwrap()
}

/// The networks of the model that was made, byte for byte.
fn networks(attempt: &Attempt) -> Vec<(String, Vec<u8>)> {
    let mut files = contents(&attempt.output());
    files.retain(|(name, _)| !name.contains('/') && name != Manifest::FILE_NAME);
    assert_eq!(files.len(), 6);
    files
}

/// `caption_projection.y_embedding` is in every published PixArt-α: without this, none converts.
#[test]
fn what_published_checkpoints_carry_along_is_left_out_without_a_word() {
    let plain = Attempt::new();
    plain.converted();
    let attempt = Attempt::new();
    rewrite_tensors(&attempt.file(TRANSFORMER), |tensors| {
        let name = "caption_projection.y_embedding".to_owned();
        tensors.insert(name, tensor(&[120, 20]));
        tensors.insert("pos_embed.pos_embed".to_owned(), tensor(&[1, 4096, 24]));
    });
    add(
        &attempt.file(TEXT_ENCODER),
        &[
            "decoder.block.0.layer.0.SelfAttention.q.weight",
            "lm_head.weight",
            "encoder.embed_tokens.weight",
        ],
    );
    assert_eq!(warnings(&attempt), [""; 0]);
    assert!(networks(&attempt) == networks(&plain));
    let manifest = attempt.converted();
    assert_eq!(manifest.transformer.unused_tensors, None);
    assert!(!manifest.to_json().unwrap().contains("unused_tensors"));
}

#[test]
fn what_the_configuration_switches_off_is_left_out_without_a_word() {
    for (source, file, names) in [
        (
            "tests/golden/checkpoints/tiny-alpha-plain",
            "transformer",
            &[
                "adaln_single.emb.resolution_embedder.linear_1.weight",
                "adaln_single.emb.aspect_ratio_embedder.linear_2.bias",
            ][..],
        ),
        (
            "tests/golden/checkpoints/tiny-sigma",
            "vae",
            &["post_quant_conv.weight", "quant_conv.bias"],
        ),
    ] {
        let plain = Attempt::on(source);
        plain.converted();
        let attempt = Attempt::on(source);
        let folder = attempt.file(file);
        let single = folder.join("diffusion_pytorch_model.safetensors");
        let index = folder.join("diffusion_pytorch_model.safetensors.index.json");
        if single.exists() {
            add(&single, names);
        } else {
            let text = fs::read_to_string(&index).unwrap();
            let mut page: serde_json::Value = serde_json::from_str(&text).unwrap();
            let shard = page["weight_map"].as_object().unwrap().values().next();
            let shard = shard.unwrap().as_str().unwrap().to_owned();
            for name in names {
                page["weight_map"][*name] = shard.clone().into();
            }
            fs::write(&index, page.to_string()).unwrap();
            add(&folder.join(shard), names);
        }
        assert_eq!(warnings(&attempt), [""; 0], "{source}");
        assert!(networks(&attempt) == networks(&plain), "{source}");
    }
}

#[test]
fn tensors_of_no_use_are_left_out_with_one_warning_and_stand_in_the_manifest() {
    let plain = Attempt::new();
    plain.converted();
    let attempt = Attempt::new();
    let names: Vec<String> = (0..7)
        .map(|n| format!("extra.{n}.num_batches_tracked"))
        .collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    add(&attempt.file(TRANSFORMER), &names);
    rewrite_tensors(&attempt.file(VAE), |tensors| {
        tensors.insert("empty".to_owned(), tensor(&[0]));
    });
    let warned = warnings(&attempt);
    assert_eq!(warned.len(), 2, "{warned:?}");
    let first_five = names[..5].join(", ");
    for part in ["transformer: ", "7 tensors: ", &first_five, "and 2 more"] {
        assert!(warned[0].contains(part), "no '{part}' in {}", warned[0]);
    }
    assert!(warned[1].contains("vae: ") && warned[1].contains("1 tensor: empty"));
    assert!(networks(&attempt) == networks(&plain));
    let manifest = ModelDirectory::open(&attempt.output()).unwrap();
    let unused = manifest
        .manifest()
        .transformer
        .unused_tensors
        .clone()
        .unwrap();
    assert_eq!(unused.count, 7);
    assert_eq!(unused.names, names[..5]);
    assert_eq!(manifest.manifest().text_encoder.unused_tensors, None);
    // What is taken over is still said.
    assert_eq!(warnings(&attempt), warned);
}

#[test]
fn tensors_that_change_what_is_computed_are_refused() {
    for (file, names, what) in [
        (
            TRANSFORMER,
            [
                "transformer_blocks.0.attn1.lora_a",
                "transformer_blocks.0.attn1.lora_b",
            ],
            "LoRA",
        ),
        (
            TRANSFORMER,
            [
                "transformer_blocks.0.attn1.norm_q.weight",
                "transformer_blocks.1.attn1.norm_q.weight",
            ],
            "norms of queries and keys",
        ),
        (
            TEXT_ENCODER,
            [
                "encoder.block.0.layer.0.SelfAttention.q.lora_A.weight",
                "encoder.block.0.layer.0.SelfAttention.q.lora_B.weight",
            ],
            "LoRA",
        ),
    ] {
        let attempt = Attempt::new();
        add(&attempt.file(file), &names);
        let error = attempt.refused(&["2 tensors", names[0], what, "not built in"]);
        assert!(
            matches!(error, ConvertError::OtherArchitecture { .. }),
            "{error}"
        );
    }
}

/// As in autoencoders that were saved before diffusers 0.17, sd-vae-ft-mse for one.
#[test]
fn an_autoencoder_whose_attention_has_its_former_names_is_the_same_one() {
    let plain = Attempt::new();
    plain.converted();
    let attempt = Attempt::new();
    rewrite_tensors(&attempt.file(VAE), |tensors| {
        for (now, then) in [
            ("to_q", "query"),
            ("to_k", "key"),
            ("to_v", "value"),
            ("to_out.0", "proj_attn"),
        ] {
            for kind in ["weight", "bias"] {
                let prefix = "decoder.mid_block.attentions.0";
                let moved = tensors.remove(&format!("{prefix}.{now}.{kind}")).unwrap();
                tensors.insert(format!("{prefix}.{then}.{kind}"), moved);
            }
        }
    });
    assert_eq!(warnings(&attempt), [""; 0]);
    assert!(networks(&attempt) == networks(&plain));
}

// Values --------------------------------------------------------------------------------------------------------------

/// Stores every tensor of a file as `dtype`, each value through `bits`.
fn store_as(path: &Path, dtype: Dtype, bits: fn(f32) -> [u8; 2]) {
    rewrite_tensors(path, |tensors| {
        for tensor in tensors.values_mut() {
            let (values, _) = tensor.data.as_chunks::<4>();
            tensor.data = values
                .iter()
                .flat_map(|bytes| bits(f32::from_le_bytes(*bytes)))
                .collect();
            tensor.dtype = dtype;
        }
    });
}

#[test]
fn weights_that_are_not_finite_are_refused_by_tensor_and_index_in_every_source_type() {
    let f16_bits: fn(f32) -> [u8; 2] = |value| f16::from_f32(value).to_le_bytes();
    let bf16_bits: fn(f32) -> [u8; 2] = |value| bf16::from_f32(value).to_le_bytes();
    for value in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        for weights in [WeightsFormat::F32, WeightsFormat::F16, WeightsFormat::Int8] {
            for (dtype, bits) in [
                (Dtype::F32, None),
                (Dtype::F16, Some(f16_bits)),
                (Dtype::BF16, Some(bf16_bits)),
            ] {
                let mut attempt = Attempt::new();
                attempt.weights = ComponentWeights::all(weights);
                let path = attempt.file(TRANSFORMER);
                let tensor = "transformer_blocks.1.ff.net.2.weight";
                match bits {
                    Some(bits) => {
                        store_as(&path, dtype, bits);
                        put(&path, tensor, 7, &bits(value));
                    }
                    None => put(&path, tensor, 7, &value.to_le_bytes()),
                }
                let error = attempt.refused(&["transformer", tensor, "index 7", "fetch it again"]);
                assert!(matches!(error, ConvertError::NotFinite { .. }), "{error}");
            }
        }
    }
}

#[test]
fn a_value_beyond_f16_asks_for_f32_and_f32_takes_it() {
    let mut attempt = Attempt::new();
    put(
        &attempt.file(VAE),
        "decoder.conv_out.weight",
        3,
        &70_000.0_f32.to_le_bytes(),
    );
    attempt.refused(&[
        "decoder.conv_out.weight",
        "f16 cannot hold (70000) at index 3",
        "--weights f32",
    ]);
    attempt.weights.vae_decoder = WeightsFormat::F32;
    attempt.converted();
}

#[test]
fn a_linear_weight_beyond_f16_is_refused_by_f16_and_taken_by_int8() {
    let mut attempt = Attempt::new();
    let tensor = "transformer_blocks.1.ff.net.2.weight";
    let path = attempt.file(TRANSFORMER);
    put(&path, tensor, 7, &1e10_f32.to_le_bytes());
    attempt.refused(&[
        tensor,
        "f16 cannot hold (10000000000) at index 7",
        "--weights f32",
    ]);
    attempt.weights.transformer = WeightsFormat::Int8;
    attempt.converted();
}
