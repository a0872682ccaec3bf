//! A repository judged before anything large comes: what is said of it, what is refused, how little is fetched for that.

use std::fs;
use std::process::Command;

use safetensors::Dtype;
use serde_json::{Value, json};

use super::hub::{COMMIT, Hub, REPOSITORY, Trick};
use super::{LARGE, Scene, TAKEN};
use crate::support::{StoredTensor, names_in, outcome, pixart, project, rewrite_tensors};

const TRANSFORMER: &str = "transformer/diffusion_pytorch_model.safetensors";
const VAE: &str = "vae/diffusion_pytorch_model.safetensors";

impl Scene {
    /// `pixart pull` with these words, in the scene's folder.
    fn pixart_pull(&self, words: &[&str]) -> Command {
        let mut command = pixart();
        command
            .current_dir(self.folder.path())
            .env("HF_ENDPOINT", &self.hub.address)
            .args(["pull", REPOSITORY, "--output", "made"])
            .args(words);
        for (name, value) in &self.variables {
            command.env(name, value);
        }
        command
    }

    fn report(&self, words: &[&str]) -> Value {
        let words = [&["--check", "--json"], words].concat();
        let done = outcome(&mut self.pixart_pull(&words)).done();
        assert_eq!(done.stderr, "");
        serde_json::from_str(&done.stdout).unwrap()
    }

    /// Holds that every way to pull is refused with `code` and all of `parts`, before weights come and with nothing left.
    #[track_caller]
    fn refused_before_weights(&self, code: i32, parts: &[&str]) {
        for words in [&["--check"][..], &[], &["--convert"]] {
            outcome(&mut self.pixart_pull(words)).refused(code, parts);
            for file in [LARGE, TRANSFORMER, VAE] {
                assert_eq!(self.hub.requests_for(file).len(), 0, "{words:?}: {file}");
            }
            assert_eq!(names_in(self.folder.path()), [""; 0], "{words:?}");
        }
    }

    /// Changes the tensors of a file of the repository.
    fn rewrite(&self, file: &str, change: impl FnOnce(&mut Tensors)) {
        let path = self.folder.path().join("weights");
        fs::write(&path, self.hub.file(file)).unwrap();
        rewrite_tensors(&path, change);
        self.hub.put(file, &fs::read(&path).unwrap());
        fs::remove_file(&path).unwrap();
    }
}

type Tensors = std::collections::BTreeMap<String, StoredTensor>;

fn extra(shape: &[usize]) -> StoredTensor {
    StoredTensor {
        dtype: Dtype::F32,
        shape: shape.to_vec(),
        data: vec![0; 4 * shape.iter().product::<usize>()],
    }
}

#[test]
fn a_check_says_what_it_is_and_what_it_takes_and_fetches_no_weights() {
    let scene = Scene::new();
    let done = outcome(&mut scene.pixart_pull(&["--check"])).done();
    for part in [
        COMMIT,
        "PixArt-α, 3 layers of 24, micro-conditions",
        "T5 of 2 layers of 20, 120 tokens",
        "scheduler lcm",
        "11 files",
        "disk ",
        "memory ",
        "512x512 px, 4 steps: about ",
        "missing          nothing",
    ] {
        assert!(done.stdout.contains(part), "no '{part}' in {}", done.stdout);
    }
    assert_eq!(names_in(scene.folder.path()), [""; 0]);

    let report = scene.report(&[]);
    let bytes: usize = TAKEN.iter().map(|name| scene.hub.file(name).len()).sum();
    assert_eq!(report["fetch_bytes"], json!(bytes));
    assert_eq!(report["disk"]["peak_bytes"], json!(bytes));
    assert_eq!(report["problems"], json!([]));
    assert_eq!(report["image"]["steps"], json!(4));
    let converting = scene.report(&["--convert", "--weights", "int8"]);
    let kept = converting["disk"]["kept_bytes"].as_u64().unwrap();
    assert!(kept < bytes as u64 / 3, "{kept}");
    assert!(converting["disk"]["peak_bytes"].as_u64().unwrap() > kept);
    for file in [LARGE, TRANSFORMER, VAE] {
        assert_eq!(scene.hub.requests_for(file).len(), 0, "{file}");
    }
}

