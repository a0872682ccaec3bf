//! Pictures as PNG files, with text chunks that say how they were drawn.
//!
//! The same picture and the same texts give the same bytes: nothing here looks at the clock.

use png::{BitDepth, ColorType, Compression, Encoder, EncodingError};

use super::pixels::Rgb8;

/// Encodes a picture. Each pair of `text` is a keyword (1 to 79 characters of Latin-1) and its text, which goes into a
/// `tEXt` chunk when it is Latin-1 and into an `iTXt` chunk, UTF-8, when it is not.
///
/// # Errors
/// When a keyword does not suit, or the data does not have `width * height * 3` bytes.
pub fn encode(picture: &Rgb8, text: &[(String, String)]) -> Result<Vec<u8>, EncodingError> {
    let mut file = Vec::with_capacity(picture.data.len() / 2);
    let mut encoder = Encoder::new(&mut file, picture.width, picture.height);
    encoder.set_color(ColorType::Rgb);
    encoder.set_depth(BitDepth::Eight);
    encoder.set_compression(Compression::Fast);
    for (keyword, text) in text {
        if text.chars().all(|character| u32::from(character) < 256) {
            encoder.add_text_chunk(keyword.clone(), text.clone())?;
        } else {
            encoder.add_itxt_chunk(keyword.clone(), text.clone())?;
        }
    }
    let mut writer = encoder.write_header()?;
    writer.write_image_data(&picture.data)?;
    writer.finish()?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;

    fn picture() -> Rgb8 {
        Rgb8 {
            width: 5,
            height: 3,
            data: (0..45).collect(),
        }
    }

    fn pair(keyword: &str, text: &str) -> (String, String) {
        (keyword.to_owned(), text.to_owned())
    }

    #[test]
    fn a_decoder_reads_the_pixels_and_the_texts_back() {
        let texts = [
            pair("seed", "42"),
            pair("prompt", "ein Schloß, 5 £"),
            pair("negative_prompt", "צבר קטן עם פנים שמחות 🌵"),
        ];
        let file = encode(&picture(), &texts).unwrap();
        let mut reader = png::Decoder::new(Cursor::new(file)).read_info().unwrap();
        let mut data = vec![0; reader.output_buffer_size().unwrap()];
        let frame = reader.next_frame(&mut data).unwrap();
        assert_eq!((frame.width, frame.height), (5, 3));
        assert_eq!(
            (frame.color_type, frame.bit_depth),
            (ColorType::Rgb, BitDepth::Eight)
        );
        assert_eq!(data, picture().data);
        reader.finish().unwrap();

        let info = reader.info();
        let latin: Vec<_> = info
            .uncompressed_latin1_text
            .iter()
            .map(|chunk| pair(&chunk.keyword, &chunk.text))
            .collect();
        assert_eq!(latin, texts[..2]);
        let utf8: Vec<_> = info
            .utf8_text
            .iter()
            .map(|chunk| pair(&chunk.keyword, &chunk.get_text().unwrap()))
            .collect();
        assert_eq!(utf8, texts[2..]);
    }

    #[test]
    fn the_same_picture_gives_the_same_bytes() {
        let texts = [pair("seed", "1")];
        assert_eq!(
            encode(&picture(), &texts).unwrap(),
            encode(&picture(), &texts).unwrap()
        );
    }

    #[test]
    fn wrong_keywords_and_missing_pixels_are_errors() {
        for keyword in ["", "見", &"k".repeat(80)] {
            assert!(
                encode(&picture(), &[pair(keyword, "text")]).is_err(),
                "{keyword}"
            );
        }
        let cut = Rgb8 {
            data: vec![0; 44],
            ..picture()
        };
        assert!(encode(&cut, &[]).is_err());
    }
}
