//! FLOPs of each stage, and what they cost beside each other, from the shapes of the networks alone.
//!
//! Counted is what the published architecture computes in matrix products and convolutions, a multiplication and an addition
//! as two; norms, activations and softmax are left out (below 1 % of the time's arithmetic). An implementation that gets by
//! with less (padding that is not computed, an upsampling folded into its convolution) has the same FLOPs in less time, so
//! that FLOP/s of two implementations compare as their times do.
//!
//! Legend: `d` width, `T` text tokens that a network is given, `L` image tokens, `P` pixels of a level.

use super::{TextEncoderSpec, TinyVaeSpec, TransformerSpec, VaeSpec};
use crate::domain::{Decoder, ImageSize};

/// Width of the sinusoidal embedding of a timestep or a size (diffusers 0.42 `embeddings.py`, `num_channels=256`).
const SINUSOIDAL: u64 = 256;

/// FLOPs of other matrix products that take as long as one of self-attention: 1.8 on two cores of an AMD Zen 5 (published shapes,
/// 1024×1024, OpenVINO 2026.4.1), 2.1 on two of an Intel Xeon with AMX.
const ATTENTION_COST: f64 = 2.0;

/// The shapes of a model's networks.
#[derive(Debug, Clone, PartialEq)]
pub struct ModelShapes {
    /// T5.
    pub text_encoder: TextEncoderSpec,
    /// The diffusion transformer.
    pub transformer: TransformerSpec,
    /// The VAE's decoder.
    pub vae: VaeSpec,
    /// The tiny autoencoder's decoder, where there is one.
    pub tiny_vae: Option<TinyVaeSpec>,
}

/// FLOPs of one picture, by stage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StageFlops {
    /// The text encoder, all prompts.
    pub text_encode: u64,
    /// One call of the transformer, both halves of guidance.
    pub step: u64,
    /// The decoder.
    pub vae_decode: u64,
}

impl ModelShapes {
    /// FLOPs of a picture of the drawn `size` from prompts of these numbers of tokens: one, two while guidance is active.
    pub fn flops(&self, size: ImageSize, tokens: &[usize], decoder: Decoder) -> StageFlops {
        let longest = tokens.iter().copied().max().unwrap_or(0);
        StageFlops {
            text_encode: tokens.iter().map(|&tokens| self.text_flops(tokens)).sum(),
            step: tokens.len() as u64 * self.step_flops(size, longest),
            vae_decode: match (decoder, &self.tiny_vae) {
                (Decoder::Tiny, Some(tiny)) => tiny_flops(tiny, size),
                _ => self.vae_flops(size),
            },
        }
    }

    /// What one sample costs in one call of the transformer, in FLOPs of matrix products: its self-attention counts [`ATTENTION_COST`]
    /// times. Text is left out: it hardly counts, and is not known everywhere.
    pub fn pass_cost(&self, size: ImageSize) -> f64 {
        let attention = self.self_attention_flops(size) as f64;
        self.step_flops(size, 0) as f64 + (ATTENTION_COST - 1.0) * attention
    }

    /// What decoding costs in the same unit; by the full decoder where there is no tiny one.
    pub fn decode_cost(&self, size: ImageSize, decoder: Decoder) -> f64 {
        match (decoder, &self.tiny_vae) {
            (Decoder::Tiny, Some(tiny)) => tiny_flops(tiny, size) as f64,
            _ => self.vae_flops(size) as f64,
        }
    }

    /// The self-attention of one sample in one call of the transformer, scores and values alone: `4·L²·d` a block.
    pub fn self_attention_flops(&self, size: ImageSize) -> u64 {
        let l = self.image_tokens(size);
        let width = self.transformer.inner_dim() as u64;
        self.transformer.num_layers as u64 * 4 * l * l * width
    }

    pub(super) fn image_tokens(&self, size: ImageSize) -> u64 {
        let token_px = (self.vae.scale_factor() * self.transformer.patch_size) as u64;
        u64::from(size.width_px()) / token_px * (u64::from(size.height_px()) / token_px)
    }

