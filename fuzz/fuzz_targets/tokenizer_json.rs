//! Any bytes as `tokenizer.json`: refused or read, and what was read encodes.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pixart::pipeline::tokenizer::PromptTokenizer;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(tokenizer) = PromptTokenizer::from_tokenizer_json(bytes, 120) {
        let _ = tokenizer.encode("a red circle, ½ ﬁ 猫 </s>");
    }
});
