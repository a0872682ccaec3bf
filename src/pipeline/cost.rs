//! What one image costs: how much the networks compute for it, and what they hold meanwhile. From their shapes alone.

use super::Planner;
use crate::domain::{GenerateRequest, ImageSize};
use crate::model::value_bytes;

/// What one image costs.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ImageCost {
    /// One pass of one step, in megapixel-steps: as many as the model computes in a pass over so many million pixels at its own size. At
    /// that size it is the image's million pixels; four times the pixels are more than four times as much, by attention.
    pub pass: f64,
    /// Decoding, in the same unit.
    pub decode: f64,
    /// What is held while it is drawn, beside the loaded model.
    pub memory: ImageMemory,
}

/// Bytes that are held while an image is drawn. The networks keep theirs afterwards, for the next image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ImageMemory {
    /// By the transformer.
    pub transformer: u64,
    /// By the decoder.
    pub decoder: u64,
    /// By the image itself, until its file is made.
    pub output: u64,
}

impl ImageMemory {
    /// All of it.
    pub fn bytes(&self) -> u64 {
        self.transformer + self.decoder + self.output
    }
}

impl Planner {
    /// The cost of a request that is drawn at `drawn_size`.
    pub(super) fn cost(&self, request: &GenerateRequest, drawn_size: ImageSize) -> ImageCost {
        let shapes = &self.facts().shapes;
        let own = self.defaults().size;
        let own_megapixels = f64::from(own.width_px()) * f64::from(own.height_px()) / 1e6;
        let unit = shapes.pass_cost(own) / own_megapixels;
        let batch = 1 + usize::from(request.guidance.is_active());
        let value_bytes = value_bytes(&self.facts().precision);
        ImageCost {
            pass: shapes.pass_cost(drawn_size) / unit,
            decode: shapes.decode_cost(drawn_size, request.decoder) / unit,
            memory: ImageMemory {
                transformer: shapes.transformer_bytes(drawn_size, batch, value_bytes),
                decoder: shapes.decoder_bytes(drawn_size, request.decoder, value_bytes),
                output: OUTPUT_BYTES_PER_PIXEL * pixels(request.size),
            },
        }
    }
}

/// The image beside the networks: at the size that was asked for, in f32 and in bytes, and its file.
const OUTPUT_BYTES_PER_PIXEL: u64 = 3 * 4 + 3 + 3;

fn pixels(size: ImageSize) -> u64 {
    u64::from(size.width_px()) * u64::from(size.height_px())
}
