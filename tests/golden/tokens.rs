//! Token ids against transformers' `T5Tokenizer` on the sketchbook vocabulary, from both of its file formats.

use std::collections::HashMap;

use pixart::model::sentencepiece::{PieceKind, SentencePieceModel};
use pixart::pipeline::tokenizer::PromptTokenizer;
use serde::Deserialize;
use tokenizers::models::unigram::Unigram;
use tokenizers::normalizers::precompiled::Precompiled;
use tokenizers::pre_tokenizers::PreTokenizerWrapper;
use tokenizers::pre_tokenizers::metaspace::{Metaspace, PrependScheme};
use tokenizers::pre_tokenizers::sequence::Sequence;
use tokenizers::pre_tokenizers::whitespace::WhitespaceSplit;
use tokenizers::processors::template::TemplateProcessing;
use tokenizers::{AddedToken, Tokenizer, TruncationParams};

const SPIECE: &[u8] = include_bytes!("../../models/sketchbook/tokenizer/spiece.model");
const MAX_TOKENS: usize = 120;

#[derive(Deserialize)]
struct Line {
    text: String,
    ids: Vec<i64>,
}

fn from_spiece() -> PromptTokenizer {
    PromptTokenizer::from_sentencepiece(SPIECE, MAX_TOKENS).unwrap()
}

/// The file that transformers would save: the same vocabulary with added tokens, a template and truncation.
fn tokenizer_json() -> String {
    let model = SentencePieceModel::parse(SPIECE).unwrap();
    let vocab = model
        .pieces()
        .iter()
        .map(|piece| (piece.text.clone(), f64::from(piece.score)))
        .collect();
    let mut tokenizer = Tokenizer::new(Unigram::from(vocab, Some(model.unk_id()), false).unwrap());
    let _ = tokenizer.with_normalizer(
        model
            .charsmap()
            .map(|map| Precompiled::from(map.as_bytes()).unwrap()),
    );
    tokenizer.with_pre_tokenizer(Some(Sequence::new(vec![
        PreTokenizerWrapper::from(WhitespaceSplit),
        Metaspace::new('▁', PrependScheme::Always, true).into(),
    ])));
    tokenizer.with_post_processor(Some(
        TemplateProcessing::builder()
            .try_single("$A </s>")
            .unwrap()
            .special_tokens(vec![("</s>", u32::try_from(model.eos_id()).unwrap())])
            .build()
            .unwrap(),
    ));
    tokenizer
        .with_truncation(Some(TruncationParams {
            max_length: 7,
            ..TruncationParams::default()
        }))
        .unwrap();
    let specials = ["</s>", "<unk>", "<pad>", "<extra_id_0>"];
    tokenizer
        .add_special_tokens(specials.map(|text| AddedToken::from(text, true)))
        .unwrap();
    tokenizer.to_string(false).unwrap()
}

fn assert_equal_on_every_line(tokenizer: &PromptTokenizer) {
    let lines: Vec<Line> = super::lines("tokens.jsonl");
    assert!(lines.len() >= 100, "only {} lines", lines.len());
    for line in lines {
        let tokens = tokenizer.encode(&line.text).unwrap();
        assert_eq!(tokens.ids, line.ids, "{:?}", line.text);
    }
}

#[test]
fn ids_from_spiece_model_equal_the_reference() {
    assert_equal_on_every_line(&from_spiece());
}

#[test]
fn ids_from_tokenizer_json_equal_the_reference() {
    let json = tokenizer_json();
    let tokenizer = PromptTokenizer::from_tokenizer_json(json.as_bytes(), MAX_TOKENS).unwrap();
    assert_equal_on_every_line(&tokenizer);
}

#[test]
fn prompts_that_spell_special_tokens_reach_none() {
    let model = SentencePieceModel::parse(SPIECE).unwrap();
    let special: HashMap<i64, &str> = (0..)
        .zip(model.pieces())
        .filter(|(_, piece)| matches!(piece.kind, PieceKind::Control | PieceKind::UserDefined))
        .map(|(id, piece)| (id, piece.text.as_str()))
        .collect();
    let lines: Vec<Line> = super::lines("tokens_special.jsonl");
    assert!(!lines.is_empty());
    let json = tokenizer_json();
    for tokenizer in [
        from_spiece(),
        PromptTokenizer::from_tokenizer_json(json.as_bytes(), MAX_TOKENS).unwrap(),
    ] {
        for line in &lines {
            let tokens = tokenizer.encode(&line.text).unwrap();
            let (eos, rest) = tokens.ids.split_last().unwrap();
            assert_eq!(*eos, tokenizer.eos_id());
            for id in rest {
                assert!(
                    !special.contains_key(id),
                    "{:?} became {}",
                    line.text,
                    special[id]
                );
                assert!(*id < i64::try_from(model.pieces().len()).unwrap());
            }
        }
    }
}
