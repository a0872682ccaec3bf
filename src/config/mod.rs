//! Settings: defaults ← file ← environment ← flags. The only reader of the environment.
//!
//! Every key stands in `config/default.toml` with its meaning; a test holds that file to the defaults here. The
//! environment spells `[openvino] device` as `PIXART__OPENVINO__DEVICE`. An unknown key refuses to start.

mod environment;
mod places;

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde::Deserialize;
use thiserror::Error;
use toml::{Table, Value};

pub use environment::Environment;
pub use places::{cache_folder, openvino_folders};

/// Why the settings make no sense.
#[derive(Debug, Error)]
pub enum SettingsError {
    /// The file cannot be read.
    #[error("cannot read the settings file {path}: {source}", path = path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A variable or flag whose value is not UTF-8.
    #[error(
        "{origin} is {value:?}, which is not valid UTF-8, and OpenVINO takes no other paths: rename it"
    )]
    NotUtf8 {
        /// Variable or flag.
        origin: String,
        /// Its value.
        value: OsString,
    },
    /// The file is not TOML, or has an unknown or ill-typed key.
    #[error("{origin}: {detail}\n  every key and its meaning: config/default.toml")]
    Invalid {
        /// File or variable.
        origin: String,
        /// Why, naming the key.
        detail: String,
    },
}

/// Which arithmetic a device uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// The device's own choice: bf16 on CPUs that have it, f32 on others.
    #[default]
    Auto,
    /// f32 throughout, weights unpacked and activations never quantised: the proof's setting.
    F32,
    /// bf16.
    Bf16,
    /// f16.
    F16,
}

impl Precision {
    /// The name in settings, flags and of OpenVINO's hint.
    pub fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
            Self::F16 => "f16",
        }
    }
}

impl fmt::Display for Precision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Precision {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        [Self::Auto, Self::F32, Self::Bf16, Self::F16]
            .into_iter()
            .find(|precision| precision.name() == text)
            .ok_or_else(|| format!("precision '{text}' is not one of auto, f32, bf16, f16"))
    }
}

/// All settings, resolved.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// The runtime and the device.
    pub openvino: OpenvinoSettings,
    /// The model.
    pub model: ModelSettings,
}

/// `[openvino]`
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct OpenvinoSettings {
    /// Folder of the runtime's libraries; empty searches the usual places.
    pub library: PathBuf,
    /// `CPU`, `GPU`, `GPU.1`, `NPU`, `AUTO`.
    pub device: String,
    /// Arithmetic.
    pub precision: Precision,
    /// CPU threads; 0 leaves the number to the runtime.
    pub threads: u16,
}

/// `[model]`
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ModelSettings {
    /// Model directory; empty means the embedded model.
    pub directory: PathBuf,
    /// diffusers directory with tokenizer and scheduler, for IR that pixart did not make.
    pub checkpoint: PathBuf,
    /// Where the embedded model's IR is kept; empty means the user's cache folder.
    pub cache: PathBuf,
}

impl Default for OpenvinoSettings {
    fn default() -> Self {
        Self {
            library: PathBuf::new(),
            device: "CPU".to_owned(),
            precision: Precision::Auto,
            threads: 0,
        }
    }
}

impl Settings {
    /// Resolves the settings: defaults, then `file`, then the environment's variables, then `flags`, which are pairs of
    /// a dotted key and its text.
    ///
    /// # Errors
    /// When the file cannot be read, or a key is unknown or its value makes no sense.
    pub fn resolve(
        file: Option<&Path>,
        environment: &Environment,
        flags: &[(&str, String)],
    ) -> Result<Self, SettingsError> {
        let mut table = Table::new();
        if let Some(path) = file {
            let text = std::fs::read_to_string(path).map_err(|source| SettingsError::Read {
                path: path.to_owned(),
                source,
            })?;
            let invalid = |error: toml::de::Error| SettingsError::Invalid {
                origin: path.display().to_string(),
                detail: error.to_string(),
            };
            table = text.parse::<Table>().map_err(invalid)?;
            // Errors of the file carry its line; those of the layers above name their variable or flag.
            toml::from_str::<Self>(&text).map_err(invalid)?;
        }
        for (variable, key, value) in environment.settings() {
            overlay(&mut table, &key, utf8(&variable, value)?, &variable)?;
        }
        for (key, text) in flags {
            let flag = format!("--{}", key.rsplit('.').next().unwrap_or(key));
            overlay(&mut table, key, text, &flag)?;
        }
        Self::deserialize(table).map_err(|error| SettingsError::Invalid {
            origin: "settings".to_owned(),
            detail: error.to_string(),
        })
    }
}

