//! Tokens that a checkpoint adds to its tokenizer: they travel with the model, and are held against the text encoder's table.

use std::fs;

use pixart::model::ModelDirectory;
use serde_json::{Value, json};

use super::Attempt;
use crate::support::{change_json, outcome, pixart};

const CONFIG: &str = "tokenizer/tokenizer_config.json";

impl Attempt {
    /// With sketchbook's pieces and no sentinels, in a table of 750 rows.
    fn adding(tokens: &Value) -> Self {
        let attempt = Self::new();
        if !attempt.file(CONFIG).exists() {
            fs::write(attempt.file(CONFIG), "{}").unwrap();
        }
        change_json(&attempt.file(CONFIG), |config| {
            config["extra_ids"] = json!(0);
        });
        fs::write(
            attempt.file("tokenizer/added_tokens.json"),
            tokens.to_string(),
        )
        .unwrap();
        attempt
    }
}

#[test]
fn added_tokens_travel_with_the_model_and_are_read() {
    let attempt = Attempt::adding(&json!({"<my-style>": 489, "</s>": 1}));
    let manifest = attempt.converted();
    let entry = &manifest.files[ModelDirectory::ADDED_TOKENS];
    let text = fs::read_to_string(attempt.output().join(ModelDirectory::ADDED_TOKENS)).unwrap();
    assert_eq!(entry.bytes, text.len() as u64);
    let added: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(added["tokens"][0]["content"], "<my-style>");
    assert_eq!(added["tokens"][0]["id"], 489);
    assert_eq!(added["tokens"].as_array().unwrap().len(), 1);

    // A prompt of so many words is cut, and says how many tokens it has.
    let mut command = pixart();
    command
        .args(["generate", &"<my-style> ".repeat(130)])
        .args(["--size", "32x32", "--no-resolution-binning"])
        .args(["--steps", "1", "--seed", "1", "--model"])
        .arg(attempt.output())
        .arg("--output")
        .arg(attempt.outputs.path().join("image.png"));
    let done = outcome(&mut command).done();
    let said = done.stdout + &done.stderr;
    assert!(said.contains("was cut: 131 tokens"), "{said}");
}

#[test]
fn a_checkpoint_that_adds_nothing_has_no_file_of_it() {
    for tokens in [json!({}), json!({"<pad>": 0, "<extra_id_0>": 489})] {
        let manifest = Attempt::adding(&tokens).converted();
        assert!(!manifest.files.contains_key(ModelDirectory::ADDED_TOKENS));
    }
}

#[test]
fn an_added_token_without_a_row_in_the_text_encoder_is_refused() {
    let tokens = (0..262).map(|number| (format!("<t{number:03}>"), json!(489 + number)));
    let attempt = Attempt::adding(&Value::Object(tokens.collect()));
    attempt.refused(&["'<t261>'", "token 750", "vocab_size is 750"]);
}

#[test]
fn files_of_added_tokens_that_make_no_sense_are_refused_by_name() {
    Attempt::adding(&json!([1])).refused(&["tokenizer/added_tokens.json", "JSON"]);
    Attempt::adding(&json!({"<a>": "x"})).refused(&["tokenizer/added_tokens.json", "'<a>'"]);
    let attempt = Attempt::adding(&json!({}));
    change_json(&attempt.file(CONFIG), |config| {
        config["added_tokens_decoder"] = json!({"489": {"content": ""}});
    });
    attempt.refused(&[CONFIG, "empty"]);
}
