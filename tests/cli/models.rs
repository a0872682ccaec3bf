//! Models that are missing, damaged or hostile, and the cache of the embedded one.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use super::Desk;
use crate::support::{
    Outcome, change_json, checkpoint, convert_to, names_in, outcome, pixart, set_json,
};
use pixart::convert::REVISION;
use pixart::model::WeightsFormat;

/// A desk with a converted `model` on it.
fn desk_with_model() -> Desk {
    let desk = Desk::new();
    let source = checkpoint("tests/golden/checkpoints/tiny-alpha");
    convert_to(source.path(), &desk.path("model"), WeightsFormat::F16);
    desk
}

fn draw(desk: &Desk) -> Outcome {
    desk.draw(&[
        "a cat",
        "--model",
        "model",
        "--size",
        "32x32",
        "--no-resolution-binning",
        "--seed",
        "1",
    ])
}

fn damage(path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = fs::read(path).unwrap();
    change(&mut bytes);
    fs::write(path, bytes).unwrap();
}

#[test]
fn a_model_that_is_not_there_or_is_none_is_refused() {
    let desk = Desk::new();
    draw(&desk).refused(3, &["no folder 'model'", "pixart pull", "--convert"]);
    fs::create_dir(desk.path("model")).unwrap();
    draw(&desk).refused(3, &["manifest.json", "pixart convert"]);
    fs::remove_dir(desk.path("model")).unwrap();
    fs::write(desk.path("model"), "").unwrap();
    draw(&desk).refused(3, &["is not a directory"]);
    assert_eq!(desk.names(), ["model"]);
}

#[test]
fn every_file_of_a_model_is_held_against_its_checksum_before_it_is_read() {
    let desk = desk_with_model();
    draw(&desk).done();
    for name in [
        "transformer.bin",
        "text_encoder.xml",
        "vae_decoder.bin",
        "tokenizer/spiece.model",
        "scheduler/scheduler_config.json",
    ] {
        let path = desk.path("model").join(name);
        let whole = fs::read(&path).unwrap();
        damage(&path, |bytes| bytes.truncate(bytes.len() - 1));
        draw(&desk).refused(3, &[name, "instead of", "convert it again"]);
        fs::write(&path, &whole).unwrap();
        damage(&path, |bytes| bytes[whole.len() / 2] ^= 4);
        draw(&desk).refused(3, &[name, "SHA-256", "convert it again"]);
        fs::remove_file(&path).unwrap();
        draw(&desk).refused(3, &[name, "cannot read"]);
        fs::write(&path, &whole).unwrap();
    }
    draw(&desk).done();
}

#[test]
fn a_manifest_that_makes_no_sense_is_refused_by_key() {
    let desk = desk_with_model();
    let path = desk.path("model").join("manifest.json");
    let whole = fs::read(&path).unwrap();
    for text in ["", "{", "[]", "{\"format\": 1}"] {
        fs::write(&path, text).unwrap();
        draw(&desk).refused(3, &["manifest.json"]);
    }
    let cases: [(&str, Value, &[&str]); 10] = [
        ("/format", json!(99), &["format", "convert the model again"]),
        ("/pipeline", json!("gamma"), &["gamma"]),
        ("/transformer/weights", json!("int2"), &["int2"]),
        ("/transformer/spec/patch_size", json!(0), &["patch_size"]),
        (
            "/transformer/spec/sample_size",
            json!(u32::MAX),
            &["sample_size"],
        ),
        (
            "/transformer/spec/num_attention_heads",
            json!(1_u64 << 62),
            &["num_attention_heads"],
        ),
        (
            "/vae_decoder/spec/block_out_channels",
            json!([]),
            &["block_out_channels"],
        ),
        (
            "/vae_decoder/spec/scaling_factor",
            json!(0.0),
            &["scaling_factor"],
        ),
        ("/text_encoder/spec/vocab_size", json!(0), &["vocab_size"]),
        ("/defaults/width_px", json!(0), &["defaults.width_px"]),
    ];
    for (pointer, value, parts) in cases {
        fs::write(&path, &whole).unwrap();
        set_json(&path, pointer, value);
        draw(&desk).refused(3, parts).refused(3, &["manifest.json"]);
    }
    assert_eq!(desk.names(), ["model"]);
}

