//! The folder that a checkpoint is pulled to: who may use it now, what an earlier run left, where partials lie.
//!
//! Two pulls into one folder wait for each other, on a lock of that folder. A page in it says of which repository and commit it
//! is, so that no run mixes two checkpoints and every run knows what it may remove. A partial's name has the digest of
//! what it will be; only whole files take their own name, and `model_index.json` is the last.

use std::collections::BTreeSet;
use std::fs::{self, File, TryLockError};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::thread;

use serde::{Deserialize, Serialize};

use super::listing::is_plain_path;
use super::patience::LOOK_EVERY;
use super::progress::Together;
use super::selection::{Item, MODEL_INDEX};
use super::{PullError, Repository};
use crate::files;
use crate::model::{check_free_space, is_beside_content, resolved};

/// The page.
const PAGE: &str = ".pixart-pull.json";
/// Longest page taken.
const MAX_PAGE_BYTES: u64 = 1 << 20;
/// How partials end.
const PARTIAL: &str = ".part";

/// A locked folder.
#[derive(Debug)]
pub(super) struct Folder {
    path: PathBuf,
    /// Held until the run ends.
    _lock: File,
    earlier: Option<Page>,
}

/// What the folder says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
struct Page {
    repository: String,
    revision: String,
    commit: String,
    files: BTreeSet<String>,
}

impl Folder {
    /// Makes the folder where there is none, and waits until no other run uses it.
    pub(super) fn open(
        path: &Path,
        repository: &str,
        together: &Together<'_>,
    ) -> Result<Self, PullError> {
        // A link stays one, also where its folder is not there yet.
        let path = &resolved(path).map_err(PullError::write(path))?;
        let lock = loop {
            fs::create_dir_all(path).map_err(PullError::write(path))?;
            let lock = lock(path, together)?;
            // Whoever held it before may have removed the folder when it needed it no more.
            if is_at(&lock, path).map_err(PullError::write(path))? {
                break lock;
            }
        };
        let earlier = read_page(&path.join(PAGE)).map_err(PullError::write(path))?;
        match &earlier {
            Some(page) if page.repository != repository => {
                return Err(PullError::OtherRepository {
                    path: path.to_owned(),
                    there: page.repository.clone(),
                });
            }
            Some(_) => {}
            None if is_empty(path).map_err(PullError::write(path))? => {}
            None => {
                return Err(PullError::InTheWay {
                    path: path.to_owned(),
                });
            }
        }
        Ok(Self {
            path: path.to_owned(),
            _lock: lock,
            earlier,
        })
    }

    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Holds that what is missing of `items` fits on the disk.
    pub(super) fn check_free_space(&self, items: &[Item]) -> Result<(), PullError> {
        let length = |path: &Path| fs::metadata(path).map_or(0, |metadata| metadata.len());
        let missing = items.iter().map(|item| {
            let here = length(&self.place(item)).max(length(&self.partial(item)));
            item.listed.bytes.unwrap_or(0).saturating_sub(here)
        });
        Ok(check_free_space(&self.path, missing.sum())?)
    }

