//! model
pub mod scheduler_config;

pub mod charsmap;
pub mod sentencepiece;
