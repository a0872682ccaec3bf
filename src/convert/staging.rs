//! The hidden folder in which a model is made, beside the place that it will take when it is whole.
//!
//! Dropped before [`Staging::publish`], it removes itself. Two conversions into one parent folder wait for each other, on
//! a lock of that folder; what a killed one left is removed by the next. A model that would come out as it is stays where
//! it lies, because someone may be reading it.
//!
//! An output that cannot be replaced as a whole, such as a mount point, is filled instead (`model/place.rs`): the hidden folder and the
//! lock are inside of it then. A link stays one, and the folder that it leads to is the output.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};
use tempfile::TempDir;

use super::ConvertError;
use super::occupied::{
    Occupied, is_named_as_a_models, is_of_a_variant, keep_variants, lock, open_to_readers,
    remove_leftovers,
};
use super::progress::Progress;
use crate::files;
use crate::ir::BinSummary;
use crate::model::{
    ComponentEntry, FileEntry, Filling, Manifest, ModelDirectory, OWN_PREFIX, Part, TinyVaeSpec,
    VaeSpec, file_sha256, files_below, hex, is_filled, parent_of, resolved,
};

/// A model in the making.
#[derive(Debug)]
pub(crate) struct Staging {
    output: PathBuf,
    folder: TempDir,
    files: BTreeMap<String, FileEntry>,
    earlier: Option<ModelDirectory>,
    /// Whether something lies at the output that has to go: the earlier model, or what is left of one.
    in_place: bool,
    /// Whether the output's folder stays and its content is replaced.
    filled: bool,
    /// Whether a file differs from the earlier model's.
    changed: bool,
    /// Where the earlier model waits for the new one to take its place.
    aside: PathBuf,
    /// Held until the model is published or given up.
    _lock: File,
}

impl Staging {
    /// Prepares to make the model directory `output`, when no other conversion is running beside it.
    pub(crate) fn begin(output: &Path, progress: &dyn Progress) -> Result<Self, ConvertError> {
        let write = |path: &Path| {
            let path = path.to_owned();
            move |source| ConvertError::Write { path, source }
        };
        let output = &resolved(output).map_err(write(output))?;
        let name = output
            .file_name()
            .ok_or_else(|| ConvertError::OutputInTheWay {
                path: output.clone(),
            })?;
        let name = name.to_string_lossy().into_owned();
        let filled = is_filled(output);
        let (home, prefix) = if filled {
            (output.as_path(), format!("{OWN_PREFIX}partial-"))
        } else {
            (parent_of(output), format!(".{name}.partial-"))
        };
        fs::create_dir_all(home).map_err(write(home))?;
        let lock = lock(home, progress)?;

        let aside = home.join(format!("{prefix}old"));
        if !output.exists() && aside.exists() {
            // Killed between the two renames of `publish`.
            fs::rename(&aside, output).map_err(write(output))?;
        }
        // Or while files were moved one by one.
        put_back(&aside, output).map_err(write(output))?;
        // Or right after either.
        keep_variants(&aside, output).map_err(write(output))?;
        let (earlier, in_place) = match Occupied::of(output)? {
            Occupied::Nothing => (None, false),
            Occupied::Rest => (None, true),
            Occupied::Model(earlier) => (Some(*earlier), true),
        };
        remove_leftovers(home, &prefix).map_err(write(home))?;
        let folder = tempfile::Builder::new()
            .prefix(&prefix)
            .tempdir_in(home)
            .map_err(write(home))?;
        Ok(Self {
            output: output.clone(),
            folder,
            files: BTreeMap::new(),
            earlier,
            in_place,
            filled,
            changed: false,
            aside,
            _lock: lock,
        })
    }

    /// Where `name` will be written.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// What was written so far.
    pub(crate) fn files(&self) -> &BTreeMap<String, FileEntry> {
        &self.files
    }

    /// Writes a small file.
    pub(crate) fn write(&mut self, name: &str, bytes: &[u8]) -> Result<(), ConvertError> {
        let path = self.path(name);
        let written = (|| {
            if let Some(parent) = path.parent() {
                fs::create_dir_all(parent)?;
            }
            fs::write(&path, bytes)
        })();
        written.map_err(|source| ConvertError::Write { path, source })?;
        let same = self.earlier.as_ref().is_some_and(|earlier| {
            files::read(&earlier.path().join(name), bytes.len() as u64)
                .is_ok_and(|there| there == bytes)
        });
        self.note(
            name,
            &BinSummary {
                bytes: bytes.len() as u64,
                sha256: Sha256::digest(bytes).into(),
            },
        );
        self.changed |= !same;
        Ok(())
    }

