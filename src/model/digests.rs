//! Digests of a model's files, kept from one start to the next: a file that nobody has touched since is not read again.
//!
//! Reading 6 GB takes most of a start. What a file system tells of a file (identity, length, and the times of its last writing
//! and of its last change of any kind, which no program can set back) is kept beside its SHA-256; while all of it is the same,
//! so is the file. That does not see a disk that rots: `model.check = "always"` reads every file at every start.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use tempfile::NamedTempFile;

use super::digest::{file_sha256, hex};
use super::stamp::Stamp;
use crate::files;
use crate::threads;

/// A model has some dozens of files, and each takes 250 bytes here.
const MAX_RECORD_BYTES: u64 = 4 << 20;

/// Where digests come from: every file read, or what an earlier start has kept.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Digests {
    /// Where they are kept; nowhere means that every file is read.
    folder: Option<PathBuf>,
}

/// One file's digest, and the file as it was then.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Known {
    sha256: String,
    #[serde(flatten)]
    stamp: Stamp,
}

impl Digests {
    /// Keeps them in a folder, which need not be there yet.
    pub fn kept_in(folder: PathBuf) -> Self {
        Self {
            folder: Some(folder),
        }
    }

    /// SHA-256 of each of the files `names` of `model`, those that have to be read side by side.
    ///
    /// # Errors
    /// The file that cannot be read, with why.
    pub(super) fn of(
        &self,
        model: &Path,
        names: &[&str],
    ) -> Result<Vec<String>, (PathBuf, io::Error)> {
        let now = SystemTime::now();
        let record = self
            .folder
            .as_ref()
            .and_then(|folder| record(folder, model));
        let known = record.as_deref().map(read).unwrap_or_default();
        let threads = thread::available_parallelism().map_or(1, usize::from);
        let found = threads::map(names, threads, |&name| {
            let path = model.join(name);
            match digest(&path, known.get(name).cloned()) {
                Ok(known) => Ok((name.to_owned(), known)),
                Err(error) => Err((path, error)),
            }
        });
        let found = found.into_iter().collect::<Result<Vec<_>, _>>()?;
        let digests = found
            .iter()
            .map(|(_, known)| known.sha256.clone())
            .collect();
        let kept: BTreeMap<String, Known> = found
            .into_iter()
            .filter(|(_, known)| known.stamp.settled(now))
            .collect();
        if let Some(record) = record
            && kept != known
            && let Err(error) = write(&record, &kept)
        {
            tracing::debug!(
                file = %record.display(),
                %error,
                "digests cannot be kept: the next start reads the model's files again"
            );
        }
        Ok(digests)
    }
}

/// The digest of one file: the known one where it is still the same file.
fn digest(path: &Path, known: Option<Known>) -> io::Result<Known> {
    let before = Stamp::of(&fs::metadata(path)?);
    if let Some(known) = known
        && known.stamp == before
    {
        return Ok(known);
    }
    let (_, sha256) = file_sha256(path)?;
    let mut stamp = Stamp::of(&fs::metadata(path)?);
    if stamp != before {
        // Somebody writes at this moment. What was read is what counts; it is not to be believed later.
        stamp.changed = i64::MAX;
    }
    Ok(Known { sha256, stamp })
}

/// The file that keeps the digests of `model`, by the name that the file system has for it.
fn record(folder: &Path, model: &Path) -> Option<PathBuf> {
    let place = fs::canonicalize(model).ok()?;
    let name = hex(&Sha256::digest(place.as_os_str().as_encoded_bytes()));
    Some(folder.join(format!("{}.json", &name[..32])))
}

/// What was kept; nothing where there is none, it makes no sense, or somebody else could have written it.
fn read(record: &Path) -> BTreeMap<String, Known> {
    let read = || -> io::Result<Vec<u8>> {
        let file = files::open(record)?;
        match files::writable_by_others(&file.metadata()?) {
            Some(_) => Ok(Vec::new()),
            None => files::read_opened(&file, MAX_RECORD_BYTES),
        }
    };
    read()
        .ok()
        .and_then(|bytes| serde_json::from_slice(&bytes).ok())
        .unwrap_or_default()
}

