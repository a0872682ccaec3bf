//! The graph under construction: layers, edges, and one method for each operation that the models need.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::io;

use super::bin::BinWriter;
use super::layer::{ElementType, Layer, Mark, Value};
use super::xml;

/// A model graph whose constants stream into a `.bin`.
#[derive(Debug)]
pub struct Graph {
    name: String,
    layers: Vec<Layer>,
    bin: BinWriter,
    scope: Vec<String>,
    precise: bool,
}

impl Graph {
    /// An empty graph called `name`, whose constants go to `bin`. Over [`BinWriter::counting`], no constant is filled.
    pub fn new(name: impl Into<String>, bin: BinWriter) -> Self {
        Self {
            name: name.into(),
            layers: Vec::new(),
            bin,
            scope: Vec::new(),
            precise: false,
        }
    }

    /// Runs `build` with `name` in front of the names of its layers, so that profiles read like the model.
    ///
    /// # Errors
    /// Those of `build`.
    pub fn scoped<T, E>(
        &mut self,
        name: impl Into<String>,
        build: impl FnOnce(&mut Self) -> Result<T, E>,
    ) -> Result<T, E> {
        self.scope.push(name.into());
        let built = build(self);
        self.scope.pop();
        built
    }

    /// Runs `build` with its arithmetic held in f32, whatever precision the device prefers: angles of sines need it.
    pub fn precise<T>(&mut self, build: impl FnOnce(&mut Self) -> T) -> T {
        let outer = std::mem::replace(&mut self.precise, true);
        let built = build(self);
        self.precise = outer;
        built
    }

    /// The `.xml` text, and the `.bin` to finish.
    pub fn finish(self) -> (String, BinWriter) {
        (xml::write(&self.name, &self.layers), self.bin)
    }