    /// Each layer: q, k, v, o `8·T·d·inner`; scores and values `4·T²·inner`; gated feed-forward `6·T·d·d_ff`.
    fn text_flops(&self, tokens: usize) -> u64 {
        let spec = &self.text_encoder;
        let (t, d) = (tokens as u64, spec.d_model as u64);
        let (inner, d_ff) = (spec.inner_dim() as u64, spec.d_ff as u64);
        let layer = 8 * t * d * inner + 4 * t * t * inner + 6 * t * d * d_ff;
        spec.num_layers as u64 * layer
    }

    /// One sample. Each block: self-attention `8·L·d² + 4·L²·d`; cross-attention `4·L·d² + 4·T·d² + 4·L·T·d`; feed-forward
    /// of four times the width `16·L·d²`. Around them: patches, caption projection, timestep and micro-conditions, output.
    fn step_flops(&self, size: ImageSize, tokens: usize) -> u64 {
        let spec = &self.transformer;
        let l = self.image_tokens(size);
        let (t, d) = (tokens as u64, spec.inner_dim() as u64);
        let own = 8 * l * d * d + 4 * l * l * d;
        let cross = 4 * l * d * d + 4 * t * d * d + 4 * l * t * d;
        let feed_forward = 16 * l * d * d;
        let blocks = spec.num_layers as u64 * (own + cross + feed_forward);

        let patch = (spec.patch_size * spec.patch_size) as u64;
        let ends = 2 * l * d * patch * (spec.in_channels + spec.out_channels) as u64;
        let caption = 2 * t * (spec.caption_channels as u64 * d + d * d);
        let mut conditions = 2 * (SINUSOIDAL * d + d * d) + 12 * d * d;
        if spec.use_additional_conditions {
            // Height, width and aspect ratio, each a third of the width.
            let third = d / 3;
            conditions += 3 * 2 * (SINUSOIDAL * third + third * third);
        }
        blocks + ends + caption + conditions
    }

    /// Convolutions `2·k²·from·to·P` of every level, and the attention of the innermost one: `8·P·d² + 4·P²·d`. Doubling
    /// counts as nearest neighbours and a 3×3 convolution of the doubled picture, as published.
    fn vae_flops(&self, size: ImageSize) -> u64 {
        let spec = &self.vae;
        let factor = spec.scale_factor() as u64;
        let mut pixels =
            (u64::from(size.width_px()) / factor) * (u64::from(size.height_px()) / factor);
        let innermost = *spec
            .block_out_channels
            .last()
            .expect("parsed as a list of at least one") as u64;
        let latents = spec.latent_channels as u64;
        let mut flops = 0;
        if spec.use_post_quant_conv {
            flops += convolution(1, latents, latents, pixels);
        }
        flops += convolution(3, latents, innermost, pixels);
        flops += 2 * resnet(innermost, innermost, pixels);
        if spec.mid_block_add_attention {
            flops += 8 * pixels * innermost * innermost + 4 * pixels * pixels * innermost;
        }
        let mut from = innermost;
        let levels = spec.block_out_channels.len();
        for (level, &to) in spec.block_out_channels.iter().rev().enumerate() {
            let to = to as u64;
            flops += resnet(from, to, pixels);
            flops += spec.layers_per_block as u64 * resnet(to, to, pixels);
            if level + 1 < levels {
                pixels *= 4;
                flops += convolution(3, to, to, pixels);
            }
            from = to;
        }
        flops + convolution(3, from, spec.out_channels as u64, pixels)
    }
}

fn convolution(side: u64, from: u64, to: u64, pixels: u64) -> u64 {
    2 * side * side * from * to * pixels
}

