//! The place that is written to: what a path leads to through links, and folders that stay where they are while what is in them is
//! replaced.
//!
//! A folder is usually replaced as a whole, by two renames. A mount point cannot be renamed, nor a folder above which this user may
//! not write; such a folder is filled: the new files are made in a hidden folder inside of it, and renamed into their places with the
//! one that makes a whole of them last. Killed in between, the folder lacks that file.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{Access, access};

/// Most links in a row: the kernel's own limit.
const MAX_LINKS: usize = 40;
/// How the names of folders begin that are ours in a folder that is filled.
pub(crate) const OWN_PREFIX: &str = ".pixart.";
/// Where ext4 puts what it has found after a crash, at the top of every disk.
const LOST_AND_FOUND: &str = "lost+found";

/// Where writing to `path` goes: the end of its links, whether something is there or not. A path that is no link is returned as it is.
///
/// # Errors
/// When a link leads to something that has no name, such as a pipe or a file that was removed, to itself, or cannot be read.
pub(crate) fn resolved(path: &Path) -> io::Result<PathBuf> {
    let mut place = path.to_owned();
    for _ in 0..MAX_LINKS {
        if !place.is_symlink() {
            return Ok(place);
        }
        match fs::metadata(&place) {
            Ok(_) => {
                return fs::canonicalize(&place).map_err(|error| match error.kind() {
                    // Links of /proc/self/fd lead there without a name.
                    io::ErrorKind::NotFound => io::Error::other(
                        "it leads to something that has no name: name a file of its own",
                    ),
                    _ => error,
                });
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let link = fs::read_link(&place)?;
                place = parent_of(&place).join(link);
            }
            Err(error) => return Err(error),
        }
    }
    Err(io::Error::other("it is a link that leads to itself"))
}

/// The folder that `path` lies in.
pub(crate) fn parent_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// Whether the folder `output`, which is no link, has to be filled, and cannot be replaced as a whole.
pub(crate) fn is_filled(output: &Path) -> bool {
    output.is_dir()
        && (is_mount_point(output)
            || output.join(LOST_AND_FOUND).is_dir()
            || access(parent_of(output), Access::WRITE_OK | Access::EXEC_OK).is_err())
}

/// Whether an entry at the top of a folder is none of its content: a disk's own, or one of ours.
pub(crate) fn is_beside_content(name: &str) -> bool {
    name == LOST_AND_FOUND || name.starts_with(OWN_PREFIX)
}

fn is_mount_point(folder: &Path) -> bool {
    let Ok(place) = fs::canonicalize(folder) else {
        return false;
    };
    let device = |path: &Path| fs::metadata(path).map(|found| found.dev()).ok();
    if place
        .parent()
        .is_some_and(|parent| device(parent) != device(&place))
    {
        return true;
    }
    // A folder of the same disk may be mounted, too.
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    is_mounted(&mounts, &place)
}

/// Whether a table of mounts, as proc(5) has it, names `place`.
fn is_mounted(mounts: &str, place: &Path) -> bool {
    let places = mounts.lines().filter_map(|line| line.split(' ').nth(4));
    places
        .map(unescaped)
        .any(|mount| Path::new(&mount) == place)
}

/// The table writes white space and backslashes as `\` and three octal digits.
fn unescaped(text: &str) -> String {
    [
        (r"\040", " "),
        (r"\011", "\t"),
        (r"\012", "\n"),
        (r"\134", r"\"),
    ]
    .into_iter()
    .fold(text.to_owned(), |text, (from, to)| text.replace(from, to))
}

/// A folder whose content is replaced file by file.
pub(crate) struct Filling<'a> {
    /// The new files.
    pub from: &'a Path,
    /// The folder.
    pub to: &'a Path,
    /// Where its earlier files go: a folder on the same disk that is not there yet.
    pub aside: &'a Path,
    /// The earlier files, by their paths below it.
    pub old: &'a [PathBuf],
    /// The file without which the folder is not whole: the first to go and the last to come.
    pub last: &'a str,
}