/// T5's first shard alone would take half an hour.
#[test]
fn a_repository_of_20_gb_is_judged_within_five_megabytes() {
    let scene = Scene::new();
    let mut transformer = scene.hub.file(TRANSFORMER);
    // The transformer's configuration with a table of 20 GB behind all that is used.
    let header_bytes = u64::from_le_bytes(transformer[..8].try_into().unwrap());
    let end = 8 + usize::try_from(header_bytes).unwrap();
    let mut header: Value = serde_json::from_slice(&transformer[8..end]).unwrap();
    let tensors = header.as_object().unwrap().values();
    let data = tensors
        .filter_map(|tensor| tensor["data_offsets"][1].as_u64())
        .max()
        .unwrap();
    let long = 20_000_000_000_u64;
    header["far.table"] =
        json!({"dtype": "F32", "shape": [5_000_000_000_u64], "data_offsets": [data, data + long]});
    let header = header.to_string().into_bytes();
    transformer = [&(header.len() as u64).to_le_bytes()[..], &header].concat();
    let total = transformer.len() as u64 + data + long;
    scene.hub.put_hollow(TRANSFORMER, &transformer, total);
    let report = scene.report(&[]);
    assert!(report["fetch_bytes"].as_u64().unwrap() > long);
    assert_eq!(report["unused_tensors"][0]["names"], json!(["far.table"]));
    assert!(scene.hub.sent() < 5_000_000, "{}", scene.hub.sent());

    // A hub that knows no ranges begins to send all of it.
    let before = scene.hub.sent();
    scene
        .hub
        .trick_looks(&Hub::path(TRANSFORMER), [Trick::IgnoreRange]);
    scene.report(&[]);
    let sent = scene.hub.sent() - before;
    assert!(sent < 20_000_000, "{sent}");
}

#[test]
fn a_header_longer_than_what_is_asked_for_first_is_asked_for_again() {
    let scene = Scene::new();
    scene.rewrite(TRANSFORMER, |tensors| {
        for number in 0..3_000 {
            tensors.insert(
                format!("a.rather.long.name.of.no.use.{number}"),
                extra(&[1]),
            );
        }
    });
    let report = scene.report(&[]);
    assert_eq!(report["unused_tensors"][0]["count"], json!(3_000));
    let looks = scene.hub.requests();
    let path = Hub::path(TRANSFORMER);
    let looks = looks.iter().filter(|request| request.path == path);
    assert_eq!(looks.count(), 2);
}

#[test]
fn what_cannot_be_converted_is_refused_before_its_weights_come() {
    let scene = Scene::new();
    scene.rewrite(TRANSFORMER, |tensors| {
        tensors
            .remove("transformer_blocks.1.attn2.to_v.bias")
            .unwrap();
    });
    let parts = [
        "transformer_blocks.1.attn2.to_v.bias",
        REPOSITORY,
        "Nothing was fetched",
    ];
    scene.refused_before_weights(3, &parts);

    let scene = Scene::new();
    scene.rewrite(LARGE, |tensors| {
        tensors
            .get_mut("encoder.final_layer_norm.weight")
            .unwrap()
            .shape = vec![4, 5];
    });
    scene.refused_before_weights(3, &["encoder.final_layer_norm.weight", "[4, 5]", "[20]"]);

    let scene = Scene::new();
    scene.rewrite(VAE, |tensors| {
        tensors.insert("decoder.x.lora_A.weight".to_owned(), extra(&[2]));
    });
    scene.refused_before_weights(3, &["vae", "LoRA"]);

    let scene = Scene::new();
    let config = scene.hub.file("vae/config.json");
    let config = String::from_utf8(config)
        .unwrap()
        .replace("AutoencoderKL", "AutoencoderDC");
    scene.hub.put("vae/config.json", config.as_bytes());
    scene.refused_before_weights(3, &["vae/config.json cannot be used", "AutoencoderDC"]);
}

#[test]
fn an_index_that_sends_tensors_elsewhere_is_refused_before_the_shards_come() {
    let source = crate::support::checkpoint("tests/golden/checkpoints/tiny-alpha-plain");
    let scene = Scene::with(source.path());
    let index = "transformer/diffusion_pytorch_model.safetensors.index.json";
    let mut page: Value = serde_json::from_slice(&scene.hub.file(index)).unwrap();
    let map = page["weight_map"].as_object_mut().unwrap();
    let first = map.values().next().unwrap().clone();
    let other = map
        .iter()
        .find(|(_, shard)| **shard != first)
        .unwrap()
        .0
        .clone();
    map.insert(other.clone(), first);
    scene.hub.put(index, page.to_string().as_bytes());
    scene.refused_before_weights(3, &[index, &other]);
}

/// Half of the family is published as a transformer alone.
#[test]
fn a_part_of_a_pipeline_is_refused_with_what_it_lacks() {
    let scene = Scene::new();
    let folders = ["text_encoder/", "tokenizer/", "vae/", "scheduler/"];
    for name in TAKEN
        .iter()
        .filter(|name| folders.iter().any(|folder| name.starts_with(folder)))
    {
        scene.hub.remove(name);
    }
    scene.refused_before_weights(
        3,
        &[
            "has transformer, and no tokenizer, text_encoder, vae, scheduler",
            "PixArt-alpha/PixArt-Sigma-XL-2-1024-MS",
        ],
    );
}

#[test]
fn a_header_that_lies_is_refused_with_one_message_and_nothing_left() {
    for (bytes, part) in [
        (&b"abc"[..], "shorter than 8 bytes"),
        (
            &[0xff; 64],
            "its header claims 18446744073709551615 bytes in a file of 64",
        ),
        (
            b"\x02\0\0\0\0\0\0\0{}and more than it says",
            "bytes long where its header says 10",
        ),
        (b"\x05\0\0\0\0\0\0\0<htm>", "header: "),
    ] {
        let scene = Scene::new();
        scene.hub.put(TRANSFORMER, bytes);
        scene.refused_before_weights(3, &[TRANSFORMER, part, "nothing was fetched"]);
    }
    // What is listed is not what is there.
    let scene = Scene::new();
    scene.hub.list(|listing| {
        for sibling in listing["siblings"].as_array_mut().unwrap() {
            if sibling["rfilename"] == TRANSFORMER {
                sibling["size"] = json!(7);
                sibling["lfs"]["size"] = json!(7);
            }
        }
    });
    scene.refused_before_weights(3, &[TRANSFORMER, "lists", "7 bytes"]);
}

