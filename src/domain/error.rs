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
    /// A format that is not built in.
    #[error("output_format '{got}' is not one of png, jpeg, webp")]
    UnknownOutputFormat {
        /// The text found.
        got: String,
    },
    /// A quality that nobody knows.
    #[error("quality '{got}' is not one of exact, balanced, fast")]
    UnknownQuality {
        /// The text found.
        got: String,
    },
    /// A decoder that nobody knows.
    #[error("decoder '{got}' is not one of full, tiny")]
    UnknownDecoder {
        /// The text found.
        got: String,
    },
    /// A tiny decoder is asked of a model that has none.
    #[error(
        "decoder is tiny and this model has none: ask for full, or give the model one (pixart convert TAESD --output MODEL)"
    )]
    NoTinyDecoder,
    /// A scheduler that is not built in.
    #[error("scheduler '{got}' is not one of lcm, dpmsolver++")]
    UnknownScheduler {
        /// The text found.
        got: String,
    },
}

impl InvalidRequest {
    /// The field that it is about, by its name in receipts and JSON.
    pub fn field(&self) -> &'static str {
        match self {
            Self::EmptyPrompt => "prompt",
            Self::PromptTooLong { field, .. }
            | Self::NulInPrompt { field, .. }
            | Self::NotUtf8 { field }
            | Self::OutOfRange { field, .. } => field,
            Self::SizeSyntax { .. } | Self::SizeMultiple { .. } => "size",
            Self::UnknownOutputFormat { .. } => "output_format",
            Self::UnknownQuality { .. } => "quality",
            Self::UnknownDecoder { .. } | Self::NoTinyDecoder => "decoder",
            Self::UnknownScheduler { .. } => "scheduler",
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::domain::{
        Compression, Decoder, Guidance, ImageSize, Prompt, Quality, SchedulerKind, Steps,
    };

    #[test]
    fn every_refusal_names_its_field() {
        let size = ImageSize::new(1, 1).unwrap();
        for (error, field) in [
            (Prompt::new("").unwrap_err(), "prompt"),
            (Prompt::new("\0a").unwrap_err(), "prompt"),
            (Prompt::negative("\0").unwrap_err(), "negative_prompt"),
            (
                Prompt::negative("x".repeat(5000)).unwrap_err(),
                "negative_prompt",
            ),
            (Steps::new(0).unwrap_err(), "steps"),
            (Guidance::new(-1.0).unwrap_err(), "guidance_scale"),
            (ImageSize::new(0, 8).unwrap_err(), "width"),
            ("8".parse::<ImageSize>().unwrap_err(), "size"),
            (size.check_multiple(16).unwrap_err(), "size"),
            ("euler".parse::<SchedulerKind>().unwrap_err(), "scheduler"),
            ("best".parse::<Quality>().unwrap_err(), "quality"),
            ("huge".parse::<Decoder>().unwrap_err(), "decoder"),
            (Compression::new(101).unwrap_err(), "output_compression"),
        ] {
            assert_eq!(error.field(), field, "{error}");
        }
    }
}
