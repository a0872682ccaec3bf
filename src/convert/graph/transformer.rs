//! The diffusion transformer: noisy latents, a timestep and text embeddings → predicted noise.
//!
//! Source: diffusers 0.42 `pixart_transformer_2d.py`, `embeddings.py`, `attention.py` (`ada_norm_single`). Ports:
//! `hidden_states` f32 `[B, in_channels, h, w]`, `timestep` i64 `[B]`, `encoder_hidden_states` f32
//! `[B, L, caption_channels]`, `encoder_attention_mask` f32 `[B, L]`, and with micro-conditions `resolution` f32 `[B, 2]`
//! (height, width in px) and `aspect_ratio` f32 `[B, 1]` → `noise_pred` f32 `[B, out_channels, h, w]`.

use super::attention::mask_bias;
use super::block::{Conditions, Layer, Modulation, block, modulated_norm};
use super::{Built, DYNAMIC, apply};
use crate::convert::weights::{Weights, signed};
use crate::ir::{ElementType, Graph, Value, Window};
use crate::model::TransformerSpec;

/// Bias of masked text tokens, as diffusers has it.
const CLOSED: f32 = -10_000.0;
/// Width of the sinusoids of timesteps and micro-conditions (`Timesteps(num_channels=256)`).
const SINUSOID_CHANNELS: usize = 256;
/// Longest wave of all sinusoids.
const MAX_PERIOD: f64 = 10_000.0;

/// Builds the transformer.
///
/// # Errors
/// When a tensor is missing or of another shape, and those of reading and writing.
pub fn transformer(graph: &mut Graph, weights: &Weights<'_>, spec: &TransformerSpec) -> Built<()> {
    let inner = spec.inner_dim();
    let latents = graph.parameter(
        "hidden_states",
        ElementType::F32,
        &[DYNAMIC, signed(spec.in_channels), DYNAMIC, DYNAMIC],
    );
    let timestep = graph.parameter("timestep", ElementType::I64, &[DYNAMIC]);
    let text = graph.parameter(
        "encoder_hidden_states",
        ElementType::F32,
        &[DYNAMIC, DYNAMIC, signed(spec.caption_channels)],
    );
    let text_mask = graph.parameter(
        "encoder_attention_mask",
        ElementType::F32,
        &[DYNAMIC, DYNAMIC],
    );

    let (mut hidden, grid) = graph.scoped("pos_embed", |graph| {
        patch_embed(graph, weights, spec, latents)
    })?;
    let embedded_time = graph.scoped("adaln_single", |graph| {
        time_embed(graph, weights, spec, timestep)
    })?;
    let modulation = graph.scoped("adaln_single", |graph| -> Built<Value> {
        let linear = weights.linear(graph, "adaln_single.linear", [6 * inner, inner])?;
        let activated = graph.silu(embedded_time);
        let modulation = apply(graph, linear, activated);
        Ok(graph.reshape(modulation, &[0, 6, signed(inner)])?)
    })?;
    let text = graph.scoped("caption_projection", |graph| -> Built<Value> {
        let up = weights.linear(
            graph,
            "caption_projection.linear_1",
            [inner, spec.caption_channels],
        )?;
        let projected = apply(graph, up, text);
        let projected = graph.gelu_tanh(projected);
        let down = weights.linear(graph, "caption_projection.linear_2", [inner, inner])?;
        Ok(apply(graph, down, projected))
    })?;
    let text_bias = mask_bias(graph, text_mask, CLOSED)?;

    for index in 0..spec.num_layers {
        let conditions = Conditions {
            modulation,
            text,
            text_bias,
        };
        hidden = graph.scoped(format!("transformer_blocks.{index}"), |graph| {
            block(
                graph,
                &Layer {
                    weights,
                    spec,
                    index,
                },
                hidden,
                conditions,
            )
        })?;
    }

    let prediction = graph.scoped("proj_out", |graph| {
        project_out(
            graph,
            weights,
            spec,
            Final {
                hidden,
                embedded_time,
                grid,
            },
        )
    })?;
    graph.result("noise_pred", prediction);
    Ok(())
}

/// Batch, rows and columns of tokens, each an i64 vector of length 1.
#[derive(Clone, Copy)]
struct Grid {
    batch: Value,
    rows: Value,
    columns: Value,
}

