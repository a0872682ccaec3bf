//! Tensors of a checkpoint → constants of a graph, in the chosen weights format, block by block.
//!
//! | format | linear layers | everything else |
//! |---|---|---|
//! | f32 | f32 | f32 |
//! | f16 | f16 | f16 |
//! | int8 | i8, one f32 scale a row | f16 |
//! | int4 | i4, one f16 scale for each group of 64 inputs; i8 where 64 does not divide the inputs | f16 |
//!
//! Kernels that conversion computes (`upsample.rs`) are f32 in the first two rows: an f16 checkpoint stored as f16 is the
//! same model as stored as f32, bit for bit.
//!
//! The chains (`Const → Convert → Multiply → Convert → MatMul`) are those that the CPU plugin fuses into its compressed
//! linear layers; `docs/adr/0004-weights-formats.md` has what was measured.

use bytemuck::cast_slice;
use half::f16;

use super::ConvertError;
use super::progress::Progress;
use super::quantise::{quantise_int4, quantise_int8};
use super::source::{SourceTensor, SourceType, WeightsSource};
use super::upsample::{FOLDED_TAPS, fold_upsampling};
use crate::ir::{
    BLOCK_BYTES, BinWriter, ElementType, Graph, Value, append_bf16, append_f16, append_f32,
    first_not_finite,
};
use crate::model::WeightsFormat;

/// Elements that are in memory at a time: 4 MiB of f32.
const BLOCK_ELEMENTS: usize = 1 << 20;
/// Inputs that share a scale in int4.
const INT4_GROUP: usize = 64;

/// The weights of a component on their way into its graph.
pub struct Weights<'a> {
    source: &'a WeightsSource,
    format: WeightsFormat,
    progress: &'a dyn Progress,
}

/// A linear layer: `x · weightᵀ + bias`.
#[derive(Debug, Clone, Copy)]
pub struct Linear {
    /// f32 `[out, in]`, after decompression.
    pub weight: Value,
    /// f32 `[out]`.
    pub bias: Option<Value>,
}

/// Whether a linear layer adds a bias.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bias {
    /// `prefix.bias` is added.
    Added,
    /// There is none.
    None,
}

impl<'a> Weights<'a> {
    /// Weights of `source` that will be stored as `format`.
    pub fn new(
        source: &'a WeightsSource,
        format: WeightsFormat,
        progress: &'a dyn Progress,
    ) -> Self {
        Self {
            source,
            format,
            progress,
        }
    }

    /// The checkpoint behind.
    pub fn source(&self) -> &WeightsSource {
        self.source
    }

    /// A tensor that is used as it is (norms, biases, convolutions), unpacked to f32.
    ///
    /// # Errors
    /// When it is missing or of another shape, and those of reading and writing.
    pub fn plain(
        &self,
        graph: &mut Graph,
        name: &str,
        shape: &[usize],
    ) -> Result<Value, ConvertError> {
        let stored = self.stored(graph, name, shape)?;
        Ok(graph.decompress(stored, ElementType::F32))
    }

    /// A table whose rows are gathered: stored compressed, unpacked by the caller after the gather.
    ///
    /// # Errors
    /// As [`Self::plain`].
    pub fn table(
        &self,
        graph: &mut Graph,
        name: &str,
        shape: &[usize],
    ) -> Result<Value, ConvertError> {
        self.stored(graph, name, shape)
    }

    fn stored(
        &self,
        graph: &mut Graph,
        name: &str,
        shape: &[usize],
    ) -> Result<Value, ConvertError> {
        let tensor = self.source.tensor(name, shape)?;
        let element = self.float_element();
        graph.constant(element, shape, |bin| self.stream(&tensor, element, bin))
    }

