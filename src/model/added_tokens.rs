//! Tokens that a checkpoint adds to T5's vocabulary, as textual inversion and pivotal tuning do: words of its own, each one id.
//!
//! transformers keeps them in `tokenizer_config.json` (`added_tokens_decoder`), in `added_tokens.json`, in `tokenizer.json`, and as
//! special tokens in `special_tokens_map.json`. They are read here once, when a checkpoint is opened, and numbered as transformers 5.23
//! `tokenization_utils_tokenizers.py` does: what the vocabulary has keeps its id, everything else follows the vocabulary and its
//! sentinels (`extra_ids`) in the order of the ids in the files. A model of ours carries the outcome in a file of its own.
//!
//! Marks such as `</s>`, `<pad>` and `<extra_id_0>` are numbered and left out: they cannot be typed (`docs/adr/0002`, `0025`).

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use thiserror::Error;

use super::directory::{ModelDirectory, ModelError, read_text};
use super::python_json::from_python;
use super::sentencepiece::SentencePieceModel;
use super::tokenizer_json::{Vocabulary, is_mark};

/// A hundred times as many as any checkpoint has been seen to add.
const MAX_TOKENS: usize = 1 << 16;
/// What transformers calls a text's own marks, in the order in which it numbers them.
const MARKS: [&str; 7] = [
    "bos_token",
    "eos_token",
    "unk_token",
    "sep_token",
    "pad_token",
    "cls_token",
    "mask_token",
];
/// Sentinels of a T5 tokenizer that says nothing of them.
const EXTRA_IDS: u64 = 100;

/// A token that text may spell.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "the flags of the tokenizers library"
)]
pub struct AddedToken {
    /// What is spelt.
    pub content: String,
    /// Its row in the text encoder's table.
    pub id: u32,
    /// Whether it counts between other letters, or only as a word of its own.
    #[serde(default)]
    pub single_word: bool,
    /// Whether white space before it belongs to it.
    #[serde(default)]
    pub lstrip: bool,
    /// Whether white space after it belongs to it.
    #[serde(default)]
    pub rstrip: bool,
    /// Whether it is looked for in normalised text.
    #[serde(default)]
    pub normalized: bool,
}

/// The tokens that a checkpoint adds; usually none.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AddedTokens {
    /// By their ids.
    pub tokens: Vec<AddedToken>,
}

/// Why a tokenizer's added tokens cannot be used.
#[derive(Debug, Error)]
pub enum AddedTokensError {
    /// A file that cannot be read.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// A file that is no JSON.
    #[error("tokenizer/{file} is not valid JSON: {source}")]
    Syntax {
        /// The file.
        file: &'static str,
        /// The parser's own words.
        source: serde_json::Error,
    },
    /// A token that makes no sense.
    #[error("tokenizer/{file}: {problem}")]
    Bad {
        /// The file.
        file: &'static str,
        /// What is wrong, naming the key or the token.
        problem: String,
    },
    /// A token without a row in the text encoder.
    #[error(
        "the tokenizer adds '{token}' as token {id}, and the text encoder's vocab_size is {vocab_size}: take the text encoder that was trained with it, whose table was resized (resize_token_embeddings)"
    )]
    NoRow {
        /// The token.
        token: String,
        /// Its id.
        id: u32,
        /// Rows of the table.
        vocab_size: usize,
    },
}

/// What a vocabulary has before anything is added.
#[derive(Debug)]
pub struct BaseVocabulary {
    ids: HashMap<String, u32>,
    /// The first id that is free.
    size: u32,
}

