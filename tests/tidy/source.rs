//! Rust source as text: enough of its grammar to leave out comments, strings and tests, and to read paths.
//!
//! What it is not: a parser. It knows tokens and braces; macros that build paths out of pieces escape it.

/// A file of the project.
pub struct Source {
    /// Path from the root, with forward slashes.
    pub path: String,
    /// Its text as it stands.
    pub text: String,
}

impl Source {
    /// A file that exists only in a test.
    pub fn of(path: &str, text: &str) -> Self {
        Self {
            path: path.to_owned(),
            text: text.to_owned(),
        }
    }

    /// The text with comments, strings and characters blanked out; lines stay where they were.
    pub fn code(&self) -> String {
        blank_prose(&self.text)
    }

    /// As [`Self::code`], without the items under `#[cfg(test)]`.
    pub fn shipped_code(&self) -> String {
        blank_tests(&self.code())
    }
}

/// Replaces everything but line feeds by spaces.
fn blank(text: &str) -> String {
    text.chars()
        .map(|c| if c == '\n' { '\n' } else { ' ' })
        .collect()
}

/// Blanks comments, string literals and character literals.
fn blank_prose(text: &str) -> String {
    let mut code = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let after_word = code.ends_with(is_word);
        let prose = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            block_comment(rest)
        } else if first == '"' {
            string(rest)
        } else if first == 'r' && !after_word {
            raw_string(rest).unwrap_or(0)
        } else if first == '\'' {
            character(rest).unwrap_or(0)
        } else {
            0
        };
        let (taken, left) = rest.split_at(if prose == 0 { first.len_utf8() } else { prose });
        code.push_str(&if prose == 0 {
            taken.to_owned()
        } else {
            blank(taken)
        });
        rest = left;
    }
    code
}

/// Length of the block comment that `text` opens with; they nest.
fn block_comment(text: &str) -> usize {
    let mut depth = 0_usize;
    let mut at = 0;
    while at < text.len() {
        let here = &text.as_bytes()[at..];
        if here.starts_with(b"/*") {
            depth += 1;
            at += 2;
        } else if here.starts_with(b"*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += 1;
        }
    }
    text.len()
}

/// Length of the string literal that `text` opens with.
fn string(text: &str) -> usize {
    let mut escaped = false;
    for (at, byte) in text.bytes().enumerate().skip(1) {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return at + 1,
            _ => {}
        }
    }
    text.len()
}

/// Length of the raw string literal that `text` opens with, if it does.
fn raw_string(text: &str) -> Option<usize> {
    let hashes = text[1..].bytes().take_while(|&byte| byte == b'#').count();
    let body = text[1 + hashes..].strip_prefix('"')?;
    let end = format!("\"{}", "#".repeat(hashes));
    Some(
        body.find(&end)
            .map_or(text.len(), |at| 2 + hashes + at + end.len()),
    )
}

/// Length of the character literal that `text` opens with, if it is none of a lifetime.
fn character(text: &str) -> Option<usize> {
    let mut characters = text.char_indices().skip(1);
    let (_, first) = characters.next()?;
    if first == '\\' {
        characters.next()?;
        return characters.find(|&(_, c)| c == '\'').map(|(at, _)| at + 1);
    }
    characters
        .next()
        .filter(|&(_, c)| c == '\'')
        .map(|(at, _)| at + 1)
}

