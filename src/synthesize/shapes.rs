//! The shapes of the published networks, whole or smaller.

use super::Published;
use super::published::Transformer;
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
    /// Layers of the published transformers.
    pub const LAYERS: usize = 28;
    /// Layers of the published text encoder.
    pub const TEXT_LAYERS: usize = 24;
    /// Width of the published transformers.
    pub const WIDTH: usize = 1152;
    /// Widths are multiples of it: the first layer's sixteen inputs, each with two signs, and three micro-conditions.
    pub const WIDTH_STEP: usize = 96;

    /// What `published` has; those of a component that it lacks are never written.
    pub fn of(published: &Published) -> Self {
        let transformer = published.transformer;
        Self {
            text_encoder: TextEncoderSpec {
                d_model: 4096,
                d_kv: 64,
                d_ff: 10_240,
                num_layers: Self::TEXT_LAYERS,
                num_heads: 64,
                vocab_size: 32_128,
                relative_attention_num_buckets: 32,
                relative_attention_max_distance: 128,
                layer_norm_epsilon: 1e-6,
            },
            transformer: TransformerSpec {
                num_layers: Self::LAYERS,
                num_attention_heads: 16,
                attention_head_dim: 72,
                in_channels: 4,
                out_channels: 8,
                patch_size: 2,
                sample_size: transformer.map_or(128, |own| own.sample_size),
                caption_channels: 4096,
                cross_attention_dim: Self::WIDTH,
                interpolation_scale: transformer.map_or(2.0, Transformer::interpolation_scale),
                use_additional_conditions: transformer
                    .is_some_and(Transformer::use_additional_conditions),
                attention_bias: true,
                norm_eps: 1e-6,
            },
            vae: VaeSpec {
                block_out_channels: vec![128, 256, 512, 512],
                layers_per_block: 2,
                latent_channels: 4,
                out_channels: 3,
                norm_num_groups: 32,
                scaling_factor: published.vae.map_or(0.18215, |own| own.scaling_factor),
                use_post_quant_conv: true,
                mid_block_add_attention: true,
            },
        }
    }

    /// With so many blocks of the transformer and layers of the text encoder; the others' weights stay as they are.
    #[must_use]
    pub fn with_layers(mut self, layers: usize, text_layers: usize) -> Self {
        self.transformer.num_layers = layers;
        self.text_encoder.num_layers = text_layers;
        self
    }

    /// All three networks narrower, by what the transformer's `width` (a multiple of [`Self::WIDTH_STEP`]) is of
    /// [`Self::WIDTH`], and with the smallest vocabulary; [`Self::WIDTH`] itself changes nothing.
    #[must_use]
    pub fn with_width(mut self, width: usize) -> Self {
        if width == Self::WIDTH {
            return self;
        }
        let narrowed = |full: usize, unit: usize| {
            let units = (full * width + Self::WIDTH * unit / 2) / (Self::WIDTH * unit);
            unit * units.max(1)
        };
        let text_encoder = &mut self.text_encoder;
        text_encoder.d_model = narrowed(4096, text_encoder.d_kv);
        text_encoder.num_heads = text_encoder.d_model / text_encoder.d_kv;
        text_encoder.d_ff = text_encoder.d_model * 5 / 2;
        text_encoder.vocab_size = 640;
        let transformer = &mut self.transformer;
        transformer.attention_head_dim = 24;
        transformer.num_attention_heads = width / 24;
        transformer.cross_attention_dim = width;
        transformer.caption_channels = text_encoder.d_model;
        let first = narrowed(self.vae.block_out_channels[0], self.vae.norm_num_groups);
        self.vae.block_out_channels = vec![first, 2 * first, 4 * first, 4 * first];
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn narrow_networks_keep_their_proportions_and_can_be_computed() {
        for published in Published::ALL {
            let full = Shapes::of(published);
            assert_eq!(full.clone().with_width(Shapes::WIDTH), full);
            for width in (Shapes::WIDTH_STEP..Shapes::WIDTH).step_by(Shapes::WIDTH_STEP) {
                let narrow = full.clone().with_width(width);
                assert_eq!(narrow.transformer.inner_dim(), width);
                assert_eq!(
                    narrow.text_encoder.inner_dim(),
                    narrow.transformer.caption_channels
                );
                assert!(narrow.text_encoder.d_model < 4096, "{width}");
                for channels in narrow.vae.block_out_channels {
                    assert!(channels.is_multiple_of(32), "{width}: {channels}");
                }
            }
        }
    }
}
