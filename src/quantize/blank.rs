//! A VAE decoder that draws nothing: for pictures that are drawn to watch the transformer alone, and that nobody looks at.

use crate::engine::{EngineError, Graph, Port, Tensor};

/// Answers with grey pictures of the right size.
pub struct BlankDecoder {
    scale_factor: usize,
}

impl BlankDecoder {
    /// Stands in for a decoder of `scale_factor` pixels a side for each latent.
    pub fn new(scale_factor: usize) -> Self {
        Self { scale_factor }
    }
}

impl Graph for BlankDecoder {
    fn input(&self, _name: &str) -> Option<Port> {
        None
    }

    /// `latents` f32 `[1, channels, h, w]` → zeros f32 `[1, 3, h · factor, w · factor]`.
    fn infer(
        &mut self,
        inputs: &[(&str, &Tensor)],
        cancelled: &dyn Fn() -> bool,
    ) -> Result<Tensor, EngineError> {
        if cancelled() {
            return Err(EngineError::Cancelled);
        }
        let &[(_, latents)] = inputs else {
            return Err(EngineError::Runtime(
                "a VAE decoder takes latents alone".to_owned(),
            ));
        };
        let &[batch, _, height, width] = latents.shape() else {
            return Err(EngineError::Shape {
                tensor: "latents".to_owned(),
                expected: "[?, ?, ?, ?]".to_owned(),
                got: latents.shape().to_vec(),
            });
        };
        let shape = [
            batch,
            3,
            height * self.scale_factor,
            width * self.scale_factor,
        ];
        Ok(Tensor::f32(shape, vec![0.0; shape.iter().product()]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_picture_of_the_latents_size_is_grey_all_over() {
        let latents = Tensor::f32([1, 4, 2, 3], vec![7.0; 24]);
        let mut decoder = BlankDecoder::new(8);
        let picture = decoder.infer(&[("latents", &latents)], &|| false).unwrap();
        assert_eq!(picture, Tensor::f32([1, 3, 16, 24], vec![0.0; 3 * 16 * 24]));
    }

    #[test]
    fn what_is_no_latents_is_refused() {
        let text = Tensor::f32([1, 4], vec![0.0; 4]);
        let mut decoder = BlankDecoder::new(8);
        assert!(matches!(
            decoder.infer(&[("latents", &text)], &|| false),
            Err(EngineError::Shape { .. })
        ));
        assert!(decoder.infer(&[], &|| false).is_err());
        assert!(matches!(
            decoder.infer(&[("latents", &text)], &|| true),
            Err(EngineError::Cancelled)
        ));
    }
}
