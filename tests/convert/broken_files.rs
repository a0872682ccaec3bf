//! Weights files that are missing or not whole: each gets one message that names the file and what to do.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::path::Path;

use pixart::convert::ConvertError;
use serde_json::json;

use super::{Attempt, TEXT_ENCODER, TRANSFORMER, VAE, cut};
use crate::support::{Silent, change_json, rewrite_tensors};

fn append(path: &Path, bytes: &[u8]) {
    let mut file = OpenOptions::new().append(true).open(path).unwrap();
    file.write_all(bytes).unwrap();
}

/// Writes a header of `text`, with a length that is true, before the data that was there.
fn write_header(path: &Path, text: &str, data: &[u8]) {
    let mut bytes = (text.len() as u64).to_le_bytes().to_vec();
    bytes.extend(text.as_bytes());
    bytes.extend(data);
    fs::write(path, bytes).unwrap();
}

// Files that are not there ----------------------------------------------------------------------------------------

/// As 'hf download' leaves a repository that has nothing else.
#[test]
fn a_variant_is_taken_where_the_plain_files_are_missing() {
    let plain = Attempt::new().converted();
    for variant in ["fp16", "bf16"] {
        let attempt = Attempt::new();
        for name in [TEXT_ENCODER, TRANSFORMER, VAE] {
            let other = name.replace(".safetensors", &format!(".{variant}.safetensors"));
            fs::rename(attempt.file(name), attempt.file(&other)).unwrap();
        }
        assert_eq!(attempt.converted().files, plain.files, "{variant}");
        // A plain file comes first, be it as bad as it may.
        fs::write(attempt.file(VAE), "no weights").unwrap();
        let error = convert_error(&attempt);
        assert!(error.contains(VAE), "{error}");
    }
    let attempt = Attempt::on("tests/golden/checkpoints/tiny-alpha-plain");
    let plain = attempt.converted();
    let folder = attempt.file("transformer");
    let index = folder.join("diffusion_pytorch_model.safetensors.index.json");
    let other = folder.join("diffusion_pytorch_model.safetensors.index.fp16.json");
    fs::rename(index, other).unwrap();
    assert_eq!(attempt.converted().files, plain.files);
}

fn convert_error(attempt: &Attempt) -> String {
    attempt.watched(&Silent).unwrap_err().to_string()
}

#[test]
fn a_missing_file_is_named_with_what_a_source_must_be() {
    for name in [
        "model_index.json",
        "scheduler/scheduler_config.json",
        "tokenizer/spiece.model",
        "text_encoder/config.json",
        "transformer/config.json",
        "vae/config.json",
        TEXT_ENCODER,
        TRANSFORMER,
        VAE,
    ] {
        let attempt = Attempt::new();
        fs::remove_file(attempt.file(name)).unwrap();
        let error = attempt.refused(&[name, "is missing", "diffusers directory"]);
        assert!(matches!(error, ConvertError::MissingFile { .. }), "{error}");
    }
}

#[test]
fn a_source_that_is_not_there_is_named() {
    let attempt = Attempt::new();
    let source = attempt.source.path().join("nowhere");
    let options = pixart::convert::ConvertOptions {
        source: source.clone(),
        ..attempt.options()
    };
    let error = pixart::convert::convert(
        &options,
        &mut crate::support::runtime(),
        &crate::support::Silent,
    )
    .unwrap_err();
    assert!(
        error.to_string().contains(source.to_str().unwrap()),
        "{error}"
    );
    assert_eq!(crate::support::names_in(attempt.outputs.path()), [""; 0]);
}

#[test]
fn a_pickle_is_never_read() {
    for (folder, name) in [
        ("text_encoder", "pytorch_model.bin"),
        ("transformer", "diffusion_pytorch_model.bin"),
        ("vae", "diffusion_pytorch_model.ckpt"),
    ] {
        let attempt = Attempt::new();
        for stem in ["model", "diffusion_pytorch_model"] {
            let _ = fs::remove_file(attempt.file(&format!("{folder}/{stem}.safetensors")));
        }
        fs::write(attempt.file(folder).join(name), b"\x80\x02}q\x00.").unwrap();
        let error = attempt.refused(&[name, "pickle", "safetensors"]);
        assert!(matches!(error, ConvertError::Pickle { .. }), "{error}");
    }
}

