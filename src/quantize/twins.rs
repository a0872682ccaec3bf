//! Beside an operation its twin, which computes it in integers on the same exact inputs.

use std::collections::{BTreeMap, BTreeSet};

use super::plan::Treatment;
use super::points::{Operation, Points};
use super::rewrite::Rewriting;
use super::{Progress, QuantizeError};
use crate::ir::{Graph, Network, Value};

/// An operation's output as it is, and as integers give it.
pub(super) struct Twin {
    /// Its place among the operations.
    pub(super) operation: usize,
    pub(super) exact: Value,
    pub(super) treated: Value,
}

/// Draws a treated twin beside every operation that is to be computed in integers, on the exact inputs that it has in a copy of
/// the network whose values are `values`.
pub(super) fn twins(
    network: &Network,
    points: &Points,
    treatments: &[Treatment],
    graph: &mut Graph,
    values: &[Vec<Value>],
    progress: &dyn Progress,
) -> Result<Vec<Twin>, QuantizeError> {
    let mut rewriting = Rewriting::new(network, points, treatments, progress);
    let mut twins = Vec::new();
    for (index, operation) in points.operations.iter().enumerate() {
        if progress.cancelled() {
            return Err(QuantizeError::Cancelled);
        }
        if !treatments[index].in_integers() {
            continue;
        }
        let mut replaced: BTreeMap<(usize, usize), Value> = BTreeMap::new();
        if let Some(weights) = &operation.weights {
            let value = rewriting.weights(graph, index)?;
            replaced.insert((operation.layer, weights.input), value);
        }
        for (which, activation) in operation.activations.iter().enumerate() {
            let from = points.points[activation.point].value;
            let exact = values[from.layer()][from.output()];
            let value = rewriting.activation(graph, exact, (index, which))?;
            replaced.insert((activation.layer, activation.input), value);
        }
        twins.push(Twin {
            operation: index,
            exact: values[operation.layer][0],
            treated: rewriting.twin(graph, operation, &replaced, values)?,
        });
    }
    Ok(twins)
}

impl Rewriting<'_> {
    /// Copies an operation, with the layers in front of it that only move numbers around, on the inputs that are `replaced` and
    /// on exact values otherwise. Returns its output.
    fn twin(
        &self,
        graph: &mut Graph,
        operation: &Operation,
        replaced: &BTreeMap<(usize, usize), Value>,
        values: &[Vec<Value>],
    ) -> Result<Value, QuantizeError> {
        let mut twins: BTreeMap<usize, Vec<Value>> = BTreeMap::new();
        for layer in self.between(replaced.keys().map(|&(layer, _)| layer), operation.layer) {
            let taken = self.network.layers()[layer].inputs();
            let taken = taken.iter().enumerate().map(|(input, value)| {
                let moved = || Some(twins.get(&value.layer())?[value.output()]);
                let given = replaced.get(&(layer, input)).copied().or_else(moved);
                given.unwrap_or_else(|| values[value.layer()][value.output()])
            });
            let taken = taken.collect();
            let copied = graph.copy(self.network, layer, taken)?;
            let name = self.network.layers()[layer].name();
            graph.rename(copied[0], &format!("{name}/twin_of_{}", operation.name));
            twins.insert(layer, copied);
        }
        Ok(twins[&operation.layer][0])
    }

    /// The layers from those that change up to `last`, which takes from them, in order.
    fn between(&self, changed: impl Iterator<Item = usize>, last: usize) -> BTreeSet<usize> {
        let mut changed: BTreeSet<usize> = changed.collect();
        let first = changed.first().copied().unwrap_or(last);
        let taken = |layer: usize| self.network.layers()[layer].inputs().iter();
        let mut needed = BTreeSet::from([last]);
        for layer in (first..=last).rev() {
            if needed.contains(&layer) {
                needed.extend(taken(layer).map(|value| value.layer()));
            }
        }
        for layer in first..=last {
            if taken(layer).any(|value| changed.contains(&value.layer())) {
                changed.insert(layer);
            }
        }
        changed.intersection(&needed).copied().collect()
    }
}
