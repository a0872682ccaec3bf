//! Tiny autoencoders: converted with a checkpoint, added to a model, refused where they do not fit.

use std::fs;
use std::path::PathBuf;

use pixart::convert::{TinyVaeOptions, add_tiny_vae, is_tiny_vae};
use pixart::model::ModelDirectory;
use serde_json::{Value, json};

use super::{Attempt, contents};
use crate::support::{Silent, names_in, project, runtime};

const TINY: [&str; 2] = ["tiny_vae_decoder.bin", "tiny_vae_decoder.xml"];

/// Sketchbook's, in a folder of its own, with other words in its configuration.
fn tiny(attempt: &Attempt, changes: &Value) -> PathBuf {
    let folder = attempt.outputs.path().join("taesd");
    fs::create_dir_all(&folder).unwrap();
    for name in ["config.json", "diffusion_pytorch_model.safetensors"] {
        let from = project("models/sketchbook/tiny_vae").join(name);
        fs::copy(from, folder.join(name)).unwrap();
    }
    let path = folder.join("config.json");
    let mut config: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    for (key, value) in changes.as_object().unwrap() {
        config[key] = value.clone();
    }
    fs::write(path, config.to_string()).unwrap();
    folder
}

/// Sketchbook without its own.
fn sketchbook() -> Attempt {
    let attempt = Attempt::on("models/sketchbook");
    fs::remove_dir_all(attempt.file("tiny_vae")).unwrap();
    attempt
}

fn add(attempt: &Attempt, source: PathBuf) -> Result<ModelDirectory, String> {
    let options = TinyVaeOptions {
        source,
        model: attempt.output(),
    };
    add_tiny_vae(&options, &mut runtime(), &Silent).map_err(|error| error.to_string())
}

#[test]
fn one_that_is_added_later_is_the_one_that_comes_with_a_checkpoint() {
    let whole = Attempt::on("models/sketchbook");
    let manifest = whole.converted();
    assert_eq!(manifest.tiny_vae_decoder.as_ref().unwrap().spec.width(), 16);

    let attempt = sketchbook();
    let without = attempt.converted();
    assert!(without.tiny_vae_decoder.is_none());
    fs::create_dir_all(attempt.output().join("variants/int8")).unwrap();
    fs::write(attempt.output().join("variants/int8/manifest.json"), "{}").unwrap();
    let source = tiny(&attempt, &json!({}));
    assert!(is_tiny_vae(&source) && !is_tiny_vae(attempt.source.path()));
    let with = add(&attempt, source).unwrap();
    let with = with.manifest();
    ModelDirectory::open(&attempt.output()).unwrap();
    // Another model, of which what was measured before still holds.
    assert_ne!(with.digest(), without.digest());
    assert_eq!(with.measured_digest(), without.measured_digest());
    for name in TINY {
        let of = |attempt: &Attempt| fs::read(attempt.output().join(name)).unwrap();
        assert_eq!(of(&attempt), of(&whole), "{name}");
    }
    // What else lay there still does.
    let there = attempt.output().join("variants/int8/manifest.json");
    assert_eq!(fs::read_to_string(there).unwrap(), "{}");
    assert_eq!(names_in(attempt.outputs.path()), ["model", "taesd"]);

    // Converted again without one, the model keeps what it was given.
    let kept = attempt.converted().tiny_vae_decoder.unwrap();
    assert_eq!(kept.spec, manifest.tiny_vae_decoder.unwrap().spec);
    ModelDirectory::open(&attempt.output()).unwrap();
    let names = names_in(&attempt.output());
    for kept in ["variants", TINY[0], TINY[1]] {
        assert!(names.contains(&kept.to_owned()), "{names:?}");
    }
}

#[test]
fn one_that_decodes_other_latents_is_refused_and_the_model_stays_as_it_is() {
    let attempt = sketchbook();
    attempt.converted();
    let before = contents(&attempt.output());
    for (changes, parts) in [
        (
            json!({"latent_channels": 16}),
            ["latent_channels", "4, as the model's own VAE has"],
        ),
        (
            json!({"decoder_block_out_channels": [16, 16, 16], "num_decoder_blocks": [3, 3, 1]}),
            ["decoder_block_out_channels", "8 pixels"],
        ),
        (json!({"act_fn": "silu"}), ["act_fn", "relu"]),
        (
            json!({"num_decoder_blocks": [3, 3, 3, 1]}),
            ["decoder.layers", "config.json"],
        ),
    ] {
        let told = add(&attempt, tiny(&attempt, &changes)).unwrap_err();
        for part in parts {
            assert!(told.contains(part), "no '{part}' in: {told}");
        }
        assert_eq!(told.lines().count(), 1, "{told}");
        assert_eq!(contents(&attempt.output()), before, "after: {told}");
    }
    let missing = add(&attempt, attempt.outputs.path().join("nowhere")).unwrap_err();
    assert!(missing.contains("config.json"), "{missing}");
}

#[test]
fn a_folder_without_a_model_gets_none() {
    let attempt = sketchbook();
    let told = add(&attempt, tiny(&attempt, &json!({}))).unwrap_err();
    assert!(told.contains("--model") || told.contains("model"), "{told}");
    assert_eq!(names_in(attempt.outputs.path()), ["taesd"]);
}
