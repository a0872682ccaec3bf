//! Decoded pictures to bytes: from the VAE's f32 planes to interleaved 8-bit RGB, by way of the requested size.

use ndarray::{Array4, ArrayView4, Axis, Zip, s};
use thiserror::Error;

use crate::domain::ImageSize;

/// A picture of 8 bits a channel: rows from the top, pixels from the left, red, green, blue.
#[derive(Clone, PartialEq, Eq)]
pub struct Rgb8 {
    /// Pixels a row.
    pub width: u32,
    /// Rows.
    pub height: u32,
    /// `width * height * 3` bytes.
    pub data: Vec<u8>,
}

impl Rgb8 {
    /// The most that a channel of a flat picture varies: less than anyone sees.
    const FLAT: u8 = 2;

    /// Whether all pixels have nearly the same colour.
    pub fn is_flat(&self) -> bool {
        let mut ranges = [(u8::MAX, u8::MIN); 3];
        for pixel in self.data.as_chunks::<3>().0 {
            for ((least, most), &value) in ranges.iter_mut().zip(pixel) {
                *least = value.min(*least);
                *most = value.max(*most);
            }
        }
        ranges
            .iter()
            .all(|(least, most)| most.saturating_sub(*least) <= Self::FLAT)
    }
}

/// A decoded picture that is none.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum PixelsError {
    /// Not one picture of three channels.
    #[error("decoded picture has shape {got:?}: expected [1, 3, height, width]")]
    Shape {
        /// The shape found.
        got: [usize; 4],
    },
}

/// Scales a picture until it covers `size`, then cuts its centre out. A picture of that size is returned as it is.
///
/// `image`: f32 [N, C, h, w] in about -1 to 1. Returns f32 [N, C, `size.height_px()`, `size.width_px()`]. Bilinear, pixel centres
/// at halves, no smoothing when it shrinks: `F.interpolate(mode="bilinear", align_corners=False)`.
/// Source: diffusers 0.42 `image_processor.py`, `PixArtImageProcessor.resize_and_crop_tensor`. There the scaled length
/// is `int(length * ratio)`, which may fall 1 px short of `size` by rounding and then cuts wrongly; here it never does.
pub fn resize_and_crop(image: Array4<f32>, size: ImageSize) -> Array4<f32> {
    let (batch, channels, height, width) = image.dim();
    let (new_height, new_width) = (size.height_px() as usize, size.width_px() as usize);
    if (height, width) == (new_height, new_width) {
        return image;
    }
    let ratio = (new_height as f64 / height as f64).max(new_width as f64 / width as f64);
    let rows = taps(height, new_height, ratio);
    let columns = taps(width, new_width, ratio);
    // Across first, once for each row that is there: several rows of a larger picture share it.
    let mut wide = Array4::zeros((batch, channels, height, new_width));
    Zip::from(wide.rows_mut())
        .and(image.rows())
        .for_each(|mut wide, row| {
            for (wide, column) in wide.iter_mut().zip(&columns) {
                *wide = row[column.low] * column.of_low + row[column.high] * column.of_high;
            }
        });
    let mut resized = Array4::zeros((batch, channels, new_height, new_width));
    for (mut resized, row) in resized.axis_iter_mut(Axis(2)).zip(&rows) {
        Zip::from(&mut resized)
            .and(wide.index_axis(Axis(2), row.low))
            .and(wide.index_axis(Axis(2), row.high))
            .for_each(|resized, &low, &high| *resized = low * row.of_low + high * row.of_high);
    }
    resized
}

/// The two source positions that one target position is mixed from.
struct Tap {
    low: usize,
    high: usize,
    of_low: f32,
    of_high: f32,
}

/// Taps of the `kept` central positions of an axis of `length` that is scaled by `ratio`. Positions are in f32 and fused, as in torch's
/// build for AVX2: at position 15 the last bit is already 1e-6 of a pixel.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "positions within the picture, which are not negative"
)]
fn taps(length: usize, kept: usize, ratio: f64) -> Vec<Tap> {
    let scaled = ((length as f64 * ratio) as usize).max(kept);
    let start = (scaled - kept) / 2;
    let scale = length as f32 / scaled as f32;
    (start..start + kept)
        .map(|target| {
            let source = scale.mul_add(target as f32 + 0.5, -0.5).max(0.0);
            let low = (source as usize).min(length - 1);
            let of_high = (source - low as f32).clamp(0.0, 1.0);
            Tap {
                low,
                high: (low + 1).min(length - 1),
                of_low: 1.0 - of_high,
                of_high,
            }
        })
        .collect()
}

