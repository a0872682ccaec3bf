//! A converted model → a smaller one that computes in 8-bit integers, calibrated on pictures that it draws itself.
//!
//! 1. The networks are read back and searched for what multiplies (`points.rs`).
//! 2. *Calibration* draws pictures through the real pipeline (`calibrate.rs`), of captions (`captions.rs`), with networks that show
//!    the range of every value that flows into a multiplication (`observed.rs`, `observe.rs`); the ranges are kept
//!    (`statistics.rs`).
//!    Operations can be tried in integers beside the exact ones, and those that err too much stay in floats (`trial.rs`, `twins.rs`).
//! 3. A *plan* says of each operation which levels its activations get, which factors move between channels, and how its weights
//!    are stored (`plan.rs`).
//! 4. The network is written anew by that plan (`rewrite.rs`, `levels.rs`), run once, and its profile has to name an integer
//!    kernel for every operation that was meant to have one (`proof.rs`). `assemble.rs` makes a model of it.
//!
//! What it is not: it compiles no pipeline and knows no settings; `app/quantize.rs` puts the parts together.

mod assemble;
mod blank;
mod calibrate;
mod captions;
mod component;
mod error;
mod levels;
mod observe;
mod observed;
mod plan;
mod points;
mod proof;
mod rewrite;
mod sketch;
mod statistics;
mod trial;
mod twins;

pub use assemble::{Assembly, Work};
pub use blank::BlankDecoder;
pub use calibrate::{READ_TOGETHER, calibrate, draw_all};
pub use captions::{
    Caption, CaptionsError, built_in_captions, captions_digest, parse_captions, read_captions,
};
pub use component::{Component, ComponentOptions};
pub use error::QuantizeError;
pub use observe::ObservedGraph;
pub use plan::{Observed, WeightsChoice};
pub use proof::{check_kernels, is_integer};
pub use statistics::{RangeRule, Statistics, StatisticsError, StatisticsKey};
pub use trial::{Trial, TrialGraph};

use crate::convert::Progress;

/// The caller's side of a running quantisation: that of a conversion, and the pictures before it.
pub trait QuantizeProgress: Progress {
    /// Calibration begins: so many pictures are there already, of so many.
    fn calibrating(&self, done: u32, samples: u32);
    /// Another picture has been watched.
    fn sampled(&self);
}
