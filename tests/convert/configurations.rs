//! Configurations and tokenizers that make no sense, alone or together, and how the binary says so.

use std::fs;

use pixart::convert::ConvertError;
use pixart::pipeline::tokenizer::PromptTokenizer;
use serde_json::json;

use super::{Attempt, TEXT_ENCODER, TRANSFORMER, VAE, cut, put};
use crate::support::{outcome, pixart, rewrite_tensors, set_json};

// Configurations --------------------------------------------------------------------------------------------------

#[test]
fn absurd_and_inconsistent_configurations_are_refused_by_file_and_key() {
    for (file, key, value, words) in [
        ("transformer", "num_layers", json!(0), "1 to"),
        (
            "transformer",
            "num_layers",
            json!(1_000_000_000),
            "1000000000",
        ),
        ("transformer", "num_attention_heads", json!(-2), "-2"),
        (
            "transformer",
            "attention_head_dim",
            json!(1e300),
            "whole number",
        ),
        (
            "transformer",
            "attention_head_dim",
            json!(11),
            "multiple of 4",
        ),
        (
            "transformer",
            "cross_attention_dim",
            json!(20),
            "num_attention_heads",
        ),
        (
            "transformer",
            "caption_channels",
            json!(24),
            "caption_channels",
        ),
        ("transformer", "out_channels", json!(7), "out_channels"),
        ("transformer", "in_channels", json!(8), "in_channels"),
        ("transformer", "patch_size", json!(0), "patch_size"),
        (
            "transformer",
            "norm_type",
            json!("ada_norm"),
            "ada_norm_single",
        ),
        (
            "transformer",
            "activation_fn",
            json!("geglu"),
            "gelu-approximate",
        ),
        (
            "transformer",
            "_class_name",
            json!("SD3Transformer2DModel"),
            "PixArtTransformer2DModel",
        ),
        ("text_encoder", "num_layers", json!(0), "num_layers"),
        ("text_encoder", "d_model", json!(null), "d_model"),
        ("text_encoder", "vocab_size", json!("many"), "vocab_size"),
        (
            "text_encoder",
            "feed_forward_proj",
            json!("relu"),
            "gated-gelu",
        ),
        (
            "text_encoder",
            "relative_attention_num_buckets",
            json!(6),
            "multiple of 4",
        ),
        ("vae", "norm_num_groups", json!(5), "norm_num_groups"),
        ("vae", "block_out_channels", json!([]), "block_out_channels"),
        (
            "vae",
            "block_out_channels",
            json!([8, -12]),
            "block_out_channels",
        ),
        ("vae", "out_channels", json!(4), "red, green, blue"),
        ("vae", "scaling_factor", json!(0), "scaling_factor"),
        ("vae", "latent_channels", json!(16), "in_channels"),
    ] {
        let attempt = Attempt::new();
        let name = format!("{file}/config.json");
        set_json(&attempt.file(&name), &format!("/{key}"), value);
        let error = attempt.refused(&[key, words]);
        let message = error.to_string();
        assert!(matches!(error, ConvertError::Config { .. }), "{message}");
        assert!(message.contains("config.json"), "{message}");
    }
}

#[test]
fn depth_and_weights_must_agree() {
    let attempt = Attempt::new();
    set_json(
        &attempt.file("transformer/config.json"),
        "/num_layers",
        json!(4),
    );
    attempt.refused(&["transformer_blocks.3."]);
    set_json(
        &attempt.file("transformer/config.json"),
        "/num_layers",
        json!(2),
    );
    attempt.refused(&["transformer_blocks.2."]);
}

/// As published pipelines and those that people save have them.
#[test]
fn what_belongs_to_other_pipelines_and_versions_changes_nothing() {
    let plain = Attempt::new();
    plain.converted();
    let attempt = Attempt::new();
    for (file, key, value) in [
        ("model_index.json", "safety_checker", json!([null, null])),
        ("model_index.json", "feature_extractor", json!([null, null])),
        (
            "model_index.json",
            "image_encoder",
            json!(["transformers", "CLIPVisionModel"]),
        ),
        ("model_index.json", "requires_safety_checker", json!(true)),
        ("transformer/config.json", "_name_or_path", json!("a/b")),
        (
            "transformer/config.json",
            "a_key_to_come",
            json!({"x": [1]}),
        ),
        ("vae/config.json", "latents_mean", json!(null)),
        (
            "text_encoder/config.json",
            "task_specific_params",
            json!({}),
        ),
        ("scheduler/scheduler_config.json", "a_key_to_come", json!(1)),
    ] {
        let path = attempt.file(file);
        let text = fs::read_to_string(&path).unwrap();
        let mut page: serde_json::Value = serde_json::from_str(&text).unwrap();
        page[key] = value;
        fs::write(path, page.to_string()).unwrap();
    }
    for file in [
        "README.md",
        ".gitattributes",
        "asset/images/teaser.png",
        "safety_checker/model.safetensors",
        "transformer/diffusion_pytorch_model.bin",
        "text_encoder/flax_model.msgpack",
        "tokenizer/added_tokens.json",
    ] {
        let path = attempt.file(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "{}").unwrap();
    }
    let (plain, made) = (plain.converted(), attempt.converted());
    for (name, entry) in &plain.files {
        if name != "scheduler/scheduler_config.json" {
            assert_eq!(made.files.get(name), Some(entry), "{name}");
        }
    }
    assert_eq!(made.files.len(), plain.files.len());
}

