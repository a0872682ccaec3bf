//! Captions to calibrate with, from a file in any of three forms, or those that come along.
//!
//! | form | known by | taken |
//! |---|---|---|
//! | JSON lines | the first line is an object | `caption` or `prompt`, and `negative_prompt` |
//! | CSV, TSV | a first line with a column `caption`, `prompt` or `text`; or two columns, the second an address, as Conceptual Captions has it | that column, and `negative_prompt` |
//! | text | anything else | each line |

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use sha2::{Digest, Sha256};
use thiserror::Error;

use crate::domain::{InvalidRequest, Prompt};
use crate::model::hex;

/// Longest file taken: all of Conceptual Captions has 400 MB.
const MAX_BYTES: u64 = 1 << 30;
/// Columns that hold captions, in the order in which they are looked for.
const CAPTION_COLUMNS: [&str; 3] = ["caption", "prompt", "text"];
/// Captions for whatever model has none of its own.
const BUILT_IN: &str = include_str!("captions.txt");

/// What to draw, and what to keep away from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caption {
    /// The prompt.
    pub prompt: Prompt,
    /// The negative prompt, where the file has one.
    pub negative_prompt: Option<Prompt>,
}

/// Why a file of captions cannot be used.
#[derive(Debug, Error)]
pub enum CaptionsError {
    /// The file cannot be read.
    #[error("cannot read {path}: {source}", path = path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file is no text.
    #[error("{path} is no text file of captions ({detail}): give one caption a line, JSON lines, or CSV with a column 'caption'", path = path.display())]
    NotText {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        detail: String,
    },
    /// There is no caption in it.
    #[error("{path} has no caption: give one a line, JSON lines, or CSV with a column 'caption'", path = path.display())]
    Empty {
        /// The file.
        path: PathBuf,
    },
    /// A line is not in the form of those before it.
    #[error("{path}, line {line}: {detail}", path = path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// Counted from 1.
        line: u64,
        /// What is wrong.
        detail: String,
    },
    /// A caption that no prompt may be.
    #[error("{path}, line {line}: {source}: shorten the caption, or take it out", path = path.display())]
    Caption {
        /// The file.
        path: PathBuf,
        /// Counted from 1.
        line: u64,
        /// Why.
        source: InvalidRequest,
    },
    /// Fewer captions than pictures.
    #[error("{path} has {found} captions and --samples asks for {wanted}: give more, or ask for --samples {found}", path = path.display())]
    TooFew {
        /// The file.
        path: PathBuf,
        /// How many it has.
        found: usize,
        /// How many are asked for.
        wanted: usize,
    },
}

/// The first `count` captions of a file.
///
/// # Errors
/// When it has fewer, or a line up to there makes no sense.
pub fn read_captions(path: &Path, count: usize) -> Result<Vec<Caption>, CaptionsError> {
    let read = |source| CaptionsError::Read {
        path: path.to_owned(),
        source,
    };
    let length = fs::metadata(path).map_err(read)?.len();
    let not_text = |detail: String| CaptionsError::NotText {
        path: path.to_owned(),
        detail,
    };
    if length > MAX_BYTES {
        return Err(not_text(format!("longer than {MAX_BYTES} bytes")));
    }
    let bytes = fs::read(path).map_err(read)?;
    let text = String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        not_text(format!("byte {at} is not UTF-8"))
    })?;
    if let Some(at) = text.find('\0') {
        return Err(not_text(format!("byte {at} is zero")));
    }
    let captions = parse(&text, count).map_err(|fault| fault.in_file(path))?;
    if captions.is_empty() {
        return Err(CaptionsError::Empty {
            path: path.to_owned(),
        });
    }
    if captions.len() < count {
        return Err(CaptionsError::TooFew {
            path: path.to_owned(),
            found: captions.len(),
            wanted: count,
        });
    }
    Ok(captions)
}

/// The first `count` of the captions that come along; they begin again where more are asked for than there are.
pub fn built_in_captions(count: usize) -> Vec<Caption> {
    let captions: Vec<Caption> = BUILT_IN
        .lines()
        .filter_map(|line| {
            Some(Caption {
                prompt: Prompt::new(line).ok()?,
                negative_prompt: None,
            })
        })
        .collect();
    captions.into_iter().cycle().take(count).collect()
}

/// One digest for captions in their order.
pub fn captions_digest(captions: &[Caption]) -> String {
    let mut digest = Sha256::new();
    for caption in captions {
        let negative = caption.negative_prompt.as_ref().map_or("", Prompt::as_str);
        for text in [caption.prompt.as_str(), negative] {
            digest.update((text.len() as u64).to_le_bytes());
            digest.update(text);
        }
    }
    hex(&digest.finalize())
}

