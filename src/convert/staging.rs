//! The hidden folder in which a model is made, beside the place that it will take when it is whole.
//!
//! Dropped before [`Staging::publish`], it removes itself. Two conversions into one parent folder wait for each other, on
//! a lock of that folder; what a killed one left is removed by the next. A model that would come out as it is stays where
//! it lies, because someone may be reading it.
//!
//! What may be replaced is a model whose manifest accounts for every file, or the rest of one: a folder with nothing in it
//! but files of a model's names, whatever has become of its manifest. Of the latter nothing is taken over.

use std::collections::BTreeMap;
use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use sha2::{Digest, Sha256};
use tempfile::TempDir;

use super::ConvertError;
use super::progress::Progress;
use crate::files;
use crate::ir::BinSummary;
use crate::model::{
    ComponentEntry, FileEntry, Manifest, ModelDirectory, Part, TinyVaeSpec, VARIANTS, VaeSpec,
    file_sha256, hex,
};

/// How often a conversion that waits for another looks whether it may begin or should stop: people feel 0.2 s.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// A model in the making.
#[derive(Debug)]
pub(crate) struct Staging {
    output: PathBuf,
    folder: TempDir,
    files: BTreeMap<String, FileEntry>,
    earlier: Option<ModelDirectory>,
    /// Whether something lies at the output that has to go: the earlier model, or what is left of one.
    in_place: bool,
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
        let name = output
            .file_name()
            .ok_or_else(|| ConvertError::OutputInTheWay {
                path: output.to_owned(),
            })?;
        let name = name.to_string_lossy().into_owned();
        let parent = match output.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
            _ => PathBuf::from("."),
        };
        fs::create_dir_all(&parent).map_err(write(&parent))?;
        let lock = lock(&parent, progress)?;

        let prefix = format!(".{name}.partial-");
        let aside = parent.join(format!("{prefix}old"));
        if !output.exists() && aside.exists() {
            // Killed between the two renames of `publish`.
            fs::rename(&aside, output).map_err(write(output))?;
        }
        // Or right after them.
        keep_variants(&aside, output).map_err(write(output))?;
        let earlier = ModelDirectory::open_unchecked(output).ok();
        let in_place = match &earlier {
            Some(earlier) => {
                if let Some(path) = other_file(earlier).map_err(write(output))? {
                    return Err(ConvertError::OtherFile { path });
                }
                true
            }
            None if is_absent_or_empty(output).map_err(write(output))? => false,
            None => {
                if !is_rest_of_a_model(output).map_err(write(output))? {
                    return Err(ConvertError::OutputInTheWay {
                        path: output.to_owned(),
                    });
                }
                true
            }
        };
        remove_leftovers(&parent, &prefix).map_err(write(&parent))?;
        let folder = tempfile::Builder::new()
            .prefix(&prefix)
            .tempdir_in(&parent)
            .map_err(write(&parent))?;
        Ok(Self {
            output: output.to_owned(),
            folder,
            files: BTreeMap::new(),
            earlier,
            in_place,
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
        self.changed = true;
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
        if let Some(earlier) = &self.earlier
            && !self.changed
            && is_made_again(earlier.manifest(), manifest)
        {
            return Ok(earlier.clone());
        }
        let path = self.path(Manifest::FILE_NAME);
        let text = manifest
            .to_json()
            .map_err(io::Error::from)
            .map_err(write(&path))?;
        fs::write(&path, text).map_err(write(&path))?;
        open_to_readers(self.folder.path()).map_err(write(self.folder.path()))?;
        if self.in_place {
            fs::rename(&self.output, &self.aside).map_err(write(&self.output))?;
        }
        if let Err(source) = fs::rename(self.folder.path(), &self.output) {
            if self.in_place {
                fs::rename(&self.aside, &self.output).map_err(write(&self.output))?;
            }
            return Err(ConvertError::Write {
                path: self.output,
                source,
            });
        }
        // The folder has moved: nothing is left at its old name to remove.
        let _ = self.folder.keep();
        if self.in_place {
            keep_variants(&self.aside, &self.output).map_err(write(&self.output))?;
            fs::remove_dir_all(&self.aside).map_err(write(&self.aside))?;
        }
        // Still under the lock: the next conversion may move it away again.
        Ok(ModelDirectory::open_unchecked(&self.output)?)
    }
}

/// Whether a file, by its path in a model's folder, lies in the folder of its variants.
fn is_of_a_variant(name: &Path) -> bool {
    name.starts_with(VARIANTS) && name != Path::new(VARIANTS)
}

