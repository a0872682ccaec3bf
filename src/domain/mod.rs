//! What a picture is asked with, and what comes back.
//!
//! Every value here is parsed by its one constructor and trusted from there on. No serde, no I/O:
//! the faces (command line, HTTP) translate their own syntax into these types.

mod draft;
mod error;
mod generated;
mod output;
mod quality;
mod request;
mod warning;

pub use draft::{RequestDefaults, RequestDraft};
pub use error::InvalidRequest;
pub use generated::{Generated, Processor, PromptCache, Receipt, Timings};
pub use output::{Compression, OutputFormat};
pub use quality::Quality;
pub use request::{
    Decoder, GenerateRequest, Guidance, ImageSize, Prompt, SchedulerKind, Seed, Steps,
};
pub use warning::Warning;
