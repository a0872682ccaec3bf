//! What a word character is: Python's answer, for a regex engine that has another.
//!
//! Python's `\w` is letters, numbers of any kind and `_`; Rust's is alphabetic characters, marks, decimal digits, connectors and joiners. So
//! `½` is a word in Python alone, and a combining accent in Rust alone. [`Words`] shows the engine a text in which each character of the two
//! differences has a stand-in of the other kind, and puts the characters back afterwards. Most texts have none and are not touched.
//! Source: CPython 3.11 `Modules/_sre` (`SRE_UNI_IS_WORD` is `isalnum() or '_'`), regex-syntax 0.8 `perl_word` (UTS 18, Annex C).

use std::borrow::Cow;
use std::sync::LazyLock;

use regex::Regex;

/// Python's `str.isspace` for one character.
pub(super) fn is_space(character: char) -> bool {
    character.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&character)
}

/// A text whose word characters are Python's to a regex that asks.
pub(super) struct Words<'a> {
    text: Cow<'a, str>,
    /// Characters that have stand-ins, by the number of the stand-in.
    replaced: Vec<char>,
}

/// Characters that only one of the two counts, and the stand-ins themselves, should a text hold them.
static DIFFERENCES: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(
        r"[\w--[\p{L}\p{N}_]]|[[\p{L}\p{N}_]--\w]|[\x{30000}-\x{3134A}\x{100000}-\x{10FFFD}]",
    )
    .expect("a constant that the tests compile")
});

/// Letters of the CJK extension G: words to both.
const WORD: u32 = 0x3_0000;
/// Private use, plane 16: words to neither.
const NOT_WORD: u32 = 0x10_0000;
/// As many stand-ins as extension G has letters; beyond them a text keeps its own characters.
const MOST: usize = 0x134B;

impl<'a> Words<'a> {
    /// Puts stand-ins where they are needed.
    pub(super) fn of(text: &'a str) -> Self {
        let mut replaced = Vec::new();
        let text = if text.is_ascii() {
            Cow::Borrowed(text)
        } else {
            DIFFERENCES.replace_all(text, |found: &regex::Captures<'_>| {
                let own = &found[0];
                let Some(character) = own.chars().next().filter(|_| replaced.len() < MOST) else {
                    return own.to_owned();
                };
                let number = u32::try_from(replaced.len()).unwrap_or_default();
                replaced.push(character);
                let base = if is_word(character) { WORD } else { NOT_WORD };
                char::from_u32(base + number)
                    .unwrap_or(character)
                    .to_string()
            })
        };
        Self { text, replaced }
    }

    /// The text to search.
    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// Puts the own characters back into what a replacement left.
    pub(super) fn restore(&self, text: String) -> String {
        if self.replaced.is_empty() {
            return text;
        }
        text.chars()
            .map(|character| {
                let number = match u32::from(character) {
                    code @ NOT_WORD.. => code - NOT_WORD,
                    code @ WORD.. => code - WORD,
                    _ => return character,
                };
                let own = usize::try_from(number)
                    .ok()
                    .and_then(|number| self.replaced.get(number));
                own.copied().unwrap_or(character)
            })
            .collect()
    }
}

/// Python's `isalnum() or '_'` for a character of [`DIFFERENCES`]: those that Rust's `is_alphanumeric` counts too many are marks and symbols.
fn is_word(character: char) -> bool {
    static PYTHON_WORD: LazyLock<Regex> =
        LazyLock::new(|| Regex::new(r"[\p{L}\p{N}_]").expect("a constant that the tests compile"));
    PYTHON_WORD.is_match(character.encode_utf8(&mut [0; 4]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn python_words_are_words() {
        let word = Regex::new(r"\A\w\z").unwrap();
        for (text, expected) in [
            ("½", true),
            ("²", true),
            ("①", true),
            ("\u{301}", false),
            ("‿", false),
            ("é", true),
            ("_", true),
            ("€", false),
        ] {
            assert_eq!(word.is_match(Words::of(text).text()), expected, "{text}");
        }
    }

    #[test]
    fn what_was_replaced_comes_back() {
        for text in ["a½b\u{301}²", "\u{30000}½\u{100001}", "plain", "é\u{200d}"] {
            let words = Words::of(text);
            assert_eq!(words.restore(words.text().to_owned()), text);
        }
    }

    #[test]
    fn a_flood_of_stand_ins_stays_reversible() {
        let text = "½".repeat(MOST + 10);
        let words = Words::of(&text);
        assert_eq!(words.restore(words.text().to_owned()), text);
    }
}