/// Moves the variants of the model that was at `from` to the one that has taken its place. One that is there already stays.
fn keep_variants(from: &Path, to: &Path) -> io::Result<()> {
    let (from, to) = (from.join(VARIANTS), to.join(VARIANTS));
    if !from.is_dir() {
        return Ok(());
    }
    fs::create_dir_all(&to)?;
    for entry in fs::read_dir(&from)? {
        let entry = entry?;
        let place = to.join(entry.file_name());
        if !place.exists() {
            fs::rename(entry.path(), place)?;
        }
    }
    Ok(())
}

/// Whether a model of `manifest` is the one of `earlier`; what was measured of that one holds for this one then.
fn is_made_again(earlier: &Manifest, manifest: &Manifest) -> bool {
    let measured = Manifest {
        measured: earlier.measured.clone(),
        ..manifest.clone()
    };
    *earlier == measured
}

/// Locks `folder` against other conversions.
fn lock(folder: &Path, progress: &dyn Progress) -> Result<File, ConvertError> {
    let failed = |source| ConvertError::Write {
        path: folder.to_owned(),
        source,
    };
    let file = File::open(folder).map_err(failed)?;
    let mut told = false;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::Error(source)) => return Err(failed(source)),
            Err(TryLockError::WouldBlock) => {}
        }
        if !told {
            progress.waiting(folder);
            told = true;
        }
        if progress.cancelled() {
            return Err(ConvertError::Cancelled);
        }
        thread::sleep(LOOK_EVERY);
    }
}

/// A file in a model's folder that is no part of the model and would go with it. Its variants stay where they are.
fn other_file(model: &ModelDirectory) -> io::Result<Option<PathBuf>> {
    let other = files_in(model.path())?.into_iter().find(|name| {
        !is_of_a_variant(name)
            && !name.to_str().is_some_and(|name| {
                name == Manifest::FILE_NAME || model.manifest().files.contains_key(name)
            })
    });
    Ok(other.map(|name| model.path().join(name)))
}

/// Whether a folder whose manifest is missing, damaged or of another format holds an IR of ours and nothing else.
fn is_rest_of_a_model(folder: &Path) -> io::Result<bool> {
    const BESIDE: [&str; 4] = [
        Manifest::FILE_NAME,
        ModelDirectory::SENTENCEPIECE,
        ModelDirectory::TOKENIZER_JSON,
        ModelDirectory::SCHEDULER,
    ];
    if !folder.is_dir() {
        return Ok(false);
    }
    let mut files = files_in(folder)?;
    files.retain(|file| !is_of_a_variant(file));
    let is_network = |file: &Path| {
        let is_of = |part: Part| file == Path::new(part.xml()) || file == Path::new(&part.bin());
        Part::ALL.into_iter().any(is_of)
    };
    let is_beside = |file: &Path| BESIDE.iter().any(|name| file == Path::new(name));
    // A folder with nothing but a manifest.json may be anyone's.
    Ok(files.iter().any(|file| is_network(file))
        && files.iter().all(|file| is_network(file) || is_beside(file)))
}

/// Every file below `folder`, by its path from there.
fn files_in(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(inner) = folders.pop() {
        for entry in fs::read_dir(&inner)? {
            let entry = entry?;
            let path = entry.path();
            if entry.file_type()?.is_dir() {
                folders.push(path);
            } else {
                files.push(path.strip_prefix(folder).unwrap_or(&path).to_owned());
            }
        }
    }
    Ok(files)
}

/// Temporary folders are private; a model is as readable as other files.
fn open_to_readers(folder: &Path) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    fs::set_permissions(folder, fs::Permissions::from_mode(0o755))
}

fn is_absent_or_empty(path: &Path) -> io::Result<bool> {
    match fs::read_dir(path) {
        Ok(mut entries) => Ok(entries.next().is_none()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => Ok(false),
        Err(error) => Err(error),
    }
}

/// Removes what killed conversions left. The lock on `parent` says that none is running.
fn remove_leftovers(parent: &Path, prefix: &str) -> io::Result<()> {
    for entry in fs::read_dir(parent)? {
        let entry = entry?;
        let ours = entry.file_name().to_string_lossy().starts_with(prefix);
        if ours && entry.file_type()?.is_dir() {
            fs::remove_dir_all(entry.path())?;
        }
    }
    Ok(())
}
