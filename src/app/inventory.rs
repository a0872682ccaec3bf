//! Which models are on this machine, and which checkpoints could become one: what `pixart list` shows.
//!
//! Nothing is read but manifests, configurations and the lengths of files: digests are compared where a model is used.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Result;
use serde::Serialize;

use super::home_folders::{self, HomeFolder};
use super::names::Names;
use super::shell::quoted;
use crate::config::{Environment, ModelHome, OwnPlace, hub_cache_folder};
use crate::convert::is_tiny_vae;
use crate::model::{
    EMBEDDED_NAME, Manifest, ModelDirectory, ModelError, ModelIndex, PipelineClass, bytes_below,
    has_embedded_model, read_text, variants,
};
use crate::pull::{CachedRepository, Repository, pulled_repository};

/// Everything that is there.
#[derive(Debug, Serialize)]
pub struct Inventory {
    /// The folder of models and checkpoints; none where no variable says where it is.
    pub home: Option<PathBuf>,
    /// The hub's own cache, where it is there.
    pub hub_cache: Option<PathBuf>,
    /// The models, the embedded one first.
    pub models: Vec<ListedModel>,
    /// The checkpoints that no model of the home was made of.
    pub checkpoints: Vec<ListedCheckpoint>,
}

/// A model.
#[derive(Debug, Serialize)]
pub struct ListedModel {
    /// What `--model` takes.
    pub name: String,
    /// Its folder; none of the embedded one.
    pub directory: Option<PathBuf>,
    /// What its manifest says, where that can be read.
    #[serde(flatten)]
    pub made: Option<Made>,
    /// The folders in its `variants/`.
    pub variants: Vec<ListedVariant>,
    /// Why it cannot be used.
    pub problem: Option<String>,
}

/// What a manifest says.
#[derive(Debug, Serialize)]
pub struct Made {
    /// Length of its files.
    pub bytes: u64,
    /// Which pipeline it belongs to.
    pub pipeline: PipelineClass,
    /// How the weights of text encoder, transformer and VAE decoder are stored.
    pub weights: [String; 3],
    /// What it was converted from.
    pub source: String,
}

/// A variant of a model.
#[derive(Debug, Serialize)]
pub struct ListedVariant {
    /// The name of its folder.
    pub name: String,
    /// What its manifest says, where that can be read.
    #[serde(flatten)]
    pub made: Option<Made>,
    /// Why it cannot be used.
    pub problem: Option<String>,
}

/// A checkpoint that is not converted.
#[derive(Debug, Serialize)]
pub struct ListedCheckpoint {
    /// What 'pixart convert' takes.
    pub name: String,
    /// Its folder.
    pub directory: PathBuf,
    /// Where it lies.
    pub place: CheckpointPlace,
    /// Length of its files.
    pub bytes: u64,
    /// Which pipeline it belongs to; none of a tiny autoencoder, and of what is not whole.
    pub pipeline: Option<PipelineClass>,
    /// Why it cannot be converted yet.
    pub problem: Option<String>,
    /// The command that goes on.
    pub next: String,
}

/// Where a checkpoint lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum CheckpointPlace {
    /// In the home.
    Home,
    /// In the cache of the hub's own tools.
    HubCache,
}

impl Inventory {
    /// Looks.
    ///
    /// # Errors
    /// When the home's place makes no sense.
    pub fn of(environment: &Environment) -> Result<Self> {
        let home = ModelHome::of(environment)?;
        let found = |place| {
            home.as_ref()
                .map(|home| home_folders::all(home, place))
                .unwrap_or_default()
        };
        let embedded = ListedModel {
            name: EMBEDDED_NAME.to_owned(),
            directory: None,
            made: None,
            variants: Vec::new(),
            problem: None,
        };
        let mut models: Vec<ListedModel> = has_embedded_model()
            .then_some(embedded)
            .into_iter()
            .collect();
        models.extend(found(OwnPlace::Models).into_iter().map(ListedModel::of));
        let hub_cache = hub_cache_folder(environment).filter(|cache| cache.is_dir());
        let names = Names::of(environment);
        let mut checkpoints: Vec<ListedCheckpoint> = found(OwnPlace::Checkpoints)
            .into_iter()
            .map(|found| ListedCheckpoint::of(found, names))
            .collect();
        for repository in hub_cache
            .iter()
            .flat_map(|cache| CachedRepository::all(cache))
        {
            checkpoints.extend(ListedCheckpoint::of_cached(&repository, names));
        }
        let mut seen: Vec<String> = models
            .iter()
            .filter(|model| model.problem.is_none() && model.directory.is_some())
            .map(|model| model.name.clone())
            .collect();
        checkpoints.retain(|checkpoint| {
            let is_new = !seen.contains(&checkpoint.name);
            seen.push(checkpoint.name.clone());
            is_new
        });
        if let Some(home) = &home {
            checkpoints.extend(on_their_way(&home.place(OwnPlace::Models)));
        }
        Ok(Self {
            home: home.map(|home| home.folder().to_owned()),
            hub_cache,
            models,
            checkpoints,
        })
    }
}