/// What is wrong with a line.
#[derive(Debug)]
struct Fault {
    line: u64,
    what: What,
}

#[derive(Debug)]
enum What {
    Form(String),
    Caption(InvalidRequest),
}

impl Fault {
    fn in_file(self, path: &Path) -> CaptionsError {
        let (path, line) = (path.to_owned(), self.line);
        match self.what {
            What::Form(detail) => CaptionsError::Line { path, line, detail },
            What::Caption(source) => CaptionsError::Caption { path, line, source },
        }
    }
}

fn form(line: u64, detail: impl Into<String>) -> Fault {
    Fault {
        line,
        what: What::Form(detail.into()),
    }
}

fn caption(line: u64, prompt: &str, negative: Option<&str>) -> Result<Caption, Fault> {
    let prompt_of = |text: &str| {
        Prompt::new(text.trim()).map_err(|error| Fault {
            line,
            what: What::Caption(error),
        })
    };
    Ok(Caption {
        prompt: prompt_of(prompt)?,
        negative_prompt: negative
            .filter(|text| !text.trim().is_empty())
            .map(prompt_of)
            .transpose()?,
    })
}

fn parse(text: &str, count: usize) -> Result<Vec<Caption>, Fault> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let Some(first) = text.lines().find(|line| !line.trim().is_empty()) else {
        return Ok(Vec::new());
    };
    if first.trim_start().starts_with('{') {
        return json_lines(text, count);
    }
    for delimiter in [',', '\t', ';'] {
        let columns: Vec<String> = first
            .split(delimiter)
            .map(|column| column.trim().trim_matches('"').to_lowercase())
            .collect();
        let named = CAPTION_COLUMNS
            .iter()
            .find_map(|name| columns.iter().position(|column| column == name));
        if let Some(place) = named {
            let negative = columns
                .iter()
                .position(|column| column == "negative_prompt");
            return table(text, count, Columns::named(delimiter, place, negative));
        }
    }
    let is_address = |text: &str| text.starts_with("http://") || text.starts_with("https://");
    match first.split_once('\t') {
        Some((_, second)) if is_address(second.trim()) => {
            table(text, count, Columns::without_names('\t'))
        }
        _ => plain_lines(text, count),
    }
}

fn plain_lines(text: &str, count: usize) -> Result<Vec<Caption>, Fault> {
    numbered(text)
        .take(count)
        .map(|(number, line)| {
            if line.starts_with('{') && serde_json::from_str::<serde_json::Value>(line).is_ok() {
                return Err(form(
                    number,
                    "a JSON object among lines of plain text: the file is to have one form",
                ));
            }
            caption(number, line, None)
        })
        .collect()
}

fn json_lines(text: &str, count: usize) -> Result<Vec<Caption>, Fault> {
    #[derive(Deserialize)]
    struct Line {
        #[serde(alias = "prompt", alias = "text")]
        caption: String,
        negative_prompt: Option<String>,
    }
    numbered(text)
        .take(count)
        .map(|(number, line)| {
            let line: Line = serde_json::from_str(line).map_err(|error| {
                form(
                    number,
                    format!("no JSON object with a \"caption\" ({error})"),
                )
            })?;
            caption(number, &line.caption, line.negative_prompt.as_deref())
        })
        .collect()
}

/// Lines that have something, with their numbers.
fn numbered(text: &str) -> impl Iterator<Item = (u64, &str)> {
    (1..)
        .zip(text.lines().map(str::trim))
        .filter(|(_, line)| !line.is_empty())
}

/// Where a table has what.
struct Columns {
    delimiter: u8,
    has_names: bool,
    caption: usize,
    negative: Option<usize>,
}

impl Columns {
    fn named(delimiter: char, caption: usize, negative: Option<usize>) -> Self {
        Self {
            delimiter: u8::try_from(delimiter).expect("ASCII"),
            has_names: true,
            caption,
            negative,
        }
    }

    fn without_names(delimiter: char) -> Self {
        Self {
            has_names: false,
            ..Self::named(delimiter, 0, None)
        }
    }
}

