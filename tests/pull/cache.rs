//! The cache of the hub's own tools: what it has is taken from there, checked, and left as it is; with `HF_HUB_OFFLINE` it is all.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, symlink};
use std::path::PathBuf;
use std::sync::atomic::Ordering;

use pixart::model::{ModelDirectory, hex};
use pixart::pull::{PullError, pull};
use sha2::{Digest as _, Sha256};

use super::hub::{COMMIT, REPOSITORY};
use super::{LARGE, Scene, TAKEN, Watch};
use crate::support::outcome;

impl Scene {
    fn cache(&self) -> PathBuf {
        self.folder.path().join("hub")
    }

    fn cached(&self) -> PathBuf {
        self.cache().join("models--PixArt-alpha--tiny")
    }

    fn snapshot(&self, file: &str) -> PathBuf {
        self.cached().join("snapshots").join(COMMIT).join(file)
    }

    /// With everything of the hub in the cache, as 'hf download' leaves it.
    fn downloaded() -> Self {
        let mut scene = Self::new();
        let blobs = scene.cached().join("blobs");
        for folder in [&blobs, &scene.cached().join("refs")] {
            fs::create_dir_all(folder).unwrap();
        }
        fs::write(scene.cached().join("refs/main"), COMMIT).unwrap();
        for file in TAKEN {
            let bytes = scene.hub.file(file);
            let digest = hex(&Sha256::digest(&bytes));
            // Small files are called by git's digest, which has 40 characters.
            let is_small = bytes.starts_with(b"{");
            let called = &digest[..if is_small { 40 } else { 64 }];
            fs::write(blobs.join(called), bytes).unwrap();
            let link = scene.snapshot(file);
            fs::create_dir_all(link.parent().unwrap()).unwrap();
            let up = "../".repeat(2 + file.matches('/').count());
            symlink(format!("{up}blobs/{called}"), link).unwrap();
        }
        scene
            .variables
            .push(("HF_HUB_CACHE", scene.cache().to_str().unwrap().to_owned()));
        scene
    }

    fn offline(mut self) -> Self {
        self.variables.push(("HF_HUB_OFFLINE", "1".to_owned()));
        self
    }

    fn blob(&self, file: &str) -> PathBuf {
        self.snapshot(file).canonicalize().unwrap()
    }

    /// 'pixart' with the scene's variables, run beside the cache.
    fn pixart(&self, words: &[&str]) -> std::process::Command {
        let mut command = crate::support::pixart();
        command
            .current_dir(self.folder.path())
            .env("HF_ENDPOINT", &self.hub.address)
            .envs(self.variables.clone())
            .args(words);
        command
    }
}

#[test]
fn what_the_hubs_cache_has_is_not_fetched_and_weights_take_no_room_twice() {
    let scene = Scene::downloaded();
    let watch = Watch::default();
    let pulled = pull(&scene.options(), &watch).unwrap();
    scene.assert_whole();
    assert_eq!(watch.already.load(Ordering::SeqCst), pulled.bytes);
    assert_eq!(watch.came.load(Ordering::SeqCst), 0);
    // The listing, and what it is chosen by.
    let paths: Vec<String> = scene.hub.requests().into_iter().map(|it| it.path).collect();
    assert_eq!(paths.len(), 2, "{paths:?}");
    let inode = |path: PathBuf| fs::metadata(path).unwrap().ino();
    let weights = scene.output().join(LARGE);
    assert_eq!(inode(weights.clone()), inode(scene.blob(LARGE)));
    assert!(!weights.is_symlink());
    // A page that people edit is their own.
    let page = scene.output().join("vae/config.json");
    assert_ne!(inode(page), inode(scene.blob("vae/config.json")));
}

#[test]
fn a_file_of_another_commit_is_taken_by_its_digest() {
    let scene = Scene::downloaded();
    let commit = COMMIT.replace('0', "f");
    scene.hub.move_to(&commit);
    let watch = Watch::default();
    pull(&scene.options(), &watch).unwrap();
    scene.assert_whole();
    let came = watch.came.load(Ordering::SeqCst);
    assert!(
        (1..20_000).contains(&came),
        "{came} bytes, of configurations alone"
    );
}

