//! What comes of a repository: the files of a checkpoint, whole, and no others.

use std::fs;
use std::sync::atomic::Ordering;

use pixart::model::WeightsFormat;
use pixart::pull::pull;
use serde_json::json;

use super::hub::{COMMIT, Hub, Trick};
use super::{LARGE, Scene, TAKEN, Watch, until};
use crate::support::convert_to;

#[test]
fn a_checkpoint_comes_whole_and_converts() {
    let scene = Scene::new();
    scene.hub.put("README.md", b"words");
    scene.hub.put("text_encoder/pytorch_model.bin", b"a pickle");
    scene.hub.put("pixart.ckpt", b"a pickle");
    scene
        .hub
        .put("text_encoder/model.fp16.safetensors", b"a variant");
    let watch = Watch::default();
    let pulled = pull(&scene.options(), &watch).unwrap();
    scene.assert_whole();
    assert_eq!(pulled.commit, COMMIT);
    assert_eq!(pulled.files, TAKEN.len());
    let bytes: usize = scene.files().values().map(Vec::len).sum();
    assert_eq!(pulled.bytes, bytes as u64);
    assert_eq!(watch.total.load(Ordering::SeqCst), pulled.bytes);
    assert_eq!(watch.came.load(Ordering::SeqCst), pulled.bytes);
    convert_to(
        &scene.output(),
        &scene.folder.path().join("model"),
        WeightsFormat::F16,
    );
}

#[test]
fn shards_come_with_their_index_and_a_lone_variant_takes_the_plain_name() {
    let scene = Scene::new();
    let large = scene.hub.file(LARGE);
    scene.hub.remove(LARGE);
    let shard = "text_encoder/model-00001-of-00001.safetensors";
    scene.hub.put(shard, &large);
    let index = json!({"weight_map": {"a": "model-00001-of-00001.safetensors"}}).to_string();
    scene.hub.put(
        "text_encoder/model.safetensors.index.json",
        index.as_bytes(),
    );
    let vae = scene.hub.file("vae/diffusion_pytorch_model.safetensors");
    scene.hub.remove("vae/diffusion_pytorch_model.safetensors");
    scene
        .hub
        .put("vae/diffusion_pytorch_model.fp16.safetensors", &vae);
    scene.pull().unwrap();
    let files = scene.files();
    assert_eq!(files[shard], large);
    assert!(files.contains_key("text_encoder/model.safetensors.index.json"));
    assert_eq!(files["vae/diffusion_pytorch_model.safetensors"], vae);
    assert_eq!(files.len(), TAKEN.len() + 1);
}

#[test]
fn a_second_run_asks_for_no_weights_again() {
    let scene = Scene::new();
    scene.pull().unwrap();
    scene.pull().unwrap();
    scene.assert_whole();
    assert_eq!(scene.hub.requests_for(LARGE).len(), 1);
}

#[test]
fn a_file_that_was_damaged_here_comes_again() {
    let scene = Scene::new();
    scene.pull().unwrap();
    let path = scene.output().join(LARGE);
    let mut bytes = fs::read(&path).unwrap();
    bytes[100] ^= 1;
    fs::write(&path, bytes).unwrap();
    scene.pull().unwrap();
    scene.assert_whole();
    assert_eq!(scene.hub.requests_for(LARGE).len(), 2);
}

#[test]
fn a_branch_that_has_moved_leaves_nothing_of_the_commit_before() {
    let scene = Scene::new();
    let large = scene.hub.file(LARGE);
    scene.hub.remove(LARGE);
    scene.hub.put("text_encoder/m.safetensors", &large);
    scene.hub.put(
        "text_encoder/model.safetensors.index.json",
        br#"{"weight_map": {"a": "m.safetensors"}}"#,
    );
    scene.pull().unwrap();
    // The new commit has a single file; an index that stayed would hide it from the conversion.
    scene.hub.remove("text_encoder/m.safetensors");
    scene
        .hub
        .remove("text_encoder/model.safetensors.index.json");
    scene.hub.put(LARGE, &large);
    let commit = COMMIT.replace('0', "f");
    scene.hub.move_to(&commit);
    assert_eq!(scene.pull().unwrap().commit, commit);
    scene.assert_whole();
}

#[test]
fn a_run_that_fails_at_a_new_commit_leaves_no_folder_that_looks_whole() {
    let scene = Scene::new();
    scene.pull().unwrap();
    let commit = COMMIT.replace('0', "f");
    scene.hub.move_to(&commit);
    let mut large = scene.hub.file(LARGE);
    large.reverse();
    scene.hub.put(LARGE, &large);
    let path = Hub::path(LARGE).replace(COMMIT, &commit);
    scene
        .hub
        .trick(&path, (0..4).map(|_| Trick::Status(500, Vec::new())));
    scene.refused(&[LARGE, "500"]);
    assert!(!scene.output().join("model_index.json").exists());
    scene.pull().unwrap();
    scene.assert_whole();
}

#[test]
fn two_runs_at_once_share_a_folder() {
    let scene = Scene::new();
    scene.hub.trick(&Hub::path(LARGE), [Trick::Gate]);
    let (first, second) = (Watch::default(), Watch::default());
    std::thread::scope(|scope| {
        let one = scope.spawn(|| pull(&scene.options(), &first).unwrap());
        // The first has the folder once it has asked for something.
        until(|| !scene.hub.requests_for(LARGE).is_empty());
        let two = scope.spawn(|| pull(&scene.options(), &second).unwrap());
        until(|| second.waited.load(Ordering::SeqCst));
        assert!(!two.is_finished());
        scene.hub.open_gate();
        assert_eq!(one.join().unwrap(), two.join().unwrap());
    });
    scene.assert_whole();
    assert_eq!(scene.hub.requests_for(LARGE).len(), 1);
}

#[test]
fn no_more_than_four_files_come_at_the_same_time() {
    let scene = Scene::new();
    for name in TAKEN {
        // Those that are read to choose by are read before.
        if name != "model_index.json" {
            scene.hub.trick(&Hub::path(name), [Trick::Gate]);
        }
    }
    std::thread::scope(|scope| {
        let run = scope.spawn(|| scene.pull().unwrap());
        let asked = || {
            TAKEN[1..]
                .iter()
                .filter(|name| !scene.hub.requests_for(name).is_empty())
                .count()
        };
        until(|| asked() >= 4);
        assert_eq!(asked(), 4);
        assert!(!run.is_finished());
        scene.hub.open_gate();
        run.join().unwrap();
    });
    scene.assert_whole();
}
