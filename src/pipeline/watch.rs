//! The caller's eye on a picture in the making: progress, previews, and the wish to stop.

use std::time::Duration;

use ndarray::{ArrayView2, ArrayView4};

/// Something that has just been computed. It is views alone, so that a watch may hand it on.
#[derive(Debug, Clone, Copy)]
pub enum Event<'a> {
    /// The text encoder was not in memory and is now.
    TextEncoderLoaded {
        /// Time of reading and compiling.
        took: Duration,
    },
    /// The text encoder has left memory.
    TextEncoderReleased,
    /// The text encoder is done. f32 `[tokens, width]`; the negative prompt's only while guidance is active.
    TextEncoded {
        /// Embeddings of the prompt.
        prompt: ArrayView2<'a, f32>,
        /// Embeddings of the negative prompt.
        negative: Option<ArrayView2<'a, f32>>,
    },
    /// The transformer's raw prediction of a step, f32 `[1 or 2, out_channels, h, w]`, unconditional half first.
    Predicted {
        /// From 0.
        step: usize,
        /// The prediction.
        prediction: ArrayView4<'a, f32>,
    },
    /// A step is done. Both f32 `[1, latent_channels, h, w]`.
    Stepped {
        /// From 0.
        step: usize,
        /// How many there are.
        steps: usize,
        /// Time of transformer, guidance and scheduler.
        took: Duration,
        /// The latents after it.
        latents: ArrayView4<'a, f32>,
        /// The clean latents that it predicted.
        denoised: ArrayView4<'a, f32>,
        /// These as the tiny decoder sees them, f32 `[1, 3, height, width]`, about -1 to 1; where the watch wants that and the
        /// model has such a decoder.
        preview: Option<ArrayView4<'a, f32>>,
    },
    /// The VAE is done. Before resize and crop.
    Decoded {
        /// f32 `[1, 3, height, width]`, about -1 to 1.
        image: ArrayView4<'a, f32>,
    },
}

/// Watches one picture.
pub trait Watch {
    /// Whether to stop; looked at between steps and every few milliseconds inside of one.
    fn cancelled(&self) -> bool;

    /// Whether the preview of a step, from 0, is worth the time of the tiny decoder.
    fn wants_preview(&self, _step: usize) -> bool {
        false
    }

    /// Something has been computed.
    fn observe(&mut self, event: Event<'_>);
}

/// Watches nothing and never stops.
#[derive(Debug, Clone, Copy, Default)]
pub struct Unwatched;

impl Watch for Unwatched {
    fn cancelled(&self) -> bool {
        false
    }

    fn observe(&mut self, _event: Event<'_>) {}
}