    /// Notes a file that was written by other hands.
    pub(crate) fn record(&mut self, name: &str, summary: &BinSummary) {
        self.note(name, summary);
        let entry = self.files.get(name);
        let same = self.earlier.as_ref().is_some_and(|earlier| {
            entry == earlier.manifest().files.get(name)
                && file_sha256(&earlier.path().join(name)).ok()
                    == entry.map(|entry| (entry.bytes, entry.sha256.clone()))
        });
        self.changed |= !same;
    }

    fn note(&mut self, name: &str, summary: &BinSummary) {
        let entry = FileEntry {
            bytes: summary.bytes,
            sha256: hex(&summary.sha256),
        };
        self.files.insert(name.to_owned(), entry);
    }

    /// Takes `names` from the earlier model in the output's place, if it was made with the same `fingerprint` and the
    /// files are what its manifest says. Returns whether it did.
    pub(crate) fn take_over(
        &mut self,
        fingerprint: &str,
        names: &[&str],
    ) -> Result<bool, ConvertError> {
        let Some(earlier) = &self.earlier else {
            return Ok(false);
        };
        let manifest = earlier.manifest();
        let made_the_same = [
            &manifest.text_encoder.fingerprint,
            &manifest.transformer.fingerprint,
            &manifest.vae_decoder.fingerprint,
        ]
        .into_iter()
        .chain(
            manifest
                .tiny_vae_decoder
                .as_ref()
                .map(|tiny| &tiny.fingerprint),
        )
        .any(|made| made == fingerprint);
        // Before the files are read for their digests: they may be gigabytes.
        if !made_the_same {
            return Ok(false);
        }
        let mut entries = Vec::new();
        for &name in names {
            let Some(entry) = manifest.files.get(name) else {
                return Ok(false);
            };
            let there = file_sha256(&earlier.path().join(name)).ok();
            if there != Some((entry.bytes, entry.sha256.clone())) {
                return Ok(false);
            }
            entries.push((name.to_owned(), entry.clone()));
        }
        let from = earlier.path().to_owned();
        for (name, entry) in entries {
            self.link(&from, name, entry)?;
        }
        Ok(true)
    }

    /// Takes a file that was made elsewhere, which stays there.
    pub(crate) fn adopt(
        &mut self,
        from: &Path,
        name: &str,
        entry: &FileEntry,
    ) -> Result<(), ConvertError> {
        self.changed = true;
        self.link(from, name.to_owned(), entry.clone())
    }

    /// Keeps the tiny decoder that the earlier model was given, where it decodes the latents of `vae` and its files are whole.
    pub(crate) fn keep_tiny_vae(
        &mut self,
        vae: &VaeSpec,
    ) -> Result<Option<ComponentEntry<TinyVaeSpec>>, ConvertError> {
        let earlier = self.earlier.as_ref();
        let entry = earlier.and_then(|earlier| earlier.manifest().tiny_vae_decoder.clone());
        let Some(entry) = entry.filter(|entry| entry.spec.check_beside(vae).is_ok()) else {
            return Ok(None);
        };
        let part = Part::TinyVaeDecoder;
        let kept = self.take_over(&entry.fingerprint, &[part.xml(), &part.bin()])?;
        Ok(kept.then_some(entry))
    }

    /// Keeps a file of the earlier model, which lies at `from`.
    pub(crate) fn keep(
        &mut self,
        from: &Path,
        name: &str,
        entry: &FileEntry,
    ) -> Result<(), ConvertError> {
        self.link(from, name.to_owned(), entry.clone())
    }

    fn link(&mut self, from: &Path, name: String, entry: FileEntry) -> Result<(), ConvertError> {
        let (from, to) = (from.join(&name), self.folder.path().join(&name));
        if let Some(parent) = to.parent() {
            fs::create_dir_all(parent).map_err(|source| ConvertError::Write {
                path: parent.to_owned(),
                source,
            })?;
        }
        if fs::hard_link(&from, &to).is_err() {
            let copied = files::open(&from)
                .and_then(|mut from| io::copy(&mut from, &mut File::create(&to)?));
            copied.map_err(|source| ConvertError::Write { path: to, source })?;
        }
        self.files.insert(name, entry);
        Ok(())
    }

    /// Adds the manifest and moves the folder to its place; an earlier model there is replaced.
    pub(crate) fn publish(self, manifest: &Manifest) -> Result<ModelDirectory, ConvertError> {
        let write = |path: &Path| {
            let path = path.to_owned();
            move |source| ConvertError::Write { path, source }
        };
        if let Some(earlier) = self.earlier.as_ref().filter(|_| !self.changed) {
            match Again::of(earlier.manifest(), manifest) {
                Again::Same => return Ok(earlier.clone()),
                Again::OfOtherFiles(manifest) => {
                    earlier.write_manifest(&manifest)?;
                    return Ok(ModelDirectory::open_unchecked(&self.output)?);
                }
                Again::Other => {}
            }
        }
        let path = self.path(Manifest::FILE_NAME);
        let text = manifest
            .to_json()
            .map_err(io::Error::from)
            .map_err(write(&path))?;
        fs::write(&path, text).map_err(write(&path))?;
        if self.filled || !self.replace()? {
            self.fill()?;
        }
        // Still under the lock: the next conversion may move it away again.
        Ok(ModelDirectory::open_unchecked(&self.output)?)
    }

