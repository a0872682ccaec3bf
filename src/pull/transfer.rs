//! One file: asked for from where its partial ends, checked, and moved into its place when it is whole.

use std::fs::{self, File};
use std::io::{self, Read, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::FileTypeExt as _;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::PullError;
use super::folder::Folder;
use super::hub::{Hub, content_range, header, stalled};
use super::patience::Setback;
use super::progress::Together;
use super::selection::Item;
use crate::files;
use crate::model::hex;

/// What is read, hashed and written at a time.
const BLOCK_BYTES: usize = 256 << 10;

/// Brings `item` into its place, unless it lies there whole.
pub(super) fn transfer(
    hub: &Hub,
    commit: &str,
    item: &Item,
    folder: &Folder,
    together: &Together<'_>,
) -> Result<(), PullError> {
    let place = folder.place(item);
    if is_whole(&place, item, together)? {
        together.progress.already(item.listed.bytes.unwrap_or(0));
        return Ok(());
    }
    if hub.here.take(commit, item, folder, together)? {
        return Ok(());
    }
    let mut partial = Partial::open(folder.partial(item), together)?;
    hub.patience.persist(&item.remote, together, || {
        attempt(hub, commit, item, &mut partial, together)
    })?;
    partial.check_header(item, together)?;
    partial.publish(&place)
}

/// Whether a file of an earlier run is what the hub lists. One that the hub gives no digest of cannot be told from another.
fn is_whole(place: &Path, item: &Item, together: &Together<'_>) -> Result<bool, PullError> {
    let Some(expected) = &item.listed.sha256 else {
        return Ok(false);
    };
    let mut file = match files::open(place) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(PullError::write(place)(error)),
    };
    let length = file.metadata().map_err(PullError::write(place))?.len();
    if item.listed.bytes.is_some_and(|bytes| bytes != length) {
        return Ok(false);
    }
    let (digest, _) = digest_of(&mut file, together).map_err(PullError::write(place))?;
    if together.stopped() {
        return Err(PullError::Cancelled);
    }
    Ok(hex(&digest.finalize()) == *expected)
}

/// Reads a file as far as it says that it is long, or until the run is to stop. Devices have no end.
pub(super) fn digest_of(file: &mut File, together: &Together<'_>) -> io::Result<(Sha256, u64)> {
    let mut file = file.take(file.metadata()?.len());
    let mut digest = Sha256::new();
    let mut bytes = 0;
    let mut block = vec![0; BLOCK_BYTES];
    while !together.stopped() {
        let count = file.read(&mut block)?;
        if count == 0 {
            break;
        }
        digest.update(&block[..count]);
        bytes += count as u64;
    }
    Ok((digest, bytes))
}

/// What has come of a file.
struct Partial {
    path: PathBuf,
    file: File,
    bytes: u64,
    digest: Sha256,
}

impl Partial {
    fn open(path: PathBuf, together: &Together<'_>) -> Result<Self, PullError> {
        let opened = (|| {
            if let Some(parent) = path.parent() {
                fs::create_dir_all(parent)?;
            }
            let mut file = File::options()
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .open(&path)?;
            // It would take what comes until it is full, and wait for a reader then.
            if file.metadata()?.file_type().is_fifo() {
                return Err(io::Error::other("it is a FIFO: remove it"));
            }
            let (digest, bytes) = digest_of(&mut file, together)?;
            Ok((file, digest, bytes))
        })();
        let (file, digest, bytes) = opened.map_err(PullError::write(&path))?;
        together.progress.already(bytes);
        Ok(Self {
            path,
            file,
            bytes,
            digest,
        })
    }

    fn append(&mut self, block: &[u8]) -> Result<(), PullError> {
        self.file
            .write_all(block)
            .map_err(PullError::write(&self.path))?;
        self.digest.update(block);
        self.bytes += block.len() as u64;
        Ok(())
    }

    fn restart(&mut self, together: &Together<'_>) -> Result<(), PullError> {
        together.progress.lost(self.bytes);
        self.bytes = 0;
        self.digest = Sha256::new();
        self.file
            .set_len(0)
            .and_then(|()| self.file.seek(SeekFrom::Start(0)))
            .map(drop)
            .map_err(PullError::write(&self.path))
    }