#[test]
fn a_gated_repository_is_said_to_be_gated_whether_its_listing_is_or_its_files() {
    let scene = Scene::new();
    let gated = || Trick::Status(403, Vec::new());
    scene
        .hub
        .trick(&Hub::path("model_index.json"), [gated(), gated(), gated()]);
    scene.refused_before_weights(3, &["gated (403)", "HF_TOKEN"]);
    let scene = Scene::new();
    scene
        .hub
        .trick(&Hub::listing_path(), [gated(), gated(), gated()]);
    scene.refused_before_weights(3, &["gated (403)", "HF_TOKEN"]);
    let scene = Scene::new();
    scene
        .hub
        .trick_looks(&Hub::path(LARGE), [gated(), gated(), gated()]);
    scene.refused_before_weights(3, &["gated (403)", "HF_TOKEN"]);
}

#[test]
fn a_hub_that_ignores_ranges_or_lists_no_sizes_is_judged_all_the_same() {
    let scene = Scene::new();
    let plain = scene.report(&[]);
    for file in [LARGE, TRANSFORMER, VAE] {
        scene
            .hub
            .trick_looks(&Hub::path(file), [Trick::IgnoreRange]);
    }
    let ignored = scene.report(&[]);
    assert_eq!(ignored["fetch_bytes"], plain["fetch_bytes"]);
    // One range came that was not asked for: it is asked for again.
    scene
        .hub
        .trick_looks(&Hub::path(LARGE), [Trick::OtherRange]);
    let done = outcome(&mut scene.pixart_pull(&["--check", "--json"])).done();
    let other: Value = serde_json::from_str(&done.stdout).unwrap();
    assert_eq!(other["fetch_bytes"], plain["fetch_bytes"]);

    scene.hub.list(|listing| {
        for sibling in listing["siblings"].as_array_mut().unwrap() {
            let sibling = sibling.as_object_mut().unwrap();
            sibling.remove("size");
            sibling.remove("lfs");
        }
    });
    assert_eq!(scene.report(&[])["fetch_bytes"], plain["fetch_bytes"]);
    outcome(&mut scene.pixart_pull(&["--convert", "--quiet"])).done();
    assert_eq!(names_in(scene.folder.path()), ["made"]);
}

/// Without a digest in the listing, nothing else would notice.
#[test]
fn weights_with_another_header_than_was_judged_are_not_kept() {
    let scene = Scene::new();
    scene.hub.list(|listing| {
        for sibling in listing["siblings"].as_array_mut().unwrap() {
            sibling.as_object_mut().unwrap().remove("lfs");
        }
    });
    let name = b"shared.weight";
    let mut other = scene.hub.file(LARGE);
    let at = other
        .windows(name.len())
        .position(|window| window == name)
        .unwrap();
    other[at] = b'S';
    scene.hub.trick(&Hub::path(LARGE), [Trick::Body(other)]);
    outcome(&mut scene.pixart_pull(&["--quiet"])).refused(7, &[LARGE, "another header"]);
    assert!(!scene.folder.path().join("made").join(LARGE).exists());
    outcome(&mut scene.pixart_pull(&["--quiet"])).done();
}

#[test]
fn a_branch_that_moves_after_the_check_mixes_nothing() {
    let scene = Scene::new();
    outcome(&mut scene.pixart_pull(&["--quiet"])).done();
    let listings = scene.hub.requests();
    let listings = listings
        .iter()
        .filter(|request| request.path == Hub::listing_path());
    assert_eq!(listings.count(), 1, "what was judged is what comes");
}

#[test]
fn a_tiny_autoencoder_is_known_by_its_check() {
    let scene = Scene::with(&project("models/sketchbook/tiny_vae"));
    let done = outcome(&mut scene.pixart_pull(&["--check"])).done();
    assert!(
        done.stdout.contains("a tiny autoencoder"),
        "{}",
        done.stdout
    );
    assert!(done.stdout.contains("in 2 files"), "{}", done.stdout);
}

#[test]
fn no_runtime_is_needed_to_judge() {
    let scene = Scene::new();
    let mut command = scene.pixart_pull(&["--check"]);
    command.env("PIXART__OPENVINO__LIBRARY", "/nowhere");
    let done = outcome(&mut command).done();
    assert!(
        done.stdout.contains("how long it takes is not known"),
        "{}",
        done.stdout
    );
}

#[test]
fn json_is_of_a_check_alone() {
    let scene = Scene::new();
    outcome(&mut scene.pixart_pull(&["--json"])).refused(2, &["--check"]);
}
