//! The rules of the house, held by reading the source as text.
//!
//! The plan that they hold is in `src/lib.rs`. A rule is a function from text to complaints (`tidy/rules.rs`), so that it
//! can be shown to complain; here they meet the project as it is.

mod rules;
mod source;

use std::fs;
use std::path::Path;

use rules::{
    Complaint, LONG_FILES, imports_downward, is_short, numbers_decisions, opens_with_what_it_is,
    pinned, reads_no_environment, room, unwraps_nothing, words_stay_at_home,
};
use source::Source;

fn hold(complaints: Vec<Complaint>) {
    assert!(complaints.is_empty(), "\n{}\n", complaints.join("\n"));
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path))
        .unwrap_or_else(|error| panic!("{path} belongs to the project: {error}"))
}

/// Files below `folder` (from the root) that `wanted` takes, in order. Hidden folders and what is built or fetched are left out.
fn files(folder: &str, wanted: &dyn Fn(&str) -> bool) -> Vec<String> {
    let mut found = Vec::new();
    let Ok(entries) = fs::read_dir(root().join(folder)) else {
        return found;
    };
    for entry in entries.map(Result::unwrap) {
        let name = entry.file_name().into_string().expect("names are plain");
        let path = if folder.is_empty() {
            name.clone()
        } else {
            format!("{folder}/{name}")
        };
        if entry.file_type().unwrap().is_dir() {
            let is_made = name.starts_with('.')
                || ["target", "out", "corpus", "artifacts"].contains(&name.as_str());
            if !is_made {
                found.extend(files(&path, wanted));
            }
        } else if wanted(&name) {
            found.push(path);
        }
    }
    found.sort();
    found
}

fn sources(folder: &str) -> Vec<Source> {
    files(folder, &|name| {
        Path::new(name)
            .extension()
            .is_some_and(|extension| extension == "rs")
    })
    .into_iter()
    .map(|path| Source {
        text: read(&path),
        path,
    })
    .collect()
}

fn hold_in_src(rule: impl Fn(&Source) -> Vec<Complaint>) {
    let sources = sources("src");
    assert!(sources.len() > 10, "src/ was not found");
    hold(sources.iter().flat_map(rule).collect());
}

#[test]
fn every_file_opens_with_what_it_is() {
    for folder in ["src", "tests", "benches", "fuzz/fuzz_targets"] {
        hold(
            sources(folder)
                .iter()
                .flat_map(opens_with_what_it_is)
                .collect(),
        );
    }
}

#[test]
fn imports_go_downward_only() {
    hold_in_src(imports_downward);
}

#[test]
fn openvino_axum_tokio_anyhow_and_unsafe_stay_in_their_rooms() {
    hold_in_src(words_stay_at_home);
}

#[test]
fn only_config_reads_the_environment() {
    hold_in_src(reads_no_environment);
}

#[test]
fn no_file_has_more_than_five_hundred_lines() {
    hold_in_src(is_short);
    for (path, _, reason) in LONG_FILES {
        assert!(
            root().join(path).exists(),
            "{path} ({reason}) is gone: take it off LONG_FILES in tests/tidy/rules.rs"
        );
    }
}

#[test]
fn nothing_unwraps_outside_of_tests() {
    hold_in_src(unwraps_nothing);
}

#[test]
fn the_map_in_lib_rs_has_every_room() {
    let map = read("src/lib.rs");
    for source in sources("src") {
        if let Some(room) = room(&source.path) {
            let mark = format!("[`{room}`]");
            assert!(
                map.contains(&mark),
                "src/lib.rs: the map lacks {mark}, say what lives there"
            );
        }
    }
}

#[test]
fn there_is_one_package_beside_the_fuzz_targets() {
    let manifests = files("", &|name| name == "Cargo.toml");
    assert_eq!(
        manifests,
        ["Cargo.toml", "fuzz/Cargo.toml"],
        "one package, one library, one binary"
    );
    assert!(
        !read("Cargo.toml").contains("[workspace]"),
        "Cargo.toml: one package needs no workspace"
    );
}

#[test]
fn decisions_are_numbered_uniquely_and_listed() {
    let is_decision = |name: &str| name != "README.md";
    let names: Vec<String> = files("docs/adr", &is_decision)
        .into_iter()
        .map(|path| path.trim_start_matches("docs/adr/").to_owned())
        .collect();
    assert!(!names.is_empty());
    hold(numbers_decisions(&names, &read("docs/adr/README.md")));
}

#[test]
fn the_changelog_has_an_unreleased_section() {
    let changelog = read("CHANGELOG.md");
    assert!(
        changelog.lines().any(|line| line == "## [Unreleased]"),
        "CHANGELOG.md: keep a section '## [Unreleased]'"
    );
}

#[test]
fn the_readme_opens_with_the_two_commands() {
    let readme = read("README.md");
    for command in ["make run", "make test"] {
        assert!(
            readme.contains(command),
            "README.md: say what '{command}' does, near the top"
        );
    }
}

#[test]
fn every_setting_has_its_page() {
    let page = read("config/default.toml");
    let mut above = "";
    for (line, number) in page.lines().zip(1..) {
        let is_key = line.starts_with(|c: char| c.is_ascii_lowercase());
        assert!(
            !is_key || above.starts_with('#'),
            "config/default.toml:{number}: say above what it means, its unit and range"
        );
        above = line;
    }
}

#[test]
fn ci_runs_what_the_readme_says() {
    assert!(
        read(".ci/run").contains("make test"),
        ".ci/run: CI runs 'make test', as people do"
    );
}

#[test]
fn the_runtime_is_pinned_once_and_parity_uses_the_same() {
    let pin = read("openvino-runtime.txt");
    let version = pinned(&pin, "openvino").expect("openvino-runtime.txt pins openvino==VERSION");
    let hashes: Vec<&str> = pin
        .split_whitespace()
        .filter_map(|word| word.strip_prefix("--hash=sha256:"))
        .collect();
    assert_eq!(
        hashes.len(),
        2,
        "openvino-runtime.txt: one hash for each platform"
    );
    for hash in hashes {
        assert!(
            hash.len() == 64 && hash.bytes().all(|byte| byte.is_ascii_hexdigit()),
            "openvino-runtime.txt: {hash}"
        );
    }
    let parity = read("tests/golden/requirements.txt");
    assert_eq!(
        pinned(&parity, "openvino"),
        Some(version),
        "tests/golden/requirements.txt: pin what openvino-runtime.txt pins"
    );
    let script = read("scripts/fetch-openvino.sh");
    assert!(
        !script.contains(version),
        "scripts/fetch-openvino.sh: the version stands in openvino-runtime.txt alone"
    );
}
