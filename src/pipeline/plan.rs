//! What a request would draw, found out in milliseconds and without a network: every check that drawing makes first.
//!
//! A [`Planner`] is shared between whoever answers requests and the pipeline that draws them, so that what is refused at
//! the door and what is refused at work cannot differ. It never changes after it is made.

use std::fmt;
use std::time::{Duration, Instant};

use super::cost::ImageCost;
use super::schedule::{Schedule, ScheduleError};
use super::text::Both;
use super::tokenizer::{PromptTokenizer, PromptTokens};
use super::{ModelFacts, PipelineError, caption};
use crate::domain::{
    Decoder, GenerateRequest, ImageSize, InvalidRequest, OutputFormat, Prompt, RequestDefaults,
    SchedulerKind, Steps, Warning,
};
use crate::model::{Bins, SchedulerConfig};

/// All that is known of a model before its networks run.
pub struct Planner {
    tokenizer: PromptTokenizer,
    scheduler: SchedulerConfig,
    facts: ModelFacts,
    defaults: RequestDefaults,
    most_lcm_steps: Option<Steps>,
    most_dpm_solver_steps: Option<Steps>,
}

/// What drawing a request comes to.
pub struct Plan {
    /// The size that is drawn, before resize and crop; the request's own without binning.
    pub drawn_size: ImageSize,
    /// Calls of the transformer. As many as the request's steps, unless the checkpoint's configuration clips noise levels.
    pub steps: usize,
    /// The prompt's tokens.
    pub prompt: TokenCount,
    /// The negative prompt's; none while guidance is not active.
    pub negative_prompt: Option<TokenCount>,
    /// What can be told before the picture is there.
    pub warnings: Vec<Warning>,
    /// What the networks compute and hold for one image.
    pub cost: ImageCost,
    pub(super) schedule: Schedule,
    /// Token ids at their true lengths.
    pub(super) ids: Both<Vec<i64>>,
    /// Time of prompt clean-up and tokens.
    pub(super) tokenize: Duration,
}

/// How much of a prompt the model reads.
///
/// `Debug` shows numbers alone: prompts are people's data and stay out of logs.
#[derive(Clone, PartialEq, Eq)]
pub struct TokenCount {
    /// Tokens of the whole text, end mark included.
    pub found: usize,
    /// Tokens that the model reads, end mark included.
    pub read: usize,
    /// The beginning of what it does not read, as [`PromptTokens::lost`] has it.
    pub lost: String,
}

impl Planner {
    /// Puts the parts together.
    pub fn new(
        tokenizer: PromptTokenizer,
        scheduler: SchedulerConfig,
        facts: ModelFacts,
        defaults: RequestDefaults,
    ) -> Self {
        Self {
            most_lcm_steps: most_steps(SchedulerKind::Lcm, &scheduler),
            most_dpm_solver_steps: most_steps(SchedulerKind::DpmSolverPlusPlus, &scheduler),
            tokenizer,
            scheduler,
            facts,
            defaults,
        }
    }

    /// What it knows of its model.
    pub fn facts(&self) -> &ModelFacts {
        &self.facts
    }

    /// What the model draws with when a request leaves it open.
    pub fn defaults(&self) -> &RequestDefaults {
        &self.defaults
    }

    /// The scheduler that the checkpoint was made for.
    pub fn own_scheduler(&self) -> SchedulerKind {
        self.scheduler.kind()
    }

    /// The most steps that this scheduler's schedule can be made with for this checkpoint; none where it cannot be made at all.
    /// Fewer may still be refused: where `steps_offset` moves timesteps out of the table, some numbers do and others do not.
    pub fn max_steps(&self, scheduler: SchedulerKind) -> Option<Steps> {
        match scheduler {
            SchedulerKind::Lcm => self.most_lcm_steps,
            SchedulerKind::DpmSolverPlusPlus => self.most_dpm_solver_steps,
        }
    }

    /// The most tokens of a prompt that the model reads, end mark included.
    pub fn max_tokens(&self) -> usize {
        self.tokenizer.max_tokens()
    }

    /// What both sides of a drawn size are multiples of: VAE scale factor × patch size.
    pub fn size_multiple_px(&self) -> u32 {
        // At most 2^7 × 64 by the specifications' ranges.
        u32::try_from(self.facts.vae_scale_factor * self.facts.patch_size).unwrap_or(u32::MAX)
    }

    /// Whether the model has a tiny decoder beside its own.
    pub fn has_tiny_decoder(&self) -> bool {
        self.facts.tiny_vae_scaling_factor.is_some()
    }

