//! What lies where a checkpoint's weights should be: the refusal that says so, for folders without them.

use std::ffi::OsStr;
use std::fs;
use std::path::Path;

use super::ConvertError;
use crate::model::PICKLE_ENDINGS;

/// Refuses a link to nothing by its own name: copies of the hub's cache have them where its blobs did not come along.
pub(super) fn check_link(path: &Path) -> Result<(), ConvertError> {
    if path.is_symlink() && !path.exists() {
        return Err(ConvertError::Dangling {
            path: path.to_owned(),
            target: fs::read_link(path).unwrap_or_default(),
        });
    }
    Ok(())
}

/// Why `directory` has no weights that are called `stem`.
pub(super) fn weights(directory: &Path, stem: &str) -> ConvertError {
    let mut names: Vec<String> = fs::read_dir(directory)
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect();
    names.sort();
    let ends_in =
        |name: &str, ending: &str| Path::new(name).extension() == Some(OsStr::new(ending));
    let first = |is_it: &dyn Fn(&str) -> bool| names.iter().find(|name| is_it(name));
    let path = directory.join(format!("{stem}.safetensors"));
    if let Some(shard) = first(&|name| ends_in(name, "safetensors") && name.contains("-of-")) {
        // `model.fp16-00001-of-00002.safetensors`: a variant stands before the number here, and after the index there.
        let base = shard.split("-0").next().unwrap_or(stem);
        let (base, variant) = base
            .split_once('.')
            .map_or((base, String::new()), |(base, variant)| {
                (base, format!(".{variant}"))
            });
        return ConvertError::NoIndex {
            shard: directory.join(shard),
            index: format!("{base}.safetensors.index{variant}.json"),
        };
    }
    if let Some(other) = first(&|name| ends_in(name, "safetensors")) {
        return ConvertError::OtherName {
            path,
            there: other.clone(),
        };
    }
    let is_pickle = |name: &str| {
        PICKLE_ENDINGS.iter().any(|ending| ends_in(name, ending))
            || name.ends_with(".bin.index.json")
    };
    if let Some(pickle) = first(&is_pickle) {
        return ConvertError::Pickle {
            path: directory.join(pickle),
        };
    }
    ConvertError::MissingFile { path }
}
