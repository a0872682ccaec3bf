//! Paths and names in commands that messages show, so that a shell takes each as one word.

use std::path::Path;

/// `path` as a word of a shell's command line.
pub fn quoted(path: impl AsRef<Path>) -> String {
    let text = path.as_ref().to_string_lossy();
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_@%+=:,./-".contains(&byte);
    if text.starts_with('-') {
        // Otherwise it would be a flag.
        return quoted(format!("./{text}"));
    }
    if !text.is_empty() && text.bytes().all(is_plain) {
        return text.into_owned();
    }
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shell_takes_every_path_as_one_word() {
        for (path, word) in [
            ("models/PixArt-XL@refs%2Fpr", "models/PixArt-XL@refs%2Fpr"),
            ("my models/a", "'my models/a'"),
            ("it's", r"'it'\''s'"),
            ("~/a", "'~/a'"),
            ("$HOME", "'$HOME'"),
            ("-a", "./-a"),
            ("", "''"),
        ] {
            assert_eq!(quoted(path), word);
        }
    }
}
