//! Every published repository: its files, its tensors and its configurations, and that it converts and draws.
//!
//! The tensors are compared with `tests/golden/published.json`, which diffusers and transformers made of the classes.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use pixart::domain::SchedulerKind;
use pixart::model::WeightsFormat;
use pixart::synthesize::Published;
use safetensors::{Dtype, SafeTensors};
use serde_json::Value;

use super::{Bench, draw, small};
use crate::support::{convert_to, outcome, pixart, project};

/// What is known of a repository, apart from `src/synthesize/published.rs`.
struct Expected {
    name: &'static str,
    /// 0 where there is no text encoder.
    shards: usize,
    scheduler: &'static str,
    transformer: Option<ExpectedTransformer>,
    vae_scaling_factor: Option<f64>,
    class: Option<&'static str>,
}

struct ExpectedTransformer {
    sample_size: u64,
    micro_conditions: bool,
    y_embedding: bool,
    /// Keys of later versions that it has; of `interpolation_scale` and `use_additional_conditions`.
    later_keys: &'static [&'static str],
}

const ALPHA: Option<&str> = Some("PixArtAlphaPipeline");
const SIGMA: Option<&str> = Some("PixArtSigmaPipeline");
const DPM_SOLVER: &str = "DPMSolverMultistepScheduler";
const BOTH_KEYS: &[&str] = &["interpolation_scale", "use_additional_conditions"];

const fn alpha(sample_size: u64, later_keys: &'static [&'static str]) -> ExpectedTransformer {
    ExpectedTransformer {
        sample_size,
        micro_conditions: sample_size == 128,
        y_embedding: true,
        later_keys,
    }
}

const fn sigma(sample_size: u64) -> ExpectedTransformer {
    ExpectedTransformer {
        sample_size,
        micro_conditions: false,
        y_embedding: false,
        later_keys: BOTH_KEYS,
    }
}

const fn full_alpha(
    name: &'static str,
    shards: usize,
    transformer: ExpectedTransformer,
) -> Expected {
    Expected {
        name,
        shards,
        scheduler: DPM_SOLVER,
        transformer: Some(transformer),
        vae_scaling_factor: Some(0.18215),
        class: ALPHA,
    }
}

const fn transformer_alone(name: &'static str, transformer: ExpectedTransformer) -> Expected {
    Expected {
        name,
        shards: 0,
        scheduler: "",
        transformer: Some(transformer),
        vae_scaling_factor: None,
        class: None,
    }
}

const EXPECTED: [Expected; 11] = [
    full_alpha("PixArt-alpha/PixArt-XL-2-1024-MS", 2, alpha(128, &[])),
    full_alpha("PixArt-alpha/PixArt-XL-2-512x512", 2, alpha(64, &[])),
    full_alpha(
        "PixArt-alpha/PixArt-XL-2-256x256",
        2,
        alpha(32, &["interpolation_scale"]),
    ),
    full_alpha(
        "PixArt-alpha/PixArt-XL-2-SAM-256x256",
        2,
        alpha(32, &["interpolation_scale"]),
    ),
    Expected {
        scheduler: "LCMScheduler",
        ..full_alpha("PixArt-alpha/PixArt-LCM-XL-2-1024-MS", 4, alpha(128, &[]))
    },
    Expected {
        scheduler: "DDPMScheduler",
        ..transformer_alone(
            "PixArt-alpha/PixArt-Alpha-DMD-XL-2-512x512",
            ExpectedTransformer {
                y_embedding: false,
                ..alpha(64, &["interpolation_scale"])
            },
        )
    },
    Expected {
        name: "PixArt-alpha/PixArt-Sigma-XL-2-1024-MS",
        shards: 2,
        scheduler: DPM_SOLVER,
        transformer: Some(sigma(128)),
        vae_scaling_factor: Some(0.13025),
        class: SIGMA,
    },
    transformer_alone("PixArt-alpha/PixArt-Sigma-XL-2-512-MS", sigma(64)),
    transformer_alone("PixArt-alpha/PixArt-Sigma-XL-2-256x256", sigma(32)),
    transformer_alone("PixArt-alpha/PixArt-Sigma-XL-2-2K-MS", sigma(256)),
    Expected {
        name: "PixArt-alpha/pixart_sigma_sdxlvae_T5_diffusers",
        shards: 2,
        scheduler: DPM_SOLVER,
        transformer: None,
        vae_scaling_factor: Some(0.13025),
        class: SIGMA,
    },
];

