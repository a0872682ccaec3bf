//! What the service tells of itself: its metrics, and the set-up of its log.
//!
//! No string of a request enters here: labels are closed enums, and what the log says is said by the room that handles it.

mod cpu_quota;
mod labels;
mod log_queue;
mod logging;
mod machine;
mod metrics;
mod process;
mod shelf;

pub use cpu_quota::{cpu_quota, threads_of_quota};
pub use labels::{JobOutcome, RequestOutcome, RestartReason, Stage};
pub use logging::{LogError, Logging, end_log, log_panics, say_beside_log, say_last};
pub use machine::{cpus, memory_limit_bytes};
pub use metrics::{BuildInfo, MetricFamily, Metrics};
pub use process::ProcessMemory;
