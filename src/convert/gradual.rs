//! A conversion component by component, for checkpoints whose components are never on the disk together.
//!
//! What was made of a component lies in a folder of work, with a note that says of what and how; so a conversion that was
//! interrupted goes on where it was, without the weights of what is made. The model takes its place when all of it is there.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::checkpoint::Pages;
use super::component::{Component, ComponentWeights, Part, REVISION};
use super::progress::warn_of_unused;
use super::staging::Staging;
use super::{ConvertError, Entries, Names, Progress};
use crate::engine::Runtime;
use crate::files;
use crate::model::{
    ComponentEntry, FileEntry, Manifest, ModelDirectory, UnusedTensors, WeightsFormat,
    check_free_space, file_sha256, hex,
};

/// Longest note of a component taken; it names two files.
const MAX_NOTE_BYTES: u64 = 1 << 20;

/// Where to, and how.
#[derive(Debug, Clone)]
pub struct GradualOptions {
    /// The model directory to make.
    pub output: PathBuf,
    /// Folder for what is made of single components. It is kept between runs, on the disk of the output.
    pub work: PathBuf,
    /// What the model will be called.
    pub name: String,
    /// How each component's weights are stored.
    pub weights: ComponentWeights,
}

/// A conversion that goes on where an earlier run stopped.
#[derive(Debug)]
pub struct Gradual {
    options: GradualOptions,
    /// The key of each component that was asked for.
    keys: BTreeMap<String, String>,
}

/// What the folder of work says of a component.
#[derive(Debug, Deserialize, Serialize)]
struct Note {
    /// Of what it was made, and how.
    key: String,
    files: BTreeMap<String, FileEntry>,
    /// What was left out of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    unused: Option<UnusedTensors>,
}

impl Gradual {
    /// Holds that the model can take its place later.
    ///
    /// # Errors
    /// When something else is there, or it cannot be written to.
    pub fn begin(options: GradualOptions, progress: &dyn Progress) -> Result<Self, ConvertError> {
        // Given up at once, it has looked at all that a conversion looks at first.
        drop(Staging::begin(&options.output, progress)?);
        Ok(Self {
            options,
            keys: BTreeMap::new(),
        })
    }

    /// Whether `component`, of files with this `identity`, is made already, in an earlier run or in the model that is there.
    ///
    /// # Errors
    /// When the small files below `source` cannot be used: this is looked at before any weights come.
    pub fn has(
        &mut self,
        source: &Path,
        component: &str,
        identity: &str,
    ) -> Result<bool, ConvertError> {
        Pages::open(source)?;
        let key = self.key(component, identity);
        self.keys.insert(component.to_owned(), key.clone());
        // Of another run: its length alone does not say that all of it reached the disk.
        let is_kept = |note: &Note| {
            note.files
                .iter()
                .all(|(name, entry)| is_whole(&self.options.work.join(name), entry))
        };
        if let Some(note) = self.note(component).filter(|note| note.key == key) {
            if is_kept(&note) {
                return Ok(true);
            }
            self.forget(component);
        }
        let Ok(there) = ModelDirectory::open_unchecked(&self.options.output) else {
            return Ok(false);
        };
        let manifest = there.manifest();
        let fingerprint = match component {
            "text_encoder" => &manifest.text_encoder.fingerprint,
            "transformer" => &manifest.transformer.fingerprint,
            _ => &manifest.vae_decoder.fingerprint,
        };
        let is_there = |name: String| {
            let entry = manifest.files.get(&name);
            entry.is_some_and(|entry| is_whole(&there.path().join(&name), entry))
        };
        Ok(*fingerprint == key && names(component).into_iter().all(is_there))
    }

    /// Makes `component` of its weights below `source`, checks its ports, and notes that it is made.
    ///
    /// # Errors
    /// As [`super::convert`]. Nothing half-made is left.
    pub fn add(
        &mut self,
        source: &Path,
        component: &str,
        runtime: &mut Runtime,
        progress: &dyn Progress,
    ) -> Result<(), ConvertError> {
        let part = self.open(source, component)?;
        let folder = self.options.work.clone();
        let write = |path: &Path| {
            let path = path.to_owned();
            move |source| ConvertError::Write { path, source }
        };
        fs::create_dir_all(&folder).map_err(write(&folder))?;
        self.forget(component);
        check_free_space(&folder, part.bin_bytes())?;
        warn_of_unused(progress, part.name(), part.unused());
        progress.begin(part.name(), part.bytes());
        let made = part.make(&folder, progress).and_then(|made| {
            let [xml, bin] = names(component);
            let path = folder.join(&xml);
            fs::write(&path, &made.xml).map_err(write(&path))?;
            part.check_ports(&folder, runtime)?;
            let entry = |bytes: u64, sha256: [u8; 32]| FileEntry {
                bytes,
                sha256: hex(&sha256),
            };
            let xml_entry = entry(made.xml.len() as u64, Sha256::digest(&made.xml).into());
            Ok([
                (xml, xml_entry),
                (bin, entry(made.bin.bytes, made.bin.sha256)),
            ])
        });
        let note = made.and_then(|files| {
            let note = Note {
                key: self.keys.get(component).cloned().unwrap_or_default(),
                files: files.into(),
                unused: part.unused().cloned(),
            };
            let (path, aside) = (self.note_path(component), folder.join("note.part"));
            serde_json::to_vec_pretty(&note)
                .map_err(io::Error::from)
                .and_then(|text| fs::write(&aside, text))
                .and_then(|()| fs::rename(&aside, &path))
                .map_err(write(&path))
        });
        if note.is_err() {
            self.forget(component);
        }
        note
    }