#[test]
fn what_lies_in_place_of_weights_is_named_with_what_to_do() {
    const POINTER: &str =
        "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 2443421088\n";
    for (name, content, words) in [
        (TRANSFORMER, POINTER, "git lfs pull"),
        ("tokenizer/spiece.model", POINTER, "git lfs pull"),
        ("tokenizer/tokenizer.json", POINTER, "git lfs pull"),
        ("vae/config.json", POINTER, "git lfs pull"),
        (VAE, "<!DOCTYPE html><title>403</title>", "page of a site"),
        (TEXT_ENCODER, "PK\u{3}\u{4}archive/data.pkl", "pickle"),
    ] {
        let attempt = Attempt::new();
        fs::write(attempt.file(name), content).unwrap();
        attempt.refused(&[name, words]);
    }
}

#[test]
fn weights_that_are_there_otherwise_are_named() {
    let attempt = Attempt::new();
    fs::remove_file(attempt.file(TEXT_ENCODER)).unwrap();
    fs::write(
        attempt.file("text_encoder/pytorch_model.bin.index.json"),
        "{}",
    )
    .unwrap();
    fs::write(
        attempt.file("text_encoder/pytorch_model-00001-of-00002.bin"),
        "",
    )
    .unwrap();
    attempt.refused(&["text_encoder/pytorch_model-00001-of-00002.bin", "pickle"]);

    let attempt = Attempt::on("tests/golden/checkpoints/tiny-alpha-plain");
    let index = "diffusion_pytorch_model.safetensors.index.json";
    fs::remove_file(attempt.file("transformer").join(index)).unwrap();
    attempt.refused(&["-00001-of-00003.safetensors", index]);

    let attempt = Attempt::new();
    let other = "transformer/diffusion_pytorch_model.non_ema.safetensors";
    fs::rename(attempt.file(TRANSFORMER), attempt.file(other)).unwrap();
    attempt.refused(&[
        TRANSFORMER,
        "diffusion_pytorch_model.non_ema.safetensors is there",
    ]);

    for name in [TRANSFORMER, "vae/config.json", "tokenizer/spiece.model"] {
        let attempt = Attempt::new();
        fs::remove_file(attempt.file(name)).unwrap();
        std::os::unix::fs::symlink("../../blobs/abc", attempt.file(name)).unwrap();
        attempt.refused(&[name, "../../blobs/abc", "not there"]);
    }
}

// Safetensors that are not whole ----------------------------------------------------------------------------------

/// Each damages a safetensors file in its own way; the words tell what the message must say beside the file's name.
type Damage = (&'static str, fn(&Path), &'static [&'static str]);

const DAMAGES: [Damage; 10] = [
    ("empty", |path| cut(path, 0), &["shorter than 8 bytes"]),
    (
        "cut in the header",
        |path| cut(path, 300),
        &["header", "300"],
    ),
    (
        "cut in the data",
        |path| cut(path, fs::metadata(path).unwrap().len() - 1),
        &["header says"],
    ),
    (
        "too long",
        |path| append(path, b"trailing"),
        &["header says"],
    ),
    (
        "a flipped bit in the length",
        |path| {
            let mut bytes = fs::read(path).unwrap();
            bytes[7] ^= 0x40;
            fs::write(path, bytes).unwrap();
        },
        &["header claims"],
    ),
    (
        "a flipped bit in the header",
        |path| {
            let mut bytes = fs::read(path).unwrap();
            bytes[8] ^= 0x01;
            fs::write(path, bytes).unwrap();
        },
        &["header:"],
    ),
    (
        "a header beyond the format's limit",
        |path| {
            let mut bytes = fs::read(path).unwrap();
            bytes[..8].copy_from_slice(&100_000_001_u64.to_le_bytes());
            fs::write(path, bytes).unwrap();
        },
        &["header claims 100000001"],
    ),
    (
        "a hole between tensors",
        |path| {
            write_header(
                path,
                r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"b":{"dtype":"F32","shape":[1],"data_offsets":[8,12]}}"#,
                &[0; 12],
            );
        },
        &["header:"],
    ),
    (
        "a shape whose product overflows",
        |path| {
            write_header(
                path,
                r#"{"a":{"dtype":"F32","shape":[4294967296,4294967296,4294967296],"data_offsets":[0,4]}}"#,
                &[0; 4],
            );
        },
        &["header:"],
    ),
    (
        "offsets that run backwards",
        |path| {
            write_header(
                path,
                r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[4,0]}}"#,
                &[0; 4],
            );
        },
        &["header:"],
    ),
];

#[test]
fn damaged_safetensors_are_refused_whatever_the_damage() {
    for (what, damage, words) in DAMAGES {
        let attempt = Attempt::new();
        damage(&attempt.file(TRANSFORMER));
        let message = attempt.refused(words);
        assert!(
            matches!(message, ConvertError::BadWeights { .. }),
            "{what}: {message}"
        );
        let message = message.to_string();
        assert!(
            message.contains(TRANSFORMER) && message.contains("fetch it again"),
            "{what}: {message}"
        );
    }
}

