//! Text → T5 token ids, equal to transformers' `T5Tokenizer` except that special tokens cannot be typed.
//!
//! The path is the one of transformers 5.23 `tokenization_t5.py`: the vocabulary's character map, split at white space, `▁` before each
//! word, Unigram, cut, `</s>`; a `tokenizer.json` of transformers 4 splits at spaces instead. It is walked here word by word on plain
//! strings: `tokenizers` supplies the character map's lookup and the Unigram search, where a checkpoint adds words of its own their search
//! (`added_words.rs`), and none of its post-processors, which text could reach.
//! Invariants: ids end with `</s>`, which stands nowhere else; no prompt reaches a control piece (`docs/adr/0002`); nothing is padded.

use std::fmt;

use thiserror::Error;
use tokenizers::Model as _;
use tokenizers::models::unigram::Unigram;
use tokenizers::normalizers::precompiled::Precompiled;

use super::added_words::{AddedWords, Part};
use crate::model::AddedTokens;
use crate::model::sentencepiece::{PieceKind, SentencePieceError, SentencePieceModel};
use crate::model::tokenizer_json::{Splitting, TokenizerJsonError, Vocabulary, VocabularyPiece};

/// Ids of one prompt.
///
/// `Debug` shows lengths alone: prompts are people's data and stay out of logs.
#[derive(Clone, PartialEq, Eq)]
pub struct PromptTokens {
    /// i64 `[tokens]`, 1 to the limit, without padding; the last is `</s>`.
    pub ids: Vec<i64>,
    /// How many tokens the whole text has, `</s>` counted: more than `ids` holds when it was cut.
    pub found: usize,
    /// The text of the tokens that were cut, as they are spelt in the vocabulary with spaces for `▁`; at most
    /// [`PromptTokens::MAX_LOST_CHARS`] characters, `…` at the end where there is more. Empty when nothing was cut.
    pub lost: String,
}

impl PromptTokens {
    /// The longest `lost`, so that an answer that quotes it stays readable.
    pub const MAX_LOST_CHARS: usize = 200;
}

impl fmt::Debug for PromptTokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PromptTokens({} of {})", self.ids.len(), self.found)
    }
}

