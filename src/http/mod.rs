//! The face to the network: connections, requests parsed into values of [`crate::domain`], errors in one shape.
//!
//! What it is not: it draws nothing and waits for no picture by itself. No string of a request becomes a path, a metric
//! label or a log line, and no prompt is ever repeated to anyone.

pub mod accept;
pub mod body;
pub mod context;
pub mod drawing;
pub mod error;
pub mod fields;
pub mod identity;
