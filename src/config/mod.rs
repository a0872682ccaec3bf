//! Settings: defaults ← file ← environment ← flags. The only reader of the environment.
//!
//! Every key stands in `config/default.toml` with its meaning; a test holds that file to the defaults here. The
//! environment spells `[openvino] device` as `PIXART__OPENVINO__DEVICE`, and separates what is in a list by commas. An
//! unknown key and a value out of its range refuse to start.

mod auth;
mod drawing;
mod environment;
mod home;
mod hosts;
mod hub;
mod hub_files;
mod layers;
mod log;
mod misspelt;
mod places;
mod range;
mod server;
mod work;

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use thiserror::Error;
use toml::{Table, Value};

use layers::{overlay, read_file, setting, told};

pub use auth::{ApiKeys, AuthSettings};
pub use drawing::{FileCheck, ModelSettings, OpenvinoSettings, Precision, TextEncoderResidency};
pub use environment::Environment;
pub use home::{ModelHome, OwnPlace};
pub use hosts::AllowedHost;
pub use hub::{HubProxy, HubSettings, HubToken, PUBLIC_HUB, hub_address};
pub use hub_files::hub_cache_folder;
pub use layers::utf8;
pub use log::{LogFormat, LogSettings};
pub use misspelt::foreign_variables;
pub use places::{cache_folder, openvino_folders};
pub use server::{OpenaiSettings, PublicUrl, ServerSettings};
pub use work::{JobsSettings, LimitsSettings, QueueSettings, WorkerSettings};

/// Why the settings make no sense.
#[derive(Debug, Error)]
pub enum SettingsError {
    /// The file cannot be read.
    #[error("cannot read the settings file {path}, which --config or PIXART_CONFIG names: {source}{advice}", path = path.display(), advice = advice(source))]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file of keys cannot be read.
    #[error("cannot read the file {path} of auth.keys_file: {source}{advice}", path = path.display(), advice = advice(source))]
    ReadKeys {
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
    /// A variable that is no setting of ours makes no sense. It may hold a secret: its value is not told.
    #[error("{name} {detail}")]
    Variable {
        /// The variable.
        name: &'static str,
        /// What is wrong with it.
        detail: &'static str,
    },
    /// A variable that spells a setting otherwise, and would have no effect. Its value is not shown.
    #[error(
        "the variable {variable} has no effect: did you mean {spelling}? (PIXART, section and key, with two underscores between them)"
    )]
    Misspelt {
        /// The variable.
        variable: String,
        /// As the setting is spelled.
        spelling: String,
    },
    /// The file of the hub's token. Its contents are not shown.
    #[error(
        "the hub's token in {path} cannot be used ({detail}): log in again with 'hf auth login', or set HF_TOKEN",
        path = path.display()
    )]
    TokenFile {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        detail: String,
    },
    /// The file is not TOML, or a key is unknown, ill-typed or out of its range.
    #[error("{origin}: {detail} (config/default.toml has every key and its meaning)")]
    Invalid {
        /// File or variable.
        origin: String,
        /// Why, naming the key.
        detail: String,
    },
}

/// What to do about a file that cannot be read, where its kind says that.
fn advice(error: &std::io::Error) -> &'static str {
    match error.kind() {
        std::io::ErrorKind::PermissionDenied => {
            ": make it readable for the user that pixart runs as (chmod a+r, or chown)"
        }
        _ => "",
    }
}

/// All settings, resolved.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// The runtime and the device.
    pub openvino: OpenvinoSettings,
    /// The model.
    pub model: ModelSettings,
    /// Addresses and connections.
    pub server: ServerSettings,
    /// What waits.
    pub queue: QueueSettings,
    /// What is kept of finished jobs.
    pub jobs: JobsSettings,
    /// What one request may ask for.
    pub limits: LimitsSettings,
    /// Who may ask.
    pub auth: AuthSettings,
    /// The OpenAI face.
    pub openai: OpenaiSettings,
    /// The thread that draws.
    pub worker: WorkerSettings,
    /// The log.
    pub log: LogSettings,
}

