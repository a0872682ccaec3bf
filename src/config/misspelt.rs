//! Variables that look like settings and are none. `PIXART_QUEUE_CAPACITY`, with one underscore, would be ignored without a word.
//!
//! What spells a setting otherwise is refused. What has no meaning at all is only noted: it may belong to something else, as
//! compose's own variables do. What Kubernetes and Docker set for a service that is called pixart is neither.

use std::sync::LazyLock;

use regex::Regex;
use strsim::damerau_levenshtein;

use super::{Environment, Settings, SettingsError};

/// Variables beside the settings.
const OURS: [&str; 2] = ["PIXART_CONFIG", "PIXART_HOME"];
/// As many letters may be wrong, missing or exchanged in what was meant.
const MOST_MISTAKES: usize = 2;

/// What Kubernetes sets in every container for each service of the namespace, and Docker for links: `PIXART_SERVICE_HOST`,
/// `PIXART_PORT_8080_TCP_ADDR`; and `PIXART_WEB_PORT` for one that is called pixart-web.
static OF_SERVICES: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(
        r"^PIXART(_[A-Z0-9_]+)?_(SERVICE_HOST|SERVICE_PORT(_[A-Z0-9_]+)?|PORT(_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)?)$",
    )
    .expect("the pattern is constant, and a test uses it")
});

/// `queue.capacity`, and what is compared with it.
struct Known {
    setting: String,
    letters: String,
}

fn known() -> Vec<Known> {
    let described = Settings::default().described();
    let known = described.into_iter().map(|(setting, _)| Known {
        letters: letters(&setting),
        setting,
    });
    known.collect()
}

/// What a name says without how it is written.
fn letters(name: &str) -> String {
    name.to_ascii_lowercase().replace(['_', '.'], "")
}

/// `queue.capacity` as the environment spells it.
fn variable_of(setting: &str) -> String {
    format!("PIXART__{}", setting.to_uppercase().replace('.', "__"))
}

/// The part behind `PIXART_` of a name that begins so, however it is written.
fn behind_prefix(name: &str) -> Option<&str> {
    let (prefix, rest) = name.split_at_checked("PIXART_".len())?;
    prefix.eq_ignore_ascii_case("PIXART_").then_some(rest)
}

/// Refuses a variable that spells a setting otherwise than the environment does.
pub(super) fn refuse_misspelt(environment: &Environment) -> Result<(), SettingsError> {
    let known = known();
    for name in environment.names() {
        let Some(rest) = behind_prefix(&name).filter(|_| !is_known(&name)) else {
            continue;
        };
        let letters = letters(rest);
        let Some(meant) = known.iter().find(|known| known.letters == letters) else {
            continue;
        };
        let spelling = variable_of(&meant.setting);
        // Sections and keys may be in small letters; that has always been so.
        let is_right = name.starts_with("PIXART__") && name.eq_ignore_ascii_case(&spelling);
        if !is_right {
            return Err(SettingsError::Misspelt {
                variable: name,
                spelling,
            });
        }
    }
    Ok(())
}

/// A note on each variable whose name begins as ours do and that has no effect.
pub fn foreign_variables(environment: &Environment) -> Vec<String> {
    let known = known();
    let note = |name: String| {
        let rest = behind_prefix(&name)?;
        // Those of two underscores are settings, or are refused.
        if is_known(&name) || name.starts_with("PIXART__") {
            return None;
        }
        let guess = meant(&letters(rest), &known).map_or_else(String::new, |setting| {
            format!(": did you mean {}?", variable_of(setting))
        });
        Some(format!(
            "the variable {name} is none of pixart's and has no effect{guess}"
        ))
    };
    environment.names().filter_map(note).collect()
}

fn is_known(name: &str) -> bool {
    OURS.contains(&name) || OF_SERVICES.is_match(name)
}

