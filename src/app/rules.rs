//! What a model's pages say, beside its networks: how prompts are read, and which noise is walked.

use std::path::PathBuf;

use anyhow::{Context as _, Result};

use super::Parts;
use crate::model::sentencepiece::SentencePieceModel;
use crate::model::tokenizer_json::Vocabulary;
use crate::model::{
    AddedTokens, AddedTokensError, BaseVocabulary, ModelError, SchedulerConfig, read_bytes,
    read_text,
};
use crate::pipeline::tokenizer::{PromptTokenizer, TokenizerError};

/// What draws, read.
pub(super) struct Rules {
    pub(super) tokenizer: PromptTokenizer,
    pub(super) scheduler: SchedulerConfig,
}

/// Where it stands what a checkpoint adds to its tokenizer's vocabulary.
pub(super) enum Added {
    /// Nothing is added.
    Nothing,
    /// In a file of a model of ours.
    InFile(PathBuf),
    /// In the files of a diffusers directory.
    ByCheckpoint(PathBuf),
}

impl Rules {
    pub(super) fn read(parts: &Parts) -> Result<Self> {
        let path = &parts.tokenizer;
        let bytes = read_bytes(path, SentencePieceModel::MAX_BYTES)?;
        let is_json = path.extension().is_some_and(|ending| ending == "json");
        let tokenizer = tokenizer(&bytes, is_json, parts.max_tokens)
            .with_context(|| format!("{} cannot be used", path.display()))?;
        let added = added_tokens(parts, &bytes, is_json)?;
        let tokenizer = tokenizer
            .adding(&added)
            .with_context(|| format!("{} cannot be used", path.display()))?;
        if tokenizer.vocab_size() > parts.vocab_size {
            return Err(ModelError::TokenizerTooLarge {
                path: path.clone(),
                pieces: tokenizer.vocab_size(),
                vocab_size: parts.vocab_size,
            }
            .into());
        }
        let text = read_text(&parts.scheduler)?;
        let scheduler = SchedulerConfig::from_json(&text)
            .with_context(|| format!("{} cannot be used", parts.scheduler.display()))?;
        Ok(Self {
            tokenizer,
            scheduler,
        })
    }
}

fn tokenizer(
    bytes: &[u8],
    is_json: bool,
    max_tokens: usize,
) -> Result<PromptTokenizer, TokenizerError> {
    if is_json {
        PromptTokenizer::from_tokenizer_json(bytes, max_tokens)
    } else {
        PromptTokenizer::from_sentencepiece(bytes, max_tokens)
    }
}

fn added_tokens(parts: &Parts, bytes: &[u8], is_json: bool) -> Result<AddedTokens> {
    let rows = parts.vocab_size;
    let found: Result<AddedTokens, AddedTokensError> = match &parts.added_tokens {
        Added::Nothing => return Ok(AddedTokens::default()),
        Added::InFile(path) => AddedTokens::from_json(&read_text(path)?, rows),
        Added::ByCheckpoint(folder) => {
            let base = if is_json {
                let vocabulary = Vocabulary::from_tokenizer_json(bytes)?;
                BaseVocabulary::of_tokenizer_json(&vocabulary)
            } else {
                BaseVocabulary::of_sentencepiece(&SentencePieceModel::parse(bytes)?)
            };
            AddedTokens::of_checkpoint(folder, &base, is_json.then_some(bytes), rows)
        }
    };
    Ok(found?)
}
