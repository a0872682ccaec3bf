//! The shapes of the networks, as their configurations declare them.
//!
//! Sources: transformers 5.23 `T5Config`; diffusers 0.42 `PixArtTransformer2DModel`, `AutoencoderKL`, `AutoencoderTiny`.

use serde::{Deserialize, Serialize};

use super::config_json::{ConfigError, ConfigJson};

/// No layer of a published model is near this wide; it keeps products of two far from overflow.
const MAX_WIDTH: usize = 1 << 20;
/// No published model is near this deep.
const MAX_LAYERS: usize = 1024;

/// T5 v1.1 encoder.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TextEncoderSpec {
    /// Width of the embeddings.
    pub d_model: usize,
    /// Width of one head.
    pub d_kv: usize,
    /// Width between the two halves of a feed-forward layer.
    pub d_ff: usize,
    /// Number of layers.
    pub num_layers: usize,
    /// Number of attention heads.
    pub num_heads: usize,
    /// Rows of the embedding table.
    pub vocab_size: usize,
    /// Buckets of the relative position bias.
    pub relative_attention_num_buckets: usize,
    /// Offsets from here on share the last bucket.
    pub relative_attention_max_distance: usize,
    /// Added to the variance in RMS norms.
    pub layer_norm_epsilon: f64,
}

impl TextEncoderSpec {
    /// Reads `text_encoder/config.json`.
    ///
    /// # Errors
    /// When a key is missing, out of range, or asks for another architecture than T5 v1.1.
    pub fn from_json(text: &str) -> Result<Self, ConfigError> {
        let config = ConfigJson::parse(text)?;
        config.expect_text("model_type", &["t5"])?;
        // "gated-gelu" means gelu_new, by T5Config itself.
        config.expect_text("feed_forward_proj", &["gated-gelu"])?;
        config.expect_text("dense_act_fn", &["gelu_new"])?;
        let spec = Self {
            d_model: config.size("d_model", MAX_WIDTH)?,
            d_kv: config.size("d_kv", MAX_WIDTH)?,
            d_ff: config.size("d_ff", MAX_WIDTH)?,
            num_layers: config.size("num_layers", MAX_LAYERS)?,
            num_heads: config.size("num_heads", MAX_WIDTH)?,
            vocab_size: config.size("vocab_size", 1 << 24)?,
            relative_attention_num_buckets: config
                .optional_size("relative_attention_num_buckets", 1 << 12)?
                .unwrap_or(32),
            relative_attention_max_distance: config
                .optional_size("relative_attention_max_distance", 1 << 16)?
                .unwrap_or(128),
            layer_norm_epsilon: config.positive("layer_norm_epsilon", 1e-6)?,
        };
        let buckets = spec.relative_attention_num_buckets;
        if buckets < 4 || !buckets.is_multiple_of(4) {
            return Err(ConfigError::invalid(
                "relative_attention_num_buckets",
                buckets,
                "a multiple of 4",
            ));
        }
        if spec.relative_attention_max_distance <= buckets / 4 {
            return Err(ConfigError::invalid(
                "relative_attention_max_distance",
                spec.relative_attention_max_distance,
                format!("above {}, a quarter of the buckets", buckets / 4),
            ));
        }
        Ok(spec)
    }

    /// Width of queries, keys and values, which may differ from `d_model`.
    pub fn inner_dim(&self) -> usize {
        self.num_heads * self.d_kv
    }
}

