//! The forms that a file of captions may have, and how captions are taken out of each.
//!
//! | form | known by its first line that has something | taken |
//! |---|---|---|
//! | JSON lines | an object | `caption`, `prompt` or `text`, and `negative_prompt` |
//! | CSV, TSV | names of columns, one of them `caption`, `prompt` or `text` | that column, and `negative_prompt` |
//! | captions with addresses | two columns with a tab between them, one an address, as the files of Conceptual Captions have them | the other |
//! | plain text | anything else | each line |
//!
//! A file has one form: a line that is not in it is refused by its number. Nothing is guessed where a guess would draw an
//! address or a bracket.

use std::path::Path;

use serde::Deserialize;

use super::{Caption, CaptionsError};
use crate::domain::{InvalidRequest, Prompt};

/// Columns that hold captions, in the order in which they are looked for.
const CAPTION_COLUMNS: [&str; 3] = ["caption", "prompt", "text"];
/// Endings of tables. Their first line has names, even where it looks like a sentence.
const TABLES: [&str; 2] = ["csv", "tsv"];

/// What is wrong with a line.
#[derive(Debug)]
pub(super) struct Fault {
    line: u64,
    what: What,
}

#[derive(Debug)]
enum What {
    Form(String),
    Caption(InvalidRequest),
}

impl Fault {
    fn form(line: u64, detail: impl Into<String>) -> Self {
        Self {
            line,
            what: What::Form(detail.into()),
        }
    }

    pub(super) fn in_file(self, path: &Path) -> CaptionsError {
        let (path, line) = (path.to_owned(), self.line);
        match self.what {
            What::Form(detail) => CaptionsError::Line { path, line, detail },
            What::Caption(source) => CaptionsError::Caption { path, line, source },
        }
    }
}

/// The first `count` captions of `text`, which is from a file with this `ending`.
pub(super) fn parse(text: &str, ending: &str, count: usize) -> Result<Vec<Caption>, Fault> {
    let Some(body) = Body::of(text) else {
        return Ok(Vec::new());
    };
    let form = Form::of(body.first_line(), ending)
        .map_err(|detail| Fault::form(body.first_number, detail))?;
    match form {
        Form::JsonLines => body.lines().take(count).map(of_json).collect(),
        Form::Table(columns) => table(&body, &columns, count),
        Form::WithAddresses { caption } => body
            .lines()
            .take(count)
            .map(|line| beside_address(line, caption))
            .collect(),
        Form::Plain => body.lines().take(count).map(plain).collect(),
    }
}

/// A text from its first line that has something on.
struct Body<'a> {
    text: &'a str,
    first_number: u64,
}

/// A line that has something: its number, counted from 1, and what it has.
type Line<'a> = (u64, &'a str);

impl<'a> Body<'a> {
    fn of(text: &'a str) -> Option<Self> {
        let mut start = 0;
        for (number, line) in (1..).zip(text.split_inclusive('\n')) {
            if !line.trim().is_empty() {
                return Some(Self {
                    text: &text[start..],
                    first_number: number,
                });
            }
            start += line.len();
        }
        None
    }

    fn first_line(&self) -> &'a str {
        self.text.lines().next().unwrap_or_default()
    }

    fn lines(&self) -> impl Iterator<Item = Line<'a>> {
        (self.first_number..)
            .zip(self.text.lines().map(str::trim))
            .filter(|(_, line)| !line.is_empty())
    }
}

/// What a file is.
enum Form {
    JsonLines,
    Table(Columns),
    WithAddresses {
        /// Which of the two columns has the captions.
        caption: usize,
    },
    Plain,
}

impl Form {
    fn of(first: &str, ending: &str) -> Result<Self, &'static str> {
        let line = first.trim();
        if line.starts_with('{') {
            return Ok(Self::JsonLines);
        }
        if line == "[" || line.starts_with("[{") {
            return Err(
                "a JSON array: write its objects one a line, without brackets and commas around them",
            );
        }
        let is_called_table = TABLES
            .iter()
            .any(|table| ending.eq_ignore_ascii_case(table));
        for delimiter in [b'\t', b',', b';'] {
            // "text, in large letters" is a caption, "id,text" are names.
            let may_be_names =
                is_called_table || delimiter == b'\t' || !line.contains(char::is_whitespace);
            if may_be_names && let Some(columns) = Columns::of(first, delimiter) {
                return Ok(Self::Table(columns));
            }
        }
        if let Some(caption) = caption_beside_address(line) {
            return Ok(Self::WithAddresses { caption });
        }
        if is_called_table || line.contains('\t') {
            return Err(
                "no column is called caption, prompt or text: name the one that has the captions in the first line",
            );
        }
        Ok(Self::Plain)
    }
}

