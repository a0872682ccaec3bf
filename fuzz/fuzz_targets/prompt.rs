//! Any text as a prompt, cleaned and not, on the sketchbook vocabulary.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use pixart::pipeline::{caption::preprocess, tokenizer::PromptTokenizer};

static TOKENIZER: LazyLock<PromptTokenizer> = LazyLock::new(|| {
    let bytes = include_bytes!("../../models/sketchbook/tokenizer/spiece.model");
    PromptTokenizer::from_sentencepiece(bytes, 120).expect("the shipped vocabulary is sound")
});

fuzz_target!(|text: &str| {
    for text in [preprocess(text, false), preprocess(text, true)] {
        let tokens = TOKENIZER.encode(&text).expect("any text encodes");
        let (eos, rest) = tokens.ids.split_last().expect("the end mark");
        assert!(*eos == 1 && rest.iter().all(|&id| id > 1) && rest.len() < 120);
    }
});
