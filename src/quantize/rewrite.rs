//! A network → the same network with its operations treated: fake quantisation in front of activations, integer weights.
//!
//! The chains are those that the CPU plugin's low-precision passes take for integer kernels, and that NNCF writes:
//! activations `FakeQuantize` of 256 levels, weights `Const i8 → Convert f32 → Multiply`. Weights stream tensor by tensor.

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use bytemuck::cast_slice;
use half::f16;

use super::levels::{Level, RowLevels, int4_asymmetric};
use super::plan::{Quantizer, Treatment, WeightsChoice};
use super::points::{Kind, Operation, Points, Weights};
use super::{Progress, QuantizeError};
use crate::convert::{quantise_int4, quantise_int8};
use crate::ir::{Constant, ElementType, Graph, Network, Value, append_f16, append_f32};

/// What an input becomes: the operation that it belongs to, and which of its activations it is.
type Replaced = (usize, usize);

/// Draws the treated network into `graph`.
pub(super) fn rewrite(
    network: &Network,
    points: &Points,
    treatments: &[Treatment],
    graph: &mut Graph,
    progress: &dyn Progress,
) -> Result<(), QuantizeError> {
    let mut rewriting = Rewriting::new(network, points, treatments, progress);
    let Places {
        dropped,
        weights,
        activations,
        tables,
    } = rewriting.places();
    let mut values: Vec<Vec<Value>> = Vec::with_capacity(network.layers().len());
    for (index, layer) in network.layers().iter().enumerate() {
        if progress.cancelled() {
            return Err(QuantizeError::Cancelled);
        }
        if dropped.contains(&index) {
            values.push(Vec::new());
            continue;
        }
        if let Some(&operation) = tables.get(&index) {
            let ids = layer.inputs()[1];
            let ids = values[ids.layer()][ids.output()];
            values.push(vec![rewriting.rows_of_table(graph, operation, ids)?]);
            continue;
        }
        let mut inputs = Vec::with_capacity(layer.inputs().len());
        for (input, value) in layer.inputs().iter().enumerate() {
            let place = (index, input);
            inputs.push(if let Some(&operation) = weights.get(&place) {
                rewriting.weights(graph, operation)?
            } else {
                let value = values[value.layer()][value.output()];
                match activations.get(&place) {
                    Some(&replaced) => rewriting.activation(graph, value, replaced)?,
                    None => value,
                }
            });
        }
        values.push(graph.copy(network, index, inputs)?);
    }
    Ok(())
}

/// A network in the course of being treated.
pub(super) struct Rewriting<'a> {
    pub(super) network: &'a Network,
    points: &'a Points,
    treatments: &'a [Treatment],
    progress: &'a dyn Progress,
    /// Points that have been quantised, each in one way: every operation behind a point treats it alike.
    quantised: BTreeMap<usize, Value>,
}

/// Where the network changes.
#[derive(Default)]
struct Places {
    /// Layers that go.
    dropped: BTreeSet<usize>,
    /// Operations whose weights flow into this input of this layer.
    weights: BTreeMap<(usize, usize), usize>,
    /// Activations that flow into this input of this layer.
    activations: BTreeMap<(usize, usize), Replaced>,
    /// Operations that are this layer, tables whose rows are looked up.
    tables: BTreeMap<usize, usize>,
}

impl<'a> Rewriting<'a> {
    pub(super) fn new(
        network: &'a Network,
        points: &'a Points,
        treatments: &'a [Treatment],
        progress: &'a dyn Progress,
    ) -> Self {
        Self {
            network,
            points,
            treatments,
            progress,
            quantised: BTreeMap::new(),
        }
    }

    fn places(&self) -> Places {
        let mut places = Places::default();
        for (index, (operation, treatment)) in self
            .points
            .operations
            .iter()
            .zip(self.treatments)
            .enumerate()
        {
            if let Some(weights) = &operation.weights
                && treatment.weights.is_some()
            {
                places.dropped.extend(&weights.layers);
                if operation.kind == Kind::Embedding {
                    places.tables.insert(operation.layer, index);
                } else {
                    places
                        .weights
                        .insert((operation.layer, weights.input), index);
                }
            }
            for (which, activation) in operation.activations.iter().enumerate() {
                if treatment.activations[which].is_some() {
                    let place = (activation.layer, activation.input);
                    places.activations.insert(place, (index, which));
                }
            }
        }
        places
    }

