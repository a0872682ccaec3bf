//! Repairs of text that was decoded wrongly, as ftfy makes them.
//!
//! `Ã©` was `é`: UTF-8 read in a single-byte encoding. A heuristic says whether a text looks like that, and code pages say what its bytes
//! were. Quotes, ligatures, widths and control characters are set right as well.
//! Source: ftfy 6.3.1 (Robyn Speer, Apache-2.0) `__init__.py` and `fixes.py` with the default configuration; written anew from its behaviour.

use std::borrow::Cow;
use std::collections::HashSet;
use std::sync::LazyLock;

use regex::{Captures, Regex, bytes};
use unicode_normalization::UnicodeNormalization;

use super::mojibake_tables::{
    BADNESS, CATEGORIES, CODE_PAGES, CONTINUATION, CONTINUATION_STRICT, CodePage, FIRST_OF_2,
    FIRST_OF_3, FIRST_OF_4, WINDOWS_1252,
};
use super::references;

/// The reference goes on until nothing changes. Each round undoes one wrong decoding, which nobody nests this deep.
const MOST_ROUNDS: usize = 16;

/// `ftfy.fix_text`: line by line; from the first line with a `<` on, character references stay.
pub(super) fn fix_text(text: &str) -> String {
    let mut reads_references = true;
    text.split_inclusive('\n')
        .map(|line| {
            reads_references &= !line.contains('<');
            fix_line(line, reads_references)
        })
        .collect()
}

fn fix_line(line: &str, reads_references: bool) -> String {
    let mut text = line.to_owned();
    for _ in 0..MOST_ROUNDS {
        let mut fixed = text.clone();
        if reads_references {
            fixed = read_references(&fixed);
        }
        fixed = fix_encoding(fixed);
        fixed = fixed.chars().map(c1_as_windows_1252).collect();
        fixed = fix_characters(&fixed);
        fixed = without_terminal_escapes(&fixed).into_owned();
        fixed.retain(|character| !is_removed(character));
        fixed = fixed.nfc().collect();
        if fixed == text {
            break;
        }
        text = fixed;
    }
    text
}

/// `unescape_html`: only references that end with `;`, and names of accented letters in capitals.
fn read_references(text: &str) -> String {
    static REFERENCE: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new("&#?[0-9A-Za-z]{1,24};").expect("a constant that the tests compile")
    });
    REFERENCE
        .replace_all(text, |found: &Captures<'_>| {
            let reference = &found[0];
            let name = &reference[1..];
            if let Some(characters) = references::named(name) {
                return characters.to_owned();
            }
            let read = references::unescape(reference);
            if name.starts_with('#') {
                return if read.contains(';') {
                    reference.to_owned()
                } else {
                    read
                };
            }
            let is_capital = name == name.to_ascii_uppercase() && read == reference;
            match references::named(&name.to_ascii_lowercase()).filter(|_| is_capital) {
                Some(characters) => characters.to_uppercase(),
                None => reference.to_owned(),
            }
        })
        .into_owned()
}

/// Ligatures, widths, quotes and line breaks, in that order on each character.
fn fix_characters(text: &str) -> String {
    let mut fixed = String::with_capacity(text.len());
    for character in text.chars() {
        match ligature(character) {
            Some(letters) => fixed.push_str(letters),
            None => match character {
                '\u{3000}' => fixed.push(' '),
                '\u{ff01}'..='\u{ffef}' => fixed.extend(character.nfkc()),
                _ => fixed.push(character),
            },
        }
    }
    fixed
        .replace(['\u{201c}', '\u{201d}', '\u{201e}', '\u{201f}'], "\"")
        .replace(
            ['\u{2bc}', '\u{2018}', '\u{2019}', '\u{201a}', '\u{201b}'],
            "'",
        )
        .replace("\r\n", "\n")
        .replace(['\r', '\u{2028}', '\u{2029}', '\u{85}'], "\n")
}

