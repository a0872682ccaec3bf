//! Files that others have put there: opened only where they are regular files, read whole only up to a bound, and trusted only
//! where no other user could have written them.
//!
//! A FIFO in a model folder has no end and no beginning, a link to `/dev/zero` has no end. Either would hold up or fill whoever
//! opens it in good faith, so every room that reads a file by its path opens it here. Links to regular files are files: the cache
//! of the hub's tools is made of them.

use std::fs::{self, File, Metadata};
use std::io::{self, Read as _};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;

/// Opens a regular file for reading. Waits for nobody, and reads nothing.
///
/// # Errors
/// When it cannot be opened, or is a folder, a FIFO, a socket or a device.
pub fn open(path: &Path) -> io::Result<File> {
    // Opening some devices does something already: look first. What takes its place meanwhile is looked at again.
    check_regular(&fs::metadata(path)?)?;
    let file = File::options()
        .read(true)
        .custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY)
        .open(path)?;
    check_regular(&file.metadata()?)?;
    Ok(file)
}

/// Reads a regular file of at most `limit` bytes.
///
/// # Errors
/// When it cannot be read, is no regular file, or is longer.
pub fn read(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    read_opened(&open(path)?, limit)
}

/// [`read`], for text.
///
/// # Errors
/// As for [`read`], and when it is not UTF-8.
pub fn read_text(path: &Path, limit: u64) -> io::Result<String> {
    String::from_utf8(read(path, limit)?)
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "it is not UTF-8"))
}

/// The rest of an opened file of at most `limit` bytes.
///
/// # Errors
/// When it cannot be read, or is longer.
pub fn read_opened(file: &File, limit: u64) -> io::Result<Vec<u8>> {
    let too_long = || {
        let most = if limit < 1 << 20 {
            format!("{limit} bytes")
        } else {
            format!("{} MiB", limit >> 20)
        };
        let what = format!("it is longer than {most}, no such file is");
        Err(io::Error::new(io::ErrorKind::FileTooLarge, what))
    };
    let length = file.metadata()?.len();
    if length > limit {
        return too_long();
    }
    let mut bytes = Vec::with_capacity(usize::try_from(length).unwrap_or(0));
    // It may grow while it is read.
    file.take(limit + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > limit {
        return too_long();
    }
    Ok(bytes)
}

/// Holds that reading comes to an end by itself.
fn check_regular(metadata: &Metadata) -> io::Result<()> {
    let kind = metadata.file_type();
    let what = if kind.is_file() {
        return Ok(());
    } else if kind.is_dir() {
        return Err(io::Error::from_raw_os_error(libc::EISDIR));
    } else if kind.is_fifo() {
        "a FIFO"
    } else if kind.is_socket() {
        "a socket"
    } else {
        "a device"
    };
    let what = format!("it is {what}, and only regular files are read");
    Err(io::Error::new(io::ErrorKind::InvalidInput, what))
}

/// How somebody beside this user and root could have written to a file or folder; none where nobody could.
pub fn writable_by_others(metadata: &Metadata) -> Option<String> {
    let own = rustix::process::geteuid().as_raw();
    let (owner, mode) = (metadata.uid(), metadata.mode() & 0o7777);
    if owner != own && owner != 0 {
        return Some(format!(
            "it belongs to the user {owner}, and pixart runs as {own}"
        ));
    }
    (mode & 0o022 != 0).then(|| format!("other users may write to it (mode {mode:o})"))
}

/// Whether users beside its owner may read it.
pub fn readable_by_others(metadata: &Metadata) -> bool {
    metadata.mode() & 0o044 != 0
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, symlink};
    use std::os::unix::net::UnixListener;

    use super::*;

    /// A FIFO at `path`.
    fn fifo(path: &Path) {
        let mode = rustix::fs::Mode::from_raw_mode(0o600);
        rustix::fs::mknodat(rustix::fs::CWD, path, rustix::fs::FileType::Fifo, mode, 0).unwrap();
    }

    #[test]
    fn what_is_no_regular_file_is_refused_at_once_and_links_to_files_are_read() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fifo(&at("fifo"));
        symlink("/dev/zero", at("zero")).unwrap();
        let _socket = UnixListener::bind(at("socket")).unwrap();
        for (name, told) in [
            ("fifo", "it is a FIFO, and only regular files are read"),
            ("zero", "it is a device"),
            ("socket", "it is a socket"),
            (".", "Is a directory"),
        ] {
            let error = open(&at(name)).unwrap_err().to_string();
            assert!(error.contains(told), "{name}: {error}");
        }
        fs::write(at("file"), "text").unwrap();
        symlink(at("file"), at("link")).unwrap();
        assert_eq!(read_text(&at("link"), 4).unwrap(), "text");
        assert_eq!(
            open(&at("none")).unwrap_err().kind(),
            io::ErrorKind::NotFound
        );
    }

    #[test]
    fn a_file_that_is_too_long_is_not_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        fs::write(&path, "text").unwrap();
        let error = read(&path, 3).unwrap_err().to_string();
        assert_eq!(error, "it is longer than 3 bytes, no such file is");
        // As long as a disk, and read in no time.
        let sparse = File::create(&path).unwrap();
        sparse.set_len(1 << 40).unwrap();
        let error = read(&path, 16 << 20).unwrap_err().to_string();
        assert_eq!(error, "it is longer than 16 MiB, no such file is");
    }

    #[test]
    fn what_others_may_write_to_is_told_from_what_is_our_own() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        fs::write(&path, "").unwrap();
        let with = |mode: u32| {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            fs::metadata(&path).unwrap()
        };
        assert_eq!(writable_by_others(&with(0o644)), None);
        assert!(readable_by_others(&with(0o644)));
        assert!(!readable_by_others(&with(0o600)));
        for mode in [0o666, 0o620, 0o602] {
            let told = writable_by_others(&with(mode)).unwrap();
            assert!(told.contains(&format!("(mode {mode:o})")), "{told}");
        }
    }
}
