//! Checked access to the `config.json` of a component: every number has a range, every refusal names its key.

use serde_json::{Map, Value};
use thiserror::Error;

use super::python_json::from_python;

/// Why a configuration cannot be used. The file's name is added by whoever opened it.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// Not JSON at all.
    #[error("it is not valid JSON: {0}")]
    Syntax(#[from] serde_json::Error),
    /// JSON, but not an object.
    #[error("it must hold one JSON object")]
    NotAnObject,
    /// A key that has no default is absent.
    #[error("the key '{key}' is missing")]
    Missing {
        /// The key.
        key: &'static str,
    },
    /// A value that cannot be.
    #[error("the key '{key}' is {got}: it must be {expected}")]
    Invalid {
        /// The key.
        key: &'static str,
        /// The value found, cut to a readable length.
        got: String,
        /// What would do.
        expected: String,
    },
}

impl ConfigError {
    /// A refusal of `key`, whose value is shown cut to a readable length.
    pub(crate) fn invalid(
        key: &'static str,
        got: impl ToString,
        expected: impl Into<String>,
    ) -> Self {
        let mut got = got.to_string();
        if got.chars().count() > 60 {
            got = got.chars().take(60).chain("…".chars()).collect();
        }
        Self::Invalid {
            key,
            got,
            expected: expected.into(),
        }
    }
}

/// One parsed configuration object.
#[derive(Debug)]
pub(super) struct ConfigJson(Map<String, Value>);

impl ConfigJson {
    /// Parses the text of a `config.json`, which Python may have written.
    pub(super) fn parse(text: &str) -> Result<Self, ConfigError> {
        match from_python(text)? {
            Value::Object(map) => Ok(Self(map)),
            _ => Err(ConfigError::NotAnObject),
        }
    }

    /// A value that is there and not null.
    fn given(&self, key: &str) -> Option<&Value> {
        self.0.get(key).filter(|value| !value.is_null())
    }

    /// A whole number from 1 to `max`.
    pub(super) fn size(&self, key: &'static str, max: usize) -> Result<usize, ConfigError> {
        self.optional_size(key, max)?
            .ok_or(ConfigError::Missing { key })
    }

    /// A whole number from 1 to `max`, or nothing where the key is absent or null.
    pub(super) fn optional_size(
        &self,
        key: &'static str,
        max: usize,
    ) -> Result<Option<usize>, ConfigError> {
        let Some(value) = self.given(key) else {
            return Ok(None);
        };
        Self::checked_size(key, value, max).map(Some)
    }

    fn checked_size(key: &'static str, value: &Value, max: usize) -> Result<usize, ConfigError> {
        value
            .as_u64()
            .and_then(|number| usize::try_from(number).ok())
            .filter(|number| (1..=max).contains(number))
            .ok_or_else(|| {
                ConfigError::invalid(key, value, format!("a whole number from 1 to {max}"))
            })
    }

    /// A list of 1 to `most` whole numbers, each from 1 to `max`.
    pub(super) fn sizes(
        &self,
        key: &'static str,
        most: usize,
        max: usize,
    ) -> Result<Vec<usize>, ConfigError> {
        let value = self.given(key).ok_or(ConfigError::Missing { key })?;
        let list = value
            .as_array()
            .filter(|list| (1..=most).contains(&list.len()))
            .ok_or_else(|| ConfigError::invalid(key, value, format!("a list of 1 to {most}")))?;
        list.iter()
            .map(|item| Self::checked_size(key, item, max))
            .collect()
    }

    /// A finite number above 0, or `default`.
    pub(super) fn positive(&self, key: &'static str, default: f64) -> Result<f64, ConfigError> {
        let Some(value) = self.given(key) else {
            return Ok(default);
        };
        value
            .as_f64()
            .filter(|number| number.is_finite() && *number > 0.0)
            .ok_or_else(|| ConfigError::invalid(key, value, "a number above 0"))
    }

    /// true or false, or nothing where the key is absent or null.
    pub(super) fn flag(&self, key: &'static str) -> Result<Option<bool>, ConfigError> {
        let Some(value) = self.given(key) else {
            return Ok(None);
        };
        value
            .as_bool()
            .map(Some)
            .ok_or_else(|| ConfigError::invalid(key, value, "true or false"))
    }

    /// A text, or nothing where the key is absent or null.
    pub(super) fn text(&self, key: &'static str) -> Result<Option<&str>, ConfigError> {
        let Some(value) = self.given(key) else {
            return Ok(None);
        };
        value
            .as_str()
            .map(Some)
            .ok_or_else(|| ConfigError::invalid(key, value, "a text"))
    }

    /// Holds that `key`, where it is given, has one of the values that our graphs draw.
    pub(super) fn expect_text(
        &self,
        key: &'static str,
        allowed: &[&str],
    ) -> Result<(), ConfigError> {
        match self.text(key)? {
            Some(text) if !allowed.contains(&text) => Err(ConfigError::invalid(
                key,
                text,
                format!("{} (other variants are not built in)", allowed.join(" or ")),
            )),
            _ => Ok(()),
        }
    }

    /// Holds that `key`, where it is given, is `allowed`.
    pub(super) fn expect_flag(&self, key: &'static str, allowed: bool) -> Result<(), ConfigError> {
        match self.flag(key)? {
            Some(flag) if flag != allowed => Err(ConfigError::invalid(
                key,
                flag,
                format!("{allowed} (the other variant is not built in)"),
            )),
            _ => Ok(()),
        }
    }
}
