//! A model directory on disk: opened once, every file checked against the manifest before anything reads it.

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tempfile::NamedTempFile;
use thiserror::Error;

use super::config_json::ConfigError;
use super::digests::Digests;
use super::disguise::{Disguise, FIRST_BYTES};
use super::held::HeldFiles;
use super::manifest::Manifest;
use super::measurement::Measurement;
use crate::files;

/// Why a model directory cannot be used.
#[derive(Debug, Error)]
pub enum ModelError {
    /// No such directory.
    #[error("{path} is not a directory: give --model a folder that 'pixart convert' made", path = path.display())]
    NotADirectory {
        /// The path given.
        path: PathBuf,
    },
    /// A directory, but neither ours nor the notebook's.
    #[error("{path} has no {missing}: give --model a folder that 'pixart convert' made, or the folder of the PixArt OpenVINO notebook", path = path.display())]
    NotAModel {
        /// The path given.
        path: PathBuf,
        /// The file looked for.
        missing: &'static str,
    },
    /// Foreign IR without the diffusers directory that it was made from.
    #[error("{model} has networks that pixart did not convert, and {checkpoint} is no diffusers directory: give the one that they were made from with --checkpoint, for the tokenizer, the scheduler and the config.json files", model = model.display(), checkpoint = checkpoint.display())]
    NoCheckpoint {
        /// The model's folder.
        model: PathBuf,
        /// Where the diffusers directory was looked for.
        checkpoint: PathBuf,
    },
    /// A diffusers directory without a tokenizer.
    #[error("{path} has neither tokenizer/spiece.model nor tokenizer/tokenizer.json: give the whole diffusers directory with --checkpoint", path = path.display())]
    NoTokenizer {
        /// The directory.
        path: PathBuf,
    },
    /// A tokenizer of another model.
    #[error("{path} has {pieces} pieces and the text encoder knows {vocab_size}: they belong to different models", path = path.display())]
    TokenizerTooLarge {
        /// The tokenizer's file.
        path: PathBuf,
        /// Its pieces.
        pieces: usize,
        /// Rows of the text encoder's table.
        vocab_size: usize,
    },
    /// A file of the model cannot be read.
    #[error("cannot read {path}: {source}{advice}", path = path.display(), advice = advice(source))]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Something else than the file that should be there.
    #[error("{path} is {}: {}", disguise.what(), disguise.advice(), path = path.display())]
    Disguised {
        /// The file.
        path: PathBuf,
        /// What is there.
        disguise: Disguise,
    },
    /// The manifest cannot be written.
    #[error("cannot write {path}: {source}", path = path.display())]
    Write {
        /// The manifest.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A configuration makes no sense.
    #[error("{path} cannot be used: {source}", path = path.display())]
    Config {
        /// The file.
        path: PathBuf,
        /// Why.
        source: ConfigError,
    },
    /// The manifest makes no sense.
    #[error("{path} cannot be used: {source}: the model is damaged, or another version's; convert it again", path = path.display())]
    Manifest {
        /// The manifest.
        path: PathBuf,
        /// Why.
        source: ConfigError,
    },
    /// A file was written to after it was checked.
    #[error("{path} has changed while it was served: put a new model beside the old one and rename it into place, then start pixart again", path = path.display())]
    Changed {
        /// The file.
        path: PathBuf,
    },
    /// A file has another length or checksum than the manifest says.
    #[error("{path} does not match its manifest ({detail}): the model is damaged, convert it again", path = path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What differs.
        detail: String,
    },
}

/// What to do about a file of a model that cannot be read, where its kind says that.
fn advice(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::NotFound => ": the model is not whole, copy it again or convert it again",
        io::ErrorKind::PermissionDenied => {
            ": make the model readable for the user that pixart runs as (chmod -R a+rX)"
        }
        _ => "",
    }
}

/// An opened directory that `pixart convert` made.
#[derive(Debug, Clone)]
pub struct ModelDirectory {
    path: PathBuf,
    manifest: Manifest,
    /// The checksum that the manifest has of itself.
    manifest_sha256: Option<String>,
    held: Arc<HeldFiles>,
}

impl ModelDirectory {
    /// The IR of the text encoder.
    pub const TEXT_ENCODER: &'static str = "text_encoder.xml";
    /// The IR of the transformer.
    pub const TRANSFORMER: &'static str = "transformer.xml";
    /// The IR of the VAE decoder.
    pub const VAE_DECODER: &'static str = "vae_decoder.xml";
    /// The IR of the tiny autoencoder's decoder, where there is one.
    pub const TINY_VAE_DECODER: &'static str = "tiny_vae_decoder.xml";
    /// The tokenizer as T5 publishes it.
    pub const SENTENCEPIECE: &'static str = "tokenizer/spiece.model";
    /// The tokenizer as the `tokenizers` library stores it; preferred where both are.
    pub const TOKENIZER_JSON: &'static str = "tokenizer/tokenizer.json";
    /// What the checkpoint adds to the tokenizer's vocabulary, where it adds something.
    pub const ADDED_TOKENS: &'static str = "tokenizer/added.json";
    /// The scheduler's configuration.
    pub const SCHEDULER: &'static str = "scheduler/scheduler_config.json";

    /// Opens a directory and checks length and SHA-256 of every file that its manifest lists.
    ///
    /// # Errors
    /// When the manifest is missing or makes no sense, or a file is missing or differs.
    pub fn open(path: &Path) -> Result<Self, ModelError> {
        Self::open_with(path, &Digests::default())
    }