/// The diffusion transformer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TransformerSpec {
    /// Number of blocks.
    pub num_layers: usize,
    /// Number of attention heads.
    pub num_attention_heads: usize,
    /// Width of one head.
    pub attention_head_dim: usize,
    /// Channels of the latents.
    pub in_channels: usize,
    /// Channels of the prediction: twice the latents' where the variance is learned beside the noise.
    pub out_channels: usize,
    /// Latents on one side of a token.
    pub patch_size: usize,
    /// Side of the latents at the native resolution.
    pub sample_size: usize,
    /// Width of the text embeddings that come in.
    pub caption_channels: usize,
    /// Width of the text embeddings that cross-attention sees, after the caption projection.
    pub cross_attention_dim: usize,
    /// How much position embeddings are squeezed; diffusers' default is `max(sample_size / 64, 1)`.
    pub interpolation_scale: f64,
    /// Whether resolution and aspect ratio are inputs (micro-conditions).
    pub use_additional_conditions: bool,
    /// Whether queries, keys and values have biases.
    pub attention_bias: bool,
    /// Added to the variance in layer norms.
    pub norm_eps: f64,
}

impl TransformerSpec {
    /// Reads `transformer/config.json`.
    ///
    /// # Errors
    /// When a key is missing, out of range, or asks for a variant that `PixArtTransformer2DModel` does not have.
    pub fn from_json(text: &str) -> Result<Self, ConfigError> {
        let config = ConfigJson::parse(text)?;
        config.expect_text(
            "_class_name",
            &["PixArtTransformer2DModel", "Transformer2DModel"],
        )?;
        config.expect_text("norm_type", &["ada_norm_single"])?;
        config.expect_text("activation_fn", &["gelu-approximate"])?;
        config.expect_text("attention_type", &["default"])?;
        config.expect_flag("norm_elementwise_affine", false)?;
        for key in [
            "only_cross_attention",
            "double_self_attention",
            "use_linear_projection",
        ] {
            config.expect_flag(key, false)?;
        }
        let heads = config.size("num_attention_heads", MAX_WIDTH)?;
        let head_dim = config.size("attention_head_dim", MAX_WIDTH)?;
        let inner_dim = heads * head_dim;
        let in_channels = config.size("in_channels", 1024)?;
        let sample_size = config.size("sample_size", 4096)?;
        let use_additional_conditions = config
            .flag("use_additional_conditions")?
            .unwrap_or(sample_size == 128);
        let spec = Self {
            num_layers: config.size("num_layers", MAX_LAYERS)?,
            num_attention_heads: heads,
            attention_head_dim: head_dim,
            in_channels,
            out_channels: config
                .optional_size("out_channels", 1024)?
                .unwrap_or(in_channels),
            patch_size: config.size("patch_size", 64)?,
            sample_size,
            caption_channels: config.size("caption_channels", MAX_WIDTH)?,
            cross_attention_dim: config
                .optional_size("cross_attention_dim", MAX_WIDTH)?
                .unwrap_or(inner_dim),
            interpolation_scale: config.positive(
                "interpolation_scale",
                std::cmp::max(sample_size / 64, 1) as f64,
            )?,
            use_additional_conditions,
            attention_bias: config.flag("attention_bias")?.unwrap_or(true),
            norm_eps: config.positive("norm_eps", 1e-6)?,
        };
        if !inner_dim.is_multiple_of(4) {
            return Err(ConfigError::invalid(
                "attention_head_dim",
                head_dim,
                format!(
                    "such that × num_attention_heads ({heads}) is a multiple of 4, for the position embedding"
                ),
            ));
        }
        if use_additional_conditions && !inner_dim.is_multiple_of(3) {
            return Err(ConfigError::invalid(
                "attention_head_dim",
                head_dim,
                format!(
                    "such that × num_attention_heads ({heads}) is a multiple of 3, for the micro-conditions"
                ),
            ));
        }
        if spec.cross_attention_dim != inner_dim {
            return Err(ConfigError::invalid(
                "cross_attention_dim",
                spec.cross_attention_dim,
                format!("{inner_dim}, num_attention_heads × attention_head_dim"),
            ));
        }
        if sample_size < spec.patch_size {
            return Err(ConfigError::invalid(
                "patch_size",
                spec.patch_size,
                format!("at most sample_size ({sample_size})"),
            ));
        }
        Ok(spec)
    }

    /// Width of the blocks.
    pub fn inner_dim(&self) -> usize {
        self.num_attention_heads * self.attention_head_dim
    }
}

