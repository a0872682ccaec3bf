//! What a graph is made of: element types, values, layers.

use std::borrow::Cow;

/// Element types that our graphs use, by their IR names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ElementType {
    /// 32-bit float.
    F32,
    /// 16-bit IEEE float.
    F16,
    /// 64-bit signed integer.
    I64,
    /// 32-bit signed integer.
    I32,
    /// 8-bit signed integer.
    I8,
    /// 4-bit signed integer, two to a byte, the even element in the low nibble.
    I4,
    /// 4-bit unsigned integer, packed alike.
    U4,
}

impl ElementType {
    const ALL: [Self; 7] = [
        Self::F32,
        Self::F16,
        Self::I64,
        Self::I32,
        Self::I8,
        Self::I4,
        Self::U4,
    ];

    /// The type that the `precision` attribute of a port names.
    pub(super) fn of_port(name: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|element| element.port_name() == name)
    }

    /// The name in `element_type` attributes.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::I64 => "i64",
            Self::I32 => "i32",
            Self::I8 => "i8",
            Self::I4 => "i4",
            Self::U4 => "u4",
        }
    }

    /// The name in the `precision` attribute of ports.
    pub(super) fn port_name(self) -> &'static str {
        match self {
            Self::F32 => "FP32",
            Self::F16 => "FP16",
            Self::I64 => "I64",
            Self::I32 => "I32",
            Self::I8 => "I8",
            Self::I4 => "I4",
            Self::U4 => "U4",
        }
    }

    /// Bytes that `elements` of this type take.
    pub fn bytes(self, elements: usize) -> usize {
        match self {
            Self::F32 | Self::I32 => elements * 4,
            Self::F16 => elements * 2,
            Self::I64 => elements * 8,
            Self::I8 => elements,
            Self::I4 | Self::U4 => elements.div_ceil(2),
        }
    }
}

/// One output of one layer of one graph.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Value {
    pub(super) layer: usize,
    pub(super) output: usize,
    pub(super) element: ElementType,
}

impl Value {
    /// The first output of the layer at `layer`, whose elements are of this type.
    pub fn of(layer: usize, element: ElementType) -> Self {
        Self {
            layer,
            output: 0,
            element,
        }
    }

    /// The layer that it comes from, by its place in the graph.
    pub fn layer(self) -> usize {
        self.layer
    }

    /// Which of the layer's outputs it is.
    pub fn output(self) -> usize {
        self.output
    }

    /// Type of its elements.
    pub fn element(self) -> ElementType {
        self.element
    }
}

/// A layer, as the `.xml` has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layer {
    pub(super) kind: Cow<'static, str>,
    pub(super) opset: Cow<'static, str>,
    pub(super) name: String,
    pub(super) attributes: Vec<(Cow<'static, str>, String)>,
    pub(super) inputs: Vec<Value>,
    pub(super) outputs: Vec<ElementType>,
    pub(super) port_names: Vec<Cow<'static, str>>,
    /// Dimensions of the only output where they are known without inference; -1 is dynamic.
    pub(super) dims: Option<Vec<i64>>,
    pub(super) mark: Option<Mark>,
}

impl Layer {
    /// Its operation, such as `MatMul`.
    pub fn kind(&self) -> &str {
        &self.kind
    }

    /// What it is called, scopes in front.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What it takes, in the order of its operation.
    pub fn inputs(&self) -> &[Value] {
        &self.inputs
    }

    /// Type of its first output, if it has one.
    pub fn first_output(&self) -> Option<ElementType> {
        self.outputs.first().copied()
    }

    /// An attribute of its operation.
    pub fn attribute(&self, key: &str) -> Option<&str> {
        self.attributes
            .iter()
            .find_map(|(name, value)| (name == key).then_some(value.as_str()))
    }

    /// Whether it unpacks a compressed constant.
    pub fn is_decompression(&self) -> bool {
        self.mark == Some(Mark::Decompression)
    }
}

/// Run-time attributes of a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mark {
    /// A `Convert` that unpacks a compressed constant, to be fused instead of folded.
    Decompression,
    /// Arithmetic that must stay in f32 whatever precision the device prefers.
    Precise,
}