/// Where a table has what.
struct Columns {
    delimiter: u8,
    count: usize,
    caption: usize,
    negative: Option<usize>,
}

impl Columns {
    /// The columns that `first` names, if one has captions.
    fn of(first: &str, delimiter: u8) -> Option<Self> {
        let names = reader(first, delimiter).into_records().next()?.ok()?;
        let names: Vec<String> = names
            .iter()
            .map(|name| name.trim().to_lowercase())
            .collect();
        let place_of = |wanted: &str| names.iter().position(|name| name == wanted);
        Some(Self {
            delimiter,
            count: names.len(),
            caption: CAPTION_COLUMNS.into_iter().find_map(place_of)?,
            negative: place_of("negative_prompt"),
        })
    }
}

/// All rows, of whatever length: who reads them checks it, and tells.
fn reader(text: &str, delimiter: u8) -> csv::Reader<&[u8]> {
    csv::ReaderBuilder::new()
        .delimiter(delimiter)
        .has_headers(false)
        .flexible(true)
        .from_reader(text.as_bytes())
}

fn table(body: &Body<'_>, columns: &Columns, count: usize) -> Result<Vec<Caption>, Fault> {
    let mut rows = reader(body.text, columns.delimiter);
    let mut row = csv::StringRecord::new();
    let mut numbers = Numbers {
        text: body.text,
        at: 0,
        number: body.first_number,
    };
    let unreadable = |error: csv::Error| Fault::form(body.first_number, error.to_string());
    let mut captions = Vec::new();
    // The first row has the names.
    rows.read_record(&mut row).map_err(unreadable)?;
    while captions.len() < count && rows.read_record(&mut row).map_err(unreadable)? {
        let (start, end) = (row.position().map_or(0, place), place(rows.position()));
        let line = numbers.number_at(start);
        if is_left_open(body.text, start, end) {
            return Err(Fault::form(
                line,
                "a quoted field of this row is not closed before the end of the file",
            ));
        }
        if row.iter().all(|field| field.trim().is_empty()) {
            continue;
        }
        if row.len() != columns.count {
            return Err(Fault::form(
                line,
                format!(
                    "{} columns where the first line names {}: the file is to have one form",
                    row.len(),
                    columns.count
                ),
            ));
        }
        let prompt = row.get(columns.caption).unwrap_or_default();
        if prompt.trim().is_empty() {
            return Err(Fault::form(line, "the caption is empty"));
        }
        let negative = columns.negative.and_then(|place| row.get(place));
        captions.push(caption(line, prompt, negative)?);
    }
    Ok(captions)
}

/// A place in a text that is in memory.
fn place(position: &csv::Position) -> usize {
    usize::try_from(position.byte()).unwrap_or(usize::MAX)
}

/// Whether the row `start..end` has swallowed all lines behind it for want of a quotation mark. An open field ends with the
/// text, and has an odd one.
fn is_left_open(text: &str, start: usize, end: usize) -> bool {
    let row = text.get(start..end).unwrap_or_default().trim();
    end == text.len() && row.contains('\n') && !row.matches('"').count().is_multiple_of(2)
}

/// Counts lines on the way through a text.
struct Numbers<'a> {
    text: &'a str,
    at: usize,
    number: u64,
}

impl Numbers<'_> {
    /// The line of what begins at byte `start`, or behind the ends of lines that are there.
    fn number_at(&mut self, start: usize) -> u64 {
        let rest = self.text.get(start..).unwrap_or_default();
        let begin = start + rest.len() - rest.trim_start_matches(['\r', '\n']).len();
        let between = self.text.get(self.at..begin).unwrap_or_default();
        self.number += between.matches('\n').count() as u64;
        self.at = begin;
        self.number
    }
}

