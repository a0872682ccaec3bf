//! The files of a model that is served, held open: whether they are still what was checked and mapped into memory.
//!
//! The runtime maps weights, so who writes over a file in place changes the pictures of a service that runs. A new model that
//! is renamed into place leaves the old files to those who hold them, and is no change here.

use std::fs::{self, File};
use std::io;
use std::path::PathBuf;
use std::time::SystemTime;

use super::ModelError;

/// Files as they were when they were opened.
#[derive(Debug, Default)]
pub struct HeldFiles(Vec<HeldFile>);

#[derive(Debug)]
struct HeldFile {
    path: PathBuf,
    file: File,
    then: State,
}

/// What every writing to a file changes.
#[derive(Debug, PartialEq, Eq)]
struct State {
    bytes: u64,
    modified: SystemTime,
}

impl State {
    fn of(metadata: &fs::Metadata) -> io::Result<Self> {
        Ok(Self {
            bytes: metadata.len(),
            modified: metadata.modified()?,
        })
    }
}

impl HeldFiles {
    /// Opens files. What is read from them should be read afterwards, so that no change goes unseen.
    ///
    /// # Errors
    /// When one cannot be opened.
    pub fn open(paths: impl IntoIterator<Item = PathBuf>) -> Result<Self, ModelError> {
        let hold = |path: PathBuf| {
            let open = || {
                let file = File::open(&path)?;
                let then = State::of(&file.metadata()?)?;
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
            let now = file.metadata().and_then(|metadata| State::of(&metadata));
            let now = now.map_err(|source| ModelError::Read {
                path: path.clone(),
                source,
            })?;
            if now != *then {
                return Err(ModelError::Changed { path: path.clone() });
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
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

        let held = hold();
        fs::write(&path, "WEIGHTS").unwrap();
        let error = held.check().unwrap_err().to_string();
        assert!(error.contains("transformer.bin has changed"), "{error}");
    }
}
