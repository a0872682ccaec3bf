//! Latents → decoded values, about -1 to 1: by the VAE's own decoder, or by the tiny one.

use ndarray::{Array4, ArrayView4};

use super::{ModelFacts, PipelineError, Watch, check_finite, tensor_of};
use crate::domain::{Decoder, InvalidRequest};
use crate::engine::{Graph, Tensor};

pub(super) const STAGE: &str = "VAE decoder";
const TINY_STAGE: &str = "tiny VAE decoder";

/// The decoders of a model.
pub(super) struct Decoders {
    pub(super) full: Box<dyn Graph>,
    pub(super) tiny: Option<Box<dyn Graph>>,
}

impl Decoders {
    /// `decode(latents / scaling_factor)`: f32 `[1, latent_channels, h, w]` → f32 `[1, 3, h · factor, w · factor]`, all finite.
    pub(super) fn decode(
        &mut self,
        decoder: Decoder,
        latents: ArrayView4<'_, f32>,
        facts: &ModelFacts,
        watch: &dyn Watch,
    ) -> Result<Array4<f32>, PipelineError> {
        let (graph, stage, scaling_factor) = match decoder {
            Decoder::Full => (&mut self.full, STAGE, facts.vae_scaling_factor),
            Decoder::Tiny => {
                let (Some(tiny), Some(factor)) = (&mut self.tiny, facts.tiny_vae_scaling_factor)
                else {
                    return Err(InvalidRequest::NoTinyDecoder.into());
                };
                (tiny, TINY_STAGE, factor)
            }
        };
        let scaled = latents.mapv(|value| value / scaling_factor);
        let (_, _, height, width) = scaled.dim();
        let input = tensor_of(&scaled);
        let (shape, values) = graph
            .infer(&[("latents", &input)], &|| watch.cancelled())
            .and_then(Tensor::into_f32)
            .map_err(|source| PipelineError::engine(stage, source))?;
        let (rows, columns) = (
            height * facts.vae_scale_factor,
            width * facts.vae_scale_factor,
        );
        if shape != [1, 3, rows, columns] {
            return Err(PipelineError::Shape {
                stage,
                expected: format!("[1, 3, {rows}, {columns}]"),
                got: shape,
            });
        }
        check_finite(facts, stage, &values)?;
        Ok(Array4::from_shape_vec((1, 3, rows, columns), values).expect("checked just above"))
    }

    /// What a step predicts, as the tiny decoder sees it; none where there is no such decoder, or the picture cannot be made: a
    /// preview is not worth a failure.
    pub(super) fn preview(
        &mut self,
        denoised: ArrayView4<'_, f32>,
        facts: &ModelFacts,
        watch: &dyn Watch,
    ) -> Option<Array4<f32>> {
        self.tiny.as_ref()?;
        self.decode(Decoder::Tiny, denoised, facts, watch).ok()
    }
}
