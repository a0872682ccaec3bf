//! The small pages of a repository, with the keys that its configurations had when it was saved.

use serde_json::{Map, Value, json};

use super::published::{Index, Scheduler, SchedulerClass, TextEncoder, Transformer, Vae};
use super::vocabulary::{NO_PIECES, SENTINELS};
use super::{Published, Shapes, Storage};

/// All pages but the index of the shards, by their path in the directory.
pub(super) fn all(
    published: &Published,
    shapes: &Shapes,
    storage: Storage,
) -> Vec<(String, Vec<u8>)> {
    let mut pages = Vec::new();
    let mut add = |name: &str, page: Vec<u8>| pages.push((name.to_owned(), page));
    if let Some(index) = published.index {
        add("model_index.json", bytes(&model_index(published, index)));
    }
    if let Some(own) = published.scheduler {
        add("scheduler/scheduler_config.json", scheduler(own));
    }
    if let Some(own) = published.text_encoder {
        let page = text_encoder(own, shapes, storage);
        add("text_encoder/config.json", bytes(&page));
        let vocabulary = shapes.text_encoder.vocab_size;
        for (name, page) in [
            ("tokenizer/added_tokens.json", added_tokens(vocabulary)),
            ("tokenizer/special_tokens_map.json", special_tokens()),
            ("tokenizer/tokenizer_config.json", tokenizer(vocabulary)),
        ] {
            add(name, bytes(&page));
        }
    }
    if let Some(own) = published.transformer {
        add("transformer/config.json", bytes(&transformer(own, shapes)));
    }
    if let Some(own) = published.vae {
        add("vae/config.json", bytes(&vae(own, shapes)));
    }
    pages
}

/// A page as a file.
pub(super) fn bytes(page: &Value) -> Vec<u8> {
    let mut text = serde_json::to_vec_pretty(page).expect("a page is plain data");
    text.push(b'\n');
    text
}

fn model_index(published: &Published, index: Index) -> Value {
    let scheduler = published.scheduler.map(|own| own.kind.class());
    // A pipeline that was saved without its transformer says so by two nulls.
    let transformer = published.transformer.map_or(json!([null, null]), |_| {
        json!(["diffusers", "Transformer2DModel"])
    });
    json!({
        "_class_name": index.class,
        "_diffusers_version": index.diffusers,
        "scheduler": ["diffusers", scheduler],
        "text_encoder": ["transformers", "T5EncoderModel"],
        "tokenizer": ["transformers", "T5Tokenizer"],
        "transformer": transformer,
        "vae": ["diffusers", "AutoencoderKL"],
    })
}

impl SchedulerClass {
    fn class(self) -> &'static str {
        match self {
            Self::DpmSolver | Self::DpmSolverWithFinalSigmas => "DPMSolverMultistepScheduler",
            Self::Lcm => "LCMScheduler",
            Self::Ddpm => "DDPMScheduler",
        }
    }

    /// The keys that not all schedulers have.
    fn own_keys(self) -> Value {
        let clipping = json!({
            "clip_sample": false,
            "clip_sample_range": 1.0,
            "rescale_betas_zero_snr": false,
            "timestep_spacing": "leading",
        });
        let solver = json!({
            "algorithm_type": "dpmsolver++",
            "euler_at_final": false,
            "lambda_min_clipped": MINUS_INFINITY,
            "lower_order_final": true,
            "solver_order": 2,
            "solver_type": "midpoint",
            "timestep_spacing": "linspace",
            "use_karras_sigmas": false,
            "use_lu_lambdas": false,
            "variance_type": null,
        });
        match self {
            Self::DpmSolver => solver,
            Self::DpmSolverWithFinalSigmas => with(solver, json!({"final_sigmas_type": "zero"})),
            Self::Lcm => with(
                clipping,
                json!({
                    "original_inference_steps": 50,
                    "set_alpha_to_one": true,
                    "timestep_scaling": 10.0,
                }),
            ),
            Self::Ddpm => with(clipping, json!({"variance_type": "fixed_small"})),
        }
    }
}

/// Python writes it without the quotes, which JSON has no word for.
const MINUS_INFINITY: &str = "-Infinity";

fn scheduler(own: Scheduler) -> Vec<u8> {
    let common = json!({
        "_class_name": own.kind.class(),
        "_diffusers_version": own.diffusers,
        "beta_end": 0.02,
        "beta_schedule": "linear",
        "beta_start": 0.0001,
        "dynamic_thresholding_ratio": 0.995,
        "num_train_timesteps": 1000,
        "prediction_type": "epsilon",
        "sample_max_value": 1.0,
        "steps_offset": 0,
        "thresholding": false,
        "trained_betas": null,
    });
    let page = with(common, own.kind.own_keys());
    let text = serde_json::to_string_pretty(&page).expect("a page is plain data");
    let quoted = format!("\"{MINUS_INFINITY}\"");
    (text.replace(&quoted, MINUS_INFINITY) + "\n").into_bytes()
}

/// The keys of both.
fn with(mut page: Value, more: Value) -> Value {
    if let (Value::Object(page), Value::Object(more)) = (&mut page, more) {
        page.extend(more);
    }
    page
}

