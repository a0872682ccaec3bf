//! The tensors of the variational autoencoder, both halves, by their names in diffusers 0.42 `AutoencoderKL`.

use super::tensor::{Tensor, Tensors};
use crate::model::VaeSpec;

/// Channels of a picture.
const PICTURE: usize = 3;

/// All of them: the encoder, which converting leaves out, the decoder, and the two 1×1 convolutions between.
pub(super) fn tensors(spec: &VaeSpec) -> Vec<Tensor> {
    let mut tensors = Tensors::default();
    encoder(&mut tensors, spec);
    decoder(&mut tensors, spec);
    let latent = spec.latent_channels;
    tensors.layer("quant_conv", &[2 * latent, 2 * latent, 1, 1], 1.0);
    if spec.use_post_quant_conv {
        tensors.layer("post_quant_conv", &[latent, latent, 1, 1], 1.0);
    }
    tensors.into_vec()
}

fn encoder(tensors: &mut Tensors, spec: &VaeSpec) {
    let levels = &spec.block_out_channels;
    convolution(tensors, "encoder.conv_in", [levels[0], PICTURE]);
    let mut from = levels[0];
    for (level, &to) in levels.iter().enumerate() {
        let block = format!("encoder.down_blocks.{level}");
        resnets(tensors, &block, [from, to], spec.layers_per_block);
        if level + 1 < levels.len() {
            convolution(tensors, &format!("{block}.downsamplers.0.conv"), [to, to]);
        }
        from = to;
    }
    middle(tensors, "encoder", from, spec);
    convolution(
        tensors,
        "encoder.conv_out",
        [2 * spec.latent_channels, from],
    );
}

fn decoder(tensors: &mut Tensors, spec: &VaeSpec) {
    let levels: Vec<usize> = spec.block_out_channels.iter().rev().copied().collect();
    let mut from = levels[0];
    convolution(tensors, "decoder.conv_in", [from, spec.latent_channels]);
    middle_block(tensors, "decoder", from, spec);
    for (level, &to) in levels.iter().enumerate() {
        let block = format!("decoder.up_blocks.{level}");
        resnets(tensors, &block, [from, to], spec.layers_per_block + 1);
        if level + 1 < levels.len() {
            convolution(tensors, &format!("{block}.upsamplers.0.conv"), [to, to]);
        }
        from = to;
    }
    norm(tensors, "decoder.conv_norm_out", from);
    convolution(tensors, "decoder.conv_out", [spec.out_channels, from]);
}

/// The innermost level of the encoder, and the norm behind it.
fn middle(tensors: &mut Tensors, half: &str, width: usize, spec: &VaeSpec) {
    middle_block(tensors, half, width, spec);
    norm(tensors, &format!("{half}.conv_norm_out"), width);
}

fn middle_block(tensors: &mut Tensors, half: &str, width: usize, spec: &VaeSpec) {
    let block = format!("{half}.mid_block");
    resnets(tensors, &block, [width, width], 2);
    if spec.mid_block_add_attention {
        let attention = format!("{block}.attentions.0");
        norm(tensors, &format!("{attention}.group_norm"), width);
        for part in ["to_q", "to_k", "to_v", "to_out.0"] {
            tensors.layer(&format!("{attention}.{part}"), &[width, width], 1.0);
        }
    }
}

/// `count` residual blocks, the first of which changes the channels.
fn resnets(tensors: &mut Tensors, block: &str, [from, to]: [usize; 2], count: usize) {
    for index in 0..count {
        let from = if index == 0 { from } else { to };
        let prefix = format!("{block}.resnets.{index}");
        norm(tensors, &format!("{prefix}.norm1"), from);
        convolution(tensors, &format!("{prefix}.conv1"), [to, from]);
        norm(tensors, &format!("{prefix}.norm2"), to);
        convolution(tensors, &format!("{prefix}.conv2"), [to, to]);
        if from != to {
            let shortcut = format!("{prefix}.conv_shortcut");
            tensors.layer(&shortcut, &[to, from, 1, 1], 1.0);
        }
    }
}

/// A group norm.
fn norm(tensors: &mut Tensors, prefix: &str, width: usize) {
    tensors.norm(prefix, width);
    tensors.bias(prefix, width);
}

/// 3×3.
fn convolution(tensors: &mut Tensors, prefix: &str, [outputs, inputs]: [usize; 2]) {
    tensors.layer(prefix, &[outputs, inputs, 3, 3], 1.0);
}
