//! Multi-head attention as all three networks use it, shaped for the CPU plugin.

use super::Built;
use crate::convert::weights::signed;
use crate::ir::{ElementType, Graph, Value};

/// Query blocks of [`blocked_attention`]. 16 to 64 run alike; 32 keep the scores of one block at 1024×1024 px to 32 MB.
const QUERY_BLOCKS: usize = 32;

/// How a projection `[B, tokens, parts · heads · head_size]` divides.
#[derive(Debug, Clone, Copy)]
pub(super) struct Heads {
    pub(super) count: usize,
    pub(super) size: usize,
}

impl Heads {
    /// `[B, tokens, heads · head_size]` → `[B, heads, tokens, head_size]`.
    pub(super) fn apart(self, graph: &mut Graph, x: Value) -> Built<Value> {
        let shaped = graph.reshape(x, &[0, 0, signed(self.count), signed(self.size)])?;
        Ok(graph.transpose(shaped, &[0, 2, 1, 3])?)
    }

    /// `[B, heads, tokens, head_size]` → `[B, tokens, heads · head_size]`.
    pub(super) fn together(self, graph: &mut Graph, x: Value) -> Built<Value> {
        let shaped = graph.transpose(x, &[0, 2, 1, 3])?;
        Ok(graph.reshape(shaped, &[0, 0, signed(self.count * self.size)])?)
    }

    /// `softmax(q · kᵀ · scale + bias) · v` over queries, keys and values of `[B, tokens, heads · head_size]`; the same shape
    /// comes back.
    ///
    /// Written out, as the device fuses products and softmax into one kernel all the same: of a `ScaledDotProductAttention` it
    /// would first transpose the keys by themselves (docs/adr/0015). The scale meets the queries, which are fewer than scores.
    pub(super) fn attend(
        self,
        graph: &mut Graph,
        [query, key, value]: [Value; 3],
        scores: Scores,
    ) -> Built<Value> {
        let query = if (scores.scale - 1.0).abs() < f32::EPSILON {
            query
        } else {
            let scale = graph.scalar(scores.scale)?;
            graph.multiply(query, scale)
        };
        let query = self.apart(graph, query)?;
        let key = self.apart(graph, key)?;
        let value = self.apart(graph, value)?;
        let mut products = graph.matmul_transposed(query, key);
        if let Some(bias) = scores.bias {
            products = graph.add(products, bias);
        }
        let shares = graph.softmax(products);
        let attended = graph.matmul(shares, value);
        self.together(graph, attended)
    }
}

/// What happens to `q · kᵀ` before the softmax.
#[derive(Debug, Clone, Copy)]
pub(super) struct Scores {
    /// Factor.
    pub(super) scale: f32,
    /// Added after it; broadcasts to `[B, heads, queries, keys]`.
    pub(super) bias: Option<Value>,
}

/// A mask of ones and zeros `[B, tokens]` → a bias `[B, 1, 1, tokens]`: 0 where it is one, `closed` where it is zero.
pub(super) fn mask_bias(graph: &mut Graph, mask: Value, closed: f32) -> Built<Value> {
    let mask = graph.convert(mask, ElementType::F32);
    let one = graph.scalar(1.0)?;
    let masked = graph.subtract(one, mask);
    let closed = graph.scalar(closed)?;
    let bias = graph.multiply(masked, closed);
    let bias = graph.unsqueeze(bias, 1)?;
    Ok(graph.unsqueeze(bias, 1)?)
}

/// One-head attention of `[B, tokens, width]` in blocks of queries with its softmax written out.
///
/// The fused kernel is slow for heads as wide as the VAE's 512, and one softmax over all queries takes a
/// gigabyte in f32 at 1024×1024 px; in blocks it is several times as fast with the same numbers (docs/adr/0003). The division
/// by the sum comes after the product with the values, where it is `width` wide instead of `tokens`.
/// The lengths of the blocks are computed from the number of tokens, so that any number will do; some may be empty.
pub(super) fn blocked_attention(
    graph: &mut Graph,
    [query, key, value]: [Value; 3],
    scale: f32,
) -> Built<Value> {
    let scale = graph.scalar(scale)?;
    let query = graph.multiply(query, scale);
    let lengths = block_lengths(graph, query)?;
    let blocks = graph.split_by(query, 1, lengths, QUERY_BLOCKS)?;
    let mut attended = Vec::with_capacity(QUERY_BLOCKS);
    for block in blocks {
        let scores = graph.matmul_transposed(block, key);
        let largest = graph.reduce_max(scores)?;
        let shifted = graph.subtract(scores, largest);
        let exponents = graph.exp(shifted);
        let sum = graph.reduce_sum(exponents)?;
        let weighted = graph.matmul(exponents, value);
        attended.push(graph.divide(weighted, sum));
    }
    Ok(graph.concat(&attended, 1))
}

/// `floor((i + 1) · tokens / blocks) - floor(i · tokens / blocks)` for each block i, as an i64 vector.
fn block_lengths(graph: &mut Graph, query: Value) -> Built<Value> {
    let shape = graph.shape_of(query);
    let tokens = graph.dimension(shape, 1)?;
    let blocks = signed(QUERY_BLOCKS);
    let count = graph.integer(blocks)?;
    let mut edge = |range: std::ops::Range<i64>| -> Built<Value> {
        let indices = graph.integers(&range.collect::<Vec<_>>())?;
        let scaled = graph.multiply(indices, tokens);
        Ok(graph.divide(scaled, count))
    };
    let begins = edge(0..blocks)?;
    let ends = edge(1..blocks + 1)?;
    Ok(graph.subtract(ends, begins))
}
