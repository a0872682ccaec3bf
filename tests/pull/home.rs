//! Where a pull goes that names no folder, what is typed to get it, and the token that it asks with.

use std::fs;
use std::process::Command;

use pixart::model::ModelDirectory;

use super::hub::{COMMIT, REPOSITORY};
use super::{Scene, TAKEN};
use crate::support::{names_in, outcome, pixart};

impl Scene {
    fn at_home(&self, words: &[&str]) -> Command {
        let mut command = pixart();
        command
            .current_dir(self.folder.path())
            .env("HF_ENDPOINT", &self.hub.address)
            .env("PIXART_HOME", "home")
            .args(words);
        command
    }
}

#[test]
fn a_pull_without_output_goes_home_and_its_name_is_enough_from_there_on() {
    let scene = Scene::new();
    let home = scene.folder.path().join("home");
    let done = outcome(&mut scene.at_home(&["pull", REPOSITORY])).done();
    let convert = format!("pixart convert {REPOSITORY}\n");
    assert!(done.stdout.ends_with(&convert), "{}", done.stdout);
    assert!(
        home.join("checkpoints")
            .join(REPOSITORY)
            .join(TAKEN[0])
            .exists()
    );
    let draw = [
        "generate", "a cat", "--model", "tiny", "--size", "32x32", "--quiet",
    ];
    outcome(&mut scene.at_home(&draw)).refused(3, &["not converted", convert.trim()]);
    outcome(&mut scene.at_home(&["convert", REPOSITORY, "--quiet"])).done();
    let model = ModelDirectory::open(&home.join("models").join(REPOSITORY)).unwrap();
    assert_eq!(model.manifest().name, "tiny");
    outcome(&mut scene.at_home(&draw)).done();
}

#[test]
fn a_pull_that_converts_without_output_goes_home_to_the_models() {
    let scene = Scene::new();
    let done = outcome(&mut scene.at_home(&["pull", REPOSITORY, "--convert", "--quiet"])).done();
    assert!(
        done.stdout.contains("--model PixArt-alpha/tiny"),
        "{}",
        done.stdout
    );
    let home = scene.folder.path().join("home");
    assert_eq!(names_in(&home), ["models"]);
    assert_eq!(names_in(&home.join("models/PixArt-alpha")), ["tiny"]);
}

#[test]
fn without_a_home_a_pull_wants_an_output_before_the_hub_is_asked() {
    let scene = Scene::new();
    for words in [
        &["pull", REPOSITORY][..],
        &["pull", REPOSITORY, "--convert"],
    ] {
        outcome(scene.at_home(words).env("PIXART_HOME", ""))
            .refused(2, &["PIXART_HOME", "--output"]);
    }
    assert!(scene.hub.requests().is_empty());
}

#[test]
fn an_address_of_the_hub_that_is_asked_is_its_repository() {
    let scene = Scene::new();
    let page = format!("{}/{REPOSITORY}/tree/{COMMIT}/vae?x=y#z", scene.hub.address);
    // The hub of the tests lists its main revision alone.
    outcome(&mut scene.at_home(&["pull", &page])).refused(3, &[&format!("{REPOSITORY}@{COMMIT}")]);
    let page = format!(
        "{}/{REPOSITORY}/blob/main/vae/config.json",
        scene.hub.address
    );
    outcome(&mut scene.at_home(&["pull", &page])).done();
    assert!(
        scene
            .folder
            .path()
            .join("home/checkpoints")
            .join(REPOSITORY)
            .exists()
    );
    for (address, part) in [
        ("https://huggingface.co/datasets/a/b", "is a dataset"),
        ("https://huggingface.co/spaces/a/b", "is a space"),
        (
            "https://elsewhere.example/a/b",
            "elsewhere.example is not the hub",
        ),
    ] {
        outcome(&mut scene.at_home(&["pull", address])).refused(2, &[part]);
    }
}

#[test]
fn the_token_of_hf_auth_login_is_sent_unless_another_is_set_or_none_is_to_be() {
    let scene = Scene::new();
    let folder = scene.folder.path().join("hf");
    fs::create_dir(&folder).unwrap();
    fs::write(folder.join("token"), "hf_stored\n").unwrap();
    for (variables, token) in [
        (&[][..], Some("Bearer hf_stored")),
        (&[("HF_TOKEN", "hf_set")], Some("Bearer hf_set")),
        (&[("HF_HUB_DISABLE_IMPLICIT_TOKEN", "1")], None),
        (&[("HF_TOKEN_PATH", "nowhere")], None),
    ] {
        let mut command = scene.at_home(&["pull", REPOSITORY]);
        command
            .env("HF_HOME", &folder)
            .envs(variables.iter().copied());
        let done = outcome(&mut command).done();
        assert!(!format!("{}{}", done.stdout, done.stderr).contains("hf_"));
        assert_eq!(scene.hub.requests().last().unwrap().token(), token);
    }
}