fn of_json((number, line): Line<'_>) -> Result<Caption, Fault> {
    #[derive(Deserialize)]
    struct Captioned {
        #[serde(alias = "prompt", alias = "text")]
        caption: String,
        negative_prompt: Option<String>,
    }
    if !line.starts_with('{') {
        return Err(Fault::form(
            number,
            "no JSON object, as the lines before it are: the file is to have one form",
        ));
    }
    let captioned: Captioned = serde_json::from_str(line).map_err(|error| {
        Fault::form(
            number,
            format!("no JSON object with a \"caption\" ({error})"),
        )
    })?;
    caption(
        number,
        &captioned.caption,
        captioned.negative_prompt.as_deref(),
    )
}

/// Which of two columns has the caption, where the other is an address.
fn caption_beside_address(line: &str) -> Option<usize> {
    let is_address = |text: &str| {
        let text = text.trim();
        text.starts_with("http://") || text.starts_with("https://")
    };
    match line.split_once('\t')? {
        (_, more) if more.contains('\t') => None,
        (one, other) if is_address(one) == is_address(other) => None,
        (one, _) => Some(usize::from(is_address(one))),
    }
}

/// Such files know no quoting: a quotation mark is part of the caption.
fn beside_address((number, line): Line<'_>, column: usize) -> Result<Caption, Fault> {
    if caption_beside_address(line) != Some(column) {
        return Err(Fault::form(
            number,
            "not a caption and an address with a tab between them, as the lines before it are: the file is to have one form",
        ));
    }
    caption(
        number,
        line.split('\t').nth(column).unwrap_or_default(),
        None,
    )
}

fn plain((number, line): Line<'_>) -> Result<Caption, Fault> {
    let among = |what: &str| {
        let detail = format!("{what} among lines of plain text: the file is to have one form");
        Err(Fault::form(number, detail))
    };
    if line.contains('\t') {
        return among("columns with a tab between them");
    }
    if line.starts_with('{') && serde_json::from_str::<serde_json::Value>(line).is_ok() {
        return among("a JSON object");
    }
    caption(number, line, None)
}

