//! The shapes of the published checkpoints.

use crate::model::{TextEncoderSpec, TransformerSpec, VaeSpec};

/// The shapes of the three networks.
#[derive(Debug, Clone, PartialEq)]
pub struct Shapes {
    /// T5.
    pub text_encoder: TextEncoderSpec,
    /// The diffusion transformer.
    pub transformer: TransformerSpec,
    /// The autoencoder.
    pub vae: VaeSpec,
}

impl Shapes {
    /// Layers of the published transformer.
    pub const LAYERS: usize = 28;
    /// Layers of the published text encoder.
    pub const TEXT_LAYERS: usize = 24;

    /// PixArt-LCM-XL-2-1024-MS, with `layers` and `text_layers` of its [`Self::LAYERS`] and [`Self::TEXT_LAYERS`].
    pub fn alpha_lcm_xl_2_1024(layers: usize, text_layers: usize) -> Self {
        Self {
            text_encoder: TextEncoderSpec {
                d_model: 4096,
                d_kv: 64,
                d_ff: 10_240,
                num_layers: text_layers,
                num_heads: 64,
                vocab_size: 32_128,
                relative_attention_num_buckets: 32,
                relative_attention_max_distance: 128,
                layer_norm_epsilon: 1e-6,
            },
            transformer: TransformerSpec {
                num_layers: layers,
                num_attention_heads: 16,
                attention_head_dim: 72,
                in_channels: 4,
                out_channels: 8,
                patch_size: 2,
                sample_size: 128,
                caption_channels: 4096,
                cross_attention_dim: 1152,
                interpolation_scale: 2.0,
                use_additional_conditions: true,
                attention_bias: true,
                norm_eps: 1e-6,
            },
            vae: VaeSpec {
                block_out_channels: vec![128, 256, 512, 512],
                layers_per_block: 2,
                latent_channels: 4,
                out_channels: 3,
                norm_num_groups: 32,
                scaling_factor: 0.18215,
                use_post_quant_conv: true,
                mid_block_add_attention: true,
            },
        }
    }
}