/// The decoder of the variational autoencoder.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct VaeSpec {
    /// Channels of each level, from the picture inwards.
    pub block_out_channels: Vec<usize>,
    /// Residual blocks of an encoder level; a decoder level has one more.
    pub layers_per_block: usize,
    /// Channels of the latents.
    pub latent_channels: usize,
    /// Channels of the picture: 3.
    pub out_channels: usize,
    /// Groups of the group norms.
    pub norm_num_groups: usize,
    /// What latents are divided by before decoding.
    pub scaling_factor: f64,
    /// Whether a 1×1 convolution comes first.
    pub use_post_quant_conv: bool,
    /// Whether the innermost level has attention.
    pub mid_block_add_attention: bool,
}

impl VaeSpec {
    /// Reads `vae/config.json`.
    ///
    /// # Errors
    /// When a key is missing, out of range, or asks for another architecture than `AutoencoderKL`'s.
    pub fn from_json(text: &str) -> Result<Self, ConfigError> {
        let config = ConfigJson::parse(text)?;
        config.expect_text("_class_name", &["AutoencoderKL"])?;
        config.expect_text("act_fn", &["silu", "swish"])?;
        let spec = Self {
            block_out_channels: config.sizes("block_out_channels", 8, MAX_WIDTH)?,
            layers_per_block: config.size("layers_per_block", 64)?,
            latent_channels: config.size("latent_channels", 1024)?,
            out_channels: config.size("out_channels", 16)?,
            norm_num_groups: config
                .optional_size("norm_num_groups", MAX_WIDTH)?
                .unwrap_or(32),
            scaling_factor: config.positive("scaling_factor", 0.18215)?,
            use_post_quant_conv: config.flag("use_post_quant_conv")?.unwrap_or(true),
            mid_block_add_attention: config.flag("mid_block_add_attention")?.unwrap_or(true),
        };
        if spec.out_channels != 3 {
            return Err(ConfigError::invalid(
                "out_channels",
                spec.out_channels,
                "3: red, green, blue",
            ));
        }
        for channels in &spec.block_out_channels {
            if !channels.is_multiple_of(spec.norm_num_groups) {
                return Err(ConfigError::invalid(
                    "norm_num_groups",
                    spec.norm_num_groups,
                    format!("a divisor of every entry of block_out_channels (one is {channels})"),
                ));
            }
        }
        Ok(spec)
    }

    /// Pixels on one side of a latent: every level but the last doubles.
    pub fn scale_factor(&self) -> usize {
        1 << (self.block_out_channels.len() - 1)
    }
}

/// The decoder of the tiny autoencoder (TAESD): plain convolutions for the latents of another autoencoder.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TinyVaeSpec {
    /// Channels of each level, from the latents outwards; all the same.
    pub decoder_block_out_channels: Vec<usize>,
    /// Blocks of each level.
    pub num_decoder_blocks: Vec<usize>,
    /// Channels of the latents.
    pub latent_channels: usize,
    /// Channels of the picture: 3.
    pub out_channels: usize,
    /// What latents are divided by before decoding; 1 where they are taken as the transformer leaves them.
    pub scaling_factor: f64,
}