    /// The aspect bins of the checkpoint, if it has any.
    pub fn bins(&self) -> Option<&'static Bins> {
        let sample_size = u32::try_from(self.facts.sample_size).ok()?;
        Bins::for_sample_size(self.facts.class, sample_size)
    }

    /// The only size that a traced transformer draws; none where any is drawn.
    pub fn frozen_size(&self) -> Option<ImageSize> {
        let (rows, columns) = self.facts.frozen_grid?;
        let side = |tokens: usize| {
            u32::try_from(tokens)
                .ok()?
                .checked_mul(self.size_multiple_px())
        };
        ImageSize::new(side(columns)?, side(rows)?).ok()
    }

    /// Checks a request against the model and says what drawing it comes to.
    ///
    /// # Errors
    /// When the request does not suit the model.
    pub fn plan(&self, request: &GenerateRequest) -> Result<Plan, PipelineError> {
        let drawn_size = self.drawn_size(request)?;
        if request.decoder == Decoder::Tiny && !self.has_tiny_decoder() {
            return Err(InvalidRequest::NoTinyDecoder.into());
        }
        let schedule = Schedule::new(request.scheduler, &self.scheduler, request.steps)?;
        let mut warnings = warnings_of(request, drawn_size);

        let start = Instant::now();
        let prompt = self.tokens(&request.prompt, request)?;
        let negative = if request.guidance.is_active() {
            Some(self.tokens(&request.negative_prompt, request)?)
        } else {
            None
        };
        let tokenize = start.elapsed();
        // The end mark alone. Cleaning can take away all of a prompt as well.
        if prompt.found <= 1 {
            warnings.push(Warning::EmptyPrompt);
        }
        warnings.extend(cut("prompt", &prompt));
        warnings.extend(
            negative
                .as_ref()
                .and_then(|tokens| cut("negative_prompt", tokens)),
        );
        Ok(Plan {
            drawn_size,
            steps: schedule.timesteps().len(),
            prompt: TokenCount::of(&prompt),
            negative_prompt: negative.as_ref().map(TokenCount::of),
            warnings,
            cost: self.cost(request, drawn_size),
            schedule,
            ids: Both {
                prompt: prompt.ids,
                negative: negative.map(|tokens| tokens.ids),
            },
            tokenize,
        })
    }

    /// Token ids of a prompt that is not cleaned up first, at their true length.
    pub(super) fn ids(&self, prompt: &Prompt) -> Result<Vec<i64>, PipelineError> {
        let text = caption::preprocess(prompt.as_str(), false);
        Ok(self.tokenizer.encode(&text)?.ids)
    }

    /// The size that a request is drawn at: its own, or its aspect bin's.
    pub(super) fn drawn_size(&self, request: &GenerateRequest) -> Result<ImageSize, PipelineError> {
        let drawn = if request.resolution_binning {
            self.bins()
                .ok_or(PipelineError::NoBins {
                    sample_size: self.facts.sample_size,
                })?
                .nearest(request.size)
        } else {
            request.size
        };
        let multiple_px = self.size_multiple_px();
        drawn.check_multiple(multiple_px)?;
        let multiple = multiple_px as usize;
        let grid = (
            drawn.height_px() as usize / multiple,
            drawn.width_px() as usize / multiple,
        );
        match self.facts.frozen_grid {
            Some(frozen) if frozen != grid => Err(PipelineError::FrozenSize {
                asked: drawn,
                height_px: frozen.0 * multiple,
                width_px: frozen.1 * multiple,
            }),
            _ => Ok(drawn),
        }
    }

    fn tokens(
        &self,
        prompt: &Prompt,
        request: &GenerateRequest,
    ) -> Result<PromptTokens, PipelineError> {
        let text = caption::preprocess(prompt.as_str(), request.clean_caption);
        Ok(self.tokenizer.encode(&text)?)
    }
}

/// Whether a number of steps can be walked is known only from trying: `steps_offset` makes it go back and forth.
fn most_steps(kind: SchedulerKind, config: &SchedulerConfig) -> Option<Steps> {
    let mut count = Steps::MAX;
    while count > 0 {
        let steps = Steps::new(count).expect("1 to the most");
        count = match Schedule::new(kind, config, steps) {
            Ok(_) => return Some(steps),
            Err(ScheduleError::TooManySteps { limit, .. }) => u32::try_from(limit)
                .unwrap_or(count)
                .min(count.saturating_sub(1)),
            Err(ScheduleError::BeyondTraining { .. }) => count - 1,
            // The same for every number of steps.
            Err(ScheduleError::Config(_) | ScheduleError::NothingLeft { .. }) => return None,
        };
    }
    None
}

