//! What a model or a checkpoint is called → the folder that it is.
//!
//! A path that is there always wins. Then a model in the home counts (`config/home.rs`), by `OWNER/NAME`, or by `NAME` where one
//! owner alone has it; for a checkpoint the hub's cache, too. What is found nowhere is refused with the command that gets it.
//!
//! Names come from flags and settings, never from a request.

use std::fs;
use std::path::{Path, PathBuf};

use super::home_folders::{self, HomeFolder, name_of, place_of};
pub use super::name_error::NameError;
use super::shell::quoted;
use crate::config::{Environment, ModelHome, OwnPlace, PUBLIC_HUB, hub_address, hub_cache_folder};
use crate::convert::is_tiny_vae;
use crate::model::{EMBEDDED_NAME, ForeignModel, Manifest, VARIANTS, has_embedded_model};
use crate::pull::{CachedRepository, InvalidRepository, Repository, Snapshot, pulled_repository};

/// A checkpoint that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundCheckpoint {
    /// The diffusers directory.
    pub folder: PathBuf,
    /// The repository that it came from, with a revision that is not the main one.
    pub repository: Option<Repository>,
}

/// Finds folders by names.
#[derive(Debug, Clone, Copy)]
pub struct Names<'a> {
    environment: &'a Environment,
}

impl<'a> Names<'a> {
    /// With the home and the cache that the environment says.
    pub fn of(environment: &'a Environment) -> Self {
        Self { environment }
    }

    /// The folder of a model; empty for the embedded one, which has none. A path that leads nowhere is returned as it is.
    ///
    /// # Errors
    /// When a name is not known, or what is there is no model yet.
    pub fn model(self, given: &Path) -> Result<PathBuf, NameError> {
        if given.as_os_str().is_empty() {
            return Ok(PathBuf::new());
        }
        if let Some(path) = self.there(given) {
            self.check_kind(&path, given)?;
            return Ok(path);
        }
        let Some(text) = given.to_str().filter(|text| !is_path(text)) else {
            return Ok(self.environment.expanded(given));
        };
        let (base, variant) = match text.split_once(&format!("/{VARIANTS}/")) {
            Some((base, variant)) => (base, Some(variant)),
            None => (text, None),
        };
        let Some(repository) = self.named(base)? else {
            return Ok(given.to_owned());
        };
        let home = ModelHome::of(self.environment)?;
        let models = home
            .as_ref()
            .map(|home| home_folders::all(home, OwnPlace::Models))
            .unwrap_or_default();
        match one_of(&models, &name_of(&repository))? {
            Some(model) => Ok(match variant {
                Some(variant) => model.folder.join(VARIANTS).join(variant),
                None => model.folder.clone(),
            }),
            None if base == EMBEDDED_NAME && variant.is_none() && has_embedded_model() => {
                Ok(PathBuf::new())
            }
            None => Err(self.unknown_model(text, &repository, home.as_ref(), &models)),
        }
    }

    /// A diffusers directory, for conversion.
    ///
    /// # Errors
    /// When a name is not known, or the hub's cache has not all of it.
    pub fn checkpoint(self, given: &Path) -> Result<FoundCheckpoint, NameError> {
        if let Some(path) = self.there(given) {
            return checkpoint_at(path);
        }
        let text = given.to_str().filter(|text| !is_path(text));
        let repository = text.map(|text| self.named(text)).transpose()?.flatten();
        let Some(repository) = repository else {
            return Ok(FoundCheckpoint {
                folder: self.environment.expanded(given),
                repository: None,
            });
        };
        let home = ModelHome::of(self.environment)?;
        let pulled = home
            .as_ref()
            .map(|home| home_folders::all(home, OwnPlace::Checkpoints))
            .unwrap_or_default();
        if let Some(found) = one_of(&pulled, &name_of(&repository))? {
            return checkpoint_at(found.folder.clone());
        }
        let cache = hub_cache_folder(self.environment);
        let cached = cache
            .as_ref()
            .and_then(|cache| CachedRepository::of(cache, repository.name()));
        let snapshot = cached
            .as_ref()
            .and_then(|cached| cached.snapshot(repository.revision()));
        if let Some(snapshot) = snapshot {
            check_links(&snapshot, repository.name())?;
            return Ok(FoundCheckpoint {
                folder: snapshot.folder,
                repository: Some(repository),
            });
        }
        let home = home.map(|home| home.place(OwnPlace::Checkpoints));
        Err(NameError::NotHere {
            given: given.display().to_string(),
            what: "checkpoint",
            places: listed_places(home.into_iter().chain(cache)),
            advice: fetching(&repository),
        })
    }

    /// The place of a repository's model in the home.
    ///
    /// # Errors
    /// When there is no home.
    pub fn place_of(self, place: OwnPlace, repository: &Repository) -> Result<PathBuf, NameError> {
        let home = ModelHome::of(self.environment)?.ok_or(NameError::NoHome)?;
        Ok(place_of(&home, place, &name_of(repository)))
    }

