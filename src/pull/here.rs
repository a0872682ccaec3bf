//! What of a repository is on this machine already, in the hub's cache: taken from there in place of the hub, checked as what the
//! hub sends, and with `HF_HUB_OFFLINE` all that there is.
//!
//! Weights are linked where the disk can do that, so that they take no room twice; nothing in the cache is ever written to.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use sha2::Digest as _;

use super::folder::Folder;
use super::hub_cache::CachedRepository;
use super::listing::{Listed, Listing, is_plain_path};
use super::progress::Together;
use super::selection::Item;
use super::transfer::digest_of;
use super::{MAX_DOCUMENT_BYTES, PullError, Repository};
use crate::config::HubSettings;
use crate::files;
use crate::model::hex;

/// The hub's cache, for one repository.
#[derive(Debug)]
pub(super) struct Here {
    cached: Option<CachedRepository>,
    offline: Option<&'static str>,
    /// What messages call the cache.
    cache: String,
    repository: Repository,
}

impl Here {
    pub(super) fn of(settings: &HubSettings, repository: &Repository) -> Self {
        let cache = settings.cache.as_deref();
        Self {
            cached: cache.and_then(|cache| CachedRepository::of(cache, repository.name())),
            offline: settings.offline,
            cache: cache.map_or_else(
                || "the hub's cache".to_owned(),
                |cache| format!("the hub's cache {}", cache.display()),
            ),
            repository: repository.clone(),
        }
    }

    /// What stands in place of the hub's listing where the hub must not be asked; none where it may.
    pub(super) fn listing(&self) -> Result<Option<Listing>, PullError> {
        let Some(variable) = self.offline else {
            return Ok(None);
        };
        let snapshot = self
            .cached
            .as_ref()
            .and_then(|cached| cached.snapshot(self.repository.revision()))
            .ok_or_else(|| {
                let missing = format!("{} has no {}", self.cache, self.repository);
                self.refused(variable, missing)
            })?;
        let files: BTreeMap<String, Listed> = snapshot
            .names()
            .0
            .into_iter()
            .filter(|name| is_plain_path(name))
            .map(|name| {
                let listed = listed(&snapshot.folder.join(&name), &snapshot.commit);
                (name, listed)
            })
            .collect();
        Ok(Some(Listing::of(snapshot.commit, files)))
    }

    /// A small file, where the hub must not be asked.
    pub(super) fn document(&self, commit: &str, name: &str) -> Option<Result<Vec<u8>, PullError>> {
        let variable = self.offline?;
        let path = self.cached.as_ref()?.file(commit, name);
        let read = || -> io::Result<Vec<u8>> {
            let mut bytes = Vec::new();
            let file = files::open(&path)?;
            file.take(MAX_DOCUMENT_BYTES).read_to_end(&mut bytes)?;
            Ok(bytes)
        };
        Some(read().map_err(|error| {
            self.refused(
                variable,
                format!("{} cannot be read ({error})", path.display()),
            )
        }))
    }

    /// Where the cache has a whole file; an error where it has none and the hub must not be asked.
    pub(super) fn file(&self, commit: &str, item: &Item) -> Result<Option<PathBuf>, PullError> {
        match (self.source(commit, item), self.offline) {
            (None, Some(variable)) => {
                let missing = format!("{} has no whole {}", self.cache, item.remote);
                Err(self.refused(variable, missing))
            }
            (found, _) => Ok(found),
        }
    }