    fn layer(&mut self, kind: &'static str, opset: &'static str) -> LayerBuilder<'_> {
        let mut name = String::new();
        for part in &self.scope {
            name.push_str(part);
            name.push('/');
        }
        let _ = write!(name, "{kind}_{}", self.layers.len());
        let mark = (self.precise && kind != "Const").then_some(Mark::Precise);
        LayerBuilder {
            layer: Layer {
                kind: Cow::Borrowed(kind),
                opset: Cow::Borrowed(opset),
                name,
                attributes: Vec::new(),
                inputs: Vec::new(),
                outputs: Vec::new(),
                port_names: Vec::new(),
                dims: None,
                mark,
            },
            graph: self,
        }
    }

    // Ports -------------------------------------------------------------------------------------------------------

    /// A model input; -1 is a dynamic dimension.
    pub fn parameter(&mut self, port: &'static str, element: ElementType, dims: &[i64]) -> Value {
        let shape: Vec<String> = dims
            .iter()
            .map(|&dim| {
                if dim < 0 {
                    "?".to_owned()
                } else {
                    dim.to_string()
                }
            })
            .collect();
        let mut builder = self
            .layer("Parameter", "opset1")
            .attribute("shape", shape.join(","))
            .attribute("element_type", element.name());
        port.clone_into(&mut builder.layer.name);
        builder.layer.port_names.push(Cow::Borrowed(port));
        builder.layer.dims = Some(dims.to_vec());
        builder.output(element)
    }

    /// A model output.
    pub fn result(&mut self, port: impl Into<Cow<'static, str>>, value: Value) {
        self.layers[value.layer].port_names.push(port.into());
        self.layer("Result", "opset1").input(value).sink();
    }

    // Copies ------------------------------------------------------------------------------------------------------

    /// A layer of another graph, without a constant's bytes, on values of this one. Returns its outputs.
    pub(super) fn copied(&mut self, layer: &Layer, inputs: Vec<Value>) -> Vec<Value> {
        let outputs = layer.outputs.clone();
        let place = self.layers.len();
        self.layers.push(Layer {
            inputs,
            ..layer.clone()
        });
        outputs
            .into_iter()
            .enumerate()
            .map(|(output, element)| Value {
                layer: place,
                output,
                element,
            })
            .collect()
    }

    /// Gives a layer another name.
    pub fn rename(&mut self, value: Value, name: &str) {
        name.clone_into(&mut self.layers[value.layer].name);
    }

    // Constants ---------------------------------------------------------------------------------------------------

    /// A constant whose bytes `fill` writes; it must write exactly what `shape` and `element` take.
    ///
    /// # Errors
    /// Those of `fill` and of writing the `.bin`.
    pub fn constant<E: From<io::Error>>(
        &mut self,
        element: ElementType,
        shape: &[usize],
        fill: impl FnOnce(&mut BinWriter) -> Result<(), E>,
    ) -> Result<Value, E> {
        let bytes = element.bytes(shape.iter().product());
        let offset = self.bin.align()?;
        self.bin.fill(bytes, fill)?;
        let written = self.bin.position() - offset;
        debug_assert_eq!(
            written, bytes as u64,
            "a constant's bytes must match its shape"
        );
        let shape_text: Vec<String> = shape.iter().map(ToString::to_string).collect();
        let mut builder = self
            .layer("Const", "opset1")
            .attribute("element_type", element.name())
            .attribute("shape", shape_text.join(","))
            .attribute("offset", offset.to_string())
            .attribute("size", bytes.to_string());
        builder.layer.dims = Some(shape.iter().map(|&dim| dim.cast_signed() as i64).collect());
        Ok(builder.output(element))
    }

    /// Small f32 constant.
    ///
    /// # Errors
    /// When the `.bin` cannot be written.
    pub fn floats(&mut self, shape: &[usize], values: &[f32]) -> io::Result<Value> {
        self.constant(ElementType::F32, shape, |bin| {
            bin.write(bytemuck::cast_slice(values))
        })
    }

    /// Scalar f32 constant.
    ///
    /// # Errors
    /// When the `.bin` cannot be written.
    pub fn scalar(&mut self, value: f32) -> io::Result<Value> {
        self.floats(&[], &[value])
    }

    /// i64 vector, as shapes, axes and permutations are given.
    ///
    /// # Errors
    /// When the `.bin` cannot be written.
    pub fn integers(&mut self, values: &[i64]) -> io::Result<Value> {
        self.constant(ElementType::I64, &[values.len()], |bin| {
            bin.write(bytemuck::cast_slice(values))
        })
    }

    /// i64 scalar.
    ///
    /// # Errors
    /// When the `.bin` cannot be written.
    pub fn integer(&mut self, value: i64) -> io::Result<Value> {
        self.constant(ElementType::I64, &[], |bin| {
            bin.write(bytemuck::bytes_of(&value))
        })
    }

    // Element-wise ------------------------------------------------------------------------------------------------

    fn binary(&mut self, kind: &'static str, a: Value, b: Value) -> Value {
        self.layer(kind, "opset1")
            .attribute("auto_broadcast", "numpy")
            .input(a)
            .input(b)
            .output(a.element)
    }

    fn unary(&mut self, kind: &'static str, opset: &'static str, a: Value) -> Value {
        self.layer(kind, opset).input(a).output(a.element)
    }

    /// `a + b`, broadcasting.
    pub fn add(&mut self, a: Value, b: Value) -> Value {
        self.binary("Add", a, b)
    }

    /// `a - b`, broadcasting.
    pub fn subtract(&mut self, a: Value, b: Value) -> Value {
        self.binary("Subtract", a, b)
    }

    /// `a * b`, broadcasting.
    pub fn multiply(&mut self, a: Value, b: Value) -> Value {
        self.binary("Multiply", a, b)
    }

    /// `a / b`, broadcasting; integers round towards minus infinity.
    pub fn divide(&mut self, a: Value, b: Value) -> Value {
        self.layer("Divide", "opset1")
            .attribute("auto_broadcast", "numpy")
            .attribute("m_pythondiv", "true")
            .input(a)
            .input(b)
            .output(a.element)
    }

    /// `min(a, b)`, broadcasting.
    pub fn minimum(&mut self, a: Value, b: Value) -> Value {
        self.binary("Minimum", a, b)
    }

    /// `max(a, b)`, broadcasting.
    pub fn maximum(&mut self, a: Value, b: Value) -> Value {
        self.binary("Maximum", a, b)
    }

    /// `a²`, in the form that RMS norms are recognised by.
    ///
    /// # Errors
    /// When the `.bin` cannot be written.
    pub fn square(&mut self, a: Value) -> io::Result<Value> {
        let two = self.scalar(2.0)?;
        Ok(self.binary("Power", a, two))
    }

    /// `1 / a`, as a power: a division inside of [`Self::precise`] would lose its mark when the device rewrites it.
    ///
    /// # Errors
    /// When the `.bin` cannot be written.
    pub fn reciprocal(&mut self, a: Value) -> io::Result<Value> {
        let minus_one = self.scalar(-1.0)?;
        Ok(self.binary("Power", a, minus_one))
    }

    /// `exp(a)`.
    pub fn exp(&mut self, a: Value) -> Value {
        self.unary("Exp", "opset1", a)
    }

    /// `sin(a)`.
    pub fn sin(&mut self, a: Value) -> Value {
        self.unary("Sin", "opset1", a)
    }

    /// `cos(a)`.
    pub fn cos(&mut self, a: Value) -> Value {
        self.unary("Cos", "opset1", a)
    }

    /// The largest whole number that is not above `a`.
    pub fn floor(&mut self, a: Value) -> Value {
        self.unary("Floor", "opset1", a)
    }

    /// `max(a, 0)`.
    pub fn relu(&mut self, a: Value) -> Value {
        self.unary("ReLU", "opset1", a)
    }

    /// `tanh(a)`.
    pub fn tanh(&mut self, a: Value) -> Value {
        self.unary("Tanh", "opset1", a)
    }

    /// `a · sigmoid(a)`, known as `SiLU`.
    pub fn silu(&mut self, a: Value) -> Value {
        self.unary("Swish", "opset4", a)
    }

    /// GELU in its tanh approximation (`gelu_new`, `gelu-approximate`).
    pub fn gelu_tanh(&mut self, a: Value) -> Value {
        self.layer("Gelu", "opset7")
            .attribute("approximation_mode", "TANH")
            .input(a)
            .output(a.element)
    }

    /// `|a|`.
    pub fn abs(&mut self, a: Value) -> Value {
        self.unary("Abs", "opset1", a)
    }

    /// `a` on 256 levels between `low` and `high`, both of which are levels: what the device computes in 8-bit integers where an
    /// operation takes nothing else.
    ///
    /// # Errors
    /// When the `.bin` cannot be written.
    pub fn fake_quantize(&mut self, a: Value, low: f32, high: f32) -> io::Result<Value> {
        let (low, high) = (self.scalar(low)?, self.scalar(high)?);
        Ok(self
            .layer("FakeQuantize", "opset1")
            .attribute("levels", "256")
            .attribute("auto_broadcast", "numpy")
            .input(a)
            .input(low)
            .input(high)
            .input(low)
            .input(high)
            .output(a.element))
    }

    /// Another element type.
    pub fn convert(&mut self, a: Value, element: ElementType) -> Value {
        if a.element == element {
            return a;
        }
        self.layer("Convert", "opset1")
            .attribute("destination_type", element.name())
            .input(a)
            .output(element)
    }

    /// Unpacks a compressed constant, marked so that the device fuses it into the operation behind it.
    pub fn decompress(&mut self, a: Value, element: ElementType) -> Value {
        if a.element == element {
            return a;
        }
        let mut builder = self
            .layer("Convert", "opset1")
            .attribute("destination_type", element.name())
            .input(a);
        builder.layer.mark = Some(Mark::Decompression);
        builder.output(element)
    }

    // Reductions and normalisation ------------------------------------------------------------------------------------

    fn reduce(&mut self, kind: &'static str, a: Value) -> io::Result<Value> {
        let axes = self.integers(&[-1])?;
        Ok(self
            .layer(kind, "opset1")
            .attribute("keep_dims", "true")
            .input(a)
            .input(axes)
            .output(a.element))
    }

    /// Maximum over the last axis, which stays as 1.
    ///
    /// # Errors
    /// When the `.bin` cannot be written.
    pub fn reduce_max(&mut self, a: Value) -> io::Result<Value> {
        self.reduce("ReduceMax", a)
    }

    /// Sum over the last axis, which stays as 1.
    ///
    /// # Errors
    /// When the `.bin` cannot be written.
    pub fn reduce_sum(&mut self, a: Value) -> io::Result<Value> {
        self.reduce("ReduceSum", a)
    }

    /// Minimum over the last axis, which stays as 1.
    ///
    /// # Errors
    /// When the `.bin` cannot be written.
    pub fn reduce_min(&mut self, a: Value) -> io::Result<Value> {
        self.reduce("ReduceMin", a)
    }

    /// Mean over the last axis, which stays as 1.
    ///
    /// # Errors
    /// When the `.bin` cannot be written.
    pub fn reduce_mean(&mut self, a: Value) -> io::Result<Value> {
        self.reduce("ReduceMean", a)
    }

    /// Layer norm over the last axis without scale or shift: `(x - mean) / sqrt(var + eps)`.
    ///
    /// # Errors
    /// When the `.bin` cannot be written.
    pub fn layer_norm(&mut self, a: Value, eps: f64) -> io::Result<Value> {
        let axes = self.integers(&[-1])?;
        Ok(self
            .layer("MVN", "opset6")
            .attribute("normalize_variance", "true")
            .attribute("eps", format!("{eps:e}"))
            .attribute("eps_mode", "INSIDE_SQRT")
            .input(a)
            .input(axes)
            .output(a.element))
    }

    /// `1 / sqrt(a + eps)`.
    ///
    /// # Errors
    /// When the `.bin` cannot be written.
    pub fn rsqrt(&mut self, a: Value, eps: f32) -> io::Result<Value> {
        let eps = self.scalar(eps)?;
        let shifted = self.add(a, eps);
        let root = self.unary("Sqrt", "opset1", shifted);
        let one = self.scalar(1.0)?;
        Ok(self.divide(one, root))
    }

    /// Group norm of `[B, C, H, W]` with a scale and a shift `[C]` for each channel.
    pub fn group_norm(&mut self, a: Value, norm: GroupNorm) -> Value {
        self.layer("GroupNormalization", "opset12")
            .attribute("num_groups", norm.groups.to_string())
            .attribute("epsilon", format!("{:e}", norm.eps))
            .input(a)
            .input(norm.scale)
            .input(norm.shift)
            .output(a.element)
    }

    /// Softmax over the last axis.
    pub fn softmax(&mut self, a: Value) -> Value {
        self.layer("SoftMax", "opset8")
            .attribute("axis", "-1")
            .input(a)
            .output(a.element)
    }

    // Products ----------------------------------------------------------------------------------------------------

    /// `a · b` over the last two axes.
    pub fn matmul(&mut self, a: Value, b: Value) -> Value {
        self.matmul_with(a, b, "false")
    }

    /// `a · bᵀ` over the last two axes: a linear layer with its weight as checkpoints store it.
    pub fn matmul_transposed(&mut self, a: Value, b: Value) -> Value {
        self.matmul_with(a, b, "true")
    }

    fn matmul_with(&mut self, a: Value, b: Value, transpose_b: &'static str) -> Value {
        self.layer("MatMul", "opset1")
            .attribute("transpose_a", "false")
            .attribute("transpose_b", transpose_b)
            .input(a)
            .input(b)
            .output(a.element)
    }

    /// 2-D convolution of `[B, C, H, W]` with `[O, C, k, k]`.
    pub fn convolution(&mut self, a: Value, weight: Value, window: Window) -> Value {
        self.convolve("Convolution", a, weight, window)
    }

    /// Transposed 2-D convolution of `[B, C, H, W]` with `[C, O, k, k]`.
    pub fn convolution_transposed(&mut self, a: Value, weight: Value, window: Window) -> Value {
        self.convolve("ConvolutionBackpropData", a, weight, window)
    }

    fn convolve(&mut self, kind: &'static str, a: Value, weight: Value, window: Window) -> Value {
        let pads = format!("{0},{0}", window.padding);
        self.layer(kind, "opset1")
            .attribute("strides", format!("{0},{0}", window.stride))
            .attribute("dilations", "1,1")
            .attribute("pads_begin", pads.clone())
            .attribute("pads_end", pads)
            .attribute("auto_pad", "explicit")
            .input(a)
            .input(weight)
            .output(a.element)
    }

    // Shape -------------------------------------------------------------------------------------------------------

    /// Reshape by constants: 0 keeps a dimension, -1 takes what is left.
    ///
    /// # Errors
    /// When the `.bin` cannot be written.
    pub fn reshape(&mut self, a: Value, dims: &[i64]) -> io::Result<Value> {
        let dims = self.integers(dims)?;
        Ok(self.reshape_to(a, dims))
    }

    /// Reshape by a computed i64 vector, in which 0 keeps a dimension and -1 takes what is left.
    pub fn reshape_to(&mut self, a: Value, dims: Value) -> Value {
        self.layer("Reshape", "opset1")
            .attribute("special_zero", "true")
            .input(a)
            .input(dims)
            .output(a.element)
    }

    /// Permutes axes.
    ///
    /// # Errors
    /// When the `.bin` cannot be written.
    pub fn transpose(&mut self, a: Value, order: &[i64]) -> io::Result<Value> {
        let order = self.integers(order)?;
        Ok(self
            .layer("Transpose", "opset1")
            .input(a)
            .input(order)
            .output(a.element))
    }

    /// A new axis of 1 at `axis`.
    ///
    /// # Errors
    /// When the `.bin` cannot be written.
    pub fn unsqueeze(&mut self, a: Value, axis: i64) -> io::Result<Value> {
        let axes = self.integers(&[axis])?;
        Ok(self
            .layer("Unsqueeze", "opset1")
            .input(a)
            .input(axes)
            .output(a.element))
    }

    /// The dimensions of `a`, as an i64 vector.
    pub fn shape_of(&mut self, a: Value) -> Value {
        self.layer("ShapeOf", "opset3")
            .attribute("output_type", "i64")
            .input(a)
            .output(ElementType::I64)
    }

    /// `a[indices]` along axis 0: rows of a table.
    ///
    /// # Errors
    /// When the `.bin` cannot be written.
    pub fn gather(&mut self, a: Value, indices: Value) -> io::Result<Value> {
        let axis = self.integer(0)?;
        Ok(self
            .layer("Gather", "opset8")
            .attribute("batch_dims", "0")
            .input(a)
            .input(indices)
            .input(axis)
            .output(a.element))
    }

    /// One dimension out of a shape, as a vector of length 1.
    ///
    /// # Errors
    /// When the `.bin` cannot be written.
    pub fn dimension(&mut self, shape: Value, index: i64) -> io::Result<Value> {
        let index = self.integers(&[index])?;
        self.gather(shape, index)
    }

    /// Joins values along `axis`.
    pub fn concat(&mut self, parts: &[Value], axis: i64) -> Value {
        let mut builder = self
            .layer("Concat", "opset1")
            .attribute("axis", axis.to_string());
        for &part in parts {
            builder = builder.input(part);
        }
        let element = parts.first().map_or(ElementType::F32, |part| part.element);
        builder.output(element)
    }

    /// `parts` equal pieces along `axis`.
    ///
    /// # Errors
    /// When the `.bin` cannot be written.
    pub fn split(&mut self, a: Value, axis: i64, parts: usize) -> io::Result<Vec<Value>> {
        let axis = self.integer(axis)?;
        Ok(self
            .layer("Split", "opset1")
            .attribute("num_splits", parts.to_string())
            .input(a)
            .input(axis)
            .outputs(a.element, parts))
    }

    /// Pieces of computed `lengths` (an i64 vector of `parts`) along `axis`.
    ///
    /// # Errors
    /// When the `.bin` cannot be written.
    pub fn split_by(
        &mut self,
        a: Value,
        axis: i64,
        lengths: Value,
        parts: usize,
    ) -> io::Result<Vec<Value>> {
        let axis = self.integer(axis)?;
        Ok(self
            .layer("VariadicSplit", "opset1")
            .input(a)
            .input(axis)
            .input(lengths)
            .outputs(a.element, parts))
    }

    /// `0, 1, …, stop - 1` for a vector `stop` of length 1, as f32 or i64.
    ///
    /// # Errors
    /// When the `.bin` cannot be written.
    pub fn range(&mut self, stop: Value, element: ElementType) -> io::Result<Value> {
        let axes = self.integers(&[0])?;
        let stop = self
            .layer("Squeeze", "opset1")
            .input(stop)
            .input(axes)
            .output(stop.element);
        let start = self.integer(0)?;
        let step = self.integer(1)?;
        Ok(self
            .layer("Range", "opset4")
            .attribute("output_type", element.name())
            .input(start)
            .input(stop)
            .input(step)
            .output(element))
    }

    /// Repeats `a` so that it has the computed dimensions `shape`.
    pub fn broadcast(&mut self, a: Value, shape: Value) -> Value {
        self.layer("Broadcast", "opset3")
            .attribute("mode", "numpy")
            .input(a)
            .input(shape)
            .output(a.element)
    }
}

