//! T5 v1.1 encoder: token ids → text embeddings.
//!
//! Source: transformers 5.23 `modeling_t5.py`, `T5EncoderModel`. Ports: `input_ids` i64 `[B, L]`, `attention_mask` i64
//! `[B, L]` (1 = token, 0 = padding) → `last_hidden_state` f32 `[B, L, d_model]`.

use super::attention::{Heads, Scores, mask_bias};
use super::{Built, DYNAMIC, apply};
use crate::convert::weights::{Bias, Weights, signed};
use crate::ir::{ElementType, Graph, Value};
use crate::model::TextEncoderSpec;

/// Bias of padding keys: the lowest finite f16, so that it is finite in every precision.
const CLOSED: f32 = -65504.0;

/// Builds the encoder.
///
/// # Errors
/// When a tensor is missing or of another shape, and those of reading and writing.
pub fn text_encoder(graph: &mut Graph, weights: &Weights<'_>, spec: &TextEncoderSpec) -> Built<()> {
    let ids = graph.parameter("input_ids", ElementType::I64, &[DYNAMIC, DYNAMIC]);
    let mask = graph.parameter("attention_mask", ElementType::I64, &[DYNAMIC, DYNAMIC]);

    let table_name = ["shared.weight", "encoder.embed_tokens.weight"]
        .into_iter()
        .find(|name| weights.source().has(name))
        .unwrap_or("shared.weight");
    let table = weights.table(graph, table_name, &[spec.vocab_size, spec.d_model])?;
    let rows = graph.gather(table, ids)?;
    let mut hidden = graph.convert(rows, ElementType::F32);

    let position_bias = position_bias(graph, weights, spec, ids)?;
    let padding_bias = mask_bias(graph, mask, CLOSED)?;
    let bias = graph.add(position_bias, padding_bias);

    for layer in 0..spec.num_layers {
        hidden = graph.scoped(format!("block.{layer}"), |graph| {
            block(
                graph,
                weights,
                spec,
                BlockInput {
                    layer,
                    hidden,
                    bias,
                },
            )
        })?;
    }
    let last = rms_norm(
        graph,
        weights,
        spec,
        "encoder.final_layer_norm.weight",
        hidden,
    )?;
    graph.result("last_hidden_state", last);
    Ok(())
}

struct BlockInput {
    layer: usize,
    hidden: Value,
    bias: Value,
}

fn block(
    graph: &mut Graph,
    weights: &Weights<'_>,
    spec: &TextEncoderSpec,
    input: BlockInput,
) -> Built<Value> {
    let BlockInput {
        layer,
        hidden,
        bias,
    } = input;
    let prefix = format!("encoder.block.{layer}.layer");
    let inner = spec.inner_dim();

    let normed = rms_norm(
        graph,
        weights,
        spec,
        &format!("{prefix}.0.layer_norm.weight"),
        hidden,
    )?;
    let qkv = ["q", "k", "v"].map(|part| format!("{prefix}.0.SelfAttention.{part}"));
    let qkv = weights.fused_linear(graph, &qkv, [inner, spec.d_model], Bias::None)?;
    let qkv = apply(graph, qkv, normed);
    let parts = graph.split(qkv, 2, 3)?;
    let heads = Heads {
        count: spec.num_heads,
        size: spec.d_kv,
    };
    // T5 folds the factor 1/√d_kv into its initialisation: scores are not scaled.
    let scores = Scores {
        scale: 1.0,
        bias: Some(bias),
    };
    let attended = heads.attend(graph, [parts[0], parts[1], parts[2]], scores)?;
    let linear = |graph: &mut Graph, name: String, shape: [usize; 2], x: Value| -> Built<Value> {
        let linear = weights.fused_linear(graph, &[name], shape, Bias::None)?;
        Ok(apply(graph, linear, x))
    };
    let output = format!("{prefix}.0.SelfAttention.o");
    let attended = linear(graph, output, [spec.d_model, inner], attended)?;
    let hidden = graph.add(hidden, attended);

    let normed = rms_norm(
        graph,
        weights,
        spec,
        &format!("{prefix}.1.layer_norm.weight"),
        hidden,
    )?;
    let dense = format!("{prefix}.1.DenseReluDense");
    let gate = linear(
        graph,
        format!("{dense}.wi_0"),
        [spec.d_ff, spec.d_model],
        normed,
    )?;
    let gate = graph.gelu_tanh(gate);
    let up = linear(
        graph,
        format!("{dense}.wi_1"),
        [spec.d_ff, spec.d_model],
        normed,
    )?;
    let gated = graph.multiply(gate, up);
    let down = linear(
        graph,
        format!("{dense}.wo"),
        [spec.d_model, spec.d_ff],
        gated,
    )?;
    Ok(graph.add(hidden, down))
}

