//! Text from elsewhere, made safe to show: a model's files may name anything, escape sequences of terminals among it.

use std::borrow::Cow;

/// `text` with every character that a terminal or a browser obeys instead of showing it written as in Rust: `\u{1b}`. Line breaks
/// and tabs stay.
pub fn shown(text: &str) -> Cow<'_, str> {
    without(text, |character| {
        is_obeyed(character) && !"\n\t".contains(character)
    })
}

/// [`shown`] for a name, which has one line.
pub fn one_line(text: &str) -> Cow<'_, str> {
    without(text, is_obeyed)
}

fn without(text: &str, obeyed: impl Fn(char) -> bool) -> Cow<'_, str> {
    if !text.chars().any(&obeyed) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    for character in text.chars() {
        if obeyed(character) {
            out.extend(character.escape_unicode());
        } else {
            out.push(character);
        }
    }
    Cow::Owned(out)
}

/// Whether a character is an order to who shows it: controls (C0, DEL, C1), and those that turn the direction of text around.
pub fn is_obeyed(character: char) -> bool {
    character.is_control()
        || matches!(character, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_terminal_would_obey_is_written_out_and_the_rest_stays() {
        let plain = "two lines\n\tof any script: é 猫 🐈 'quoted'";
        assert!(matches!(shown(plain), Cow::Borrowed(same) if same == plain));
        assert_eq!(
            shown("\u{1b}[31mRED\u{1b}]0;title\u{7}\r\u{9b}2J\u{202e}gnp.exe\u{7f}"),
            "\\u{1b}[31mRED\\u{1b}]0;title\\u{7}\\u{d}\\u{9b}2J\\u{202e}gnp.exe\\u{7f}"
        );
        assert_eq!(one_line("a\nb\tc"), "a\\u{a}b\\u{9}c");
    }
}
