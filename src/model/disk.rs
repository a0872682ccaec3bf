//! Room on a disk: told before gigabytes are written, not after.

use std::fs;
use std::path::{Path, PathBuf};

use thiserror::Error;

/// A disk without enough room for what was asked for.
#[derive(Debug, Error)]
#[error(
    "the disk of {} has {} free and {} are needed: make room, or choose a folder on another disk",
    path.display(),
    size_in_words(*available),
    size_in_words(*needed)
)]
pub struct NoSpace {
    /// A folder on the disk.
    pub path: PathBuf,
    /// Bytes that would be written.
    pub needed: u64,
    /// Bytes that a user without privileges may write.
    pub available: u64,
}

/// Holds that `needed` bytes fit on the disk of `folder`. A file system that does not tell is left to say so itself.
///
/// # Errors
/// When they do not fit.
pub(crate) fn check_free_space(folder: &Path, needed: u64) -> Result<(), NoSpace> {
    let Some(available) = free_bytes(folder) else {
        return Ok(());
    };
    if needed <= available {
        return Ok(());
    }
    Err(NoSpace {
        path: folder.to_owned(),
        needed,
        available,
    })
}

/// What a user without privileges may still write, where the system says so.
pub(crate) fn free_bytes(folder: &Path) -> Option<u64> {
    let told = rustix::fs::statvfs(folder).ok()?;
    // Some file systems of containers tell nothing and say so with zeros.
    (told.f_blocks > 0).then(|| told.f_bavail.saturating_mul(told.f_frsize))
}

/// Length of the files below a folder, two deep as checkpoints are; links count as what they lead to.
pub(crate) fn bytes_below(folder: &Path) -> u64 {
    fn below(folder: &Path, depth: usize) -> u64 {
        let entries = fs::read_dir(folder).into_iter().flatten().flatten();
        let lengths = entries.map(|entry| match fs::metadata(entry.path()) {
            Ok(found) if found.is_dir() && depth > 0 => below(&entry.path(), depth - 1),
            Ok(found) if found.is_file() => found.len(),
            _ => 0,
        });
        lengths.sum()
    }
    below(folder, 2)
}

/// In GB, and in MB where that says more.
pub(crate) fn size_in_words(bytes: u64) -> String {
    if bytes < 1_000_000_000 {
        format!("{:.1} MB", bytes as f64 / 1e6)
    } else {
        format!("{:.1} GB", bytes as f64 / 1e9)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_than_any_disk_has_is_refused_and_nothing_is_not() {
        let folder = tempfile::tempdir().unwrap();
        check_free_space(folder.path(), 0).unwrap();
        let error = check_free_space(folder.path(), u64::MAX).unwrap_err();
        let told = error.to_string();
        assert!(
            told.contains(" free and 18446744073.7 GB are needed"),
            "{told}"
        );
        assert!(
            told.contains(&folder.path().display().to_string()),
            "{told}"
        );
        let small = NoSpace {
            path: folder.path().to_owned(),
            needed: 17_200_000,
            available: 0,
        };
        let told = small.to_string();
        assert!(
            told.contains(" 0.0 MB free and 17.2 MB are needed"),
            "{told}"
        );
        // It is never the disk's fault that a folder is not there.
        check_free_space(Path::new("/no/such/folder"), u64::MAX).unwrap();
    }
}
