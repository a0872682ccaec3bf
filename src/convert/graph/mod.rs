//! The networks as graphs, one file each, and the pieces that they share.

mod attention;
mod block;
mod convolution;
mod t5;
mod tiny_vae;
mod transformer;
mod vae;

pub use t5::text_encoder;
pub use tiny_vae::tiny_vae_decoder;
pub use transformer::transformer;
pub use vae::vae_decoder;

use super::ConvertError;
use super::weights::Linear;
use crate::ir::{Graph, Value};

/// `x · weightᵀ + bias`.
fn apply(graph: &mut Graph, linear: Linear, x: Value) -> Value {
    let product = graph.matmul_transposed(x, linear.weight);
    match linear.bias {
        Some(bias) => graph.add(product, bias),
        None => product,
    }
}

/// The three ports' dimension that is free.
const DYNAMIC: i64 = -1;

/// Every builder's result.
type Built<T> = Result<T, ConvertError>;
