//! The rules themselves: from the text of one file to complaints, each with the file, the line and what to do.

use std::collections::BTreeMap;

use super::source::{Source, climbs, first_segments, lines_with};

/// The rooms and their layers. Imports go to a lower layer only; the exceptions are in [`may_import`].
const ROOMS: [(&str, u8); 21] = [
    ("domain", 0),
    ("files", 0),
    ("shown", 0),
    ("threads", 0),
    ("config", 1),
    ("model", 1),
    ("ir", 1),
    ("telemetry", 1),
    ("engine", 2),
    ("pipeline", 3),
    ("convert", 3),
    ("quantize", 4),
    ("pull", 2),
    ("synthesize", 2),
    ("bench", 4),
    ("compare", 5),
    ("jobs", 4),
    ("worker", 5),
    ("http", 5),
    ("app", 6),
    ("cli", 6),
];

/// Words that may stand in some rooms only, and where what they stand for belongs.
const AT_HOME: [(&str, &[&str], &str); 7] = [
    (
        "openvino_sys",
        &["engine"],
        "ask the runtime through engine/",
    ),
    (
        "unsafe",
        &["engine"],
        "keep what needs it in engine/, behind a safe function",
    ),
    ("axum", &["http"], "keep what knows HTTP in http/"),
    (
        "ureq",
        &["pull"],
        "what asks other hosts is pull/: have the caller hand over what came",
    ),
    (
        "anyhow",
        &["app", "cli"],
        "give the layer an error of its own with thiserror",
    ),
    (
        "tokio",
        &["jobs", "worker", "http", "app", "cli"],
        "the rooms below jobs/ block: hand the work to them",
    ),
    (
        "async",
        &["jobs", "worker", "http", "app", "cli"],
        "the rooms below jobs/ block: hand the work to them",
    ),
];

/// Longest file, tests left out.
const MOST_LINES: usize = 500;
/// Files that are longer, the lines that they may have, and why they still do. A file leaves this list when it is cut; none joins it.
pub const LONG_FILES: [(&str, usize, &str); 2] = [
    (
        "src/ir/graph.rs",
        720,
        "one short method for each operation of the IR, over one list of layers",
    ),
    (
        "src/pipeline/caption/html.rs",
        530,
        "two ideas, the tokens of broken HTML and the text between them: to be cut",
    ),
];

/// Something that breaks a rule.
pub type Complaint = String;

fn complaint(source: &Source, line: usize, what: &str) -> Complaint {
    format!("{}:{line}: {what}", source.path)
}

/// `src/engine/graph.rs` and `src/engine.rs` → `engine`; `src/lib.rs` and `src/main.rs` are in no room.
pub fn room(path: &str) -> Option<&str> {
    let inside = path.strip_prefix("src/")?;
    match inside.split_once('/') {
        Some((room, _)) => Some(room),
        None => inside
            .strip_suffix(".rs")
            .filter(|&name| name != "lib" && name != "main"),
    }
}

fn layer(room: &str) -> Option<u8> {
    ROOMS
        .iter()
        .find(|(name, _)| *name == room)
        .map(|&(_, layer)| layer)
}

/// Whether a file of room `from` may name room `to`.
fn may_import(from: &str, to: &str) -> bool {
    match (from, to) {
        // Subcommands are thin: they call the composition root, which knows none of them. What quantises takes the IR that
        // conversion writes, and publishes its own as conversion does.
        ("cli", "app") | ("quantize", "convert") => true,
        // A checkpoint's way and a picture's way meet in the model directory, nowhere else; what serves never converts.
        (_, "convert" | "pull" | "synthesize" | "quantize") if from != to => {
            matches!(from, "app" | "cli")
        }
        // What draws reports to who asks it to; that one counts.
        (_, "telemetry") if from != "telemetry" => layer(from) >= layer("jobs"),
        _ => from == to || layer(to).is_some_and(|to| layer(from) > Some(to)),
    }
}

pub fn opens_with_what_it_is(source: &Source) -> Vec<Complaint> {
    let first = source.text.lines().next().unwrap_or_default();
    let says = first
        .strip_prefix("//!")
        .is_some_and(|words| !words.trim().is_empty());
    if says {
        return Vec::new();
    }
    vec![complaint(
        source,
        1,
        "open the file with `//!` and a sentence that says what it is",
    )]
}

