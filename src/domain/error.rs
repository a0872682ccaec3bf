//! Why a request was refused: each variant names the field, what was found and what would do.

use thiserror::Error;

/// A field of a request that cannot be drawn. The message is meant for the person who sent it.
#[derive(Debug, Clone, PartialEq, Error)]
pub enum InvalidRequest {
    /// The prompt has no visible character.
    #[error("prompt is empty: say in a few words what to draw")]
    EmptyPrompt,
    /// A prompt longer than any text encoder could read.
    #[error(
        "{field} has {got} characters and the limit is {limit}: shorten it (the model reads only its first tokens)"
    )]
    PromptTooLong {
        /// `prompt` or `negative_prompt`.
        field: &'static str,
        /// Characters found.
        got: usize,
        /// Characters allowed.
        limit: usize,
    },
    /// A NUL character inside a prompt.
    #[error("{field} has a NUL character at position {position}: remove it")]
    NulInPrompt {
        /// `prompt` or `negative_prompt`.
        field: &'static str,
        /// Position in characters, from 0.
        position: usize,
    },
    /// Bytes that are not UTF-8.
    #[error("{field} is not valid UTF-8: send it as UTF-8 text")]
    NotUtf8 {
        /// `prompt` or `negative_prompt`.
        field: &'static str,
    },
    /// A number outside its range.
    #[error("{field} is {got}: it must be {expected}")]
    OutOfRange {
        /// The field's name.
        field: &'static str,
        /// The value found.
        got: String,
        /// The allowed range, in words.
        expected: String,
    },
    /// A size that is not `WIDTHxHEIGHT`.
    #[error("size '{got}' is not WIDTHxHEIGHT in pixels, such as 1024x768")]
    SizeSyntax {
        /// The text found.
        got: String,
    },
    /// A size that the model's patches do not tile.
    #[error(
        "size {width_px}x{height_px} must be a multiple of {multiple_px} px each way for this model: {suggestion} would do"
    )]
    SizeMultiple {
        /// Requested width.
        width_px: u32,
        /// Requested height.
        height_px: u32,
        /// VAE scale factor times patch size.
        multiple_px: u32,
        /// The nearest size that works.
        suggestion: String,
    },
    /// A scheduler that is not built in.
    #[error("scheduler '{got}' is not one of lcm, dpmsolver++")]
    UnknownScheduler {
        /// The text found.
        got: String,
    },
}
