//! The process's environment, read once into a value.

use std::collections::BTreeMap;
use std::env;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::path::{Path, PathBuf};

/// Variables, and where the process stands.
#[derive(Clone, Default)]
pub struct Environment {
    variables: BTreeMap<OsString, OsString>,
    executable: Option<PathBuf>,
    working_folder: Option<PathBuf>,
}

/// Variables hold passwords: Debug output tells how many there are.
impl fmt::Debug for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Environment")
            .field("variables", &self.variables.len())
            .field("executable", &self.executable)
            .field("working_folder", &self.working_folder)
            .finish()
    }
}

impl Environment {
    /// The real one.
    pub fn of_process() -> Self {
        Self {
            variables: env::vars_os().collect(),
            executable: env::current_exe().ok(),
            working_folder: env::current_dir().ok(),
        }
    }

    /// Only these variables, for tests.
    pub fn of(variables: impl IntoIterator<Item = (OsString, OsString)>) -> Self {
        Self {
            variables: variables.into_iter().collect(),
            ..Self::default()
        }
    }

    /// A variable that is set and not empty.
    pub fn path(&self, name: &str) -> Option<PathBuf> {
        self.variables
            .get(&OsString::from(name))
            .filter(|value| !value.is_empty())
            .map(PathBuf::from)
    }

    /// A variable that names a file or folder. No shell reads settings files and unit files, so a leading `~` is expanded here;
    /// a relative path starts from the working folder.
    pub fn place(&self, name: &str) -> Option<PathBuf> {
        let path = self.expanded(&self.path(name)?);
        Some(match &self.working_folder {
            Some(here) if path.is_relative() => here.join(path),
            _ => path,
        })
    }

    /// `~` and `~/x` below the user's own folder; any other path as it is.
    pub fn expanded(&self, path: &Path) -> PathBuf {
        match (path.strip_prefix("~"), self.path("HOME")) {
            // Joining nothing would add a slash.
            (Ok(rest), Some(home)) if rest.as_os_str().is_empty() => home,
            (Ok(rest), Some(home)) => home.join(rest),
            _ => path.to_owned(),
        }
    }

    /// The best instruction set that oneDNN, which computes inside of OpenVINO, is allowed to use; none where it may use all.
    pub fn onednn_max_cpu_isa(&self) -> Option<String> {
        ["ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA"]
            .into_iter()
            .find_map(|name| self.path(name))
            .map(|value| value.to_string_lossy().to_ascii_uppercase())
    }

    /// The running binary.
    pub fn executable(&self) -> Option<&Path> {
        self.executable.as_deref()
    }

    /// The folder that relative paths start from.
    pub fn working_folder(&self) -> Option<&Path> {
        self.working_folder.as_deref()
    }

    /// The names of all variables. One that is not UTF-8 is shown with a replacement character.
    pub(super) fn names(&self) -> impl Iterator<Item = String> {
        self.variables
            .keys()
            .map(|name| name.to_string_lossy().into_owned())
    }

    /// `PIXART__SECTION__KEY` variables as (variable, `section.key`, value).
    pub(super) fn settings(&self) -> impl Iterator<Item = (String, String, &OsStr)> {
        self.variables.iter().filter_map(|(name, value)| {
            // A name that is not UTF-8 is no key, and is refused as such.
            let name = name.to_string_lossy();
            let key = name
                .strip_prefix("PIXART__")?
                .to_lowercase()
                .replace("__", ".");
            Some((name.into_owned(), key, value.as_os_str()))
        })
    }
}