impl Settings {
    /// Resolves the settings: defaults, then `file`, then the environment's variables, then `flags`, which are pairs of
    /// a dotted key and its text. The file of keys is read too.
    ///
    /// # Errors
    /// When a file cannot be read, or a key is unknown or its value makes no sense.
    pub fn resolve(
        file: Option<&Path>,
        environment: &Environment,
        flags: &[(&str, String)],
    ) -> Result<Self, SettingsError> {
        misspelt::refuse_misspelt(environment)?;
        let mut table = Table::new();
        if let Some(path) = file {
            table = read_file(path)?;
        }
        for (variable, key, value) in environment.settings() {
            overlay(
                &mut table,
                &key,
                setting(&variable, &key, value)?,
                &variable,
            )?;
        }
        for (key, text) in flags {
            let name = key.rsplit('.').next().unwrap_or(key);
            overlay(
                &mut table,
                key,
                text,
                &format!("--{}", name.replace('_', "-")),
            )?;
        }
        let mut settings = Self::deserialize(table).map_err(|error| SettingsError::Invalid {
            origin: "settings".to_owned(),
            detail: told(&error),
        })?;
        settings.auth.read_file()?;
        Ok(settings)
    }

    /// Every setting as (`section.key`, value), for the log. Of secrets it tells how many there are.
    pub fn described(&self) -> Vec<(String, String)> {
        let sections = match Table::try_from(self) {
            Ok(sections) => sections,
            // A path that code put here, as one of the settings is always UTF-8.
            Err(error) => return vec![("settings".to_owned(), error.to_string())],
        };
        let mut described = Vec::new();
        for (section, keys) in &sections {
            for (key, value) in keys.as_table().into_iter().flatten() {
                described.push((format!("{section}.{key}"), text_of(value)));
            }
        }
        described
    }

    /// Holds every value to its range.
    fn check(&self) -> Result<(), String> {
        self.model.check()?;
        self.server.check()?;
        self.queue.check()?;
        self.jobs.check()?;
        self.limits.check()?;
        self.auth.check()?;
        self.openai.check()?;
        self.worker.check()
    }
}