impl ListedModel {
    fn of(found: HomeFolder) -> Self {
        let (made, problem) = look(&found.folder);
        let variants = variants(&found.folder).into_iter().map(|folder| {
            let (made, problem) = look(&folder);
            let name = folder.file_name().unwrap_or_default();
            ListedVariant {
                name: name.to_string_lossy().into_owned(),
                made,
                problem,
            }
        });
        Self {
            name: found.name,
            variants: variants.collect(),
            directory: Some(found.folder),
            made,
            problem,
        }
    }
}

/// What a model's manifest says, and why it cannot be used, as far as the lengths of its files tell.
fn look(folder: &Path) -> (Option<Made>, Option<String>) {
    let directory = match ModelDirectory::open_unchecked(folder) {
        Ok(directory) => directory,
        Err(ModelError::NotAModel { missing, .. }) => {
            return (None, Some(format!("it has no {missing}: convert it again")));
        }
        Err(error) => return (None, Some(error.to_string())),
    };
    let manifest = directory.manifest();
    let problem =
        manifest
            .files
            .iter()
            .find_map(|(name, entry)| match fs::metadata(folder.join(name)) {
                Err(error) => Some(format!("{name} cannot be read ({error}): convert it again")),
                Ok(found) if found.len() != entry.bytes => Some(format!(
                    "{name} has {} bytes instead of {}: convert it again",
                    found.len(),
                    entry.bytes
                )),
                Ok(_) => None,
            });
    (Some(Made::of(manifest)), problem)
}

impl Made {
    fn of(manifest: &Manifest) -> Self {
        Self {
            bytes: manifest.files.values().map(|file| file.bytes).sum(),
            pipeline: manifest.pipeline,
            weights: [
                manifest.text_encoder.words(),
                manifest.transformer.words(),
                manifest.vae_decoder.words(),
            ],
            source: manifest.source.clone(),
        }
    }
}

impl ListedCheckpoint {
    fn of(found: HomeFolder, names: Names<'_>) -> Self {
        let folder = &found.folder;
        let is_tiny = is_tiny_vae(folder);
        let index = folder.join("model_index.json");
        let pipeline = read_text(&index)
            .ok()
            .and_then(|text| ModelIndex::from_json(&text).ok())
            .map(|index| index.class);
        let (problem, next) = if is_tiny {
            let next = format!("pixart convert {} --output MODEL", quoted(&found.name));
            (None, next)
        } else if index.exists() {
            let problem = pipeline
                .is_none()
                .then(|| "it is no PixArt checkpoint".to_owned());
            (problem, names.converting(folder))
        } else {
            let problem = "its pull was interrupted".to_owned();
            (
                Some(problem),
                format!("pixart pull {}", quoted(&found.name)),
            )
        };
        Self {
            place: CheckpointPlace::Home,
            bytes: bytes_below(folder),
            pipeline,
            problem,
            next,
            name: found.name,
            directory: found.folder,
        }
    }

    /// One of PixArt's; the cache has those of every tool.
    fn of_cached(repository: &CachedRepository, names: Names<'_>) -> Option<Self> {
        let snapshot = repository
            .snapshot(Repository::MAIN)
            .or_else(|| repository.only())?;
        let index = read_text(&snapshot.folder.join("model_index.json")).ok()?;
        let index = ModelIndex::from_json(&index).ok()?;
        let (_, dangling) = snapshot.names();
        let problem = dangling
            .first()
            .map(|file| format!("{file} is a link to a file that is not there"));
        Some(Self {
            name: repository.name().to_owned(),
            place: CheckpointPlace::HubCache,
            bytes: bytes_below(&snapshot.folder),
            pipeline: Some(index.class),
            next: match problem {
                Some(_) => format!("pixart pull {} --convert", quoted(repository.name())),
                None => names.converting(&snapshot.folder),
            },
            problem,
            directory: snapshot.folder,
        })
    }
}

/// What 'pixart pull --convert' has started and not finished: hidden folders beside the models that will be.
fn on_their_way(models: &Path) -> Vec<ListedCheckpoint> {
    let inside = |folder: &Path| -> Vec<PathBuf> {
        let entries = fs::read_dir(folder).into_iter().flatten().flatten();
        entries.map(|entry| entry.path()).collect()
    };
    let is_hidden = |folder: &PathBuf| {
        let name = folder.file_name().unwrap_or_default().to_string_lossy();
        name.starts_with('.') && name.ends_with(".pulled")
    };
    let owners = inside(models);
    let mut folders: Vec<PathBuf> = owners
        .iter()
        .flat_map(|owner| inside(owner))
        .chain(owners.iter().cloned())
        .filter(is_hidden)
        .collect();
    folders.sort();
    folders
        .into_iter()
        .filter_map(|folder| {
            let repository = pulled_repository(&folder)?;
            let name = home_folders::name_of(&repository);
            Some(ListedCheckpoint {
                next: format!("pixart pull {} --convert", quoted(&name)),
                name,
                place: CheckpointPlace::Home,
                bytes: bytes_below(&folder),
                pipeline: None,
                problem: Some("its pull was interrupted, or is running".to_owned()),
                directory: folder,
            })
        })
        .collect()
}