    /// Holds that it begins with the header that was judged, where one was.
    fn check_header(&mut self, item: &Item, together: &Together<'_>) -> Result<(), PullError> {
        let Some((length, digest)) = item.header else {
            return Ok(());
        };
        let mut begin = Vec::new();
        self.file
            .seek(SeekFrom::Start(0))
            .and_then(|_| Read::take(&self.file, length).read_to_end(&mut begin))
            .map_err(PullError::write(&self.path))?;
        if <[u8; 32]>::from(Sha256::digest(&begin)) == digest {
            return Ok(());
        }
        self.restart(together)?;
        Err(PullError::HeaderChanged {
            file: item.remote.clone(),
        })
    }

    /// Takes its own name, on the disk before its name is.
    fn publish(self, place: &Path) -> Result<(), PullError> {
        self.file
            .sync_data()
            .and_then(|()| fs::rename(&self.path, place))
            .map_err(PullError::write(place))
    }
}

/// One request for what is missing.
fn attempt(
    hub: &Hub,
    commit: &str,
    item: &Item,
    partial: &mut Partial,
    together: &Together<'_>,
) -> Result<(), Setback> {
    let listed = &item.listed;
    if listed.bytes.is_some_and(|bytes| partial.bytes > bytes) {
        partial.restart(together)?;
    }
    let from = partial.bytes;
    // An empty file is whole before anything came; one of unknown length never is.
    if listed.bytes != Some(from) {
        receive(hub, commit, item, partial, together)?;
    }
    let got = hex(&partial.digest.clone().finalize());
    match &listed.sha256 {
        Some(expected) if *expected != got => {
            partial.restart(together)?;
            if from > 0 {
                // What was resumed may not have been what it seemed.
                return Err(Setback::again("another SHA-256 than listed"));
            }
            Err(Setback::Stop(PullError::Hash {
                file: item.remote.clone(),
                expected: expected.clone(),
                got,
            }))
        }
        _ => Ok(()),
    }
}

/// Appends what the hub sends, to the end of the file.
fn receive(
    hub: &Hub,
    commit: &str,
    item: &Item,
    partial: &mut Partial,
    together: &Together<'_>,
) -> Result<(), Setback> {
    let from = partial.bytes;
    let url = hub.file_url(commit, &item.remote);
    let mut answer = hub.get(&url, &item.remote, from)?;
    let body_bytes = answer.body().content_length();
    let whole = match answer.status().as_u16() {
        200 => {
            if from > 0 {
                partial.restart(together)?;
            }
            body_bytes
        }
        206 => match header(&answer, "content-range").and_then(content_range) {
            Some((start, total)) if start == from => total.or(body_bytes.map(|bytes| from + bytes)),
            _ => {
                partial.restart(together)?;
                return Err(Setback::again("another range came than was asked for"));
            }
        },
        _ => {
            partial.restart(together)?;
            return Err(Setback::again("the hub has no such range (416)"));
        }
    };
    let expected = item.listed.bytes.or(whole);
    let length = |got| {
        Setback::Stop(PullError::Length {
            file: item.remote.clone(),
            expected: expected.unwrap_or(0),
            got,
        })
    };
    if let Some(whole) = whole.filter(|&whole| Some(whole) != expected) {
        partial.restart(together)?;
        return Err(length(whole));
    }
    let begin = partial.bytes;
    let mut block = vec![0; BLOCK_BYTES];
    let mut body = answer.body_mut().as_reader();
    loop {
        if together.stopped() {
            return Err(Setback::Stop(PullError::Cancelled));
        }
        let cut = |why: String, partial: &Partial| Setback::Again {
            why,
            after: None,
            progressed: partial.bytes > begin,
        };
        let count = match body.read(&mut block) {
            Ok(0) => match expected {
                Some(expected) if partial.bytes < expected => {
                    return Err(cut("the connection was cut".to_owned(), partial));
                }
                _ => return Ok(()),
            },
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) if error.kind() == io::ErrorKind::TimedOut => {
                return Err(cut(stalled(hub.patience.stall), partial));
            }
            Err(error) => return Err(cut(error.to_string(), partial)),
        };
        let got = partial.bytes + count as u64;
        if expected.is_some_and(|expected| got > expected) {
            partial.restart(together)?;
            return Err(length(got));
        }
        partial.append(&block[..count])?;
        together.progress.advance(count as u64);
    }
}