impl BaseVocabulary {
    /// Of the pieces in the order of their ids.
    pub fn of<'a>(pieces: impl IntoIterator<Item = &'a str>) -> Self {
        let ids: HashMap<String, u32> = pieces.into_iter().map(str::to_owned).zip(0..).collect();
        let size = u32::try_from(ids.len()).unwrap_or(u32::MAX);
        Self { ids, size }
    }

    /// Of a `spiece.model`, which has no sentinels: transformers puts them after its pieces.
    pub fn of_sentencepiece(model: &SentencePieceModel) -> Self {
        Self::of(model.pieces().iter().map(|piece| piece.text.as_str()))
    }

    /// Of a `tokenizer.json`, which has them.
    pub fn of_tokenizer_json(vocabulary: &Vocabulary) -> Self {
        Self::of(vocabulary.pieces.iter().map(|piece| piece.text.as_str()))
    }
}

/// What of a `tokenizer.json` counts here.
#[derive(Deserialize)]
struct Tokenizer {
    #[serde(default)]
    added_tokens: Vec<Value>,
}

/// The JSON files of a tokenizer's folder.
struct Pages {
    config: Map<String, Value>,
    special_tokens_map: Map<String, Value>,
    added_tokens: Map<String, Value>,
    tokenizer: Vec<Value>,
}

const CONFIG: &str = "tokenizer_config.json";
const SPECIAL_TOKENS_MAP: &str = "special_tokens_map.json";
const ADDED_TOKENS: &str = "added_tokens.json";
const TOKENIZER: &str = "tokenizer.json";

impl AddedTokens {
    /// Reads what the tokenizer of the diffusers directory `checkpoint` adds to `base`. `tokenizer_json` is the tokenizer's own file,
    /// where it is of that form.
    ///
    /// # Errors
    /// When a file is damaged, or a token has no row in a table of `vocab_size`.
    pub fn of_checkpoint(
        checkpoint: &Path,
        base: &BaseVocabulary,
        tokenizer_json: Option<&[u8]>,
        vocab_size: usize,
    ) -> Result<Self, AddedTokensError> {
        let pages = Pages::read(&checkpoint.join("tokenizer"), tokenizer_json)?;
        let sentinels = match tokenizer_json {
            Some(_) => 0,
            None => pages.sentinels(base)?,
        };
        let mut free = base.size.saturating_add(sentinels);
        let marks = pages.marks();
        // A content that is there twice is one token, which the later one describes.
        let mut ids: HashMap<String, u32> = HashMap::new();
        let mut tokens: BTreeMap<u32, AddedToken> = BTreeMap::new();
        for found in pages.tokens()? {
            let known = base.ids.get(&found.content).copied();
            let is_sentinel = sentinels > 0 && found.content.starts_with("<extra_id_");
            if is_mark(&found.content) && (known.is_some() || is_sentinel) {
                continue;
            }
            let id = *ids.entry(found.content.clone()).or_insert_with(|| {
                known.unwrap_or_else(|| {
                    free = free.saturating_add(1);
                    free - 1
                })
            });
            if is_mark(&found.content) || marks.contains(&found.content) {
                continue;
            }
            tokens.insert(id, AddedToken { id, ..found });
        }
        let added = Self {
            tokens: tokens.into_values().collect(),
        };
        added.check_rows(vocab_size)?;
        Ok(added)
    }

    /// Reads the file of a model of ours.
    ///
    /// # Errors
    /// When it is damaged, or a token has no row in a table of `vocab_size`.
    pub fn from_json(text: &str, vocab_size: usize) -> Result<Self, AddedTokensError> {
        let file = ModelDirectory::ADDED_TOKENS
            .strip_prefix("tokenizer/")
            .unwrap_or(ModelDirectory::ADDED_TOKENS);
        let added: Self = serde_json::from_str(text)
            .map_err(|source| AddedTokensError::Syntax { file, source })?;
        let mut seen = HashSet::new();
        for token in &added.tokens {
            check_content(file, &token.content)?;
            if is_mark(&token.content) || !seen.insert(&token.content) {
                return Err(bad(file, format!("'{}' is no added token", token.content)));
            }
        }
        added.check_rows(vocab_size)?;
        Ok(added)
    }

    /// The file of a model of ours.
    ///
    /// # Errors
    /// None is known: the serialiser has a failing signature.
    pub fn to_json(&self) -> Result<String, serde_json::Error> {
        serde_json::to_string_pretty(self).map(|text| text + "\n")
    }

