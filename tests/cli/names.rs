//! Models by name: which folder a name is, what to type where there is none, and what `pixart list` shows.

use std::fs;
use std::path::Path;

use serde_json::json;

use super::{Desk, json};
use crate::support::{Outcome, checkpoint, copy_folder, outcome, set_json, small_model};

impl Desk {
    /// A subcommand with the home of models on this desk.
    fn at_home(&self, words: &[&str]) -> Outcome {
        outcome(
            self.pixart(words)
                .env("PIXART_HOME", self.path("home"))
                .env("HF_HUB_CACHE", self.path("hub")),
        )
    }

    /// A small model in the home.
    fn shelve(&self, name: &str) {
        copy_folder(small_model(), &self.path("home/models").join(name));
    }

    fn put_checkpoint(&self, folder: &str) {
        let source = checkpoint("tests/golden/checkpoints/tiny-alpha");
        copy_folder(source.path(), &self.path(folder));
    }

    /// The folder of the model that a name leads to.
    fn folder_of(&self, name: &str) -> String {
        let told = self.at_home(&["info", "--json", "--model", name]).done();
        let folder = &json(&told)["model"]["directory"];
        let folder = Path::new(folder.as_str().unwrap());
        let below = folder.strip_prefix(self.0.path()).unwrap_or(folder);
        below.to_str().unwrap().to_owned()
    }
}

#[test]
fn a_checkpoint_where_a_model_is_wanted_is_told_with_the_command_that_converts_it() {
    let desk = Desk::new();
    desk.put_checkpoint("my checkpoint");
    let converting = "pixart convert 'my checkpoint' --output 'my checkpoint-openvino'";
    for words in [
        &["generate", "a cat", "--model", "my checkpoint"][..],
        &["generate", "a cat", "--model", "my checkpoint/"],
        &[
            "serve",
            "--listen",
            "127.0.0.1:0",
            "--model",
            "my checkpoint",
        ],
        &["bench", "--model", "my checkpoint"],
        &["compare", "my checkpoint", "my checkpoint"],
        &["quantize", "my checkpoint", "--output", "model"],
    ] {
        let told = desk.at_home(words).refused(3, &["not converted"]);
        let converting = converting.replace(
            "convert 'my checkpoint'",
            if words.contains(&"my checkpoint/") {
                "convert 'my checkpoint/'"
            } else {
                "convert 'my checkpoint'"
            },
        );
        assert!(told.stderr.contains(&converting), "{}", told.stderr);
    }
    let told = desk.at_home(&["info", "--model", "my checkpoint"]);
    assert_eq!(told.code, Some(3));
    assert!(told.stderr.contains(converting), "{}", told.stderr);
    assert_eq!(desk.names(), ["my checkpoint"]);
}

#[test]
fn a_name_that_is_nowhere_is_told_with_the_command_that_pulls_it() {
    let desk = Desk::new();
    let draw = |model: &str| desk.at_home(&["generate", "a cat", "--model", model]);
    let pulling = "pixart pull owner/name --convert";
    draw("owner/name").refused(3, &[pulling, "home/models"]);
    draw("https://huggingface.co/owner/name/tree/main").refused(3, &[pulling]);
    draw("owner/name@v2").refused(3, &["pixart pull owner/name@v2 --convert"]);
    draw("name").refused(3, &["pixart pull OWNER/NAME --convert"]);
    draw("./name").refused(3, &["./name is not a directory"]);
    draw("https://huggingface.co/datasets/owner/name").refused(2, &["is a dataset"]);
    desk.shelve("someone/tiny");
    draw("name").refused(3, &["there are someone/tiny"]);
    // The same where settings say it, and without any home.
    outcome(
        desk.pixart(&["serve", "--listen", "127.0.0.1:0"])
            .env("PIXART__MODEL__DIRECTORY", "owner/name"),
    )
    .refused(3, &[pulling]);
}

#[test]
fn a_model_of_the_home_is_found_by_its_full_name_by_its_own_and_by_its_address() {
    let desk = Desk::new();
    desk.shelve("someone/tiny");
    desk.shelve("someone/tiny@refs%2Fpr%2F1");
    desk.shelve("lonely");
    for (name, folder) in [
        ("someone/tiny", "someone/tiny"),
        ("tiny", "someone/tiny"),
        ("Someone/TINY", "someone/tiny"),
        ("https://huggingface.co/someone/tiny", "someone/tiny"),
        ("lonely", "lonely"),
        ("tiny@refs/pr/1", "someone/tiny@refs%2Fpr%2F1"),
        (
            "https://hf.co/someone/tiny/tree/refs%2Fpr%2F1",
            "someone/tiny@refs%2Fpr%2F1",
        ),
    ] {
        assert_eq!(desk.folder_of(name), format!("home/models/{folder}"));
    }
    let told = outcome(
        desk.pixart(&["info", "--json"])
            .env("PIXART_HOME", "home")
            .env("PIXART__MODEL__DIRECTORY", "tiny"),
    )
    .done();
    let folder = json(&told)["model"]["directory"].to_string();
    assert!(folder.ends_with("home/models/someone/tiny\""), "{folder}");
}

