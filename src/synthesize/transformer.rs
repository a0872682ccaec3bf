//! The tensors of the diffusion transformer, by their names in diffusers 0.42 `PixArtTransformer2DModel`.

use super::tensor::{Tensor, Tensors, Values};
use crate::model::TransformerSpec;

/// Width of the sinusoids of timesteps and micro-conditions.
const SINUSOID_CHANNELS: usize = 256;
/// The embedding of timestep and size, which moves and scales the last norm: small, or it drowns what is predicted.
const EMBEDDING_GAIN: f32 = 0.1;
/// What the conditions change of the tokens: gates, shifts and scales of about 0.15, as trained ones are small, out of an
/// embedding as small as that.
const MODULATION_GAIN: f32 = 6.0;
/// Cross-attention has no gate, and every token gets nearly the same from it: 28 of them shall not drown the picture.
const UNGATED_GAIN: f32 = 0.15;
/// Size of the first layer's weights, and of its bias.
const PATCH: f32 = 2.0;
const GROUND: f32 = 10.0;

/// All of them, in the order of the layers, and a `y_embedding` of so many rows where there is one.
pub(super) fn tensors(spec: &TransformerSpec, y_embedding: Option<usize>) -> Vec<Tensor> {
    let mut tensors = Tensors::default();
    let inner = spec.inner_dim();
    let (patch, channels) = (spec.patch_size, spec.in_channels);
    let inputs = patch * patch * channels;
    tensors.add(
        "pos_embed.proj.weight",
        &[inner, channels, patch, patch],
        Values::Patches {
            inputs,
            size: PATCH,
        },
    );
    let ground = Values::Ground {
        inputs,
        size: GROUND,
    };
    tensors.add("pos_embed.proj.bias", &[inner], ground);
    let mut embedder = |name: &str, width: usize| {
        let prefix = format!("adaln_single.emb.{name}");
        tensors.layer(
            &format!("{prefix}.linear_1"),
            &[width, SINUSOID_CHANNELS],
            1.0,
        );
        let second = format!("{prefix}.linear_2");
        tensors.layer(&second, &[width, width], EMBEDDING_GAIN);
    };
    embedder("timestep_embedder", inner);
    if spec.use_additional_conditions {
        embedder("resolution_embedder", inner / 3);
        embedder("aspect_ratio_embedder", inner / 3);
    }
    tensors.layer("adaln_single.linear", &[6 * inner, inner], MODULATION_GAIN);
    tensors.layer(
        "caption_projection.linear_1",
        &[inner, spec.caption_channels],
        1.0,
    );
    tensors.layer("caption_projection.linear_2", &[inner, inner], 1.0);
    if let Some(rows) = y_embedding {
        let deviation = 1.0 / (spec.caption_channels as f32).sqrt();
        tensors.add(
            "caption_projection.y_embedding",
            &[rows, spec.caption_channels],
            Values::Spread { deviation },
        );
    }
    for layer in 0..spec.num_layers {
        block(&mut tensors, spec, layer);
    }
    table(&mut tensors, "scale_shift_table", [2, inner]);
    // The last norm divides by the deviation of what varies by 1 for each input, the ground, and about 1 of everything else; as
    // many channels as an input has add up.
    let deviation = (PATCH * PATCH + GROUND * GROUND + 1.0).sqrt();
    tensors.add(
        "proj_out.weight",
        &[patch * patch * spec.out_channels, inner],
        Values::Echo {
            patch,
            channels,
            outputs: spec.out_channels,
            width: inner,
            size: deviation * inputs as f32 / (PATCH * inner as f32),
            deviation: 1.0 / (inner as f32).sqrt(),
        },
    );
    tensors.bias("proj_out", patch * patch * spec.out_channels);
    tensors.into_vec()
}

fn block(tensors: &mut Tensors, spec: &TransformerSpec, layer: usize) {
    let inner = spec.inner_dim();
    let block = format!("transformer_blocks.{layer}");
    for (attention, out_gain) in [("attn1", 1.0), ("attn2", UNGATED_GAIN)] {
        for part in ["to_q", "to_k", "to_v"] {
            let prefix = format!("{block}.{attention}.{part}");
            tensors.weight(&prefix, &[inner, inner], 1.0);
            if spec.attention_bias {
                tensors.bias(&prefix, inner);
            }
        }
        let output = format!("{block}.{attention}.to_out.0");
        tensors.layer(&output, &[inner, inner], out_gain);
    }
    tensors.layer(&format!("{block}.ff.net.0.proj"), &[4 * inner, inner], 1.0);
    tensors.layer(&format!("{block}.ff.net.2"), &[inner, 4 * inner], 1.0);
    table(tensors, &format!("{block}.scale_shift_table"), [6, inner]);
}

/// What is added to the conditions: spread as diffusers begins with it.
fn table(tensors: &mut Tensors, name: &str, [rows, inner]: [usize; 2]) {
    let deviation = 1.0 / (inner as f32).sqrt();
    tensors.add(name, &[rows, inner], Values::Spread { deviation });
}
