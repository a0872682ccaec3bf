//! The request for one picture, in parsed parts.

use std::fmt;
use std::str::FromStr;

use super::{Compression, InvalidRequest, OutputFormat};

/// A text of at most [`Prompt::MAX_CHARS`] characters without NUL.
///
/// `Debug` shows its length alone: prompts are people's data and stay out of logs.
#[derive(Clone, PartialEq, Eq)]
pub struct Prompt(String);

impl Prompt {
    /// The longest prompt taken, in characters: far beyond the 300 tokens that any PixArt reads.
    pub const MAX_CHARS: usize = 4096;

    /// Parses what to draw, which has to be something.
    ///
    /// # Errors
    /// When the text is blank, too long, or has a NUL character.
    pub fn new(text: impl Into<String>) -> Result<Self, InvalidRequest> {
        let prompt = Self::maybe_empty(text)?;
        if prompt.is_blank() {
            return Err(InvalidRequest::EmptyPrompt);
        }
        Ok(prompt)
    }

    /// Parses what to draw, or nothing in particular: diffusers takes an empty prompt as any other, and so do those who sample
    /// a model without one.
    ///
    /// # Errors
    /// When the text is too long or has a NUL character.
    pub fn maybe_empty(text: impl Into<String>) -> Result<Self, InvalidRequest> {
        Self::checked("prompt", text.into())
    }

    /// Parses what not to draw. The empty text is diffusers' default and means "nothing in particular".
    ///
    /// # Errors
    /// When the text is too long or has a NUL character.
    pub fn negative(text: impl Into<String>) -> Result<Self, InvalidRequest> {
        Self::checked("negative_prompt", text.into())
    }

    /// The negative prompt of who gives none.
    pub fn empty() -> Self {
        Self(String::new())
    }

    /// Whether no visible character is in it.
    pub fn is_blank(&self) -> bool {
        self.0.trim().is_empty()
    }

    fn checked(field: &'static str, text: String) -> Result<Self, InvalidRequest> {
        let got = text.chars().count();
        if got > Self::MAX_CHARS {
            return Err(InvalidRequest::PromptTooLong {
                field,
                got,
                limit: Self::MAX_CHARS,
            });
        }
        if let Some(position) = text.chars().position(|character| character == '\0') {
            return Err(InvalidRequest::NulInPrompt { field, position });
        }
        Ok(Self(text))
    }

    /// The text as it was given.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Prompt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Prompt({} characters)", self.0.chars().count())
    }
}

/// Number of denoising steps, 1 to [`Steps::MAX`]. The scheduler's own limit is checked when its schedule is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Steps(u32);

impl Steps {
    /// As many steps as the checkpoints have training timesteps.
    pub const MAX: u32 = 1000;

    /// Parses a number of steps.
    ///
    /// # Errors
    /// When it is 0 or above [`Steps::MAX`].
    pub fn new(steps: u32) -> Result<Self, InvalidRequest> {
        if (1..=Self::MAX).contains(&steps) {
            Ok(Self(steps))
        } else {
            Err(InvalidRequest::OutOfRange {
                field: "steps",
                got: steps.to_string(),
                expected: format!("1 to {}", Self::MAX),
            })
        }
    }

    /// The number.
    pub fn count(self) -> usize {
        self.0 as usize
    }
}

/// Classifier-free guidance scale, finite, 0 to [`Guidance::MAX`]. At 1 or below there is no guidance.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Guidance(f32);

impl Guidance {
    /// Beyond this, pictures are burnt long before numbers fail.
    pub const MAX: f32 = 50.0;

    /// Parses a guidance scale.
    ///
    /// # Errors
    /// When it is not a number or outside 0 to [`Guidance::MAX`].
    pub fn new(scale: f32) -> Result<Self, InvalidRequest> {
        if (0.0..=Self::MAX).contains(&scale) {
            Ok(Self(scale))
        } else {
            Err(InvalidRequest::OutOfRange {
                field: "guidance_scale",
                got: scale.to_string(),
                expected: format!("a number from 0 to {}", Self::MAX),
            })
        }
    }

    /// The scale.
    pub fn scale(self) -> f32 {
        self.0
    }

    /// Whether the unconditional half is computed at all (diffusers: `guidance_scale > 1.0`).
    pub fn is_active(self) -> bool {
        self.0 > 1.0
    }
}

/// Seed of the noise generator. torch's CPU generator looks at its low 32 bits only.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seed(u64);

impl Seed {
    /// Any 64-bit number is a seed.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Any seed of 32 bits: torch looks at no more, and people can type it again.
    pub fn random() -> Self {
        use std::hash::{BuildHasher as _, RandomState};
        // Every `RandomState` has keys of its own, the first of them from the system.
        Self(RandomState::new().hash_one(0) & 0xffff_ffff)
    }

    /// The number.
    pub fn value(self) -> u64 {
        self.0
    }