    /// The kernel of a 3×3 convolution behind a doubling of the picture, folded for
    /// [`Graph::convolution_transposed`]: `[inputs, outputs, 4, 4]`, unpacked to f32.
    ///
    /// # Errors
    /// As [`Self::plain`].
    pub fn upsampling_kernel(
        &self,
        graph: &mut Graph,
        name: &str,
        channels: usize,
    ) -> Result<Value, ConvertError> {
        let tensor = self.source.tensor(name, &[channels, channels, 3, 3])?;
        let shape = [channels, channels, FOLDED_TAPS, FOLDED_TAPS];
        // Sums of f16 weights are no f16 numbers: rounding them would make f16 another model than f32.
        let element = match self.format {
            WeightsFormat::F32 | WeightsFormat::F16 => ElementType::F32,
            WeightsFormat::Int8 | WeightsFormat::Int4 => ElementType::F16,
        };
        let stored = graph.constant(element, &shape, |bin| {
            let folded = fold_upsampling(&self.values(&tensor)?, channels, channels);
            if element == ElementType::F32 {
                return write(bin, cast_slice(&folded));
            }
            write(bin, cast_slice(&narrow(&tensor, &folded, 0)?))
        })?;
        Ok(graph.decompress(stored, ElementType::F32))
    }

    /// All values of a tensor, widened to f32.
    fn values(&self, tensor: &SourceTensor<'_>) -> Result<Vec<f32>, ConvertError> {
        let mut values = Vec::with_capacity(tensor.elements());
        self.blocks(tensor, BLOCK_ELEMENTS, |raw, start| {
            widen(tensor, raw, start, &mut values)
        })?;
        Ok(values)
    }

    /// A linear layer `prefix.weight` `[out, in]` with its bias `prefix.bias`.
    ///
    /// # Errors
    /// As [`Self::plain`].
    pub fn linear(
        &self,
        graph: &mut Graph,
        prefix: &str,
        shape: [usize; 2],
    ) -> Result<Linear, ConvertError> {
        self.fused_linear(graph, &[prefix.to_owned()], shape, Bias::Added)
    }

    /// Several linear layers of equal `shape` over the same input as one, outputs one after the other.
    ///
    /// # Errors
    /// As [`Self::plain`].
    pub fn fused_linear(
        &self,
        graph: &mut Graph,
        prefixes: &[String],
        shape: [usize; 2],
        bias: Bias,
    ) -> Result<Linear, ConvertError> {
        let tensors = prefixes
            .iter()
            .map(|prefix| self.source.tensor(&format!("{prefix}.weight"), &shape))
            .collect::<Result<Vec<_>, _>>()?;
        let weight = match self.format {
            WeightsFormat::F32 | WeightsFormat::F16 => self.float_weight(graph, &tensors, shape)?,
            WeightsFormat::Int4 if shape[1].is_multiple_of(INT4_GROUP) => {
                self.int4_weight(graph, &tensors, shape)?
            }
            WeightsFormat::Int8 | WeightsFormat::Int4 => {
                self.int8_weight(graph, &tensors, shape)?
            }
        };
        let bias = if bias == Bias::Added {
            let biases = prefixes
                .iter()
                .map(|prefix| self.source.tensor(&format!("{prefix}.bias"), &shape[..1]))
                .collect::<Result<Vec<_>, _>>()?;
            let element = self.float_element();
            let stored = graph.constant(element, &[shape[0] * biases.len()], |bin| {
                biases
                    .iter()
                    .try_for_each(|bias| self.stream(bias, element, bin))
            })?;
            Some(graph.decompress(stored, ElementType::F32))
        } else {
            None
        };
        Ok(Linear { weight, bias })
    }

    fn float_element(&self) -> ElementType {
        match self.format {
            WeightsFormat::F32 => ElementType::F32,
            WeightsFormat::F16 | WeightsFormat::Int8 | WeightsFormat::Int4 => ElementType::F16,
        }
    }