    /// Moves the folder to its place. False where what is there cannot be moved away as a whole.
    fn replace(&self) -> Result<bool, ConvertError> {
        let write = |path: &Path| {
            let path = path.to_owned();
            move |source| ConvertError::Write { path, source }
        };
        let is_to_be_filled = |error: &io::Error| {
            matches!(
                error.kind(),
                // Folders of a container's image are of another disk than what comes beside them; in a folder such as /tmp nobody moves
                // what is another's.
                io::ErrorKind::CrossesDevices
                    | io::ErrorKind::ResourceBusy
                    | io::ErrorKind::PermissionDenied
            )
        };
        open_to_readers(self.folder.path()).map_err(write(self.folder.path()))?;
        if self.in_place
            && let Err(source) = fs::rename(&self.output, &self.aside)
        {
            if is_to_be_filled(&source) {
                return Ok(false);
            }
            return Err(write(&self.output)(source));
        }
        if let Err(source) = fs::rename(self.folder.path(), &self.output) {
            if self.in_place {
                fs::rename(&self.aside, &self.output).map_err(write(&self.output))?;
            } else if self.output.is_dir() && is_to_be_filled(&source) {
                return Ok(false);
            }
            return Err(write(&self.output)(source));
        }
        // The folder's old name is nobody's now, and is not there to be removed.
        if self.in_place {
            keep_variants(&self.aside, &self.output).map_err(write(&self.output))?;
            fs::remove_dir_all(&self.aside).map_err(write(&self.aside))?;
        }
        Ok(true)
    }

    /// Replaces the files in the output's folder, which stays where it is, as do its variants.
    fn fill(&self) -> Result<(), ConvertError> {
        let fill = || {
            let mut old = files_below(&self.output)?;
            old.retain(|name| !is_of_a_variant(name));
            let filling = Filling {
                from: self.folder.path(),
                to: &self.output,
                aside: &self.aside,
                old: &old,
                last: Manifest::FILE_NAME,
            };
            filling.fill()?;
            match fs::remove_dir_all(&self.aside) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
                _ => Ok(()),
            }
        };
        fill().map_err(|source| ConvertError::Write {
            path: self.output.clone(),
            source,
        })
    }
}

/// Puts a model back whose files were moved `aside` from the folder `output`, where the one that was to take its place never came whole.
fn put_back(aside: &Path, output: &Path) -> io::Result<()> {
    if output.join(Manifest::FILE_NAME).exists() {
        return Ok(());
    }
    let Ok(earlier) = ModelDirectory::open_unchecked(aside) else {
        return Ok(());
    };
    // What it has not is the new one's.
    for name in files_below(output)? {
        let is_its_own = name
            .to_str()
            .is_some_and(|name| earlier.manifest().files.contains_key(name));
        if !is_its_own && is_named_as_a_models(&name) {
            fs::remove_file(output.join(name))?;
        }
    }
    let filling = Filling {
        from: aside,
        to: output,
        aside,
        old: &[],
        last: Manifest::FILE_NAME,
    };
    filling.fill()
}

/// What a model whose files have not changed is beside the earlier one.
enum Again {
    /// The earlier one.
    Same,
    /// The earlier one, made of other files of the same content.
    OfOtherFiles(Box<Manifest>),
    /// Something about it differs.
    Other,
}

impl Again {
    /// What was measured of the earlier one holds for this one where all files are the same.
    fn of(earlier: &Manifest, manifest: &Manifest) -> Self {
        let mut made = Manifest {
            measured: earlier.measured.clone(),
            ..manifest.clone()
        };
        if *earlier == made {
            return Self::Same;
        }
        let found = made.clone();
        let known = earlier.clone();
        made.text_encoder.fingerprint = known.text_encoder.fingerprint;
        made.transformer.fingerprint = known.transformer.fingerprint;
        made.vae_decoder.fingerprint = known.vae_decoder.fingerprint;
        if let (Some(made), Some(known)) = (&mut made.tiny_vae_decoder, known.tiny_vae_decoder) {
            made.fingerprint = known.fingerprint;
        }
        if *earlier == made {
            Self::OfOtherFiles(Box::new(found))
        } else {
            Self::Other
        }
    }
}