pub fn imports_downward(source: &Source) -> Vec<Complaint> {
    let Some(here) = room(&source.path) else {
        return Vec::new();
    };
    if layer(here).is_none() {
        let what = format!(
            "'{here}' is no room: give it a layer in ROOMS of tests/tidy/rules.rs and a line in src/lib.rs"
        );
        return vec![complaint(source, 1, &what)];
    }
    let code = source.code();
    let mut complaints: Vec<Complaint> = first_segments(&code, "crate")
        .into_iter()
        .filter(|(_, there)| !may_import(here, there))
        .map(|(line, there)| {
            let what = format!(
                "{here}/ (layer {}) must not know {there}/ (layer {}): move what both need down, or have the caller hand it over",
                layer(here).map_or_else(String::new, |layer| layer.to_string()),
                layer(&there).map_or_else(|| "none".to_owned(), |layer| layer.to_string()),
            );
            complaint(source, line, &what)
        })
        .collect();
    // `super` must not leave the room unseen. `src/a.rs` and `src/a/mod.rs` are one step below the root, `src/a/b.rs` two.
    let inside = source
        .path
        .trim_start_matches("src/")
        .trim_end_matches("mod.rs")
        .trim_end_matches('/');
    let depth = inside.split('/').count();
    complaints.extend(
        climbs(&source.shipped_code())
            .into_iter()
            .filter(|&(_, steps)| steps >= depth)
            .map(|(line, _)| {
                complaint(
                    source,
                    line,
                    "`super` leaves the room here: write `crate::`, which can be checked",
                )
            }),
    );
    complaints
}

pub fn words_stay_at_home(source: &Source) -> Vec<Complaint> {
    let code = source.shipped_code();
    let here = room(&source.path).unwrap_or_default();
    let mut complaints = Vec::new();
    for (word, rooms, instead) in AT_HOME {
        if !rooms.contains(&here) {
            let what = format!("`{word}` belongs to {}: {instead}", rooms.join(", "));
            complaints.extend(
                lines_with(&code, word)
                    .into_iter()
                    .map(|line| complaint(source, line, &what)),
            );
        }
    }
    // `openvino` is also a section of the settings; the crate is what stands before `::` or after `use`.
    if here != "engine" {
        let mut lines: Vec<usize> = first_segments(&code, "openvino")
            .into_iter()
            .map(|(line, _)| line)
            .collect();
        lines.extend(
            code.lines()
                .zip(1..)
                .filter(|(text, _)| text.trim() == "use openvino;")
                .map(|(_, line)| line),
        );
        let what = "`openvino` belongs to engine: ask the runtime through engine/";
        complaints.extend(lines.into_iter().map(|line| complaint(source, line, what)));
    }
    complaints
}

pub fn reads_no_environment(source: &Source) -> Vec<Complaint> {
    if room(&source.path) == Some("config") {
        return Vec::new();
    }
    let what =
        "only config/ reads the environment: take what you need from `Settings` or `Environment`";
    first_segments(&source.code(), "std")
        .into_iter()
        .filter(|(_, module)| module == "env")
        .map(|(line, _)| complaint(source, line, what))
        .collect()
}

pub fn is_short(source: &Source) -> Vec<Complaint> {
    let shipped = source.shipped_code();
    let lines = shipped.trim_end().lines().count();
    match LONG_FILES.iter().find(|(path, _, _)| *path == source.path) {
        Some(_) if lines <= MOST_LINES => {
            vec![complaint(
                source,
                1,
                "it is short now: take it off LONG_FILES in tests/tidy/rules.rs",
            )]
        }
        Some((_, most, _)) if lines <= *most => Vec::new(),
        None if lines <= MOST_LINES => Vec::new(),
        _ => {
            let what = format!(
                "{lines} lines without the tests: say which two ideas are in it, and give one a file of its own"
            );
            vec![complaint(source, MOST_LINES, &what)]
        }
    }
}

pub fn unwraps_nothing(source: &Source) -> Vec<Complaint> {
    let what = "no unwrap: return an error, or write expect(\"why it holds\")";
    lines_with(&source.shipped_code(), "unwrap")
        .into_iter()
        .map(|line| complaint(source, line, what))
        .collect()
}

/// Complaints about the names of decisions, `0001-what-was-decided.md`, and their list in `index`.
pub fn numbers_decisions(names: &[String], index: &str) -> Vec<Complaint> {
    let mut complaints = Vec::new();
    let mut taken: BTreeMap<&str, &str> = BTreeMap::new();
    for name in names {
        let number = name.split('-').next().unwrap_or_default();
        if number.len() != 4
            || !number.bytes().all(|byte| byte.is_ascii_digit())
            || !name.contains('-')
        {
            complaints.push(format!(
                "docs/adr/{name}: a decision is called 0001-what-was-decided.md"
            ));
        } else if let Some(other) = taken.insert(number, name) {
            complaints.push(format!(
                "docs/adr/{name}: {other} has the number {number} already, take the next free one"
            ));
        }
        if !index.contains(&format!("]({name})")) {
            complaints.push(format!("docs/adr/{name}: list it in docs/adr/README.md"));
        }
    }
    complaints
}

