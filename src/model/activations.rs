//! What the networks hold while they draw one image, from their shapes alone.
//!
//! The formulas are of what grows: levels of a decoder, scores of its attention, tokens. The factors before them were measured on OpenVINO
//! 2026.4.1's CPU plugin (Intel Xeon with AMX, two threads), networks of free sizes, as anonymous memory at the peak above the loaded model;
//! what came out is in `docs/adr/0020-memory-is-priced-at-the-door.md`. A network keeps what its largest image took.
//!
//! Legend: `d` width of the transformer, `L` image tokens, `P` latents of the image.

use super::ModelShapes;
use crate::domain::{Decoder, ImageSize};

/// Values of the transformer that are held for each token and unit of its width: the feed-forward's four, the residual, queries, keys and
/// values, and what the plugin keeps of them.
const TRANSFORMER_COPIES: u64 = 22;
/// Tensors as large as the largest one of a decoder that are held at once.
const DECODER_COPIES: u64 = 5;
/// The decoded image in f32, in the network and copied out of it.
const DECODED_BYTES_PER_PIXEL: u64 = 2 * 3 * 4;

/// Bytes of one value of the networks' arithmetic, by the device's word for it.
pub fn value_bytes(precision: &str) -> u64 {
    match precision.to_ascii_lowercase().as_str() {
        "bf16" | "f16" => 2,
        _ => 4,
    }
}

impl ModelShapes {
    /// Bytes that the transformer holds for an image of `size`: `batch` is 2 while guidance is active; for `value_bytes` see
    /// [`value_bytes`].
    pub fn transformer_bytes(&self, size: ImageSize, batch: usize, value_bytes: u64) -> u64 {
        let width = self.transformer.inner_dim() as u64;
        let tokens = batch as u64 * self.image_tokens(size);
        with_margin(TRANSFORMER_COPIES * tokens * width * value_bytes)
    }

    /// Bytes that a decoder holds for an image of `size`, the decoded image among them.
    pub fn decoder_bytes(&self, size: ImageSize, decoder: Decoder, value_bytes: u64) -> u64 {
        let pixels = u64::from(size.width_px()) * u64::from(size.height_px());
        let network = match (decoder, &self.tiny_vae) {
            // Its levels have one width, so the outermost is the largest.
            (Decoder::Tiny, Some(tiny)) => {
                DECODER_COPIES * pixels * tiny.width() as u64 * value_bytes
            }
            _ => self.full_decoder_bytes(pixels, value_bytes),
        };
        with_margin(network + DECODED_BYTES_PER_PIXEL * pixels)
    }

    fn full_decoder_bytes(&self, pixels: u64, value_bytes: u64) -> u64 {
        let spec = &self.vae;
        // A level begins with what the one before it has doubled, at that one's width. `widths` is outermost first.
        let widths = &spec.block_out_channels;
        let largest = (0..widths.len())
            .map(|level| {
                let from = widths.get(level + 1).unwrap_or(&widths[level]);
                let pixels = pixels >> (2 * level);
                pixels * (*from).max(widths[level]) as u64
            })
            .max()
            .unwrap_or(0);
        let convolutions = DECODER_COPIES * largest * value_bytes;
        if !spec.mid_block_add_attention {
            return convolutions;
        }
        let factor = spec.scale_factor() as u64;
        let latents = pixels / (factor * factor);
        // The attention is written out in 32 blocks of queries (docs/adr/0003). Of its scores the plugin holds as much as one matrix of them.
        convolutions + value_bytes * latents * latents
    }
}

/// An eighth more than was measured.
fn with_margin(bytes: u64) -> u64 {
    bytes / 8 * 9
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{TinyVaeSpec, TransformerSpec, VaeSpec, published};

    const MIB: f64 = 1024.0 * 1024.0;

    fn shapes(width: usize, channels: [usize; 4], tiny: usize) -> ModelShapes {
        let published = published();
        ModelShapes {
            transformer: TransformerSpec {
                num_attention_heads: 4,
                attention_head_dim: width / 4,
                ..published.transformer
            },
            vae: VaeSpec {
                block_out_channels: channels.to_vec(),
                ..published.vae
            },
            tiny_vae: Some(TinyVaeSpec {
                decoder_block_out_channels: vec![tiny; 4],
                num_decoder_blocks: vec![3, 3, 2, 1],
                latent_channels: 4,
                out_channels: 3,
                scaling_factor: 1.0,
            }),
            text_encoder: published.text_encoder,
        }
    }

    /// Anonymous memory at the peak, less that of a small image, in MiB; see the module for where.
    #[test]
    fn what_was_measured_is_priced_a_little_too_high_and_never_too_low() {
        let sketchbook = || shapes(192, [16, 32, 64, 64], 16);
        let full = |side, batch, value_bytes, mib| (side, batch, Decoder::Full, value_bytes, mib);
        let tiny = |side, batch, mib| (side, batch, Decoder::Tiny, 2, mib);
        let cases = [
            (
                sketchbook(),
                &[
                    full(512, 1, 2, 121.0),
                    full(1024, 1, 2, 848.0),
                    full(1024, 2, 2, 873.0),
                    full(1408, 1, 2, 2471.0),
                    full(2048, 1, 2, 9553.0),
                    full(1024, 1, 4, 1632.0),
                    full(1536, 1, 4, 6538.0),
                    tiny(1024, 1, 163.0),
                    tiny(1024, 2, 195.0),
                    tiny(2048, 1, 689.0),
                ][..],
            ),
            // By the difference of two sizes, as the small image was not drawn.
            (
                shapes(288, [32, 64, 128, 128], 16),
                &[full(1280, 1, 2, 1971.0)],
            ),
            (
                shapes(1152, [128, 256, 512, 512], 64),
                &[full(1280, 1, 2, 4361.0)],
            ),
        ];
        for (shapes, measured) in cases {
            for &(side, batch, decoder, value_bytes, mib) in measured {
                let size = ImageSize::new(side, side).unwrap();
                let price = shapes.transformer_bytes(size, batch, value_bytes)
                    + shapes.decoder_bytes(size, decoder, value_bytes);
                let ratio = price as f64 / MIB / mib;
                assert!(
                    (1.0..1.9).contains(&ratio),
                    "{side} px, batch {batch}, {decoder:?}: {ratio:.2} of what was measured"
                );
            }
        }
    }

    #[test]
    fn narrow_arithmetic_holds_half_of_it() {
        assert_eq!([value_bytes("bf16"), value_bytes("F16")], [2, 2]);
        assert_eq!([value_bytes("f32"), value_bytes("dynamic")], [4, 4]);
    }
}
