//! What tells a file from another, and from what it was earlier, without reading all of it.
//!
//! Length and time of writing do not: fine-tunes of one model have equal lengths, and equal times are normal in reproducible images,
//! archives, object stores and on file systems whose clock ticks in seconds. What the file system keeps for itself (identity, time of
//! the last change of any kind) cannot be set by a program; a sample of the content is looked at beside it, for file systems that keep
//! nothing for themselves.

use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// A file that changed a moment ago may change again within the same tick of its file system's clock.
pub(super) const SETTLED: Duration = Duration::from_secs(2);
/// Places of a file that a sample reads, evenly spread: a fine-tune changes most of its tensors, and each is in many places.
const PLACES: u64 = 64;
/// Bytes that it reads at each: what a disk reads at least.
const PLACE_BYTES: u64 = 4096;

/// What changes whenever a file does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Stamp {
    device: u64,
    inode: u64,
    bytes: u64,
    /// Nanoseconds since 1970: of the last writing.
    modified: i64,
    /// And of the last change of anything, its times included.
    pub(super) changed: i64,
}

impl Stamp {
    /// That of a file.
    pub(crate) fn of(metadata: &Metadata) -> Self {
        let nanoseconds = |seconds: i64, rest: i64| seconds.saturating_mul(1_000_000_000) + rest;
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            bytes: metadata.len(),
            modified: nanoseconds(metadata.mtime(), metadata.mtime_nsec()),
            changed: nanoseconds(metadata.ctime(), metadata.ctime_nsec()),
        }
    }

    /// Every part of it, for a digest.
    pub(crate) fn to_bytes(self) -> [u8; 40] {
        let mut bytes = [0; 40];
        let parts = [
            self.device.to_le_bytes(),
            self.inode.to_le_bytes(),
            self.bytes.to_le_bytes(),
            self.modified.to_le_bytes(),
            self.changed.to_le_bytes(),
        ];
        for (place, part) in bytes.chunks_exact_mut(8).zip(parts) {
            place.copy_from_slice(&part);
        }
        bytes
    }

    /// Whether both are of one file whose content was not written to. Its names may have changed: they count as a change, too.
    pub(super) fn is_as_long_and_as_old(&self, other: &Self) -> bool {
        self.bytes == other.bytes && self.modified == other.modified
    }

    /// Whether no later change can bear the same times.
    pub(super) fn settled(&self, now: SystemTime) -> bool {
        let now = now.duration_since(UNIX_EPOCH).unwrap_or_default();
        let limit = now.saturating_sub(SETTLED).as_nanos();
        self.has_own_time()
            && u128::try_from(self.changed.max(self.modified)).is_ok_and(|last| last < limit)
    }

    /// Whether the file system keeps a time of change of its own. Read-only images (squashfs, EROFS) and FAT give the time of writing
    /// for it, in whole seconds, and may number the files of two images alike: nothing of that can be believed.
    fn has_own_time(&self) -> bool {
        self.changed != self.modified || self.changed % 1_000_000_000 != 0
    }
}

/// Digest of a few places of a file from the byte `start` to its end, `bytes` long altogether. Takes a millisecond where the file is in
/// memory.
///
/// # Errors
/// When it cannot be read, or is shorter.
pub(crate) fn sample(file: &File, start: u64, bytes: u64) -> io::Result<[u8; 32]> {
    let length = bytes.saturating_sub(start);
    let mut digest = Sha256::new();
    let mut block = vec![0; usize::try_from(PLACE_BYTES).unwrap_or(4096)];
    let whole = length <= PLACES * PLACE_BYTES;
    let places = if whole {
        length.div_ceil(PLACE_BYTES)
    } else {
        PLACES
    };
    for place in 0..places {
        let offset = if whole {
            place * PLACE_BYTES
        } else {
            // The last one ends with the file.
            (length - PLACE_BYTES) / (PLACES - 1) * place
        };
        let count = PLACE_BYTES.min(length - offset);
        let block = &mut block[..usize::try_from(count).unwrap_or_default()];
        file.read_exact_at(block, start + offset)?;
        digest.update(&*block);
    }
    Ok(digest.finalize().into())
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    fn sampled(content: &[u8], start: u64) -> [u8; 32] {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(content).unwrap();
        sample(&file, start, content.len() as u64).unwrap()
    }

    #[test]
    fn a_sample_sees_any_byte_of_a_short_file_and_every_scaling_of_a_long_one() {
        let short = vec![1; 10_000];
        for at in [0, 4095, 4096, 9_999] {
            let mut other = short.clone();
            other[at] = 2;
            assert_ne!(sampled(&short, 0), sampled(&other, 0), "{at}");
        }
        assert_eq!(sampled(&[1, 2, 3], 1), sampled(&[9, 2, 3], 1));
        let long = vec![1; 3 << 20];
        let mut half = long.clone();
        half[1 << 20..].fill(2);
        assert_ne!(sampled(&long, 0), sampled(&half, 0));
        let mut last = long.clone();
        last[(3 << 20) - 64] = 2;
        assert_ne!(sampled(&long, 0), sampled(&last, 0));
        assert_eq!(sampled(&[], 0), sampled(&[], 0));
    }

    #[test]
    fn times_that_no_file_system_made_are_not_believed() {
        let stamp = |modified, changed| Stamp {
            device: 1,
            inode: 2,
            bytes: 3,
            modified,
            changed,
        };
        let now = SystemTime::now();
        // As an image of reproducible builds has them.
        assert!(!stamp(0, 0).settled(now));
        assert!(!stamp(1_000_000_000, 1_000_000_000).settled(now));
        assert!(stamp(0, 1_700_000_000_000_000_000).settled(now));
        assert!(stamp(1_500, 1_500).settled(now));
        assert!(!stamp(0, i64::MAX).settled(now));
    }
}
