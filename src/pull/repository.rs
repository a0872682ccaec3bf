//! `owner/name@revision`, or an address of the hub, as it stands on the command line.

use std::fmt;
use std::str::FromStr;

use super::address::named_by_address;
use crate::config::PUBLIC_HUB;

/// A repository of models on the hub, at a branch, tag or commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Repository {
    name: String,
    revision: String,
}

/// Why a text names no repository.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidRepository {
    /// It is neither a name nor an address of one.
    #[error(
        "'{text}' names no repository: write OWNER/NAME or OWNER/NAME@REVISION, as in PixArt-alpha/PixArt-XL-2-1024-MS, or paste its address on the hub"
    )]
    Text {
        /// The text, escaped.
        text: String,
    },
    /// An address of something else on the hub.
    #[error(
        "'{text}' is a {kind} of the hub, and only its models can be pulled: write OWNER/NAME of a model"
    )]
    OtherKind {
        /// The address.
        text: String,
        /// `dataset` or `space`.
        kind: String,
    },
    /// An address on another host.
    #[error(
        "'{text}': {host} is not the hub: set HF_ENDPOINT to its address if it is a hub of your own, or write OWNER/NAME"
    )]
    OtherHost {
        /// The address.
        text: String,
        /// Its host.
        host: String,
    },
}

impl InvalidRepository {
    pub(super) fn text(text: &str) -> Self {
        Self::Text {
            text: text.escape_debug().to_string(),
        }
    }
}

impl Repository {
    /// The revision that is meant where none is given.
    pub const MAIN: &str = "main";
    /// Longest part of a name; the hub's own bound.
    const MAX_CHARS: usize = 96;
    /// Longest revision: a tag's name is a file's name where git keeps it.
    const MAX_REVISION_CHARS: usize = 255;

    /// Reads a name, or an address on the public hub or on that at `hub`.
    ///
    /// # Errors
    /// When it is neither.
    pub fn read(text: &str, hub: &str) -> Result<Self, InvalidRepository> {
        let text = text.trim();
        let named = named_by_address(text, hub)?;
        let parsed = Self::parse(named.as_deref().unwrap_or(text));
        parsed.ok_or_else(|| InvalidRepository::text(text))
    }

    /// `owner/name`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The branch, tag or commit; `main` unless given.
    pub fn revision(&self) -> &str {
        &self.revision
    }

    /// The part of its name that follows the owner.
    pub fn own_name(&self) -> &str {
        self.name.rsplit('/').next().unwrap_or(&self.name)
    }

    fn parse(text: &str) -> Option<Self> {
        let (name, revision) = text.split_once('@').unwrap_or((text, Self::MAIN));
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
        (is_name && is_revision).then(|| Self {
            name: name.to_owned(),
            revision: revision.to_owned(),
        })
    }
}

impl FromStr for Repository {
    type Err = InvalidRepository;

    /// [`Self::read`], with the public hub alone.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::read(text, PUBLIC_HUB)
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
            ("https://huggingface.co/a/b/tree/v1.0", "a/b", "v1.0"),
            (" https://hf.co/a/b \n", "a/b", "main"),
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
            "https://huggingface.co/a/b/tree/%2e%2e%2fx",
            "https://huggingface.co/a%20b/c",
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
