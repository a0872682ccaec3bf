//! Prompt text after preprocessing against diffusers' `_text_preprocessing`, with and without caption cleaning.

use pixart::pipeline::caption::preprocess;
use serde::Deserialize;

#[derive(Deserialize)]
struct Line {
    text: String,
    cleaned: String,
}

fn assert_equal_on_every_line(fixture: &str, clean_caption: bool) {
    let lines: Vec<Line> = super::lines(fixture);
    assert!(lines.len() >= 100, "only {} lines", lines.len());
    let different: Vec<String> = lines
        .iter()
        .map(|line| (line, preprocess(&line.text, clean_caption)))
        .filter(|(line, got)| *got != line.cleaned)
        .map(|(line, got)| {
            format!(
                "{:?}\n  expected {:?}\n  got      {got:?}",
                line.text, line.cleaned
            )
        })
        .collect();
    assert!(
        different.is_empty(),
        "{} of {}:\n{}",
        different.len(),
        lines.len(),
        different.join("\n")
    );
}

#[test]
fn cleaned_captions_equal_the_reference() {
    assert_equal_on_every_line("captions.jsonl", true);
}

#[test]
fn lowered_prompts_equal_the_reference() {
    assert_equal_on_every_line("preprocess.jsonl", false);
}