    /// Whether nothing is added.
    pub fn is_empty(&self) -> bool {
        self.tokens.is_empty()
    }

    fn check_rows(&self, vocab_size: usize) -> Result<(), AddedTokensError> {
        let beyond = |token: &&AddedToken| token.id as usize >= vocab_size;
        match self.tokens.iter().find(beyond) {
            Some(token) => Err(AddedTokensError::NoRow {
                token: token.content.clone(),
                id: token.id,
                vocab_size,
            }),
            None => Ok(()),
        }
    }
}

fn bad(file: &'static str, problem: impl Into<String>) -> AddedTokensError {
    AddedTokensError::Bad {
        file,
        problem: problem.into(),
    }
}

fn check_content(file: &'static str, content: &str) -> Result<(), AddedTokensError> {
    if content.trim().is_empty() || content.len() > SentencePieceModel::MAX_PIECE_BYTES {
        return Err(bad(
            file,
            "an added token is empty, white space, or longer than 256 bytes",
        ));
    }
    Ok(())
}

impl Pages {
    fn read(folder: &Path, tokenizer_json: Option<&[u8]>) -> Result<Self, AddedTokensError> {
        let page = |file: &'static str| -> Result<Map<String, Value>, AddedTokensError> {
            let path = folder.join(file);
            if !path.exists() {
                return Ok(Map::new());
            }
            from_python(&read_text(&path)?)
                .map_err(|source| AddedTokensError::Syntax { file, source })
        };
        let tokenizer = match tokenizer_json {
            Some(bytes) => {
                serde_json::from_slice::<Tokenizer>(bytes)
                    .map_err(|source| AddedTokensError::Syntax {
                        file: TOKENIZER,
                        source,
                    })?
                    .added_tokens
            }
            None => Vec::new(),
        };
        let pages = Self {
            config: page(CONFIG)?,
            special_tokens_map: page(SPECIAL_TOKENS_MAP)?,
            added_tokens: page(ADDED_TOKENS)?,
            tokenizer,
        };
        let decoder = pages.decoder().map_or(0, Map::len);
        if [decoder, pages.added_tokens.len(), pages.tokenizer.len()]
            .into_iter()
            .any(|count| count > MAX_TOKENS)
        {
            return Err(bad(CONFIG, format!("more than {MAX_TOKENS} added tokens")));
        }
        Ok(pages)
    }

    fn decoder(&self) -> Option<&Map<String, Value>> {
        self.config.get("added_tokens_decoder")?.as_object()
    }

    /// Sentinels that follow the pieces of a `spiece.model`.
    fn sentinels(&self, base: &BaseVocabulary) -> Result<u32, AddedTokensError> {
        let count = match self.config.get("extra_ids") {
            None | Some(Value::Null) => EXTRA_IDS,
            Some(value) => value
                .as_u64()
                .filter(|&count| count <= MAX_TOKENS as u64)
                .ok_or_else(|| bad(CONFIG, format!("extra_ids is {value}: it must be a count")))?,
        };
        let count = u32::try_from(count).unwrap_or_default();
        let there = (0..count).filter(|id| base.ids.contains_key(&format!("<extra_id_{id}>")));
        Ok(count - u32::try_from(there.count()).unwrap_or_default())
    }

    /// A text's own marks, which differ from words in that nobody is meant to spell them.
    fn marks(&self) -> HashSet<String> {
        let texts = MARKS.iter().filter_map(|key| content_of(self.named(key)?));
        texts.map(str::to_owned).collect()
    }

    /// A token that has a name, such as `pad_token`.
    fn named(&self, key: &str) -> Option<&Value> {
        let legacy = self.special_tokens_map.get(key);
        let legacy = legacy.filter(|_| self.decoder().is_none());
        legacy.or_else(|| self.config.get(key))
    }

    /// The lists of tokens that are special and have no name.
    fn special_lists(&self) -> impl Iterator<Item = &Value> {
        let own = tokens_of(&self.config, "extra_special_tokens");
        let own = if own.is_empty() {
            tokens_of(&self.config, "additional_special_tokens")
        } else {
            own
        };
        let legacy = if self.decoder().is_none() {
            // transformers 5 forgets the second of these on its way; 4, which wrote it, does not.
            let mut legacy = tokens_of(&self.special_tokens_map, "extra_special_tokens");
            legacy.extend(tokens_of(
                &self.special_tokens_map,
                "additional_special_tokens",
            ));
            legacy
        } else {
            Vec::new()
        };
        own.into_iter().chain(legacy)
    }

    /// Every token, in the order in which they are numbered.
    fn tokens(&self) -> Result<Vec<AddedToken>, AddedTokensError> {
        let mut numbered: BTreeMap<u64, AddedToken> = BTreeMap::new();
        for value in &self.tokenizer {
            let id = value.get("id").and_then(Value::as_u64);
            let id = id.ok_or_else(|| bad(TOKENIZER, "an added token has no id"))?;
            numbered.insert(id, AddedToken::of(TOKENIZER, value, false)?);
        }
        if let Some(decoder) = self.decoder() {
            for (id, value) in decoder {
                let id = id
                    .parse()
                    .map_err(|_| bad(CONFIG, format!("added_tokens_decoder: '{id}' is no id")))?;
                numbered.insert(id, AddedToken::of(CONFIG, value, false)?);
            }
        } else {
            let special: HashSet<&str> = self
                .special_lists()
                .chain(MARKS.iter().filter_map(|key| self.named(key)))
                .filter_map(content_of)
                .collect();
            for (content, id) in &self.added_tokens {
                let id = id
                    .as_u64()
                    .ok_or_else(|| bad(ADDED_TOKENS, format!("'{content}' has no id")))?;
                let is_special = special.contains(content.as_str());
                let found =
                    AddedToken::of(ADDED_TOKENS, &Value::from(content.as_str()), is_special)?;
                // What tokenizer.json says of it is more.
                numbered.entry(id).or_insert(found);
            }
        }
        let mut tokens: Vec<AddedToken> = numbered.into_values().collect();
        let mut seen: HashSet<String> = tokens.iter().map(|found| found.content.clone()).collect();
        let others = self.config.iter().filter(|(key, value)| {
            key.ends_with("_token") && !MARKS.contains(&key.as_str()) && content_of(value).is_some()
        });
        let special = MARKS
            .iter()
            .filter_map(|key| self.named(key))
            .chain(others.map(|(_, value)| value))
            .chain(self.special_lists());
        for value in special.filter(|value| content_of(value).is_some()) {
            let found = AddedToken::of(CONFIG, value, true)?;
            if seen.insert(found.content.clone()) {
                tokens.push(found);
            }
        }
        Ok(tokens)
    }
}