/// `LIGATURES`: Latin ones that are typography, not letters.
fn ligature(character: char) -> Option<&'static str> {
    Some(match character {
        'Ĳ' => "IJ",
        'ĳ' => "ij",
        'ŉ' => "ʼn",
        'Ǳ' => "DZ",
        'ǲ' => "Dz",
        'ǳ' => "dz",
        'Ǆ' => "DŽ",
        'ǅ' => "Dž",
        'ǆ' => "dž",
        'Ǉ' => "LJ",
        'ǈ' => "Lj",
        'ǉ' => "lj",
        'Ǌ' => "NJ",
        'ǋ' => "Nj",
        'ǌ' => "nj",
        'ﬀ' => "ff",
        'ﬁ' => "fi",
        'ﬂ' => "fl",
        'ﬃ' => "ffi",
        'ﬄ' => "ffl",
        'ﬅ' => "ſt",
        'ﬆ' => "st",
        _ => return None,
    })
}

fn without_terminal_escapes(text: &str) -> Cow<'_, str> {
    static ESCAPE: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new(r"\x1b\[[\d;]*[a-zA-Z]").expect("a constant that the tests compile")
    });
    ESCAPE.replace_all(text, "")
}

/// `CONTROL_CHARS`: those without an effect on the text.
fn is_removed(character: char) -> bool {
    matches!(character,
        '\0'..='\x08' | '\x0b' | '\x0e'..='\x1f' | '\x7f' | '\u{206a}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffc}')
}

fn c1_as_windows_1252(character: char) -> char {
    match u32::from(character) {
        code @ 0x80..=0x9F => PAGES[WINDOWS_1252].decode(code),
        _ => character,
    }
}

/// Whether a text looks like mojibake.
fn is_bad(text: &str) -> bool {
    static PATTERN: LazyLock<Regex> = LazyLock::new(|| {
        let alternatives = CATEGORIES
            .iter()
            .fold(BADNESS.join("|"), |pattern, (name, class)| {
                pattern.replace(name, class)
            });
        Regex::new(&alternatives).expect("a constant that the tests compile")
    });
    !text.is_ascii() && PATTERN.is_match(text)
}

fn fix_encoding(mut text: String) -> String {
    for _ in 0..MOST_ROUNDS {
        match fix_encoding_once(&text) {
            Some(fixed) if fixed != text => text = fixed,
            _ => break,
        }
    }
    text
}

/// `_fix_encoding_one_step_and_explain`; none where it leaves the text alone.
fn fix_encoding_once(text: &str) -> Option<String> {
    if !is_bad(text) {
        return None;
    }
    for page in PAGES.iter() {
        if let Some(fixed) = page
            .encode(text)
            .and_then(|bytes| decode_repaired(bytes, page.page))
        {
            return Some(fixed);
        }
    }
    let fixed = fix_embedded(text);
    if fixed != text {
        return Some(fixed);
    }
    // Latin-1 that should have been windows-1252 has C1 controls. The reference decodes strictly first and then one by one, to the same effect
    // on all but the five controls that windows-1252 lacks, which stay.
    let fixed: String = text.chars().map(c1_as_windows_1252).collect();
    (fixed != text).then_some(fixed)
}

/// One code page with the way back.
struct Page {
    page: &'static CodePage,
    upper: Vec<char>,
}

static PAGES: LazyLock<Vec<Page>> = LazyLock::new(|| {
    CODE_PAGES
        .iter()
        .map(|page| Page {
            page,
            upper: page.upper.chars().collect(),
        })
        .collect()
});

impl Page {
    fn decode(&self, byte: u32) -> char {
        let position = usize::try_from(byte).unwrap_or_default().wrapping_sub(0x80);
        self.upper
            .get(position)
            .copied()
            .unwrap_or(char::REPLACEMENT_CHARACTER)
    }

    /// Bytes of a text that this page can spell.
    fn encode(&self, text: &str) -> Option<Vec<u8>> {
        text.chars()
            .map(|character| match character {
                '\x1a' if self.page.is_sloppy => None,
                '\u{fffd}' if self.page.is_sloppy => Some(0x1A),
                '\0'..='\x7f' => u8::try_from(character).ok(),
                _ => {
                    let position = self.upper.iter().position(|&upper| upper == character)?;
                    u8::try_from(0x80 + position).ok()
                }
            })
            .collect()
    }
}

