//! Pictures as files: PNG with its texts, JPEG, WebP. The same picture and the same texts give the same bytes.
//!
//! Only PNG carries texts. The `image` crate writes JPEG without chroma subsampling and WebP without loss.

use image::codecs::jpeg::JpegEncoder;
use image::codecs::webp::WebPEncoder;
use image::{ExtendedColorType, ImageError};
use thiserror::Error;

use super::pixels::Rgb8;
use super::png;
use crate::domain::{Compression, GenerateRequest, OutputFormat};

/// A picture that cannot be written in its format.
#[derive(Debug, Error)]
pub enum EncodeError {
    /// As PNG.
    #[error("PNG: {0}")]
    Png(#[from] ::png::EncodingError),
    /// As JPEG or WebP.
    #[error("{format}: {source}")]
    Image {
        /// Which of the two.
        format: OutputFormat,
        /// Why.
        source: ImageError,
    },
}

/// Encodes a picture in the format that `request` asks for; `text` goes into a PNG, as [`png::encode`] has it.
///
/// # Errors
/// When a keyword does not suit, or the encoder fails.
pub fn encode(
    picture: &Rgb8,
    request: &GenerateRequest,
    text: &[(String, String)],
) -> Result<Vec<u8>, EncodeError> {
    let format = request.output_format;
    let mut file = Vec::new();
    let written = match format {
        OutputFormat::Png => return Ok(png::encode(picture, text)?),
        OutputFormat::Jpeg => {
            let compression = request.compression().unwrap_or(Compression::DEFAULT);
            let encoder = JpegEncoder::new_with_quality(&mut file, quality(compression));
            write(encoder, picture)
        }
        OutputFormat::Webp => write(WebPEncoder::new_lossless(&mut file), picture),
    };
    match written {
        Ok(()) => Ok(file),
        Err(source) => Err(EncodeError::Image { format, source }),
    }
}

/// libjpeg's scale, which begins at 1.
fn quality(compression: Compression) -> u8 {
    compression.percent().max(1)
}

fn write(encoder: impl image::ImageEncoder, picture: &Rgb8) -> Result<(), ImageError> {
    encoder.write_image(
        &picture.data,
        picture.width,
        picture.height,
        ExtendedColorType::Rgb8,
    )
}

#[cfg(test)]
mod tests {
    use image::ImageFormat;

    use super::*;
    use crate::domain::{
        Decoder, ImageSize, Prompt, RequestDefaults, RequestDraft, SchedulerKind, Seed,
    };

    /// A soft gradient with an edge: something that a quality can be seen on.
    fn picture() -> Rgb8 {
        let (width, height) = (48, 32);
        let data = (0..height)
            .flat_map(|y| (0..width).map(move |x| (x, y)))
            .flat_map(|(x, y)| [5 * x, 7 * y, if x > 20 { 200 } else { 30 }])
            .map(|value| u8::try_from(value).unwrap())
            .collect();
        Rgb8 {
            width,
            height,
            data,
        }
    }

    fn request(format: OutputFormat, compression: Option<u32>) -> GenerateRequest {
        let defaults = RequestDefaults {
            scheduler: SchedulerKind::Lcm,
            decoder: Decoder::Full,
            size: ImageSize::new(48, 32).unwrap(),
            resolution_binning: false,
        };
        RequestDraft {
            output_format: format,
            output_compression: compression.map(|percent| Compression::new(percent).unwrap()),
            ..RequestDraft::new(Prompt::new("a boat").unwrap(), Seed::new(1))
        }
        .complete(&defaults)
    }

    fn encoded(format: OutputFormat, compression: Option<u32>) -> Vec<u8> {
        let text = [("pixart:seed".to_owned(), "42".to_owned())];
        encode(&picture(), &request(format, compression), &text).unwrap()
    }

    /// Largest difference of a byte after decoding.
    fn loss(file: &[u8], format: ImageFormat) -> u8 {
        let decoded = image::load_from_memory_with_format(file, format).unwrap();
        let decoded = decoded.to_rgb8();
        assert_eq!(decoded.dimensions(), (48, 32));
        decoded
            .as_raw()
            .iter()
            .zip(&picture().data)
            .map(|(a, b)| a.abs_diff(*b))
            .max()
            .unwrap()
    }

    #[test]
    fn png_has_its_texts_and_ignores_the_compression() {
        let file = encoded(OutputFormat::Png, None);
        assert!(file.starts_with(b"\x89PNG"));
        assert!(file.windows(11).any(|window| window == b"pixart:seed"));
        assert_eq!(file, encoded(OutputFormat::Png, Some(1)));
    }

    #[test]
    fn webp_loses_nothing() {
        let file = encoded(OutputFormat::Webp, None);
        assert!(file.starts_with(b"RIFF"));
        assert_eq!(loss(&file, ImageFormat::WebP), 0);
        assert_eq!(file, encoded(OutputFormat::Webp, Some(1)));
    }

    #[test]
    fn jpeg_has_the_quality_that_was_asked_for_and_ninety_otherwise() {
        let good = encoded(OutputFormat::Jpeg, None);
        assert!(good.starts_with(&[0xff, 0xd8]));
        assert!(loss(&good, ImageFormat::Jpeg) < 40);
        assert_eq!(good, encoded(OutputFormat::Jpeg, Some(90)));
        let best = encoded(OutputFormat::Jpeg, Some(100));
        assert!(loss(&best, ImageFormat::Jpeg) < loss(&good, ImageFormat::Jpeg));
        let poor = encoded(OutputFormat::Jpeg, Some(5));
        assert!(poor.len() < good.len() && good.len() < best.len());
        // 0 is no quality of a JPEG: it means the least there is.
        assert_eq!(
            encoded(OutputFormat::Jpeg, Some(0)),
            encoded(OutputFormat::Jpeg, Some(1))
        );
    }

    #[test]
    fn the_same_picture_gives_the_same_bytes_in_every_format() {
        for format in OutputFormat::ALL {
            assert_eq!(encoded(format, None), encoded(format, None), "{format}");
        }
    }
}