    /// The seed of picture `index` of a series: `seed + index`, wrapping.
    #[must_use]
    pub fn for_picture(self, index: u32) -> Self {
        Self(self.0.wrapping_add(u64::from(index)))
    }
}

/// Width and height in pixels, each 1 to [`ImageSize::MAX_SIDE_PX`]. What a model can tile is checked against its spec.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ImageSize {
    width_px: u32,
    height_px: u32,
}

impl ImageSize {
    /// The longest side taken.
    pub const MAX_SIDE_PX: u32 = 4096;

    /// Parses a size.
    ///
    /// # Errors
    /// When a side is 0 or beyond [`ImageSize::MAX_SIDE_PX`].
    pub fn new(width_px: u32, height_px: u32) -> Result<Self, InvalidRequest> {
        for (field, side) in [("width", width_px), ("height", height_px)] {
            if !(1..=Self::MAX_SIDE_PX).contains(&side) {
                return Err(InvalidRequest::OutOfRange {
                    field,
                    got: format!("{side} px"),
                    expected: format!("1 to {} px", Self::MAX_SIDE_PX),
                });
            }
        }
        Ok(Self {
            width_px,
            height_px,
        })
    }

    /// Width in pixels.
    pub fn width_px(self) -> u32 {
        self.width_px
    }

    /// Height in pixels.
    pub fn height_px(self) -> u32 {
        self.height_px
    }

    /// Checks that both sides are multiples of `multiple_px` (VAE scale factor × patch size).
    ///
    /// # Errors
    /// When one is not; the message names the nearest size that is.
    pub fn check_multiple(self, multiple_px: u32) -> Result<(), InvalidRequest> {
        let nearest = |side: u32| {
            let below = side / multiple_px * multiple_px;
            let above = below + multiple_px;
            if below > 0 && (side - below <= above - side || above > Self::MAX_SIDE_PX) {
                below
            } else {
                above
            }
        };
        if self.width_px.is_multiple_of(multiple_px) && self.height_px.is_multiple_of(multiple_px) {
            return Ok(());
        }
        Err(InvalidRequest::SizeMultiple {
            width_px: self.width_px,
            height_px: self.height_px,
            multiple_px,
            suggestion: format!("{}x{}", nearest(self.width_px), nearest(self.height_px)),
        })
    }
}

impl fmt::Display for ImageSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}x{}", self.width_px, self.height_px)
    }
}

impl FromStr for ImageSize {
    type Err = InvalidRequest;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let syntax = || InvalidRequest::SizeSyntax {
            got: text.chars().take(40).collect(),
        };
        let (width, height) = text.split_once(['x', 'X']).ok_or_else(syntax)?;
        let side = |digits: &str| {
            // `parse` would take a sign as well.
            let is_plain = digits.bytes().all(|byte| byte.is_ascii_digit());
            let side = is_plain.then(|| digits.parse::<u32>().ok());
            side.flatten().ok_or_else(syntax)
        };
        Self::new(side(width)?, side(height)?)
    }
}

/// The schedulers that are built in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SchedulerKind {
    /// Latent consistency: few steps, fresh noise on every step but the last (`LCMScheduler`).
    Lcm,
    /// DPM-Solver++ multistep: deterministic, 12 to 50 steps (`DPMSolverMultistepScheduler`).
    DpmSolverPlusPlus,
}

impl SchedulerKind {
    /// The name used in flags, receipts and JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::Lcm => "lcm",
            Self::DpmSolverPlusPlus => "dpmsolver++",
        }
    }

    /// Steps when none are asked for: 4 for LCM, 20 for DPM-Solver++ (diffusers' `PixArtAlphaPipeline` default).
    pub fn default_steps(self) -> Steps {
        match self {
            Self::Lcm => Steps(4),
            Self::DpmSolverPlusPlus => Steps(20),
        }
    }

    /// Steps that give good pictures: LCM students are trained for 2 to 8, DPM-Solver++ needs a dozen and gains little after 50.
    pub fn recommended_steps(self) -> std::ops::RangeInclusive<usize> {
        match self {
            Self::Lcm => 2..=8,
            Self::DpmSolverPlusPlus => 12..=50,
        }
    }

    /// Guidance when none is asked for: none for LCM, whose students have it baked in; 4.5 otherwise.
    pub fn default_guidance(self) -> Guidance {
        match self {
            Self::Lcm => Guidance(0.0),
            Self::DpmSolverPlusPlus => Guidance(4.5),
        }
    }
}

impl FromStr for SchedulerKind {
    type Err = InvalidRequest;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "lcm" => Ok(Self::Lcm),
            "dpmsolver++" => Ok(Self::DpmSolverPlusPlus),
            other => Err(InvalidRequest::UnknownScheduler {
                got: other.chars().take(40).collect(),
            }),
        }
    }
}