/// Turns a decoded picture into bytes: `x / 2 + 0.5`, clamped to 0–1, times 255, halves rounded to even.
///
/// `image`: f32 [1, 3, h, w], finite: NaN would turn black without a word, and what the decoder gives has been checked.
/// Source: diffusers 0.42 `image_processor.py`, `denormalize` and `numpy_to_pil`.
///
/// # Errors
/// When the shape is not that of one picture.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "clamped to 0 to 255; sides come from an ImageSize"
)]
pub fn to_rgb8(image: ArrayView4<'_, f32>) -> Result<Rgb8, PixelsError> {
    let (1, 3, height, width) = image.dim() else {
        let (n, c, h, w) = image.dim();
        return Err(PixelsError::Shape { got: [n, c, h, w] });
    };
    let data = image
        .slice(s![0, .., .., ..])
        .permuted_axes([1, 2, 0])
        .iter()
        .map(|value| ((value / 2.0 + 0.5).clamp(0.0, 1.0) * 255.0).round_ties_even() as u8)
        .collect();
    Ok(Rgb8 {
        width: width as u32,
        height: height as u32,
        data,
    })
}

impl std::fmt::Debug for Rgb8 {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Rgb8({}x{})", self.width, self.height)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn planes(values: [f32; 3]) -> Array4<f32> {
        Array4::from_shape_fn((1, 3, 2, 4), |(_, channel, ..)| values[channel])
    }

    #[test]
    fn planes_become_interleaved_pixels() {
        let picture = to_rgb8(planes([-1.0, 0.2, 1.0]).view()).unwrap();
        assert_eq!((picture.width, picture.height), (4, 2));
        assert_eq!(picture.data, [0, 153, 255].repeat(8));
    }

    #[test]
    fn values_are_clamped_and_halves_rounded_to_even() {
        // 0 becomes 127.5, which rounds to 128.
        let picture = to_rgb8(planes([0.0, -7.0, 7.0]).view()).unwrap();
        assert_eq!(picture.data[..3], [128, 0, 255]);
        let all: Vec<u8> = (0..=255_u8)
            .map(|byte| {
                let value = f32::from(byte) / 255.0 * 2.0 - 1.0;
                to_rgb8(planes([value; 3]).view()).unwrap().data[0]
            })
            .collect();
        assert_eq!(all, (0..=255).collect::<Vec<u8>>());
    }

    #[test]
    fn only_one_picture_of_three_channels_is_taken() {
        let got = [1, 4, 2, 2];
        assert_eq!(
            to_rgb8(Array4::zeros(got).view()),
            Err(PixelsError::Shape { got })
        );
    }

    #[test]
    fn one_pixel_of_another_colour_makes_a_picture() {
        let mut picture = to_rgb8(planes([-0.5, 0.2, 1.0]).view()).unwrap();
        assert!(picture.is_flat());
        picture.data[10] -= 2;
        assert!(picture.is_flat(), "nobody sees that");
        picture.data[10] -= 1;
        assert!(!picture.is_flat());
    }

    #[test]
    fn a_flat_picture_stays_flat_and_a_mirrored_one_mirrored() {
        let size = ImageSize::new(7, 5).unwrap();
        let flat = resize_and_crop(planes([0.5, -0.25, 1.0]), size);
        assert_eq!(flat.dim(), (1, 3, 5, 7));
        assert!(
            flat.indexed_iter()
                .all(|((_, c, ..), &value)| { (value - [0.5, -0.25, 1.0][c]).abs() < 1e-6 })
        );
        let ramp = Array4::from_shape_fn((1, 1, 4, 8), |(.., x)| (x as f32 - 3.5).abs());
        let ramp = resize_and_crop(ramp, ImageSize::new(12, 6).unwrap());
        let mirrored = ramp.slice(s![.., .., .., ..;-1]);
        assert!((&ramp - &mirrored).iter().all(|error| error.abs() < 1e-5));
    }

    proptest! {
        #[test]
        fn every_size_comes_out_as_asked(from in (1_usize..80, 1_usize..80), to in (1_u32..80, 1_u32..80)) {
            let size = ImageSize::new(to.0, to.1).unwrap();
            let resized = resize_and_crop(Array4::ones((1, 1, from.0, from.1)), size);
            prop_assert_eq!(resized.dim(), (1, 1, to.1 as usize, to.0 as usize));
            prop_assert!(resized.iter().all(|value| (value - 1.0).abs() < 1e-6));
        }
    }
}
