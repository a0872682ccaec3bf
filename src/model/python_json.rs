//! JSON as Python writes and reads it: with bare `NaN`, `Infinity` and `-Infinity`, which JSON has not; and with the byte order mark
//! that editors on Windows put in front of a text.
//!
//! The three become strings of those names: whoever reads a number decides what to make of them.

use serde::de::DeserializeOwned;

/// Reads a text.
///
/// # Errors
/// When it is no JSON even so, with the line and column.
pub(crate) fn from_python<T: DeserializeOwned>(text: &str) -> Result<T, serde_json::Error> {
    let text = text.trim_start_matches('\u{feff}');
    if ["NaN", "Infinity"].iter().any(|name| text.contains(name)) {
        serde_json::from_str(&quote_non_finite(text))
    } else {
        serde_json::from_str(text)
    }
}

/// Puts Python's bare `NaN`, `Infinity` and `-Infinity` in quotes. What stands inside of strings stays as it is.
fn quote_non_finite(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 16);
    let mut rest = text;
    while let Some(character) = rest.chars().next() {
        let taken = if character == '"' {
            string_length(rest)
        } else if let Some(name) = ["-Infinity", "Infinity", "NaN"]
            .into_iter()
            .find(|name| rest.starts_with(name))
        {
            quoted.push('"');
            quoted.push_str(name);
            quoted.push('"');
            rest = &rest[name.len()..];
            continue;
        } else {
            character.len_utf8()
        };
        quoted.push_str(&rest[..taken]);
        rest = &rest[taken..];
    }
    quoted
}

/// Length in bytes of the JSON string that `text` begins with, quotes included; all of `text` when it does not end.
fn string_length(text: &str) -> usize {
    let mut escaped = false;
    for (position, byte) in text.bytes().enumerate().skip(1) {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return position + 1,
            _ => {}
        }
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

    #[test]
    fn what_python_writes_is_read() {
        let value: Value =
            from_python("\u{feff}{\"a\": NaN, \"b\": [-Infinity, 1.5], \"NaN\": \"x NaN\"}")
                .unwrap();
        assert_eq!(value["a"], "NaN");
        assert_eq!(value["b"][0], "-Infinity");
        assert_eq!(value["NaN"], "x NaN");
        let error = from_python::<Value>("{\n\"a\": nan}").unwrap_err();
        assert_eq!((error.line(), error.column()), (2, 7));
    }

    proptest! {
        #[test]
        fn strict_json_is_left_as_it_is(text in r#"[A-Za-z\\"é-]{0,40}"#) {
            let json = serde_json::to_string(&text).unwrap();
            prop_assert_eq!(quote_non_finite(&json), json);
        }
    }
}
