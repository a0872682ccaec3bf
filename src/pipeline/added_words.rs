//! The words that a checkpoint adds to its vocabulary, found in a text before anything else of it is read.
//!
//! They are found by the `tokenizers` library, as transformers finds them: those that are looked for in normalised text after the others,
//! each with the white space that belongs to it. What lies between them is normalised by the library, too, and cut by the caller.

use std::collections::HashMap;

use tokenizers::models::unigram::Unigram;
use tokenizers::normalizers::precompiled::Precompiled;
use tokenizers::normalizers::replace::{Replace, ReplacePattern};
use tokenizers::normalizers::strip::Strip;
use tokenizers::normalizers::{NormalizerWrapper, Sequence};
use tokenizers::{AddedToken, AddedVocabulary, OffsetReferential, OffsetType};

use crate::model::AddedTokens;
use crate::model::tokenizer_json::Splitting;

/// The library's own error.
type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Finds them.
pub(super) struct AddedWords {
    vocabulary: AddedVocabulary,
    normalizer: NormalizerWrapper,
    /// What the library calls them, which knows nothing of sentinels, → their ids and what they spell.
    ids: HashMap<u32, (u32, String)>,
}

/// A part of a text.
pub(super) enum Part {
    /// An added word.
    Word { id: u32, text: String },
    /// Normalised text without one.
    Text {
        text: String,
        /// Whether the whole text begins with it.
        first: bool,
    },
}

impl AddedWords {
    /// Those of `added`, in a text that is normalised by `charsmap` and as `splitting` says. `unigram` is the vocabulary that they are
    /// added to.
    pub(super) fn new(
        added: &AddedTokens,
        unigram: &Unigram,
        charsmap: Option<&Precompiled>,
        splitting: Splitting,
    ) -> Result<Self, Failure> {
        let mut steps: Vec<NormalizerWrapper> = Vec::new();
        steps.extend(charsmap.cloned().map(NormalizerWrapper::from));
        if let Splitting::Spaces {
            strip_left,
            strip_right,
            merge,
            ..
        } = splitting
        {
            steps.push(Strip::new(strip_left, strip_right).into());
            if merge {
                let several = ReplacePattern::Regex(" {2,}".to_owned());
                steps.push(Replace::new(several, "▁")?.into());
            }
        }
        let normalizer = NormalizerWrapper::from(Sequence::new(steps));
        let mut vocabulary = AddedVocabulary::new();
        let tokens = added.tokens.iter().map(|token| {
            AddedToken::from(token.content.as_str(), false)
                .single_word(token.single_word)
                .lstrip(token.lstrip)
                .rstrip(token.rstrip)
                .normalized(token.normalized)
        });
        vocabulary.add_tokens(tokens, unigram, Some(&normalizer))?;
        let own: HashMap<&str, u32> = added
            .tokens
            .iter()
            .map(|token| (token.content.as_str(), token.id))
            .collect();
        let ids = vocabulary
            .get_added_tokens_decoder()
            .iter()
            .filter_map(|(&theirs, token)| {
                let id = *own.get(token.content.as_str())?;
                Some((theirs, (id, token.content.clone())))
            })
            .collect();
        Ok(Self {
            vocabulary,
            normalizer,
            ids,
        })
    }

    /// One more than the largest of their ids.
    pub(super) fn end(&self) -> usize {
        let ends = self.ids.values().map(|&(id, _)| id as usize + 1);
        ends.max().unwrap_or(0)
    }

    /// The parts of a text, in order.
    pub(super) fn parts(&self, text: &str) -> Vec<Part> {
        let split = self
            .vocabulary
            .extract_and_normalize(Some(&self.normalizer), text);
        let mut parts = Vec::new();
        for (text, (start, _), tokens) in
            split.get_splits(OffsetReferential::Original, OffsetType::Byte)
        {
            match tokens {
                Some(tokens) => parts.extend(tokens.iter().filter_map(|token| {
                    let (id, text) = self.ids.get(&token.id)?.clone();
                    Some(Part::Word { id, text })
                })),
                None => parts.push(Part::Text {
                    text: text.to_owned(),
                    first: start == 0,
                }),
            }
        }
        parts
    }
}