/// Blanks every item under `#[cfg(test)]`, up to the brace or semicolon that ends it.
fn blank_tests(code: &str) -> String {
    const MARK: &str = "#[cfg(test)]";
    let mut shipped = String::with_capacity(code.len());
    let mut rest = code;
    while let Some(start) = rest.find(MARK) {
        shipped.push_str(&rest[..start]);
        let mut depth = 0_usize;
        let mut end = rest.len();
        for (at, byte) in rest.bytes().enumerate().skip(start + MARK.len()) {
            match byte {
                b'{' => depth += 1,
                b'}' => depth = depth.saturating_sub(1),
                _ => {}
            }
            if depth == 0 && matches!(byte, b'}' | b';') {
                end = at + 1;
                break;
            }
        }
        shipped.push_str(&blank(&rest[start..end]));
        rest = &rest[end..];
    }
    shipped + rest
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// Where `word` stands by itself in `code`, as byte positions.
fn positions<'a>(code: &'a str, word: &'a str) -> impl Iterator<Item = usize> + 'a {
    code.match_indices(word)
        .map(|(at, _)| at)
        .filter(move |&at| {
            !code[..at].ends_with(is_word) && !code[at + word.len()..].starts_with(is_word)
        })
}

fn line_of(code: &str, at: usize) -> usize {
    code[..at].matches('\n').count() + 1
}

/// Lines on which `word` stands by itself.
pub fn lines_with(code: &str, word: &str) -> Vec<usize> {
    positions(code, word).map(|at| line_of(code, at)).collect()
}

/// What comes right after `root::` wherever `code` has it, with its line: `crate::{a::B, c}` has `a` and `c`.
pub fn first_segments(code: &str, root: &str) -> Vec<(usize, String)> {
    let mut segments = Vec::new();
    for at in positions(code, root) {
        let Some(path) = code[at + root.len()..].strip_prefix("::") else {
            continue;
        };
        let start = code.len() - path.len();
        let Some(group) = path.strip_prefix('{') else {
            segments.push((
                line_of(code, start),
                path.chars().take_while(|&c| is_word(c)).collect(),
            ));
            continue;
        };
        let mut depth = 0_usize;
        let mut expects_name = true;
        for (offset, c) in group.char_indices() {
            match c {
                '{' => depth += 1,
                '}' if depth == 0 => break,
                '}' => depth -= 1,
                ',' if depth == 0 => expects_name = true,
                _ if depth == 0 && expects_name && is_word(c) => {
                    let name = group[offset..]
                        .chars()
                        .take_while(|&c| is_word(c))
                        .collect();
                    segments.push((line_of(code, start + 1 + offset), name));
                    expects_name = false;
                }
                _ => {}
            }
        }
    }
    segments
}

/// How many times `super::` is repeated, at each place and with its line.
pub fn climbs(code: &str) -> Vec<(usize, usize)> {
    const STEP: &str = "super::";
    let mut found = Vec::new();
    let mut from = 0;
    while let Some(offset) = code[from..].find(STEP) {
        let at = from + offset;
        let mut steps = 0;
        while code[at + steps * STEP.len()..].starts_with(STEP) {
            steps += 1;
        }
        found.push((line_of(code, at), steps));
        from = at + steps * STEP.len();
    }
    found
}

#[test]
fn prose_is_no_code() {
    let code = |text: &str| Source::of("src/a.rs", text).code();
    for text in [
        "// crate::http",
        "//! crate::http",
        "/* a /* crate::http */ crate::http */",
        r#""crate::http \" crate::http""#,
        "r\"crate::http\\\"",
        "r#\"crate::http \" crate::http\"#",
        "b\"crate::http\"",
    ] {
        let left = code(&format!("{text}\nuse crate::domain;"));
        assert_eq!(
            first_segments(&left, "crate"),
            [(2, "domain".to_owned())],
            "{text}"
        );
    }
    // Quotes in characters open no string, and lifetimes are no characters.
    let left = code("fn a<'a>(b: &'a str) { b.split('\"'); b.split('\\''); crate::jobs::c() }");
    assert_eq!(first_segments(&left, "crate"), [(1, "jobs".to_owned())]);
}

#[test]
fn tests_are_not_shipped() {
    let source = Source::of(
        "src/a.rs",
        "fn a() {}\n#[cfg(test)]\nuse crate::b;\n#[cfg(test)]\nmod tests {\n fn b() { c.unwrap() }\n}\nfn d() { crate::e() }\n",
    );
    let code = source.shipped_code();
    assert_eq!(first_segments(&code, "crate"), [(8, "e".to_owned())]);
    assert!(!code.contains("unwrap"), "{code}");
    assert!(source.code().contains("unwrap"));
}

#[test]
fn grouped_paths_are_read_to_their_end() {
    let code = "use crate::{\n    config::{Settings, places::Place},\n    engine,\n    http as web,\n};\nlet x = crate::model::A;";
    let names: Vec<_> = first_segments(code, "crate")
        .into_iter()
        .map(|(_, name)| name)
        .collect();
    assert_eq!(names, ["config", "engine", "http", "model"]);
    assert_eq!(
        first_segments("my_crate::a; crate_b::c; crate ::d", "crate"),
        []
    );
}

#[test]
fn climbs_are_counted() {
    assert_eq!(climbs("super::a;\nsuper::super::b"), [(1, 1), (2, 2)]);
}
