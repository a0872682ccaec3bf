//! The one test binary beside the unit tests: what the crate does, seen from outside.

#![allow(
    clippy::unwrap_used,
    reason = "clippy's allow-unwrap-in-tests does not reach the functions that tests share"
)]

mod cli;
mod convert;
mod engine;
mod golden;
mod parsers;
mod pipeline;
mod pull;
mod service;
mod support;
mod synthesize;
mod tidy;
