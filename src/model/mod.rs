//! model
pub mod scheduler_config;