fn caption(line: u64, prompt: &str, negative: Option<&str>) -> Result<Caption, Fault> {
    let refused = |error| Fault {
        line,
        what: What::Caption(error),
    };
    Ok(Caption {
        prompt: Prompt::new(prompt.trim()).map_err(refused)?,
        negative_prompt: negative
            .map(str::trim)
            .filter(|text| !text.is_empty())
            .map(|text| Prompt::negative(text).map_err(refused))
            .transpose()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prompts_of(text: &str, ending: &str) -> Vec<String> {
        parse(text, ending, 10)
            .unwrap_or_else(|fault| panic!("{}", fault.in_file(Path::new("captions"))))
            .into_iter()
            .map(|caption| caption.prompt.as_str().to_owned())
            .collect()
    }

    fn refusal_of(text: &str, ending: &str) -> String {
        parse(text, ending, 10)
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
            "a fox\r\na red, round ball\r\n",
            "{\"caption\": \"a fox\"}\n{\"prompt\": \"a red, round ball\", \"negative_prompt\": \"blue\"}",
            "\n  {\"caption\": \"a fox\", \"place\": null}\n\n{\"text\": \"a red, round ball\"}",
            "id,Caption\n1,a fox\n2,\"a red, round ball\"\n",
            "\r\n\"id\",\"PROMPT\"\r\n\r\n1,a fox\r\n2,\"a red, round ball\"\r\n",
            "id;caption\n1;a fox\n;\n2;a red, round ball\n",
            "image\tTEXT\nx.png\ta fox\ny.png\ta red, round ball\n",
            // As pandas writes an index.
            "\tcaption\n0\ta fox\n1\ta red, round ball\n",
            "caption\na fox\na red, round ball\n",
            "a fox\thttps://example.org/1\na red, round ball\thttps://example.org/2\n",
            "https://example.org/1\ta fox\nhttp://example.org/2\ta red, round ball\n",
        ] {
            assert_eq!(prompts_of(text, ""), expected, "{text}");
        }
        let named = "image name, caption \nx, a fox\ny,\"a red, round ball\"\n";
        assert_eq!(prompts_of(named, "csv"), expected);
    }

    #[test]
    fn negative_prompts_are_taken_from_json_and_from_tables() {
        for text in [
            "{\"caption\": \"a\", \"negative_prompt\": \" blue \"}",
            "caption,negative_prompt\na,blue",
        ] {
            let mut captions = parse(text, "", 1).unwrap();
            let negative = captions.remove(0).negative_prompt.unwrap();
            assert_eq!(negative.as_str(), "blue");
        }
        for text in [
            "{\"caption\": \"a\", \"negative_prompt\": null}",
            "caption,negative_prompt\na,",
        ] {
            assert_eq!(parse(text, "", 1).unwrap()[0].negative_prompt, None);
        }
    }

    #[test]
    fn quoted_fields_hold_ends_of_lines_and_quotation_marks() {
        let expected = ["two\nlines, \"quoted\"", "a 5\" pipe"];
        for text in [
            "caption\n\"two\nlines, \"\"quoted\"\"\"\na 5\" pipe\n",
            "id,caption\n1,\"two\nlines, \"\"quoted\"\"\"\n2,a 5\" pipe",
        ] {
            assert_eq!(prompts_of(text, "csv"), expected, "{text}");
        }
        // Conceptual Captions quotes nothing.
        let text = "\" the sign says\thttp://a.b/1\n\"exit\"\thttp://a.b/2\n";
        assert_eq!(prompts_of(text, "tsv"), ["\" the sign says", "\"exit\""]);
    }

    #[test]
    fn a_sentence_that_begins_like_a_table_is_a_caption() {
        for text in ["text, in large letters", "[a fox], drawn", "caption: a fox"] {
            assert_eq!(prompts_of(text, "txt"), [text]);
        }
    }

    #[test]
    fn what_is_in_no_form_or_in_two_is_refused_by_line() {
        for (text, ending, line, part) in [
            ("a fox\n{\"caption\": \"a dog\"}", "", 2, "a JSON object"),
            ("a fox\n\na dog\thttp://a.b", "", 3, "a tab"),
            ("{\"caption\": \"a fox\"}\na dog", "", 2, "no JSON object"),
            ("{\"title\": \"a fox\"}", "", 1, "caption"),
            ("{\"caption\": 7}", "", 1, "caption"),
            (
                "{\"caption\": \"a\", \"prompt\": \"b\"}",
                "",
                1,
                "duplicate",
            ),
            (
                "\n[\n{\"caption\": \"a fox\"}\n]",
                "json",
                2,
                "a JSON array",
            ),
            ("[{\"caption\": \"a fox\"}]", "json", 1, "a JSON array"),
            ("id,title\n1,a fox\n", "csv", 1, "no column"),
            ("id\ttitle\n1\ta fox\n", "", 1, "no column"),
            ("id,caption\n1,a fox\n2,a dog,extra\n", "", 3, "3 columns"),
            ("id,caption\r\n\r\n1,a fox\r\n2,\r\n", "", 4, "empty"),
            ("id,caption\n1,\"a\nb\"\n\n2,a dog,x\n", "", 5, "3 columns"),
            (
                "caption\na fox\n\"a dog\na cat\na cow\n",
                "",
                3,
                "not closed",
            ),
            ("a fox\thttp://a.b\na dog\n", "", 2, "an address"),
            (
                "a fox\thttp://a.b\nhttp://a.b\ta dog\n",
                "",
                2,
                "an address",
            ),
        ] {
            let refusal = refusal_of(text, ending);
            let place = format!("line {line}: ");
            assert!(
                refusal.contains(&place) && refusal.contains(part),
                "{text}: {refusal}"
            );
        }
    }

    #[test]
    fn a_caption_that_no_prompt_may_be_is_refused_by_its_line_and_field() {
        let long = "x".repeat(5000);
        for (text, field) in [
            (format!("a\n{long}"), "prompt has 5000"),
            (
                format!("caption,negative_prompt\na,{long}"),
                "negative_prompt has 5000",
            ),
        ] {
            let refusal = refusal_of(&text, "");
            assert!(
                refusal.contains("line 2: ") && refusal.contains(field),
                "{refusal}"
            );
        }
    }
}