/// What can be told from the request alone.
fn warnings_of(request: &GenerateRequest, drawn: ImageSize) -> Vec<Warning> {
    let mut warnings = Vec::new();
    if !request.guidance.is_active() && !request.negative_prompt.as_str().is_empty() {
        warnings.push(Warning::NegativePromptWithoutEffect);
    }
    if drawn != request.size {
        warnings.push(Warning::SizeBinned {
            drawn,
            asked: request.size,
        });
    }
    let steps = request.steps.count();
    if request.scheduler == SchedulerKind::Lcm
        && !request.scheduler.recommended_steps().contains(&steps)
    {
        warnings.push(Warning::StepsOutsideLcmRange { steps });
    }
    let format = request.output_format;
    if request.output_compression.is_some() && request.compression().is_none() {
        warnings.push(Warning::CompressionWithoutEffect { format });
    }
    if request.embed_prompt && format != OutputFormat::Png {
        warnings.push(Warning::EmbedPromptWithoutEffect { format });
    }
    warnings
}

/// The warning about a prompt that is longer than the model reads.
fn cut(field: &'static str, tokens: &PromptTokens) -> Option<Warning> {
    (tokens.found > tokens.ids.len()).then(|| Warning::PromptCut {
        field,
        kept: tokens.ids.len(),
        found: tokens.found,
        lost: tokens.lost.clone(),
    })
}

impl TokenCount {
    fn of(tokens: &PromptTokens) -> Self {
        Self {
            found: tokens.found,
            read: tokens.ids.len(),
            lost: tokens.lost.clone(),
        }
    }
}

impl fmt::Debug for TokenCount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TokenCount({} of {})", self.read, self.found)
    }
}

