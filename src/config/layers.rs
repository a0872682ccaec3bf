//! The layers of the settings: a file's table, and single values laid over it. What an error tells has no key of the service.

use std::ffi::OsStr;
use std::path::Path;

use serde::Deserialize as _;
use toml::{Table, Value};

use super::{Settings, SettingsError};
use crate::files;

/// Longest settings file taken; the one with every key explained has 10 KB.
const MAX_FILE_BYTES: u64 = 4 << 20;

/// The settings of a file, which make sense by themselves: so its errors carry its line, and those of the layers above
/// name their variable or flag.
pub(super) fn read_file(path: &Path) -> Result<Table, SettingsError> {
    let text = files::read_text(path, MAX_FILE_BYTES).map_err(|source| SettingsError::Read {
        path: path.to_owned(),
        source,
    })?;
    let invalid = |detail: String| SettingsError::Invalid {
        origin: path.display().to_string(),
        detail,
    };
    let at_line = |mut error: toml::de::Error| {
        // The crate's own message quotes the line, which may hold a key.
        error.set_input(None);
        let line = error
            .span()
            .and_then(|span| text.get(..span.start))
            .map_or_else(String::new, |above| {
                format!("line {}: ", above.matches('\n').count() + 1)
            });
        invalid(format!("{line}{}", told(&error)))
    };
    let table = text.parse::<Table>().map_err(at_line)?;
    let settings = toml::from_str::<Settings>(&text).map_err(at_line)?;
    settings.check().map_err(invalid)?;
    Ok(table)
}

/// The key that the error names, and what it says. The crate puts the key into a last line, "in `section.key`".
pub(super) fn told(error: &toml::de::Error) -> String {
    let text = error.to_string();
    match text.trim_end().rsplit_once("\nin `") {
        Some((message, key)) => format!("{}: {message}", key.trim_end_matches('`')),
        None => text.trim_end().to_owned(),
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

/// The text of a variable. A key of the service is not shown.
pub(super) fn setting<'value>(
    variable: &str,
    key: &str,
    value: &'value OsStr,
) -> Result<&'value str, SettingsError> {
    match value.to_str() {
        None if key.starts_with("auth.") => Err(SettingsError::Invalid {
            origin: variable.to_owned(),
            detail: "it is not valid UTF-8".to_owned(),
        }),
        _ => utf8(variable, value),
    }
}

/// Sets `key` (`section.name`) in `table` to `text`, and holds that the settings still make sense.
pub(super) fn overlay(
    table: &mut Table,
    key: &str,
    text: &str,
    origin: &str,
) -> Result<(), SettingsError> {
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
    let mut refusal = match Settings::deserialize(table.clone()) {
        Ok(settings) => return settings.check().map_err(invalid),
        Err(as_text) => told(&as_text),
    };
    // A number is one only where text does not do: a folder may be called 123.
    let as_scalar =
        (text.parse().map(Value::Integer).ok()).or_else(|| text.parse().map(Value::Boolean).ok());
    if let Some(scalar) = as_scalar {
        table[section_name][name] = scalar;
        match Settings::deserialize(table.clone()) {
            Ok(settings) => return settings.check().map_err(invalid),
            Err(as_scalar) => refusal = told(&as_scalar),
        }
    }
    // Any text makes a list, so that the refusals above are the ones to tell.
    table[section_name][name] = text
        .split(',')
        .map(str::trim)
        .filter(|part| !part.is_empty())
        .map(str::to_owned)
        .collect::<Vec<_>>()
        .into();
    match Settings::deserialize(table.clone()) {
        Ok(settings) => settings.check().map_err(invalid),
        Err(_) => Err(invalid(refusal)),
    }
}
