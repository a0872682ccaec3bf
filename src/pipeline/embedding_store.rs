//! Text embeddings on disk, from one start to the next: one file each, checked when it is read, written whole or not at all.
//!
//! A file's name and head are the SHA-256 of all that decides an embedding: the model's digest, device, arithmetic and
//! runtime, and the token ids. Neither prompts nor ids are written. What does not check out is no embedding, and is removed.
//!
//! ```text
//! 8 bytes    "pixart-e"
//! u32 LE     version of this layout, 1
//! u32 LE     tokens
//! u32 LE     width
//! 32 bytes   the key
//! f32 LE     tokens × width
//! 32 bytes   SHA-256 of everything before
//! ```
//!
//! Several processes of one user may share a folder. What another user could have put there would be drawn in this one's name: a
//! folder or a file that others may write to is not used. It is bounded: whoever writes removes the least recently used files beyond
//! [`MAX_BYTES`] and [`MAX_FILES`].

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use ndarray::Array2;
use sha2::{Digest, Sha256};
use tempfile::NamedTempFile;
use thiserror::Error;

use crate::files;
use crate::model::hex;

const MAGIC: &[u8; 8] = b"pixart-e";
const VERSION: u32 = 1;
/// Bytes before the elements, and after them.
const HEAD: usize = 8 + 3 * 4 + 32;
const TAIL: usize = 32;
/// No embedding is larger: 300 tokens of width 16384 are 19 MiB.
const MAX_FILE_BYTES: u64 = 64 << 20;
/// What all files take together: 500 prompts of 120 tokens at width 4096.
const MAX_BYTES: u64 = 1 << 30;
/// So many are looked through in milliseconds.
const MAX_FILES: usize = 4096;
const ENDING: &str = "embedding";
/// What a process that ended in the middle of writing has left; nobody writes for so long.
const UNFINISHED: &str = ".unfinished-";
const STALE: Duration = Duration::from_secs(3600);

/// SHA-256 of what decides an embedding.
type Key = [u8; 32];

/// Why a folder cannot keep embeddings.
#[derive(Debug, Error)]
pub enum OpenError {
    /// It cannot be made or written to.
    #[error(transparent)]
    Folder(#[from] io::Error),
    /// Others may write to it, in the way that is told: what lies there may be theirs.
    #[error("{0}")]
    Others(String),
}

/// A folder of embeddings.
#[derive(Debug)]
pub struct EmbeddingStore {
    folder: PathBuf,
    /// Of everything but the ids.
    context: Sha256,
    max_bytes: u64,
    max_files: usize,
    /// Whether the last writing failed: the log hears of the first in a row.
    failing: bool,
}

impl EmbeddingStore {
    /// Embeddings in `folder`, which is made where it is not there. `context` is everything beside the ids that decides their
    /// numbers.
    ///
    /// # Errors
    /// When the folder cannot be made or written to, or others may write to it.
    pub fn open(folder: &Path, context: &[&str]) -> Result<Self, OpenError> {
        // What is in it tells what was drawn.
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(folder)?;
        if let Some(how) = files::writable_by_others(&fs::metadata(folder)?) {
            return Err(OpenError::Others(how));
        }
        unfinished(folder)?.close()?;
        let mut digest = Sha256::new();
        for part in context {
            digest.update((part.len() as u64).to_le_bytes());
            digest.update(part);
        }
        Ok(Self {
            folder: folder.to_owned(),
            context: digest,
            max_bytes: MAX_BYTES,
            max_files: MAX_FILES,
            failing: false,
        })
    }

    /// The embeddings of these ids, if they are there and whole.
    pub(super) fn get(&self, ids: &[i64]) -> Option<Array2<f32>> {
        let key = self.key(ids);
        let path = self.path(&key);
        match read(&path) {
            Ok((file, bytes)) => {
                let embeddings = parse(&bytes, &key, ids.len());
                if embeddings.is_none() {
                    remove(&path, "it is damaged");
                } else {
                    // It was used just now; where that cannot be written down, it only leaves earlier.
                    let _ = file.set_modified(SystemTime::now());
                }
                embeddings
            }
            Err(Unusable::Error(error)) if error.kind() == io::ErrorKind::NotFound => None,
            Err(Unusable::Error(error)) => {
                tracing::warn!(path = %path.display(), %error, "a kept text embedding cannot be read");
                None
            }
            // Nobody has it from us.
            Err(Unusable::Foreign(why)) => {
                remove(&path, &why);
                None
            }
        }
    }

