//! The seam: what the pipeline sees of a compiled network.

use std::time::Duration;

use super::EngineError;

/// A tensor of one of the element types that cross the seam.
#[derive(Debug, Clone, PartialEq)]
pub struct Tensor {
    shape: Vec<usize>,
    elements: Elements,
}

/// The elements of a [`Tensor`], row-major.
#[derive(Debug, Clone, PartialEq)]
pub enum Elements {
    /// 32-bit floats.
    F32(Vec<f32>),
    /// 64-bit integers.
    I64(Vec<i64>),
}

impl Tensor {
    /// A tensor of floats.
    ///
    /// # Panics
    /// When `shape` has another number of elements: the caller made both.
    pub fn f32(shape: impl Into<Vec<usize>>, elements: Vec<f32>) -> Self {
        Self::checked(shape.into(), elements.len(), Elements::F32(elements))
    }

    /// A tensor of integers.
    ///
    /// # Panics
    /// When `shape` has another number of elements: the caller made both.
    pub fn i64(shape: impl Into<Vec<usize>>, elements: Vec<i64>) -> Self {
        Self::checked(shape.into(), elements.len(), Elements::I64(elements))
    }

    fn checked(shape: Vec<usize>, count: usize, elements: Elements) -> Self {
        assert_eq!(
            shape.iter().product::<usize>(),
            count,
            "shape {shape:?} must fit its elements"
        );
        Self { shape, elements }
    }

    /// Its shape.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// Its elements.
    pub fn elements(&self) -> &Elements {
        &self.elements
    }

    /// Shape and floats, of a tensor that must have both.
    ///
    /// # Errors
    /// When it holds integers.
    pub fn into_f32(self) -> Result<(Vec<usize>, Vec<f32>), EngineError> {
        match self.elements {
            Elements::F32(values) => Ok((self.shape, values)),
            Elements::I64(_) => Err(EngineError::ElementType {
                tensor: "output".to_owned(),
                expected: "f32",
                got: "i64".to_owned(),
            }),
        }
    }
}

/// An input of a graph.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Port {
    /// Element type, by OpenVINO's name.
    pub element: String,
    /// Dimensions, free ones as nothing.
    pub dims: Vec<Option<usize>>,
}

/// A compiled network with one output.
pub trait Graph {
    /// The input that carries `name`, if there is one. Of a network that is not in memory nothing is known.
    fn input(&self, name: &str) -> Option<Port>;

    /// Sees to it that the network is in memory. The time that this took; none where it was there.
    ///
    /// # Errors
    /// When it cannot be read or compiled.
    fn load(&mut self) -> Result<Option<Duration>, EngineError> {
        Ok(None)
    }

    /// Gives the network's memory back, where it can be loaded again. Whether there was any.
    fn release(&mut self) -> bool {
        false
    }

    /// Whether the network is in memory.
    fn is_resident(&self) -> bool {
        true
    }

    /// Runs the network on named inputs and returns its first output. `cancelled` is looked at every few milliseconds.
    ///
    /// # Errors
    /// When an input does not fit its port, the network fails, or the caller asked to stop.
    fn infer(
        &mut self,
        inputs: &[(&str, &Tensor)],
        cancelled: &dyn Fn() -> bool,
    ) -> Result<Tensor, EngineError>;
}