/// The text of a setting, a path or another.
///
/// # Errors
/// When it is not UTF-8: OpenVINO takes no other paths and names.
pub fn utf8<'value>(origin: &str, value: &'value OsStr) -> Result<&'value str, SettingsError> {
    value.to_str().ok_or_else(|| SettingsError::NotUtf8 {
        origin: origin.to_owned(),
        value: value.to_owned(),
    })
}

/// Sets `key` (`section.name`) in `table` to `text`, and holds that the settings still make sense.
fn overlay(table: &mut Table, key: &str, text: &str, origin: &str) -> Result<(), SettingsError> {
    let invalid = |detail: String| SettingsError::Invalid {
        origin: origin.to_owned(),
        detail,
    };
    let (section_name, name) = key
        .split_once('.')
        .ok_or_else(|| invalid("a setting is spelled PIXART__SECTION__KEY".to_owned()))?;
    let section = table
        .entry(section_name)
        .or_insert_with(|| Value::Table(Table::new()))
        .as_table_mut()
        .ok_or_else(|| invalid(format!("'{section_name}' is not a section")))?;
    section.insert(name.to_owned(), Value::String(text.to_owned()));
    let Err(as_text) = Settings::deserialize(table.clone()) else {
        return Ok(());
    };
    // A number is one only where text does not do: a folder may be called 123.
    let Ok(number) = text.parse::<i64>() else {
        return Err(invalid(as_text.to_string()));
    };
    table[section_name][name] = Value::Integer(number);
    Settings::deserialize(table.clone())
        .map(drop)
        .map_err(|error| invalid(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(pairs: &[(&str, &str)]) -> Environment {
        Environment::of(
            pairs
                .iter()
                .map(|&(name, value)| (name.into(), value.into())),
        )
    }

    #[test]
    fn default_toml_says_what_the_code_says() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/default.toml");
        let from_file = Settings::resolve(Some(&path), &environment(&[]), &[]).unwrap();
        assert_eq!(from_file, Settings::default());
        let text = std::fs::read_to_string(path)
            .unwrap()
            .parse::<Table>()
            .unwrap();
        for (section, keys) in [
            (
                "openvino",
                vec!["device", "library", "precision", "threads"],
            ),
            ("model", vec!["cache", "checkpoint", "directory"]),
        ] {
            let mut found: Vec<&String> = text[section].as_table().unwrap().keys().collect();
            found.sort();
            assert_eq!(found, keys, "[{section}] must list every key");
        }
    }

    #[test]
    fn flags_win_over_the_environment_and_it_over_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("pixart.toml");
        std::fs::write(
            &file,
            "[openvino]\ndevice = 'GPU'\nthreads = 3\nprecision = 'bf16'\n",
        )
        .unwrap();
        let environment = environment(&[
            ("PIXART__OPENVINO__DEVICE", "NPU"),
            ("PIXART__OPENVINO__THREADS", "5"),
        ]);
        let flags = [("openvino.threads", "7".to_owned())];
        let settings = Settings::resolve(Some(&file), &environment, &flags).unwrap();
        assert_eq!(settings.openvino.precision, Precision::Bf16);
        assert_eq!(settings.openvino.device, "NPU");
        assert_eq!(settings.openvino.threads, 7);
    }

    #[test]
    fn unknown_keys_and_senseless_values_are_refused_by_name() {
        for (variable, value, named) in [
            ("PIXART__OPENVINO__DEVISE", "CPU", "devise"),
            (
                "PIXART__OPENVINO__THREADS",
                "many",
                "PIXART__OPENVINO__THREADS",
            ),
            ("PIXART__OPENVINO__PRECISION", "f64", "f64"),
            ("PIXART__QUEUE", "1", "PIXART__QUEUE"),
        ] {
            let error =
                Settings::resolve(None, &environment(&[(variable, value)]), &[]).unwrap_err();
            assert!(error.to_string().contains(named), "{error}");
        }
    }
}