    /// An activation in 256 levels, each point once.
    pub(super) fn activation(
        &mut self,
        graph: &mut Graph,
        value: Value,
        (operation, which): Replaced,
    ) -> Result<Value, QuantizeError> {
        let treatment = &self.treatments[operation];
        let operation = &self.points.operations[operation];
        let point = operation.activations[which].point;
        if let Some(&quantised) = self.quantised.get(&point) {
            return Ok(quantised);
        }
        let quantizer = treatment.activations[which].expect("asked for where there is one");
        let quantised = graph.scoped(operation.name.clone(), |graph| {
            let value = match &treatment.smoothing {
                Some(factors) => {
                    let inverse: Vec<f32> = factors.iter().map(|factor| factor.recip()).collect();
                    let inverse = graph.floats(&[inverse.len()], &inverse)?;
                    graph.multiply(value, inverse)
                }
                None => value,
            };
            let Quantizer { low, high } = quantizer;
            graph.fake_quantize(value, low, high)
        })?;
        self.quantised.insert(point, quantised);
        Ok(quantised)
    }

    /// The integer weights of an operation.
    pub(super) fn weights(&self, graph: &mut Graph, index: usize) -> Result<Value, QuantizeError> {
        let (operation, treatment) = (&self.points.operations[index], &self.treatments[index]);
        let weights = operation
            .weights
            .as_ref()
            .expect("asked for where there are some");
        let value = graph.scoped(operation.name.clone(), |graph| {
            match (operation.kind, treatment.weights) {
                (
                    Kind::Linear | Kind::Convolution,
                    Some(WeightsChoice::Int4Symmetric { group }),
                ) if fits(weights, group) => self.grouped(graph, weights, group, Level::Symmetric),
                (
                    Kind::Linear | Kind::Convolution,
                    Some(WeightsChoice::Int4Asymmetric { group }),
                ) if fits(weights, group) => self.grouped(graph, weights, group, Level::Asymmetric),
                (Kind::TransposedConvolution, _) => self.transposed_kernel(graph, weights),
                _ if treatment.in_integers() => {
                    self.rows(graph, weights, treatment.smoothing.as_deref())
                }
                _ => self.stored_rows(graph, weights),
            }
        })?;
        self.progress.advance(weights.elements() as u64);
        Ok(value)
    }

    /// i8, one scale for each row: an output of a linear layer or a convolution.
    fn rows(
        &self,
        graph: &mut Graph,
        weights: &Weights,
        factors: Option<&[f32]>,
    ) -> Result<Value, QuantizeError> {
        let shape = &weights.constant.shape;
        let (levels, scales) = self.int8_rows(graph, weights, factors)?;
        let mut scale_shape = vec![1; shape.len()];
        scale_shape[0] = shape[0];
        let scale = graph.floats(&scale_shape, &scales)?;
        let levels = graph.convert(levels, ElementType::F32);
        Ok(graph.multiply(levels, scale))
    }

    /// i8, one scale for each row, of what is computed in floats: scales are f16, which is exact enough for them, unless one is too
    /// small for that.
    fn stored_rows(&self, graph: &mut Graph, weights: &Weights) -> Result<Value, QuantizeError> {
        let shape = &weights.constant.shape;
        let (levels, scales) = self.int8_rows(graph, weights, None)?;
        let mut scale_shape = vec![1; shape.len()];
        scale_shape[0] = shape[0];
        if scales
            .iter()
            .any(|&scale| scale < f16::MIN_POSITIVE.to_f32())
        {
            let scale = graph.floats(&scale_shape, &scales)?;
            let levels = graph.convert(levels, ElementType::F32);
            return Ok(graph.multiply(levels, scale));
        }
        let scales: Vec<f16> = scales.into_iter().map(f16::from_f32).collect();
        let scale = graph.constant(ElementType::F16, &scale_shape, |bin| {
            bin.write(cast_slice(&scales))
        })?;
        let levels = graph.convert(levels, ElementType::F16);
        let weight = graph.multiply(levels, scale);
        Ok(graph.convert(weight, ElementType::F32))
    }

    /// Rows of a table of i8 levels, one scale for each, as the values of the table's own type that the next layer takes.
    fn rows_of_table(
        &self,
        graph: &mut Graph,
        index: usize,
        ids: Value,
    ) -> Result<Value, QuantizeError> {
        let operation = &self.points.operations[index];
        let weights = operation.weights.as_ref().expect("a table has its rows");
        let rows = graph.scoped(operation.name.clone(), |graph| {
            let choice = self.treatments[index].weights;
            if let Some(group) = choice.and_then(|choice| table_group(weights, choice)) {
                return self.rows_of_grouped_table(graph, weights, group, ids);
            }
            let (levels, scales) = self.int8_rows(graph, weights, None)?;
            let levels = graph.gather(levels, ids)?;
            let levels = graph.convert(levels, ElementType::F32);
            let scale = graph.floats(&[scales.len(), 1], &scales)?;
            let scale = graph.gather(scale, ids)?;
            let rows = graph.multiply(levels, scale);
            Ok::<_, QuantizeError>(graph.convert(rows, weights.constant.element))
        })?;
        self.progress.advance(weights.elements() as u64);
        Ok(rows)
    }

