//! Convolutions, as both decoders have them.

use super::Built;
use crate::convert::weights::Weights;
use crate::ir::{Graph, Value, Window};

/// A 3×3 convolution that keeps height and width.
pub(super) const SAME: Window = Window {
    stride: 1,
    padding: 1,
};
/// The transposed convolution that doubles height and width.
pub(super) const DOUBLE: Window = Window {
    stride: 2,
    padding: 1,
};
/// A 1×1 convolution.
pub(super) const POINT: Window = Window {
    stride: 1,
    padding: 0,
};

/// Input and output channels.
#[derive(Clone, Copy)]
pub(super) struct Channels {
    pub(super) from: usize,
    pub(super) to: usize,
}

/// The convolution `prefix.weight` with `prefix.bias`.
pub(super) fn convolution(
    graph: &mut Graph,
    weights: &Weights<'_>,
    prefix: &str,
    x: Value,
    channels: Channels,
    window: Window,
) -> Built<Value> {
    let side = 1 + 2 * window.padding;
    let kernel = weights.plain(
        graph,
        &format!("{prefix}.weight"),
        &[channels.to, channels.from, side, side],
    )?;
    let convolved = graph.convolution(x, kernel, window);
    add_bias(graph, weights, prefix, convolved, channels.to)
}

/// Adds `prefix.bias` to each of `width` channels.
pub(super) fn add_bias(
    graph: &mut Graph,
    weights: &Weights<'_>,
    prefix: &str,
    x: Value,
    width: usize,
) -> Built<Value> {
    let bias = weights.plain(graph, &format!("{prefix}.bias"), &[width])?;
    let bias = graph.reshape(bias, &[1, -1, 1, 1])?;
    Ok(graph.add(x, bias))
}