/// Latents → tokens `[B, rows · columns, inner]` with their positions added (`PatchEmbed`).
fn patch_embed(
    graph: &mut Graph,
    weights: &Weights<'_>,
    spec: &TransformerSpec,
    latents: Value,
) -> Built<(Value, Grid)> {
    let (inner, patch) = (spec.inner_dim(), spec.patch_size);
    let kernel = weights.plain(
        graph,
        "pos_embed.proj.weight",
        &[inner, spec.in_channels, patch, patch],
    )?;
    let bias = weights.plain(graph, "pos_embed.proj.bias", &[inner])?;
    let window = Window {
        stride: patch,
        padding: 0,
    };
    let patches = graph.convolution(latents, kernel, window);
    let shape = graph.shape_of(patches);
    let grid = Grid {
        batch: graph.dimension(shape, 0)?,
        rows: graph.dimension(shape, 2)?,
        columns: graph.dimension(shape, 3)?,
    };
    let tokens = graph.reshape(patches, &[0, 0, -1])?;
    let tokens = graph.transpose(tokens, &[0, 2, 1])?;
    let tokens = graph.add(tokens, bias);
    let positions = graph.precise(|graph| position_embedding(graph, spec, grid))?;
    Ok((graph.add(tokens, positions), grid))
}

/// 2-D sine-cosine position embedding `[1, rows · columns, inner]`: columns in the first half of the channels, rows in
/// the second, each half sines then cosines (`get_2d_sincos_pos_embed`, where "w goes first").
///
/// A coordinate is `i / size · base_size / interpolation_scale` with `base_size = sample_size / patch_size`, so that
/// every resolution spans the same range. diffusers computes it in f64 and rounds; here f32 is off by at most 4e-6.
fn position_embedding(graph: &mut Graph, spec: &TransformerSpec, grid: Grid) -> Built<Value> {
    let half = spec.inner_dim() / 2;
    let columns = axis_embedding(graph, spec, grid.columns)?;
    let columns = graph.unsqueeze(columns, 0)?;
    let rows = axis_embedding(graph, spec, grid.rows)?;
    let rows = graph.unsqueeze(rows, 1)?;
    let half = graph.integers(&[signed(half)])?;
    let shape = graph.concat(&[grid.rows, grid.columns, half], 0);
    let columns = graph.broadcast(columns, shape);
    let rows = graph.broadcast(rows, shape);
    let embedding = graph.concat(&[columns, rows], 2);
    Ok(graph.reshape(embedding, &[1, -1, signed(spec.inner_dim())])?)
}

/// Sines and cosines `[size, inner / 2]` of the coordinates along one axis.
fn axis_embedding(graph: &mut Graph, spec: &TransformerSpec, size: Value) -> Built<Value> {
    let base_size = (spec.sample_size / spec.patch_size) as f64;
    let indices = graph.range(size, ElementType::F32)?;
    let size = graph.convert(size, ElementType::F32);
    // Reshapes stand between the operations because they keep the mark of `precise`: a division, an unsqueeze or two
    // element-wise operations in a row would be rewritten into something that has lost it.
    let inverse = graph.reciprocal(size)?;
    let inverse = graph.reshape(inverse, &[1, 1])?;
    let indices = graph.reshape(indices, &[-1, 1])?;
    let fractions = graph.multiply(indices, inverse);
    let waves = Waves {
        count: spec.inner_dim() / 4,
        highest: base_size / spec.interpolation_scale,
    };
    let angles = waves.angles(graph, fractions)?;
    let (sines, cosines) = (graph.sin(angles), graph.cos(angles));
    Ok(graph.concat(&[sines, cosines], 1))
}

/// Sinusoids of falling frequency.
struct Waves {
    /// How many.
    count: usize,
    /// The highest frequency, in radians.
    highest: f64,
}

impl Waves {
    /// `values · highest · 10000^(-i / count)` for each wave i; `values` is a column.
    fn angles(&self, graph: &mut Graph, values: Value) -> Built<Value> {
        #[expect(
            clippy::cast_possible_truncation,
            reason = "the graph's sinusoids are f32"
        )]
        let frequencies: Vec<f32> = (0..self.count)
            .map(|i| (self.highest * MAX_PERIOD.powf(-(i as f64) / self.count as f64)) as f32)
            .collect();
        let frequencies = graph.floats(&[1, self.count], &frequencies)?;
        Ok(graph.multiply(values, frequencies))
    }
}

