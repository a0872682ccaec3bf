//! The network that calibration runs: the same one, with reductions of every point as further outputs.
//!
//! Reducing inside of the network copies out numbers of the size of a column or a row instead of whole activations, which at
//! 1024×1024 px are 19 MB each. The outputs are called `observe/<point>/<reduction>`, `point` as in [`Points::points`]:
//!
//! | reduction | value |
//! |---|---|
//! | `rows_min`, `rows_max` | f32, extremes over the last axis, which stays as 1 |
//! | `channels_max` | f32 `[channels]`, the largest magnitude of each channel; only where linear layers take the point |

use std::io;
use std::path::Path;

use super::QuantizeError;
use super::points::Points;
use crate::ir::{BinWriter, Graph, Network, Value};

/// Writes the observed network to `xml` and its `.bin`.
pub(super) fn write_observed(
    network: &Network,
    points: &Points,
    xml: &Path,
) -> Result<(), QuantizeError> {
    write_telling(network, xml, |graph, values| {
        for (index, point) in points.points.iter().enumerate() {
            let value = values[point.value.layer()][point.value.output()];
            observe(graph, index, value, point.channels)?;
        }
        Ok(())
    })
}

/// Writes a copy of `network` to `xml` and its `.bin`, with the further outputs that `tell` makes of its values.
///
/// They stand in front of the network's own. The CPU plugin runs what each output needs in the outputs' order: so a value is reduced
/// as soon as it is there and makes room for the next one. Behind the network's own output, all of them would be in memory
/// together until it is done: 12 GB of a published VAE at 1024×1024 px.
pub(super) fn write_telling(
    network: &Network,
    xml: &Path,
    tell: impl FnOnce(&mut Graph, &[Vec<Value>]) -> Result<(), QuantizeError>,
) -> Result<(), QuantizeError> {
    let write = |source| QuantizeError::Write {
        path: xml.to_owned(),
        source,
    };
    let bin = BinWriter::create(&xml.with_extension("bin")).map_err(write)?;
    let mut graph = Graph::new(network.name().to_owned(), bin);
    let mut values: Vec<Vec<Value>> = Vec::with_capacity(network.layers().len());
    let mut results = Vec::new();
    for (index, layer) in network.layers().iter().enumerate() {
        let inputs = layer.inputs().iter();
        let inputs: Vec<Value> = inputs
            .map(|input| values[input.layer()][input.output()])
            .collect();
        if layer.kind() == "Result" {
            results.push((index, inputs));
            values.push(Vec::new());
        } else {
            values.push(graph.copy(network, index, inputs).map_err(write)?);
        }
    }
    tell(&mut graph, &values).map_err(|error| match error {
        QuantizeError::WriteIr(source) => write(source),
        error => error,
    })?;
    for (index, inputs) in results {
        graph.copy(network, index, inputs).map_err(write)?;
    }
    let (text, bin) = graph.finish();
    bin.finish().map_err(write)?;
    std::fs::write(xml, text).map_err(write)
}

fn observe(
    graph: &mut Graph,
    point: usize,
    value: Value,
    channels: Option<usize>,
) -> io::Result<()> {
    graph.scoped(format!("observe/{point}"), |graph| {
        let lowest = graph.reduce_min(value)?;
        graph.result(format!("observe/{point}/rows_min"), lowest);
        let highest = graph.reduce_max(value)?;
        graph.result(format!("observe/{point}/rows_max"), highest);
        if let Some(channels) = channels {
            let magnitudes = graph.abs(value);
            let rows = graph.reshape(magnitudes, &[-1, channels.cast_signed() as i64])?;
            let columns = graph.transpose(rows, &[1, 0])?;
            let largest = graph.reduce_max(columns)?;
            let largest = graph.reshape(largest, &[-1])?;
            graph.result(format!("observe/{point}/channels_max"), largest);
        }
        Ok(())
    })
}