    /// Puts the model together and in its place. `origin` is what its manifest says that it was made from.
    ///
    /// # Errors
    /// When something is missing, or the output cannot be written.
    pub fn finish(
        &self,
        source: &Path,
        origin: String,
        runtime: &Runtime,
        progress: &dyn Progress,
    ) -> Result<ModelDirectory, ConvertError> {
        let pages = Pages::open(source)?;
        let mut staging = Staging::begin(&self.options.output, progress)?;
        pages.copy_small_files(&mut staging)?;
        for (component, key) in &self.keys {
            let [xml, bin] = names(component);
            if let Some(note) = self.note(component).filter(|note| note.key == *key) {
                for (name, entry) in &note.files {
                    staging.adopt(&self.options.work, name, entry)?;
                }
            } else if !staging.take_over(key, &[&xml, &bin])? {
                return Err(ConvertError::MissingFile {
                    path: self.options.work.join(bin),
                });
            }
        }
        let weights = self.options.weights;
        let key = |component: &str| self.keys.get(component).cloned().unwrap_or_default();
        let there = ModelDirectory::open_unchecked(&self.options.output).ok();
        let there = there.as_ref().map(ModelDirectory::manifest);
        let unused = |component: &str| match self.note(component) {
            Some(note) if note.key == key(component) => note.unused,
            _ => there.and_then(|there| unused_of(there, component)),
        };
        let entries = Entries {
            text_encoder: entry(
                &pages.text_encoder,
                weights.text_encoder,
                key("text_encoder"),
                unused("text_encoder"),
            ),
            transformer: entry(
                &pages.transformer,
                weights.transformer,
                key("transformer"),
                unused("transformer"),
            ),
            vae_decoder: entry(
                &pages.vae_decoder,
                weights.vae_decoder,
                key("vae"),
                unused("vae"),
            ),
            // No published pipeline has one; `add_tiny_vae` adds it.
            tiny_vae_decoder: staging.keep_tiny_vae(&pages.vae_decoder)?,
        };
        let names = Names {
            name: self.options.name.clone(),
            source: origin,
        };
        let manifest = entries.manifest(names, pages, &staging, runtime);
        staging.publish(&manifest)
    }

    fn open(&self, source: &Path, component: &str) -> Result<Box<dyn Part>, ConvertError> {
        let format = self.format(component);
        Ok(match component {
            "text_encoder" => Box::new(Component::text_encoder().open(source, format)?),
            "transformer" => Box::new(Component::transformer().open(source, format)?),
            _ => Box::new(Component::vae_decoder().open(source, format)?),
        })
    }

    fn format(&self, component: &str) -> WeightsFormat {
        let weights = self.options.weights;
        match component {
            "text_encoder" => weights.text_encoder,
            "transformer" => weights.transformer,
            _ => weights.vae_decoder,
        }
    }

    /// Digest of everything that decides a component's files.
    fn key(&self, component: &str, identity: &str) -> String {
        let mut digest = Sha256::new();
        digest.update(env!("CARGO_PKG_VERSION"));
        digest.update(REVISION.to_le_bytes());
        digest.update(self.format(component).name());
        digest.update(identity);
        hex(&digest.finalize())
    }

    fn note_path(&self, component: &str) -> PathBuf {
        self.options.work.join(format!("{component}.made.json"))
    }

    /// What is said of a component whose files have the length that they should have.
    fn note(&self, component: &str) -> Option<Note> {
        let text = files::read(&self.note_path(component), MAX_NOTE_BYTES).ok()?;
        let note: Note = serde_json::from_slice(&text).ok()?;
        let expected = names(component);
        let is_there = |(name, entry): (&String, &FileEntry)| {
            expected.contains(name)
                && fs::metadata(self.options.work.join(name))
                    .is_ok_and(|metadata| metadata.is_file() && metadata.len() == entry.bytes)
        };
        (note.files.len() == expected.len() && note.files.iter().all(is_there)).then_some(note)
    }

    /// Removes what is there of a component, the note first. What cannot be removed is in the way of what comes, and told then.
    fn forget(&self, component: &str) {
        let _ = fs::remove_file(self.note_path(component));
        for name in names(component) {
            let _ = fs::remove_file(self.options.work.join(name));
        }
    }
}

fn is_whole(path: &Path, entry: &FileEntry) -> bool {
    file_sha256(path).is_ok_and(|found| found == (entry.bytes, entry.sha256.clone()))
}

fn entry<Spec: Clone>(
    spec: &Spec,
    weights: WeightsFormat,
    key: String,
    unused: Option<UnusedTensors>,
) -> ComponentEntry<Spec> {
    ComponentEntry {
        spec: spec.clone(),
        weights,
        fingerprint: key,
        quantization: None,
        unused_tensors: unused,
    }
}

/// What a model says was left out of a component.
fn unused_of(manifest: &Manifest, component: &str) -> Option<UnusedTensors> {
    match component {
        "text_encoder" => manifest.text_encoder.unused_tensors.clone(),
        "transformer" => manifest.transformer.unused_tensors.clone(),
        _ => manifest.vae_decoder.unused_tensors.clone(),
    }
}

/// The `.xml` and the `.bin` of a component.
fn names(component: &str) -> [String; 2] {
    let xml = match component {
        "text_encoder" => ModelDirectory::TEXT_ENCODER,
        "transformer" => ModelDirectory::TRANSFORMER,
        _ => ModelDirectory::VAE_DECODER,
    };
    [xml.to_owned(), xml.replace(".xml", ".bin")]
}