    /// Rows of a table of 4-bit levels, one f16 scale for each `group` columns.
    ///
    /// No device is known to look rows of 4 bits up, so a byte holds two levels, of the first and of the second half of a group, and
    /// is taken apart when its row has been looked up.
    fn rows_of_grouped_table(
        &self,
        graph: &mut Graph,
        weights: &Weights,
        group: usize,
        ids: Value,
    ) -> Result<Value, QuantizeError> {
        let (rows, columns) = (weights.constant.shape[0], weights.constant.shape[1]);
        let (groups, half) = (columns / group, group / 2);
        let mut scales: Vec<f16> = Vec::with_capacity(rows * groups);
        let mut packed = Vec::with_capacity(columns / 2);
        let stored = graph.constant(ElementType::I8, &[rows, groups, half], |bin| {
            each_row(self.network, &weights.constant, |row| {
                packed.clear();
                for values in row.chunks_exact(group) {
                    let (first, second) = values.split_at(half);
                    let pairs = first.iter().zip(second);
                    let pairs: Vec<f32> = pairs.flat_map(|(&a, &b)| [a, b]).collect();
                    scales.push(quantise_int4(&pairs, &mut packed));
                }
                // Levels from -8 … 7 in two's complement to 0 … 15, and their byte from 0 … 255 to -128 … 127.
                for byte in &mut packed {
                    *byte ^= 0x88 ^ 0x80;
                }
                Ok(bin.write(&packed)?)
            })
        })?;
        let scale = graph.constant(ElementType::F16, &[rows, groups, 1], |bin| {
            bin.write(cast_slice(&scales))
        })?;
        let bytes = graph.gather(stored, ids)?;
        let bytes = graph.convert(bytes, ElementType::F32);
        let (offset, sixteen, eight) = (
            graph.scalar(128.0)?,
            graph.scalar(16.0)?,
            graph.scalar(8.0)?,
        );
        let bytes = graph.add(bytes, offset);
        let high = graph.divide(bytes, sixteen);
        let high = graph.floor(high);
        let above = graph.multiply(high, sixteen);
        let low = graph.subtract(bytes, above);
        let levels = graph.concat(&[low, high], -1);
        let levels = graph.subtract(levels, eight);
        let scale = graph.gather(scale, ids)?;
        let scale = graph.convert(scale, ElementType::F32);
        let scaled = graph.multiply(levels, scale);
        let rows = graph.reshape(scaled, &[0, 0, -1])?;
        Ok(graph.convert(rows, weights.constant.element))
    }

    /// i8 levels in the weights' own shape, columns multiplied by `factors` before, and the scale of each row.
    fn int8_rows(
        &self,
        graph: &mut Graph,
        weights: &Weights,
        factors: Option<&[f32]>,
    ) -> Result<(Value, Vec<f32>), QuantizeError> {
        let shape = &weights.constant.shape;
        let mut scales = Vec::with_capacity(shape[0]);
        let levels = graph.constant(ElementType::I8, shape, |bin| {
            each_row(self.network, &weights.constant, |row| {
                for (value, factor) in row.iter_mut().zip(factors.unwrap_or_default()) {
                    *value *= factor;
                }
                let (scale, levels) = quantise_int8(row);
                scales.push(scale);
                Ok(bin.write(cast_slice(&levels))?)
            })
        })?;
        Ok((levels, scales))
    }

    /// i8, one scale for each output: axis 1 of a transposed convolution's kernel.
    fn transposed_kernel(
        &self,
        graph: &mut Graph,
        weights: &Weights,
    ) -> Result<Value, QuantizeError> {
        let shape = &weights.constant.shape;
        let (outputs, taps) = (shape[1], shape[2] * shape[3]);
        let mut kernel = Vec::with_capacity(weights.elements());
        each_row(self.network, &weights.constant, |row| {
            kernel.extend_from_slice(row);
            Ok(())
        })?;
        let rows = RowLevels::of_axis_1(&kernel, outputs, taps);
        let stored = graph.constant(ElementType::I8, shape, |bin| {
            bin.write(cast_slice(&rows.levels))
        })?;
        let scale = graph.floats(&[1, outputs, 1, 1], &rows.scales)?;
        let levels = graph.convert(stored, ElementType::F32);
        Ok(graph.multiply(levels, scale))
    }

