//! pipeline
pub mod binning;
pub mod guidance;
pub mod noise;
pub mod pixels;
pub mod png;
pub mod schedule;

pub mod caption;
pub mod tokenizer;