/// Timestep, and with micro-conditions resolution and aspect ratio → `[B, inner]`
/// (`PixArtAlphaCombinedTimestepSizeEmbeddings`).
fn time_embed(
    graph: &mut Graph,
    weights: &Weights<'_>,
    spec: &TransformerSpec,
    timestep: Value,
) -> Built<Value> {
    let inner = spec.inner_dim();
    // In bf16 a timestep of 999 would become 1000.
    let timestep = graph.precise(|graph| graph.convert(timestep, ElementType::F32));
    let time = condition(
        graph,
        weights,
        Condition {
            name: "timestep_embedder",
            values: timestep,
            width: inner,
        },
    )?;
    if !spec.use_additional_conditions {
        return Ok(time);
    }
    let width = inner / 3;
    let resolution = graph.parameter("resolution", ElementType::F32, &[DYNAMIC, 2]);
    let resolution = condition(
        graph,
        weights,
        Condition {
            name: "resolution_embedder",
            values: resolution,
            width,
        },
    )?;
    let resolution = graph.reshape(resolution, &[-1, signed(2 * width)])?;
    let aspect_ratio = graph.parameter("aspect_ratio", ElementType::F32, &[DYNAMIC, 1]);
    let aspect_ratio = condition(
        graph,
        weights,
        Condition {
            name: "aspect_ratio_embedder",
            values: aspect_ratio,
            width,
        },
    )?;
    let conditions = graph.concat(&[resolution, aspect_ratio], 1);
    Ok(graph.add(time, conditions))
}

/// A number that conditions the network.
struct Condition {
    /// Its embedder in the checkpoint.
    name: &'static str,
    /// Any number of values.
    values: Value,
    /// Width of its embedding.
    width: usize,
}

/// Each value → 256 sinusoids, cosines first (`flip_sin_to_cos`) → a two-layer embedding.
fn condition(graph: &mut Graph, weights: &Weights<'_>, condition: Condition) -> Built<Value> {
    let Condition {
        name,
        values,
        width,
    } = condition;
    let sinusoids = graph.precise(|graph| -> Built<Value> {
        let column = graph.reshape(values, &[-1, 1])?;
        let waves = Waves {
            count: SINUSOID_CHANNELS / 2,
            highest: 1.0,
        };
        let angles = waves.angles(graph, column)?;
        let (cosines, sines) = (graph.cos(angles), graph.sin(angles));
        Ok(graph.concat(&[cosines, sines], 1))
    })?;
    let first = weights.linear(
        graph,
        &format!("adaln_single.emb.{name}.linear_1"),
        [width, SINUSOID_CHANNELS],
    )?;
    let hidden = apply(graph, first, sinusoids);
    let hidden = graph.silu(hidden);
    let second = weights.linear(
        graph,
        &format!("adaln_single.emb.{name}.linear_2"),
        [width, width],
    )?;
    Ok(apply(graph, second, hidden))
}

/// Where the blocks end.
struct Final {
    /// `[B, rows · columns, inner]`.
    hidden: Value,
    /// `[B, inner]`.
    embedded_time: Value,
    grid: Grid,
}

/// Tokens → prediction: a modulated norm, a linear layer, and the patches back in their places.
fn project_out(
    graph: &mut Graph,
    weights: &Weights<'_>,
    spec: &TransformerSpec,
    last: Final,
) -> Built<Value> {
    let (inner, patch, channels) = (spec.inner_dim(), spec.patch_size, spec.out_channels);
    let table = weights.plain(graph, "scale_shift_table", &[2, inner])?;
    let time = graph.unsqueeze(last.embedded_time, 1)?;
    let modulation = graph.add(time, table);
    let parts = graph.split(modulation, 1, 2)?;
    // diffusers fixes this epsilon at 1e-6, whatever norm_eps says.
    let spec_of_norm = TransformerSpec {
        norm_eps: 1e-6,
        ..spec.clone()
    };
    let normed = modulated_norm(
        graph,
        &spec_of_norm,
        last.hidden,
        Modulation {
            shift: parts[0],
            scale: parts[1],
        },
    )?;
    let linear = weights.linear(graph, "proj_out", [patch * patch * channels, inner])?;
    let patches = apply(graph, linear, normed);

    let Grid {
        batch,
        rows,
        columns,
    } = last.grid;
    let patch_shape = graph.integers(&[signed(patch), signed(patch), signed(channels)])?;
    let shape = graph.concat(&[batch, rows, columns, patch_shape], 0);
    let patches = graph.reshape_to(patches, shape);
    let patches = graph.transpose(patches, &[0, 5, 1, 3, 2, 4])?;
    let side = graph.integer(signed(patch))?;
    let (height, width) = (graph.multiply(rows, side), graph.multiply(columns, side));
    let channels = graph.integers(&[signed(channels)])?;
    let shape = graph.concat(&[batch, channels, height, width], 0);
    Ok(graph.reshape_to(patches, shape))
}
