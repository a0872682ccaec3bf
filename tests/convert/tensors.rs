//! Tensors that are missing, unknown, of another shape or type, or hold what no picture can be drawn with.

use std::path::Path;

use half::{bf16, f16};
use pixart::convert::{ComponentWeights, ConvertError};
use pixart::model::WeightsFormat;
use safetensors::Dtype;

use super::{Attempt, TEXT_ENCODER, TRANSFORMER, VAE, put};
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

#[test]
fn tensors_that_the_architecture_does_not_know_are_counted_and_one_is_named() {
    let attempt = Attempt::new();
    rewrite_tensors(&attempt.file(TRANSFORMER), |tensors| {
        for name in [
            "transformer_blocks.0.attn1.lora_a",
            "transformer_blocks.0.attn1.lora_b",
        ] {
            let tensor = StoredTensor {
                dtype: Dtype::F32,
                shape: vec![1],
                data: vec![0; 4],
            };
            tensors.insert(name.to_owned(), tensor);
        }
    });
    let error = attempt.refused(&["2 tensor(s)", "transformer_blocks.0.attn1.lora_a"]);
    assert!(
        matches!(error, ConvertError::UnknownTensor { .. }),
        "{error}"
    );
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
