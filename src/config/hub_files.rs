//! What the hub's own tools keep on this machine, found by the variables that they read: their cache, the token of
//! 'hf auth login', and whether they may ask the hub at all.
//!
//! Source of names, defaults and the words that mean yes: `constants.py` of `huggingface_hub` at its commit 03333b6.

use std::io::{self, Read as _};
use std::path::PathBuf;

use super::hub::is_sendable;
use super::{Environment, SettingsError};
use crate::files;

/// Longest file of a token; a token has 37 characters.
const MAX_TOKEN_BYTES: u64 = 4096;

/// `HF_HOME`, `$XDG_CACHE_HOME/huggingface`, `~/.cache/huggingface`.
fn hub_home(environment: &Environment) -> Option<PathBuf> {
    environment.place("HF_HOME").or_else(|| {
        let cache = environment
            .place("XDG_CACHE_HOME")
            .or_else(|| Some(environment.path("HOME")?.join(".cache")))?;
        Some(cache.join("huggingface"))
    })
}

/// The folder of the hub's cache: `HF_HUB_CACHE`, `HUGGINGFACE_HUB_CACHE`, or `hub` in the hub's home. It may not be there.
pub fn hub_cache_folder(environment: &Environment) -> Option<PathBuf> {
    environment
        .place("HF_HUB_CACHE")
        .or_else(|| environment.place("HUGGINGFACE_HUB_CACHE"))
        .or_else(|| Some(hub_home(environment)?.join("hub")))
}

/// The variable that says that the hub is not to be asked.
pub(super) fn offline(environment: &Environment) -> Option<&'static str> {
    // As there: the second counts where the first is unset or empty.
    let name = ["HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"]
        .into_iter()
        .find(|name| environment.path(name).is_some())?;
    is_true(environment, name).then_some(name)
}

/// 1, ON, YES, TRUE, however spelled.
fn is_true(environment: &Environment, name: &str) -> bool {
    let value = environment.path(name).unwrap_or_default();
    value.to_str().is_some_and(|text| {
        ["1", "ON", "YES", "TRUE"]
            .iter()
            .any(|word| text.eq_ignore_ascii_case(word))
    })
}

/// The token that 'hf auth login' wrote, unless `HF_HUB_DISABLE_IMPLICIT_TOKEN` forbids its use.
pub(super) fn stored_token(environment: &Environment) -> Result<Option<String>, SettingsError> {
    if is_true(environment, "HF_HUB_DISABLE_IMPLICIT_TOKEN") {
        return Ok(None);
    }
    let named = environment.place("HF_TOKEN_PATH");
    let Some(path) = named
        .clone()
        .or_else(|| Some(hub_home(environment)?.join("token")))
    else {
        return Ok(None);
    };
    let read = || -> io::Result<String> {
        let mut text = String::new();
        let file = files::open(&path)?;
        file.take(MAX_TOKEN_BYTES).read_to_string(&mut text)?;
        Ok(text)
    };
    let refused = |detail: String| SettingsError::TokenFile {
        path: path.clone(),
        detail,
    };
    match read() {
        Ok(text) => match text.trim() {
            "" => Ok(None),
            token if is_sendable(token) => Ok(Some(token.to_owned())),
            _ => Err(refused(
                "it has a space or another character that is not visible ASCII".to_owned(),
            )),
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        // Public repositories need none: what somebody else's home holds stops nothing.
        Err(_) if named.is_none() => Ok(None),
        Err(error) => Err(refused(error.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn environment(variables: &[(&str, &str)]) -> Environment {
        Environment::of(
            variables
                .iter()
                .map(|&(name, value)| (name.into(), value.into())),
        )
    }

    #[test]
    fn the_cache_is_where_the_hubs_tools_have_it() {
        let all = [
            ("HOME", "/home/a"),
            ("XDG_CACHE_HOME", "/cache"),
            ("HF_HOME", "~/hf"),
            ("HUGGINGFACE_HUB_CACHE", "/legacy"),
            ("HF_HUB_CACHE", "/mine"),
        ];
        let expected = [
            None,
            Some("/home/a/.cache/huggingface/hub"),
            Some("/cache/huggingface/hub"),
            Some("/home/a/hf/hub"),
            Some("/legacy"),
            Some("/mine"),
        ];
        for (count, expected) in expected.into_iter().enumerate() {
            let found = hub_cache_folder(&environment(&all[..count]));
            assert_eq!(found, expected.map(PathBuf::from));
        }
        assert_eq!(
            hub_cache_folder(&environment(&[("HF_HUB_CACHE", ""), ("HF_HOME", "/hf")])),
            Some("/hf/hub".into())
        );
    }

    #[test]
    fn offline_is_what_the_hubs_tools_call_so() {
        for word in ["1", "true", "True", "YES", "on"] {
            assert_eq!(
                offline(&environment(&[("HF_HUB_OFFLINE", word)])),
                Some("HF_HUB_OFFLINE"),
                "{word}"
            );
        }
        for word in ["", "0", "false", "no", "off", "2", "yes please"] {
            assert_eq!(offline(&environment(&[("HF_HUB_OFFLINE", word)])), None);
        }
        let both = [("HF_HUB_OFFLINE", ""), ("TRANSFORMERS_OFFLINE", "1")];
        assert_eq!(offline(&environment(&both)), Some("TRANSFORMERS_OFFLINE"));
        let both = [("HF_HUB_OFFLINE", "0"), ("TRANSFORMERS_OFFLINE", "1")];
        assert_eq!(offline(&environment(&both)), None);
    }

    #[test]
    fn the_token_is_read_where_hf_auth_login_wrote_it() {
        let folder = tempfile::tempdir().unwrap();
        let home = folder.path().to_str().unwrap();
        let token = |more: &[(&str, &str)]| {
            let mut variables = vec![("HF_HOME", home)];
            variables.extend(more);
            stored_token(&environment(&variables))
        };
        assert_eq!(token(&[]).unwrap(), None);
        fs::write(folder.path().join("token"), "hf_hush\r\n").unwrap();
        assert_eq!(token(&[]).unwrap().as_deref(), Some("hf_hush"));
        let forbidden = ("HF_HUB_DISABLE_IMPLICIT_TOKEN", "1");
        assert_eq!(token(&[forbidden]).unwrap(), None);
        let elsewhere = folder.path().join("elsewhere");
        let named = ("HF_TOKEN_PATH", elsewhere.to_str().unwrap());
        assert_eq!(token(&[named]).unwrap(), None);
        fs::write(&elsewhere, "hush hush").unwrap();
        let error = token(&[named]).unwrap_err();
        let told = format!("{error} {error:?}");
        assert!(
            told.contains("elsewhere") && !told.contains("hush"),
            "{told}"
        );
        let error = token(&[("HF_TOKEN_PATH", home)]).unwrap_err().to_string();
        assert!(error.contains("Is a directory"), "{error}");
    }
}
