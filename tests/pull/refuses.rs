//! What is refused, each with one message that says what to do; and where the token goes.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::time::Duration;

use pixart::pull::{PullError, pull};
use serde_json::json;

use super::hub::{Hub, REPOSITORY, Trick};
use super::{LARGE, Scene, Watch};

#[test]
fn the_token_goes_to_the_hub_and_never_to_another_host() {
    let mut scene = Scene::new();
    scene.token = "hf_hush";
    let storage = Hub::of(scene.folder.path());
    storage.put(LARGE, &scene.hub.file(LARGE));
    // Another port is another host.
    let there = format!("{}/storage/{LARGE}?signature=s", storage.address);
    // On the hub itself it goes with a redirect.
    scene
        .hub
        .trick(&Hub::path(LARGE), [Trick::Redirect("/moved".to_owned())]);
    scene.hub.trick("/moved", [Trick::Redirect(there)]);
    scene.pull().unwrap();
    scene.assert_whole();
    for request in scene.hub.requests() {
        assert_eq!(request.token(), Some("Bearer hf_hush"), "{request:?}");
    }
    let elsewhere = storage.requests();
    assert_eq!(elsewhere.len(), 1);
    assert_eq!(elsewhere[0].token(), None);
    assert!(!format!("{elsewhere:?}").contains("hush"));
}

#[test]
fn no_debug_output_and_no_message_has_the_token_or_a_signature() {
    let mut scene = Scene::new();
    scene.token = "hf_hush";
    assert!(!format!("{:?}", scene.options()).contains("hush"));
    let storage = Hub::of(scene.folder.path());
    scene.hub.trick(
        &Hub::path(LARGE),
        (0..4).map(|_| Trick::Redirect(format!("{}/gone?signature=hush", storage.address))),
    );
    let error = scene.pull().unwrap_err();
    let told = format!("{error} {error:?}");
    assert!(told.contains("404") && !told.contains("hush"), "{told}");
}

#[test]
fn redirects_that_lead_round_in_circles_or_nowhere_are_told() {
    for (location, part) in [
        ("/round", "redirects"),
        ("ftp://a.example/", "no address"),
        ("file:///etc/passwd", "no address"),
        ("http://", "no address"),
    ] {
        let scene = Scene::new();
        scene
            .hub
            .trick(&Hub::listing_path(), [Trick::Redirect(location.to_owned())]);
        scene.hub.trick(
            "/round",
            (0..20).map(|_| Trick::Redirect("/round".to_owned())),
        );
        scene.refused(&[part, "HF_ENDPOINT"]);
    }
}

#[test]
fn what_the_hub_does_not_open_is_told_with_what_to_do() {
    for (token, status, code, parts) in [
        ("", 401, "RepoNotFound", ["HF_TOKEN", "check the name"]),
        ("hf_hush", 401, "", ["HF_TOKEN", "expired"]),
        (
            "hf_hush",
            403,
            "GatedRepo",
            ["accept its conditions", REPOSITORY],
        ),
        ("", 404, "RepoNotFound", ["check the name", "@main"]),
        ("", 404, "RevisionNotFound", ["check the name", "@main"]),
        ("", 404, "", ["check the name", "@main"]),
        ("", 418, "", ["418", "HF_ENDPOINT"]),
    ] {
        let mut scene = Scene::new();
        scene.token = token;
        let headers = vec![("x-error-code", code.to_owned())];
        scene
            .hub
            .trick(&Hub::listing_path(), [Trick::Status(status, headers)]);
        scene.refused(&parts);
        assert_eq!(
            scene.hub.requests().len(),
            1,
            "{status} is not asked for again"
        );
    }
}

#[test]
fn a_gated_file_of_an_open_listing_is_told() {
    let scene = Scene::new();
    let headers = vec![("x-error-code", "GatedRepo".to_owned())];
    scene.hub.trick(
        &Hub::path("model_index.json"),
        [Trick::Status(403, headers)],
    );
    scene.refused(&["accept its conditions", &scene.hub.address]);
}

#[test]
fn a_hub_that_stays_broken_is_given_up_and_what_came_is_kept() {
    let scene = Scene::new();
    scene.hub.trick(
        &Hub::path(LARGE),
        [Trick::Cut(50_000)]
            .into_iter()
            .chain((0..3).map(|_| Trick::Status(500, Vec::new()))),
    );
    scene.refused(&[LARGE, "500", "4 times", "same command"]);
    assert_eq!(scene.partial(LARGE).unwrap().1, 50_000);
    assert_eq!(scene.hub.requests_for(LARGE).len(), 4);
}

#[test]
fn a_hub_that_wants_to_be_left_alone_for_an_hour_is_not_waited_for() {
    let scene = Scene::new();
    let headers = vec![("retry-after", "3600".to_owned())];
    scene
        .hub
        .trick(&Hub::listing_path(), [Trick::Status(429, headers)]);
    scene.refused(&["3600 s", "HF_TOKEN"]);
}

#[test]
fn a_hub_that_is_not_there_is_told_by_name() {
    let mut scene = Scene::new();
    scene.hub.address = "http://127.0.0.1:1".to_owned();
    scene.patience.connect = Duration::from_secs(5);
    scene.refused(&["127.0.0.1:1", "refused", "same command"]);
}

#[test]
fn a_name_that_does_not_resolve_is_given_up_after_a_second_try() {
    let mut scene = Scene::new();
    // No name below .invalid ever resolves: RFC 6761.
    scene.hub.address = "http://hub.invalid".to_owned();
    let watch = Watch::default();
    let error = pull(&scene.options(), &watch).unwrap_err();
    assert!(matches!(error, PullError::NoHost { .. }), "{error}");
    let told = error.to_string();
    assert!(
        told.contains("hub.invalid") && told.contains("HF_ENDPOINT"),
        "{told}"
    );
    assert_eq!(watch.waits.lock().unwrap().len(), 1);
}