/// The tokens of a list, or of an object that names them.
fn tokens_of<'a>(page: &'a Map<String, Value>, key: &str) -> Vec<&'a Value> {
    match page.get(key) {
        Some(Value::Array(tokens)) => tokens.iter().collect(),
        Some(Value::Object(named)) => named.values().collect(),
        _ => Vec::new(),
    }
}

/// What a token spells: its text, or that of an object.
fn content_of(value: &Value) -> Option<&str> {
    value.as_str().or_else(|| value.get("content")?.as_str())
}

impl AddedToken {
    /// Reads a token, which has no id yet; one that says nothing else of itself is special or not as `special` says.
    fn of(file: &'static str, value: &Value, special: bool) -> Result<Self, AddedTokensError> {
        let content = content_of(value)
            .ok_or_else(|| bad(file, format!("{value} is no added token")))?
            .to_owned();
        check_content(file, &content)?;
        let flag = |key: &str| value.get(key).and_then(Value::as_bool);
        // A special token is looked for in the text as it is.
        let special = flag("special").unwrap_or(special);
        Ok(Self {
            content,
            id: 0,
            single_word: flag("single_word").unwrap_or(false),
            lstrip: flag("lstrip").unwrap_or(false),
            rstrip: flag("rstrip").unwrap_or(false),
            normalized: flag("normalized").unwrap_or(!special),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    const BASE: [&str; 5] = ["<pad>", "</s>", "<unk>", "▁a", "red"];

    fn read(files: &[(&str, &str)], vocab_size: usize) -> Result<AddedTokens, AddedTokensError> {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("tokenizer")).unwrap();
        for (name, text) in files {
            fs::write(folder.path().join("tokenizer").join(name), text).unwrap();
        }
        let base = BaseVocabulary::of(BASE);
        AddedTokens::of_checkpoint(folder.path(), &base, None, vocab_size)
    }

    fn ids(files: &[(&str, &str)]) -> Vec<(String, u32)> {
        let added = read(files, 1000).unwrap();
        assert_eq!(
            AddedTokens::from_json(&added.to_json().unwrap(), 1000).unwrap(),
            added
        );
        let tokens = added.tokens.into_iter();
        tokens.map(|token| (token.content, token.id)).collect()
    }

    #[test]
    fn tokens_follow_the_vocabulary_and_its_sentinels_in_the_order_of_their_ids() {
        let added = (
            ADDED_TOKENS,
            r#"{"<b>": 9, "<a>": 8, "red": 7, "<pad>": 0}"#,
        );
        let expected =
            [("red", 4), ("<a>", 105), ("<b>", 106)].map(|(text, id)| (text.to_owned(), id));
        assert_eq!(ids(&[added]), expected);
        let without = (CONFIG, r#"{"extra_ids": 0}"#);
        assert_eq!(ids(&[added, without])[1], ("<a>".to_owned(), 5));
        assert_eq!(ids(&[]), []);
    }

    #[test]
    fn marks_are_numbered_and_cannot_be_typed() {
        let config = r#"{"extra_ids": 0, "bos_token": "<begin>", "pad_token": "<pad>",
            "additional_special_tokens": ["<extra_id_0>", "<mine>"]}"#;
        assert_eq!(ids(&[(CONFIG, config)]), [("<mine>".to_owned(), 7)]);
    }

    #[test]
    fn special_tokens_of_the_map_are_there_with_their_flags() {
        let map = r#"{"additional_special_tokens": [{"content": "<mine>", "lstrip": true}]}"#;
        let added = read(&[(SPECIAL_TOKENS_MAP, map)], 1000).unwrap();
        let token = &added.tokens[0];
        assert_eq!(
            (token.id, token.lstrip, token.normalized),
            (105, true, false)
        );
    }

    #[test]
    fn what_makes_no_sense_is_refused_by_its_file() {
        for (files, words) in [
            (
                [(ADDED_TOKENS, r#"{"<a>": "x"}"#)],
                "added_tokens.json: '<a>' has no id",
            ),
            ([(ADDED_TOKENS, "{")], "added_tokens.json is not valid JSON"),
            ([(ADDED_TOKENS, r#"{" ": 3}"#)], "white space"),
            (
                [(
                    CONFIG,
                    r#"{"added_tokens_decoder": {"x": {"content": "a"}}}"#,
                )],
                "'x' is no id",
            ),
            ([(CONFIG, r#"{"extra_ids": -1}"#)], "extra_ids is -1"),
            ([(ADDED_TOKENS, r#"{"<a>": 9}"#)], "'<a>' as token 105"),
        ] {
            let error = read(&files, 105).unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        }
        let twice = r#"{"tokens": [{"content": "a", "id": 1}, {"content": "a", "id": 2}]}"#;
        AddedTokens::from_json(twice, 1000).unwrap_err();
        let mark = r#"{"tokens": [{"content": "</s>", "id": 1}]}"#;
        AddedTokens::from_json(mark, 1000).unwrap_err();
    }
}
