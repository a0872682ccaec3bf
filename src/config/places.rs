//! Where things lie on a machine when nobody says: the OpenVINO runtime, the cache.

use std::path::PathBuf;

use super::{Environment, Settings};

/// Folder that `make runtime` fills, beside the project or in any folder above the binary.
const PROJECT_RUNTIME: &str = ".openvino/libs";
/// Folders above the binary that may be the project: `target/release/` is two down, a cross build three.
const FOLDERS_ABOVE: usize = 5;
/// Where distributions and installers put it.
const SYSTEM: [&str; 7] = [
    "/opt/intel/openvino/runtime/lib/intel64",
    "/opt/intel/openvino/runtime/lib/aarch64",
    "/usr/local/lib",
    "/usr/lib/x86_64-linux-gnu",
    "/usr/lib/aarch64-linux-gnu",
    "/usr/lib64",
    "/usr/lib",
];

/// Folders that may have the OpenVINO runtime, in the order of looking. One that was asked for is the only one.
pub fn openvino_folders(settings: &Settings, environment: &Environment) -> Vec<PathBuf> {
    if !settings.openvino.library.as_os_str().is_empty() {
        return vec![settings.openvino.library.clone()];
    }
    let mut folders = Vec::new();
    if let Some(beside) = environment.executable().and_then(|path| path.parent()) {
        folders.push(beside.to_owned());
        folders.push(beside.join("../lib"));
        folders.extend(
            beside
                .ancestors()
                .take(FOLDERS_ABOVE)
                .map(|above| above.join(PROJECT_RUNTIME)),
        );
    }
    folders.extend(
        environment
            .working_folder()
            .map(|here| here.join(PROJECT_RUNTIME)),
    );
    // Set by the installer's setupvars script.
    folders.extend(
        environment
            .path("INTEL_OPENVINO_DIR")
            .map(|installed| installed.join("runtime/lib/intel64")),
    );
    folders.extend(SYSTEM.map(PathBuf::from));
    let mut seen = std::collections::BTreeSet::new();
    folders.retain(|folder| seen.insert(folder.clone()));
    folders
}

/// Where the embedded model's IR is kept: the setting, `$XDG_CACHE_HOME/pixart`, `~/.cache/pixart`.
pub fn cache_folder(settings: &Settings, environment: &Environment) -> Option<PathBuf> {
    let setting = &settings.model.cache;
    if !setting.as_os_str().is_empty() {
        return Some(setting.clone());
    }
    environment
        .path("XDG_CACHE_HOME")
        .filter(|path| path.is_absolute())
        .or_else(|| environment.path("HOME").map(|home| home.join(".cache")))
        .map(|folder| folder.join("pixart"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_runtime_that_was_asked_for_is_the_only_one_looked_at() {
        let mut settings = Settings::default();
        settings.openvino.library = PathBuf::from("/elsewhere");
        let folders = openvino_folders(&settings, &Environment::of_process());
        assert_eq!(folders, [PathBuf::from("/elsewhere")]);
    }

    #[test]
    fn the_runtime_is_looked_for_beside_the_binary_then_in_the_project_then_in_the_system() {
        let folders = openvino_folders(&Settings::default(), &Environment::of_process());
        let place = |wanted: &str| {
            folders
                .iter()
                .position(|folder| folder.ends_with(wanted))
                .unwrap()
        };
        assert_eq!(
            folders[0],
            std::env::current_exe().unwrap().parent().unwrap()
        );
        assert!(place(PROJECT_RUNTIME) < place("usr/local/lib"));
    }

    #[test]
    fn the_cache_follows_setting_then_xdg_then_home() {
        let variables = [("HOME", "/home/a"), ("XDG_CACHE_HOME", "/tmp/c")];
        let environment = |count: usize| {
            Environment::of(
                variables[..count]
                    .iter()
                    .map(|&(name, value)| (name.into(), value.into())),
            )
        };
        let mut settings = Settings::default();
        assert_eq!(cache_folder(&settings, &environment(0)), None);
        assert_eq!(
            cache_folder(&settings, &environment(1)),
            Some("/home/a/.cache/pixart".into())
        );
        assert_eq!(
            cache_folder(&settings, &environment(2)),
            Some("/tmp/c/pixart".into())
        );
        settings.model.cache = "/mine".into();
        assert_eq!(
            cache_folder(&settings, &environment(2)),
            Some("/mine".into())
        );
    }
}
