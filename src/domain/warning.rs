//! What the caller should know of a picture and did not ask for.

use std::fmt;

use super::{ImageSize, OutputFormat};

/// Something true that the caller may not expect; the picture is drawn all the same.
///
/// `Display` is for the caller alone: that of [`Warning::PromptCut`] quotes the prompt. `Debug`, which logs may get, does not.
#[derive(Clone, PartialEq, Eq)]
pub enum Warning {
    /// The model reads no word in the prompt: it was empty, or nothing is left of it once it is cleaned.
    EmptyPrompt,
    /// The prompt was longer than the text encoder reads.
    PromptCut {
        /// `prompt` or `negative_prompt`.
        field: &'static str,
        /// Tokens kept, end mark included.
        kept: usize,
        /// Tokens found, end mark included.
        found: usize,
        /// The beginning of what the model does not read, as the tokenizer has it: in lower case, cleaned where that was asked for.
        lost: String,
    },
    /// A negative prompt was given and guidance is not active.
    NegativePromptWithoutEffect,
    /// The picture was drawn at a bin of the checkpoint, then resized and cropped.
    SizeBinned {
        /// Size drawn.
        drawn: ImageSize,
        /// Size asked for.
        asked: ImageSize,
    },
    /// LCM students are trained for 2 to 8 steps.
    StepsOutsideLcmRange {
        /// Steps asked for.
        steps: usize,
    },
    /// A compression was given for a format that has none.
    CompressionWithoutEffect {
        /// The format asked for.
        format: OutputFormat,
    },
    /// The prompts were to be embedded into a format that carries no receipt.
    EmbedPromptWithoutEffect {
        /// The format asked for.
        format: OutputFormat,
    },
    /// All pixels have nearly the same colour: the networks ran, and what they drew is hardly a picture.
    FlatPicture,
}

impl Warning {
    /// What programs tell it by.
    pub fn code(&self) -> &'static str {
        match self {
            Self::EmptyPrompt => "empty_prompt",
            Self::PromptCut { .. } => "prompt_cut",
            Self::NegativePromptWithoutEffect => "negative_prompt_without_effect",
            Self::SizeBinned { .. } => "size_binned",
            Self::StepsOutsideLcmRange { .. } => "steps_outside_lcm_range",
            Self::CompressionWithoutEffect { .. } => "output_compression_without_effect",
            Self::EmbedPromptWithoutEffect { .. } => "embed_prompt_without_effect",
            Self::FlatPicture => "flat_picture",
        }
    }

    /// The field of the request that it is about, if it is about one.
    pub fn field(&self) -> Option<&'static str> {
        match self {
            Self::EmptyPrompt => Some("prompt"),
            Self::PromptCut { field, .. } => Some(field),
            Self::NegativePromptWithoutEffect => Some("negative_prompt"),
            Self::SizeBinned { .. } => Some("size"),
            Self::StepsOutsideLcmRange { .. } => Some("steps"),
            Self::CompressionWithoutEffect { .. } => Some("output_compression"),
            Self::EmbedPromptWithoutEffect { .. } => Some("embed_prompt"),
            Self::FlatPicture => None,
        }
    }
}

impl fmt::Debug for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Warning({})", self.code())
    }
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::EmptyPrompt => f.write_str(
                "prompt has no word that the model reads: it draws what comes to it, another thing with each seed",
            ),
            Self::PromptCut {
                field,
                kept,
                found,
                lost,
            } => {
                write!(
                    f,
                    "{field} was cut: {found} tokens, and the model reads {kept}; it does not read '{lost}'"
                )
            }
            Self::NegativePromptWithoutEffect => {
                write!(
                    f,
                    "negative_prompt has no effect while guidance_scale is 1 or below"
                )
            }
            Self::SizeBinned { drawn, asked } => {
                write!(
                    f,
                    "drawn at {drawn}, the nearest size that the model was trained for, then resized to {asked}"
                )
            }
            Self::StepsOutsideLcmRange { steps } => {
                write!(
                    f,
                    "{steps} steps with the lcm scheduler: its students are trained for 2 to 8"
                )
            }
            Self::CompressionWithoutEffect { format } => {
                write!(
                    f,
                    "output_compression has no effect: {format} is lossless here, only jpeg has a quality"
                )
            }
            Self::EmbedPromptWithoutEffect { format } => {
                write!(
                    f,
                    "embed_prompt has no effect: {format} carries no receipt here, only png does"
                )
            }
            Self::FlatPicture => {
                write!(
                    f,
                    "all pixels have nearly the same colour: try another seed, more steps or --precision f32 (openvino.precision)"
                )
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_caller_is_told_the_words_that_were_cut() {
        let warning = Warning::PromptCut {
            field: "prompt",
            kept: 120,
            found: 150,
            lost: "a secret garden".to_owned(),
        };
        assert!(warning.to_string().contains("'a secret garden'"));
        assert_eq!(format!("{warning:?}"), "Warning(prompt_cut)");
        assert_eq!(warning.field(), Some("prompt"));
    }

    #[test]
    fn every_warning_has_a_code_of_its_own() {
        let size = ImageSize::new(8, 8).unwrap();
        let format = OutputFormat::Webp;
        let all = [
            Warning::EmptyPrompt,
            Warning::PromptCut {
                field: "prompt",
                kept: 1,
                found: 2,
                lost: String::new(),
            },
            Warning::NegativePromptWithoutEffect,
            Warning::SizeBinned {
                drawn: size,
                asked: size,
            },
            Warning::StepsOutsideLcmRange { steps: 9 },
            Warning::CompressionWithoutEffect { format },
            Warning::EmbedPromptWithoutEffect { format },
            Warning::FlatPicture,
        ];
        let codes: std::collections::BTreeSet<_> = all.iter().map(Warning::code).collect();
        assert_eq!(codes.len(), all.len());
        assert!(
            codes
                .iter()
                .all(|code| code.chars().all(|c| c == '_' || c.is_ascii_lowercase()))
        );
    }
}