/// The version that a pip requirements file pins `package` to.
pub fn pinned<'a>(requirements: &'a str, package: &str) -> Option<&'a str> {
    requirements.lines().find_map(|line| {
        let version = line.strip_prefix(package)?.strip_prefix("==")?;
        version.split_whitespace().next()
    })
}

/// Whether `text` as the file `path` breaks `rule`.
fn breaks(rule: fn(&Source) -> Vec<Complaint>, path: &str, text: &str) -> bool {
    let complaints = rule(&Source::of(path, text));
    assert!(
        complaints
            .iter()
            .all(|complaint| complaint.starts_with(&format!("{path}:"))),
        "{complaints:?}"
    );
    !complaints.is_empty()
}

#[test]
fn a_file_without_a_heading_is_found() {
    assert!(breaks(
        opens_with_what_it_is,
        "src/a.rs",
        "use std::fs;\n//! Late."
    ));
    assert!(breaks(opens_with_what_it_is, "src/a.rs", ""));
    assert!(breaks(opens_with_what_it_is, "src/a.rs", "//!\n"));
    assert!(!breaks(
        opens_with_what_it_is,
        "src/a.rs",
        "//! What it is.\n"
    ));
}

#[test]
fn an_import_upward_or_sideways_is_found() {
    for (path, text) in [
        ("src/domain/a.rs", "use crate::config::Settings;"),
        ("src/model/a.rs", "use crate::config::Settings;"),
        (
            "src/engine/a.rs",
            "use crate::{config::Precision, pipeline::{Recipe, Png}};",
        ),
        (
            "src/engine/a.rs",
            "use crate::{\n    config::Precision,\n    pipeline,\n};",
        ),
        ("src/pipeline/a.rs", "fn a() -> crate::http::Answer {}"),
        ("src/pipeline/a.rs", "use crate::convert::Options;"),
        ("src/convert/a.rs", "use crate::pipeline::noise;"),
        ("src/http/a.rs", "use crate::convert::Options;"),
        ("src/convert/a.rs", "use crate::pull::Repository;"),
        ("src/pull/a.rs", "use crate::convert::WeightsSource;"),
        ("src/pull/a.rs", "use crate::engine::Runtime;"),
        ("src/jobs/a.rs", "use crate::worker::Worker;"),
        ("src/worker/a.rs", "use crate::http::Answer;"),
        ("src/http/a.rs", "use crate::worker::Worker;"),
        ("src/telemetry/a.rs", "use crate::config::LogSettings;"),
        ("src/pipeline/a.rs", "use crate::telemetry::Metrics;"),
        ("src/app.rs", "use crate::cli::Arguments;"),
        ("src/engine/a.rs", "use super::super::pipeline::Recipe;"),
        ("src/engine/mod.rs", "use super::pipeline::Recipe;"),
        (
            "src/engine/a/b.rs",
            "#[cfg(test)]\nmod tests { use crate::http::Answer; }",
        ),
        ("src/extras/a.rs", ""),
        ("src/domain/a.rs", "use crate::extras::A;"),
    ] {
        assert!(breaks(imports_downward, path, text), "{path}: {text}");
    }
    for (path, text) in [
        (
            "src/engine/a.rs",
            "use crate::config::Precision;\nuse crate::engine::b;\nuse super::b;",
        ),
        (
            "src/engine/a.rs",
            "//! Unlike `crate::pipeline`.\nconst A: &str = \"crate::http::B\";",
        ),
        ("src/engine/a/b.rs", "use super::super::c;"),
        (
            "src/engine/a.rs",
            "#[cfg(test)]\nmod tests { use super::super::b; }",
        ),
        (
            "src/convert/a.rs",
            "use crate::{domain, model, engine, config};",
        ),
        (
            "src/jobs/a.rs",
            "use crate::{config, domain, pipeline, telemetry};",
        ),
        ("src/worker/a.rs", "use crate::{jobs, telemetry};"),
        ("src/http/a.rs", "use crate::{jobs, telemetry};"),
        ("src/cli/a.rs", "use crate::app::App;\nuse crate::convert;"),
        ("src/lib.rs", "pub use crate::cli;"),
    ] {
        assert!(!breaks(imports_downward, path, text), "{path}: {text}");
    }
}

