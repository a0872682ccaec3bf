//! What kind of file a picture becomes.

use std::fmt;
use std::str::FromStr;

use super::InvalidRequest;

/// The kinds of file that pictures are written as.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum OutputFormat {
    /// Lossless, with the receipt in its text chunks.
    #[default]
    Png,
    /// Lossy, a tenth of the bytes.
    Jpeg,
    /// Lossless here, smaller than PNG.
    Webp,
}

impl OutputFormat {
    /// All of them, in the order in which they are told.
    pub const ALL: [Self; 3] = [Self::Png, Self::Jpeg, Self::Webp];

    /// The name used in flags, receipts and JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::Png => "png",
            Self::Jpeg => "jpeg",
            Self::Webp => "webp",
        }
    }

    /// The media type of such a file.
    pub fn media_type(self) -> &'static str {
        match self {
            Self::Png => "image/png",
            Self::Jpeg => "image/jpeg",
            Self::Webp => "image/webp",
        }
    }

    /// The usual ending of such a file's name, without the dot.
    pub fn extension(self) -> &'static str {
        match self {
            Self::Png => "png",
            Self::Jpeg => "jpg",
            Self::Webp => "webp",
        }
    }

    /// The format that a file's ending promises, in any case; none for endings that promise something else.
    pub fn of_extension(ending: &str) -> Option<Self> {
        match ending.to_ascii_lowercase().as_str() {
            "png" => Some(Self::Png),
            "jpg" | "jpeg" => Some(Self::Jpeg),
            "webp" => Some(Self::Webp),
            _ => None,
        }
    }
}

impl FromStr for OutputFormat {
    type Err = InvalidRequest;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|format| format.name() == text)
            .ok_or_else(|| InvalidRequest::UnknownOutputFormat {
                got: text.chars().take(40).collect(),
            })
    }
}

impl fmt::Display for OutputFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// How much of a lossy file's quality is kept, 0 to [`Compression::MAX`] percent. More is larger and better, as in OpenAI's
/// `output_compression`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Compression(u8);

impl Compression {
    /// The best quality.
    pub const MAX: u8 = 100;
    /// The quality of a JPEG when none is asked for.
    pub const DEFAULT: Self = Self(90);

    /// Parses a percentage.
    ///
    /// # Errors
    /// When it is above [`Compression::MAX`].
    pub fn new(percent: u32) -> Result<Self, InvalidRequest> {
        match u8::try_from(percent) {
            Ok(percent) if percent <= Self::MAX => Ok(Self(percent)),
            _ => Err(InvalidRequest::OutOfRange {
                field: "output_compression",
                got: percent.to_string(),
                expected: format!("0 to {}", Self::MAX),
            }),
        }
    }

    /// The percentage.
    pub fn percent(self) -> u8 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_are_parsed_by_the_name_that_they_print() {
        for format in OutputFormat::ALL {
            assert_eq!(format.to_string().parse(), Ok(format));
            assert_eq!(OutputFormat::of_extension(format.extension()), Some(format));
            assert!(format.media_type().ends_with(format.name()));
        }
        for text in ["jpg", "PNG", "", "gif"] {
            let error = text.parse::<OutputFormat>().unwrap_err();
            assert_eq!(error.field(), "output_format", "{text}");
        }
    }

    #[test]
    fn endings_are_read_in_any_case() {
        for ending in ["JPG", "Jpeg", "jpeg"] {
            assert_eq!(
                OutputFormat::of_extension(ending),
                Some(OutputFormat::Jpeg),
                "{ending}"
            );
        }
        assert_eq!(OutputFormat::of_extension("gif"), None);
    }

    #[test]
    fn compression_is_a_percentage() {
        assert_eq!(Compression::new(0).unwrap().percent(), 0);
        assert_eq!(Compression::new(100).unwrap().percent(), 100);
        for percent in [101, 256, 300, u32::MAX] {
            let error = Compression::new(percent).unwrap_err();
            assert!(error.to_string().contains("0 to 100"), "{error}");
        }
    }
}
