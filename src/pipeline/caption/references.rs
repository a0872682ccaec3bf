//! Character references: `&eacute;`, `&#233;`, `&#xE9;`, and the broken ones that Python reads as well.
//!
//! Source: CPython 3.11.7 `html/__init__.py` (`unescape`), beautifulsoup4 4.15 `dammit.py` (`numeric_character_reference`).

use std::collections::HashMap;
use std::sync::LazyLock;

use regex::{Captures, Regex};

use super::mojibake_tables::{CODE_PAGES, WINDOWS_1252};

/// HTML 5's names without `&`, most with `;` and the old ones also without.
static NAMES: LazyLock<HashMap<&'static str, &'static str>> = LazyLock::new(|| {
    entities::ENTITIES
        .iter()
        .map(|entity| (&entity.entity[1..], entity.characters))
        .collect()
});

/// Python's `html.unescape`.
pub(super) fn unescape(text: &str) -> String {
    static REFERENCE: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new(r"&(#[0-9]+;?|#[xX][0-9a-fA-F]+;?|[^\t\n\x0c <&#;]{1,32};?)")
            .expect("a constant that the tests compile")
    });
    REFERENCE
        .replace_all(text, |found: &Captures<'_>| referenced(&found[1]))
        .into_owned()
}

fn referenced(reference: &str) -> String {
    if let Some(number) = reference.strip_prefix('#') {
        return match number_of(number.trim_end_matches(';')) {
            Some(0x0D) => "\r".to_owned(),
            Some(code @ 0x80..=0x9F) => windows_1252(code).to_string(),
            // `_invalid_codepoints`: controls and noncharacters vanish.
            Some(0x01..=0x08 | 0x0B | 0x0E..=0x1F | 0x7F | 0xFDD0..=0xFDEF) => String::new(),
            Some(code) if code & 0xFFFE == 0xFFFE && code <= 0x10_FFFF => String::new(),
            code => character(code).to_string(),
        };
    }
    if let Some(characters) = NAMES.get(reference) {
        return (*characters).to_owned();
    }
    // The longest name that it begins with, of two characters at least.
    let longest = (2..reference.len())
        .rev()
        .find_map(|end| Some((NAMES.get(reference.get(..end)?)?, &reference[end..])));
    match longest {
        Some((characters, rest)) => format!("{characters}{rest}"),
        None => format!("&{reference}"),
    }
}

/// The named character with its `;`, as ftfy looks it up.
pub(super) fn named(name: &str) -> Option<&'static str> {
    NAMES.get(name).copied()
}

/// Decimal, or hexadecimal after an `x`; none beyond u32.
pub(super) fn number_of(digits: &str) -> Option<u32> {
    match digits.strip_prefix(['x', 'X']) {
        Some(digits) => u32::from_str_radix(digits, 16).ok(),
        None => digits.parse().ok(),
    }
}

/// U+FFFD for NUL, surrogates and what is beyond Unicode.
pub(super) fn character(code: Option<u32>) -> char {
    code.filter(|&code| code != 0)
        .and_then(char::from_u32)
        .unwrap_or(char::REPLACEMENT_CHARACTER)
}

/// What windows-1252 has at a C1 control, or the control itself where it has nothing.
pub(super) fn windows_1252(code: u32) -> char {
    let page = &CODE_PAGES[WINDOWS_1252];
    let position = usize::try_from(code).unwrap_or_default().wrapping_sub(0x80);
    page.upper
        .chars()
        .nth(position)
        .unwrap_or(char::REPLACEMENT_CHARACTER)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_are_read_as_python_reads_them() {
        for (text, expected) in [
            ("&lt;b&gt;", "<b>"),
            ("&notit; &notin;", "¬it; ∉"),
            ("&amp", "&"),
            ("&#65;&#x42&#0;", "AB\u{fffd}"),
            ("&#150;&#x81;&#1;&#xFFFE;", "–\u{81}"),
            ("&#99999999999;", "\u{fffd}"),
            ("&nothing; &zothing;", "¬hing; &zothing;"),
        ] {
            assert_eq!(unescape(text), expected, "{text}");
        }
    }
}