    /// 4 bits, one f16 scale for each `group` inputs of a row; of a convolution's kernel an input is a tap of a channel.
    fn grouped(
        &self,
        graph: &mut Graph,
        weights: &Weights,
        group: usize,
        level: Level,
    ) -> Result<Value, QuantizeError> {
        let shape = &weights.constant.shape;
        let (rows, columns) = (shape[0], inputs(weights));
        let groups = columns / group;
        let element = match level {
            Level::Symmetric => ElementType::I4,
            Level::Asymmetric => ElementType::U4,
        };
        let mut scales: Vec<f16> = Vec::with_capacity(rows * groups);
        let mut zeros: Vec<u8> = Vec::new();
        let mut packed = Vec::with_capacity(columns / 2);
        let stored = graph.constant(element, &[rows, groups, group], |bin| {
            each_row(self.network, &weights.constant, |row| {
                packed.clear();
                for values in row.chunks_exact(group) {
                    match level {
                        Level::Symmetric => scales.push(quantise_int4(values, &mut packed)),
                        Level::Asymmetric => {
                            let (scale, zero) = int4_asymmetric(values, &mut packed);
                            scales.push(scale);
                            zeros.push(zero);
                        }
                    }
                }
                Ok(bin.write(&packed)?)
            })
        })?;
        let mut levels = graph.convert(stored, ElementType::F16);
        if level == Level::Asymmetric {
            let packed: Vec<u8> = zeros
                .chunks(2)
                .map(|pair| pair[0] | pair.get(1).copied().unwrap_or(0) << 4)
                .collect();
            let zero = graph.constant(ElementType::U4, &[rows, groups, 1], |bin| {
                bin.write(&packed)
            })?;
            let zero = graph.convert(zero, ElementType::F16);
            levels = graph.subtract(levels, zero);
        }
        let scale = graph.constant(ElementType::F16, &[rows, groups, 1], |bin| {
            bin.write(cast_slice(&scales))
        })?;
        let scaled = graph.multiply(levels, scale);
        let dims: Vec<i64> = shape.iter().map(|dim| dim.cast_signed() as i64).collect();
        let weight = graph.reshape(scaled, &dims)?;
        Ok(graph.convert(weight, ElementType::F32))
    }
}

/// Columns of a table that share a scale in 4 bits; none where its rows have 8, because that was asked for or groups do not fit.
pub(super) fn table_group(weights: &Weights, choice: WeightsChoice) -> Option<usize> {
    let group = choice.group()?;
    (group.is_multiple_of(2) && fits(weights, group)).then_some(group)
}

fn fits(weights: &Weights, group: usize) -> bool {
    inputs(weights).is_multiple_of(group)
}

/// Numbers of a row of weights: all behind the first axis.
fn inputs(weights: &Weights) -> usize {
    weights.constant.shape.iter().skip(1).product()
}

/// Largest magnitude of each input channel of a linear layer's weights.
pub(super) fn column_maxima(
    network: &Network,
    operation: &Operation,
) -> Result<Vec<f32>, QuantizeError> {
    let Some(weights) = &operation.weights else {
        return Ok(Vec::new());
    };
    let mut largest = vec![0.0_f32; weights.constant.shape.last().copied().unwrap_or(0)];
    each_row(network, &weights.constant, |row| {
        for (largest, value) in largest.iter_mut().zip(row) {
            *largest = largest.max(value.abs());
        }
        Ok(())
    })?;
    Ok(largest)
}

/// Elements that are in memory at a time: 4 MiB of f32.
const BLOCK_ELEMENTS: usize = 1 << 20;

/// Hands every row of a float constant (all behind its first axis) to `each`, widened to f32.
fn each_row(
    network: &Network,
    constant: &Constant,
    mut each: impl FnMut(&mut [f32]) -> Result<(), QuantizeError>,
) -> Result<(), QuantizeError> {
    let rows = constant.shape.first().copied().unwrap_or(1);
    let columns = constant.shape.iter().skip(1).product::<usize>();
    if columns == 0 {
        return Ok(());
    }
    let at_once = (BLOCK_ELEMENTS / columns).max(1);
    let mut values: Vec<f32> = Vec::new();
    for first in (0..rows).step_by(at_once) {
        let count = at_once.min(rows - first) * columns;
        let bytes = network.elements(constant, first * columns, count)?;
        values.clear();
        if constant.element == ElementType::F16 {
            append_f16(&bytes, &mut values);
        } else {
            append_f32(&bytes, &mut values);
        }
        for row in values.chunks_exact_mut(columns) {
            each(row)?;
        }
    }
    Ok(())
}

impl From<io::Error> for QuantizeError {
    fn from(source: io::Error) -> Self {
        Self::WriteIr(source)
    }
}
