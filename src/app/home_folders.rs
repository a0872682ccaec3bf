//! The folders of the models' home on the disk: which names are there, and where a name's place is.
//!
//! A name is `OWNER/NAME`, or `NAME` for what came of no repository. A revision other than the main one has a place of its own,
//! `OWNER/NAME@REVISION`, in which a slash of the revision is written as `%2F`.

use std::fs;
use std::path::{Path, PathBuf};

use crate::config::{ModelHome, OwnPlace};
use crate::model::{Manifest, ModelDirectory};
use crate::pull::Repository;

/// A folder of the home with its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct HomeFolder {
    pub(super) name: String,
    pub(super) folder: PathBuf,
}

/// The name under which a repository's model or checkpoint is kept.
pub(super) fn name_of(repository: &Repository) -> String {
    if repository.revision() == Repository::MAIN {
        repository.name().to_owned()
    } else {
        repository.to_string()
    }
}

/// Where the thing of this name has its place.
pub(super) fn place_of(home: &ModelHome, place: OwnPlace, name: &str) -> PathBuf {
    let folder = home.place(place);
    match name.split_once('@') {
        Some((name, revision)) => {
            let revision = revision.replace('%', "%25").replace('/', "%2F");
            folder.join(format!("{name}@{revision}"))
        }
        None => folder.join(name),
    }
}

/// Everything in one half of the home, by name. Hidden folders are in the making.
pub(super) fn all(home: &ModelHome, place: OwnPlace) -> Vec<HomeFolder> {
    let mut all = Vec::new();
    for owner in folders(&home.place(place)) {
        let inside = folders(&owner);
        if is_one(&owner) || inside.is_empty() {
            all.extend(found(&owner, None));
        } else {
            all.extend(inside.iter().filter_map(|path| found(path, Some(&owner))));
        }
    }
    all.sort_by(|a, b| a.name.cmp(&b.name));
    all
}

/// Whether a folder is a model or checkpoint itself, whole or not, and no owner's.
fn is_one(folder: &Path) -> bool {
    [
        Manifest::FILE_NAME,
        "model_index.json",
        "config.json",
        ".pixart-pull.json",
        ModelDirectory::TRANSFORMER,
    ]
    .iter()
    .any(|name| folder.join(name).exists())
}

fn found(folder: &Path, owner: Option<&Path>) -> Option<HomeFolder> {
    let called = |path: &Path| Some(path.file_name()?.to_str()?.to_owned());
    let own = called(folder)?.replace("%2F", "/").replace("%25", "%");
    Some(HomeFolder {
        name: match owner {
            Some(owner) => format!("{}/{own}", called(owner)?),
            None => own,
        },
        folder: folder.to_owned(),
    })
}

/// The folders in a folder, hidden ones left out.
fn folders(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let is_hidden = |path: &Path| {
        path.file_name()
            .is_none_or(|name| name.as_encoded_bytes().starts_with(b"."))
    };
    let mut found: Vec<PathBuf> = entries
        .map(|entry| entry.path())
        .filter(|path| !is_hidden(path) && path.is_dir())
        .collect();
    found.sort();
    found
}