#[test]
fn a_file_that_is_not_json_is_refused_by_name() {
    for name in [
        "model_index.json",
        "pixart.json",
        "scheduler/scheduler_config.json",
        "text_encoder/config.json",
        "transformer/config.json",
        "vae/config.json",
    ] {
        for text in ["", "{", "[1, 2]", "null", "\u{feff}["] {
            let attempt = Attempt::new();
            fs::write(attempt.file(name), text).unwrap();
            let error = attempt.refused(&[name]);
            assert!(
                matches!(error, ConvertError::Config { .. }),
                "{name}: {error}"
            );
        }
        let attempt = Attempt::new();
        fs::write(attempt.file(name), b"\xff\xfe{}").unwrap();
        attempt.refused(&[name, "UTF-8"]);
    }
}

#[test]
fn a_configuration_without_end_is_not_read() {
    let attempt = Attempt::new();
    // Sparse: it takes no room on the disk.
    cut(&attempt.file("vae/config.json"), 1 << 40);
    attempt.refused(&["vae/config.json", "16 MiB"]);
}

#[test]
fn a_pipeline_of_another_kind_is_refused() {
    let attempt = Attempt::new();
    set_json(
        &attempt.file("model_index.json"),
        "/_class_name",
        json!("StableDiffusionPipeline"),
    );
    attempt.refused(&[
        "model_index.json",
        "StableDiffusionPipeline",
        "PixArtAlphaPipeline",
    ]);
}

/// Python writes numbers that JSON has not, and editors on Windows a byte order mark.
#[test]
fn configurations_are_read_as_python_reads_them() {
    let plain = Attempt::new().converted();
    let attempt = Attempt::new();
    for name in [
        "model_index.json",
        "scheduler/scheduler_config.json",
        "text_encoder/config.json",
        "transformer/config.json",
        "vae/config.json",
    ] {
        let path = attempt.file(name);
        let text = fs::read_to_string(&path).unwrap();
        let keys = r#"{"first_to_come": NaN, "second": [-Infinity, Infinity],"#;
        fs::write(path, format!("\u{feff}{}", text.replacen('{', keys, 1))).unwrap();
    }
    let made = attempt.converted();
    for name in ["text_encoder.bin", "transformer.bin", "vae_decoder.bin"] {
        assert_eq!(made.files[name], plain.files[name], "{name}");
    }
    // Where a number counts, one that is none is refused by its key.
    let path = attempt.file("vae/config.json");
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, text.replace("0.18215", "NaN")).unwrap();
    let error = attempt
        .watched(&crate::support::Silent)
        .unwrap_err()
        .to_string();
    for part in ["vae/config.json", "scaling_factor", "NaN"] {
        assert!(error.contains(part), "{error}");
    }
    fs::write(&path, "{\n\"a\": nan}").unwrap();
    let error = attempt
        .watched(&crate::support::Silent)
        .unwrap_err()
        .to_string();
    assert!(error.contains("line 2 column"), "{error}");
}

#[test]
fn a_foreign_scheduler_is_refused_with_the_way_on() {
    let attempt = Attempt::new();
    let path = "scheduler/scheduler_config.json";
    set_json(&attempt.file(path), "/_class_name", json!("DDPMScheduler"));
    let error = attempt.refused(&[path, "DDPMScheduler", "DPMSolverMultistepScheduler"]);
    assert_eq!(error.to_string().matches(path).count(), 1, "{error}");
    set_json(
        &attempt.file(path),
        "/_class_name",
        json!("DPMSolverMultistepScheduler"),
    );
    attempt.converted();
}

#[test]
fn a_scheduler_that_is_not_built_in_is_refused() {
    for (key, value) in [
        ("_class_name", json!("EulerDiscreteScheduler")),
        ("prediction_type", json!("flow_prediction")),
        ("num_train_timesteps", json!(0)),
        ("beta_schedule", json!("unheard of")),
    ] {
        let attempt = Attempt::new();
        set_json(
            &attempt.file("scheduler/scheduler_config.json"),
            &format!("/{key}"),
            value,
        );
        attempt.refused(&["scheduler_config.json", key]);
    }
}

#[test]
fn a_tokenizer_that_is_not_t5s_is_refused() {
    let garbage: Vec<u8> = (0..5000_u32)
        .flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes())
        .collect();
    let attempt = Attempt::new();
    for bytes in [b"".as_slice(), b"not a protobuf", &garbage] {
        fs::write(attempt.file("tokenizer/spiece.model"), bytes).unwrap();
        let error = attempt.refused(&["tokenizer/spiece.model"]);
        assert!(matches!(error, ConvertError::Config { .. }), "{error}");
    }
}