impl fmt::Debug for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Plan")
            .field("drawn_size", &self.drawn_size)
            .field("steps", &self.steps)
            .field("prompt", &self.prompt)
            .field("negative_prompt", &self.negative_prompt)
            .field("warnings", &self.warnings)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Planner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Planner")
            .field("facts", &self.facts)
            .field("defaults", &self.defaults)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{Compression, Guidance, RequestDraft, Seed};
    use crate::model::PipelineClass;

    const SPIECE: &[u8] = include_bytes!("../../models/sketchbook/tokenizer/spiece.model");
    const SKETCHBOOK: &str =
        include_str!("../../models/sketchbook/scheduler/scheduler_config.json");

    fn facts() -> ModelFacts {
        ModelFacts {
            name: "fake".to_owned(),
            weights: "f16".to_owned(),
            device: "CPU".to_owned(),
            precision: "f32".to_owned(),
            processor: None,
            digest: "digest".to_owned(),
            openvino_version: "none".to_owned(),
            class: PipelineClass::Alpha,
            sample_size: 64,
            patch_size: 2,
            latent_channels: 4,
            micro_conditions: false,
            vae_scale_factor: 8,
            vae_scaling_factor: 0.5,
            tiny_vae_scaling_factor: None,
            frozen_grid: None,
            shapes: crate::model::published(),
        }
    }

    fn planner_of(facts: ModelFacts, scheduler: &str) -> Planner {
        let scheduler = SchedulerConfig::from_json(scheduler).unwrap();
        let defaults = RequestDefaults {
            scheduler: scheduler.kind(),
            decoder: Decoder::Full,
            size: ImageSize::new(128, 128).unwrap(),
            resolution_binning: false,
        };
        let tokenizer = PromptTokenizer::from_sentencepiece(SPIECE, 120).unwrap();
        Planner::new(tokenizer, scheduler, facts, defaults)
    }

    fn planner() -> Planner {
        planner_of(facts(), SKETCHBOOK)
    }

    fn draft(prompt: &str) -> RequestDraft {
        RequestDraft::new(Prompt::new(prompt).unwrap(), Seed::new(7))
    }

    fn request() -> GenerateRequest {
        draft("a red circle").complete(planner().defaults())
    }

    fn codes(request: &GenerateRequest) -> Vec<&'static str> {
        let plan = planner().plan(request).unwrap();
        plan.warnings.iter().map(Warning::code).collect()
    }

    #[test]
    fn a_planner_is_shared_between_threads() {
        fn shared<T: Send + Sync>() {}
        shared::<Planner>();
        shared::<Plan>();
    }

    #[test]
    fn a_plain_request_is_drawn_as_it_stands() {
        let plan = planner().plan(&request()).unwrap();
        assert_eq!(plan.drawn_size.to_string(), "128x128");
        assert_eq!(plan.steps, 4);
        assert!(plan.prompt.found > 3);
        assert_eq!(plan.prompt.read, plan.prompt.found);
        assert_eq!(plan.prompt.lost, "");
        assert_eq!(plan.negative_prompt, None);
        assert!(plan.warnings.is_empty());
    }

    #[test]
    fn what_does_not_suit_the_model_is_refused_by_field() {
        let refused = |planner: Planner, request: &GenerateRequest| {
            let error = planner.plan(request).unwrap_err();
            (error.field(), error.to_string())
        };
        let base = request();
        let odd = GenerateRequest {
            size: ImageSize::new(100, 128).unwrap(),
            ..base.clone()
        };
        let (field, message) = refused(planner(), &odd);
        assert_eq!(field, Some("size"), "{message}");
        assert!(message.contains("96x128"), "{message}");

        let binned = GenerateRequest {
            resolution_binning: true,
            ..base.clone()
        };
        let no_bins = ModelFacts {
            sample_size: 16,
            ..facts()
        };
        let (field, message) = refused(planner_of(no_bins, SKETCHBOOK), &binned);
        assert_eq!(field, Some("resolution_binning"), "{message}");

        let frozen = ModelFacts {
            frozen_grid: Some((4, 4)),
            ..facts()
        };
        let (field, message) = refused(planner_of(frozen, SKETCHBOOK), &base);
        assert_eq!(field, Some("size"), "{message}");
        assert!(message.contains("64x64"), "{message}");

        let many = GenerateRequest {
            steps: Steps::new(51).unwrap(),
            ..base
        };
        let (field, message) = refused(planner(), &many);
        assert_eq!(field, Some("steps"), "{message}");
        assert!(matches!(
            planner().plan(&odd),
            Err(PipelineError::Request(InvalidRequest::SizeMultiple { .. }))
        ));
    }

    #[test]
    fn a_size_is_moved_to_its_bin_and_that_is_told() {
        let request = GenerateRequest {
            resolution_binning: true,
            ..request()
        };
        let plan = planner().plan(&request).unwrap();
        assert_eq!(plan.drawn_size.to_string(), "512x512");
        assert_eq!(
            plan.warnings,
            [Warning::SizeBinned {
                drawn: plan.drawn_size,
                asked: request.size
            }]
        );
    }

    #[test]
    fn a_prompt_that_is_too_long_is_told_with_what_is_lost() {
        let long = "red circle ".repeat(100);
        let request = GenerateRequest {
            prompt: Prompt::new(long.clone()).unwrap(),
            negative_prompt: Prompt::negative(long).unwrap(),
            guidance: Guidance::new(4.0).unwrap(),
            ..request()
        };
        let plan = planner().plan(&request).unwrap();
        assert_eq!(plan.prompt.read, 120);
        assert!(plan.prompt.found > 200);
        assert!(plan.prompt.lost.contains("red circle"));
        assert_eq!(plan.negative_prompt.as_ref(), Some(&plan.prompt));
        let fields: Vec<_> = plan.warnings.iter().map(Warning::field).collect();
        assert_eq!(fields, [Some("prompt"), Some("negative_prompt")]);
        assert!(!format!("{plan:?}").contains("red"), "{plan:?}");
    }

    #[test]
    fn fields_without_effect_are_told() {
        let jpeg = GenerateRequest {
            output_format: OutputFormat::Jpeg,
            output_compression: Some(Compression::new(50).unwrap()),
            ..request()
        };
        assert!(codes(&jpeg).is_empty());
        let request = GenerateRequest {
            negative_prompt: Prompt::negative("rain").unwrap(),
            steps: Steps::new(9).unwrap(),
            output_format: OutputFormat::Webp,
            embed_prompt: true,
            ..jpeg
        };
        assert_eq!(
            codes(&request),
            [
                "negative_prompt_without_effect",
                "steps_outside_lcm_range",
                "output_compression_without_effect",
                "embed_prompt_without_effect"
            ]
        );
    }

    #[test]
    fn the_most_steps_are_those_that_a_schedule_can_be_made_with() {
        let dpm = |keys: &str| format!(r#"{{"_class_name": "DPMSolverMultistepScheduler"{keys}}}"#);
        for (scheduler, lcm, dpm_solver) in [
            (SKETCHBOOK.to_owned(), Some(50), Some(999)),
            (dpm(""), Some(50), Some(999)),
            (
                dpm(r#", "num_train_timesteps": 40, "original_inference_steps": 20"#),
                Some(20),
                Some(39),
            ),
            (
                dpm(r#", "timestep_spacing": "leading", "steps_offset": 60"#),
                Some(50),
                Some(939),
            ),
            // Nothing is left of the picture: no schedule at all.
            (dpm(r#", "num_train_timesteps": 100000"#), None, None),
        ] {
            let planner = planner_of(facts(), &scheduler);
            for (kind, most) in [
                (SchedulerKind::Lcm, lcm),
                (SchedulerKind::DpmSolverPlusPlus, dpm_solver),
            ] {
                let found = planner.max_steps(kind);
                assert_eq!(found.map(Steps::count), most, "{kind} of {scheduler}");
                if let Some(steps) = found {
                    let request = |steps| GenerateRequest {
                        scheduler: kind,
                        steps,
                        ..request()
                    };
                    assert!(planner.plan(&request(steps)).is_ok());
                    let above = Steps::new(u32::try_from(steps.count()).unwrap() + 1).unwrap();
                    assert!(planner.plan(&request(above)).is_err());
                }
            }
        }
    }
}