fn table(text: &str, count: usize, columns: Columns) -> Result<Vec<Caption>, Fault> {
    let mut reader = csv::ReaderBuilder::new()
        .delimiter(columns.delimiter)
        .has_headers(columns.has_names)
        .from_reader(text.as_bytes());
    let mut captions = Vec::new();
    for record in reader.records() {
        if captions.len() == count {
            break;
        }
        let record = record.map_err(|error| {
            let line = error.position().map_or(1, csv::Position::line);
            form(
                line,
                "another number of columns than the lines before: the file is to have one form",
            )
        })?;
        let line = record.position().map_or(1, csv::Position::line);
        let prompt = record.get(columns.caption).unwrap_or_default();
        if prompt.trim().is_empty() {
            return Err(form(line, "the caption is empty"));
        }
        let negative = columns.negative.and_then(|place| record.get(place));
        captions.push(caption(line, prompt, negative)?);
    }
    Ok(captions)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn prompts(text: &str) -> Vec<String> {
        parse(text, 10)
            .unwrap_or_else(|fault| panic!("{}", fault.in_file(Path::new("captions"))))
            .into_iter()
            .map(|caption| caption.prompt.as_str().to_owned())
            .collect()
    }

    fn refusal(text: &str) -> String {
        parse(text, 10)
            .map(|captions| captions.len())
            .expect_err("refused")
            .in_file(Path::new("captions"))
            .to_string()
    }

    #[test]
    fn every_form_gives_its_captions() {
        let expected = ["a fox", "a red, round ball"];
        for text in [
            "a fox\n\n  a red, round ball  \n",
            "\u{feff}a fox\r\na red, round ball\r\n",
            "{\"caption\": \"a fox\"}\n{\"prompt\": \"a red, round ball\", \"negative_prompt\": \"blue\"}",
            "id,Caption\n1,a fox\n2,\"a red, round ball\"\n",
            "image\tTEXT\nx.png\ta fox\ny.png\ta red, round ball\n",
            "a fox\thttps://example.org/1\na red, round ball\thttps://example.org/2\n",
        ] {
            assert_eq!(prompts(text), expected, "{text}");
        }
        let negative = parse("{\"caption\": \"a\", \"negative_prompt\": \"blue\"}", 1);
        let negative = negative.ok().unwrap().remove(0).negative_prompt.unwrap();
        assert_eq!(negative.as_str(), "blue");
        assert_eq!(
            prompts("caption\n\"two\nlines, \"\"quoted\"\"\"\n"),
            ["two\nlines, \"quoted\""]
        );
    }

    #[test]
    fn mixed_forms_are_refused_by_line() {
        for (text, line) in [
            ("a fox\n{\"caption\": \"a dog\"}", "line 2"),
            ("{\"caption\": \"a fox\"}\na dog", "line 2"),
            ("{\"title\": \"a fox\"}", "line 1"),
            ("id,caption\n1,a fox\n2,a dog,extra\n", "line 3"),
            ("id,caption\n1,a fox\n2,\n", "line 3"),
        ] {
            let refusal = refusal(text);
            assert!(refusal.contains(line), "{text}: {refusal}");
        }
    }

    #[test]
    fn files_without_captions_are_refused_with_what_would_do() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("captions");
        for (bytes, part) in [
            (b"".as_slice(), "has no caption"),
            (b"\n \n", "has no caption"),
            (b"\xff\xd8\xff\xe0", "byte 0 is not UTF-8"),
            (b"a fox\0", "byte 5 is zero"),
            (b"a fox\na dog", "ask for --samples 2"),
        ] {
            fs::write(&path, bytes).unwrap();
            let refusal = read_captions(&path, 3).unwrap_err().to_string();
            assert!(refusal.contains(part), "{refusal}");
        }
        let refusal = read_captions(&folder.path().join("none"), 3).unwrap_err();
        assert!(matches!(refusal, CaptionsError::Read { .. }));
        fs::write(&path, "x".repeat(1_000_000)).unwrap();
        let refusal = read_captions(&path, 1).unwrap_err().to_string();
        assert!(
            refusal.contains("line 1") && refusal.contains("shorten"),
            "{refusal}"
        );
    }

    #[test]
    fn built_in_captions_go_round() {
        let captions = built_in_captions(500);
        assert_eq!(captions.len(), 500);
        assert_ne!(captions[BUILT_IN.lines().count() - 1], captions[0]);
        assert_eq!(captions[BUILT_IN.lines().count()], captions[0]);
        assert!(
            captions
                .iter()
                .all(|caption| !caption.prompt.as_str().is_empty())
        );
    }

    proptest! {
        #[test]
        fn any_text_is_captions_or_a_refusal(text in "\\PC*", lines in proptest::collection::vec("\\PC{0,20}", 0..5)) {
            let _ = parse(&text, 5);
            let _ = parse(&lines.join("\n"), 5);
            let _ = parse(&format!("caption,{}", lines.join("\n")), 5);
        }
    }
}
