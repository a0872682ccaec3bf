//! The decoder of the variational autoencoder: latents → a picture.
//!
//! Source: diffusers 0.42 `autoencoder_kl.py`, `vae.py` (`Decoder`), `unet_2d_blocks.py`. Ports: `latents` f32
//! `[B, latent_channels, h, w]` (already divided by the scaling factor) → `sample` f32 `[B, 3, 8h, 8w]`, about -1 to 1.

use super::attention::blocked_attention;
use super::convolution::{Channels, DOUBLE, POINT, SAME, add_bias, convolution};
use super::{Built, DYNAMIC, apply};
use crate::convert::weights::{Bias, Weights, signed};
use crate::ir::{ElementType, Graph, GroupNorm, Value, Window};
use crate::model::VaeSpec;

/// Epsilon of every group norm in the decoder (`resnet_eps`).
const EPS: f64 = 1e-6;
/// Builds the decoder.
///
/// # Errors
/// When a tensor is missing or of another shape, and those of reading and writing.
pub fn vae_decoder(graph: &mut Graph, weights: &Weights<'_>, spec: &VaeSpec) -> Built<()> {
    let decoder = Decoder { weights, spec };
    let latents = graph.parameter(
        "latents",
        ElementType::F32,
        &[DYNAMIC, signed(spec.latent_channels), DYNAMIC, DYNAMIC],
    );
    let picture = decoder.build(graph, latents)?;
    graph.result("sample", picture);
    Ok(())
}

struct Decoder<'a> {
    weights: &'a Weights<'a>,
    spec: &'a VaeSpec,
}