impl Filling<'_> {
    /// Replaces the content by renames alone. What fails is undone.
    ///
    /// # Errors
    /// When something cannot be moved.
    pub(crate) fn fill(&self) -> io::Result<()> {
        let mut new = files_below(self.from)?;
        new.sort_by_key(|name| name == Path::new(self.last));
        let mut old: Vec<&PathBuf> = self.old.iter().collect();
        old.sort_by_key(|name| name.as_path() != Path::new(self.last));
        let away = old.into_iter().map(|name| (self.to, self.aside, name));
        let moves = away.chain(new.iter().map(|name| (self.from, self.to, name)));
        let mut done: Vec<(PathBuf, PathBuf)> = Vec::new();
        for (from, to, name) in moves {
            let (from, to) = (from.join(name), to.join(name));
            let moved = fs::create_dir_all(parent_of(&to)).and_then(|()| fs::rename(&from, &to));
            if let Err(error) = moved {
                for (from, to) in done.iter().rev() {
                    // What cannot be put back stays in the folder aside, where the next conversion finds it.
                    let _ = fs::rename(to, from);
                }
                return Err(error);
            }
            done.push((from, to));
        }
        Ok(())
    }
}

/// Every file below `folder`, by its path from there; of its top, what is content.
pub(crate) fn files_below(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(inner) = folders.pop() {
        for entry in fs::read_dir(&inner)? {
            let entry = entry?;
            let path = entry.path();
            let is_dir = entry.file_type()?.is_dir();
            let is_beside = is_dir && inner == folder;
            if is_beside && entry.file_name().to_str().is_some_and(is_beside_content) {
                continue;
            }
            if is_dir {
                folders.push(path);
            } else {
                files.push(path.strip_prefix(folder).unwrap_or(&path).to_owned());
            }
        }
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_link_leads_to_its_end_whether_something_is_there_or_not() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        symlink("images/latest.png", at("one")).unwrap();
        symlink("one", at("two")).unwrap();
        assert_eq!(resolved(&at("two")).unwrap(), at("images/latest.png"));
        fs::create_dir(at("images")).unwrap();
        fs::write(at("images/latest.png"), "").unwrap();
        let whole = fs::canonicalize(at("images/latest.png")).unwrap();
        assert_eq!(resolved(&at("two")).unwrap(), whole);
        assert_eq!(resolved(&at("new")).unwrap(), at("new"));

        symlink("self", at("self")).unwrap();
        resolved(&at("self")).unwrap_err();
        let (_reader, writer) = io::pipe().unwrap();
        let descriptor = std::os::fd::AsRawFd::as_raw_fd(&writer);
        symlink(format!("/proc/self/fd/{descriptor}"), at("pipe")).unwrap();
        let error = resolved(&at("pipe")).unwrap_err().to_string();
        assert!(error.contains("no name"), "{error}");
    }

    #[test]
    fn a_table_of_mounts_is_read_as_it_is_written() {
        let table = "36 35 98:0 /sub /srv/my\\040model rw,noatime master:1 - ext4 /dev/sda rw\n";
        assert!(is_mounted(table, Path::new("/srv/my model")));
        assert!(!is_mounted(table, Path::new("/srv")));
        assert!(is_mount_point(Path::new("/proc")));
    }

    #[test]
    fn a_folder_that_cannot_be_filled_has_what_it_had() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        for (name, text) in [
            ("to/last", "old"),
            ("to/a", "old"),
            ("from/last", "new"),
            ("from/b/c", "new"),
        ] {
            fs::create_dir_all(parent_of(&at(name))).unwrap();
            fs::write(at(name), text).unwrap();
        }
        let (from, to, aside) = (at("from"), at("to"), at("aside"));
        let old = [PathBuf::from("last"), PathBuf::from("a")];
        let filling = Filling {
            from: &from,
            to: &to,
            aside: &aside,
            old: &old,
            last: "last",
        };
        // A file where a folder should be.
        fs::write(at("to/b"), "in the way").unwrap();
        filling.fill().unwrap_err();
        assert_eq!(fs::read_to_string(at("to/last")).unwrap(), "old");
        assert_eq!(fs::read_to_string(at("to/a")).unwrap(), "old");

        fs::remove_file(at("to/b")).unwrap();
        filling.fill().unwrap();
        let mut found = files_below(&to).unwrap();
        found.sort();
        assert_eq!(found, [Path::new("b/c"), Path::new("last")]);
        assert_eq!(fs::read_to_string(at("to/last")).unwrap(), "new");
    }
}
