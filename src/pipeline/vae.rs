//! Latents → decoded values, about -1 to 1.

use ndarray::Array4;

use super::{ModelFacts, PipelineError, Watch, check_finite, tensor_of};
use crate::engine::{Graph, Tensor};

pub(super) const STAGE: &str = "VAE decoder";

/// `decode(latents / scaling_factor)`: f32 `[1, latent_channels, h, w]` → f32 `[1, 3, h · factor, w · factor]`, all finite.
pub(super) fn decode(
    decoder: &mut dyn Graph,
    latents: Array4<f32>,
    facts: &ModelFacts,
    watch: &dyn Watch,
) -> Result<Array4<f32>, PipelineError> {
    let scaled = latents / facts.vae_scaling_factor;
    let (_, _, height, width) = scaled.dim();
    let input = tensor_of(&scaled);
    let (shape, values) = decoder
        .infer(&[("latents", &input)], &|| watch.cancelled())
        .and_then(Tensor::into_f32)
        .map_err(|source| PipelineError::engine(STAGE, source))?;
    let (rows, columns) = (
        height * facts.vae_scale_factor,
        width * facts.vae_scale_factor,
    );
    if shape != [1, 3, rows, columns] {
        return Err(PipelineError::Shape {
            stage: STAGE,
            expected: format!("[1, 3, {rows}, {columns}]"),
            got: shape,
        });
    }
    check_finite(facts, STAGE, &values)?;
    Ok(Array4::from_shape_vec((1, 3, rows, columns), values).expect("checked just above"))
}
