//! Token ids against transformers' `T5Tokenizer` on the sketchbook vocabulary, from both of its file formats.

use std::collections::{BTreeMap, HashMap};

use pixart::model::sentencepiece::{PieceKind, SentencePieceModel};
use pixart::model::tokenizer_json::Vocabulary;
use pixart::model::{AddedTokens, BaseVocabulary};
use pixart::pipeline::tokenizer::PromptTokenizer;
use serde::Deserialize;
use serde_json::json;
use tokenizers::models::unigram::Unigram;
use tokenizers::normalizers::precompiled::Precompiled;
use tokenizers::normalizers::replace::{Replace, ReplacePattern};
use tokenizers::normalizers::strip::Strip;
use tokenizers::normalizers::{self, NormalizerWrapper};
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

/// What a `tokenizer.json` of T5 cuts words with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    /// transformers 5, and 4 in its early days: white space, then `▁` before each word.
    WhitespaceSplit,
    /// transformers 4 of a `T5Tokenizer` with `legacy=True`: spaces, after a strip and a replacement.
    Always,
    /// The same with `legacy=False`, as FLUX.1 and SD3 ship it.
    First,
    /// `Metaspace` and nothing before it.
    Bare,
}

impl Form {
    const ALL: [Self; 4] = [Self::WhitespaceSplit, Self::Always, Self::First, Self::Bare];
}

/// The file that transformers would save: the same vocabulary with added tokens, a template and truncation.
fn tokenizer_json(form: Form) -> String {
    reference(form, &["</s>", "<unk>", "<pad>", "<extra_id_0>"])
        .to_string(false)
        .unwrap()
}

/// The tokenizer of the `tokenizers` library.
fn reference(form: Form, specials: &[&str]) -> Tokenizer {
    let model = SentencePieceModel::parse(SPIECE).unwrap();
    let vocab = model
        .pieces()
        .iter()
        .map(|piece| (piece.text.clone(), f64::from(piece.score)))
        .collect();
    let mut tokenizer = Tokenizer::new(Unigram::from(vocab, Some(model.unk_id()), false).unwrap());
    let map = model.charsmap().unwrap();
    let map = NormalizerWrapper::from(Precompiled::from(map.as_bytes()).unwrap());
    let steps = match form {
        Form::WhitespaceSplit | Form::Bare => vec![map],
        Form::Always | Form::First => {
            let several = ReplacePattern::Regex(" {2,}".to_owned());
            vec![
                map,
                Strip::new(false, true).into(),
                Replace::new(several, "▁").unwrap().into(),
            ]
        }
    };
    let _ = tokenizer.with_normalizer(Some(normalizers::Sequence::new(steps)));
    let metaspace = |scheme| PreTokenizerWrapper::from(Metaspace::new('▁', scheme, true));
    tokenizer.with_pre_tokenizer(Some(match form {
        Form::WhitespaceSplit => PreTokenizerWrapper::from(Sequence::new(vec![
            PreTokenizerWrapper::from(WhitespaceSplit),
            metaspace(PrependScheme::Always),
        ])),
        Form::Always | Form::Bare => metaspace(PrependScheme::Always),
        Form::First => metaspace(PrependScheme::First),
    }));
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
    let specials = specials.iter().map(|text| AddedToken::from(*text, true));
    tokenizer.add_special_tokens(specials).unwrap();
    tokenizer
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
    // The other forms keep white space that is no space, which the reference cuts at.
    let json = tokenizer_json(Form::WhitespaceSplit);
    let tokenizer = PromptTokenizer::from_tokenizer_json(json.as_bytes(), MAX_TOKENS).unwrap();
    assert_equal_on_every_line(&tokenizer);
}

/// Held to the `tokenizers` library itself, which reads the very file. What is typed as a special token is left out: it is one there.
#[test]
fn ids_from_every_form_of_tokenizer_json_are_those_of_the_library_that_wrote_it() {
    let mut texts: Vec<String> = super::lines::<Line>("tokens.jsonl")
        .into_iter()
        .map(|line| line.text)
        .collect();
    let odd = [
        "",
        " ",
        "   ",
        "a",
        " a",
        "a ",
        "  a  b  ",
        "a\tb",
        "a\u{a0}b",
        "a\u{3000}\u{3000}b",
        "\u{2028}a\u{85}b\u{85}",
        "▁",
        "a▁b",
        "a ▁ b",
        "▁▁a",
        "a   ▁b ",
        "\n\na cat\n",
        "a\u{200b}b",
        "a \u{1680} b\u{1680}",
    ];
    texts.extend(odd.map(str::to_owned));
    for form in Form::ALL {
        let json = tokenizer_json(form);
        let ours = PromptTokenizer::from_tokenizer_json(json.as_bytes(), 100_000).unwrap();
        let mut library = reference(form, &[]);
        library.with_truncation(None).unwrap();
        for text in &texts {
            let expected = library.encode(text.as_str(), true).unwrap();
            let expected: Vec<i64> = expected.get_ids().iter().map(|&id| id.into()).collect();
            assert_eq!(
                ours.encode(text).unwrap().ids,
                expected,
                "{form:?}: {text:?}"
            );
        }
    }
}