impl Expected {
    fn files(&self) -> BTreeSet<String> {
        let mut files = BTreeSet::new();
        let mut add = |names: &[&str]| files.extend(names.iter().map(|&name| name.to_owned()));
        if self.class.is_some() {
            add(&["model_index.json"]);
        }
        if !self.scheduler.is_empty() {
            add(&["scheduler/scheduler_config.json"]);
        }
        for (there, component) in [
            (self.transformer.is_some(), "transformer"),
            (self.vae_scaling_factor.is_some(), "vae"),
        ] {
            if there {
                let weights = format!("{component}/diffusion_pytorch_model.safetensors");
                add(&[&format!("{component}/config.json"), &weights]);
            }
        }
        if self.shards > 0 {
            add(&[
                "text_encoder/config.json",
                "text_encoder/model.safetensors.index.json",
                "tokenizer/added_tokens.json",
                "tokenizer/special_tokens_map.json",
                "tokenizer/spiece.model",
                "tokenizer/tokenizer_config.json",
            ]);
            for number in 1..=self.shards {
                let name = format!("text_encoder/{}", shard(number, self.shards));
                add(&[&name]);
            }
        }
        files
    }
}

fn shard(number: usize, count: usize) -> String {
    format!("model-{number:05}-of-{count:05}.safetensors")
}

fn made_like(bench: &Bench, name: &str) -> PathBuf {
    let like = Published::named(name).unwrap();
    let folder = name.rsplit('/').next().unwrap();
    bench.make(folder, |options| {
        options.like = like;
        options.shapes = small(like);
    });
    bench.path(folder)
}

fn files_below(folder: &Path) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let name = path.strip_prefix(folder).unwrap();
                found.insert(name.to_str().unwrap().to_owned());
            }
        }
    }
    found
}

