//! OpenVINO IR, version 11: a typed graph that becomes `.xml`, and the `.bin` that its constants point into.
//!
//! [`Graph`] is a value under construction: each operation checks nothing but its own arity by type, knows the
//! element type of what it returns, and leaves rank and dimensions to the runtime's shape inference. Constants go to
//! the `.bin` as they are made, so a graph of any size is written with one tensor in memory. [`Network`] is what was written,
//! read back: its layers can be copied into another graph, changed on the way.
//!
//! Source of the format: <https://docs.openvino.ai/2026/documentation/openvino-ir-format.html>, operation sets there.

mod bin;
mod floats;
mod graph;
mod layer;
mod read;
mod xml;

pub(crate) use bin::BLOCK_BYTES;
pub use bin::{BinSummary, BinWriter};
pub(crate) use floats::{append_bf16, append_f16, append_f32, first_not_finite};
pub use graph::{Graph, GroupNorm, Window};
pub use layer::{ElementType, Layer, Value};
pub use read::{Constant, IrError, Network};