impl fmt::Display for SchedulerKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What makes pixels of latents.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Decoder {
    /// The VAE's own.
    #[default]
    Full,
    /// That of a tiny autoencoder for the same latents, where the model has one: many times faster, a little coarser.
    Tiny,
}

impl Decoder {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Full, Self::Tiny];

    /// The name used in flags, receipts and JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Tiny => "tiny",
        }
    }
}

impl FromStr for Decoder {
    type Err = InvalidRequest;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|decoder| decoder.name() == text)
            .ok_or_else(|| InvalidRequest::UnknownDecoder {
                got: text.chars().take(40).collect(),
            })
    }
}

impl fmt::Display for Decoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// One picture to draw. Every part is already parsed, so the fields are plain.
#[derive(Debug, Clone, PartialEq)]
pub struct GenerateRequest {
    /// What to draw.
    pub prompt: Prompt,
    /// What to keep away from; without effect while guidance is not active.
    pub negative_prompt: Prompt,
    /// Denoising steps.
    pub steps: Steps,
    /// Classifier-free guidance scale.
    pub guidance: Guidance,
    /// Seed of the noise.
    pub seed: Seed,
    /// Size of the finished picture.
    pub size: ImageSize,
    /// Which solver walks the noise schedule.
    pub scheduler: SchedulerKind,
    /// What makes pixels of latents.
    pub decoder: Decoder,
    /// Draw at the checkpoint's nearest aspect bin, then resize and crop (diffusers' `use_resolution_binning`).
    pub resolution_binning: bool,
    /// Run DeepFloyd IF's caption clean-up first (diffusers' `clean_caption`).
    pub clean_caption: bool,
    /// Put the prompts into the PNG beside the receipt.
    pub embed_prompt: bool,
    /// What kind of file the picture becomes.
    pub output_format: OutputFormat,
    /// Quality of a JPEG, [`Compression::DEFAULT`] when left out; without effect on the formats that lose nothing.
    pub output_compression: Option<Compression>,
}

impl GenerateRequest {
    /// The compression in force: none for the formats that lose nothing.
    pub fn compression(&self) -> Option<Compression> {
        match self.output_format {
            OutputFormat::Jpeg => Some(self.output_compression.unwrap_or(Compression::DEFAULT)),
            OutputFormat::Png | OutputFormat::Webp => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prompt_refuses_blank_nul_and_endless_text() {
        assert_eq!(Prompt::new(" \t\n"), Err(InvalidRequest::EmptyPrompt));
        assert!(matches!(
            Prompt::new("a\0b"),
            Err(InvalidRequest::NulInPrompt { position: 1, .. })
        ));
        assert!(matches!(
            Prompt::new("x".repeat(10_000)),
            Err(InvalidRequest::PromptTooLong { got: 10_000, .. })
        ));
        assert!(Prompt::new("צבר קטן עם פנים שמחות").is_ok());
        assert!(Prompt::negative("").is_ok());
        for blank in ["", " \t\n"] {
            assert!(Prompt::maybe_empty(blank).unwrap().is_blank());
        }
        assert!(Prompt::maybe_empty("a\0b").is_err());
    }

    #[test]
    fn prompt_keeps_its_text_out_of_debug_output() {
        let prompt = Prompt::new("a secret garden").unwrap();
        assert_eq!(format!("{prompt:?}"), "Prompt(15 characters)");
    }

    #[test]
    fn guidance_refuses_nan_and_negative_numbers() {
        for scale in [f32::NAN, f32::INFINITY, -1.0, 1e9] {
            assert!(Guidance::new(scale).is_err(), "{scale}");
        }
        assert!(!Guidance::new(1.0).unwrap().is_active());
        assert!(Guidance::new(1.5).unwrap().is_active());
    }

    #[test]
    fn size_names_the_nearest_multiple() {
        let error = ImageSize::new(1000, 8)
            .unwrap()
            .check_multiple(16)
            .unwrap_err();
        assert!(
            error.to_string().contains("1008x16") || error.to_string().contains("992x16"),
            "{error}"
        );
        assert!(
            ImageSize::new(1024, 768)
                .unwrap()
                .check_multiple(16)
                .is_ok()
        );
    }

    #[test]
    fn size_refuses_zero_and_nonsense() {
        for text in [
            "0x128", "128x0", "128", "x", "128x", "-1x5", "99999x16", "1e3x16", "+16x16", " 16x16",
        ] {
            assert!(text.parse::<ImageSize>().is_err(), "{text}");
        }
        assert_eq!(
            "192x96".parse::<ImageSize>().unwrap(),
            ImageSize::new(192, 96).unwrap()
        );
    }

    #[test]
    fn steps_stay_between_one_and_a_thousand() {
        assert!(Steps::new(0).is_err());
        assert!(Steps::new(1001).is_err());
        assert_eq!(Steps::new(4).unwrap().count(), 4);
    }
}
