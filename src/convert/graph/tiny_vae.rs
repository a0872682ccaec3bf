//! The decoder of the tiny autoencoder (TAESD): latents → a picture, by plain convolutions.
//!
//! Source: diffusers 0.42 `autoencoder_tiny.py`, `vae.py` (`DecoderTiny`), `unet_2d_blocks.py` (`AutoencoderTinyBlock`). Ports:
//! `latents` f32 `[B, latent_channels, h, w]` (already divided by the scaling factor) → `sample` f32 `[B, 3, 8h, 8w]`, about
//! -1 to 1. diffusers has its layers in one list, by number.

use super::convolution::{Channels, DOUBLE, SAME, convolution};
use super::{Built, DYNAMIC};
use crate::convert::ConvertError;
use crate::convert::weights::{Weights, signed};
use crate::ir::{ElementType, Graph, Value};
use crate::model::TinyVaeSpec;

/// Latents beyond this are bent back towards it.
const BEND: f32 = 3.0;

/// Builds the decoder.
///
/// # Errors
/// When a tensor is missing or of another shape, and those of reading and writing.
pub fn tiny_vae_decoder(graph: &mut Graph, weights: &Weights<'_>, spec: &TinyVaeSpec) -> Built<()> {
    let latents = graph.parameter(
        "latents",
        ElementType::F32,
        &[DYNAMIC, signed(spec.latent_channels), DYNAMIC, DYNAMIC],
    );
    let mut decoder = TinyDecoder { weights, layer: 0 };
    let picture = decoder.build(graph, latents, spec)?;
    graph.result("sample", picture);
    Ok(())
}

struct TinyDecoder<'a> {
    weights: &'a Weights<'a>,
    /// Number of the next layer in diffusers' list.
    layer: usize,
}

impl TinyDecoder<'_> {
    fn build(&mut self, graph: &mut Graph, latents: Value, spec: &TinyVaeSpec) -> Built<Value> {
        let width = spec.width();
        let same = Channels {
            from: width,
            to: width,
        };
        let mut x = bent(graph, latents)?;
        let channels = Channels {
            from: spec.latent_channels,
            to: width,
        };
        x = convolution(graph, self.weights, &self.next(), x, channels, SAME)?;
        x = graph.relu(x);
        // The activation is a layer of the list.
        self.layer += 1;

        let levels = spec.num_decoder_blocks.len();
        for (level, &blocks) in spec.num_decoder_blocks.iter().enumerate() {
            x = graph.scoped(format!("levels.{level}"), |graph| {
                let mut x = x;
                for _ in 0..blocks {
                    x = self.block(graph, x, same)?;
                }
                if level + 1 < levels {
                    return self.upsample(graph, x, width);
                }
                Ok::<_, ConvertError>(x)
            })?;
        }
        let channels = Channels {
            from: width,
            to: spec.out_channels,
        };
        x = convolution(graph, self.weights, &self.next(), x, channels, SAME)?;
        // From 0 … 1 to -1 … 1.
        let (two, one) = (graph.scalar(2.0)?, graph.scalar(1.0)?);
        let doubled = graph.multiply(x, two);
        Ok(graph.subtract(doubled, one))
    }

    /// Three convolutions beside a shortcut (`AutoencoderTinyBlock`).
    fn block(&mut self, graph: &mut Graph, x: Value, channels: Channels) -> Built<Value> {
        let prefix = self.next();
        let mut hidden = x;
        // Between them, and so between their numbers, are activations.
        for (index, number) in [0, 2, 4].into_iter().enumerate() {
            if index > 0 {
                hidden = graph.relu(hidden);
            }
            let name = format!("{prefix}.conv.{number}");
            hidden = convolution(graph, self.weights, &name, hidden, channels, SAME)?;
        }
        let sum = graph.add(hidden, x);
        Ok(graph.relu(sum))
    }

    /// Doubles height and width by repeating pixels, then a 3×3 convolution without bias, folded into one.
    fn upsample(&mut self, graph: &mut Graph, x: Value, width: usize) -> Built<Value> {
        // The doubling is a layer of the list.
        self.layer += 1;
        let name = format!("{}.weight", self.next());
        let kernel = self.weights.upsampling_kernel(graph, &name, width)?;
        Ok(graph.convolution_transposed(x, kernel, DOUBLE))
    }

    /// Prefix of the next layer's tensors.
    fn next(&mut self) -> String {
        let prefix = format!("decoder.layers.{}", self.layer);
        self.layer += 1;
        prefix
    }
}

/// `tanh(x / 3) · 3`.
fn bent(graph: &mut Graph, x: Value) -> Built<Value> {
    let bend = graph.scalar(BEND)?;
    let divided = graph.divide(x, bend);
    let bent = graph.tanh(divided);
    Ok(graph.multiply(bent, bend))
}