    /// Where the model of a checkpoint goes when nothing else is said.
    ///
    /// # Errors
    /// When there is no home, or the place is not known or is taken.
    pub fn place_of_model_of(self, checkpoint: &FoundCheckpoint) -> Result<PathBuf, NameError> {
        if let Some(repository) = &checkpoint.repository {
            return self.place_of(OwnPlace::Models, repository);
        }
        let home = ModelHome::of(self.environment)?.ok_or(NameError::NoHome)?;
        let whole = fs::canonicalize(&checkpoint.folder);
        let whole = whole.unwrap_or_else(|_| checkpoint.folder.clone());
        let called = whole.file_name().unwrap_or_default().to_string_lossy();
        if called.parse::<Repository>().is_err() || called.contains(['/', '@']) {
            return Err(NameError::NoName {
                called: called.into_owned(),
            });
        }
        let path = place_of(&home, OwnPlace::Models, &called);
        // Another folder of that name has made it, for all that is known.
        if path.exists() {
            return Err(NameError::Taken { path });
        }
        Ok(path)
    }

    /// What a command line calls a model: its name where it is in the home, its path elsewhere.
    pub fn spelled(self, model: &Path) -> String {
        let home = ModelHome::of(self.environment).ok().flatten();
        let models = home.map(|home| home_folders::all(&home, OwnPlace::Models));
        let found = models
            .into_iter()
            .flatten()
            .find(|found| found.folder == model && self.there(Path::new(&found.name)).is_none());
        found.map_or_else(|| quoted(model), |found| quoted(found.name))
    }

    /// What to do with a checkpoint that was pulled to a folder.
    pub fn after_pull(self, folder: &Path) -> String {
        if is_tiny_vae(folder) {
            let name = self.name_of_checkpoint(folder);
            let name = quoted(name.as_deref().unwrap_or(folder));
            return format!("give it to a model: pixart convert {name} --output MODEL");
        }
        format!("convert it: {}", self.converting(folder))
    }

    /// The path itself where something is there, `~` read as no shell has read it.
    fn there(self, given: &Path) -> Option<PathBuf> {
        [given.to_owned(), self.environment.expanded(given)]
            .into_iter()
            .find(|path| {
                // What may not be looked at is there.
                fs::symlink_metadata(path).is_ok()
                    || path
                        .try_exists()
                        .is_err_and(|error| error.kind() == std::io::ErrorKind::PermissionDenied)
            })
    }