impl TinyVaeSpec {
    /// Reads the `config.json` of an `AutoencoderTiny`.
    ///
    /// # Errors
    /// When a key is missing, out of range, or asks for what `AutoencoderTiny` cannot compute.
    pub fn from_json(text: &str) -> Result<Self, ConfigError> {
        let config = ConfigJson::parse(text)?;
        config.expect_text("_class_name", &[Self::CLASS])?;
        config.expect_text("act_fn", &["relu"])?;
        config.expect_text("upsample_fn", &["nearest"])?;
        let spec = Self {
            decoder_block_out_channels: config.sizes("decoder_block_out_channels", 8, MAX_WIDTH)?,
            num_decoder_blocks: config.sizes("num_decoder_blocks", 8, 64)?,
            latent_channels: config.size("latent_channels", 1024)?,
            out_channels: config.size("out_channels", 16)?,
            scaling_factor: config.positive("scaling_factor", 1.0)?,
        };
        let doubling = config.optional_size("upsampling_scaling_factor", 16)?;
        if let Some(factor) = doubling.filter(|&factor| factor != 2) {
            return Err(ConfigError::invalid(
                "upsampling_scaling_factor",
                factor,
                "2",
            ));
        }
        if spec.out_channels != 3 {
            return Err(ConfigError::invalid(
                "out_channels",
                spec.out_channels,
                "3: red, green, blue",
            ));
        }
        let levels = spec.decoder_block_out_channels.len();
        if spec.num_decoder_blocks.len() != levels {
            return Err(ConfigError::invalid(
                "num_decoder_blocks",
                format!("{:?}", spec.num_decoder_blocks),
                format!("{levels} numbers, as many as decoder_block_out_channels has"),
            ));
        }
        if spec
            .decoder_block_out_channels
            .iter()
            .any(|&channels| channels != spec.width())
        {
            return Err(ConfigError::invalid(
                "decoder_block_out_channels",
                format!("{:?}", spec.decoder_block_out_channels),
                "the same number for all levels: no layer in between changes it",
            ));
        }
        Ok(spec)
    }

    /// Holds that it decodes the latents of `full`.
    ///
    /// # Errors
    /// When those have other channels, or become another number of pixels.
    pub fn check_beside(&self, full: &VaeSpec) -> Result<(), ConfigError> {
        if self.latent_channels != full.latent_channels {
            return Err(ConfigError::invalid(
                "latent_channels",
                self.latent_channels,
                format!("{}, as the model's own VAE has", full.latent_channels),
            ));
        }
        if self.scale_factor() != full.scale_factor() {
            return Err(ConfigError::invalid(
                "decoder_block_out_channels",
                format!("{:?}", self.decoder_block_out_channels),
                format!(
                    "a list of {}: the model's own VAE makes {} pixels of a latent's side",
                    full.block_out_channels.len(),
                    full.scale_factor()
                ),
            ));
        }
        Ok(())
    }

    /// Whether a `config.json` is one of an `AutoencoderTiny`.
    pub fn is_declared(text: &str) -> bool {
        let class = ConfigJson::parse(text).and_then(|config| {
            let class = config.text("_class_name")?;
            Ok(class == Some(Self::CLASS))
        });
        class.unwrap_or(false)
    }

    /// What diffusers calls it.
    const CLASS: &'static str = "AutoencoderTiny";

    /// Channels of every level.
    pub fn width(&self) -> usize {
        self.decoder_block_out_channels[0]
    }