/// Why a tokenizer could not be made, or a text not be read.
#[derive(Debug, Error)]
pub enum TokenizerError {
    /// `spiece.model` is not usable.
    #[error("the tokenizer's spiece.model cannot be used")]
    SentencePiece(#[from] SentencePieceError),
    /// `tokenizer.json` is not usable.
    #[error(transparent)]
    TokenizerJson(#[from] TokenizerJsonError),
    /// No room for even `</s>`.
    #[error("a prompt must be allowed at least 1 token")]
    NoRoom,
    /// The `tokenizers` crate refused what our own checks let through.
    #[error("the vocabulary cannot be searched")]
    Search(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// Reads prompts into ids.
pub struct PromptTokenizer {
    unigram: Unigram,
    charsmap: Option<Precompiled>,
    added: Option<AddedWords>,
    splitting: Splitting,
    eos_id: u32,
    max_tokens: usize,
}

impl fmt::Debug for PromptTokenizer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PromptTokenizer")
            .field("vocab_size", &self.vocab_size())
            .field("max_tokens", &self.max_tokens)
            .finish_non_exhaustive()
    }
}

impl PromptTokenizer {
    /// From the bytes of `spiece.model`. `max_tokens` counts `</s>`: 120 for PixArt-α, 300 for Σ.
    ///
    /// # Errors
    /// When the file is not a T5 vocabulary, or `max_tokens` is 0.
    pub fn from_sentencepiece(bytes: &[u8], max_tokens: usize) -> Result<Self, TokenizerError> {
        let model = SentencePieceModel::parse(bytes)?;
        let pieces = model
            .pieces()
            .iter()
            .map(|piece| VocabularyPiece {
                text: piece.text.clone(),
                score: f64::from(piece.score),
                is_text: piece.kind == PieceKind::Normal,
            })
            .collect();
        let vocabulary = Vocabulary {
            pieces,
            unk_id: model.unk_id(),
            eos_id: model.eos_id(),
            charsmap: model.charsmap().cloned(),
            splitting: Splitting::WhiteSpace,
        };
        Self::new(vocabulary, max_tokens)
    }

    /// From the bytes of a `tokenizer.json` that transformers made of such a vocabulary. Its truncation, padding and template are left
    /// aside: what they would do is done here. For its added tokens there is [`Self::adding`].
    ///
    /// # Errors
    /// When the file is not a T5 tokenizer, or `max_tokens` is 0.
    pub fn from_tokenizer_json(bytes: &[u8], max_tokens: usize) -> Result<Self, TokenizerError> {
        Self::new(Vocabulary::from_tokenizer_json(bytes)?, max_tokens)
    }

    fn new(vocabulary: Vocabulary, max_tokens: usize) -> Result<Self, TokenizerError> {
        if max_tokens == 0 {
            return Err(TokenizerError::NoRoom);
        }
        let eos_id = u32::try_from(vocabulary.eos_id)
            .map_err(|overflow| TokenizerError::Search(overflow.into()))?;
        let pieces = vocabulary
            .pieces
            .into_iter()
            .enumerate()
            .map(|(id, piece)| {
                let text = if piece.is_text {
                    piece.text
                } else {
                    unreachable_text(id)
                };
                (text, piece.score)
            })
            .collect();
        let unigram = Unigram::from(pieces, Some(vocabulary.unk_id), false)
            .map_err(TokenizerError::Search)?;
        let charsmap = vocabulary
            .charsmap
            .map(|map| Precompiled::from(map.as_bytes()))
            .transpose()
            .map_err(|error| TokenizerError::Search(error.into()))?;
        Ok(Self {
            unigram,
            charsmap,
            added: None,
            splitting: vocabulary.splitting,
            eos_id,
            max_tokens,
        })
    }

    /// With words that the checkpoint adds to its vocabulary.
    ///
    /// # Errors
    /// When two of them are the same once they are normalised.
    pub fn adding(mut self, added: &AddedTokens) -> Result<Self, TokenizerError> {
        if !added.is_empty() {
            let words =
                AddedWords::new(added, &self.unigram, self.charsmap.as_ref(), self.splitting);
            self.added = Some(words.map_err(TokenizerError::Search)?);
        }
        Ok(self)
    }

    /// Ids of a text, cut to the limit.
    ///
    /// # Errors
    /// None is known: the `tokenizers` crate has a failing signature.
    pub fn encode(&self, text: &str) -> Result<PromptTokens, TokenizerError> {
        let mut found = Vec::new();
        if let Some(added) = &self.added {
            for part in added.parts(text) {
                match part {
                    Part::Word { id, text } => found.push((id, text)),
                    Part::Text { text, first } => {
                        for word in words_between(&text, self.splitting, first) {
                            self.search(&word, &mut found)?;
                        }
                    }
                }
            }
        } else {
            let normalized = match &self.charsmap {
                Some(charsmap) => charsmap.normalize_string(text),
                None => text.to_owned(),
            };
            for word in words(&normalized, self.splitting) {
                self.search(&word, &mut found)?;
            }
        }
        let kept = found.len().min(self.max_tokens - 1);
        let mut lost = Lost::default();
        for (_, text) in &found[kept..] {
            lost.push(text);
        }
        let mut ids: Vec<i64> = found[..kept].iter().map(|&(id, _)| id.into()).collect();
        ids.push(i64::from(self.eos_id));
        Ok(PromptTokens {
            ids,
            found: found.len() + 1,
            lost: lost.text(),
        })
    }

    /// Adds the pieces of a word.
    fn search(&self, word: &str, found: &mut Vec<(u32, String)>) -> Result<(), TokenizerError> {
        let tokens = self
            .unigram
            .tokenize(word)
            .map_err(TokenizerError::Search)?;
        found.extend(tokens.into_iter().map(|token| (token.id, token.value)));
        Ok(())
    }

    /// Number of pieces, added ones counted: every id is below it. It is to be at most the rows of the text encoder's embedding.
    pub fn vocab_size(&self) -> usize {
        let added = self.added.as_ref().map_or(0, AddedWords::end);
        self.unigram.get_vocab_size().max(added)
    }

    /// Id of `</s>`.
    pub fn eos_id(&self) -> i64 {
        i64::from(self.eos_id)
    }

    /// The longest `ids`, `</s>` counted.
    pub fn max_tokens(&self) -> usize {
        self.max_tokens
    }
}

/// What a special piece is called in the search, so that no text meets it: words hold no white space, and prompts no NUL.
fn unreachable_text(id: usize) -> String {
    format!("\n\0{id}")
}

/// Collects the text of the tokens that are cut, one character more than is told.
#[derive(Default)]
struct Lost {
    text: String,
    chars: usize,
}

impl Lost {
    fn push(&mut self, piece: &str) {
        let room = (PromptTokens::MAX_LOST_CHARS + 1).saturating_sub(self.chars);
        for character in piece.chars().take(room) {
            // The first piece begins a word, or is the rest of one that was cut in its middle.
            if character.is_control() || (character == '▁' && self.text.is_empty()) {
                continue;
            }
            self.text
                .push(if character == '▁' { ' ' } else { character });
            self.chars += 1;
        }
    }

    fn text(mut self) -> String {
        if self.chars > PromptTokens::MAX_LOST_CHARS {
            self.text = self
                .text
                .chars()
                .take(PromptTokens::MAX_LOST_CHARS - 1)
                .collect();
            self.text.push('…');
        }
        self.text
    }
}

/// What stands for a space in a vocabulary.
const SPACE: char = '▁';

/// The words of a normalised text, each with `▁` in front.
fn words(text: &str, splitting: Splitting) -> Vec<String> {
    let Splitting::Spaces {
        strip_left,
        strip_right,
        merge,
        ..
    } = splitting
    else {
        return split_at_white_space(text);
    };
    let text = if strip_left { text.trim_start() } else { text };
    let text = if strip_right { text.trim_end() } else { text };
    let mut marked = String::with_capacity(text.len());
    let mut after_space = false;
    for character in text.chars() {
        let is_space = character == ' ';
        if !(is_space && after_space && merge) {
            marked.push(if is_space { SPACE } else { character });
        }
        after_space = is_space;
    }
    metaspace(&marked, true)
}

/// The words of a part of a text beside added words, which the library has stripped and merged; the `first` part begins the text.
fn words_between(text: &str, splitting: Splitting, first: bool) -> Vec<String> {
    match splitting {
        Splitting::WhiteSpace => split_at_white_space(text),
        Splitting::Spaces { first_only, .. } => {
            metaspace(&text.replace(' ', "▁"), first || !first_only)
        }
    }
}

fn split_at_white_space(text: &str) -> Vec<String> {
    let words = text.split_whitespace();
    words.flat_map(|word| metaspace(word, true)).collect()
}

/// `tokenizers`' `Metaspace('▁', split)` on one word: `▁` in front if it is to be and is not there, then a cut before each `▁`.
fn metaspace(word: &str, prepend: bool) -> Vec<String> {
    let mut chunks: Vec<String> = Vec::new();
    for character in word.chars() {
        match chunks.last_mut() {
            Some(chunk) if character != SPACE => chunk.push(character),
            None if character != SPACE && prepend => {
                chunks.push(String::from_iter([SPACE, character]));
            }
            _ => chunks.push(character.into()),
        }
    }
    chunks
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::model::AddedToken;

    const SKETCHBOOK: &[u8] = include_bytes!("../../models/sketchbook/tokenizer/spiece.model");

    fn sketchbook() -> PromptTokenizer {
        PromptTokenizer::from_sentencepiece(SKETCHBOOK, 120).unwrap()
    }

    #[test]
    fn an_empty_prompt_is_the_end_of_text_alone() {
        for text in ["", " \n\t "] {
            let tokens = sketchbook().encode(text).unwrap();
            assert_eq!((tokens.ids, tokens.found), (vec![1], 1));
        }
    }

    #[test]
    fn a_long_prompt_is_cut_and_still_ends_with_end_of_text() {
        let tokens = sketchbook().encode(&"red circle ".repeat(200)).unwrap();
        assert_eq!(tokens.ids.len(), 120);
        assert_eq!(tokens.ids.last(), Some(&1));
        assert!(tokens.found > 400);
    }

    #[test]
    fn what_is_cut_is_told_from_the_very_place_where_it_begins() {
        let tokenizer = sketchbook();
        let text = format!("{}a green tree at night", "red circle ".repeat(200));
        let whole = tokenizer.encode("a green tree at night").unwrap();
        assert_eq!((whole.ids.len(), whole.lost.as_str()), (whole.found, ""));
        let room = tokenizer.encode(&text).unwrap().found - whole.found + 1;
        let exact = PromptTokenizer::from_sentencepiece(SKETCHBOOK, room).unwrap();
        let tokens = exact.encode(&text).unwrap();
        assert_eq!(tokens.lost, "a green tree at night");
        let one_more = PromptTokenizer::from_sentencepiece(SKETCHBOOK, room + 1).unwrap();
        assert_eq!(one_more.encode(&text).unwrap().lost, "green tree at night");
    }

    #[test]
    fn much_lost_text_is_told_in_two_hundred_characters() {
        let lost = sketchbook()
            .encode(&"red circle ".repeat(200))
            .unwrap()
            .lost;
        assert_eq!(lost.chars().count(), PromptTokens::MAX_LOST_CHARS);
        assert!(lost.ends_with('…'), "{lost}");
        assert!(lost.contains("red circle red circle"), "{lost}");
    }

    #[test]
    fn a_word_gets_its_space_mark_once() {
        assert_eq!(metaspace("ab", true), ["▁ab"]);
        assert_eq!(metaspace("▁a▁▁b", true), ["▁a", "▁", "▁b"]);
        assert_eq!(metaspace("a▁b", false), ["a", "▁b"]);
        assert!(metaspace("", true).is_empty());
    }

    #[test]
    fn typed_special_tokens_are_plain_text() {
        let tokenizer = sketchbook();
        let special: Vec<i64> = vec![0, 1];
        for text in [
            "</s>",
            "a </s> b",
            "<pad>",
            "<pad><pad>",
            "</s></s>",
            "\n\x000",
            "\x001",
        ] {
            let tokens = tokenizer.encode(text).unwrap();
            let (eos, rest) = tokens.ids.split_last().unwrap();
            assert_eq!(*eos, tokenizer.eos_id());
            assert!(!rest.is_empty(), "{text:?}");
            assert!(rest.iter().all(|id| !special.contains(id)), "{text:?}");
        }
    }

    #[test]
    fn zero_tokens_are_refused() {
        assert!(matches!(
            PromptTokenizer::from_sentencepiece(SKETCHBOOK, 0),
            Err(TokenizerError::NoRoom)
        ));
    }

    fn file(pre_tokenizer: &str, model: &str) -> String {
        format!(r#"{{"pre_tokenizer": {pre_tokenizer}, "model": {model}}}"#)
    }

    const METASPACE: &str = r#"{"type":"Metaspace","replacement":"▁","prepend_scheme":"always"}"#;
    const MODEL: &str = r#"{"type":"Unigram","unk_id":2,"vocab":[["<pad>",0],["</s>",0],["<unk>",0],["▁a",-1],["<extra_id_0>",0]]}"#;

    #[test]
    fn a_minimal_tokenizer_json_is_read_and_its_specials_cannot_be_typed() {
        let tokenizer =
            PromptTokenizer::from_tokenizer_json(file(METASPACE, MODEL).as_bytes(), 8).unwrap();
        assert_eq!(tokenizer.vocab_size(), 5);
        assert_eq!(tokenizer.encode("a a").unwrap().ids, [3, 3, 1]);
        assert_eq!(tokenizer.encode("<extra_id_0>").unwrap().ids, [2, 1]);
    }

    #[test]
    fn a_tokenizer_json_of_another_model_is_refused_in_words() {
        let bpe = MODEL.replace("Unigram", "BPE");
        let no_eos = MODEL.replace("</s>", "<end>");
        let no_unk = MODEL.replace("\"unk_id\":2", "\"unk_id\":7");
        let twice = MODEL.replace("▁a", "<pad>");
        let never = METASPACE.replace("always", "never");
        let bytes = r#"{"type":"ByteLevel"}"#;
        for (pre_tokenizer, model, words) in [
            (METASPACE, bpe.as_str(), "Unigram"),
            (METASPACE, &no_eos, "</s>"),
            (METASPACE, &no_unk, "unk_id"),
            (METASPACE, &twice, "twice"),
            (&never, MODEL, "Metaspace"),
            (bytes, MODEL, "Metaspace"),
            ("null", MODEL, "Metaspace"),
        ] {
            let error =
                PromptTokenizer::from_tokenizer_json(file(pre_tokenizer, model).as_bytes(), 8)
                    .unwrap_err();
            assert!(error.to_string().contains(words), "{error}");
        }
        assert!(matches!(
            PromptTokenizer::from_tokenizer_json(b"{}", 8),
            Err(TokenizerError::TokenizerJson(TokenizerJsonError::NotJson(
                _
            )))
        ));
    }

    proptest! {
        #[test]
        fn any_text_ends_with_the_only_end_of_text(text in any::<String>()) {
            let tokenizer = sketchbook_once();
            let tokens = tokenizer.encode(&text).unwrap();
            let (eos, rest) = tokens.ids.split_last().unwrap();
            prop_assert_eq!(*eos, 1);
            prop_assert!(rest.iter().all(|&id| id > 1));
            prop_assert!(tokens.ids.len() == tokens.found.min(120));
            prop_assert!(tokens.found > 120 || tokens.lost.is_empty());
            prop_assert!(tokens.lost.chars().count() <= PromptTokens::MAX_LOST_CHARS);
        }

        #[test]
        fn any_text_with_added_words_in_it_is_read(text in "(<new>|a red| red|[ \t\u{a0}]|[a-z]|ﬁ|\u{301}|\u{ac00}|\\PC){0,40}") {
            let tokens = with_added_words().encode(&text).unwrap();
            let (eos, rest) = tokens.ids.split_last().unwrap();
            prop_assert_eq!(*eos, 1);
            prop_assert!(rest.iter().all(|&id| id > 1));
        }

        #[test]
        fn text_that_looks_special_never_becomes_so(text in "([<>/_ ▁]|s|pad|unk|extra_id|[0-9\n\0]){0,40}") {
            let tokens = sketchbook_once().encode(&text).unwrap();
            prop_assert!(tokens.ids[..tokens.ids.len() - 1].iter().all(|&id| id > 1));
        }

        #[test]
        fn arbitrary_json_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..200), at in 0..200usize, byte in any::<u8>()) {
            let _ = PromptTokenizer::from_tokenizer_json(&bytes, 8);
            let mut damaged = file(METASPACE, MODEL).into_bytes();
            let at = at % damaged.len();
            damaged[at] = byte;
            if let Ok(tokenizer) = PromptTokenizer::from_tokenizer_json(&damaged, 8) {
                let _ = tokenizer.encode("a prompt");
            }
        }
    }

    fn with_added_words() -> PromptTokenizer {
        let word = |content: &str, id, flags: [bool; 4]| AddedToken {
            content: content.to_owned(),
            id,
            single_word: flags[0],
            lstrip: flags[1],
            rstrip: flags[2],
            normalized: flags[3],
        };
        let tokens = vec![
            word("<new>", 600, [false, true, true, false]),
            word("a red", 601, [true, false, true, true]),
            word("ﬁ", 602, [false, false, false, true]),
            word(" ", 603, [false, true, true, false]),
        ];
        sketchbook().adding(&AddedTokens { tokens }).unwrap()
    }

    #[test]
    fn added_words_are_one_token_and_what_is_cut_names_them() {
        let tokenizer = with_added_words();
        assert_eq!(tokenizer.vocab_size(), 604);
        assert_eq!(tokenizer.encode("<new>").unwrap().ids, [600, 1]);
        let plain = tokenizer.encode("</s>").unwrap().ids;
        assert!(plain.len() > 2 && plain[..plain.len() - 1].iter().all(|&id| id > 1));
        let mut short = tokenizer;
        short.max_tokens = 2;
        let tokens = short.encode("<new><new>").unwrap();
        assert_eq!((tokens.ids, tokens.lost.as_str()), (vec![600, 1], "<new>"));
    }

    fn sketchbook_once() -> &'static PromptTokenizer {
        static TOKENIZER: std::sync::LazyLock<PromptTokenizer> =
            std::sync::LazyLock::new(sketchbook);
        &TOKENIZER
    }
}