#[test]
fn a_cached_file_that_is_damaged_is_fetched_and_left_as_it_is() {
    for change in [
        (|bytes: &mut Vec<u8>| bytes[100] ^= 1) as fn(&mut Vec<u8>),
        |bytes| bytes.truncate(500),
    ] {
        let scene = Scene::downloaded();
        let blob = scene.blob(LARGE);
        let mut bytes = fs::read(&blob).unwrap();
        change(&mut bytes);
        fs::write(&blob, &bytes).unwrap();
        scene.pull().unwrap();
        scene.assert_whole();
        assert_eq!(scene.hub.requests_for(LARGE).len(), 1);
        assert!(fs::read(&blob).unwrap() == bytes);
        let scene = scene.offline();
        fs::remove_dir_all(scene.output()).unwrap();
        scene.refused(&["HF_HUB_OFFLINE", "hf download", REPOSITORY]);
    }
}

#[test]
fn offline_the_cache_alone_is_read_and_the_hub_is_never_asked() {
    let scene = Scene::downloaded().offline();
    let pulled = scene.pull().unwrap();
    assert_eq!(pulled.commit, COMMIT);
    scene.assert_whole();
    let words = [
        "pull",
        REPOSITORY,
        "--convert",
        "--output",
        "model",
        "--quiet",
    ];
    outcome(&mut scene.pixart(&words)).done();
    let model = ModelDirectory::open(&scene.folder.path().join("model")).unwrap();
    assert_eq!(model.manifest().source, format!("{REPOSITORY}@{COMMIT}"));
    assert!(scene.hub.requests().is_empty());
}

#[test]
fn offline_what_is_missing_is_named_with_the_variable() {
    let scene = Scene::new().offline();
    scene.refused(&[
        "HF_HUB_OFFLINE is set",
        "has no PixArt-alpha/tiny@main",
        "hf download",
    ]);
    let mut scene = Scene::downloaded().offline();
    fs::remove_file(scene.snapshot("vae/config.json")).unwrap();
    scene.refused(&["HF_HUB_OFFLINE is set", "has no vae/config.json"]);
    fs::remove_file(scene.blob(LARGE)).unwrap();
    fs::write(scene.snapshot("vae/config.json"), "{}").unwrap();
    scene.refused(&[
        "HF_HUB_OFFLINE is set",
        LARGE,
        "a link to a file that is not there",
    ]);
    fs::remove_dir_all(scene.cache()).unwrap();
    let error = scene.pull().unwrap_err();
    assert!(matches!(error, PullError::Offline { .. }), "{error}");
    assert!(scene.hub.requests().is_empty());
    // What is not yes is no.
    scene.variables.pop();
    scene.variables.push(("HF_HUB_OFFLINE", "0".to_owned()));
    scene.pull().unwrap();
}

#[test]
fn a_conversion_finds_the_snapshot_by_its_name_its_address_and_its_folders() {
    let scene = Scene::downloaded();
    let page = format!("https://huggingface.co/{REPOSITORY}");
    let (cached, snapshot) = (scene.cached(), scene.snapshot(""));
    for source in [
        REPOSITORY,
        &page,
        cached.to_str().unwrap(),
        snapshot.to_str().unwrap().trim_end_matches('/'),
    ] {
        let home = scene.folder.path().join("home");
        let mut command = scene.pixart(&["convert", source, "--quiet"]);
        let done = outcome(command.env("PIXART_HOME", &home)).done();
        assert!(
            done.stdout.contains("--model PixArt-alpha/tiny"),
            "{}",
            done.stdout
        );
        let model = ModelDirectory::open(&home.join("models").join(REPOSITORY)).unwrap();
        assert_eq!(model.manifest().name, "tiny");
        assert_eq!(model.manifest().source, format!("{REPOSITORY}@{COMMIT}"));
        fs::remove_dir_all(home).unwrap();
    }
    assert!(scene.hub.requests().is_empty());
    fs::remove_file(scene.blob(LARGE)).unwrap();
    outcome(&mut scene.pixart(&["convert", REPOSITORY, "--output", "model"])).refused(
        3,
        &[
            LARGE,
            "a link to a file that is not there",
            "hf download PixArt-alpha/tiny",
        ],
    );
}
