//! A diffusers directory with the configuration and the shapes of a published checkpoint, and generated weights.
//!
//! It stands in for files that a machine cannot fetch: pulling, converting, loading and drawing take the same time and memory
//! with it. Its pictures mean nothing. [`synthesize`] is the whole of it: what tensors there are and how their values are spread
//! (`text_encoder.rs`, `transformer.rs`, `vae.rs`, over `tensor.rs`), a generator that gives any value by its position
//! (`generator.rs`), the files that they stream into (`files.rs`), and the small pages beside them (`pages.rs`,
//! `vocabulary.rs`).
//!
//! A tensor's values depend on the seed, its component and its name alone: fewer layers leave the others' weights as they are.

mod error;
mod files;
mod generator;
mod pages;
mod shapes;
mod tensor;
mod text_encoder;
mod transformer;
mod vae;
mod vocabulary;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

pub use error::SynthesizeError;
pub use files::Storage;
pub use shapes::Shapes;

use crate::model::check_free_space;
use files::{WeightsFile, write_all};

/// What to make, and where.
#[derive(Debug, Clone)]
pub struct SynthesizeOptions {
    /// The diffusers directory to make: new, or empty.
    pub output: PathBuf,
    /// The shapes of the three networks.
    pub shapes: Shapes,
    /// How weights are stored.
    pub storage: Storage,
    /// Another seed gives other weights.
    pub seed: u64,
}

/// What was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Synthesized {
    /// Weights in all three networks.
    pub weights: u64,
    /// Length of all files.
    pub bytes: u64,
}

/// The caller's side of a running synthesis, which uses every core.
pub trait Progress: Sync {
    /// From here on [`Self::cancelled`] is looked at, until [`Self::left`].
    fn entered(&self) {}
    /// Nothing looks at [`Self::cancelled`] any more, and nothing half-made is left.
    fn left(&self) {}
    /// So many bytes will be written.
    fn begin(&self, bytes: u64);
    /// `bytes` more were written.
    fn advance(&self, bytes: u64);
    /// Whether to stop.
    fn cancelled(&self) -> bool;
}

/// Makes the directory, under a hidden name beside its place until it is whole.
///
/// # Errors
/// When the output is not empty or cannot be written, the disk has no room, or the caller asked to stop. Nothing half-made is
/// left then.
pub fn synthesize(
    options: &SynthesizeOptions,
    progress: &dyn Progress,
) -> Result<Synthesized, SynthesizeError> {
    let _attention = Attention::begin(progress);
    let shapes = &options.shapes;
    let weights = [
        files::sharded("text_encoder", text_encoder::tensors(&shapes.text_encoder)),
        files::single("transformer", transformer::tensors(&shapes.transformer)),
        files::single("vae", vae::tensors(&shapes.vae)),
    ]
    .concat();
    let mut pages = pages::all(shapes, options.storage);
    pages.extend(files::index_page(&weights, options.storage));
    pages.push((
        "tokenizer/spiece.model".into(),
        vocabulary::spiece_model(shapes.text_encoder.vocab_size)?,
    ));

    let elements: u64 = weights.iter().map(WeightsFile::elements).sum();
    let lengths = weights.iter().map(|file| file.bytes(options.storage));
    let bytes = lengths.sum::<u64>() + pages.iter().map(|(_, page)| page.len() as u64).sum::<u64>();

    let staging = Staging::begin(&options.output)?;
    check_free_space(&staging.parent, bytes)?;
    progress.begin(elements * options.storage.bytes());
    for (name, page) in &pages {
        let path = staging.folder.join(name);
        let written = fs::create_dir_all(path.parent().unwrap_or(&staging.folder))
            .and_then(|()| fs::write(&path, page));
        written.map_err(SynthesizeError::write(&path))?;
    }
    for file in &weights {
        write_all(&staging.folder, file, options, progress)?;
    }
    staging.publish()?;
    Ok(Synthesized {
        weights: elements,
        bytes,
    })
}

/// The part of a synthesis that looks at [`Progress::cancelled`].
struct Attention<'a>(&'a dyn Progress);

impl<'a> Attention<'a> {
    fn begin(progress: &'a dyn Progress) -> Self {
        progress.entered();
        Self(progress)
    }
}

impl Drop for Attention<'_> {
    fn drop(&mut self) {
        self.0.left();
    }
}

/// A hidden sibling of the output. Dropped unpublished, it is removed; what a killed run left is removed by the next one into the
/// same place.
struct Staging {
    output: PathBuf,
    parent: PathBuf,
    folder: PathBuf,
    published: bool,
    /// Held as long as someone works in the folder.
    _lock: fs::File,
}

impl Staging {
    fn begin(output: &Path) -> Result<Self, SynthesizeError> {
        let in_the_way = || SynthesizeError::InTheWay {
            path: output.to_owned(),
        };
        let name = output.file_name().ok_or_else(in_the_way)?;
        let parent = match output.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
            _ => PathBuf::from("."),
        };
        fs::create_dir_all(&parent).map_err(SynthesizeError::write(&parent))?;
        let taken = match fs::read_dir(output) {
            Ok(mut entries) => entries.next().is_some(),
            Err(error) => error.kind() != io::ErrorKind::NotFound,
        };
        if taken {
            return Err(in_the_way());
        }
        let folder = parent.join(format!(".{}.synthesized", name.to_string_lossy()));
        fs::create_dir_all(&folder).map_err(SynthesizeError::write(&folder))?;
        let lock = fs::File::open(&folder).map_err(SynthesizeError::write(&folder))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(fs::TryLockError::WouldBlock) => {
                return Err(SynthesizeError::Busy {
                    path: output.to_owned(),
                });
            }
            Err(fs::TryLockError::Error(source)) => {
                return Err(SynthesizeError::write(&folder)(source));
            }
        }
        let staging = Self {
            output: output.to_owned(),
            parent,
            folder,
            published: false,
            _lock: lock,
        };
        staging.empty()?;
        Ok(staging)
    }

    /// Removes what a killed run left in the folder, and not the folder: the lock is on it.
    fn empty(&self) -> Result<(), SynthesizeError> {
        let emptied = fs::read_dir(&self.folder).and_then(|entries| {
            entries.flatten().try_for_each(|entry| {
                if entry.file_type()?.is_dir() {
                    fs::remove_dir_all(entry.path())
                } else {
                    fs::remove_file(entry.path())
                }
            })
        });
        emptied.map_err(SynthesizeError::write(&self.folder))
    }

    fn publish(mut self) -> Result<(), SynthesizeError> {
        // An empty folder there is replaced, any other refuses.
        fs::rename(&self.folder, &self.output).map_err(SynthesizeError::write(&self.output))?;
        self.published = true;
        Ok(())
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        if !self.published {
            // What cannot be removed now is removed by the next run.
            let _ = fs::remove_dir_all(&self.folder);
        }
    }
}
