//! The part of `tokenizer.json` that is read: vocabulary, scores and character map.
//!
//! Files that would encode otherwise than T5 are refused with the reason; what they add to the vocabulary is never executed.
//! It encodes nothing: `pipeline::tokenizer` does. What is refused here is refused alike by `convert` and by whoever draws.

use std::collections::HashSet;

use serde::Deserialize;
use thiserror::Error;

use super::charsmap::{Charsmap, CharsmapError};
use super::sentencepiece::SentencePieceModel;

/// A checked T5 vocabulary, as it is searched.
#[derive(Debug, Clone, PartialEq)]
pub struct Vocabulary {
    /// The pieces, each at its id.
    pub pieces: Vec<VocabularyPiece>,
    /// Id of the piece for unknown text.
    pub unk_id: usize,
    /// Id of `</s>`.
    pub eos_id: usize,
    /// The normaliser's map.
    pub charsmap: Option<Charsmap>,
}

/// One piece of a vocabulary.
#[derive(Debug, Clone, PartialEq)]
pub struct VocabularyPiece {
    /// The text, with `▁` for a space.
    pub text: String,
    /// Logarithm of its probability.
    pub score: f64,
    /// Whether text may spell it: marks such as `</s>` may not be.
    pub is_text: bool,
}

/// Why a `tokenizer.json` cannot be used.
#[derive(Debug, Error)]
pub enum TokenizerJsonError {
    /// Not JSON, or without what a tokenizer has.
    #[error("tokenizer.json is not a tokenizers file: download it again, or use spiece.model")]
    NotJson(#[source] serde_json::Error),
    /// Of some other model than T5.
    #[error("tokenizer.json {problem}: it is not T5's, use spiece.model of the checkpoint")]
    NotT5 {
        /// What is not as in T5's file.
        problem: &'static str,
    },
    /// The normaliser's map is damaged.
    #[error("tokenizer.json has a damaged character map: download it again, or use spiece.model")]
    Charsmap(#[source] CharsmapError),
}

#[derive(Deserialize)]
struct File {
    #[serde(default)]
    added_tokens: Vec<AddedToken>,
    normalizer: Option<Step>,
    pre_tokenizer: Option<Step>,
    model: Model,
}

#[derive(Deserialize)]
struct AddedToken {
    content: String,
}

/// A normaliser or a pre-tokenizer.
#[derive(Deserialize)]
#[serde(tag = "type")]
enum Step {
    Precompiled {
        precompiled_charsmap: String,
    },
    Sequence {
        #[serde(alias = "normalizers", alias = "pretokenizers")]
        steps: Vec<Step>,
    },
    WhitespaceSplit,
    Metaspace {
        #[serde(default)]
        replacement: String,
        prepend_scheme: Option<String>,
        add_prefix_space: Option<bool>,
    },
    #[serde(other)]
    Other,
}

#[derive(Deserialize)]
struct Model {
    // Files of before tokenizers 0.9 have no type; the vocabulary's shape tells it.
    #[serde(rename = "type")]
    kind: Option<String>,
    unk_id: Option<usize>,
    vocab: Vec<(String, f64)>,
    #[serde(default)]
    byte_fallback: bool,
}

impl Vocabulary {
    /// Reads and checks the bytes of a `tokenizer.json`.
    ///
    /// # Errors
    /// When it is no tokenizer of T5, or damaged.
    pub fn from_tokenizer_json(bytes: &[u8]) -> Result<Self, TokenizerJsonError> {
        let refuse = |problem| TokenizerJsonError::NotT5 { problem };
        if bytes.len() > SentencePieceModel::MAX_BYTES {
            return Err(refuse("has more than 64 MiB"));
        }
        let file: File = serde_json::from_slice(bytes).map_err(TokenizerJsonError::NotJson)?;
        let model = file.model;
        if model.kind.is_some_and(|kind| kind != "Unigram") || model.byte_fallback {
            return Err(refuse("is not a Unigram model without byte fallback"));
        }
        check_pre_tokenizer(file.pre_tokenizer)?;
        let charsmap = charsmap(file.normalizer)?;
        let unk_id = model
            .unk_id
            .filter(|&id| id < model.vocab.len())
            .ok_or(refuse("has no unknown piece (unk_id)"))?;
        let eos_id = model
            .vocab
            .iter()
            .position(|(text, _)| text == "</s>")
            .ok_or(refuse("has no piece </s>"))?;
        if unk_id == eos_id {
            return Err(refuse("has </s> as its unknown piece"));
        }
        check_pieces(&model.vocab)?;
        let added: HashSet<String> = file.added_tokens.into_iter().map(|t| t.content).collect();
        let pieces = model
            .vocab
            .into_iter()
            .enumerate()
            .map(|(id, (text, score))| VocabularyPiece {
                is_text: id != unk_id && !added.contains(&text) && !is_special(&text),
                text,
                score,
            })
            .collect();
        Ok(Self {
            pieces,
            unk_id,
            eos_id,
            charsmap,
        })
    }
}

/// The marks of T5, should the file not list them among its added tokens.
fn is_special(text: &str) -> bool {
    matches!(text, "<pad>" | "</s>" | "<unk>" | "<s>")
        || text
            .strip_prefix("<extra_id_")
            .and_then(|rest| rest.strip_suffix('>'))
            .is_some_and(|number| number.bytes().all(|byte| byte.is_ascii_digit()))
}

fn check_pieces(vocab: &[(String, f64)]) -> Result<(), TokenizerJsonError> {
    let refuse = |problem| Err(TokenizerJsonError::NotT5 { problem });
    if vocab.len() > SentencePieceModel::MAX_PIECES {
        return refuse("has more than a million pieces");
    }
    let mut seen = HashSet::with_capacity(vocab.len());
    for (text, score) in vocab {
        if text.is_empty() || text.len() > SentencePieceModel::MAX_PIECE_BYTES {
            return refuse("has a piece that is empty or longer than 256 bytes");
        }
        if score.is_nan() || score.abs() > f64::from(f32::MAX) {
            return refuse("has a score beyond f32");
        }
        if !seen.insert(text) {
            return refuse("has a piece twice");
        }
    }
    Ok(())
}

fn check_pre_tokenizer(step: Option<Step>) -> Result<(), TokenizerJsonError> {
    let steps = match step {
        Some(Step::Sequence { steps }) => steps,
        Some(step) => vec![step],
        None => Vec::new(),
    };
    let is_t5 = match steps.as_slice() {
        [Step::WhitespaceSplit, metaspace] | [metaspace] => is_t5_metaspace(metaspace),
        _ => false,
    };
    if is_t5 {
        Ok(())
    } else {
        Err(TokenizerJsonError::NotT5 {
            problem: "does not split words at white space with ▁ before each (Metaspace, always)",
        })
    }
}

fn is_t5_metaspace(step: &Step) -> bool {
    let Step::Metaspace {
        replacement,
        prepend_scheme,
        add_prefix_space,
    } = step
    else {
        return false;
    };
    replacement == "▁"
        && prepend_scheme
            .as_deref()
            .is_none_or(|scheme| scheme == "always")
        && *add_prefix_space != Some(false)
}

fn charsmap(step: Option<Step>) -> Result<Option<Charsmap>, TokenizerJsonError> {
    let mut steps = match step {
        Some(Step::Sequence { steps }) => steps,
        Some(step) => vec![step],
        None => Vec::new(),
    };
    let encoded = match (steps.pop(), steps.is_empty()) {
        (None, _) => return Ok(None),
        (
            Some(Step::Precompiled {
                precompiled_charsmap,
            }),
            true,
        ) => precompiled_charsmap,
        _ => {
            return Err(TokenizerJsonError::NotT5 {
                problem: "has a normaliser beside the character map (Precompiled)",
            });
        }
    };
    let bytes = from_base64(&encoded).ok_or(TokenizerJsonError::NotT5 {
        problem: "has a character map that is not base64",
    })?;
    Charsmap::parse(&bytes)
        .map(Some)
        .map_err(TokenizerJsonError::Charsmap)
}

/// Standard alphabet with padding (RFC 4648, section 4): twenty lines against one more dependency.
fn from_base64(text: &str) -> Option<Vec<u8>> {
    let digits = text.trim_end_matches('=').as_bytes();
    if !text.len().is_multiple_of(4) || text.len() - digits.len() > 2 {
        return None;
    }
    let mut bytes = Vec::with_capacity(digits.len() / 4 * 3 + 2);
    for quad in digits.chunks(4) {
        let mut bits = 0_u32;
        for (place, &digit) in quad.iter().enumerate() {
            let value = match digit {
                b'A'..=b'Z' => digit - b'A',
                b'a'..=b'z' => digit - b'a' + 26,
                b'0'..=b'9' => digit - b'0' + 52,
                b'+' => 62,
                b'/' => 63,
                _ => return None,
            };
            bits |= u32::from(value) << (18 - 6 * place);
        }
        bytes.extend(&bits.to_be_bytes()[1..quad.len()]);
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_read_as_in_the_rfc() {
        for (text, bytes) in [
            ("", ""),
            ("Zg==", "f"),
            ("Zm8=", "fo"),
            ("Zm9v", "foo"),
            ("Zm9vYmE=", "fooba"),
        ] {
            assert_eq!(from_base64(text).unwrap(), bytes.as_bytes());
        }
        for text in ["Z", "Zg", "Zg=", "====", "Zm9*"] {
            assert!(from_base64(text).is_none(), "{text}");
        }
    }
}
