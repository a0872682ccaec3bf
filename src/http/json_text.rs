//! The text of a JSON body as people really send it, and in words what is wrong with one that cannot be read.
//!
//! Nothing of the text is repeated: it may be somebody's prompt.

use super::error::{ApiError, ErrorCode};

const BYTE_ORDER_MARK: &str = "\u{feff}";

/// The text of a body. A byte order mark at its beginning is left out, as RFC 8259 allows in section 8.1: some editors and
/// shells write one.
///
/// # Errors
/// When it is not UTF-8.
pub(super) fn text(bytes: &[u8]) -> Result<&str, ApiError> {
    if let Some(encoding) = other_encoding(bytes) {
        let what = format!("the body is {encoding}: send JSON as UTF-8");
        return Err(ApiError::new(ErrorCode::InvalidJson, what));
    }
    match std::str::from_utf8(bytes) {
        Ok(text) => Ok(text.strip_prefix(BYTE_ORDER_MARK).unwrap_or(text)),
        Err(error) => {
            let at = error.valid_up_to();
            // What UTF-8 would be of one half of a pair.
            let is_half = matches!(bytes[at..], [0xed, 0xa0..=0xbf, ..]);
            let what = if is_half {
                format!("the body is not UTF-8 from byte {at} on: {HALF}")
            } else {
                format!("the body is not UTF-8 from byte {at} on: send JSON as UTF-8")
            };
            Err(ApiError::new(ErrorCode::InvalidJson, what))
        }
    }
}

const HALF: &str = "an emoji or another rare character was cut in half (one half of a surrogate pair is there): cut texts between whole characters";

/// UTF-16 and UTF-32, by their mark or by the zeros that they make of the ASCII that JSON begins with.
fn other_encoding(bytes: &[u8]) -> Option<&'static str> {
    match *bytes {
        [0xff, 0xfe, 0, 0, ..] | [0, 0, 0xfe, 0xff, ..] | [_, 0, 0, 0, ..] | [0, 0, 0, _, ..] => {
            Some("UTF-32")
        }
        [0xff, 0xfe, ..] | [0xfe, 0xff, ..] | [_, 0, ..] | [0, _, ..] => Some("UTF-16"),
        _ => None,
    }
}

/// The refusal of a text that is not JSON. serde_json's messages name a place and what was expected there.
pub(super) fn unreadable(text: &str, error: &serde_json::Error) -> ApiError {
    let refuse = |what: String| ApiError::new(ErrorCode::InvalidJson, what);
    if text.trim().is_empty() {
        return refuse("the body is empty: send a JSON object, such as {\"prompt\": \"a boat\"} (line 1 column 0)".to_owned());
    }
    let said = error.to_string();
    let place = format!("at line {} column {}", error.line(), error.column());
    if said.starts_with("lone leading surrogate")
        || said.starts_with("unexpected end of hex escape")
    {
        return refuse(format!("the body is not valid JSON {place}: {HALF}"));
    }
    let advice = match place_of(text, error.line(), error.column()) {
        Some(b'\'') => ": JSON takes double quotes alone, and a shell may have taken them away",
        Some(b'N' | b'T' | b'F' | b'I') => {
            ": numbers are finite, and true, false and null are in lower case"
        }
        _ => "",
    };
    refuse(format!("the body is not valid JSON: {said}{advice}"))
}

/// The byte at a line and column, both counted from 1.
fn place_of(text: &str, line: usize, column: usize) -> Option<u8> {
    let line = text.split('\n').nth(line.checked_sub(1)?)?;
    line.as_bytes().get(column.checked_sub(1)?).copied()
}

#[cfg(test)]
mod tests {
    use super::super::body::Object;
    use super::*;

    #[track_caller]
    fn refusal(bytes: &[u8]) -> String {
        let error = Object::parse(bytes).unwrap_err();
        assert_eq!(error.code(), ErrorCode::InvalidJson);
        error.message(None)
    }

    #[test]
    fn a_byte_order_mark_is_left_out_and_other_encodings_are_named() {
        assert!(Object::parse("\u{feff}{\"a\": 1}".as_bytes()).is_ok());
        // One alone, and at the beginning alone.
        assert!(Object::parse("\u{feff}\u{feff}{}".as_bytes()).is_err());
        let units = |big: bool| -> Vec<u8> {
            "{\"prompt\": \"a boat\"}"
                .encode_utf16()
                .flat_map(|unit| {
                    if big {
                        unit.to_be_bytes()
                    } else {
                        unit.to_le_bytes()
                    }
                })
                .collect()
        };
        for big in [false, true] {
            assert!(refusal(&units(big)).contains("UTF-16"), "{big}");
        }
        assert!(refusal(b"\xff\xfe{\0}\0").contains("UTF-16"));
        assert!(refusal(b"\xfe\xff\0{\0}").contains("UTF-16"));
        assert!(refusal(b"{\0\0\0}\0\0\0").contains("UTF-32"));
        assert!(refusal(b"\0\0\0{\0\0\0}").contains("UTF-32"));
        assert!(refusal(b"{\"a\": \"\xe4\"}").contains("not UTF-8 from byte 7"));
    }

    #[test]
    fn half_a_surrogate_pair_is_called_so_wherever_it_stands() {
        for text in [
            &br#"{"a": "a cat \ud83d"}"#[..],
            br#"{"a": "\ud83dx"}"#,
            br#"{"a": "\ud83d\n"}"#,
            br#"{"a": "\ude00"}"#,
            br#"{"a": "\ud83d\ud83d"}"#,
            br#"{"\ud83d": 1}"#,
            b"{\"a\": \"\xed\xa0\xbd\"}",
        ] {
            let message = refusal(text);
            assert!(
                message.contains("cut in half"),
                "{}: {message}",
                text.escape_ascii()
            );
        }
        assert!(!refusal(br#"{"a": "\u12"}"#).contains("cut in half"));
    }

    #[test]
    fn what_other_languages_write_is_told_what_json_has() {
        assert!(refusal(b"").contains("empty"));
        assert!(refusal(b"\xef\xbb\xbf").contains("empty"));
        assert!(refusal(b"{'a': 1}").contains("double quotes"));
        assert!(refusal(b"{\"a\": 'b'}").contains("double quotes"));
        assert!(refusal(b"'{\"a\": 1}'").contains("double quotes"));
        for word in ["NaN", "True", "Infinity", "None"] {
            let message = refusal(format!("{{\"a\":\n {word}}}").as_bytes());
            assert!(message.contains("lower case"), "{message}");
        }
    }
}
