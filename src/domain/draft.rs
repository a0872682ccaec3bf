//! A request as its sender left it: the gaps are filled with what the model prefers, in one place for every face.

use super::{
    Compression, Decoder, GenerateRequest, Guidance, ImageSize, OutputFormat, Prompt,
    SchedulerKind, Seed, Steps,
};

/// What a model draws with when a request leaves it open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RequestDefaults {
    /// The scheduler that the checkpoint was made for.
    pub scheduler: SchedulerKind,
    /// What makes pixels of latents.
    pub decoder: Decoder,
    /// The size that the checkpoint was trained for.
    pub size: ImageSize,
    /// Whether sizes move to the nearest aspect bin that the checkpoint was trained for.
    pub resolution_binning: bool,
}

/// A request with gaps. Every part is already parsed, so the fields are plain.
#[derive(Debug, Clone, PartialEq)]
pub struct RequestDraft {
    /// What to draw.
    pub prompt: Prompt,
    /// What to keep away from; nothing in particular when left out.
    pub negative_prompt: Option<Prompt>,
    /// Denoising steps; the scheduler's own number when left out.
    pub steps: Option<Steps>,
    /// Classifier-free guidance scale; the scheduler's own when left out.
    pub guidance: Option<Guidance>,
    /// Seed of the noise.
    pub seed: Seed,
    /// Size of the finished picture; the model's own when left out.
    pub size: Option<ImageSize>,
    /// Which solver walks the noise schedule; the model's own when left out.
    pub scheduler: Option<SchedulerKind>,
    /// What makes pixels of latents; as the settings have it when left out.
    pub decoder: Option<Decoder>,
    /// Whether to draw at the checkpoint's nearest aspect bin; as the checkpoint is made for when left out.
    pub resolution_binning: Option<bool>,
    /// Run DeepFloyd IF's caption clean-up first.
    pub clean_caption: bool,
    /// Put the prompts into the PNG beside the receipt.
    pub embed_prompt: bool,
    /// What kind of file the picture becomes.
    pub output_format: OutputFormat,
    /// Quality of a JPEG.
    pub output_compression: Option<Compression>,
}

impl RequestDraft {
    /// A draft with every gap open: PNG, nothing cleaned, nothing embedded.
    pub fn new(prompt: Prompt, seed: Seed) -> Self {
        Self {
            prompt,
            negative_prompt: None,
            steps: None,
            guidance: None,
            seed,
            size: None,
            scheduler: None,
            decoder: None,
            resolution_binning: None,
            clean_caption: false,
            embed_prompt: false,
            output_format: OutputFormat::Png,
            output_compression: None,
        }
    }

    /// Fills the gaps. Steps and guidance follow the scheduler that comes out of it.
    pub fn complete(self, defaults: &RequestDefaults) -> GenerateRequest {
        let scheduler = self.scheduler.unwrap_or(defaults.scheduler);
        GenerateRequest {
            prompt: self.prompt,
            negative_prompt: self.negative_prompt.unwrap_or_else(Prompt::empty),
            steps: self.steps.unwrap_or(scheduler.default_steps()),
            guidance: self.guidance.unwrap_or(scheduler.default_guidance()),
            seed: self.seed,
            size: self.size.unwrap_or(defaults.size),
            scheduler,
            decoder: self.decoder.unwrap_or(defaults.decoder),
            resolution_binning: self
                .resolution_binning
                .unwrap_or(defaults.resolution_binning),
            clean_caption: self.clean_caption,
            embed_prompt: self.embed_prompt,
            output_format: self.output_format,
            output_compression: self.output_compression,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn draft() -> RequestDraft {
        RequestDraft::new(Prompt::new("a boat").unwrap(), Seed::new(7))
    }

    fn defaults(scheduler: SchedulerKind) -> RequestDefaults {
        RequestDefaults {
            scheduler,
            decoder: Decoder::Tiny,
            size: ImageSize::new(512, 256).unwrap(),
            resolution_binning: true,
        }
    }

    #[test]
    fn gaps_are_filled_with_what_the_model_prefers() {
        let request = draft().complete(&defaults(SchedulerKind::Lcm));
        assert_eq!(request.negative_prompt.as_str(), "");
        assert_eq!(request.steps.count(), 4);
        assert!(!request.guidance.is_active());
        assert_eq!(request.size.to_string(), "512x256");
        assert_eq!(request.scheduler, SchedulerKind::Lcm);
        assert!(request.resolution_binning);
        assert_eq!(request.decoder, Decoder::Tiny);
        assert_eq!(request.output_format, OutputFormat::Png);
    }

    #[test]
    fn steps_and_guidance_follow_the_scheduler_that_was_asked_for() {
        let draft = RequestDraft {
            scheduler: Some(SchedulerKind::DpmSolverPlusPlus),
            ..draft()
        };
        let request = draft.complete(&defaults(SchedulerKind::Lcm));
        assert_eq!(request.steps.count(), 20);
        assert!(request.guidance.is_active());
    }

    #[test]
    fn what_was_asked_for_stays() {
        let draft = RequestDraft {
            negative_prompt: Some(Prompt::negative("rain").unwrap()),
            steps: Some(Steps::new(3).unwrap()),
            guidance: Some(Guidance::new(2.0).unwrap()),
            size: Some(ImageSize::new(64, 64).unwrap()),
            decoder: Some(Decoder::Full),
            resolution_binning: Some(false),
            clean_caption: true,
            embed_prompt: true,
            output_format: OutputFormat::Jpeg,
            output_compression: Some(Compression::new(50).unwrap()),
            ..draft()
        };
        let request = draft
            .clone()
            .complete(&defaults(SchedulerKind::DpmSolverPlusPlus));
        assert_eq!(request.prompt, draft.prompt);
        assert_eq!(Some(request.negative_prompt), draft.negative_prompt);
        assert_eq!(Some(request.steps), draft.steps);
        assert_eq!(Some(request.guidance), draft.guidance);
        assert_eq!(request.seed, draft.seed);
        assert_eq!(Some(request.size), draft.size);
        assert!(!request.resolution_binning);
        assert_eq!(Some(request.decoder), draft.decoder);
        assert!(request.clean_caption && request.embed_prompt);
        assert_eq!(request.output_format, OutputFormat::Jpeg);
        assert_eq!(request.output_compression, draft.output_compression);
    }
}
