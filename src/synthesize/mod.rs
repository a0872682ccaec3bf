//! A diffusers directory with the files, the configuration and the shapes of a published repository, and generated weights.
//!
//! It stands in for files that a machine cannot fetch: pulling, converting, loading and drawing take the same time and memory
//! with it. Its images mean nothing. [`synthesize`] is the whole of it: what each repository has (`published.rs`, `shapes.rs`),
//! what tensors there are and how their values are spread (`text_encoder.rs`, `transformer.rs`, `vae.rs`, over `tensor.rs`), a generator that gives any value by its position
//! (`generator.rs`), the files that they stream into (`files.rs`), and the small pages beside them (`pages.rs`,
//! `vocabulary.rs`).
//!
//! A tensor's values depend on the seed, its component and its name alone: fewer layers leave the others' weights as they are.

mod error;
mod files;
mod generator;
mod pages;
mod published;
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
pub use published::Published;
pub use shapes::Shapes;

use crate::model::{
    Filling, ModelIndex, OWN_PREFIX, check_free_space, is_beside_content, is_filled, parent_of,
    resolved,
};
use files::{Stored, WeightsFile, write_all};

/// What to make, and where.
#[derive(Debug, Clone)]
pub struct SynthesizeOptions {
    /// The diffusers directory to make: new, or empty.
    pub output: PathBuf,
    /// The repository whose files it has.
    pub like: &'static Published,
    /// The shapes of the networks.
    pub shapes: Shapes,
    /// How weights are stored, where not as they are published.
    pub storage: Option<Storage>,
    /// Another seed gives other weights.
    pub seed: u64,
}

/// What was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Synthesized {
    /// Weights in all networks.
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
    let weights = weights(options);
    let mut pages = pages::all(options.like, &options.shapes, storage(options));
    pages.extend(files::index_page(&weights));
    if options.like.text_encoder.is_some() {
        let vocab_size = options.shapes.text_encoder.vocab_size;
        let vocabulary = vocabulary::spiece_model(vocab_size)?;
        pages.push(("tokenizer/spiece.model".into(), vocabulary));
    }

    let bytes = weights.iter().map(WeightsFile::bytes).sum::<u64>()
        + pages.iter().map(|(_, page)| page.len() as u64).sum::<u64>();

    let staging = Staging::begin(&options.output)?;
    check_free_space(&staging.parent, bytes)?;
    progress.begin(weights.iter().map(WeightsFile::weights_bytes).sum());
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
        weights: weights.iter().map(WeightsFile::elements).sum(),
        bytes,
    })
}

fn storage(options: &SynthesizeOptions) -> Storage {
    options.storage.unwrap_or(options.like.storage)
}

/// The files of the components that the repository has.
fn weights(options: &SynthesizeOptions) -> Vec<WeightsFile> {
    let (like, shapes) = (options.like, &options.shapes);
    let stored = |component| Stored {
        component,
        storage: storage(options),
    };
    let mut files = Vec::new();
    if let Some(own) = like.text_encoder {
        let tensors = text_encoder::tensors(&shapes.text_encoder);
        files.extend(files::sharded(stored("text_encoder"), own.shards, tensors));
    }
    if let Some(own) = like.transformer {
        let tensors = transformer::tensors(&shapes.transformer, own.y_embedding);
        files.extend(files::single(stored("transformer"), tensors));
    }
    if like.vae.is_some() {
        files.extend(files::single(stored("vae"), vae::tensors(&shapes.vae)));
    }
    files
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

/// A hidden sibling of the output, or a folder inside of one that is filled. Dropped unpublished, it is removed; what a killed run left is removed by the next one into the
/// same place.
struct Staging {
    output: PathBuf,
    parent: PathBuf,
    folder: PathBuf,
    /// Whether the output's folder stays and is filled.
    filled: bool,
    published: bool,
    /// Held as long as someone works in the folder.
    _lock: fs::File,
}

impl Staging {
    fn begin(output: &Path) -> Result<Self, SynthesizeError> {
        let in_the_way = || SynthesizeError::InTheWay {
            path: output.to_owned(),
        };
        let output = &resolved(output).map_err(SynthesizeError::write(output))?;
        let name = output.file_name().ok_or_else(in_the_way)?;
        let filled = is_filled(output);
        let (parent, name) = if filled {
            (output.clone(), format!("{OWN_PREFIX}synthesized"))
        } else {
            let name = format!(".{}.synthesized", name.to_string_lossy());
            (parent_of(output).to_owned(), name)
        };
        fs::create_dir_all(&parent).map_err(SynthesizeError::write(&parent))?;
        let taken = match fs::read_dir(output) {
            Ok(entries) => entries.flatten().any(|entry| {
                let name = entry.file_name();
                !name.to_str().is_some_and(is_beside_content)
            }),
            Err(error) => error.kind() != io::ErrorKind::NotFound,
        };
        if taken {
            return Err(in_the_way());
        }
        let folder = parent.join(name);
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
            filled,
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
        if self.filled {
            let filling = Filling {
                from: &self.folder,
                to: &self.output,
                aside: &self.folder,
                old: &[],
                last: ModelIndex::FILE_NAME,
            };
            // The folder of work is removed as if nothing had come of it.
            return filling.fill().map_err(SynthesizeError::write(&self.output));
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn files(name: &str) -> Vec<WeightsFile> {
        let like = Published::named(name).unwrap();
        weights(&SynthesizeOptions {
            output: PathBuf::new(),
            like,
            shapes: Shapes::of(like),
            storage: None,
            seed: 0,
        })
    }

    /// The lengths that a downloader checks: names, shapes, types and the header's padding all go into them.
    #[test]
    fn files_at_full_width_have_the_lengths_that_are_published() {
        let files = files("PixArt-alpha/PixArt-XL-2-1024-MS");
        let lengths: Vec<u64> = files.iter().map(WeightsFile::bytes).collect();
        // The transformer's and the VAE's by the byte; the text encoder's first shard is known as 9.99 GB.
        assert_eq!(lengths[2..], [2_447_431_856, 334_643_268]);
        assert!((9_985_000_000..9_995_000_000).contains(&lengths[0]));
    }

    #[test]
    fn four_shards_of_five_gigabytes_hold_the_text_encoder_that_two_of_ten_hold() {
        let four = files("PixArt-alpha/PixArt-LCM-XL-2-1024-MS");
        let two = files("PixArt-alpha/PixArt-Sigma-XL-2-1024-MS");
        assert_eq!((four.len(), two.len()), (6, 4));
        for shards in [&four[..4], &two[..2]] {
            let bytes: u64 = shards.iter().map(WeightsFile::weights_bytes).sum();
            assert_eq!(bytes, 19_049_242_624);
        }
        for shard in &four[..4] {
            assert!(shard.weights_bytes() <= 5_000_000_000);
        }
    }
}