#[test]
fn a_manifest_reaches_nothing_outside_and_hides_nothing_inside() {
    let desk = desk_with_model();
    fs::write(desk.path("x"), "secret").unwrap();
    let path = desk.path("model").join("manifest.json");
    let whole = fs::read(&path).unwrap();
    for outside in ["../x", "/etc/passwd", "a/../../x", "..\\x", ""] {
        fs::write(&path, &whole).unwrap();
        change_json(&path, |manifest| {
            manifest["files"][outside] = json!({"bytes": 6, "sha256": ""});
        });
        draw(&desk).refused(3, &["files", "inside"]);
    }
    for hidden in [
        "transformer.bin",
        "vae_decoder.xml",
        "tokenizer/spiece.model",
        "scheduler/scheduler_config.json",
    ] {
        fs::write(&path, &whole).unwrap();
        change_json(&path, |manifest| {
            manifest["files"].as_object_mut().unwrap().remove(hidden);
        });
        draw(&desk).refused(3, &["files", hidden]);
    }
}

#[test]
fn a_file_that_the_manifest_does_not_list_is_never_read() {
    let desk = desk_with_model();
    draw(&desk).done();
    let before = desk.read("pixart-1.png");
    fs::write(desk.path("model/tokenizer/tokenizer.json"), "{}").unwrap();
    draw(&desk).done();
    assert!(desk.read("pixart-1.png") == before);
}

// The cache -------------------------------------------------------------------------------------------------------

struct Cache(Desk);

impl Cache {
    fn draw(&self) -> Outcome {
        outcome(
            pixart()
                .env("PIXART__MODEL__CACHE", self.0.path("cache"))
                .current_dir(self.0.0.path())
                .args(["generate", "a cat", "--seed", "1", "--quiet"]),
        )
    }

    fn model(&self) -> std::path::PathBuf {
        let cache = self.0.path("cache");
        let names = names_in(&cache);
        assert_eq!(names.len(), 1, "{names:?}");
        cache.join(&names[0])
    }
}

#[test]
fn a_damaged_cache_is_made_again_and_draws_the_same() {
    let cache = Cache(Desk::new());
    cache.draw().done();
    let before = cache.0.read("pixart-1.png");
    let damages: [fn(&Path); 3] = [
        |model| damage(&model.join("transformer.bin"), |bytes| bytes[1000] ^= 1),
        |model| fs::write(model.join("manifest.json"), "{").unwrap(),
        |model| fs::remove_file(model.join("vae_decoder.xml")).unwrap(),
    ];
    for damage in damages {
        damage(&cache.model());
        cache.draw().done();
        assert!(cache.0.read("pixart-1.png") == before);
    }
}

#[test]
fn uses_that_find_the_same_damaged_cache_at_the_same_time_all_draw() {
    let cache = Cache(Desk::new());
    cache.draw().done();
    let before = cache.0.read("pixart-1.png");
    let damages: [fn(&Path); 4] = [
        |model| damage(&model.join("transformer.bin"), |bytes| bytes[1000] ^= 1),
        |model| fs::write(model.join("manifest.json"), "{").unwrap(),
        |model| set_json(&model.join("manifest.json"), "/format", json!(99)),
        |model| fs::remove_file(model.join("manifest.json")).unwrap(),
    ];
    for damage in damages {
        damage(&cache.model());
        std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| cache.draw().done());
            }
        });
        cache.model();
        assert!(cache.0.read("pixart-1.png") == before);
    }
}

#[test]
fn the_name_in_the_cache_tells_the_converters_revision() {
    let cache = Cache(Desk::new());
    cache.draw().done();
    let name = cache.model();
    let name = name.file_name().unwrap().to_str().unwrap();
    let expected = format!("sketchbook-{}-r{}-", env!("CARGO_PKG_VERSION"), REVISION);
    assert!(name.starts_with(&expected), "{name}");
}

#[test]
fn first_uses_at_the_same_time_all_draw() {
    let cache = Cache(Desk::new());
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| cache.draw().done());
        }
    });
    cache.model();
}

#[test]
fn a_cache_that_cannot_be_written_names_the_setting() {
    let desk = Desk::new();
    fs::write(desk.path("file"), "").unwrap();
    outcome(
        pixart()
            .env("PIXART__MODEL__CACHE", desk.path("file"))
            .current_dir(desk.0.path())
            .args(["generate", "a cat", "--quiet"]),
    )
    .refused(5, &["PIXART__MODEL__CACHE", "cannot write"]);
    outcome(
        pixart()
            .current_dir(desk.0.path())
            .args(["generate", "a cat", "--quiet"]),
    )
    .refused(1, &["no cache folder", "PIXART__MODEL__CACHE"]);
    assert_eq!(desk.names(), ["file"]);
}