/// Sequences that would be UTF-8 had no space replaced their byte 0xA0.
static ALTERED: LazyLock<bytes::Regex> = LazyLock::new(|| {
    bytes_pattern(
        r"(?-u)[\xc2\xc3\xc5\xce\xd0\xd9] |[\xe2\xe3] [\x80-\x84\x86-\x9f\xa1-\xbf]|[\xe0-\xe3][\x80-\x84\x86-\x9f\xa1-\xbf] |\xf0 [\x80-\xbf][\x80-\xbf]|\xf0[\x80-\xbf] [\x80-\xbf]|\xf0[\x80-\xbf][\x80-\xbf] ",
    )
});

/// Sequences of UTF-8 that lost bytes to U+FFFD (0x1A here) or to `?`.
static LOSSY: LazyLock<bytes::Regex> = LazyLock::new(|| {
    bytes_pattern(
        r"(?-u)[\xc2-\xdf]\x1a|[\xc2-\xc3]\?|\xed[\xa0-\xaf][\x1a?]\xed[\xb0-\xbf][\x1a?\x80-\xbf]|\xed[\xa0-\xaf][\x1a?\x80-\xbf]\xed[\xb0-\xbf][\x1a?]|[\xe0-\xef][\x1a?][\x1a\x80-\xbf]|[\xe0-\xef][\x1a\x80-\xbf][\x1a?]|[\xf0-\xf4][\x1a?][\x1a\x80-\xbf][\x1a\x80-\xbf]|[\xf0-\xf4][\x1a\x80-\xbf][\x1a?][\x1a\x80-\xbf]|[\xf0-\xf4][\x1a\x80-\xbf][\x1a\x80-\xbf][\x1a?]|\x1a",
    )
});

fn bytes_pattern(pattern: &str) -> bytes::Regex {
    bytes::Regex::new(pattern).expect("a constant that the tests compile")
}

/// Bytes as UTF-8, with what a wrong decoding did to them undone; none when they are not UTF-8.
fn decode_repaired(mut encoded: Vec<u8>, page: &CodePage) -> Option<String> {
    if !page.is_macroman && ALTERED.is_match(&encoded) {
        encoded = restore_a0(&encoded);
    }
    if page.is_sloppy {
        encoded = LOSSY
            .replace_all(&encoded, "\u{fffd}".as_bytes())
            .into_owned();
    }
    decode_utf8_variants(&encoded)
}

/// `restore_byte_a0`: the word "à" first, then the other sequences.
fn restore_a0(encoded: &[u8]) -> Vec<u8> {
    let mut restored = Vec::with_capacity(encoded.len() + 8);
    let mut rest = encoded;
    while let Some((&byte, tail)) = rest.split_first() {
        restored.push(byte);
        rest = tail;
        if let (0xC3, Some(word)) = (byte, tail.strip_prefix(b" ")) {
            let is_part_of_word = [&b" "[..], b"quele", b"quela", b"quilo", b"s "]
                .iter()
                .any(|start| word.starts_with(start));
            if !is_part_of_word {
                restored.extend(b"\xa0 ");
                rest = word;
            }
        }
    }
    ALTERED
        .replace_all(&restored, |found: &bytes::Captures<'_>| {
            found[0]
                .iter()
                .map(|&byte| if byte == b' ' { 0xA0 } else { byte })
                .collect::<Vec<u8>>()
        })
        .into_owned()
}