#[test]
fn a_tokenizer_json_that_is_no_vocabulary_is_refused() {
    for text in ["", "[]", "{}", r#"{"model": {"type": "BPE", "vocab": {}}}"#] {
        let attempt = Attempt::new();
        fs::write(attempt.file("tokenizer/tokenizer.json"), text).unwrap();
        attempt.refused(&["tokenizer/tokenizer.json"]);
    }
}

#[test]
fn a_tokenizer_json_that_could_not_be_drawn_with_is_refused_beside_a_good_spiece_model() {
    let good = json!({
        "normalizer": null,
        "pre_tokenizer": {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always"},
        "model": {
            "type": "Unigram",
            "unk_id": 2,
            "vocab": [["<pad>", 0.0], ["</s>", 0.0], ["<unk>", 0.0], ["▁a", -1.0]],
        },
    });
    for (key, value, words) in [
        ("/model/type", json!("BPE"), "Unigram"),
        ("/model/unk_id", json!(4), "unk_id"),
        ("/model/vocab/1/0", json!("<end>"), "</s>"),
        ("/model/vocab/3/0", json!("<pad>"), "twice"),
        ("/pre_tokenizer/type", json!("ByteLevel"), "Metaspace"),
        (
            "/normalizer",
            json!({"type": "Precompiled", "precompiled_charsmap": "AAAA"}),
            "character map",
        ),
    ] {
        let mut tokenizer = good.clone();
        *tokenizer.pointer_mut(key).unwrap() = value;
        let tokenizer = tokenizer.to_string();
        assert!(
            PromptTokenizer::from_tokenizer_json(tokenizer.as_bytes(), 120).is_err(),
            "{key}"
        );
        let attempt = Attempt::new();
        fs::write(attempt.file("tokenizer/tokenizer.json"), tokenizer).unwrap();
        attempt.refused(&["tokenizer/tokenizer.json", words]);
    }
}

#[test]
fn a_tokenizer_file_that_is_absurdly_long_is_not_read() {
    for name in ["tokenizer/spiece.model", "tokenizer/tokenizer.json"] {
        let attempt = Attempt::new();
        fs::write(attempt.file(name), "").unwrap();
        // Without room on the disk: reading it would take a terabyte of memory.
        cut(&attempt.file(name), 1 << 40);
        attempt.refused(&[name, "64 MiB"]);
    }
}

#[test]
fn a_tokenizer_with_more_pieces_than_embeddings_is_refused() {
    let attempt = Attempt::new();
    set_json(
        &attempt.file("text_encoder/config.json"),
        "/vocab_size",
        json!(480),
    );
    rewrite_tensors(&attempt.file(TEXT_ENCODER), |tensors| {
        let table = tensors.get_mut("shared.weight").unwrap();
        table.shape[0] = 480;
        table.data.truncate(480 * 20 * 4);
    });
    attempt.refused(&["spiece.model", "480"]);
}

// The binary ------------------------------------------------------------------------------------------------------

#[test]
fn the_binary_says_the_same_in_one_line_with_its_exit_code() {
    type Break = fn(&Attempt);
    let cases: [(Break, i32, &[&str]); 5] = [
        (
            |attempt| fs::remove_file(attempt.file("model_index.json")).unwrap(),
            3,
            &["model_index.json", "is missing"],
        ),
        (
            |attempt| cut(&attempt.file(TRANSFORMER), 300),
            3,
            &[TRANSFORMER, "fetch it again"],
        ),
        (
            |attempt| {
                set_json(
                    &attempt.file("vae/config.json"),
                    "/norm_num_groups",
                    json!(5),
                );
            },
            3,
            &["vae/config.json", "norm_num_groups"],
        ),
        (
            |attempt| {
                put(
                    &attempt.file(VAE),
                    "decoder.conv_in.bias",
                    0,
                    &f32::NAN.to_le_bytes(),
                );
            },
            3,
            &["decoder.conv_in.bias"],
        ),
        (
            |attempt| fs::write(attempt.output(), "mine").unwrap(),
            5,
            &["model", "exists", "--output"],
        ),
    ];
    for (break_it, code, parts) in cases {
        let attempt = Attempt::new();
        break_it(&attempt);
        let ended = outcome(
            pixart()
                .arg("convert")
                .arg(attempt.source.path())
                .arg("--quiet")
                .arg("--output")
                .arg(attempt.output()),
        )
        .refused(code, parts);
        assert_eq!(ended.stderr.lines().count(), 1, "{}", ended.stderr);
        assert!(ended.stderr.starts_with("pixart: "), "{}", ended.stderr);
    }
}

#[test]
fn an_unknown_weights_format_is_a_usage_error() {
    let attempt = Attempt::new();
    outcome(
        pixart()
            .arg("convert")
            .arg(attempt.source.path())
            .args(["--weights", "int2", "--output"])
            .arg(attempt.output()),
    )
    .refused(2, &["int2", "f32, f16, int8, int4"]);
}