    /// Keeps the embeddings of these ids. Where that does not work, the log is told and nothing is lost.
    pub(super) fn put(&mut self, ids: &[i64], embeddings: &Array2<f32>) {
        let written = self.write(ids, embeddings);
        if let Err(error) = &written
            && !self.failing
        {
            tracing::warn!(
                folder = %self.folder.display(),
                %error,
                "text embeddings cannot be kept: make room or give the right to write, or empty model.embedding_cache_directory"
            );
        }
        self.failing = written.is_err();
    }

    fn write(&self, ids: &[i64], embeddings: &Array2<f32>) -> io::Result<()> {
        let key = self.key(ids);
        let Some(bytes) = written(embeddings, &key) else {
            return Ok(());
        };
        let mut file = unfinished(&self.folder)?;
        file.write_all(&bytes)?;
        // Not flushed to the disk: a file that a power cut tears does not check out.
        file.persist(self.path(&key)).map_err(|error| error.error)?;
        self.make_room()
    }

    /// Removes the least recently used files until the bounds hold, and what was never finished.
    fn make_room(&self) -> io::Result<()> {
        let mut kept = Vec::new();
        let now = SystemTime::now();
        for entry in fs::read_dir(&self.folder)? {
            let path = entry?.path();
            // Another process may have removed it by now.
            let Ok(metadata) = fs::metadata(&path) else {
                continue;
            };
            let modified = metadata.modified()?;
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            if path.extension().is_some_and(|ending| ending == ENDING) {
                kept.push((modified, metadata.len(), path));
            } else if name.starts_with(UNFINISHED)
                && now.duration_since(modified).is_ok_and(|age| age > STALE)
            {
                let _ = fs::remove_file(path);
            }
        }
        kept.sort_unstable();
        let mut bytes: u64 = kept.iter().map(|(_, bytes, _)| bytes).sum();
        let mut files = kept.len();
        for (_, size, path) in kept {
            if bytes <= self.max_bytes && files <= self.max_files {
                break;
            }
            match fs::remove_file(path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {
                    bytes -= size;
                    files -= 1;
                }
            }
        }
        Ok(())
    }

    fn key(&self, ids: &[i64]) -> Key {
        let mut digest = self.context.clone();
        for id in ids {
            digest.update(id.to_le_bytes());
        }
        digest.finalize().into()
    }

    fn path(&self, key: &Key) -> PathBuf {
        self.folder.join(format!("{}.{ENDING}", hex(key)))
    }
}

/// A file of the folder that is there under its own name only when it is whole, for nobody else to read.
fn unfinished(folder: &Path) -> io::Result<NamedTempFile> {
    tempfile::Builder::new()
        .prefix(UNFINISHED)
        .tempfile_in(folder)
}

/// Why a file is no embedding.
enum Unusable {
    /// It cannot be read now.
    Error(io::Error),
    /// It is none that we wrote.
    Foreign(String),
}

impl From<io::Error> for Unusable {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            // No regular file, or longer than any.
            io::ErrorKind::InvalidInput
            | io::ErrorKind::IsADirectory
            | io::ErrorKind::FileTooLarge => Self::Foreign(error.to_string()),
            _ => Self::Error(error),
        }
    }
}

/// A file of ours, and its bytes.
fn read(path: &Path) -> Result<(File, Vec<u8>), Unusable> {
    let file = files::open(path)?;
    if let Some(how) = files::writable_by_others(&file.metadata()?) {
        return Err(Unusable::Foreign(how));
    }
    let bytes = files::read_opened(&file, MAX_FILE_BYTES)?;
    Ok((file, bytes))
}

/// Removes what is no embedding, and says so.
fn remove(path: &Path, why: &str) {
    tracing::warn!(path = %path.display(), why, "a kept text embedding cannot be used, and is removed");
    let _ = fs::remove_file(path);
}

/// A file's bytes; none of embeddings that are larger than any.
fn written(embeddings: &Array2<f32>, key: &Key) -> Option<Vec<u8>> {
    let (tokens, width) = embeddings.dim();
    let length = HEAD + embeddings.len() * size_of::<f32>() + TAIL;
    if length as u64 > MAX_FILE_BYTES {
        return None;
    }
    let mut bytes = Vec::with_capacity(length);
    bytes.extend(MAGIC);
    for number in [
        VERSION,
        u32::try_from(tokens).ok()?,
        u32::try_from(width).ok()?,
    ] {
        bytes.extend(number.to_le_bytes());
    }
    bytes.extend(key);
    for value in embeddings {
        bytes.extend(value.to_le_bytes());
    }
    let digest = Sha256::digest(&bytes);
    bytes.extend_from_slice(&digest);
    Some(bytes)
}