    /// Removes files and what had come of them.
    pub(super) fn drop_files<'a>(
        &self,
        items: impl Iterator<Item = &'a Item>,
    ) -> Result<(), PullError> {
        for item in items {
            remove(&self.place(item))?;
            remove(&self.partial(item))?;
        }
        Ok(())
    }

    /// Notes what will be here, and removes what an earlier commit had and this one has not.
    pub(super) fn prepare(
        &self,
        repository: &str,
        revision: &str,
        commit: &str,
        items: &[Item],
    ) -> Result<(), PullError> {
        let mut files: BTreeSet<String> = items.iter().map(|item| item.local.clone()).collect();
        let mut stale = BTreeSet::new();
        if let Some(earlier) = &self.earlier {
            stale.extend(earlier.files.difference(&files).cloned());
            if earlier.commit != commit {
                // Two commits' files must not look like one checkpoint.
                let last = items.iter().filter(|item| item.comes_last());
                stale.extend(last.map(|item| item.local.clone()));
                stale.insert(MODEL_INDEX.to_owned());
            }
        }
        // A run that is killed between here and the removal leaves them on the page, for the next.
        let wanted = files.clone();
        files.extend(stale.iter().cloned());
        let mut page = Page {
            repository: repository.to_owned(),
            revision: revision.to_owned(),
            commit: commit.to_owned(),
            files,
        };
        self.write_page(&page)?;
        for name in &stale {
            remove(&self.path.join(name))?;
        }
        if page.files != wanted {
            page.files = wanted;
            self.write_page(&page)?;
        }
        self.remove_other_partials(items)
    }

    fn write_page(&self, page: &Page) -> Result<(), PullError> {
        let path = self.path.join(PAGE);
        let aside = self.path.join(format!("{PAGE}{PARTIAL}"));
        let text = serde_json::to_vec_pretty(page).expect("a page is plain text");
        fs::write(&aside, text)
            .and_then(|()| fs::rename(&aside, &path))
            .map_err(PullError::write(&path))
    }

    /// Partials of bytes that nobody wants any more.
    fn remove_other_partials(&self, items: &[Item]) -> Result<(), PullError> {
        let wanted: BTreeSet<PathBuf> = items.iter().map(|item| self.partial(item)).collect();
        let folders: BTreeSet<PathBuf> = wanted
            .iter()
            .filter_map(|partial| partial.parent())
            .map(Path::to_owned)
            .collect();
        for folder in folders.iter().filter(|folder| folder.is_dir()) {
            for entry in fs::read_dir(folder).map_err(PullError::write(folder))? {
                let path = entry.map_err(PullError::write(folder))?.path();
                let is_partial = path
                    .file_name()
                    .is_some_and(|name| name.to_string_lossy().ends_with(PARTIAL));
                if is_partial && !wanted.contains(&path) {
                    remove(&path)?;
                }
            }
        }
        Ok(())
    }

    /// Where a file will be.
    pub(super) fn place(&self, item: &Item) -> PathBuf {
        self.path.join(&item.local)
    }

    /// Where it is put together when it comes from elsewhere on this machine. A later run removes it like a partial.
    pub(super) fn aside(&self, item: &Item) -> PathBuf {
        let identity = &item.listed.identity;
        self.path
            .join(format!("{}.{identity}.copy{PARTIAL}", item.local))
    }

    /// Removes what had come of a file that is whole.
    pub(super) fn drop_partial(&self, item: &Item) -> Result<(), PullError> {
        remove(&self.partial(item))
    }

    /// Where what has come of it is kept.
    pub(super) fn partial(&self, item: &Item) -> PathBuf {
        let identity = &item.listed.identity;
        self.path
            .join(format!("{}.{identity}{PARTIAL}", item.local))
    }
}

/// The repository that a pull, ended or not, has fetched to a folder.
pub fn pulled_repository(folder: &Path) -> Option<Repository> {
    let page = read_page(&folder.join(PAGE)).ok()??;
    format!("{}@{}", page.repository, page.revision)
        .parse()
        .ok()
}

fn remove(path: &Path) -> Result<(), PullError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(PullError::write(path)(error)),
        _ => Ok(()),
    }
}

/// The page of an earlier run. One that makes no sense, or names what is not below the folder, is none.
fn read_page(path: &Path) -> io::Result<Option<Page>> {
    let page: Option<Page> = match files::read(path, MAX_PAGE_BYTES) {
        Ok(bytes) => serde_json::from_slice(&bytes).ok(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) if error.kind() == io::ErrorKind::FileTooLarge => return Ok(None),
        Err(error) => return Err(error),
    };
    Ok(page.filter(|page| page.files.iter().all(|name| is_plain_path(name))))
}

/// Whether nothing is in the folder but what a run that was killed at once leaves, or a disk has by itself.
fn is_empty(path: &Path) -> io::Result<bool> {
    let aside = format!("{PAGE}{PARTIAL}");
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        let is_beside = entry.file_name().to_str().is_some_and(is_beside_content);
        if entry.file_name() != *aside && !(is_beside && entry.file_type()?.is_dir()) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Whether the opened folder is the one that is at `path` now.
fn is_at(folder: &File, path: &Path) -> io::Result<bool> {
    let opened = folder.metadata()?;
    match fs::metadata(path) {
        Ok(there) => Ok((there.dev(), there.ino()) == (opened.dev(), opened.ino())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// Locks `folder` against other pulls.
fn lock(folder: &Path, together: &Together<'_>) -> Result<File, PullError> {
    let file = File::open(folder).map_err(PullError::write(folder))?;
    let mut told = false;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::Error(source)) => return Err(PullError::write(folder)(source)),
            Err(TryLockError::WouldBlock) => {}
        }
        if !told {
            together.progress.waiting(folder);
            told = true;
        }
        if together.stopped() {
            return Err(PullError::Cancelled);
        }
        thread::sleep(LOOK_EVERY);
    }
}