/// Two 3×3 convolutions, and a 1×1 beside them where the width changes.
fn resnet(from: u64, to: u64, pixels: u64) -> u64 {
    let shortcut = if from == to {
        0
    } else {
        convolution(1, from, to, pixels)
    };
    convolution(3, from, to, pixels) + convolution(3, to, to, pixels) + shortcut
}

/// Convolutions of every level, with the doubling as in the full decoder.
fn tiny_flops(spec: &TinyVaeSpec, size: ImageSize) -> u64 {
    let factor = spec.scale_factor() as u64;
    let mut pixels = (u64::from(size.width_px()) / factor) * (u64::from(size.height_px()) / factor);
    let width = spec.width() as u64;
    let mut flops = convolution(3, spec.latent_channels as u64, width, pixels);
    let levels = spec.num_decoder_blocks.len();
    for (level, &blocks) in spec.num_decoder_blocks.iter().enumerate() {
        flops += 3 * blocks as u64 * convolution(3, width, width, pixels);
        if level + 1 < levels {
            pixels *= 4;
            flops += convolution(3, width, width, pixels);
        }
    }
    flops + convolution(3, width, spec.out_channels as u64, pixels)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn published() -> ModelShapes {
        ModelShapes {
            text_encoder: TextEncoderSpec {
                d_model: 4096,
                d_kv: 64,
                d_ff: 10240,
                num_layers: 24,
                num_heads: 64,
                vocab_size: 32128,
                relative_attention_num_buckets: 32,
                relative_attention_max_distance: 128,
                layer_norm_epsilon: 1e-6,
            },
            transformer: TransformerSpec {
                num_layers: 28,
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
            tiny_vae: Some(TinyVaeSpec {
                decoder_block_out_channels: vec![64; 4],
                num_decoder_blocks: vec![3, 3, 3, 1],
                latent_channels: 4,
                out_channels: 3,
                scaling_factor: 1.0,
            }),
        }
    }

    fn tera(flops: u64) -> f64 {
        flops as f64 / 1e12
    }

    /// Figures of a profiler that counted the traced networks: transformer 26.0 T in 4 steps, VAE 10.5 T, T5 1.1 T.
    #[test]
    fn the_published_model_has_the_flops_that_a_profiler_counted() {
        let flops = published().flops(ImageSize::new(1024, 1024).unwrap(), &[120], Decoder::Full);
        assert!((tera(4 * flops.step) - 26.0).abs() < 0.15, "{flops:?}");
        assert!((tera(flops.vae_decode) - 10.5).abs() < 0.15, "{flops:?}");
        assert!((tera(flops.text_encode) - 1.1).abs() < 0.05, "{flops:?}");
    }

    /// torch's own counter, of diffusers' `AutoencoderTiny` with TAESD's configuration.
    #[test]
    fn the_tiny_decoder_has_the_flops_that_torch_counts() {
        let size = ImageSize::new(1024, 1024).unwrap();
        let flops = published().flops(size, &[120], Decoder::Tiny);
        assert_eq!(flops.vae_decode, 565_400_567_808);
        assert_eq!(
            flops.step,
            published().flops(size, &[120], Decoder::Full).step
        );
    }

    #[test]
    fn guidance_doubles_the_step_and_adds_the_negative_prompts_text() {
        let shapes = published();
        let size = ImageSize::new(512, 768).unwrap();
        let one = shapes.flops(size, &[16], Decoder::Full);
        let two = shapes.flops(size, &[16, 16], Decoder::Full);
        assert_eq!(two.step, 2 * one.step);
        assert_eq!(two.text_encode, 2 * one.text_encode);
        assert_eq!(two.vae_decode, one.vae_decode);
    }

    #[test]
    fn portrait_and_landscape_are_the_same_work() {
        let shapes = published();
        let upright = shapes.flops(ImageSize::new(512, 768).unwrap(), &[16], Decoder::Full);
        let lying = shapes.flops(ImageSize::new(768, 512).unwrap(), &[16], Decoder::Full);
        assert_eq!(upright, lying);
    }
}
