//! The files of a model that is served, held open: whether they are still what was checked and mapped into memory.
//!
//! The runtime maps weights, so who writes over a file in place changes the pictures of a service that runs. A new model that
//! is renamed into place leaves the old files to those who hold them, and is no change here.

use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{MetadataExt as _, symlink};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use tempfile::TempDir;

use super::ModelError;
use super::stamp::{Stamp, sample};
use crate::files;

/// Files as they were when they were opened.
#[derive(Debug, Default)]
pub struct HeldFiles(Vec<HeldFile>);

#[derive(Debug)]
struct HeldFile {
    path: PathBuf,
    file: File,
    then: State,
}

/// Where a held network can be read, for as long as this value is there.
#[derive(Debug)]
pub struct Placed {
    xml: PathBuf,
    _links: Option<TempDir>,
}

impl Placed {
    /// The IR; its weights lie beside it.
    pub fn xml(&self) -> &Path {
        &self.xml
    }
}

/// What a file was when it was opened.
#[derive(Debug)]
struct State {
    /// As it was last looked at.
    stamp: Mutex<Stamp>,
    sample: [u8; 32],
}

impl State {
    fn of(file: &File) -> io::Result<Self> {
        let metadata = file.metadata()?;
        Ok(Self {
            stamp: Mutex::new(Stamp::of(&metadata)),
            sample: sample(file, 0, metadata.len())?,
        })
    }

    /// Whether the file was not written to since. Its time of change counts other names and permissions, too; where that is all that
    /// has changed, the content says whether somebody wrote and set the time of writing back, as 'rsync --inplace --times' does.
    fn holds(&self, file: &File) -> io::Result<bool> {
        let metadata = file.metadata()?;
        let now = Stamp::of(&metadata);
        // A stamp is whole whatever happened to who held it.
        let mut then = self.stamp.lock().unwrap_or_else(PoisonError::into_inner);
        let as_it_was = now == *then
            || now.is_as_long_and_as_old(&then) && sample(file, 0, metadata.len())? == self.sample;
        if as_it_was {
            *then = now;
        }
        Ok(as_it_was)
    }
}

impl HeldFiles {
    /// Opens files. What is read from them should be read afterwards, so that no change goes unseen.
    ///
    /// # Errors
    /// When one cannot be opened, or is no regular file.
    pub fn open(paths: impl IntoIterator<Item = PathBuf>) -> Result<Self, ModelError> {
        let hold = |path: PathBuf| {
            let open = || {
                let file = files::open(&path)?;
                let then = State::of(&file)?;
                Ok((file, then))
            };
            match open() {
                Ok((file, then)) => Ok(HeldFile { path, file, then }),
                Err(source) => Err(ModelError::Read { path, source }),
            }
        };
        paths
            .into_iter()
            .map(hold)
            .collect::<Result<_, _>>()
            .map(Self)
    }

    /// Looks whether a file was written to since. Takes microseconds.
    ///
    /// # Errors
    /// When one was.
    pub fn check(&self) -> Result<(), ModelError> {
        for HeldFile { path, file, then } in &self.0 {
            let as_it_was = then.holds(file).map_err(|source| ModelError::Read {
                path: path.clone(),
                source,
            })?;
            if !as_it_was {
                return Err(ModelError::Changed { path: path.clone() });
            }
        }
        Ok(())
    }

    /// Where the network `xml` can be read again as it was: at its own name or, where other files have taken its names since, at
    /// links to those that are held.
    ///
    /// # Errors
    /// When the files at its names are others and no links can be made.
    pub fn place(&self, xml: &Path) -> io::Result<Placed> {
        let files: Vec<&HeldFile> = self
            .0
            .iter()
            .filter(|held| [xml, &xml.with_extension("bin")].contains(&held.path.as_path()))
            .collect();
        if files.iter().all(|held| held.is_in_place()) {
            let xml = xml.to_owned();
            return Ok(Placed { xml, _links: None });
        }
        let links = tempfile::tempdir()?;
        for HeldFile { path, file, .. } in files {
            let name = path.file_name().unwrap_or_default();
            let descriptor = format!("/proc/self/fd/{}", file.as_raw_fd());
            symlink(descriptor, links.path().join(name))?;
        }
        Ok(Placed {
            xml: links.path().join(xml.file_name().unwrap_or_default()),
            _links: Some(links),
        })
    }
}

impl HeldFile {
    /// Whether the file is the one that its name leads to.
    fn is_in_place(&self) -> bool {
        let identity = |metadata: fs::Metadata| (metadata.dev(), metadata.ino());
        let held = self.file.metadata().map(identity);
        let there = fs::metadata(&self.path).map(identity);
        matches!((held, there), (Ok(held), Ok(there)) if held == there)
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;

    #[test]
    fn writing_in_place_is_a_change_and_renaming_and_removing_are_none() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("transformer.bin");
        let hold = || {
            fs::write(&path, "weights").unwrap();
            // Clocks of file systems tick in milliseconds.
            let long_ago = SystemTime::UNIX_EPOCH;
            File::options()
                .write(true)
                .open(&path)
                .unwrap()
                .set_modified(long_ago)
                .unwrap();
            HeldFiles::open([path.clone()]).unwrap()
        };

        let held = hold();
        held.check().unwrap();
        let other = folder.path().join("other");
        fs::write(&other, "others").unwrap();
        fs::rename(&other, &path).unwrap();
        held.check().unwrap();
        fs::remove_file(&path).unwrap();
        held.check().unwrap();

        // What adopts the file for another model links it.
        let held = hold();
        fs::hard_link(&path, folder.path().join("link")).unwrap();
        held.check().unwrap();
        fs::remove_file(folder.path().join("link")).unwrap();

        // Same length, and its time of writing set back.
        let held = hold();
        fs::write(&path, "WEIGHTS").unwrap();
        let file = File::options().append(true).open(&path).unwrap();
        file.set_modified(SystemTime::UNIX_EPOCH).unwrap();
        let error = held.check().unwrap_err().to_string();
        assert!(error.contains("transformer.bin has changed"), "{error}");

        let held = hold();
        fs::write(&path, "WEIGHTS").unwrap();
        let error = held.check().unwrap_err().to_string();
        assert!(error.contains("transformer.bin has changed"), "{error}");
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn a_network_whose_names_were_taken_is_read_as_it_was() {
        let folder = tempfile::tempdir().unwrap();
        let xml = folder.path().join("text_encoder.xml");
        let bin = folder.path().join("text_encoder.bin");
        fs::write(&xml, "layers").unwrap();
        fs::write(&bin, "weights").unwrap();
        let held = HeldFiles::open([bin.clone(), xml.clone()]).unwrap();
        assert_eq!(held.place(&xml).unwrap().xml(), xml);

        let other = folder.path().join("other");
        fs::write(&other, "others").unwrap();
        fs::rename(&other, &bin).unwrap();
        let placed = held.place(&xml).unwrap();
        assert_ne!(placed.xml(), xml);
        let read = |path: &Path| fs::read_to_string(path).unwrap();
        assert_eq!(read(placed.xml()), "layers");
        assert_eq!(read(&placed.xml().with_extension("bin")), "weights");
        fs::remove_file(&xml).unwrap();
        assert_eq!(read(held.place(&xml).unwrap().xml()), "layers");
        let links = placed.xml().to_owned();
        drop(placed);
        assert!(!links.exists());
    }
}