    /// [`Self::open`], with digests that may be known already.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn open_with(path: &Path, digests: &Digests) -> Result<Self, ModelError> {
        let mut directory = Self::open_unchecked(path)?;
        let files = directory.manifest.files.keys();
        let files = files.map(|name| directory.path.join(name));
        directory.held = Arc::new(HeldFiles::open(files)?);
        // A file of another length is not read to its end first.
        for (name, entry) in &directory.manifest.files {
            let path = directory.path.join(name);
            let metadata = match fs::metadata(&path) {
                Ok(metadata) => metadata,
                Err(source) => return Err(ModelError::Read { path, source }),
            };
            let bytes = metadata.len();
            if metadata.is_file() && bytes != entry.bytes {
                return Err(ModelError::Damaged {
                    path,
                    detail: format!("{bytes} bytes instead of {}", entry.bytes),
                });
            }
        }
        let names: Vec<&str> = directory
            .manifest
            .files
            .keys()
            .map(String::as_str)
            .collect();
        let found = digests
            .of(&directory.path, &names)
            .map_err(|(path, source)| ModelError::Read { path, source })?;
        for ((name, entry), sha256) in directory.manifest.files.iter().zip(found) {
            if sha256 != entry.sha256 {
                return Err(ModelError::Damaged {
                    path: directory.path.join(name),
                    detail: "another SHA-256".to_owned(),
                });
            }
        }
        Ok(directory)
    }

    /// Opens a directory by its manifest alone, for looking at what it says of itself.
    ///
    /// # Errors
    /// When the manifest is missing or makes no sense.
    pub fn open_unchecked(path: &Path) -> Result<Self, ModelError> {
        // What may not be looked at is not the same as what is not there.
        let is_there = |path: &Path| {
            path.try_exists().map_err(|source| ModelError::Read {
                path: path.to_owned(),
                source,
            })
        };
        if !is_there(path)? || !path.is_dir() {
            return Err(ModelError::NotADirectory {
                path: path.to_owned(),
            });
        }
        let file = path.join(Manifest::FILE_NAME);
        if !is_there(&file)? {
            return Err(ModelError::NotAModel {
                path: path.to_owned(),
                missing: Manifest::FILE_NAME,
            });
        }
        let text = read_text(&file)?;
        let (manifest, manifest_sha256) = Manifest::with_checksum(&text)
            .map_err(|source| ModelError::Manifest { path: file, source })?;
        Ok(Self {
            path: path.to_owned(),
            manifest,
            manifest_sha256,
            held: Arc::default(),
        })
    }

    /// Has the manifest say how near the model's pictures are to another's, in place of what it said of the same before. The digest
    /// stays: no file of the model changes.
    ///
    /// # Errors
    /// When another model has taken its place meanwhile, or the manifest cannot be written.
    pub fn record(&self, measurement: Measurement) -> Result<(), ModelError> {
        let path = self.path.join(Manifest::FILE_NAME);
        let mut manifest = Self::open_unchecked(&self.path)?.manifest;
        if manifest.digest() != self.manifest.digest() {
            return Err(ModelError::Changed { path });
        }
        let measured = &mut manifest.measured;
        measured.retain(|earlier| !earlier.is_renewed_by(&measurement));
        measured.push(measurement);
        self.write_manifest(&manifest)
    }

    /// Replaces the manifest alone, whole or not at all: for what it says of files that stay.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(crate) fn write_manifest(&self, manifest: &Manifest) -> Result<(), ModelError> {
        let path = self.path.join(Manifest::FILE_NAME);
        let write = || -> io::Result<()> {
            let mut file = NamedTempFile::new_in(&self.path)?;
            file.as_file()
                .set_permissions(fs::metadata(&path)?.permissions())?;
            file.write_all(manifest.to_json().map_err(io::Error::other)?.as_bytes())?;
            file.persist(&path)?;
            Ok(())
        };
        write().map_err(|source| ModelError::Write { path, source })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What it says of itself.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// The checksum that its manifest has of itself and was held to; none where an earlier version of pixart made it.
    pub fn manifest_sha256(&self) -> Option<&str> {
        self.manifest_sha256.as_deref()
    }

    /// Its files since they were checked; none of a directory that was opened unchecked.
    pub fn held(&self) -> &Arc<HeldFiles> {
        &self.held
    }
}

/// Longest text file taken: configurations and manifests are a few kilobytes.
const MAX_TEXT_BYTES: u64 = 16 << 20;

/// Reads a small text file of a model, which may begin with a byte order mark.
///
/// # Errors
/// When it cannot be read, is not UTF-8, is absurdly long, or something else stands in its place.
pub(crate) fn read_text(path: &Path) -> Result<String, ModelError> {
    let bytes = read_file(path, MAX_TEXT_BYTES)?;
    let text = String::from_utf8(bytes).map_err(|_| ModelError::Read {
        path: path.to_owned(),
        source: io::Error::new(io::ErrorKind::InvalidData, "it is not UTF-8"),
    })?;
    Ok(match text.strip_prefix('\u{feff}') {
        Some(text) => text.to_owned(),
        None => text,
    })
}

/// Reads a file of a model that has at most `limit` bytes.
///
/// # Errors
/// When it cannot be read, is longer, in which case it is not read, or something else stands in its place.
pub(crate) fn read_bytes(path: &Path, limit: usize) -> Result<Vec<u8>, ModelError> {
    read_file(path, limit as u64)
}

fn read_file(path: &Path, limit: u64) -> Result<Vec<u8>, ModelError> {
    let bytes = files::read(path, limit).map_err(|source| ModelError::Read {
        path: path.to_owned(),
        source,
    })?;
    // The IR is XML, and no page.
    let first = &bytes[..bytes.len().min(FIRST_BYTES)];
    match Disguise::of(first) {
        Some(disguise) if path.extension().is_none_or(|ending| ending != "xml") => {
            let path = path.to_owned();
            Err(ModelError::Disguised { path, disguise })
        }
        _ => Ok(bytes),
    }
}
