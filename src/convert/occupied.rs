//! What lies at a conversion's output before it begins: nothing, a model, the rest of one, or something else that stays.
//!
//! What may be replaced is a model whose manifest accounts for every file, or the rest of one: a folder with nothing in it
//! but files of a model's names, whatever has become of its manifest. Of the latter nothing is taken over.

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use super::ConvertError;
use super::progress::Progress;
use crate::model::{Manifest, ModelDirectory, Part, VARIANTS, files_below, is_beside_content};

/// How often a conversion that waits for another looks whether it may begin or should stop: people feel 0.2 s.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// What lies at an output and may be replaced.
pub(super) enum Occupied {
    /// Nothing, or an empty folder.
    Nothing,
    /// What is left of a model.
    Rest,
    /// A model.
    Model(Box<ModelDirectory>),
}

impl Occupied {
    /// Looks at `output`.
    ///
    /// # Errors
    /// When something else is there.
    pub(super) fn of(output: &Path) -> Result<Self, ConvertError> {
        let read = |source| ConvertError::Write {
            path: output.to_owned(),
            source,
        };
        if let Ok(earlier) = ModelDirectory::open_unchecked(output) {
            return match other_file(&earlier).map_err(read)? {
                Some(path) => Err(ConvertError::OtherFile { path }),
                None => Ok(Self::Model(Box::new(earlier))),
            };
        }
        if is_absent_or_empty(output).map_err(read)? {
            return Ok(Self::Nothing);
        }
        if is_rest_of_a_model(output).map_err(read)? {
            return Ok(Self::Rest);
        }
        Err(ConvertError::OutputInTheWay {
            path: output.to_owned(),
        })
    }
}

/// Whether a file, by its path in a model's folder, lies in the folder of its variants.
pub(super) fn is_of_a_variant(name: &Path) -> bool {
    name.starts_with(VARIANTS) && name != Path::new(VARIANTS)
}

/// Moves the variants of the model that was at `from` to the one that has taken its place. One that is there already stays.
pub(super) fn keep_variants(from: &Path, to: &Path) -> io::Result<()> {
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

/// Locks `folder` against other conversions.
pub(super) fn lock(folder: &Path, progress: &dyn Progress) -> Result<File, ConvertError> {
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
    let other = files_below(model.path())?.into_iter().find(|name| {
        !is_of_a_variant(name)
            && !name.to_str().is_some_and(|name| {
                name == Manifest::FILE_NAME || model.manifest().files.contains_key(name)
            })
    });
    Ok(other.map(|name| model.path().join(name)))
}

/// Whether a folder whose manifest is missing, damaged or of another format holds an IR of ours and nothing else.
fn is_rest_of_a_model(folder: &Path) -> io::Result<bool> {
    if !folder.is_dir() {
        return Ok(false);
    }
    let mut files = files_below(folder)?;
    files.retain(|file| !is_of_a_variant(file));
    // A folder with nothing but a manifest.json may be anyone's.
    Ok(files.iter().any(|file| is_network(file))
        && files
            .iter()
            .all(|file| file == Path::new(Manifest::FILE_NAME) || is_named_as_a_models(file)))
}

/// Whether a file, by its path in a model's folder, has the name of one that conversion writes there beside the manifest.
pub(super) fn is_named_as_a_models(file: &Path) -> bool {
    const BESIDE: [&str; 4] = [
        ModelDirectory::ADDED_TOKENS,
        ModelDirectory::SENTENCEPIECE,
        ModelDirectory::TOKENIZER_JSON,
        ModelDirectory::SCHEDULER,
    ];
    is_network(file) || BESIDE.iter().any(|name| file == Path::new(name))
}

fn is_network(file: &Path) -> bool {
    let is_of = |part: Part| file == Path::new(part.xml()) || file == Path::new(&part.bin());
    Part::ALL.into_iter().any(is_of)
}

/// Temporary folders are private; a model is as readable as other files.
pub(super) fn open_to_readers(folder: &Path) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    fs::set_permissions(folder, fs::Permissions::from_mode(0o755))
}

fn is_absent_or_empty(path: &Path) -> io::Result<bool> {
    match fs::read_dir(path) {
        Ok(entries) => {
            for entry in entries {
                let entry = entry?;
                let is_beside = entry.file_name().to_str().is_some_and(is_beside_content);
                if !(is_beside && entry.file_type()?.is_dir()) {
                    return Ok(false);
                }
            }
            Ok(true)
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => Ok(false),
        Err(error) => Err(error),
    }
}

/// Removes what killed conversions left. The lock on `parent` says that none is running.
pub(super) fn remove_leftovers(parent: &Path, prefix: &str) -> io::Result<()> {
    for entry in fs::read_dir(parent)? {
        let entry = entry?;
        let ours = entry.file_name().to_string_lossy().starts_with(prefix);
        if ours && entry.file_type()?.is_dir() {
            fs::remove_dir_all(entry.path())?;
        }
    }
    Ok(())
}