impl Decoder<'_> {
    fn build(&self, graph: &mut Graph, latents: Value) -> Built<Value> {
        let spec = self.spec;
        let mut widths = spec.block_out_channels.iter().rev().copied();
        let innermost = widths.next().expect("parsed as a list of at least one");
        let mut x = latents;
        if spec.use_post_quant_conv {
            let channels = Channels {
                from: spec.latent_channels,
                to: spec.latent_channels,
            };
            x = self.convolution(graph, "post_quant_conv", x, channels, POINT)?;
        }
        let channels = Channels {
            from: spec.latent_channels,
            to: innermost,
        };
        x = self.convolution(graph, "decoder.conv_in", x, channels, SAME)?;

        x = graph.scoped("mid_block", |graph| self.mid_block(graph, x, innermost))?;

        let mut from = innermost;
        for (level, to) in spec.block_out_channels.iter().rev().copied().enumerate() {
            x = graph.scoped(format!("up_blocks.{level}"), |graph| {
                self.up_block(graph, level, x, Channels { from, to })
            })?;
            from = to;
        }

        x = self.norm(graph, "decoder.conv_norm_out", x, from)?;
        x = graph.silu(x);
        let channels = Channels {
            from,
            to: spec.out_channels,
        };
        self.convolution(graph, "decoder.conv_out", x, channels, SAME)
    }

    fn mid_block(&self, graph: &mut Graph, x: Value, width: usize) -> Built<Value> {
        let channels = Channels {
            from: width,
            to: width,
        };
        let mut x = self.resnet(graph, "decoder.mid_block.resnets.0", x, channels)?;
        if self.spec.mid_block_add_attention {
            x = self.attention(graph, "decoder.mid_block.attentions.0", x, width)?;
        }
        self.resnet(graph, "decoder.mid_block.resnets.1", x, channels)
    }

    fn up_block(
        &self,
        graph: &mut Graph,
        level: usize,
        mut x: Value,
        channels: Channels,
    ) -> Built<Value> {
        let prefix = format!("decoder.up_blocks.{level}");
        for resnet in 0..=self.spec.layers_per_block {
            let from = if resnet == 0 {
                channels.from
            } else {
                channels.to
            };
            let channels = Channels {
                from,
                to: channels.to,
            };
            x = self.resnet(graph, &format!("{prefix}.resnets.{resnet}"), x, channels)?;
        }
        if level + 1 < self.spec.block_out_channels.len() {
            x = self.upsample(
                graph,
                &format!("{prefix}.upsamplers.0.conv"),
                x,
                channels.to,
            )?;
        }
        Ok(x)
    }

    /// Doubles height and width by repeating pixels, then a 3×3 convolution, folded into one (`Upsample2D`).
    fn upsample(&self, graph: &mut Graph, prefix: &str, x: Value, width: usize) -> Built<Value> {
        let kernel = self
            .weights
            .upsampling_kernel(graph, &format!("{prefix}.weight"), width)?;
        let doubled = graph.convolution_transposed(x, kernel, DOUBLE);
        add_bias(graph, self.weights, prefix, doubled, width)
    }

    /// Norm, `SiLU`, convolution, twice, beside a shortcut (`ResnetBlock2D` without time embedding).
    fn resnet(
        &self,
        graph: &mut Graph,
        prefix: &str,
        x: Value,
        channels: Channels,
    ) -> Built<Value> {
        let Channels { from, to } = channels;
        let mut hidden = self.norm(graph, &format!("{prefix}.norm1"), x, from)?;
        hidden = graph.silu(hidden);
        hidden = self.convolution(graph, &format!("{prefix}.conv1"), hidden, channels, SAME)?;
        hidden = self.norm(graph, &format!("{prefix}.norm2"), hidden, to)?;
        hidden = graph.silu(hidden);
        hidden = self.convolution(
            graph,
            &format!("{prefix}.conv2"),
            hidden,
            Channels { from: to, to },
            SAME,
        )?;
        let shortcut = if from == to {
            x
        } else {
            self.convolution(
                graph,
                &format!("{prefix}.conv_shortcut"),
                x,
                channels,
                POINT,
            )?
        };
        Ok(graph.add(shortcut, hidden))
    }

    /// One-head self-attention over all pixels of the innermost level.
    fn attention(&self, graph: &mut Graph, prefix: &str, x: Value, width: usize) -> Built<Value> {
        // diffusers renamed these layers in 2023 and still reads the old names.
        let name = |new: &str, old: &str| {
            let [new, old] = [new, old].map(|part| format!("{prefix}.{part}"));
            if self.weights.source().has(&format!("{old}.weight")) {
                old
            } else {
                new
            }
        };
        let shape = graph.shape_of(x);
        let normed = self.norm(graph, &format!("{prefix}.group_norm"), x, width)?;
        let tokens = graph.reshape(normed, &[0, 0, -1])?;
        let tokens = graph.transpose(tokens, &[0, 2, 1])?;
        let names = [
            name("to_q", "query"),
            name("to_k", "key"),
            name("to_v", "value"),
        ];
        let qkv = self
            .weights
            .fused_linear(graph, &names, [width, width], Bias::Added)?;
        let qkv = apply(graph, qkv, tokens);
        let parts = graph.split(qkv, 2, 3)?;
        let scale = 1.0 / (width as f32).sqrt();
        let attended = blocked_attention(graph, [parts[0], parts[1], parts[2]], scale)?;
        let output = self
            .weights
            .linear(graph, &name("to_out.0", "proj_attn"), [width, width])?;
        let attended = apply(graph, output, attended);
        let attended = graph.transpose(attended, &[0, 2, 1])?;
        let attended = graph.reshape_to(attended, shape);
        Ok(graph.add(x, attended))
    }

    fn norm(&self, graph: &mut Graph, prefix: &str, x: Value, width: usize) -> Built<Value> {
        let scale = self
            .weights
            .plain(graph, &format!("{prefix}.weight"), &[width])?;
        let shift = self
            .weights
            .plain(graph, &format!("{prefix}.bias"), &[width])?;
        let norm = GroupNorm {
            scale,
            shift,
            groups: self.spec.norm_num_groups,
            eps: EPS,
        };
        Ok(graph.group_norm(x, norm))
    }

    fn convolution(
        &self,
        graph: &mut Graph,
        prefix: &str,
        x: Value,
        channels: Channels,
        window: Window,
    ) -> Built<Value> {
        convolution(graph, self.weights, prefix, x, channels, window)
    }
}