#[test]
fn a_damaged_last_component_is_found_before_the_first_is_written() {
    struct NothingBegins;
    impl pixart::convert::Progress for NothingBegins {
        fn begin(&self, component: &str, _bytes: u64) {
            panic!("{component} was begun");
        }
        fn advance(&self, _bytes: u64) {}
        fn unchanged(&self, _component: &str) {}
        fn cancelled(&self) -> bool {
            false
        }
    }
    let attempt = Attempt::new();
    cut(&attempt.file(VAE), 300);
    let error = attempt.watched(&NothingBegins).unwrap_err();
    assert!(error.to_string().contains(VAE), "{error}");
}

// Shards ------------------------------------------------------------------------------------------------------------

const SHARDED: &str = "tests/golden/checkpoints/tiny-alpha-plain";
const INDEX: &str = "transformer/diffusion_pytorch_model.safetensors.index.json";
const SHARD: &str = "diffusion_pytorch_model-00002-of-00003.safetensors";

#[test]
fn a_shard_that_is_not_there_is_named_beside_its_index() {
    let attempt = Attempt::on(SHARDED);
    fs::remove_file(attempt.file("transformer").join(SHARD)).unwrap();
    let error = attempt.refused(&[INDEX, SHARD, "is not there", "fetch"]);
    assert!(matches!(error, ConvertError::BadIndex { .. }), "{error}");
}

#[test]
fn a_damaged_shard_is_named() {
    let attempt = Attempt::on(SHARDED);
    cut(&attempt.file("transformer").join(SHARD), 1000);
    attempt.refused(&[SHARD, "fetch it again"]);
}

#[test]
fn an_index_leads_nowhere_but_to_its_own_folder() {
    for shard in [
        "../evil.safetensors",
        "/etc/evil.safetensors",
        "sub/evil.safetensors",
        "..",
        "",
        "evil.bin",
    ] {
        let attempt = Attempt::on(SHARDED);
        change_json(&attempt.file(INDEX), |index| {
            index["weight_map"]["proj_out.bias"] = json!(shard);
        });
        fs::copy(
            attempt.file("transformer").join(SHARD),
            attempt.file("evil.safetensors"),
        )
        .unwrap();
        let error = attempt.refused(&[INDEX, shard]);
        assert!(matches!(error, ConvertError::BadIndex { .. }), "{error}");
    }
}

#[test]
fn an_index_that_lies_about_a_tensors_shard_is_refused() {
    let attempt = Attempt::on(SHARDED);
    change_json(&attempt.file(INDEX), |index| {
        let map = index["weight_map"].as_object_mut().unwrap();
        let (tensor, other) = map
            .iter()
            .find(|(_, shard)| *shard != SHARD)
            .map(|(tensor, shard)| (tensor.clone(), shard.clone()))
            .unwrap();
        assert_ne!(other, SHARD);
        map[&tensor] = json!(SHARD);
    });
    attempt.refused(&[INDEX, SHARD, "has not"]);
}

#[test]
fn an_index_that_is_no_index_is_refused() {
    for text in [
        "",
        "[]",
        "{}",
        r#"{"weight_map": 3}"#,
        r#"{"weight_map": {"a": 1}}"#,
    ] {
        let attempt = Attempt::on(SHARDED);
        fs::write(attempt.file(INDEX), text).unwrap();
        let error = attempt.refused(&[INDEX]);
        assert!(matches!(error, ConvertError::BadIndex { .. }), "{error}");
    }
}

#[test]
fn a_tensor_in_two_shards_is_refused() {
    let attempt = Attempt::on(SHARDED);
    let folder = attempt.file("transformer");
    let mut copied = None;
    rewrite_tensors(&folder.join(SHARD), |tensors| {
        copied = tensors
            .first_key_value()
            .map(|(name, tensor)| (name.clone(), tensor.clone()));
    });
    let (name, tensor) = copied.unwrap();
    rewrite_tensors(
        &folder.join("diffusion_pytorch_model-00003-of-00003.safetensors"),
        |tensors| {
            tensors.insert(name.clone(), tensor);
        },
    );
    attempt.refused(&[&name, "another shard"]);
}

#[test]
fn an_index_of_absurd_length_is_refused_unread() {
    let attempt = Attempt::on("tests/golden/checkpoints/tiny-sigma");
    let index = attempt.file("transformer/diffusion_pytorch_model.safetensors.index.json");
    fs::File::options()
        .write(true)
        .open(&index)
        .unwrap()
        .set_len(6 << 30)
        .unwrap();
    attempt.refused(&["index.json", "longer than 16 MiB"]);
}
