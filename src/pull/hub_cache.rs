//! The cache of the hub's own tools, read and never written: `models--OWNER--NAME/` with `refs/REVISION` (a commit's name),
//! `snapshots/COMMIT/…` (the repository's files, mostly links) and `blobs/` (what those link to, by digest).
//!
//! The layout is that of `huggingface_hub`'s guide "Understand caching".

use std::fs;
use std::path::{Path, PathBuf};

use super::listing::is_plain_path;
use crate::files;

/// What a repository's folder is called, before its name.
const PREFIX: &str = "models--";
/// What stands there for the slash of a name.
const SLASH: &str = "--";
/// Longest name of a commit; that of SHA-256 has 64 characters.
const MAX_COMMIT_BYTES: u64 = 256;
/// Folders inside of folders that a repository may have; PixArt's have one.
const MAX_DEPTH: usize = 8;

/// A repository in the cache.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CachedRepository {
    folder: PathBuf,
    name: String,
}

/// Its files at one commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// `snapshots/COMMIT`.
    pub folder: PathBuf,
    /// The commit.
    pub commit: String,
}

impl CachedRepository {
    /// The repository `name` in the cache at `cache`, where it is there.
    pub fn of(cache: &Path, name: &str) -> Option<Self> {
        Self::at(&cache.join(format!("{PREFIX}{}", name.replace('/', SLASH))))
    }

    /// That of a folder `models--OWNER--NAME`.
    pub fn at(folder: &Path) -> Option<Self> {
        let called = folder.file_name()?.to_str()?.strip_prefix(PREFIX)?;
        folder.join("snapshots").is_dir().then(|| Self {
            folder: folder.to_owned(),
            // Names of the hub have no two dashes side by side.
            name: called.replacen(SLASH, "/", 1),
        })
    }

    /// Every repository of models in the cache at `cache`, by name.
    pub fn all(cache: &Path) -> Vec<Self> {
        let entries = fs::read_dir(cache).into_iter().flatten();
        let mut all: Vec<Self> = entries
            .filter_map(|entry| Self::at(&entry.ok()?.path()))
            .collect();
        all.sort_by(|a, b| a.name.cmp(&b.name));
        all
    }

    /// `owner/name`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its files at a branch, tag or commit, where they are there.
    pub fn snapshot(&self, revision: &str) -> Option<Snapshot> {
        let reference = self.folder.join("refs").join(revision);
        let named = is_plain_path(revision)
            .then(|| files::read_text(&reference, MAX_COMMIT_BYTES).ok())
            .flatten();
        let commit = named.map_or_else(|| revision.to_owned(), |text| text.trim().to_owned());
        let folder = self.folder.join("snapshots").join(&commit);
        (is_plain_path(&commit) && !commit.contains('/') && folder.is_dir())
            .then_some(Snapshot { folder, commit })
    }

    /// The commits that have a snapshot, by name.
    pub fn commits(&self) -> Vec<String> {
        let entries = fs::read_dir(self.folder.join("snapshots"));
        let entries = entries.into_iter().flatten().flatten();
        let mut commits: Vec<String> = entries
            .filter_map(|entry| entry.file_name().into_string().ok())
            .collect();
        commits.sort();
        commits
    }

    /// Its one snapshot, where there is no other.
    pub fn only(&self) -> Option<Snapshot> {
        let entries = fs::read_dir(self.folder.join("snapshots")).ok()?;
        let mut folders = entries.flatten().map(|entry| entry.path());
        let folder = folders.next()?;
        let commit = folder.file_name()?.to_str()?.to_owned();
        folders
            .next()
            .is_none()
            .then_some(Snapshot { folder, commit })
    }

    /// Where the bytes with this SHA-256 are, if they are.
    pub(super) fn blob(&self, sha256: &str) -> PathBuf {
        self.folder.join("blobs").join(sha256)
    }

    /// Where a file of a commit is, if it is.
    pub(super) fn file(&self, commit: &str, name: &str) -> PathBuf {
        self.folder.join("snapshots").join(commit).join(name)
    }
}

impl Snapshot {
    /// Which snapshot of which repository a folder is, wherever its cache lies.
    pub fn at(folder: &Path) -> Option<(CachedRepository, Self)> {
        let snapshots = folder.parent()?;
        let repository = CachedRepository::at(snapshots.parent()?)?;
        let commit = folder.file_name()?.to_str()?.to_owned();
        let is_one = snapshots.file_name()? == "snapshots";
        is_one.then(|| {
            let folder = folder.to_owned();
            (repository, Self { folder, commit })
        })
    }

    /// The names of its files that are there, and of those that are links to nothing.
    pub fn names(&self) -> (Vec<String>, Vec<String>) {
        let (mut there, mut dangling) = (Vec::new(), Vec::new());
        let mut folders = vec![(self.folder.clone(), String::new(), 0)];
        while let Some((folder, prefix, depth)) = folders.pop() {
            for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
                let Ok(name) = entry.file_name().into_string() else {
                    continue;
                };
                let name = format!("{prefix}{name}");
                match fs::metadata(entry.path()) {
                    Ok(found) if found.is_dir() && depth < MAX_DEPTH => {
                        folders.push((entry.path(), format!("{name}/"), depth + 1));
                    }
                    Ok(found) if found.is_file() => there.push(name),
                    Ok(_) => {}
                    Err(_) => dangling.push(name),
                }
            }
        }
        there.sort();
        dangling.sort();
        (there, dangling)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_revision_is_a_reference_or_a_commit_and_reaches_nothing_else() {
        let cache = tempfile::tempdir().unwrap();
        let folder = cache.path().join("models--a--b");
        for name in ["snapshots/c0ffee", "refs/refs/pr"] {
            fs::create_dir_all(folder.join(name)).unwrap();
        }
        fs::create_dir(cache.path().join("datasets--a--c")).unwrap();
        for (name, commit) in [
            ("refs/main", "c0ffee\n"),
            ("refs/refs/pr/1", "c0ffee"),
            ("refs/gone", "badcafe"),
            ("refs/evil", "../../.."),
        ] {
            fs::write(folder.join(name), commit).unwrap();
        }
        let names: Vec<String> = CachedRepository::all(cache.path())
            .iter()
            .map(|repository| repository.name().to_owned())
            .collect();
        assert_eq!(names, ["a/b"]);
        let repository = CachedRepository::of(cache.path(), "a/b").unwrap();
        for revision in ["main", "refs/pr/1", "c0ffee"] {
            let snapshot = repository.snapshot(revision).unwrap();
            assert_eq!(snapshot.commit, "c0ffee");
            assert_eq!(
                Snapshot::at(&snapshot.folder),
                Some((repository.clone(), snapshot))
            );
        }
        for revision in ["gone", "evil", "..", "../snapshots/c0ffee", "other"] {
            assert_eq!(repository.snapshot(revision), None, "{revision}");
        }
        assert_eq!(CachedRepository::of(cache.path(), "a/c"), None);
    }
}
