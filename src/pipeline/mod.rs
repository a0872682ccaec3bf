//! pipeline
pub mod noise;
