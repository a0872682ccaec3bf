//! The only room that names OpenVINO: find and load the runtime, compile a graph, run it, copy out.
//!
//! What it is not: it knows no model and does no arithmetic on tensors. Everything above sees [`Graph`], a seam with one
//! other implementation, the fake of the tests.

mod compiled;
mod data_limit;
mod end;
mod error;
mod graph;
mod memory;
mod on_demand;
mod one_thread;
mod profile;
mod rest;
mod runtime;
mod scarcity;
mod shaped;

pub use compiled::{CompileOptions, CompiledGraph, InForce};
pub use data_limit::{ReserveAllocator, lift_data_limit, limit_data, restore_reserve};
pub use end::end_process;
pub use error::EngineError;
pub use graph::{Elements, Graph, Port, Tensor};
pub use memory::{give_back_large_blocks, give_back_memory};
pub use on_demand::OnDemandGraph;
pub use profile::{ProfileOptions, ProfiledNode};
pub use runtime::{DeviceInfo, Runtime};
pub use scarcity::Scarcity;
pub use shaped::ShapedGraph;
