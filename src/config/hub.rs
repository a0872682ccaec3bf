//! The hub that checkpoints are pulled from, by the variables that every tool of that hub reads: `HF_ENDPOINT`, `HF_TOKEN`,
//! and those that say where its files lie on this machine (`hub_files.rs`).
//!
//! The token leaves this file through [`HubToken::expose`] alone: neither an error nor Debug output has it.

use std::fmt;
use std::path::PathBuf;

use super::hub_files::{hub_cache_folder, offline, stored_token};
use super::{Environment, SettingsError};

/// Where the public hub is.
pub const PUBLIC_HUB: &str = "https://huggingface.co";

/// Which hub, and who asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HubSettings {
    /// Its address, `http` or `https`, without a slash at the end.
    pub endpoint: String,
    /// What opens private and gated repositories.
    pub token: Option<HubToken>,
    /// The proxy between here and an `https` hub.
    pub proxy: Option<HubProxy>,
    /// The folder that the hub's own tools keep files in. It may not be there.
    pub cache: Option<PathBuf>,
    /// The variable that forbids every request, where one does.
    pub offline: Option<&'static str>,
}

/// An access token. Debug output says only that there is one.
#[derive(Clone, PartialEq, Eq)]
pub struct HubToken(String);

/// A proxy, whose address may hold a password. Debug output says only that there is one.
#[derive(Clone, PartialEq, Eq)]
pub struct HubProxy {
    /// Its address.
    pub address: String,
    /// Hosts that are reached without it, separated by commas.
    pub except: String,
}

impl HubToken {
    /// The token itself, for the header that carries it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for HubToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HubToken(redacted)")
    }
}

impl fmt::Debug for HubProxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HubProxy(redacted)")
    }
}

impl HubSettings {
    /// Reads `HF_ENDPOINT`, `HF_TOKEN`, `HTTPS_PROXY`, `ALL_PROXY`, `NO_PROXY`, `HF_HUB_OFFLINE`, and where the hub's tools keep
    /// their cache and the token of 'hf auth login'; an empty variable is none.
    ///
    /// # Errors
    /// When a variable makes no sense, or the token's file cannot be used.
    pub fn of(environment: &Environment) -> Result<Self, SettingsError> {
        let text = |name| text(environment, name);
        let endpoint = hub_address(environment)?;
        let mut proxy = None;
        for name in ["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"] {
            proxy = proxy.or(text(name)?);
        }
        let except = match text("NO_PROXY")? {
            Some(hosts) => hosts,
            None => text("no_proxy")?.unwrap_or_default(),
        };
        Ok(Self {
            proxy: proxy
                .filter(|_| endpoint.starts_with("https://"))
                .map(|address| HubProxy { address, except }),
            token: match text("HF_TOKEN")? {
                Some(token) => Some(HubToken(token)),
                None => stored_token(environment)?.map(HubToken),
            },
            cache: hub_cache_folder(environment),
            offline: offline(environment),
            endpoint,
        })
    }
}

/// The hub's address: `HF_ENDPOINT` where it is set, without a slash at the end.
///
/// # Errors
/// When it is no address.
pub fn hub_address(environment: &Environment) -> Result<String, SettingsError> {
    let endpoint = text(environment, "HF_ENDPOINT")?.unwrap_or_else(|| PUBLIC_HUB.to_owned());
    if !(endpoint.starts_with("https://") || endpoint.starts_with("http://")) {
        return Err(SettingsError::Variable {
            name: "HF_ENDPOINT",
            detail: "is no address: it begins with https:// or http://, as https://huggingface.co does",
        });
    }
    // Addresses are told in messages; passwords are not.
    if endpoint.contains(['@', '?', '#']) {
        return Err(SettingsError::Variable {
            name: "HF_ENDPOINT",
            detail: "has more than scheme, host, port and path: put a token into HF_TOKEN",
        });
    }
    Ok(endpoint.trim_end_matches('/').to_owned())
}

/// A variable's text.
fn text(environment: &Environment, name: &'static str) -> Result<Option<String>, SettingsError> {
    let Some(value) = environment.path(name) else {
        return Ok(None);
    };
    match value.to_str().map(str::trim) {
        Some(text) if is_sendable(text) => {
            Ok(Some(text.to_owned()).filter(|text| !text.is_empty()))
        }
        _ => Err(SettingsError::Variable {
            name,
            detail: "has a space or another character that is not visible ASCII",
        }),
    }
}

/// A header takes no other characters, and an address has no others.
pub(super) fn is_sendable(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_graphic())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(variables: &[(&str, &str)]) -> Result<HubSettings, SettingsError> {
        HubSettings::of(&Environment::of(
            variables
                .iter()
                .map(|&(name, value)| (name.into(), value.into())),
        ))
    }

    #[test]
    fn without_variables_the_public_hub_is_asked_by_nobody() {
        let settings = settings(&[("HF_TOKEN", ""), ("HF_ENDPOINT", "")]).unwrap();
        assert_eq!(settings.endpoint, "https://huggingface.co");
        assert_eq!(settings.token, None);
        assert_eq!(settings.proxy, None);
    }

    #[test]
    fn the_variables_of_the_hub_are_honoured() {
        let settings = settings(&[
            ("HF_ENDPOINT", "https://hub.example/base/"),
            ("HF_TOKEN", "hf_hush\n"),
            ("https_proxy", "http://proxy.example:3128"),
            ("NO_PROXY", "localhost"),
        ])
        .unwrap();
        assert_eq!(settings.endpoint, "https://hub.example/base");
        assert_eq!(settings.token.unwrap().expose(), "hf_hush");
        let proxy = settings.proxy.unwrap();
        assert_eq!(proxy.address, "http://proxy.example:3128");
        assert_eq!(proxy.except, "localhost");
    }

    #[test]
    fn a_hub_on_the_own_machine_needs_no_proxy() {
        let settings = settings(&[
            ("HF_ENDPOINT", "http://127.0.0.1:8081"),
            ("HTTPS_PROXY", "http://proxy.example:3128"),
        ])
        .unwrap();
        assert_eq!(settings.proxy, None);
    }

    #[test]
    fn a_variable_that_makes_no_sense_is_named_and_never_shown() {
        for (name, value) in [
            ("HF_TOKEN", "hush hush"),
            ("HF_TOKEN", "hüsh"),
            ("HF_ENDPOINT", "hush.example"),
            ("HF_ENDPOINT", "https://user:hush@hub.example"),
        ] {
            let error = settings(&[(name, value)]).unwrap_err();
            let told = format!("{error} {error:?}");
            assert!(told.contains(name), "{told}");
            assert!(!told.contains("hush") && !told.contains("hüsh"), "{told}");
        }
    }

    #[test]
    fn no_debug_output_has_the_token_or_the_proxys_password() {
        let settings = settings(&[
            ("HF_TOKEN", "hf_hush"),
            ("ALL_PROXY", "http://user:hush@proxy.example"),
        ])
        .unwrap();
        let told = format!("{settings:?}");
        assert!(!told.contains("hush"), "{told}");
    }
}
