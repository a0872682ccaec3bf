//! pipeline
pub mod noise;
pub mod schedule;