#[derive(Deserialize)]
struct Adding {
    files: BTreeMap<String, serde_json::Value>,
    lines: Vec<Line>,
}

/// What a tokenizer's files beside `spiece.model` add to it.
fn added(files: &BTreeMap<String, serde_json::Value>) -> AddedTokens {
    let checkpoint = tempfile::tempdir().unwrap();
    let folder = checkpoint.path().join("tokenizer");
    std::fs::create_dir(&folder).unwrap();
    let own = super::path("../../models/sketchbook/tokenizer");
    for name in ["tokenizer_config.json", "special_tokens_map.json"] {
        std::fs::copy(own.join(name), folder.join(name)).unwrap();
    }
    for (name, content) in files {
        std::fs::write(folder.join(name), content.to_string()).unwrap();
    }
    let base = BaseVocabulary::of_sentencepiece(&SentencePieceModel::parse(SPIECE).unwrap());
    AddedTokens::of_checkpoint(checkpoint.path(), &base, None, 1000).unwrap()
}

#[test]
fn added_tokens_have_the_ids_that_the_reference_gives_them() {
    let cases: Vec<Adding> = serde_json::from_value(super::read_json("added_tokens.json")).unwrap();
    assert!(cases.len() >= 12);
    for case in cases {
        let added = added(&case.files);
        assert!(!added.is_empty(), "{:?}", case.files);
        let tokenizer = from_spiece().adding(&added).unwrap();
        for line in case.lines {
            let tokens = tokenizer.encode(&line.text).unwrap();
            assert_eq!(
                tokens.ids, line.ids,
                "{:?} with {:?}",
                line.text, case.files
            );
        }
    }
}

#[test]
fn added_tokens_that_do_not_occur_change_nothing() {
    let added = added(&[("added_tokens.json".to_owned(), json!({"<never>": 489}))].into());
    assert_equal_on_every_line(&from_spiece().adding(&added).unwrap());
}

/// As above, held to the library, which reads the very file.
#[test]
fn added_tokens_of_every_form_of_tokenizer_json_are_those_of_the_library() {
    let words = || {
        [
            AddedToken::from("<new>", false),
            AddedToken::from("<left>", false).lstrip(true),
            AddedToken::from("<right>", true).rstrip(true),
            AddedToken::from("word", false).single_word(true),
            AddedToken::from("ﬁx", false),
            AddedToken::from("a red", false),
        ]
    };
    let texts = [
        "",
        " ",
        "<new>",
        "a<new>cat",
        " a <new>  cat ",
        "<new><new>",
        "<left> <right> <left>",
        "a  <left>  b",
        "a  <right>  b",
        "cat<right>  ",
        "word words sword word",
        "fix ﬁx afix",
        "a red cat",
        "a  red",
        "  <new>",
        "▁<new>▁a",
        "a\u{a0}<left>\u{3000}b",
        "red<new> sun ",
    ];
    for form in Form::ALL {
        let mut library = reference(form, &["</s>", "<unk>", "<pad>"]);
        library.with_truncation(None).unwrap();
        library.add_tokens(words()).unwrap();
        let json = library.to_string(false).unwrap();
        let vocabulary = Vocabulary::from_tokenizer_json(json.as_bytes()).unwrap();
        let base = BaseVocabulary::of_tokenizer_json(&vocabulary);
        let nowhere = tempfile::tempdir().unwrap();
        let added =
            AddedTokens::of_checkpoint(nowhere.path(), &base, Some(json.as_bytes()), 1000).unwrap();
        assert_eq!(added.tokens.len(), words().len());
        let ours = PromptTokenizer::from_tokenizer_json(json.as_bytes(), 100_000)
            .unwrap()
            .adding(&added)
            .unwrap();
        for text in texts {
            let expected = library.encode(text, true).unwrap();
            let expected: Vec<i64> = expected.get_ids().iter().map(|&id| id.into()).collect();
            assert_eq!(
                ours.encode(text).unwrap().ids,
                expected,
                "{form:?}: {text:?}"
            );
        }
    }
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
    let of_json = Form::ALL.map(|form| {
        let json = tokenizer_json(form);
        PromptTokenizer::from_tokenizer_json(json.as_bytes(), MAX_TOKENS).unwrap()
    });
    for tokenizer in of_json.into_iter().chain([from_spiece()]) {
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