fn write(record: &Path, kept: &BTreeMap<String, Known>) -> io::Result<()> {
    let folder = record.parent().unwrap_or(Path::new("."));
    // Only this user may write to it: what lies in it is believed.
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o755)
        .create(folder)?;
    let mut file = NamedTempFile::new_in(folder)?;
    file.write_all(&serde_json::to_vec(kept)?)?;
    file.persist(record)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::time::Duration;

    use super::super::stamp::SETTLED;
    use super::*;

    /// A folder with a model of one file that was written long ago, and a place for digests.
    struct Scene(tempfile::TempDir);

    impl Scene {
        fn new() -> Self {
            let scene = Self(tempfile::tempdir().unwrap());
            fs::create_dir(scene.model()).unwrap();
            fs::write(scene.file(), "weights").unwrap();
            scene
        }

        fn model(&self) -> PathBuf {
            self.0.path().join("model")
        }

        fn file(&self) -> PathBuf {
            self.model().join("transformer.bin")
        }

        fn kept(&self) -> PathBuf {
            self.0.path().join("cache/digests")
        }

        fn digest(&self) -> String {
            let digests = Digests::kept_in(self.kept());
            digests
                .of(&self.model(), &["transformer.bin"])
                .unwrap()
                .remove(0)
        }

        /// Replaces the digest that is kept by another one; tells whether there was one.
        fn forge(&self) -> bool {
            let record = record(&self.kept(), &self.model()).unwrap();
            let mut known = read(&record);
            for known in known.values_mut() {
                "forged".clone_into(&mut known.sha256);
            }
            write(&record, &known).unwrap();
            !known.is_empty()
        }
    }

    fn wait_until_settled() {
        thread::sleep(SETTLED + Duration::from_millis(50));
    }

    #[test]
    fn a_file_that_nobody_touched_is_not_read_again_and_any_touch_is_seen() {
        let scene = Scene::new();
        let digest = scene.digest();
        assert_eq!(digest, hex(&Sha256::digest("weights")));
        assert!(!scene.forge(), "written a moment ago, and believed already");

        wait_until_settled();
        scene.digest();
        assert!(scene.forge());
        assert_eq!(scene.digest(), "forged", "it was read again");

        // Same length, and its time of writing set back.
        let modified = fs::metadata(scene.file()).unwrap().modified().unwrap();
        fs::write(scene.file(), "WEIGHTS").unwrap();
        let file = File::options().append(true).open(scene.file()).unwrap();
        file.set_modified(modified).unwrap();
        assert_eq!(scene.digest(), hex(&Sha256::digest("WEIGHTS")));
    }

    #[test]
    fn a_file_in_the_place_of_another_is_read() {
        let scene = Scene::new();
        wait_until_settled();
        scene.digest();
        assert!(scene.forge());
        let other = scene.model().join("other");
        fs::write(&other, "others!").unwrap();
        fs::rename(&other, scene.file()).unwrap();
        assert_eq!(scene.digest(), hex(&Sha256::digest("others!")));
    }

    #[test]
    fn digests_that_make_no_sense_or_cannot_be_kept_only_cost_reading() {
        let scene = Scene::new();
        let expected = hex(&Sha256::digest("weights"));
        wait_until_settled();
        scene.digest();
        fs::write(record(&scene.kept(), &scene.model()).unwrap(), "{\"tr").unwrap();
        assert_eq!(scene.digest(), expected);

        fs::remove_dir_all(scene.kept()).unwrap();
        fs::write(scene.kept(), "a file where the folder should be").unwrap();
        assert_eq!(scene.digest(), expected);
    }

    #[test]
    fn digests_that_another_user_could_have_written_are_not_believed() {
        use std::os::unix::fs::PermissionsExt as _;

        let scene = Scene::new();
        wait_until_settled();
        scene.digest();
        assert!(scene.forge());
        assert_eq!(scene.digest(), "forged");
        let record = record(&scene.kept(), &scene.model()).unwrap();
        fs::set_permissions(&record, fs::Permissions::from_mode(0o666)).unwrap();
        assert_eq!(scene.digest(), hex(&Sha256::digest("weights")));
    }

    #[test]
    fn a_file_that_is_not_there_is_named() {
        let scene = Scene::new();
        let names = ["transformer.bin", "vae_decoder.bin"];
        let (path, error) = Digests::default().of(&scene.model(), &names).unwrap_err();
        assert!(path.ends_with("vae_decoder.bin"), "{path:?}");
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }
}