#[test]
fn what_is_no_hub_is_told() {
    let scene = Scene::new();
    scene
        .hub
        .trick(&Hub::listing_path(), [Trick::Body(b"<html>".to_vec())]);
    scene.refused(&["does not answer as a hub", "HF_ENDPOINT"]);
}

#[test]
fn a_hub_that_lies_about_a_length_is_not_believed() {
    for trick in [Trick::Shorter, Trick::Longer] {
        let scene = Scene::new();
        scene.hub.trick(&Hub::path(LARGE), [trick]);
        scene.refused(&[LARGE, "91880"]);
        assert!(!scene.output().join(LARGE).exists());
    }
}

#[test]
fn a_hub_that_lies_about_a_digest_is_not_believed() {
    let scene = Scene::new();
    scene.hub.trick(&Hub::path(LARGE), [Trick::Corrupt]);
    scene.refused(&[LARGE, "SHA-256"]);
    assert!(!scene.output().join(LARGE).exists());
    assert!(!scene.output().join("model_index.json").exists());
    // Nothing of it is gone on with.
    scene.pull().unwrap();
    scene.assert_whole();
}

#[test]
fn a_file_name_that_leads_elsewhere_refuses_the_whole_repository() {
    for name in [
        "../outside.json",
        "tokenizer/../../outside.json",
        "/tmp/outside.json",
    ] {
        let scene = Scene::new();
        scene.hub.list(|listing| {
            let files = listing["siblings"].as_array_mut().unwrap();
            files.push(json!({"rfilename": name, "size": 2}));
        });
        scene.refused(&[name, "nothing"]);
        assert!(scene.files().is_empty());
    }
}

#[test]
fn a_shard_that_leads_elsewhere_is_refused() {
    let scene = Scene::new();
    scene.hub.put(
        "text_encoder/model.safetensors.index.json",
        br#"{"weight_map": {"a": "../../outside.safetensors"}}"#,
    );
    scene.refused(&["../../outside.safetensors", "no plain name"]);
}

#[test]
fn a_repository_without_safetensors_is_refused() {
    let scene = Scene::new();
    scene.hub.remove(LARGE);
    scene.hub.put("text_encoder/pytorch_model.bin", b"a pickle");
    scene.refused(&[
        "no safetensors",
        "text_encoder/pytorch_model.bin",
        "run code",
    ]);
    assert!(scene.files().is_empty());
}

#[test]
fn a_checkpoint_of_another_family_is_refused_before_any_weights() {
    for class in ["StableDiffusionXLPipeline", "FluxPipeline"] {
        let scene = Scene::new();
        let index = json!({"_class_name": class}).to_string();
        scene.hub.put("model_index.json", index.as_bytes());
        scene.refused(&["no PixArt checkpoint", class, "PixArtAlphaPipeline"]);
        assert!(scene.hub.requests_for(LARGE).is_empty());
    }
}

#[test]
fn a_repository_that_is_no_diffusers_directory_is_refused_by_what_it_lacks() {
    for file in [
        "model_index.json",
        "tokenizer/spiece.model",
        "vae/config.json",
        LARGE,
    ] {
        let scene = Scene::new();
        scene.hub.remove(file);
        scene.refused(&[file, "not a whole diffusers directory"]);
    }
}

#[test]
fn a_full_disk_is_told_and_what_has_come_is_kept() {
    let scene = Scene::new();
    scene.hub.trick(
        &Hub::path(LARGE),
        [Trick::Cut(50_000)]
            .into_iter()
            .chain((0..3).map(|_| Trick::Status(500, Vec::new()))),
    );
    scene.refused(&[LARGE]);
    let (partial, _) = scene.partial(LARGE).unwrap();
    fs::remove_file(&partial).unwrap();
    // Takes no byte more.
    symlink("/dev/full", &partial).unwrap();
    let error = scene.pull().unwrap_err();
    assert!(matches!(error, PullError::DiskFull { .. }), "{error}");
    let told = error.to_string();
    assert!(
        told.contains("full") && told.contains("same command"),
        "{told}"
    );
    fs::remove_file(&partial).unwrap();
    scene.pull().unwrap();
    scene.assert_whole();
}

#[test]
fn a_place_that_cannot_be_written_is_told_before_the_hub_is_asked() {
    let scene = Scene::new();
    fs::write(scene.folder.path().join("file"), "").unwrap();
    for output in [
        scene.folder.path().join("file/checkpoint"),
        PathBuf::from("/proc/checkpoint"),
    ] {
        let mut options = scene.options();
        options.output = output;
        let error = pull(&options, &Watch::default()).unwrap_err();
        assert!(matches!(error, PullError::Write { .. }), "{error}");
        assert!(error.to_string().contains("can write to"), "{error}");
    }
    assert!(scene.hub.requests().is_empty());
}

#[test]
fn a_folder_with_other_things_in_it_is_left_alone() {
    let scene = Scene::new();
    fs::create_dir(scene.output()).unwrap();
    fs::write(scene.output().join("model_index.json"), "mine").unwrap();
    scene.refused(&["not empty", "new folder"]);
    assert_eq!(scene.files().len(), 1);
}

#[test]
fn a_folder_of_another_repository_is_left_alone() {
    let scene = Scene::new();
    scene.pull().unwrap();
    let mut options = scene.options();
    options.repository = "someone/else".parse().unwrap();
    let error = pull(&options, &Watch::default()).unwrap_err().to_string();
    assert!(
        error.contains(REPOSITORY) && error.contains("another folder"),
        "{error}"
    );
    scene.assert_whole();
}