#[test]
fn a_word_away_from_home_is_found() {
    for (path, text) in [
        ("src/pipeline/a.rs", "use openvino::Core;"),
        ("src/pipeline/a.rs", "use openvino::{Core, Tensor};"),
        ("src/pipeline/a.rs", "use openvino;"),
        ("src/cli/a.rs", "openvino_sys::library::load()"),
        ("src/worker/a.rs", "use axum::Router;"),
        ("src/cli/a.rs", "use ureq::Agent;"),
        ("src/model/a.rs", "unsafe { a() }"),
        ("src/engine/a.rs", "async fn a() {}"),
        ("src/convert/a.rs", "use tokio::sync::mpsc;"),
        ("src/domain/a.rs", "use anyhow::Result;"),
    ] {
        assert!(breaks(words_stay_at_home, path, text), "{path}: {text}");
    }
    for (path, text) in [
        (
            "src/engine/a.rs",
            "use openvino::Core;\n#[expect(unsafe_code)]\nfn a() { unsafe { openvino_sys::a() } }",
        ),
        (
            "src/cli/a.rs",
            "let device = settings.openvino.device; // not openvino::Core",
        ),
        ("src/config/a.rs", "pub openvino: OpenvinoSettings,"),
        ("src/model/a.rs", "#![forbid(unsafe_code)]"),
        (
            "src/http/a.rs",
            "async fn a(axum::Json(b): axum::Json<B>) {}",
        ),
    ] {
        assert!(!breaks(words_stay_at_home, path, text), "{path}: {text}");
    }
}

#[test]
fn a_look_at_the_environment_is_found() {
    assert!(breaks(
        reads_no_environment,
        "src/engine/a.rs",
        "std::env::var(\"A\")"
    ));
    assert!(breaks(
        reads_no_environment,
        "src/engine/a.rs",
        "use std::{\n    env,\n    fs,\n};"
    ));
    assert!(!breaks(
        reads_no_environment,
        "src/config/a.rs",
        "use std::env;"
    ));
    assert!(!breaks(
        reads_no_environment,
        "src/engine/a.rs",
        "const A: &str = env!(\"CARGO_PKG_VERSION\");"
    ));
}

#[test]
fn a_long_file_is_found() {
    let long = "fn a() {}\n".repeat(MOST_LINES + 1);
    assert!(breaks(is_short, "src/engine/a.rs", &long));
    let with_tests = format!("fn a() {{}}\n#[cfg(test)]\nmod tests {{\n{long}}}\n");
    assert!(!breaks(is_short, "src/engine/a.rs", &with_tests));
    let (listed, most, _) = LONG_FILES[0];
    assert!(
        breaks(is_short, listed, "fn a() {}\n"),
        "a file that was cut leaves the list"
    );
    assert!(
        breaks(is_short, listed, &"fn a() {}\n".repeat(most + 1)),
        "a listed file does not grow"
    );
}

#[test]
fn an_unwrap_is_found() {
    assert!(breaks(unwraps_nothing, "src/engine/a.rs", "a.unwrap()"));
    assert!(!breaks(
        unwraps_nothing,
        "src/engine/a.rs",
        "a.unwrap_or(1)"
    ));
    assert!(!breaks(
        unwraps_nothing,
        "src/engine/a.rs",
        "#[cfg(test)]\nmod tests { fn a() { b.unwrap() } }"
    ));
}

#[test]
fn a_decision_with_a_taken_number_is_found() {
    let names =
        |list: &[&str]| -> Vec<String> { list.iter().map(|&name| name.to_owned()).collect() };
    let index = "[a](0001-a.md) [b](0001-b.md) [c](c.md)";
    assert_eq!(numbers_decisions(&names(&["0001-a.md"]), index).len(), 0);
    assert_eq!(
        numbers_decisions(&names(&["0001-a.md", "0001-b.md"]), index).len(),
        1
    );
    assert_eq!(numbers_decisions(&names(&["c.md"]), index).len(), 1);
    assert_eq!(numbers_decisions(&names(&["0002-d.md"]), index).len(), 1);
}

#[test]
fn a_pin_is_read() {
    assert_eq!(
        pinned("# openvino==1\nopenvino==2026.4.1 \\\n", "openvino"),
        Some("2026.4.1")
    );
    assert_eq!(
        pinned("openvino-genai==2026.4.1\nopenvino>=1", "openvino"),
        None
    );
}