    fn float_weight(
        &self,
        graph: &mut Graph,
        tensors: &[SourceTensor<'_>],
        shape: [usize; 2],
    ) -> Result<Value, ConvertError> {
        let element = self.float_element();
        let stored = graph.constant(element, &[shape[0] * tensors.len(), shape[1]], |bin| {
            tensors
                .iter()
                .try_for_each(|tensor| self.stream(tensor, element, bin))
        })?;
        Ok(graph.decompress(stored, ElementType::F32))
    }

    fn int8_weight(
        &self,
        graph: &mut Graph,
        tensors: &[SourceTensor<'_>],
        shape: [usize; 2],
    ) -> Result<Value, ConvertError> {
        let rows = shape[0] * tensors.len();
        let mut scales: Vec<f32> = Vec::with_capacity(rows);
        let stored = graph.constant(ElementType::I8, &[rows, shape[1]], |bin| {
            self.quantise_rows(tensors, shape[1], |row, _| {
                let (scale, levels) = quantise_int8(row);
                scales.push(scale);
                write(bin, cast_slice(&levels))
            })
        })?;
        let scale = graph.floats(&[rows, 1], &scales)?;
        let levels = graph.convert(stored, ElementType::F32);
        Ok(graph.multiply(levels, scale))
    }

    fn int4_weight(
        &self,
        graph: &mut Graph,
        tensors: &[SourceTensor<'_>],
        shape: [usize; 2],
    ) -> Result<Value, ConvertError> {
        let rows = shape[0] * tensors.len();
        let groups = shape[1] / INT4_GROUP;
        let mut scales: Vec<f16> = Vec::with_capacity(rows * groups);
        let mut packed = Vec::with_capacity(shape[1] / 2);
        let stored = graph.constant(ElementType::I4, &[rows, groups, INT4_GROUP], |bin| {
            self.quantise_rows(tensors, shape[1], |row, at| {
                // On the device, levels times scale pass through f16.
                let beyond = |value: &f32| value.abs() > f16::MAX.to_f32();
                if let Some(index) = row.iter().position(beyond) {
                    return Err(at
                        .tensor
                        .not_finite(Some("int4"), row[index], at.start + index));
                }
                packed.clear();
                for group in row.chunks_exact(INT4_GROUP) {
                    scales.push(quantise_int4(group, &mut packed));
                }
                write(bin, &packed)
            })
        })?;
        let scale = graph.constant(ElementType::F16, &[rows, groups, 1], |bin| {
            write(bin, cast_slice(&scales))
        })?;
        let levels = graph.convert(stored, ElementType::F16);
        let grouped = graph.multiply(levels, scale);
        let weight = graph.reshape(grouped, &[signed(rows), signed(shape[1])])?;
        Ok(graph.convert(weight, ElementType::F32))
    }

    /// Hands every row of every tensor to `quantise`, in order, widened to f32.
    fn quantise_rows(
        &self,
        tensors: &[SourceTensor<'_>],
        columns: usize,
        mut quantise: impl FnMut(&[f32], RowAt<'_>) -> Result<(), ConvertError>,
    ) -> Result<(), ConvertError> {
        let rows_at_once = (BLOCK_ELEMENTS / columns).max(1);
        for tensor in tensors {
            self.blocks(tensor, rows_at_once * columns, |raw, start| {
                let mut values = Vec::new();
                widen(tensor, raw, start, &mut values)?;
                let mut starts = (start..).step_by(columns);
                values.chunks_exact(columns).try_for_each(|row| {
                    let start = starts.next().expect("an endless range");
                    quantise(row, RowAt { tensor, start })
                })
            })?;
        }
        Ok(())
    }

    /// Copies a tensor into the `.bin` as f32 or f16.
    fn stream(
        &self,
        tensor: &SourceTensor<'_>,
        element: ElementType,
        bin: &mut BinWriter,
    ) -> Result<(), ConvertError> {
        if (tensor.dtype(), element) == (SourceType::F16, ElementType::F16) {
            return self.copy_f16(tensor, bin);
        }
        let mut values = Vec::new();
        self.blocks(tensor, BLOCK_ELEMENTS, |raw, start| {
            values.clear();
            widen(tensor, raw, start, &mut values)?;
            if element != ElementType::F16 {
                return write(bin, cast_slice(&values));
            }
            write(bin, cast_slice(&narrow(tensor, &values, start)?))
        })
    }

    /// The most common way, at the speed of a file copy: f16 blocks are read where they will be written from.
    fn copy_f16(&self, tensor: &SourceTensor<'_>, bin: &mut BinWriter) -> Result<(), ConvertError> {
        self.ranges(tensor, BLOCK_BYTES / 2, |start, count| {
            bin.write_with(count * 2, |block| {
                tensor.read_raw(start, block)?;
                check_f16(tensor, block, start)
            })
        })
    }

    /// Reads a tensor in blocks of at most `elements`.
    fn blocks(
        &self,
        tensor: &SourceTensor<'_>,
        elements: usize,
        mut each: impl FnMut(&[u8], usize) -> Result<(), ConvertError>,
    ) -> Result<(), ConvertError> {
        let mut raw = Vec::new();
        self.ranges(tensor, elements, |start, count| {
            raw.resize(count * tensor.dtype().bytes(), 0);
            tensor.read_raw(start, &mut raw)?;
            each(&raw, start)
        })
    }

    /// Cuts a tensor into ranges (start, count) of at most `elements`, looking at cancellation before each and telling
    /// the progress after it.
    fn ranges(
        &self,
        tensor: &SourceTensor<'_>,
        elements: usize,
        mut each: impl FnMut(usize, usize) -> Result<(), ConvertError>,
    ) -> Result<(), ConvertError> {
        for start in (0..tensor.elements()).step_by(elements) {
            if self.progress.cancelled() {
                return Err(ConvertError::Cancelled);
            }
            let count = elements.min(tensor.elements() - start);
            each(start, count)?;
            self.progress
                .advance((count * tensor.dtype().bytes()) as u64);
        }
        Ok(())
    }
}

/// Where a row lies: its tensor, and the index of its first value there.
struct RowAt<'a> {
    tensor: &'a SourceTensor<'a>,
    start: usize,
}

fn write(bin: &mut BinWriter, bytes: &[u8]) -> Result<(), ConvertError> {
    Ok(bin.write(bytes)?)
}

/// Sizes of tensors in files fit i64.
pub(super) fn signed(size: usize) -> i64 {
    i64::try_from(size).expect("sizes of tensors in files fit i64")
}

/// Appends raw little-endian elements to `values` as f32, exactly; refuses what is not finite.
fn widen(
    tensor: &SourceTensor<'_>,
    raw: &[u8],
    start: usize,
    values: &mut Vec<f32>,
) -> Result<(), ConvertError> {
    let first = values.len();
    match tensor.dtype() {
        SourceType::F32 => append_f32(raw, values),
        SourceType::F16 => append_f16(raw, values),
        SourceType::Bf16 => append_bf16(raw, values),
    }
    match first_not_finite(&values[first..]) {
        None => Ok(()),
        Some(index) => Err(tensor.not_finite(None, values[first + index], start + index)),
    }
}

/// Rounds values of a tensor to f16; refuses what does not fit.
fn narrow(
    tensor: &SourceTensor<'_>,
    values: &[f32],
    start: usize,
) -> Result<Vec<f16>, ConvertError> {
    let narrow: Vec<f16> = values.iter().map(|&value| f16::from_f32(value)).collect();
    match narrow.iter().position(|value| !value.is_finite()) {
        None => Ok(narrow),
        Some(index) => Err(tensor.not_finite(Some("f16"), values[index], start + index)),
    }
}

/// Refuses an f16 block with an infinity or NaN (all exponent bits set).
fn check_f16(tensor: &SourceTensor<'_>, raw: &[u8], start: usize) -> Result<(), ConvertError> {
    const EXPONENT: u16 = 0x7c00;
    let bits = raw
        .chunks_exact(2)
        .map(|bytes| u16::from_le_bytes([bytes[0], bytes[1]]));
    // A maximum without early exit vectorises; the position is looked for only when there is one.
    let largest = bits.clone().map(|bits| bits & EXPONENT).max();
    if largest != Some(EXPONENT) {
        return Ok(());
    }
    let (index, bits) = bits
        .enumerate()
        .find(|(_, bits)| bits & EXPONENT == EXPONENT)
        .expect("the maximum found one");
    Err(tensor.not_finite(None, f16::from_bits(bits).to_f32(), start + index))
}