/// The setting that `written` comes nearest to: by its key alone, or but for a slip.
fn meant<'a>(written: &str, known: &'a [Known]) -> Option<&'a str> {
    let by_key = known.iter().find(|known| {
        let key = known.setting.split_once('.').map(|(_, key)| letters(key));
        key.as_deref() == Some(written)
    });
    let nearest = || {
        known
            .iter()
            .map(|known| (damerau_levenshtein(&known.letters, written), known))
            .min_by_key(|(mistakes, _)| *mistakes)
            .filter(|(mistakes, _)| *mistakes <= MOST_MISTAKES)
            .map(|(_, known)| known)
    };
    by_key.or_else(nearest).map(|known| known.setting.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(names: &[&str]) -> Environment {
        Environment::of(
            names
                .iter()
                .map(|&name| (name.into(), "hush-a-secret".into())),
        )
    }

    #[test]
    fn a_setting_that_is_spelled_otherwise_is_refused_with_its_right_name() {
        for (variable, spelling) in [
            ("PIXART_QUEUE_CAPACITY", "PIXART__QUEUE__CAPACITY"),
            ("PIXART__QUEUE_CAPACITY", "PIXART__QUEUE__CAPACITY"),
            ("PIXART_QUEUE__CAPACITY", "PIXART__QUEUE__CAPACITY"),
            ("PIXART___QUEUE__CAPACITY", "PIXART__QUEUE__CAPACITY"),
            ("pixart__queue__capacity", "PIXART__QUEUE__CAPACITY"),
            ("PIXART_AUTH_KEYS", "PIXART__AUTH__KEYS"),
            (
                "PIXART__SERVER__GRACESECONDS",
                "PIXART__SERVER__GRACE_SECONDS",
            ),
        ] {
            let refused = Settings::resolve(None, &environment(&[variable]), &[]).unwrap_err();
            let told = refused.to_string();
            assert!(told.contains(&format!("{variable} ")), "{told}");
            assert!(told.contains(spelling), "{told}");
            assert!(!told.contains("hush"), "{told}");
        }
        let right = Environment::of([
            ("PIXART__QUEUE__CAPACITY".into(), "3".into()),
            ("PIXART__server__grace_seconds".into(), "4".into()),
            ("PIXART_CONFIG".into(), "".into()),
            ("PIXARTIST_QUEUE_CAPACITY".into(), "5".into()),
        ]);
        let settings = Settings::resolve(None, &right, &[]).unwrap();
        assert_eq!(settings.queue.capacity, 3);
        assert_eq!(settings.server.grace_seconds, 4);
        assert_eq!(foreign_variables(&right), [""; 0]);
    }

    #[test]
    fn a_variable_without_meaning_is_noted_with_what_may_be_meant() {
        for (variable, meant) in [
            ("PIXART_LISTEN", Some("PIXART__SERVER__LISTEN")),
            ("PIXART_KEYS_FILE", Some("PIXART__AUTH__KEYS_FILE")),
            ("PIXART_QUEUE_CAPACTY", Some("PIXART__QUEUE__CAPACITY")),
            ("PIXART_LOG_LEVLE", Some("PIXART__LOG__LEVEL")),
            ("PIXART_CPUS", None),
            ("PIXART_MODEL", None),
        ] {
            let environment = environment(&[variable, "HOME", "PATH"]);
            assert!(Settings::resolve(None, &environment, &[]).is_ok());
            let notes = foreign_variables(&environment);
            assert_eq!(notes.len(), 1, "{notes:?}");
            assert!(notes[0].contains(&format!(" {variable} ")), "{notes:?}");
            assert!(!notes[0].contains("hush"), "{notes:?}");
            assert_eq!(notes[0].contains("did you mean"), meant.is_some());
            assert!(notes[0].contains(meant.unwrap_or_default()), "{notes:?}");
        }
    }

    #[test]
    fn the_variables_of_a_service_that_is_called_pixart_stop_nothing() {
        let environment = environment(&[
            "PIXART_SERVICE_HOST",
            "PIXART_SERVICE_PORT",
            "PIXART_SERVICE_PORT_HTTP",
            "PIXART_PORT",
            "PIXART_PORT_8080_TCP",
            "PIXART_PORT_8080_TCP_PROTO",
            "PIXART_PORT_8080_TCP_PORT",
            "PIXART_PORT_8080_TCP_ADDR",
            "PIXART_SERVER_SERVICE_HOST",
            "PIXART_SERVER_PORT",
            "PIXART_METRICS_PORT_9090_UDP_ADDR",
        ]);
        assert!(Settings::resolve(None, &environment, &[]).is_ok());
        assert_eq!(foreign_variables(&environment), [""; 0]);
    }
}
