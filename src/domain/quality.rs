//! How near to the original pictures have to be, in three words.

use std::fmt;
use std::str::FromStr;

use super::InvalidRequest;

/// What may be given up for time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Quality {
    /// Nothing that can be seen: the picture that diffusers draws.
    Exact,
    /// What is hardly seen.
    #[default]
    Balanced,
    /// What is seen beside the original alone. The tiny decoder draws, where the model has one.
    Fast,
}

impl Quality {
    /// All of them, the nearest first.
    pub const ALL: [Self; 3] = [Self::Exact, Self::Balanced, Self::Fast];

    /// The name used in flags, settings and manifests.
    pub fn name(self) -> &'static str {
        match self {
            Self::Exact => "exact",
            Self::Balanced => "balanced",
            Self::Fast => "fast",
        }
    }

    /// The least median PSNR, in dB, of pictures against those of the original in f32. Differences of 40 dB are those of the
    /// arithmetic alone; at 28 dB they are where one knows to look; at 20 dB it is still the same picture.
    pub fn least_psnr_db(self) -> f64 {
        match self {
            Self::Exact => 40.0,
            Self::Balanced => 28.0,
            Self::Fast => 20.0,
        }
    }
}

impl FromStr for Quality {
    type Err = InvalidRequest;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|quality| quality.name() == text)
            .ok_or_else(|| InvalidRequest::UnknownQuality {
                got: text.chars().take(40).collect(),
            })
    }
}

impl fmt::Display for Quality {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