    /// Brings a file into its place from the cache; false where it has to be fetched.
    pub(super) fn take(
        &self,
        commit: &str,
        item: &Item,
        folder: &Folder,
        together: &Together<'_>,
    ) -> Result<bool, PullError> {
        let refusal = |missing: String| match self.offline {
            Some(variable) => Err(self.refused(variable, missing)),
            None => Ok(false),
        };
        let Some(source) = self.source(commit, item) else {
            return refusal(format!("{} has no whole {}", self.cache, item.remote));
        };
        if let Some(expected) = &item.listed.sha256 {
            let digest = files::open(&source).and_then(|mut file| digest_of(&mut file, together));
            if together.stopped() {
                return Err(PullError::Cancelled);
            }
            if !digest.is_ok_and(|(digest, _)| hex(&digest.finalize()) == *expected) {
                return refusal(format!(
                    "{} is damaged (another SHA-256 than the hub lists)",
                    source.display()
                ));
            }
        }
        let place = folder.place(item);
        // Never the partial: that one is written to, and this may be a link to the cache's own file.
        let aside = folder.aside(item);
        let bring = || -> io::Result<()> {
            if let Some(parent) = place.parent() {
                fs::create_dir_all(parent)?;
            }
            match fs::remove_file(&aside) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            if !item.is_of_weights() || fs::hard_link(&source, &aside).is_err() {
                io::copy(&mut files::open(&source)?, &mut File::create(&aside)?)?;
            }
            fs::rename(&aside, &place)
        };
        bring().map_err(PullError::write(&place))?;
        folder.drop_partial(item)?;
        together.progress.already(item.listed.bytes.unwrap_or(0));
        Ok(true)
    }

    /// Those of `items` that take room in `folder`: what is linked takes none.
    pub(super) fn taking_room(&self, commit: &str, items: &[Item], folder: &Path) -> Vec<Item> {
        let device = |path: &Path| fs::metadata(path).map(|found| found.dev()).ok();
        let there = device(folder);
        let is_linked = |item: &&Item| {
            let source = self.source(commit, item).filter(|_| item.is_of_weights());
            source.is_some_and(|source| device(&source) == there)
        };
        items
            .iter()
            .filter(|item| !is_linked(item))
            .cloned()
            .collect()
    }

    /// Says of a file that is missing that the hub was not asked for it.
    pub(super) fn explain(&self, commit: &str, error: PullError) -> PullError {
        match (self.offline, &self.cached, error) {
            (Some(variable), Some(cached), PullError::MissingFile { file, .. }) => {
                let path = cached.file(commit, &file);
                let missing = if path.is_symlink() {
                    format!("{} is a link to a file that is not there", path.display())
                } else {
                    format!("{} has no {file} of {}", self.cache, self.repository)
                };
                self.refused(variable, missing)
            }
            (_, _, error) => error,
        }
    }

    /// The cache's own file of the length that is listed, links resolved: by its digest, whichever commit brought it, or by its name
    /// in this very commit.
    fn source(&self, commit: &str, item: &Item) -> Option<PathBuf> {
        let cached = self.cached.as_ref()?;
        let by_digest = item.listed.sha256.as_ref();
        [
            by_digest.map(|sha256| cached.blob(sha256)),
            Some(cached.file(commit, &item.remote)),
        ]
        .into_iter()
        .flatten()
        .filter_map(|path| path.canonicalize().ok())
        .find(|path| {
            fs::metadata(path).is_ok_and(|found| {
                let length = item.listed.bytes.unwrap_or(found.len());
                found.is_file() && found.len() == length
            })
        })
    }

    fn refused(&self, variable: &'static str, missing: String) -> PullError {
        PullError::Offline {
            variable,
            missing,
            repository: self.repository.to_string(),
            name: self.repository.name().to_owned(),
        }
    }
}

/// What the cache says of a file: blobs of large ones are called by their SHA-256, those of others by git's digest.
fn listed(path: &Path, commit: &str) -> Listed {
    let blob = path.canonicalize().ok();
    let called = blob
        .as_deref()
        .filter(|blob| {
            blob.parent()
                .is_some_and(|parent| parent.ends_with("blobs"))
        })
        .and_then(|blob| blob.file_name()?.to_str())
        .map(str::to_owned);
    let sha256 = called
        .clone()
        .filter(|name| name.len() == 64 && name.bytes().all(|byte| byte.is_ascii_hexdigit()));
    Listed::new(
        fs::metadata(path).ok().map(|found| found.len()),
        sha256,
        called.as_deref().unwrap_or(commit),
    )
}
