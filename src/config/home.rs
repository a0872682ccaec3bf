//! The folder of the models on this machine, for commands that name no other: `PIXART_HOME`, or the user's data folder.
//!
//! Converted models lie in its `models/`, checkpoints as they were pulled in `checkpoints/`, each in the folder of its name:
//! `models/OWNER/NAME`.

use std::path::{Path, PathBuf};

use super::{Environment, SettingsError, utf8};

/// The folder with `models/` and `checkpoints/`. It may not be there yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelHome(PathBuf);

/// What lies in a place of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OwnPlace {
    /// Models, as 'pixart convert' makes them.
    Models,
    /// diffusers directories, as 'pixart pull' fetches them.
    Checkpoints,
}

impl ModelHome {
    /// `PIXART_HOME`, `$XDG_DATA_HOME/pixart`, `~/.local/share/pixart`; none where no variable says where that is.
    ///
    /// # Errors
    /// When it is not UTF-8: OpenVINO takes no other paths.
    pub fn of(environment: &Environment) -> Result<Option<Self>, SettingsError> {
        let own = environment.place("PIXART_HOME");
        let data = environment
            .path("XDG_DATA_HOME")
            // The standard has others ignored.
            .filter(|path| path.is_absolute())
            .or_else(|| Some(environment.path("HOME")?.join(".local/share")))
            .map(|folder| folder.join("pixart"));
        let Some(folder) = own.or(data) else {
            return Ok(None);
        };
        utf8(
            "the folder of the models (PIXART_HOME, XDG_DATA_HOME or HOME)",
            folder.as_os_str(),
        )?;
        Ok(Some(Self(folder)))
    }

    /// The folder itself.
    pub fn folder(&self) -> &Path {
        &self.0
    }

    /// One of its two halves.
    pub fn place(&self, place: OwnPlace) -> PathBuf {
        self.0.join(match place {
            OwnPlace::Models => "models",
            OwnPlace::Checkpoints => "checkpoints",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn home(variables: &[(&str, &str)]) -> Option<PathBuf> {
        let variables = variables
            .iter()
            .map(|&(name, value)| (name.into(), value.into()));
        let home = ModelHome::of(&Environment::of(variables)).unwrap();
        home.map(|home| home.folder().to_owned())
    }

    #[test]
    fn the_home_follows_its_variable_then_xdg_then_the_users_folder() {
        let all = [
            ("HOME", "/home/a"),
            ("XDG_DATA_HOME", "/data"),
            ("PIXART_HOME", "/mine"),
        ];
        assert_eq!(home(&all[..0]), None);
        assert_eq!(home(&all[..1]), Some("/home/a/.local/share/pixart".into()));
        assert_eq!(home(&all[..2]), Some("/data/pixart".into()));
        assert_eq!(home(&all), Some("/mine".into()));
    }

    #[test]
    fn an_empty_variable_is_none_and_a_tilde_is_the_users_folder() {
        let mut variables = [
            ("HOME", "/home/a"),
            ("PIXART_HOME", ""),
            ("XDG_DATA_HOME", ""),
        ];
        assert_eq!(home(&variables), Some("/home/a/.local/share/pixart".into()));
        variables[2].1 = "relative/is/ignored";
        assert_eq!(home(&variables), Some("/home/a/.local/share/pixart".into()));
        for (text, expected) in [("~", "/home/a"), ("~/models", "/home/a/models")] {
            variables[1].1 = text;
            assert_eq!(home(&variables), Some(expected.into()));
        }
    }

    #[cfg(unix)]
    #[test]
    fn a_home_that_is_no_utf8_is_refused_by_name() {
        use std::os::unix::ffi::OsStringExt as _;
        let value = std::ffi::OsString::from_vec(b"/a\xff".to_vec());
        let error = ModelHome::of(&Environment::of([("PIXART_HOME".into(), value)])).unwrap_err();
        assert!(error.to_string().contains("PIXART_HOME"), "{error}");
    }
}
