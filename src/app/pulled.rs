//! A checkpoint on a hub → a model: every component is converted as soon as it is whole, and its weights dropped then.
//!
//! What is on its way lies in a hidden folder beside the output, or inside of a mount point, which is there until the model is. The same command goes on
//! wherever an earlier one stopped.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Error, Result};

use crate::convert::{self, ComponentWeights, ConvertError, Gradual, GradualOptions};
use crate::engine::Runtime;
use crate::model::{ModelDirectory, OWN_PREFIX, is_filled, resolved};
use crate::pull::{self, Arrival, PullError, PullOptions, Pulled, Taker, pull_by_component};

/// What to convert to what comes.
#[derive(Debug, Clone)]
pub struct Conversion {
    /// What the model will be called; the repository's own name unless given.
    pub name: Option<String>,
    /// How each component's weights are stored.
    pub weights: ComponentWeights,
}

/// Who watches either half.
#[derive(Clone, Copy)]
pub struct Watches<'a> {
    /// What comes.
    pub pull: &'a dyn pull::Progress,
    /// What is made of it.
    pub convert: &'a dyn convert::Progress,
}

/// Pulls a repository, whose model will be at the output of `options`.
///
/// # Errors
/// When it cannot be pulled or converted, or the caller asked to stop. What has come and what was made of it is kept.
pub fn pull_and_convert(
    options: &PullOptions,
    conversion: &Conversion,
    runtime: &mut Runtime,
    watches: Watches<'_>,
) -> Result<(Pulled, ModelDirectory)> {
    let repository = options.repository.name();
    let own_name = repository.rsplit('/').next().unwrap_or(repository);
    let work = work_folder(&options.output)?;
    let gradual = GradualOptions {
        output: options.output.clone(),
        work: work.join("converted"),
        name: conversion
            .name
            .clone()
            .unwrap_or_else(|| own_name.to_owned()),
        weights: conversion.weights,
    };
    let mut converter = Converter {
        gradual: Gradual::begin(gradual, watches.convert)?,
        repository: repository.to_owned(),
        runtime,
        progress: watches.convert,
    };
    let mut options = options.clone();
    options.output = work;
    pull_by_component(&options, &mut converter, watches.pull)
}

/// `.NAME.pulled` beside the output, or a folder of ours inside of one that is filled: always on its disk.
pub(super) fn work_folder(output: &Path) -> Result<PathBuf, ConvertError> {
    let output = resolved(output).map_err(|source| ConvertError::Write {
        path: output.to_owned(),
        source,
    })?;
    if is_filled(&output) {
        return Ok(output.join(format!("{OWN_PREFIX}pulled")));
    }
    let name = output
        .file_name()
        .ok_or_else(|| ConvertError::OutputInTheWay {
            path: output.clone(),
        })?;
    Ok(output.with_file_name(format!(".{}.pulled", name.to_string_lossy())))
}

/// Converts what comes.
struct Converter<'a> {
    gradual: Gradual,
    repository: String,
    runtime: &'a mut Runtime,
    progress: &'a dyn convert::Progress,
}

impl Taker for Converter<'_> {
    type Error = Error;
    type Made = ModelDirectory;

    fn has(&mut self, arrival: Arrival<'_>) -> Result<bool> {
        let has = self
            .gradual
            .has(arrival.folder, arrival.component, arrival.identity)?;
        if has {
            self.progress.unchanged(arrival.component);
        }
        Ok(has)
    }

    fn take(&mut self, arrival: Arrival<'_>) -> Result<()> {
        self.gradual
            .add(
                arrival.folder,
                arrival.component,
                self.runtime,
                self.progress,
            )
            .map_err(kept)
    }

    fn finish(&mut self, folder: &Path, commit: &str) -> Result<ModelDirectory> {
        let origin = format!("{}@{commit}", self.repository);
        let made = self
            .gradual
            .finish(folder, origin, self.runtime, self.progress)
            .map_err(kept)?;
        fs::remove_dir_all(folder).map_err(|source| ConvertError::Write {
            path: folder.to_owned(),
            source,
        })?;
        Ok(made)
    }
}

/// Says of what stops in the middle that the same command goes on.
fn kept(error: ConvertError) -> Error {
    match error {
        ConvertError::Cancelled => PullError::Cancelled.into(),
        ConvertError::NoSpace(source) => PullError::NoSpace(source).into(),
        error => error.into(),
    }
}