fn text_encoder(own: TextEncoder, shapes: &Shapes, storage: Storage) -> Value {
    let spec = &shapes.text_encoder;
    json!({
        "_name_or_path": own.name_or_path,
        "architectures": ["T5EncoderModel"],
        "classifier_dropout": 0.0,
        "d_ff": spec.d_ff,
        "d_kv": spec.d_kv,
        "d_model": spec.d_model,
        "decoder_start_token_id": 0,
        "dense_act_fn": "gelu_new",
        "dropout_rate": 0.1,
        "eos_token_id": 1,
        "feed_forward_proj": "gated-gelu",
        "initializer_factor": 1.0,
        "is_encoder_decoder": true,
        "is_gated_act": true,
        "layer_norm_epsilon": spec.layer_norm_epsilon,
        "model_type": "t5",
        "num_decoder_layers": spec.num_layers,
        "num_heads": spec.num_heads,
        "num_layers": spec.num_layers,
        "output_past": true,
        "pad_token_id": 0,
        "relative_attention_max_distance": spec.relative_attention_max_distance,
        "relative_attention_num_buckets": spec.relative_attention_num_buckets,
        "tie_word_embeddings": false,
        "torch_dtype": storage.torch_name(),
        "transformers_version": own.transformers,
        "use_cache": true,
        "vocab_size": spec.vocab_size,
    })
}

fn transformer(own: Transformer, shapes: &Shapes) -> Value {
    let spec = &shapes.transformer;
    let mut page = json!({
        "_class_name": "Transformer2DModel",
        "_diffusers_version": own.diffusers,
        "activation_fn": "gelu-approximate",
        "attention_bias": spec.attention_bias,
        "attention_head_dim": spec.attention_head_dim,
        "attention_type": "default",
        "caption_channels": spec.caption_channels,
        "cross_attention_dim": spec.cross_attention_dim,
        "double_self_attention": false,
        "dropout": 0.0,
        "in_channels": spec.in_channels,
        "norm_elementwise_affine": false,
        "norm_eps": spec.norm_eps,
        "norm_num_groups": 32,
        "norm_type": "ada_norm_single",
        "num_attention_heads": spec.num_attention_heads,
        "num_embeds_ada_norm": 1000,
        "num_layers": spec.num_layers,
        "num_vector_embeds": null,
        "only_cross_attention": false,
        "out_channels": spec.out_channels,
        "patch_size": spec.patch_size,
        "sample_size": spec.sample_size,
        "upcast_attention": false,
        "use_linear_projection": false,
    });
    if let Some(scale) = own.interpolation_scale {
        page["interpolation_scale"] = json!(scale);
    }
    if let Some(conditions) = own.use_additional_conditions {
        page["use_additional_conditions"] = json!(conditions);
    }
    page
}

fn vae(own: Vae, shapes: &Shapes) -> Value {
    let spec = &shapes.vae;
    let levels = spec.block_out_channels.len();
    let page = json!({
        "_class_name": "AutoencoderKL",
        "_diffusers_version": own.diffusers,
        "_name_or_path": own.name_or_path,
        "act_fn": "silu",
        "block_out_channels": spec.block_out_channels,
        "down_block_types": vec!["DownEncoderBlock2D"; levels],
        "force_upcast": true,
        "in_channels": 3,
        "latent_channels": spec.latent_channels,
        "layers_per_block": spec.layers_per_block,
        "norm_num_groups": spec.norm_num_groups,
        "out_channels": spec.out_channels,
        "sample_size": own.sample_size,
        "scaling_factor": spec.scaling_factor,
        "up_block_types": vec!["UpDecoderBlock2D"; levels],
    });
    if own.latents_keys {
        with(page, json!({"latents_mean": null, "latents_std": null}))
    } else {
        page
    }
}

/// The sentinels by their ids, behind the pieces and in descending order.
fn sentinels(vocab_size: usize) -> impl Iterator<Item = (String, usize)> {
    let last = vocab_size - NO_PIECES + SENTINELS - 1;
    (0..SENTINELS).map(move |number| (sentinel(number), last - number))
}

fn sentinel(number: usize) -> String {
    format!("<extra_id_{number}>")
}

fn added_tokens(vocab_size: usize) -> Value {
    let tokens = sentinels(vocab_size).map(|(content, id)| (content, json!(id)));
    Value::Object(tokens.collect())
}

fn special_tokens() -> Value {
    let token = |content: &str| json!({"content": content, "lstrip": false, "normalized": false, "rstrip": false, "single_word": false});
    json!({
        "additional_special_tokens": (0..SENTINELS).map(sentinel).collect::<Vec<_>>(),
        "eos_token": token("</s>"),
        "pad_token": token("<pad>"),
        "unk_token": token("<unk>"),
    })
}

fn tokenizer(vocab_size: usize) -> Value {
    let own = [("<pad>", 0), ("</s>", 1), ("<unk>", 2)];
    let decoder: Map<String, Value> = own
        .into_iter()
        .map(|(content, id)| (content.to_owned(), id))
        .chain(sentinels(vocab_size))
        .map(|(content, id)| {
            let token = json!({
                "content": content, "lstrip": false, "normalized": false, "rstrip": false,
                "single_word": false, "special": true,
            });
            (id.to_string(), token)
        })
        .collect();
    json!({
        "added_tokens_decoder": decoder,
        "additional_special_tokens": (0..SENTINELS).map(sentinel).collect::<Vec<_>>(),
        "clean_up_tokenization_spaces": true,
        "eos_token": "</s>",
        "extra_ids": SENTINELS,
        "legacy": true,
        "model_max_length": 512,
        "pad_token": "<pad>",
        "sp_model_kwargs": {},
        "tokenizer_class": "T5Tokenizer",
        "unk_token": "<unk>",
    })
}
