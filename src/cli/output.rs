//! Where pictures go: files that appear when they are whole, and nothing of anybody else's in their way.

use std::ffi::OsStr;
use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use super::exit::OutputError;
use crate::domain::Seed;
use crate::model::{parent_of, resolved};

/// Names for a series of pictures.
#[derive(Debug)]
pub(super) enum Outputs {
    /// A name that was asked for; pictures of a series get their index before its ending.
    Named {
        /// The name.
        path: PathBuf,
        /// Whether there are several pictures.
        series: bool,
    },
    /// `pixart-SEED.png` in the working folder, each with its own seed, and never over another picture.
    BySeed(Seed),
}

impl Outputs {
    /// Refuses what cannot be written, before minutes are spent on drawing.
    pub(super) fn new(path: Option<PathBuf>, seed: Seed, count: u32) -> Result<Self, OutputError> {
        let outputs = match path {
            None => Self::BySeed(seed),
            Some(path) => Self::Named {
                path,
                series: count > 1,
            },
        };
        for index in 0..count {
            let path = outputs.path_of(index);
            if let Err(source) = target(&path) {
                return Err(OutputError { path, source });
            }
        }
        Ok(outputs)
    }

    /// Writes a picture under its name when it is whole.
    pub(super) fn write(&self, index: u32, picture: &[u8]) -> Result<PathBuf, OutputError> {
        let mut path = self.path_of(index);
        if let Self::BySeed(_) = self {
            path = free_name(&path, picture);
        }
        let written = target(&path).and_then(|target| {
            let mut file = tempfile::Builder::new()
                .permissions(readable_by_all())
                .tempfile_in(parent_of(&target))?;
            file.write_all(picture)?;
            file.persist(&target)?;
            Ok(())
        });
        match written {
            Ok(()) => Ok(path),
            Err(source) => Err(OutputError { path, source }),
        }
    }

    fn path_of(&self, index: u32) -> PathBuf {
        match self {
            Self::BySeed(seed) => {
                PathBuf::from(format!("pixart-{}.png", seed.for_picture(index).value()))
            }
            Self::Named {
                path,
                series: false,
            } => path.clone(),
            Self::Named { path, series: true } => {
                let ending = path.extension().unwrap_or(OsStr::new("png"));
                numbered(path, &index.to_string(), ending)
            }
        }
    }
}

/// `stem-number.ending`.
fn numbered(path: &Path, number: &str, ending: &OsStr) -> PathBuf {
    let mut name = path.file_stem().unwrap_or_default().to_owned();
    name.push("-");
    name.push(number);
    name.push(".");
    name.push(ending);
    path.with_file_name(name)
}

/// `path`, or with -2, -3, … the first name that is free or already holds this very picture.
fn free_name(path: &Path, picture: &[u8]) -> PathBuf {
    let usable = |path: &Path| {
        fs::symlink_metadata(path).is_err() || fs::read(path).is_ok_and(|there| there == picture)
    };
    let mut candidate = path.to_owned();
    for number in 2_u64.. {
        if usable(&candidate) {
            break;
        }
        candidate = numbered(path, &number.to_string(), OsStr::new("png"));
    }
    candidate
}

/// The file that writing to `path` makes or replaces: what a link points to, whether it is there or not, and only a regular file that
/// may be written.
fn target(path: &Path) -> io::Result<PathBuf> {
    let refused = |why: &str| Err(io::Error::other(why.to_owned()));
    if path.file_name().is_none() || path.is_dir() {
        return refused("it is a folder: name a file, such as picture.png");
    }
    if path.as_os_str() == "-" {
        return refused("pictures go to files: name one, such as picture.png");
    }
    match fs::metadata(path) {
        Ok(there) if !there.is_file() => {
            return refused("it is no regular file: name another one, such as picture.png");
        }
        Ok(there) if there.permissions().readonly() => {
            return refused("it is there and read-only: name another one, or make it writable");
        }
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let target = resolved(path)?;
    // The path of the trial would only confuse: the error is told with the path asked for.
    match tempfile::NamedTempFile::new_in(parent_of(&target)) {
        Ok(_) => Ok(target),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            refused("its folder does not exist: make it first")
        }
        Err(error) => Err(error.kind().into()),
    }
}

fn readable_by_all() -> fs::Permissions {
    use std::os::unix::fs::PermissionsExt as _;
    fs::Permissions::from_mode(0o644)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pictures_of_a_series_get_numbers_before_their_ending() {
        let outputs = Outputs::Named {
            path: PathBuf::from("some/cat.v1.png"),
            series: true,
        };
        assert_eq!(outputs.path_of(1), PathBuf::from("some/cat.v1-1.png"));
    }

    #[test]
    fn pictures_without_a_name_are_called_by_their_own_seeds() {
        let outputs = Outputs::new(None, Seed::new(41), 2).unwrap();
        assert_eq!(outputs.path_of(1), PathBuf::from("pixart-42.png"));
    }

    #[test]
    fn a_default_name_never_replaces_another_picture() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pixart-7.png");
        assert_eq!(free_name(&path, b"one"), path);
        fs::write(&path, "one").unwrap();
        assert_eq!(free_name(&path, b"one"), path, "the same picture again");
        assert_eq!(
            free_name(&path, b"two"),
            folder.path().join("pixart-7-2.png")
        );
    }

    #[test]
    fn a_link_is_followed_and_nothing_but_regular_writable_files_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let (file, link) = (
            folder.path().join("file.png"),
            folder.path().join("link.png"),
        );
        fs::write(&file, "old").unwrap();
        std::os::unix::fs::symlink(&file, &link).unwrap();
        let outputs = Outputs::new(Some(link.clone()), Seed::new(1), 1).unwrap();
        outputs.write(0, b"new").unwrap();
        assert!(link.is_symlink());
        assert_eq!(fs::read(&file).unwrap(), b"new");

        // What is not there yet is made where the link points to.
        let (later, dangling) = (
            folder.path().join("later.png"),
            folder.path().join("dangling.png"),
        );
        std::os::unix::fs::symlink("later.png", &dangling).unwrap();
        let outputs = Outputs::new(Some(dangling.clone()), Seed::new(1), 1).unwrap();
        outputs.write(0, b"new").unwrap();
        assert!(dangling.is_symlink());
        assert_eq!(fs::read(&later).unwrap(), b"new");

        // As /dev/stdout is with a pipe behind it: a link to a link of /proc that leads to no name.
        let (_reader, writer) = io::pipe().unwrap();
        let stdout = folder.path().join("stdout");
        let descriptor = std::os::fd::AsRawFd::as_raw_fd(&writer);
        std::os::unix::fs::symlink(format!("/proc/self/fd/{descriptor}"), &stdout).unwrap();
        let nowhere = folder.path().join("nowhere.png");
        std::os::unix::fs::symlink("no/folder.png", &nowhere).unwrap();

        let mut permissions = fs::metadata(&file).unwrap().permissions();
        permissions.set_readonly(true);
        fs::set_permissions(&file, permissions).unwrap();
        for (path, why) in [
            (file, "read-only"),
            (PathBuf::from("/dev/null"), "regular file"),
            (stdout.clone(), "regular file"),
            (nowhere, "folder does not exist"),
            (folder.path().to_owned(), "folder"),
            (PathBuf::from("-"), "files"),
            (folder.path().join("no/folder.png"), "folder does not exist"),
        ] {
            let error = Outputs::new(Some(path), Seed::new(1), 1).unwrap_err();
            assert!(error.to_string().contains(why), "{error}");
        }
        assert!(stdout.is_symlink());
    }
}