    /// The repository of a name or address; none of what can be neither.
    fn named(self, text: &str) -> Result<Option<Repository>, NameError> {
        let hub = hub_address(self.environment).unwrap_or_else(|_| PUBLIC_HUB.to_owned());
        match Repository::read(text, &hub) {
            Ok(repository) => Ok(Some(repository)),
            Err(InvalidRepository::Text { .. }) if !text.contains("://") => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Refuses what is known to be something else than a model, with what makes one of it.
    fn check_kind(self, path: &Path, given: &Path) -> Result<(), NameError> {
        if path.join(Manifest::FILE_NAME).exists() || ForeignModel::is_one(path) {
            return Ok(());
        }
        if path.join("model_index.json").exists() || CachedRepository::at(path).is_some() {
            return Err(NameError::NotConverted {
                command: self.converting(path),
                beside: self.beside(given),
                path: path.to_owned(),
            });
        }
        if let Some(repository) = pulled_repository(path)
            && !path.join("config.json").exists()
        {
            return Err(NameError::NotWhole {
                path: path.to_owned(),
                repository: quoted(repository.to_string()),
            });
        }
        if is_tiny_vae(path) {
            return Err(NameError::TinyVae {
                path: path.to_owned(),
            });
        }
        Ok(())
    }

    /// The command that converts a folder.
    pub(super) fn converting(self, path: &Path) -> String {
        if let Some(name) = self.name_of_checkpoint(path) {
            return format!("pixart convert {}", quoted(name));
        }
        let output = match path.file_name() {
            Some(name) => {
                let name = name.to_string_lossy().into_owned() + "-openvino";
                quoted(path.with_file_name(name))
            }
            None => "DIR".to_owned(),
        };
        format!("pixart convert {} --output {output}", quoted(path))
    }

    /// What 'pixart convert' takes for a folder, where it then finds a place for the model by itself.
    fn name_of_checkpoint(self, path: &Path) -> Option<PathBuf> {
        ModelHome::of(self.environment).ok()??;
        let repository = checkpoint_at(path.to_owned()).ok()?.repository?;
        let name = PathBuf::from(name_of(&repository));
        let finds = self
            .checkpoint(&name)
            .is_ok_and(|found| found.folder == path);
        Some(if finds { name } else { path.to_owned() })
    }

    /// That a model of the home has the name of a folder that is in its way.
    fn beside(self, given: &Path) -> String {
        let model = || {
            let home = ModelHome::of(self.environment).ok()??;
            let repository = self.named(given.to_str()?).ok()??;
            let models = home_folders::all(&home, OwnPlace::Models);
            one_of(&models, &name_of(&repository)).ok()?.cloned()
        };
        model().map_or_else(String::new, |model| {
            format!(
                " (a folder that is here comes first; the model of that name is {})",
                quoted(model.folder)
            )
        })
    }

    fn unknown_model(
        self,
        text: &str,
        repository: &Repository,
        home: Option<&ModelHome>,
        models: &[HomeFolder],
    ) -> NameError {
        let name = name_of(repository);
        if let Ok(found) = self.checkpoint(Path::new(&name)) {
            return NameError::NotConverted {
                command: self.converting(&found.folder),
                beside: String::new(),
                path: found.folder,
            };
        }
        let names: Vec<&str> = models.iter().map(|model| model.name.as_str()).collect();
        let advice = match (repository.name().contains('/'), &names[..]) {
            (true, _) => fetching(repository),
            (false, []) => "'pixart pull OWNER/NAME --convert' fetches one".to_owned(),
            (false, names) => format!(
                "there are {}; 'pixart pull OWNER/NAME --convert' fetches another",
                names.join(", ")
            ),
        };
        NameError::NotHere {
            given: text.to_owned(),
            what: "model",
            places: listed_places(home.map(|home| home.place(OwnPlace::Models))),
            advice,
        }
    }
}

/// A folder as a checkpoint, with the repository that it says it is of.
fn checkpoint_at(path: PathBuf) -> Result<FoundCheckpoint, NameError> {
    // The folders above say what it is, also of `.` and of a link.
    let whole = fs::canonicalize(&path).unwrap_or_else(|_| path.clone());
    if let Some(cached) = CachedRepository::at(&whole) {
        let snapshot = cached.snapshot(Repository::MAIN).or_else(|| cached.only());
        if let Some(snapshot) = snapshot {
            check_links(&snapshot, cached.name())?;
            return Ok(FoundCheckpoint {
                repository: of_snapshot(&cached, &snapshot),
                folder: snapshot.folder,
            });
        }
        return Err(NameError::NoSnapshot {
            commits: cached.commits().join(", "),
            path,
        });
    }
    if let Some((cached, snapshot)) = Snapshot::at(&whole) {
        check_links(&snapshot, cached.name())?;
        return Ok(FoundCheckpoint {
            repository: of_snapshot(&cached, &snapshot),
            folder: path,
        });
    }
    Ok(FoundCheckpoint {
        repository: pulled_repository(&whole),
        folder: path,
    })
}

fn fetching(repository: &Repository) -> String {
    format!(
        "'pixart pull {} --convert' fetches it, if the hub has it",
        quoted(name_of(repository))
    )
}

fn listed_places(places: impl IntoIterator<Item = PathBuf>) -> String {
    let places: Vec<String> = places
        .into_iter()
        .map(|path| path.display().to_string())
        .collect();
    if places.is_empty() {
        return String::new();
    }
    format!(" in {}", places.join(" or "))
}

/// Whether a text is meant as a path whatever it spells.
fn is_path(text: &str) -> bool {
    text.starts_with(['/', '.', '~']) || (text.ends_with('/') && !text.contains("://"))
}

/// The one of this full name, or of this name alone; the case of letters counts where it must.
fn one_of<'a>(all: &'a [HomeFolder], name: &str) -> Result<Option<&'a HomeFolder>, NameError> {
    let own = |found: &'a HomeFolder| found.name.split_once('/').map_or("", |(_, own)| own);
    let rules: [&dyn Fn(&'a HomeFolder) -> bool; 4] = [
        &|found| found.name == name,
        &|found| own(found) == name,
        &|found| found.name.eq_ignore_ascii_case(name),
        &|found| own(found).eq_ignore_ascii_case(name),
    ];
    for rule in rules {
        let found: Vec<&HomeFolder> = all.iter().filter(|found| rule(found)).collect();
        match found[..] {
            [] => {}
            [one] => return Ok(Some(one)),
            _ => {
                let names: Vec<&str> = found.iter().map(|found| found.name.as_str()).collect();
                return Err(NameError::Ambiguous {
                    given: name.to_owned(),
                    names: names.join(" or "),
                });
            }
        }
    }
    Ok(None)
}

/// The repository at a snapshot's commit, or at its main revision where that is the same.
fn of_snapshot(cached: &CachedRepository, snapshot: &Snapshot) -> Option<Repository> {
    let main = cached.snapshot(Repository::MAIN);
    let is_main = main.is_none_or(|main| main.commit == snapshot.commit);
    let name = cached.name();
    if is_main {
        name.parse().ok()
    } else {
        format!("{name}@{}", snapshot.commit).parse().ok()
    }
}

/// Holds that none of the files that conversion may read is a link to nothing.
fn check_links(snapshot: &Snapshot, name: &str) -> Result<(), NameError> {
    let (_, dangling) = snapshot.names();
    let is_read = |file: &&String| {
        [".json", ".safetensors", ".model"]
            .iter()
            .any(|ending| file.ends_with(ending))
    };
    match dangling.iter().find(is_read) {
        Some(file) => Err(NameError::Dangling {
            path: snapshot.folder.join(file),
            name: name.to_owned(),
        }),
        None => Ok(()),
    }
}