/// Parameters of [`Graph::group_norm`].
#[derive(Debug, Clone, Copy)]
pub struct GroupNorm {
    /// Scale, f32 `[C]`.
    pub scale: Value,
    /// Shift, f32 `[C]`.
    pub shift: Value,
    /// Number of groups.
    pub groups: usize,
    /// Added to the variance.
    pub eps: f64,
}

/// Stride and padding of a convolution, the same both ways.
#[derive(Debug, Clone, Copy)]
pub struct Window {
    /// Step between windows.
    pub stride: usize,
    /// Zeros around the picture.
    pub padding: usize,
}

/// One layer being described.
struct LayerBuilder<'graph> {
    graph: &'graph mut Graph,
    layer: Layer,
}

impl LayerBuilder<'_> {
    fn attribute(mut self, key: &'static str, value: impl Into<String>) -> Self {
        self.layer
            .attributes
            .push((Cow::Borrowed(key), value.into()));
        self
    }

    fn input(mut self, value: Value) -> Self {
        self.layer.inputs.push(value);
        self
    }

    fn outputs(mut self, element: ElementType, count: usize) -> Vec<Value> {
        self.layer.outputs = vec![element; count];
        let layer = self.graph.layers.len();
        self.graph.layers.push(self.layer);
        (0..count)
            .map(|output| Value {
                layer,
                output,
                element,
            })
            .collect()
    }

    fn output(self, element: ElementType) -> Value {
        self.outputs(element, 1)[0]
    }

    fn sink(self) {
        self.graph.layers.push(self.layer);
    }
}