/// A value as the environment spells it.
fn text_of(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(values) => values.iter().map(text_of).collect::<Vec<_>>().join(","),
        _ => value.to_string(),
    }
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
        // Every section and key, none beside them.
        let sections = std::fs::read_to_string(path)
            .unwrap()
            .parse::<Table>()
            .unwrap();
        let mut listed: Vec<String> = Vec::new();
        for (section, keys) in &sections {
            let keys = keys.as_table().unwrap().keys();
            listed.extend(keys.map(|key| format!("{section}.{key}")));
        }
        let known: Vec<String> = Settings::default()
            .described()
            .into_iter()
            .map(|(key, _)| key)
            .collect();
        listed.sort();
        assert_eq!(listed, known, "config/default.toml must list every key");
        assert_eq!(known.len(), 4 + 9 + 13 + 2 + 3 + 5 + 2 + 1 + 2 + 2);
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

    #[test]
    fn the_environment_spells_lists_and_switches() {
        let settings = Settings::resolve(
            None,
            &environment(&[
                (
                    "PIXART__AUTH__KEYS",
                    "first-key-for-tests, second-key-for-tests,",
                ),
                ("PIXART__SERVER__CORS_ORIGINS", "https://a.example"),
                ("PIXART__OPENAI__MODEL_ALIASES", ""),
                ("PIXART__WORKER__WARM_UP", "false"),
                ("PIXART__QUEUE__CAPACITY", "0"),
                ("PIXART__SERVER__LISTEN", "[::1]:0"),
                ("PIXART__SERVER__METRICS_LISTEN", "127.0.0.1:9090"),
                ("PIXART__SERVER__PUBLIC_URL", "https://a.example/"),
                ("PIXART__LOG__FORMAT", "json"),
                ("PIXART__OPENVINO__LIBRARY", "123"),
            ]),
            &[],
        )
        .unwrap();
        assert_eq!(settings.auth.keys.len(), 2);
        assert!(
            settings
                .auth
                .keys
                .iter()
                .any(|key| key == "second-key-for-tests")
        );
        assert_eq!(settings.server.cors_origins, ["https://a.example"]);
        assert!(settings.openai.model_aliases.is_empty());
        assert!(!settings.worker.warm_up);
        assert_eq!(settings.queue.capacity, 0);
        assert_eq!(settings.server.listen.to_string(), "[::1]:0");
        assert_eq!(settings.server.metrics_listen.unwrap().port(), 9090);
        assert_eq!(
            settings.server.public_url.unwrap().as_str(),
            "https://a.example"
        );
        assert_eq!(settings.log.format, LogFormat::Json);
        assert_eq!(settings.openvino.library, Path::new("123"));
    }

    #[test]
    fn a_list_of_one_that_looks_like_a_number_or_a_switch_is_a_list() {
        for text in ["1234567890123456", "true"] {
            let variables = environment(&[("PIXART__OPENAI__MODEL_ALIASES", text)]);
            let settings = Settings::resolve(None, &variables, &[]).unwrap();
            assert_eq!(settings.openai.model_aliases, [text]);
        }
    }

    #[test]
    fn a_value_out_of_its_range_is_told_with_variable_key_value_and_range() {
        for (variable, value, named) in [
            ("PIXART__SERVER__MAX_CONNECTIONS", "0", "1 to 65536"),
            ("PIXART__SERVER__HEADER_READ_SECONDS", "0", "1 to 3600"),
            ("PIXART__SERVER__BODY_READ_SECONDS", "0", "1 to 3600"),
            ("PIXART__SERVER__WRITE_STALL_SECONDS", "3601", "1 to 3600"),
            ("PIXART__SERVER__MAX_BODY_KIB", "1025", "1 to 1024"),
            ("PIXART__SERVER__GRACE_SECONDS", "3601", "0 to 3600"),
            ("PIXART__SERVER__LAME_DUCK_SECONDS", "3601", "0 to 3600"),
            ("PIXART__SERVER__LISTEN", "localhost:80", "127.0.0.1:8080"),
            ("PIXART__SERVER__METRICS_LISTEN", ":9090", "127.0.0.1:8080"),
            ("PIXART__SERVER__CORS_ORIGINS", "a.example", "https://"),
            ("PIXART__QUEUE__CAPACITY", "1001", "0 to 1000"),
            ("PIXART__QUEUE__DEADLINE_SECONDS", "86401", "0 to 86400"),
            ("PIXART__JOBS__TTL_SECONDS", "0", "1 to 86400"),
            ("PIXART__JOBS__MAX_MEMORY_MIB", "0", "1 to 65536"),
            ("PIXART__JOBS__MAX_KEPT", "0", "1 to 100000"),
            ("PIXART__LIMITS__MAX_IMAGES", "101", "1 to 100"),
            ("PIXART__LIMITS__MAX_SIDE_PX", "4097", "64 to 4096"),
            ("PIXART__LIMITS__MAX_STEPS", "1001", "1 to 1000"),
            ("PIXART__LIMITS__MAX_MEGAPIXEL_STEPS", "0", "1 to 1000000"),
            ("PIXART__WORKER__STALL_SECONDS", "0", "1 to 86400"),
            ("PIXART__MODEL__TEXT_ENCODER", "never", "on_demand"),
            (
                "PIXART__MODEL__TEXT_ENCODER_IDLE_SECONDS",
                "86401",
                "0 to 86400",
            ),
            ("PIXART__MODEL__EMBEDDING_CACHE_MIB", "65537", "0 to 65536"),
            ("PIXART__WORKER__WARM_UP", "maybe", "boolean"),
            ("PIXART__QUEUE__CAPACITY", "-1", "-1"),
            ("PIXART__LOG__FORMAT", "xml", "json"),
        ] {
            let error = Settings::resolve(None, &environment(&[(variable, value)]), &[])
                .unwrap_err()
                .to_string();
            let key = variable
                .trim_start_matches("PIXART__")
                .to_lowercase()
                .replace("__", ".");
            for part in [variable, &key, value, named] {
                assert!(error.contains(part), "{part}: {error}");
            }
        }
    }

    #[test]
    fn the_file_is_held_to_ranges_and_its_errors_name_the_line() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("pixart.toml");
        for (text, parts) in [
            (
                "[queue]\ncapacity = 5000\n",
                ["pixart.toml", "queue.capacity", "5000"],
            ),
            (
                "[queue]\ncapacity = 'a'\n",
                ["line 2", "queue.capacity", "string"],
            ),
            ("[queue]\n\ncapacity = = 1\n", ["pixart.toml", "line 3", ""]),
            (
                "[server]\nlisten = 8080\n",
                ["line 2", "server.listen", "8080"],
            ),
            ("[quest]\n", ["line 1", "quest", "queue"]),
        ] {
            std::fs::write(&file, text).unwrap();
            let error = Settings::resolve(Some(&file), &environment(&[]), &[])
                .unwrap_err()
                .to_string();
            for part in parts {
                assert!(error.contains(part), "{part}: {error}");
            }
        }
    }

    #[test]
    fn no_error_and_no_debug_output_has_a_key() {
        const KEY: &str = "hush-hush-hush-hush";
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("pixart.toml");
        for text in [
            format!("[auth]\nkeys = '{KEY}'\n"),
            format!("[auth]\nkeys = ['{KEY}', 5]\n"),
            format!("[auth]\nkeys = ['{KEY}']]\n"),
            format!("[auth]\nkeys = ['{KEY}'\n"),
            format!("[auth]\nkeys = {KEY}\n"),
            format!("[auth]\nkeys = ['{KEY} {KEY}']\n"),
            format!("[auth]\nkey = ['{KEY}']\n"),
            format!("[auth]\nkeys = {{ '{KEY}' = '{KEY}' }}\n"),
        ] {
            std::fs::write(&file, &text).unwrap();
            let error = Settings::resolve(Some(&file), &environment(&[]), &[]).unwrap_err();
            let told = format!("{error} {error:?}");
            assert!(!told.contains("hush"), "{text}: {told}");
            assert!(told.contains("line 2") || told.contains("key 1"), "{told}");
        }
        for (variable, value) in [
            ("PIXART__AUTH__KEYS", "hush"),
            ("PIXART__AUTH__KEY", KEY),
            ("PIXART__AUTH__KEYS", "hush hush hush hush"),
        ] {
            let variables = environment(&[(variable, value)]);
            let error = Settings::resolve(None, &variables, &[]).unwrap_err();
            let told = format!("{error} {error:?} {variables:?}");
            assert!(!told.contains("hush"), "{told}");
        }
        let variables = environment(&[("PIXART__AUTH__KEYS", KEY)]);
        let settings = Settings::resolve(None, &variables, &[]).unwrap();
        let told = format!("{settings:?} {:?}", settings.described());
        assert!(!told.contains("hush"), "{told}");
        assert!(told.contains("1 (redacted)"), "{told}");
    }

    #[cfg(unix)]
    #[test]
    fn a_key_that_is_no_utf8_is_not_shown() {
        use std::os::unix::ffi::OsStringExt as _;
        let value = OsString::from_vec(b"hush-hush-hush-\xff".to_vec());
        let variables = Environment::of([("PIXART__AUTH__KEYS".into(), value)]);
        let error = Settings::resolve(None, &variables, &[]).unwrap_err();
        let told = format!("{error} {error:?}");
        assert!(!told.contains("hush"), "{told}");
        assert!(told.contains("PIXART__AUTH__KEYS"), "{told}");
    }

    #[test]
    fn the_file_of_keys_is_read_with_the_settings() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("keys");
        std::fs::write(&file, "# staff\nkey-from-the-file-1\n").unwrap();
        let variables = environment(&[
            ("PIXART__AUTH__KEYS", "key-from-the-variable"),
            ("PIXART__AUTH__KEYS_FILE", file.to_str().unwrap()),
        ]);
        let settings = Settings::resolve(None, &variables, &[]).unwrap();
        assert_eq!(settings.auth.keys.len(), 2);
        assert!(
            settings
                .auth
                .keys
                .iter()
                .any(|key| key == "key-from-the-file-1")
        );
        std::fs::remove_file(&file).unwrap();
        assert!(Settings::resolve(None, &variables, &[]).is_err());
    }

    #[test]
    fn every_setting_is_described_once() {
        let described = Settings::default().described();
        let value = |key: &str| {
            let found = described.iter().find(|(known, _)| known == key);
            found.map(|(_, value)| value.as_str())
        };
        assert_eq!(value("server.listen"), Some("127.0.0.1:8080"));
        assert_eq!(value("server.metrics_listen"), Some(""));
        assert_eq!(value("worker.warm_up"), Some("true"));
        assert_eq!(value("auth.keys"), Some("0 (redacted)"));
        assert_eq!(value("limits.max_megapixel_steps"), Some("200"));
        assert!(
            value("openai.model_aliases")
                .unwrap()
                .starts_with("gpt-image-*,")
        );
    }
}