/// Strict UTF-8, but for Java's NUL (C0 80) and CESU-8's surrogate pairs.
fn decode_utf8_variants(encoded: &[u8]) -> Option<String> {
    if !encoded.iter().any(|byte| matches!(byte, 0xC0 | 0xED)) {
        return std::str::from_utf8(encoded).ok().map(str::to_owned);
    }
    let mut plain = Vec::with_capacity(encoded.len());
    let mut rest = encoded;
    while let Some((&byte, tail)) = rest.split_first() {
        rest = match rest {
            [0xC0, 0x80, tail @ ..] => {
                plain.push(0);
                tail
            }
            [
                0xED,
                a @ 0xA0..=0xAF,
                b @ 0x80..=0xBF,
                0xED,
                c @ 0xB0..=0xBF,
                d @ 0x80..=0xBF,
                tail @ ..,
            ] => {
                let bits = |byte: &u8, mask: u8| u32::from(byte & mask);
                let code = (bits(a, 0x0F) << 16)
                    + (bits(b, 0x3F) << 10)
                    + (bits(c, 0x0F) << 6)
                    + bits(d, 0x3F)
                    + 0x1_0000;
                plain.extend(char::from_u32(code)?.to_string().as_bytes());
                tail
            }
            _ => {
                plain.push(byte);
                tail
            }
        };
    }
    String::from_utf8(plain).ok()
}

/// Characters that bytes of UTF-8 show as, by the part they play.
struct Clues {
    first: [HashSet<char>; 3],
    later: HashSet<char>,
    later_strict: HashSet<char>,
}

static CLUES: LazyLock<Clues> = LazyLock::new(|| {
    let set = |characters: &str| characters.chars().collect::<HashSet<char>>();
    Clues {
        first: [set(FIRST_OF_2), set(FIRST_OF_3), set(FIRST_OF_4)],
        later: set(CONTINUATION),
        later_strict: set(CONTINUATION_STRICT),
    }
});

/// `decode_inconsistent_utf8`: runs that look like UTF-8 are repaired on their own.
fn fix_embedded(text: &str) -> String {
    let characters: Vec<char> = text.chars().collect();
    let mut fixed = String::with_capacity(text.len());
    let mut at = 0;
    while at < characters.len() {
        let follows_later = at > 0 && CLUES.later_strict.contains(&characters[at - 1]);
        let mut end = at;
        if !follows_later {
            while let Some(length) = sequence(&characters[end..]) {
                end += length;
            }
        }
        if end == at {
            fixed.push(characters[at]);
            at += 1;
            continue;
        }
        let run: String = characters[at..end].iter().collect();
        if run.len() < text.len() && is_bad(&run) {
            fixed.push_str(&fix_encoding(run));
        } else {
            fixed.push_str(&run);
        }
        at = end;
    }
    fixed
}

/// Length of the sequence that a text begins with. The three classes of first characters share none, so there is no choice.
fn sequence(characters: &[char]) -> Option<usize> {
    let first = characters.first()?;
    let later = 1 + CLUES.first.iter().position(|class| class.contains(first))?;
    characters
        .get(1..=later)?
        .iter()
        .all(|character| CLUES.later.contains(character))
        .then_some(1 + later)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_examples_of_ftfy_come_out_as_there() {
        for (text, expected) in [
            ("âœ” No problems", "✔ No problems"),
            ("&macr;\\_(ã\u{83}\u{84})_/&macr;", "¯\\_(ツ)_/¯"),
            (
                "Broken text&hellip; it&#x2019;s ﬂubberiﬁc!",
                "Broken text… it's flubberific!",
            ),
            ("ＬＯＵＤ　ＮＯＩＳＥＳ", "LOUD NOISES"),
            ("sÃ³", "só"),
            ("voilÃ  le travail", "voilà le travail"),
            ("P&EACUTE;REZ", "PÉREZ"),
            ("&lt; & <b>&lt;</b>", "&lt; & <b>&lt;</b>"),
        ] {
            assert_eq!(fix_text(text), expected, "{text}");
        }
    }

    #[test]
    fn each_code_page_has_half_of_the_bytes() {
        assert!(PAGES.iter().all(|page| page.upper.len() == 128));
        assert_eq!(PAGES[0].encode("é\u{80}"), Some(vec![0xE9, 0x80]));
        assert_eq!(PAGES[WINDOWS_1252].decode(0x80), '€');
    }
}