fn json(path: &Path) -> Value {
    serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

type Tensors = BTreeMap<String, Vec<usize>>;

/// Those of one file, all of which are f32.
fn tensors(path: &Path) -> Tensors {
    let bytes = fs::read(path).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let each = file.tensors().into_iter().map(|(name, view)| {
        assert_eq!(view.dtype(), Dtype::F32, "{name}");
        (name, view.shape().to_vec())
    });
    each.collect()
}

/// Those of a class, by diffusers and transformers.
fn reference(component: &str) -> Tensors {
    #[derive(serde::Deserialize)]
    struct Record {
        component: String,
        tensor: String,
        shape: Vec<usize>,
    }
    let page = json(&project("tests/golden/published.json"));
    let records: Vec<Record> = serde_json::from_value(page).unwrap();
    let own = records
        .into_iter()
        .filter(|record| record.component == component);
    own.map(|record| (record.tensor, record.shape)).collect()
}

#[test]
fn every_repository_is_expected_here() {
    let names: Vec<&str> = EXPECTED.iter().map(|expected| expected.name).collect();
    let all: Vec<&str> = Published::ALL
        .iter()
        .map(|published| published.name)
        .collect();
    assert_eq!(names, all);
}

#[test]
fn every_repository_has_the_files_and_the_tensors_of_its_classes_and_what_was_left_over() {
    let bench = Bench::new();
    for expected in &EXPECTED {
        let name = expected.name;
        let made = made_like(&bench, name);
        assert_eq!(files_below(&made), expected.files(), "{name}");
        if let Some(transformer) = &expected.transformer {
            let mut reference = reference(if transformer.micro_conditions {
                "transformer_with_micro_conditions"
            } else {
                "transformer"
            });
            if transformer.y_embedding {
                let width = reference["caption_projection.linear_1.weight"][1];
                let y_embedding = "caption_projection.y_embedding".to_owned();
                reference.insert(y_embedding, vec![120, width]);
            }
            let file = made.join("transformer/diffusion_pytorch_model.safetensors");
            assert_eq!(tensors(&file), reference, "{name}");
        }
        if expected.vae_scaling_factor.is_some() {
            let file = made.join("vae/diffusion_pytorch_model.safetensors");
            assert_eq!(tensors(&file), reference("vae"), "{name}");
        }
        if expected.shards > 0 {
            let index = json(&made.join("text_encoder/model.safetensors.index.json"));
            let mut found = Tensors::new();
            for number in 1..=expected.shards {
                let shard = shard(number, expected.shards);
                let tensors = tensors(&made.join("text_encoder").join(&shard));
                assert!(!tensors.is_empty(), "{name}: {shard}");
                for tensor in tensors.keys() {
                    assert_eq!(index["weight_map"][tensor], shard, "{name}: {tensor}");
                }
                found.extend(tensors);
            }
            assert_eq!(found, reference("text_encoder"), "{name}");
        }
    }
}

#[test]
fn every_repository_has_the_class_names_and_the_keys_of_its_time() {
    let bench = Bench::new();
    for expected in &EXPECTED {
        let name = expected.name;
        let made = made_like(&bench, name);
        if let Some(class) = expected.class {
            let index = json(&made.join("model_index.json"));
            assert_eq!(index["_class_name"], class, "{name}");
            assert_eq!(index["scheduler"][1], expected.scheduler, "{name}");
            let transformer = expected.transformer.as_ref().map(|_| "Transformer2DModel");
            assert_eq!(index["transformer"][1].as_str(), transformer, "{name}");
        }
        if !expected.scheduler.is_empty() {
            let page = made.join("scheduler/scheduler_config.json");
            let text = fs::read_to_string(page).unwrap();
            assert!(text.contains(expected.scheduler), "{name}: {text}");
            let bare = text.contains("\"lambda_min_clipped\": -Infinity");
            assert_eq!(bare, expected.scheduler == DPM_SOLVER, "{name}: {text}");
        }
        if let Some(transformer) = &expected.transformer {
            let config = json(&made.join("transformer/config.json"));
            assert_eq!(config["_class_name"], "Transformer2DModel", "{name}");
            assert_eq!(config["sample_size"], transformer.sample_size, "{name}");
            for key in BOTH_KEYS {
                let there = config.get(key).is_some();
                assert_eq!(there, transformer.later_keys.contains(key), "{name}: {key}");
            }
            for key in [
                "double_self_attention",
                "only_cross_attention",
                "use_linear_projection",
            ] {
                assert_eq!(config[key], false, "{name}: {key}");
            }
            assert_eq!(config["num_vector_embeds"], Value::Null, "{name}");
        }
        if let Some(scaling_factor) = expected.vae_scaling_factor {
            let config = json(&made.join("vae/config.json"));
            assert_eq!(config["scaling_factor"], scaling_factor, "{name}");
            for key in [
                "use_quant_conv",
                "use_post_quant_conv",
                "mid_block_add_attention",
            ] {
                assert!(config.get(key).is_none(), "{name}: {key}");
            }
        }
        if expected.shards > 0 {
            let config = json(&made.join("text_encoder/config.json"));
            assert_eq!(config["architectures"][0], "T5EncoderModel", "{name}");
            assert_eq!(config["torch_dtype"], "float32", "{name}");
        }
    }
}

#[test]
fn every_full_repository_converts_and_draws_images_of_a_sane_spread() {
    let bench = Bench::new();
    let full = EXPECTED
        .iter()
        .filter(|expected| expected.transformer.is_some() && expected.shards > 0);
    let mut drawn = 0;
    for expected in full {
        let made = made_like(&bench, expected.name);
        let model = made.with_extension("model");
        convert_to(&made, &model, WeightsFormat::F32);
        let scheduler = if expected.scheduler == "LCMScheduler" {
            SchedulerKind::Lcm
        } else {
            SchedulerKind::DpmSolverPlusPlus
        };
        let spreads = draw(&model, scheduler);
        let (latents, image) = (spreads.latents, spreads.image);
        assert!(
            (0.1..5.0).contains(&latents),
            "{}: {latents}",
            expected.name
        );
        assert!((0.05..5.0).contains(&image), "{}: {image}", expected.name);
        drawn += 1;
    }
    assert_eq!(drawn, 6);
}

#[test]
fn converting_a_repository_that_lacks_components_names_what_is_missing() {
    let bench = Bench::new();
    for (name, missing) in [
        (
            "PixArt-alpha/PixArt-Sigma-XL-2-512-MS",
            "model_index.json is missing",
        ),
        (
            "PixArt-alpha/PixArt-Alpha-DMD-XL-2-512x512",
            "model_index.json is missing",
        ),
        (
            "PixArt-alpha/pixart_sigma_sdxlvae_T5_diffusers",
            "transformer/config.json is missing",
        ),
    ] {
        let made = made_like(&bench, name);
        let mut command = pixart();
        command
            .args(["convert", "--output"])
            .arg(bench.path("model"))
            .arg(&made);
        outcome(&mut command).refused(3, &[missing]);
    }
}
