//! `[auth]`: the keys that open the service. Their text leaves this file for nobody: neither for a log nor for an error.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use toml::Value;

use super::SettingsError;
use crate::files;

/// Largest file of keys that is read: a thousand of the longest ones are a quarter of it.
const MAX_FILE_BYTES: u64 = 1024 * 1024;

/// `[auth]`
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct AuthSettings {
    /// Keys; none opens the service to everybody. After [`super::Settings::resolve`] those of `keys_file` are among them.
    pub keys: ApiKeys,
    /// File with one key a line; empty is none.
    pub keys_file: PathBuf,
}

/// Keys, each 16 to 256 visible ASCII characters once the settings are resolved. Debug output tells how many.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct ApiKeys(Vec<String>);

impl ApiKeys {
    /// Shortest key. With fewer characters guessing becomes worth it.
    pub const MIN_CHARS: usize = 16;
    /// Longest key.
    pub const MAX_CHARS: usize = 256;

    /// Keys for tests and tools.
    ///
    /// # Errors
    /// When one is too short, too long or has other than visible ASCII characters.
    pub fn new(keys: impl IntoIterator<Item = String>) -> Result<Self, String> {
        let keys = Self(keys.into_iter().collect());
        keys.check()?;
        Ok(keys)
    }

    /// Whether nobody needs a key.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// The keys themselves, for whoever compares them.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(String::as_str)
    }

    fn check(&self) -> Result<(), String> {
        for (key, number) in self.0.iter().zip(1..) {
            check_key(key).map_err(|what| format!("auth.keys: key {number} {what}"))?;
        }
        Ok(())
    }

    fn add(&mut self, key: &str) {
        if !self.0.iter().any(|known| known == key) {
            self.0.push(key.to_owned());
        }
    }
}

/// Says of a key what is wrong with it, not what it is.
fn check_key(key: &str) -> Result<(), String> {
    let expected = format!(
        "a key has {} to {} visible ASCII characters",
        ApiKeys::MIN_CHARS,
        ApiKeys::MAX_CHARS
    );
    if !key.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(format!(
            "has a space or another character that is not visible ASCII: {expected}"
        ));
    }
    if !(ApiKeys::MIN_CHARS..=ApiKeys::MAX_CHARS).contains(&key.len()) {
        return Err(format!("has {} characters: {expected}", key.len()));
    }
    Ok(())
}

impl fmt::Debug for ApiKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ApiKeys({})", self.len())
    }
}

impl Serialize for ApiKeys {
    /// For the log of the settings: how many, not which.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{} (redacted)", self.len()))
    }
}

impl<'de> Deserialize<'de> for ApiKeys {
    /// As serde's own for lists of strings, but its errors show no value.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let texts = match Value::deserialize(deserializer)? {
            Value::Array(values) => values
                .into_iter()
                .map(|value| match value {
                    Value::String(text) => Some(text),
                    _ => None,
                })
                .collect(),
            _ => None,
        };
        texts
            .map(Self)
            .ok_or_else(|| D::Error::custom("keys are a list of strings"))
    }
}

impl AuthSettings {
    pub(super) fn check(&self) -> Result<(), String> {
        self.keys.check()
    }

    /// Takes the keys of `keys_file` among `keys`.
    pub(super) fn read_file(&mut self) -> Result<(), SettingsError> {
        if self.keys_file.as_os_str().is_empty() {
            return Ok(());
        }
        let text = read(&self.keys_file).map_err(|source| SettingsError::ReadKeys {
            path: self.keys_file.clone(),
            source,
        })?;
        let invalid = |detail: String| SettingsError::Invalid {
            origin: format!("auth.keys_file {}", self.keys_file.display()),
            detail,
        };
        let mut keys = self.keys.clone();
        let mut is_empty = true;
        for (line, number) in text.trim_start_matches('\u{feff}').lines().zip(1..) {
            let key = line.trim();
            if key.is_empty() || key.starts_with('#') {
                continue;
            }
            check_key(key).map_err(|what| invalid(format!("line {number} {what}")))?;
            keys.add(key);
            is_empty = false;
        }
        // Without keys the service would be open, which is not what somebody wants who names a file of them.
        if is_empty {
            return Err(invalid(
                "holds no key: write one a line, or leave auth.keys_file empty".to_owned(),
            ));
        }
        self.keys = keys;
        Ok(())
    }
}

fn read(path: &Path) -> io::Result<String> {
    let bytes = files::read(path, MAX_FILE_BYTES)?;
    // What is no UTF-8 becomes a character that no key has, and is told with its line.
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "correct-horse-battery";

    fn with_file(text: &[u8]) -> (tempfile::TempDir, AuthSettings) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys");
        std::fs::write(&path, text).unwrap();
        let settings = AuthSettings {
            keys: ApiKeys(vec![KEY.to_owned()]),
            keys_file: path,
        };
        (folder, settings)
    }

    #[test]
    fn debug_output_and_the_log_have_no_key() {
        let settings = AuthSettings {
            keys: ApiKeys::new([KEY.to_owned()]).unwrap(),
            keys_file: PathBuf::new(),
        };
        let logged = toml::to_string(&settings).unwrap();
        for text in [format!("{settings:?}"), format!("{settings:#?}"), logged] {
            assert!(!text.contains(KEY), "{text}");
            assert!(text.contains('1'), "{text}");
        }
    }

    #[test]
    fn keys_of_the_file_join_those_of_the_settings() {
        let (_folder, mut settings) = with_file(
            format!(
                "\u{feff}# staff\r\n  first-key-of-the-file \r\n\r\n{KEY}\nlast-key-of-the-file"
            )
            .as_bytes(),
        );
        settings.read_file().unwrap();
        assert_eq!(
            settings.keys.0,
            [KEY, "first-key-of-the-file", "last-key-of-the-file"]
        );
    }

    #[test]
    fn a_bad_key_is_told_by_file_and_line_and_not_shown() {
        let long = "k".repeat(257);
        for bad in [
            "too-short",
            "with a space inside it",
            "schlüssel-schlüssel",
            &long,
        ] {
            let (_folder, mut settings) = with_file(format!("# one\n\n{bad}\n").as_bytes());
            let error = settings.read_file().unwrap_err().to_string();
            assert!(error.contains("line 3"), "{error}");
            assert!(error.contains("auth.keys_file"), "{error}");
            assert!(error.contains("16 to 256"), "{error}");
            assert!(!error.contains(bad), "{error}");
        }
        let (_folder, mut settings) = with_file(b"sixteen-bytes-\xff\xfe\n");
        assert!(settings.read_file().is_err());
    }

    #[test]
    fn a_file_that_is_missing_empty_or_endless_is_refused() {
        let (folder, mut settings) = with_file(b"# nobody yet\n\n");
        let error = settings.read_file().unwrap_err().to_string();
        assert!(error.contains("holds no key"), "{error}");
        settings.keys_file = folder.path().join("missing");
        let error = settings.read_file().unwrap_err().to_string();
        assert!(error.contains("auth.keys_file"), "{error}");
        assert!(error.contains("missing"), "{error}");
        settings.keys_file = "/dev/zero".into();
        let error = settings.read_file().unwrap_err().to_string();
        assert!(error.contains("more than"), "{error}");
    }
}
