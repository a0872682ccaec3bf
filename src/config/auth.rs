//! `[auth]`: the keys that open the service, and their names. A key's text is in no log and no error; its name is for the log.

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
    /// File with one key a line, or a name and a key; empty is none.
    pub keys_file: PathBuf,
}

/// Keys, each 16 to 256 visible ASCII characters once the settings are resolved, each with a name or without one. Debug
/// output reports how many.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct ApiKeys(Vec<ApiKey>);

/// A key, and what the log calls its holder. Written as `KEY` or `NAME KEY`: a key has no space, so no key of either form can
/// be taken for the other.
#[derive(Clone, PartialEq, Eq)]
struct ApiKey {
    name: Option<String>,
    key: String,
}

impl ApiKey {
    /// Whether the parts make sense is what [`Self::check`] says.
    fn parse(text: &str) -> Self {
        let text = text.trim();
        let (name, key) = match text.split_once(|c: char| c.is_ascii_whitespace()) {
            Some((name, key)) => (Some(name.to_owned()), key.trim_start()),
            None => (None, text),
        };
        Self {
            name,
            key: key.to_owned(),
        }
    }

    /// Says what is wrong, without what was written: either part may be a key.
    fn check(&self) -> Result<(), String> {
        check_key(&self.key)?;
        self.name.as_deref().map_or(Ok(()), check_name)
    }
}

impl ApiKeys {
    /// Shortest key. With fewer characters guessing becomes worth it.
    pub const MIN_CHARS: usize = 16;
    /// Longest key.
    pub const MAX_CHARS: usize = 256;
    /// Longest name: shorter than any key, so that `KEY NAME` is refused instead of logging a key.
    pub const MAX_NAME_CHARS: usize = Self::MIN_CHARS - 1;

    /// Keys for tests and tools, each `KEY` or `NAME KEY`.
    ///
    /// # Errors
    /// When one is too short, too long or has other than visible ASCII characters, or a name makes no sense.
    pub fn new(keys: impl IntoIterator<Item = String>) -> Result<Self, String> {
        let keys = Self(keys.into_iter().map(|text| ApiKey::parse(&text)).collect());
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

    /// The keys themselves, for comparing.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|entry| entry.key.as_str())
    }

    /// The keys with their names.
    pub fn named(&self) -> impl Iterator<Item = (&str, Option<&str>)> {
        self.0
            .iter()
            .map(|entry| (entry.key.as_str(), entry.name.as_deref()))
    }

    fn check(&self) -> Result<(), String> {
        for (entry, number) in self.0.iter().zip(1..) {
            entry
                .check()
                .map_err(|what| format!("auth.keys: key {number} {what}"))?;
        }
        Ok(())
    }

    /// Adds a key that is not there. A key that is gets the name, if it has none.
    fn add(&mut self, entry: ApiKey) {
        match self.0.iter_mut().find(|known| known.key == entry.key) {
            Some(known) => known.name = known.name.take().or(entry.name),
            None => self.0.push(entry),
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

/// Says of a name what is wrong with it, not what it is: it may be a key in the wrong place.
fn check_name(name: &str) -> Result<(), String> {
    let is_fit = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    if name.len() <= ApiKeys::MAX_NAME_CHARS && name.bytes().all(is_fit) {
        return Ok(());
    }
    Err(format!(
        "has a name that cannot be one: write NAME KEY, or KEY alone; a name has 1 to {} characters of A-Z a-z 0-9 . _ -",
        ApiKeys::MAX_NAME_CHARS
    ))
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
                    Value::String(text) => Some(ApiKey::parse(&text)),
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
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let entry = ApiKey::parse(line);
            entry
                .check()
                .map_err(|what| invalid(format!("line {number} {what}")))?;
            keys.add(entry);
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
            keys: ApiKeys(vec![ApiKey::parse(KEY)]),
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
            settings.keys.iter().collect::<Vec<_>>(),
            [KEY, "first-key-of-the-file", "last-key-of-the-file"]
        );
        assert!(settings.keys.named().all(|(_, name)| name.is_none()));
    }

    #[test]
    fn a_key_may_have_a_name_before_it_and_any_key_of_before_means_what_it_did() {
        let text = format!(
            "alice first-key-of-the-file\nweb-2.a \t second-key-of-the-file\n\
             key:with=signs#in-it\nbob {KEY}\n# a comment\n"
        );
        let (_folder, mut settings) = with_file(text.as_bytes());
        settings.read_file().unwrap();
        assert_eq!(
            settings.keys.named().collect::<Vec<_>>(),
            [
                (KEY, Some("bob")),
                ("first-key-of-the-file", Some("alice")),
                ("second-key-of-the-file", Some("web-2.a")),
                ("key:with=signs#in-it", None),
            ]
        );
        assert_eq!(settings.check(), Ok(()));
        assert!(ApiKeys::new([format!("carol {KEY}")]).is_ok());
    }

    #[test]
    fn a_name_that_may_be_a_key_is_refused_and_not_shown() {
        for bad in [
            format!("{KEY} alice"),
            format!("{KEY} another-long-word"),
            format!("alice: {KEY}"),
            format!("a-name-of-16-chr {KEY}"),
            format!("alice bob {KEY}"),
            "alice too-short".to_owned(),
        ] {
            let (_folder, mut settings) = with_file(format!("{bad}\n").as_bytes());
            let error = settings.read_file().unwrap_err().to_string();
            assert!(error.contains("line 1"), "{error}");
            for word in bad.split(' ') {
                assert!(!error.contains(word), "{word}: {error}");
            }
        }
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
        assert!(error.contains("it is a device"), "{error}");
    }
}
