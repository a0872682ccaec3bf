//! What a hub lists of a repository: file names, lengths, digests, and the commit that a branch or tag stands for.
//!
//! The shape is that of `GET /api/models/NAME/revision/REVISION?blobs=true`: `sha`, and `siblings` with `rfilename`, `size`,
//! `blobId` and, for large files, `lfs` with `size` and `sha256`.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::PullError;

/// Longest listing taken: one of ten thousand files is 3 MiB.
pub(super) const MAX_BYTES: u64 = 16 << 20;
/// Characters of a commit's or file's name in a partial's: enough that two never meet by chance.
const IDENTITY_CHARS: usize = 16;

/// A repository's files at one commit.
#[derive(Debug)]
pub(super) struct Listing {
    /// The commit; files are asked for by it, so that a branch that moves meanwhile mixes nothing.
    pub(super) commit: String,
    files: BTreeMap<String, Listed>,
}

/// What is said of one file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Listed {
    /// Length.
    pub(super) bytes: Option<u64>,
    /// SHA-256 in lower-case hexadecimal; small files have none.
    pub(super) sha256: Option<String>,
    /// Short name of just these bytes, for their partial.
    pub(super) identity: String,
}

#[derive(Deserialize)]
struct Answer {
    sha: Option<String>,
    siblings: Vec<Sibling>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Sibling {
    rfilename: String,
    size: Option<u64>,
    blob_id: Option<String>,
    lfs: Option<Lfs>,
}

#[derive(Deserialize)]
struct Lfs {
    size: Option<u64>,
    #[serde(alias = "oid")]
    sha256: Option<String>,
}

/// Why a listing is not taken.
#[derive(Debug)]
pub(super) enum BadListing {
    /// It is no listing.
    Nonsense(String),
    /// It names a file that leads elsewhere.
    Hostile(PullError),
}

impl Listed {
    /// `called` is equal exactly where the bytes are: a digest, or the commit that has them.
    pub(super) fn new(bytes: Option<u64>, sha256: Option<String>, called: &str) -> Self {
        Self {
            bytes,
            sha256,
            identity: called
                .chars()
                .filter(char::is_ascii_alphanumeric)
                .take(IDENTITY_CHARS)
                .collect(),
        }
    }
}

impl Listing {
    /// What lies at `commit` where no hub has listed it.
    pub(super) fn of(commit: String, files: BTreeMap<String, Listed>) -> Self {
        Self { commit, files }
    }

    /// Reads the hub's answer for `revision`.
    pub(super) fn parse(json: &[u8], revision: &str) -> Result<Self, BadListing> {
        let answer: Answer = serde_json::from_slice(json)
            .map_err(|error| BadListing::Nonsense(error.to_string()))?;
        let commit = answer.sha.unwrap_or_else(|| revision.to_owned());
        if !is_plain_path(&commit) && commit != revision {
            return Err(BadListing::Nonsense("its commit is none".to_owned()));
        }
        let mut files = BTreeMap::new();
        for sibling in answer.siblings {
            if !is_plain_path(&sibling.rfilename) {
                return Err(BadListing::Hostile(PullError::HostileName {
                    name: sibling.rfilename.escape_debug().to_string(),
                }));
            }
            let (lfs_bytes, sha256) = sibling
                .lfs
                .map_or((None, None), |lfs| (lfs.size, lfs.sha256));
            let sha256 = sha256
                .map(|digest| digest.trim_start_matches("sha256:").to_lowercase())
                .filter(|digest| {
                    digest.len() == 64 && digest.bytes().all(|byte| byte.is_ascii_hexdigit())
                });
            let identity = sha256.as_ref().or(sibling.blob_id.as_ref());
            let identity = identity.unwrap_or(&commit).clone();
            let listed = Listed::new(lfs_bytes.or(sibling.size), sha256, &identity);
            files.insert(sibling.rfilename, listed);
        }
        Ok(Self { commit, files })
    }

    /// What is said of `name`, if it is there.
    pub(super) fn file(&self, name: &str) -> Option<&Listed> {
        self.files.get(name)
    }

    /// The names, in order.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.files.keys().map(String::as_str)
    }
}

/// Whether a name stays below the folder that it is joined to, on any system.
pub(super) fn is_plain_path(name: &str) -> bool {
    const MAX_CHARS: usize = 1024;
    !name.is_empty()
        && name.len() <= MAX_CHARS
        && !name.contains(['\\', ':'])
        && !name.contains(char::is_control)
        && name
            .split('/')
            .all(|part| !part.is_empty() && part != "." && part != "..")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_and_digests_are_those_of_the_file_and_not_of_its_pointer() {
        let digest = "AB".repeat(32);
        let json = format!(
            r#"{{"id": "a/b", "sha": "c0ffee", "private": false, "siblings": [
                {{"rfilename": "model_index.json", "size": 12, "blobId": "0123456789abcdef0123"}},
                {{"rfilename": "vae/a.safetensors", "size": 99, "blobId": "f", "lfs": {{"sha256": "{digest}", "size": 99, "pointerSize": 134}}}},
                {{"rfilename": "README.md"}}]}}"#
        );
        let listing = Listing::parse(json.as_bytes(), "main").unwrap();
        assert_eq!(listing.commit, "c0ffee");
        assert_eq!(
            listing.file("model_index.json"),
            Some(&Listed {
                bytes: Some(12),
                sha256: None,
                identity: "0123456789abcdef".to_owned()
            })
        );
        let large = listing.file("vae/a.safetensors").unwrap();
        assert_eq!(large.bytes, Some(99));
        assert_eq!(large.sha256, Some("ab".repeat(32)));
        assert_eq!(large.identity, "ab".repeat(8));
        assert_eq!(listing.file("README.md").unwrap().identity, "c0ffee");
    }

    #[test]
    fn a_name_that_leads_elsewhere_is_hostile() {
        for name in [
            "../a",
            "a/../../b",
            "/etc/passwd",
            "a//b",
            "./a",
            "a/.",
            "",
            "a\\..\\b",
            "C:a",
            "a\nb",
        ] {
            assert!(!is_plain_path(name), "{name:?}");
            let json = serde_json::json!({"sha": "c", "siblings": [{"rfilename": name}]});
            let refused = Listing::parse(json.to_string().as_bytes(), "main").unwrap_err();
            assert!(matches!(refused, BadListing::Hostile(_)), "{name:?}");
        }
        assert!(is_plain_path(
            "text_encoder/model-00001-of-00002.safetensors"
        ));
        assert!(is_plain_path("..a/b..c/...d"));
    }

    #[test]
    fn what_is_no_listing_is_refused() {
        for json in [
            "",
            "<html>",
            "[]",
            "{}",
            r#"{"sha": "../..", "siblings": []}"#,
        ] {
            let refused = Listing::parse(json.as_bytes(), "main").unwrap_err();
            assert!(matches!(refused, BadListing::Nonsense(_)), "{json}");
        }
    }
}