/// The embeddings of `tokens` tokens in a file's bytes; none where anything is not as it was written.
fn parse(bytes: &[u8], key: &Key, tokens: usize) -> Option<Array2<f32>> {
    let (body, digest) = bytes.split_at_checked(bytes.len().checked_sub(TAIL)?)?;
    if Sha256::digest(body).as_slice() != digest {
        return None;
    }
    let (head, elements) = body.split_at_checked(HEAD)?;
    let (magic, head) = head.split_at(MAGIC.len());
    let (numbers, its_key) = head.split_at(3 * 4);
    let numbers: Vec<u32> = numbers
        .chunks_exact(4)
        .map(|four| u32::from_le_bytes([four[0], four[1], four[2], four[3]]))
        .collect();
    let width = usize::try_from(numbers[2]).ok()?;
    let is_it = magic == MAGIC
        && numbers[0] == VERSION
        && usize::try_from(numbers[1]).ok()? == tokens
        && its_key == key
        && elements.len() == tokens.checked_mul(width)?.checked_mul(size_of::<f32>())?;
    let values: Vec<f32> = elements
        .chunks_exact(4)
        .map(|four| f32::from_le_bytes([four[0], four[1], four[2], four[3]]))
        .collect();
    if !is_it || values.iter().any(|value| !value.is_finite()) {
        return None;
    }
    Array2::from_shape_vec((tokens, width), values).ok()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use proptest::prelude::*;

    use super::*;

    const CONTEXT: [&str; 2] = ["digest", "bf16"];

    fn embeddings(tokens: usize, value: f32) -> Array2<f32> {
        Array2::from_elem((tokens, 4), value)
    }

    fn open(folder: &Path) -> EmbeddingStore {
        EmbeddingStore::open(folder, &CONTEXT).unwrap()
    }

    fn files(folder: &Path) -> Vec<PathBuf> {
        let mut files: Vec<PathBuf> = fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .collect();
        files.sort();
        files
    }

    #[test]
    fn what_was_kept_is_there_at_the_next_start_for_the_same_model_and_ids() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path().join("made/here");
        let kept = Array2::from_shape_fn((2, 3), |(row, column)| row as f32 - 0.1 * column as f32);
        open(&folder).put(&[3, 1], &kept);
        assert_eq!(open(&folder).get(&[3, 1]), Some(kept));
        for other in [&[1, 3][..], &[3], &[3, 1, 1], &[]] {
            assert_eq!(open(&folder).get(other), None, "{other:?}");
        }
        for context in [["digest", "f32"], ["other", "bf16"], ["digestb", "f16"]] {
            let other = EmbeddingStore::open(&folder, &context).unwrap();
            assert_eq!(other.get(&[3, 1]), None, "{context:?}");
        }
        assert_eq!(files(&folder).len(), 1);
    }

    #[test]
    fn a_damaged_file_is_none_and_is_removed() {
        let folder = tempfile::tempdir().unwrap();
        let mut store = open(folder.path());
        store.put(&[3, 1], &embeddings(2, 0.5));
        let path = files(folder.path()).remove(0);
        let whole = fs::read(&path).unwrap();
        assert_eq!(whole.len(), HEAD + 2 * 4 * 4 + TAIL);
        let cut = whole[..whole.len() - 1].to_vec();
        let mut flipped = whole.clone();
        flipped[HEAD + 3] ^= 1;
        for bytes in [Vec::new(), cut, flipped, [whole.clone(), vec![0]].concat()] {
            fs::write(&path, bytes).unwrap();
            assert_eq!(store.get(&[3, 1]), None);
            assert!(!path.exists());
        }
        // One that is whole and has another's name.
        store.put(&[1, 1], &embeddings(2, 0.5));
        let other = files(folder.path()).remove(0);
        fs::rename(other, &path).unwrap();
        assert_eq!(store.get(&[3, 1]), None);
        assert!(!path.exists());
        // What is not finite is none, however whole it is.
        store.put(&[3, 1], &embeddings(2, f32::NAN));
        assert_eq!(store.get(&[3, 1]), None);
    }

    #[test]
    fn a_folder_that_others_may_write_to_is_not_used() {
        let folder = tempfile::tempdir().unwrap();
        for mode in [0o777, 0o1777, 0o770] {
            fs::set_permissions(folder.path(), fs::Permissions::from_mode(mode)).unwrap();
            let refused = EmbeddingStore::open(folder.path(), &CONTEXT);
            assert!(matches!(refused, Err(OpenError::Others(_))), "{mode:o}");
        }
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        open(folder.path());
        let made = folder.path().join("made");
        let mut store = open(&made);
        store.put(&[3, 1], &embeddings(2, 0.5));
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&made), mode(&files(&made)[0])), (0o700, 0o600));
    }

    #[test]
    fn what_is_no_file_of_ours_is_none_at_once_and_is_removed() {
        let folder = tempfile::tempdir().unwrap();
        let mut store = open(folder.path());
        store.put(&[3, 1], &embeddings(2, 0.5));
        let path = files(folder.path()).remove(0);
        let whole = fs::read(&path).unwrap();
        let fifo = || {
            let made = std::process::Command::new("mkfifo").arg(&path).status();
            assert!(made.unwrap().success());
        };
        let device = || std::os::unix::fs::symlink("/dev/zero", &path).unwrap();
        let others = || {
            fs::write(&path, &whole).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).unwrap();
        };
        let endless = || File::create(&path).unwrap().set_len(1 << 40).unwrap();
        for place in [&fifo as &dyn Fn(), &device, &others, &endless] {
            fs::remove_file(&path).unwrap();
            place();
            assert_eq!(store.get(&[3, 1]), None);
            assert!(!path.exists(), "it is removed");
            store.put(&[3, 1], &embeddings(2, 0.5));
            assert!(store.get(&[3, 1]).is_some(), "and another one is kept");
        }
    }

    #[test]
    fn the_least_recently_used_leave_when_there_are_too_many() {
        let bytes = (HEAD + 2 * 4 * 4 + TAIL) as u64;
        for (max_bytes, max_files) in [(2 * bytes, 100), (u64::MAX, 2)] {
            let folder = tempfile::tempdir().unwrap();
            let mut store = EmbeddingStore {
                max_bytes,
                max_files,
                ..open(folder.path())
            };
            let stamp = |store: &EmbeddingStore, id: i64, seconds: u64| {
                let file = File::open(store.path(&store.key(&[id, 1]))).unwrap();
                let time = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
                file.set_modified(time).unwrap();
            };
            store.put(&[1, 1], &embeddings(2, 1.0));
            stamp(&store, 1, 10);
            store.put(&[2, 1], &embeddings(2, 2.0));
            stamp(&store, 2, 20);
            // A look makes the first the last.
            assert!(store.get(&[1, 1]).is_some());
            store.put(&[3, 1], &embeddings(2, 3.0));
            assert!(store.get(&[2, 1]).is_none());
            assert!(store.get(&[1, 1]).is_some() && store.get(&[3, 1]).is_some());
            assert_eq!(files(folder.path()).len(), 2);
        }
    }

    #[test]
    fn what_was_never_finished_is_removed_when_it_is_old() {
        let folder = tempfile::tempdir().unwrap();
        let mut store = open(folder.path());
        for (name, age) in [("old", 2 * STALE), ("new", Duration::ZERO)] {
            let file = File::create(folder.path().join(format!("{UNFINISHED}{name}"))).unwrap();
            file.set_modified(SystemTime::now() - age).unwrap();
        }
        fs::write(folder.path().join("notes.txt"), "mine").unwrap();
        store.put(&[3, 1], &embeddings(2, 0.5));
        let names: Vec<_> = files(folder.path())
            .iter()
            .map(|path| path.extension().unwrap_or_default().to_owned())
            .collect();
        assert_eq!(names.len(), 3, "{names:?}");
        assert!(!folder.path().join(".unfinished-old").exists());
    }

    #[test]
    fn a_folder_that_is_gone_or_is_none_loses_nothing_but_what_it_would_have_kept() {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().join("store");
        let mut store = open(&place);
        fs::remove_dir(&place).unwrap();
        store.put(&[3, 1], &embeddings(2, 0.5));
        assert!(store.failing);
        assert_eq!(store.get(&[3, 1]), None);
        fs::write(&place, "a file").unwrap();
        assert!(EmbeddingStore::open(&place, &CONTEXT).is_err());
    }

    proptest! {
        #[test]
        fn bytes_of_any_kind_are_none_or_what_was_written(
            mut bytes in prop::collection::vec(any::<u8>(), 0..200),
            seal in any::<bool>(),
            tokens in 0_usize..5,
        ) {
            if seal {
                let digest = Sha256::digest(&bytes);
                bytes.extend_from_slice(&digest);
            }
            prop_assert_eq!(parse(&bytes, &[7; 32], tokens), None);
        }
    }
}
