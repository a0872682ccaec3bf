//! The small pages of a diffusers directory, with the keys that the published PixArt-LCM-XL-2-1024-MS has.

use serde_json::{Value, json};

use super::{Shapes, Storage};

/// All pages but the index of the shards, by their path in the directory.
pub(super) fn all(shapes: &Shapes, storage: Storage) -> Vec<(String, Vec<u8>)> {
    [
        ("model_index.json", model_index()),
        ("scheduler/scheduler_config.json", scheduler()),
        ("text_encoder/config.json", text_encoder(shapes, storage)),
        ("tokenizer/special_tokens_map.json", special_tokens()),
        ("tokenizer/tokenizer_config.json", tokenizer()),
        ("transformer/config.json", transformer(shapes)),
        ("vae/config.json", vae(shapes)),
    ]
    .into_iter()
    .map(|(name, page)| (name.to_owned(), bytes(&page)))
    .collect()
}

/// A page as a file.
pub(super) fn bytes(page: &Value) -> Vec<u8> {
    let mut text = serde_json::to_vec_pretty(page).expect("a page is plain data");
    text.push(b'\n');
    text
}

fn model_index() -> Value {
    json!({
        "_class_name": "PixArtAlphaPipeline",
        "_diffusers_version": "0.42.1",
        "scheduler": ["diffusers", "LCMScheduler"],
        "text_encoder": ["transformers", "T5EncoderModel"],
        "tokenizer": ["transformers", "T5Tokenizer"],
        "transformer": ["diffusers", "PixArtTransformer2DModel"],
        "vae": ["diffusers", "AutoencoderKL"],
    })
}

fn scheduler() -> Value {
    json!({
        "_class_name": "LCMScheduler",
        "_diffusers_version": "0.42.1",
        "beta_end": 0.02,
        "beta_schedule": "linear",
        "beta_start": 0.0001,
        "clip_sample": false,
        "clip_sample_range": 1.0,
        "dynamic_thresholding_ratio": 0.995,
        "num_train_timesteps": 1000,
        "original_inference_steps": 50,
        "prediction_type": "epsilon",
        "rescale_betas_zero_snr": false,
        "sample_max_value": 1.0,
        "set_alpha_to_one": true,
        "steps_offset": 0,
        "thresholding": false,
        "timestep_scaling": 10.0,
        "timestep_spacing": "leading",
        "trained_betas": null,
    })
}

fn text_encoder(shapes: &Shapes, storage: Storage) -> Value {
    let spec = &shapes.text_encoder;
    json!({
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
        "use_cache": true,
        "vocab_size": spec.vocab_size,
    })
}

fn transformer(shapes: &Shapes) -> Value {
    let spec = &shapes.transformer;
    json!({
        "_class_name": "PixArtTransformer2DModel",
        "_diffusers_version": "0.42.1",
        "activation_fn": "gelu-approximate",
        "attention_bias": spec.attention_bias,
        "attention_head_dim": spec.attention_head_dim,
        "attention_type": "default",
        "caption_channels": spec.caption_channels,
        "cross_attention_dim": spec.cross_attention_dim,
        "dropout": 0.0,
        "in_channels": spec.in_channels,
        "interpolation_scale": spec.interpolation_scale,
        "norm_elementwise_affine": false,
        "norm_eps": spec.norm_eps,
        "norm_num_groups": 32,
        "norm_type": "ada_norm_single",
        "num_attention_heads": spec.num_attention_heads,
        "num_embeds_ada_norm": 1000,
        "num_layers": spec.num_layers,
        "out_channels": spec.out_channels,
        "patch_size": spec.patch_size,
        "sample_size": spec.sample_size,
        "upcast_attention": false,
        "use_additional_conditions": spec.use_additional_conditions,
    })
}

fn vae(shapes: &Shapes) -> Value {
    let spec = &shapes.vae;
    let levels = spec.block_out_channels.len();
    json!({
        "_class_name": "AutoencoderKL",
        "_diffusers_version": "0.42.1",
        "act_fn": "silu",
        "block_out_channels": spec.block_out_channels,
        "down_block_types": vec!["DownEncoderBlock2D"; levels],
        "force_upcast": true,
        "in_channels": 3,
        "latent_channels": spec.latent_channels,
        "layers_per_block": spec.layers_per_block,
        "mid_block_add_attention": spec.mid_block_add_attention,
        "norm_num_groups": spec.norm_num_groups,
        "out_channels": spec.out_channels,
        "sample_size": 512,
        "scaling_factor": spec.scaling_factor,
        "up_block_types": vec!["UpDecoderBlock2D"; levels],
        "use_post_quant_conv": spec.use_post_quant_conv,
        "use_quant_conv": true,
    })
}

fn special_tokens() -> Value {
    json!({"eos_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>"})
}

fn tokenizer() -> Value {
    json!({
        "clean_up_tokenization_spaces": true,
        "eos_token": "</s>",
        "extra_ids": 100,
        "legacy": true,
        "model_max_length": 512,
        "pad_token": "<pad>",
        "sp_model_kwargs": {},
        "tokenizer_class": "T5Tokenizer",
        "unk_token": "<unk>",
    })
}
