//! One block of the diffusion transformer, and the norm that its timestep modulates.
//!
//! Source: diffusers 0.42 `attention.py`, `BasicTransformerBlock` with `ada_norm_single`.

use super::attention::{Heads, Scores};
use super::{Built, apply};
use crate::convert::weights::{Bias, Weights};
use crate::ir::{Graph, Value};
use crate::model::TransformerSpec;

/// Which block is being built, and from what.
pub(super) struct Layer<'a> {
    pub(super) weights: &'a Weights<'a>,
    pub(super) spec: &'a TransformerSpec,
    pub(super) index: usize,
}

impl Layer<'_> {
    fn name(&self, part: &str) -> String {
        format!("transformer_blocks.{}.{part}", self.index)
    }

    fn heads(&self) -> Heads {
        Heads {
            count: self.spec.num_attention_heads,
            size: self.spec.attention_head_dim,
        }
    }

    /// `softmax(q · kᵀ / √head_size + bias)`.
    fn scores(&self, bias: Option<Value>) -> Scores {
        Scores {
            scale: 1.0 / (self.spec.attention_head_dim as f32).sqrt(),
            bias,
        }
    }

    /// One linear layer of an attention over `x`.
    ///
    /// Queries, keys and values as one layer would be one product instead of three, and slower: the device takes its attention's
    /// inputs as they come from a product, and reads the parts of a wider one with gaps (docs/adr/0015).
    fn project(&self, graph: &mut Graph, attention: &str, part: &str, x: Value) -> Built<Value> {
        let name = self.name(&format!("{attention}.{part}"));
        let inner = self.spec.inner_dim();
        let bias = if self.spec.attention_bias {
            Bias::Added
        } else {
            Bias::None
        };
        let linear = self
            .weights
            .fused_linear(graph, &[name], [inner, inner], bias)?;
        Ok(apply(graph, linear, x))
    }

    /// The attention called `attention`: queries from `hidden`, keys and values from `context`, and its output layer.
    fn attend(&self, graph: &mut Graph, attention: &str, from: From) -> Built<Value> {
        let query = self.project(graph, attention, "to_q", from.hidden)?;
        let key = self.project(graph, attention, "to_k", from.context)?;
        let value = self.project(graph, attention, "to_v", from.context)?;
        let attended =
            self.heads()
                .attend(graph, [query, key, value], self.scores(from.context_bias))?;
        let inner = self.spec.inner_dim();
        let output = self.weights.linear(
            graph,
            &self.name(&format!("{attention}.to_out.0")),
            [inner, inner],
        )?;
        Ok(apply(graph, output, attended))
    }
}

/// What an attention looks from and at.
#[derive(Clone, Copy)]
struct From {
    /// Queries, `[B, tokens, inner]`.
    hidden: Value,
    /// Keys and values, `[B, L, inner]`.
    context: Value,
    /// Added to the scores; broadcasts to `[B, heads, tokens, L]`.
    context_bias: Option<Value>,
}

/// What every block is conditioned with.
#[derive(Clone, Copy)]
pub(super) struct Conditions {
    /// Shifts, scales and gates of the timestep, `[B, 6, inner]`.
    pub(super) modulation: Value,
    /// `[B, L, inner]`.
    pub(super) text: Value,
    /// `[B, 1, 1, L]`.
    pub(super) text_bias: Value,
}

/// Self-attention and feed-forward modulated by the timestep, cross-attention to the text between them
/// (`BasicTransformerBlock` with `ada_norm_single`).
pub(super) fn block(
    graph: &mut Graph,
    layer: &Layer<'_>,
    hidden: Value,
    conditions: Conditions,
) -> Built<Value> {
    let (weights, spec) = (layer.weights, layer.spec);
    let inner = spec.inner_dim();
    let table = weights.plain(graph, &layer.name("scale_shift_table"), &[6, inner])?;
    let modulation = graph.add(conditions.modulation, table);
    let parts = graph.split(modulation, 1, 6)?;

    let normed = modulated_norm(
        graph,
        spec,
        hidden,
        Modulation {
            shift: parts[0],
            scale: parts[1],
        },
    )?;
    let attended = layer.attend(
        graph,
        "attn1",
        From {
            hidden: normed,
            context: normed,
            context_bias: None,
        },
    )?;
    let gated = graph.multiply(attended, parts[2]);
    let hidden = graph.add(hidden, gated);

    let attended = layer.attend(
        graph,
        "attn2",
        From {
            hidden,
            context: conditions.text,
            context_bias: Some(conditions.text_bias),
        },
    )?;
    let hidden = graph.add(hidden, attended);

    let normed = modulated_norm(
        graph,
        spec,
        hidden,
        Modulation {
            shift: parts[3],
            scale: parts[4],
        },
    )?;
    let up = weights.linear(graph, &layer.name("ff.net.0.proj"), [4 * inner, inner])?;
    let up = apply(graph, up, normed);
    let up = graph.gelu_tanh(up);
    let down = weights.linear(graph, &layer.name("ff.net.2"), [inner, 4 * inner])?;
    let down = apply(graph, down, up);
    let gated = graph.multiply(down, parts[5]);
    Ok(graph.add(hidden, gated))
}

/// Shift and scale of a norm, `[B, 1, inner]`.
#[derive(Clone, Copy)]
pub(super) struct Modulation {
    pub(super) shift: Value,
    pub(super) scale: Value,
}

/// `norm(x) · (1 + scale) + shift`.
pub(super) fn modulated_norm(
    graph: &mut Graph,
    spec: &TransformerSpec,
    x: Value,
    modulation: Modulation,
) -> Built<Value> {
    let normed = graph.layer_norm(x, spec.norm_eps)?;
    let one = graph.scalar(1.0)?;
    let factor = graph.add(modulation.scale, one);
    let scaled = graph.multiply(normed, factor);
    Ok(graph.add(scaled, modulation.shift))
}