    /// Pixels on one side of a latent: every level but the last doubles.
    pub fn scale_factor(&self) -> usize {
        1 << (self.decoder_block_out_channels.len() - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    fn transformer() -> Value {
        json!({
            "_class_name": "Transformer2DModel", "num_layers": 28, "num_attention_heads": 16,
            "attention_head_dim": 72, "in_channels": 4, "out_channels": 8, "patch_size": 2,
            "sample_size": 128, "caption_channels": 4096, "cross_attention_dim": 1152,
            "norm_type": "ada_norm_single", "activation_fn": "gelu-approximate", "num_embeds_ada_norm": 1000
        })
    }

    #[test]
    fn micro_conditions_default_to_true_exactly_at_sample_size_128() {
        let native = TransformerSpec::from_json(&transformer().to_string()).unwrap();
        assert!(native.use_additional_conditions);
        assert!((native.interpolation_scale - 2.0).abs() < f64::EPSILON);
        let mut smaller = transformer();
        smaller["sample_size"] = json!(64);
        let smaller = TransformerSpec::from_json(&smaller.to_string()).unwrap();
        assert!(!smaller.use_additional_conditions);
        assert!((smaller.interpolation_scale - 1.0).abs() < f64::EPSILON);
    }

    #[test]
    fn absurd_numbers_are_refused_by_key() {
        for (key, value) in [
            ("num_layers", json!(0)),
            ("num_layers", json!(1_000_000)),
            ("num_attention_heads", json!(-3)),
            ("attention_head_dim", json!(7.5)),
            ("patch_size", json!("two")),
            ("caption_channels", json!(u64::MAX)),
            ("cross_attention_dim", json!(77)),
            ("norm_type", json!("layer_norm")),
            ("norm_eps", json!(-1e-6)),
            ("interpolation_scale", json!(0)),
        ] {
            let mut config = transformer();
            config[key] = value;
            let error = TransformerSpec::from_json(&config.to_string()).unwrap_err();
            assert!(error.to_string().contains(key), "{key}: {error}");
        }
    }

    #[test]
    fn groups_that_do_not_divide_the_channels_are_refused() {
        let error = VaeSpec::from_json(
            r#"{"block_out_channels":[16,30],"layers_per_block":1,"latent_channels":4,"out_channels":3,"norm_num_groups":8}"#,
        )
        .unwrap_err();
        assert!(error.to_string().contains("norm_num_groups"), "{error}");
    }

    #[test]
    fn a_tiny_decoder_that_diffusers_could_not_compute_is_refused_by_key() {
        let published = json!({
            "_class_name": "AutoencoderTiny", "act_fn": "relu", "upsample_fn": "nearest", "latent_channels": 4,
            "out_channels": 3, "decoder_block_out_channels": [64, 64, 64, 64], "num_decoder_blocks": [3, 3, 3, 1],
            "upsampling_scaling_factor": 2, "scaling_factor": 1.0
        });
        let spec = TinyVaeSpec::from_json(&published.to_string()).unwrap();
        assert_eq!((spec.width(), spec.scale_factor()), (64, 8));
        for (key, value) in [
            ("_class_name", json!("AutoencoderKL")),
            ("act_fn", json!("silu")),
            ("upsample_fn", json!("bilinear")),
            ("upsampling_scaling_factor", json!(4)),
            ("decoder_block_out_channels", json!([64, 32, 64, 64])),
            ("num_decoder_blocks", json!([3, 3, 3])),
            ("out_channels", json!(4)),
            ("scaling_factor", json!(0)),
        ] {
            let mut config = published.clone();
            config[key] = value;
            let error = TinyVaeSpec::from_json(&config.to_string()).unwrap_err();
            assert!(error.to_string().contains(key), "{key}: {error}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_an_error_or_a_spec_and_never_a_panic(text in "\\PC*") {
            let _ = TextEncoderSpec::from_json(&text);
            let _ = TransformerSpec::from_json(&text);
            let _ = VaeSpec::from_json(&text);
            let _ = TinyVaeSpec::from_json(&text);
        }

        #[test]
        fn any_numbers_under_known_keys_never_panic(numbers in proptest::collection::vec(any::<i64>(), 6)) {
            let config = json!({
                "num_layers": numbers[0], "num_attention_heads": numbers[1], "attention_head_dim": numbers[2],
                "in_channels": numbers[3], "patch_size": numbers[4], "sample_size": numbers[5], "caption_channels": 8,
                "d_model": numbers[0], "d_kv": numbers[1], "d_ff": numbers[2], "num_heads": numbers[3],
                "vocab_size": numbers[4], "relative_attention_num_buckets": numbers[5],
                "block_out_channels": [numbers[0], numbers[1]], "layers_per_block": numbers[2],
                "latent_channels": numbers[3], "out_channels": 3, "norm_num_groups": numbers[4],
                "decoder_block_out_channels": [numbers[0], numbers[0]], "num_decoder_blocks": [numbers[1], numbers[2]]
            }).to_string();
            let _ = TextEncoderSpec::from_json(&config);
            let _ = TransformerSpec::from_json(&config);
            let _ = VaeSpec::from_json(&config);
            let _ = TinyVaeSpec::from_json(&config);
        }
    }
}
