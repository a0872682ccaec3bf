//! What `pixart bench` measures: times by stage, memory, FLOPs from shapes, the machine's own matmul peak.
//!
//! What it is not: it loads no model and starts no process, which `app` and `cli` do. Stages have the names of the metrics
//! and of the receipt's timings; times are seconds, sizes bytes, arithmetic FLOPs (a multiplication and an addition are two).

mod cases;
mod compare;
mod estimate;
mod memory;
mod peak;
mod report;
mod statistics;
mod table;

pub use cases::{Case, measure};
pub use compare::{Comparison, Ratio, compare};
pub use estimate::{ImageToEstimate, Throughput};
pub use memory::{MemoryPeak, MemoryWatch};
pub use peak::{Effort, PeakError, PeakOptions, matmul_peak};
pub use report::{CaseReport, Machine, Report, SCHEMA, StageReport};
pub use statistics::Spread;
pub use table::{comparison_table, table};
