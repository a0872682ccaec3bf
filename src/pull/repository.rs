//! `owner/name@revision`, as it stands on the command line.

use std::fmt;
use std::str::FromStr;

/// A repository of models on the hub, at a branch, tag or commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Repository {
    name: String,
    revision: String,
}

/// Why a text names no repository.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "'{text}' names no repository: write OWNER/NAME or OWNER/NAME@REVISION, as in PixArt-alpha/PixArt-XL-2-1024-MS"
)]
pub struct InvalidRepository {
    text: String,
}

impl Repository {
    /// Longest part of a name; the hub's own bound.
    const MAX_CHARS: usize = 96;
    /// Longest revision: a tag's name is a file's name where git keeps it.
    const MAX_REVISION_CHARS: usize = 255;

    /// `owner/name`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The branch, tag or commit; `main` unless given.
    pub fn revision(&self) -> &str {
        &self.revision
    }
}

impl FromStr for Repository {
    type Err = InvalidRepository;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (name, revision) = text.split_once('@').unwrap_or((text, "main"));
        let plain = |part: &str| {
            (1..=Self::MAX_CHARS).contains(&part.len())
                && part.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_')
                && part
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
        };
        // Some old repositories have no owner.
        let parts = name.split('/').count();
        let is_name = parts <= 2 && name.split('/').all(plain);
        // What git takes as a name and an address can carry.
        let is_revision = (1..=Self::MAX_REVISION_CHARS).contains(&revision.len())
            && revision.bytes().all(|byte| byte.is_ascii_graphic())
            && revision
                .split('/')
                .all(|part| !part.is_empty() && part != "." && part != "..");
        if is_name && is_revision {
            Ok(Self {
                name: name.to_owned(),
                revision: revision.to_owned(),
            })
        } else {
            Err(InvalidRepository {
                text: text.escape_debug().to_string(),
            })
        }
    }
}

impl fmt::Display for Repository {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.name, self.revision)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repository_is_owner_and_name_with_or_without_a_revision() {
        for (text, name, revision) in [
            (
                "PixArt-alpha/PixArt-XL-2-1024-MS",
                "PixArt-alpha/PixArt-XL-2-1024-MS",
                "main",
            ),
            ("a/b@refs/pr/3", "a/b", "refs/pr/3"),
            ("a/b@v1.0", "a/b", "v1.0"),
            ("b", "b", "main"),
        ] {
            let repository: Repository = text.parse().unwrap();
            assert_eq!(repository.name(), name);
            assert_eq!(repository.revision(), revision);
        }
    }

    #[test]
    fn what_is_no_repository_is_refused() {
        for text in [
            "",
            "a/",
            "/a",
            "a/b/c",
            "../b",
            "a/..",
            "a/b@",
            "a/b@..",
            "a/b@a/../b",
            "a/b@a b",
            "https://huggingface.co/a/b",
            "a/b c",
            "ä/b",
            "-a/b",
        ] {
            assert!(text.parse::<Repository>().is_err(), "{text}");
        }
        assert!(
            format!("a/{}", "b".repeat(97))
                .parse::<Repository>()
                .is_err()
        );
    }
}
