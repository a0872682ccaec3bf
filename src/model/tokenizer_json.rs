//! The part of `tokenizer.json` that is read: vocabulary, scores and character map.
//!
//! Files that would encode otherwise than T5 are refused with the reason; what they add to the vocabulary is read in `added_tokens.rs`.
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
    /// How text is cut into words.
    pub splitting: Splitting,
}

/// How text is cut into words once the character map was applied; each word gets `▁` in front where it has none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Splitting {
    /// At white space of any kind, as sentencepiece does and transformers 5: `WhitespaceSplit`, then `Metaspace`.
    WhiteSpace,
    /// At spaces, which become `▁`: `Metaspace` alone. transformers 4 saved T5 so, with `Strip` and `Replace` before.
    Spaces {
        /// White space in front is taken away.
        strip_left: bool,
        /// White space at the end is taken away.
        strip_right: bool,
        /// Two and more spaces count as one.
        merge: bool,
        /// The first word alone gets `▁` in front; it makes no difference but beside added tokens.
        first_only: bool,
    },
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
    #[serde(default)]
    special: bool,
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
        split: Option<bool>,
    },
    Strip {
        strip_left: bool,
        strip_right: bool,
    },
    Replace {
        pattern: Pattern,
        content: String,
    },
    #[serde(other)]
    Other,
}

/// What is replaced.
#[derive(Deserialize)]
enum Pattern {
    Regex(String),
    String(#[expect(dead_code, reason = "no file of T5 has one")] String),
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
        let normalizer = Normalizer::of(file.normalizer)?;
        let splitting = splitting(file.pre_tokenizer, &normalizer)?;
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
        // Those of them that are words of the checkpoint's own are found before the search.
        let special = file.added_tokens.into_iter();
        let special = special.filter(|token| token.special);
        let special: HashSet<String> = special.map(|token| token.content).collect();
        let pieces = model
            .vocab
            .into_iter()
            .enumerate()
            .map(|(id, (text, score))| VocabularyPiece {
                is_text: id != unk_id && !special.contains(&text) && !is_mark(&text),
                text,
                score,
            })
            .collect();
        Ok(Self {
            pieces,
            unk_id,
            eos_id,
            charsmap: normalizer.charsmap,
            splitting,
        })
    }
}

/// Whether a text is one of T5's own marks, which nobody is meant to spell.
pub(super) fn is_mark(text: &str) -> bool {
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

impl Step {
    /// The steps of a sequence, or of the one step, in order.
    fn list(step: Option<Self>) -> Vec<Self> {
        match step {
            Some(Self::Sequence { steps }) => steps,
            Some(step) => vec![step],
            None => Vec::new(),
        }
    }

    /// Whether it is a Metaspace whose `▁` comes in front of the text in one of `ways`, and cuts it.
    fn is_metaspace(&self, ways: &[&str]) -> bool {
        let Self::Metaspace {
            replacement,
            prepend_scheme,
            add_prefix_space,
            split,
        } = self
        else {
            return false;
        };
        replacement == "▁"
            && prepend_scheme
                .as_deref()
                .is_none_or(|way| ways.contains(&way))
            && *add_prefix_space != Some(false)
            && *split != Some(false)
    }
}

/// How text is cut. The steps are those that T5's files have had.
fn splitting(
    pre_tokenizer: Option<Step>,
    normalizer: &Normalizer,
) -> Result<Splitting, TokenizerJsonError> {
    let steps = Step::list(pre_tokenizer);
    match steps.as_slice() {
        // What the normaliser strips and merges is white space, at which this cuts.
        [Step::WhitespaceSplit, metaspace] if metaspace.is_metaspace(&["always"]) => {
            Ok(Splitting::WhiteSpace)
        }
        // The whole text is one, so its first place is the only one.
        [metaspace] if metaspace.is_metaspace(&["always", "first"]) => Ok(Splitting::Spaces {
            strip_left: normalizer.strip_left,
            strip_right: normalizer.strip_right,
            merge: normalizer.merge_spaces,
            first_only: !metaspace.is_metaspace(&["always"]),
        }),
        _ => Err(TokenizerJsonError::NotT5 {
            problem: "does not split words with ▁ before each (Metaspace, always or first, with or without WhitespaceSplit)",
        }),
    }
}

/// What is done to text before it is cut.
#[derive(Default)]
struct Normalizer {
    charsmap: Option<Charsmap>,
    strip_left: bool,
    strip_right: bool,
    merge_spaces: bool,
}

impl Normalizer {
    /// The character map, `Strip` and `Replace`, in this order, each at most once.
    fn of(step: Option<Step>) -> Result<Self, TokenizerJsonError> {
        let refuse = |problem| TokenizerJsonError::NotT5 { problem };
        let mut found = Self::default();
        let mut last = 0;
        for step in Step::list(step) {
            let place = match step {
                Step::Precompiled {
                    precompiled_charsmap,
                } => {
                    let bytes = from_base64(&precompiled_charsmap)
                        .ok_or(refuse("has a character map that is not base64"))?;
                    let map = Charsmap::parse(&bytes).map_err(TokenizerJsonError::Charsmap)?;
                    found.charsmap = Some(map);
                    1
                }
                Step::Strip {
                    strip_left,
                    strip_right,
                } => {
                    (found.strip_left, found.strip_right) = (strip_left, strip_right);
                    2
                }
                Step::Replace {
                    pattern: Pattern::Regex(pattern),
                    content,
                } if pattern == " {2,}" && (content == "▁" || content == " ") => {
                    found.merge_spaces = true;
                    3
                }
                _ => {
                    return Err(refuse(
                        "has a normaliser beside the character map (Precompiled), Strip, and Replace of several spaces",
                    ));
                }
            };
            if place <= last {
                return Err(refuse("has its normalisers in another order"));
            }
            last = place;
        }
        Ok(found)
    }
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