/// `x / sqrt(mean(x²) + eps) · weight`: no mean is subtracted, no bias added (`T5LayerNorm`).
fn rms_norm(
    graph: &mut Graph,
    weights: &Weights<'_>,
    spec: &TextEncoderSpec,
    name: &str,
    x: Value,
) -> Built<Value> {
    let weight = weights.plain(graph, name, &[spec.d_model])?;
    let squares = graph.square(x)?;
    let mean = graph.reduce_mean(squares)?;
    #[expect(clippy::cast_possible_truncation, reason = "an epsilon such as 1e-6")]
    let inverse = graph.rsqrt(mean, spec.layer_norm_epsilon as f32)?;
    let normed = graph.multiply(x, inverse);
    Ok(graph.multiply(normed, weight))
}

/// Relative position bias `[1, heads, L, L]`, a table lookup by `key - query` that every layer shares.
///
/// The first table holds the bucket of each offset from `-max_distance` to `max_distance` (beyond, T5 uses the last one),
/// the second the checkpoint's bias of each bucket and head.
fn position_bias(
    graph: &mut Graph,
    weights: &Weights<'_>,
    spec: &TextEncoderSpec,
    ids: Value,
) -> Built<Value> {
    let reach = signed(spec.relative_attention_max_distance);
    let buckets: Vec<i64> = (-reach..=reach)
        .map(|offset| signed(relative_position_bucket(offset, spec)))
        .collect();
    let buckets = graph.integers(&buckets)?;
    let table = weights.table(
        graph,
        "encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight",
        &[spec.relative_attention_num_buckets, spec.num_heads],
    )?;

    let shape = graph.shape_of(ids);
    let length = graph.dimension(shape, 1)?;
    let positions = graph.range(length, ElementType::I64)?;
    let keys = graph.unsqueeze(positions, 0)?;
    let queries = graph.unsqueeze(positions, 1)?;
    let offsets = graph.subtract(keys, queries);
    let (lowest, highest) = (graph.integer(-reach)?, graph.integer(reach)?);
    let offsets = graph.maximum(offsets, lowest);
    let offsets = graph.minimum(offsets, highest);
    let rows = graph.add(offsets, highest);
    let rows = graph.gather(buckets, rows)?;
    let bias = graph.gather(table, rows)?;
    let bias = graph.convert(bias, ElementType::F32);
    let bias = graph.transpose(bias, &[2, 0, 1])?;
    Ok(graph.unsqueeze(bias, 0)?)
}

/// The bucket of `offset = key - query`: exact for near ones, logarithmic for far ones, one half for each direction
/// (`T5Attention._relative_position_bucket`, bidirectional; f32 like torch).
fn relative_position_bucket(offset: i64, spec: &TextEncoderSpec) -> usize {
    let buckets = spec.relative_attention_num_buckets / 2;
    let direction = if offset > 0 { buckets } else { 0 };
    let exact = buckets / 2;
    let distance =
        usize::try_from(offset.unsigned_abs()).expect("offsets are at most max_distance");
    let within = if distance < exact {
        distance
    } else {
        let far = (spec.relative_attention_max_distance as f64 / exact as f64).ln();
        #[expect(
            clippy::cast_possible_truncation,
            reason = "torch divides an f32 tensor by this number"
        )]
        let ratio = (distance as f32 / exact as f32).ln() / far as f32;
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "the distance is at least `exact`, and torch truncates"
        )]
        let steps = (ratio * (buckets - exact) as f32) as usize;
        (exact + steps).min(buckets - 1)
    };
    direction + within
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_equal_transformers_for_every_offset() {
        #[derive(serde::Deserialize)]
        struct Table {
            num_buckets: usize,
            max_distance: usize,
            first_offset: i64,
            buckets: Vec<usize>,
        }
        let tables: Vec<Table> =
            serde_json::from_str(include_str!("../../../tests/golden/t5_buckets.json")).unwrap();
        assert!(tables.len() >= 3);
        for table in tables {
            let spec = TextEncoderSpec {
                d_model: 1,
                d_kv: 1,
                d_ff: 1,
                num_layers: 1,
                num_heads: 1,
                vocab_size: 1,
                relative_attention_num_buckets: table.num_buckets,
                relative_attention_max_distance: table.max_distance,
                layer_norm_epsilon: 1e-6,
            };
            let reach = signed(table.max_distance);
            for (offset, bucket) in (table.first_offset..).zip(table.buckets) {
                let clamped = offset.clamp(-reach, reach);
                assert_eq!(
                    relative_position_bucket(clamped, &spec),
                    bucket,
                    "offset {offset}"
                );
            }
        }
    }
}
