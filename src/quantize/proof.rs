//! That integers are really computed with: the device's own profile has to name an integer kernel for every operation that was
//! meant to have one.

use super::QuantizeError;
use crate::engine::{ProfiledNode, Tensor};
use crate::model::{Manifest, Part};

/// Latents a side, and tokens of text, that a network is profiled with: kernels are chosen by types, not by sizes.
const LATENTS: usize = 16;
const TOKENS: usize = 8;

/// Inputs of a network with which its kernels can be looked at: their numbers do not matter.
pub(super) fn inputs_of(part: Part, manifest: &Manifest) -> Vec<(&'static str, Tensor)> {
    let zeros = |shape: &[usize]| Tensor::f32(shape, vec![0.0; shape.iter().product()]);
    match part {
        Part::TextEncoder => vec![
            ("input_ids", Tensor::i64([1, TOKENS], vec![1; TOKENS])),
            ("attention_mask", Tensor::i64([1, TOKENS], vec![1; TOKENS])),
        ],
        Part::Transformer => {
            let spec = &manifest.transformer.spec;
            let side = LATENTS.next_multiple_of(spec.patch_size);
            let mut inputs = vec![
                ("hidden_states", zeros(&[1, spec.in_channels, side, side])),
                ("timestep", Tensor::i64([1], vec![0])),
                (
                    "encoder_hidden_states",
                    zeros(&[1, TOKENS, spec.caption_channels]),
                ),
                (
                    "encoder_attention_mask",
                    Tensor::f32([1, TOKENS], vec![1.0; TOKENS]),
                ),
            ];
            if spec.use_additional_conditions {
                inputs.push(("resolution", zeros(&[1, 2])));
                inputs.push(("aspect_ratio", zeros(&[1, 1])));
            }
            inputs
        }
        Part::VaeDecoder | Part::TinyVaeDecoder => {
            let channels = manifest.vae_decoder.spec.latent_channels;
            vec![("latents", zeros(&[1, channels, LATENTS, LATENTS]))]
        }
    }
}

/// Whether a kernel of this name computes in 8-bit integers: its arithmetic stands last, as in `brgemm_avx512_I8`.
pub fn is_integer(kernel: &str) -> bool {
    let arithmetic = kernel.rsplit('_').next().unwrap_or_default();
    ["i8", "u8"].contains(&arithmetic.to_ascii_lowercase().as_str())
}

/// Holds that every operation of `operations` ran in an integer kernel.
///
/// An operation is given by all the names that its node may have: its own, and those of what it is fused with. A node is its
/// own where it has one of them, or one and what the device has added behind a slash.
///
/// # Errors
/// When one did not, or did not run by itself at all.
pub fn check_kernels(
    component: &str,
    operations: &[Vec<String>],
    profile: &[ProfiledNode],
) -> Result<(), QuantizeError> {
    let missing: Vec<(&Vec<String>, String)> = operations
        .iter()
        .filter_map(|operation| {
            let mut ran = profile.iter().filter(|node| {
                node.time.is_some()
                    && operation.iter().any(|name| {
                        node.name
                            .strip_prefix(name.as_str())
                            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
                    })
            });
            if ran.clone().any(|node| is_integer(&node.kernel)) {
                return None;
            }
            let kernel = ran
                .next()
                .map_or_else(|| "it has no node".to_owned(), |node| node.kernel.clone());
            Some((operation, kernel))
        })
        .collect();
    match missing.first() {
        None => Ok(()),
        Some((name, kernel)) => Err(QuantizeError::NotInIntegers {
            component: component.to_owned(),
            count: missing.len(),
            name: name.first().cloned().unwrap_or_default(),
            kernel: kernel.clone(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn node(name: &str, kernel: &str, ran: bool) -> ProfiledNode {
        ProfiledNode {
            name: name.to_owned(),
            kind: "FullyConnected".to_owned(),
            kernel: kernel.to_owned(),
            time: ran.then_some(Duration::from_micros(5)),
        }
    }

    fn check(profile: &[ProfiledNode]) -> Result<(), QuantizeError> {
        check_kernels("transformer", &[vec!["a/MatMul_1".to_owned()]], profile)
    }

    #[test]
    fn kernels_tell_their_arithmetic_last() {
        for kernel in ["brgemm_avx512_I8", "brgemm_avx512_i8", "jit_avx512_i8"] {
            assert!(is_integer(kernel), "{kernel}");
        }
        for kernel in ["brgemm_avx512_bf16", "ref_any_f32", "undef", "", "i8_f32"] {
            assert!(!is_integer(kernel), "{kernel}");
        }
    }

    #[test]
    fn an_operation_is_found_by_its_name_and_by_what_the_device_adds() {
        check(&[node("a/MatMul_1", "brgemm_avx512_I8", true)]).unwrap();
        check(&[node(
            "a/MatMul_1/DequantizationMultiply",
            "brgemm_avx512_i8",
            true,
        )])
        .unwrap();
    }

    #[test]
    fn an_operation_in_floats_fused_away_or_of_another_name_is_told() {
        for node in [
            node("a/MatMul_1", "brgemm_avx512_bf16", true),
            node("a/MatMul_1", "brgemm_avx512_I8", false),
            node("a/MatMul_11", "brgemm_avx512_I8", true),
        ] {
            let error = check(std::slice::from_ref(&node)).unwrap_err();
            assert!(error.to_string().contains("a/MatMul_1 for one"), "{error}");
        }
    }
}