#[test]
fn a_folder_that_is_here_comes_first_and_names_of_several_are_refused_with_them() {
    let desk = Desk::new();
    desk.shelve("someone/tiny");
    desk.shelve("another/tiny");
    let draw = |model: &str| desk.at_home(&["generate", "a cat", "--model", model]);
    draw("tiny").refused(2, &["another/tiny or someone/tiny"]);
    copy_folder(small_model(), &desk.path("tiny"));
    assert_eq!(desk.folder_of("tiny"), "tiny");
    // A checkpoint in its place is none the less told, and the model beside it, too.
    desk.put_checkpoint("someone/tiny");
    draw("someone/tiny").refused(
        3,
        &[
            "pixart convert someone/tiny",
            "comes first",
            "home/models/someone/tiny",
        ],
    );
}

#[test]
fn the_embedded_model_has_a_name_and_variants_have_theirs() {
    let desk = Desk::new();
    desk.shelve("someone/tiny");
    desk.shelve("someone/tiny/variants/small");
    let told = desk
        .at_home(&["info", "--json", "--model", "sketchbook"])
        .done();
    assert_eq!(json(&told)["model"]["manifest"]["name"], "sketchbook");
    let words = [
        "compare",
        "tiny",
        "tiny/variants/small",
        "--repeat",
        "0",
        "--prompt",
        "a cat",
        "--size",
        "64x64",
        "--json",
        "report.json",
        "--quiet",
    ];
    desk.at_home(&words).done();
    assert_eq!(
        desk.folder_of("tiny/variants/small"),
        "home/models/someone/tiny/variants/small"
    );
    let told = desk.at_home(&["quantize", "tiny", "--operations"]).done();
    assert!(told.stdout.contains("transformer\t"), "{}", told.stdout);
}

#[test]
fn a_conversion_without_output_goes_home_and_replaces_nothing_of_another_source() {
    let desk = Desk::new();
    desk.put_checkpoint("mine");
    desk.put_checkpoint("not a name");
    let done = desk.at_home(&["convert", "mine", "--quiet"]).done();
    assert!(
        done.stdout.contains("home/models/mine: "),
        "{}",
        done.stdout
    );
    desk.at_home(&["convert", "./mine"])
        .refused(5, &["home/models/mine", "--output"]);
    desk.at_home(&["convert", "not a name"])
        .refused(2, &["'not a name'", "--output"]);
    outcome(&mut desk.pixart(&["convert", "mine"])).refused(2, &["PIXART_HOME", "--output"]);
    desk.at_home(&["convert", "owner/name"])
        .refused(3, &["pixart pull owner/name --convert"]);
    let home = [("HOME", desk.path("user"))];
    outcome(desk.pixart(&["convert", "mine", "--quiet"]).envs(home)).done();
    assert!(
        desk.path("user/.local/share/pixart/models/mine/manifest.json")
            .exists()
    );
}

#[test]
fn a_list_of_nothing_says_how_to_get_something() {
    let desk = Desk::new();
    let told = desk.at_home(&["list"]).done();
    for part in [
        "sketchbook",
        "home/models yet",
        "pixart pull PixArt-alpha/",
        "--convert",
    ] {
        assert!(told.stdout.contains(part), "{}", told.stdout);
    }
    let told = outcome(&mut desk.pixart(&["list"])).done();
    assert!(told.stdout.contains("PIXART_HOME"), "{}", told.stdout);
    assert_eq!(desk.names(), [""; 0]);
}

#[test]
fn a_list_has_models_with_what_is_wrong_with_them_and_checkpoints_with_what_is_next() {
    let desk = Desk::new();
    desk.shelve("someone/tiny");
    desk.shelve("someone/tiny/variants/small");
    desk.shelve("someone/cut");
    fs::write(desk.path("home/models/someone/cut/transformer.bin"), "").unwrap();
    desk.shelve("someone/strange");
    let manifest = desk.path("home/models/someone/strange/manifest.json");
    set_json(&manifest, "/format", json!(99));
    fs::create_dir_all(desk.path("home/models/someone/empty")).unwrap();
    desk.put_checkpoint("home/checkpoints/someone/new");
    desk.put_checkpoint("home/checkpoints/someone/tiny");
    let told = desk.at_home(&["list", "--json"]).done();
    let inventory = json(&told);
    let models = inventory["models"].as_array().unwrap();
    let model = |name: &str| {
        let found = models.iter().find(|model| model["name"] == name);
        found.unwrap_or_else(|| panic!("no {name} in {inventory}"))
    };
    assert_eq!(models.len(), 5);
    let tiny = model("someone/tiny");
    assert_eq!(tiny["pipeline"], "alpha");
    assert_eq!(tiny["weights"], json!(["f32", "f32", "f32"]));
    assert_eq!(tiny["variants"][0]["name"], "small");
    assert_eq!(tiny["problem"], json!(null));
    assert!(tiny["bytes"].as_u64().unwrap() > 100_000);
    for (name, part) in [
        ("someone/cut", "transformer.bin has 0 bytes"),
        ("someone/strange", "format"),
        ("someone/empty", "manifest.json"),
    ] {
        let problem = model(name)["problem"].as_str().unwrap();
        assert!(problem.contains(part), "{problem}");
    }
    // What is converted is no checkpoint to convert.
    let checkpoints = inventory["checkpoints"].as_array().unwrap();
    assert_eq!(checkpoints.len(), 1);
    assert_eq!(checkpoints[0]["name"], "someone/new");
    let next = checkpoints[0]["next"].as_str().unwrap();
    assert!(next.starts_with("pixart convert "), "{next}");
    let told = desk.at_home(&["list"]).done().stdout;
    for part in [
        "someone/tiny",
        "small",
        "transformer.bin has 0 bytes",
        "NOT CONVERTED",
    ] {
        assert!(told.contains(part), "{told}");
    }
}
