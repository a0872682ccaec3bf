//! What a request asks to be drawn: one parser for our own endpoints and for OpenAI's.
//!
//! What it is not: complete. What the request leaves open is filled in by the model's defaults, and what only the model
//! can refuse (a size that its patches do not tile, a cost beyond the limits) is refused there.

use std::time::Duration;

use super::error::{ApiError, ErrorCode};
use super::fields::{Fields, conflicting, missing};
use crate::domain::{Decoder, Guidance, ImageSize, OutputFormat, Prompt, SchedulerKind, Steps};

/// The longest deadline in seconds: a day.
const MAX_DEADLINE_SECONDS: f64 = 86_400.0;
/// The longest time in seconds that a job waits for its followers: an hour.
const MAX_ABANDON_SECONDS: f64 = 3600.0;
/// The most previews that one picture sends.
pub const MAX_PARTIAL_IMAGES: u64 = 3;
/// The names that fields go by, the one of receipts first.
const STEPS: [&str; 3] = ["num_inference_steps", "steps", "step"];
const GUIDANCE: [&str; 2] = ["guidance_scale", "cfg_scale"];
const SEED: [&str; 2] = ["seed", "rng_seed"];
/// OpenAI's models that answered with URLs unless told otherwise. Programs that were written for them read `url` alone.
const URL_BY_DEFAULT: [&str; 2] = ["dall-e-2", "dall-e-3"];
/// Fields of OpenAI's images that say nothing to this model.
const WITHOUT_EFFECT: [&str; 4] = ["quality", "background", "moderation", "style"];

/// Whose words a request is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    /// Ours: a field that nobody knows is refused.
    Own,
    /// OpenAI's: a field that nobody knows is told and ignored, for SDKs send what other servers understand.
    Openai,
}

/// What the settings allow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Most pictures of one request.
    pub max_images: u32,
    /// Most denoising steps.
    pub max_steps: u32,
    /// Longest side in pixels.
    pub max_side_px: u32,
}

/// How pictures travel inside JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ResponseFormat {
    /// In base64.
    B64Json,
    /// As an address to fetch them from.
    Url,
}

impl ResponseFormat {
    /// Each under the name that requests give it.
    pub const NAMED: [(&str, Self); 2] = [("b64_json", Self::B64Json), ("url", Self::Url)];
}

/// Something true about the request that its sender may not expect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    /// What it is about, in a word that programs compare.
    pub code: &'static str,
    /// The same for people.
    pub message: String,
    /// The field.
    pub param: Option<String>,
}

/// How a request spells the fields that have several names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Spelled {
    steps: &'static str,
    guidance: &'static str,
    /// Whether the size came as `width` and `height`.
    sides: bool,
}

impl Spelled {
    /// The name under which the request has what the domain calls `field`. `at_fault` says of a size which of its sides is.
    pub fn name(self, field: &'static str, at_fault: Option<&'static str>) -> &'static str {
        match field {
            "steps" => self.steps,
            "guidance_scale" => self.guidance,
            "size" if self.sides => at_fault.unwrap_or("width"),
            other => other,
        }
    }
}

/// A request to draw, its parts parsed. None: left to the model.
#[derive(Debug, Clone, PartialEq)]
pub struct DrawingRequest {
    /// What to draw.
    pub prompt: Prompt,
    /// What to keep away from.
    pub negative_prompt: Option<Prompt>,
    /// Size of the picture.
    pub size: Option<ImageSize>,
    /// Denoising steps.
    pub steps: Option<Steps>,
    /// Classifier-free guidance scale.
    pub guidance: Option<Guidance>,
    /// Seed of the first picture. None: any.
    pub seed: Option<u64>,
    /// Number of pictures.
    pub images: u32,
    /// Which solver walks the noise schedule.
    pub scheduler: Option<SchedulerKind>,
    /// What makes pixels of latents.
    pub decoder: Option<Decoder>,
    /// File format. None: by `Accept`, else PNG.
    pub output_format: Option<OutputFormat>,
    /// Quality of the file, 0 to 100.
    pub output_compression: Option<u8>,
    /// How pictures travel inside JSON.
    pub response_format: ResponseFormat,
    /// Time after which the picture is of no use any more.
    pub deadline: Option<Duration>,
    /// How long a job goes on while nobody follows it.
    pub abandon_after: Option<Duration>,
    /// Whether the answer is a stream of events.
    pub stream: bool,
    /// Previews of each picture, in a stream.
    pub partial_images: u8,
    /// Whether to draw at the nearest size that the model was trained for.
    pub resolution_binning: Option<bool>,
    /// Whether to clean the prompts up first.
    pub clean_caption: bool,
    /// Whether to put the prompts into the file.
    pub embed_prompt: bool,
    /// The names under which its fields came.
    pub spelled: Spelled,
    /// The model asked for, by name or alias: still to be compared.
    pub model: Option<String>,
    /// What was ignored.
    pub notes: Vec<Note>,
}

impl DrawingRequest {
    /// Reads a request from its `fields`.
    ///
    /// # Errors
    /// When a field is missing, unknown, there twice, or has a value that cannot be drawn within `limits`.
    pub fn parse(mut fields: Fields, dialect: Dialect, limits: &Limits) -> Result<Self, ApiError> {
        let prompt = fields.string("prompt")?;
        let prompt = match dialect {
            Dialect::Own => Prompt::maybe_empty(prompt)?,
            // Theirs refuses an empty one, and their callers hardly mean it.
            Dialect::Openai => Prompt::new(prompt)?,
        };
        let negative_prompt = fields
            .optional_string("negative_prompt")?
            .map(Prompt::negative)
            .transpose()?;
        let steps = fields
            .integer(&STEPS, 1..=limits.max_steps.into())?
            .map(|steps| Steps::new(narrow(steps)))
            .transpose()?;
        let images = fields.integer(&["n"], 1..=limits.max_images.into())?;
        let output_compression = fields.integer(&["output_compression"], 0..=100)?;
        let partial_images = fields.integer(&["partial_images"], 0..=MAX_PARTIAL_IMAGES)?;
        let formats = OutputFormat::ALL.map(|format| (format.name(), format));
        let schedulers = [SchedulerKind::Lcm, SchedulerKind::DpmSolverPlusPlus]
            .map(|scheduler| (scheduler.name(), scheduler));
        let decoders = Decoder::ALL.map(|decoder| (decoder.name(), decoder));
        let mut request = Self {
            prompt,
            negative_prompt,
            size: size(&mut fields, limits)?,
            steps,
            guidance: guidance(&mut fields)?,
            seed: fields.integer_or_any(&SEED, 0..=u64::MAX)?,
            images: images.map_or(1, narrow),
            scheduler: fields.choice("scheduler", &schedulers)?,
            decoder: fields.choice("decoder", &decoders)?,
            output_format: fields.choice("output_format", &formats)?,
            output_compression: output_compression.map(narrow),
            response_format: ResponseFormat::B64Json,
            deadline: fields
                .positive_number("deadline_seconds", MAX_DEADLINE_SECONDS)?
                .map(Duration::from_secs_f64),
            abandon_after: fields
                .positive_number("abandon_after_seconds", MAX_ABANDON_SECONDS)?
                .map(Duration::from_secs_f64),
            stream: fields.boolean("stream")?.unwrap_or(false),
            partial_images: partial_images.map_or(0, narrow),
            resolution_binning: fields.boolean("resolution_binning")?,
            clean_caption: fields.boolean("clean_caption")?.unwrap_or(false),
            embed_prompt: fields.boolean("embed_prompt")?.unwrap_or(false),
            spelled: Spelled {
                steps: fields.spelled(&STEPS),
                guidance: fields.spelled(&GUIDANCE),
                sides: fields.spelled(&["size", "width"]) == "width",
            },
            model: fields.optional_string("model")?,
            notes: Vec::new(),
        };
        request.response_format = fields
            .choice("response_format", &ResponseFormat::NAMED)?
            .unwrap_or_else(|| request.usual_format(dialect));
        match dialect {
            Dialect::Own => fields.finish_strictly()?,
            Dialect::Openai => request.notes = ignored(fields),
        }
        Ok(request)
    }

    /// How pictures travel where the request does not say.
    fn usual_format(&self, dialect: Dialect) -> ResponseFormat {
        let model = self.model.as_deref().unwrap_or_default().trim();
        let asks_old = URL_BY_DEFAULT
            .iter()
            .any(|old| old.eq_ignore_ascii_case(model));
        // Their events have base64 alone.
        if dialect == Dialect::Openai && asks_old && !self.stream {
            ResponseFormat::Url
        } else {
            ResponseFormat::B64Json
        }
    }
}

/// A number whose range was checked, in the type that has the range.
fn narrow<T: TryFrom<u64>>(number: u64) -> T {
    T::try_from(number)
        .ok()
        .expect("the range that it was taken with fits the type")
}

/// `guidance_scale`, whose bound is the domain's.
fn guidance(fields: &mut Fields) -> Result<Option<Guidance>, ApiError> {
    let scale = fields.number(&GUIDANCE, 0.0..=f64::from(Guidance::MAX))?;
    #[expect(
        clippy::cast_possible_truncation,
        reason = "the arithmetic is f32, and 0 to 50 stays 0 to 50"
    )]
    let guidance = scale.map(|scale| Guidance::new(scale as f32)).transpose()?;
    Ok(guidance)
}

/// `size`, or `width` and `height`; None where the model chooses.
fn size(fields: &mut Fields, limits: &Limits) -> Result<Option<ImageSize>, ApiError> {
    let sides = 1..=u64::from(limits.max_side_px);
    let text = fields.optional_string("size")?;
    let width_px = fields.integer(&["width"], sides.clone())?;
    let height_px = fields.integer(&["height"], sides)?;
    let size = match (text, width_px, height_px) {
        (None, None, None) => return Ok(None),
        (Some(_), Some(_), _) => return Err(conflicting("size", "width")),
        (Some(_), None, Some(_)) => return Err(conflicting("size", "height")),
        (None, Some(_), None) => return Err(missing("height")),
        (None, None, Some(_)) => return Err(missing("width")),
        (None, Some(width_px), Some(height_px)) => {
            ImageSize::new(narrow(width_px), narrow(height_px))?
        }
        (Some(text), None, None) if text == "auto" => return Ok(None),
        // Whatever is wrong with a side, the field is `size`.
        (Some(text), None, None) => text
            .parse()
            .map_err(|invalid| ApiError::from(invalid).about("size"))?,
    };
    let most = limits.max_side_px;
    if size.width_px() > most || size.height_px() > most {
        let what = format!("size is {size}: no side may have more than {most} px here");
        return Err(ApiError::new(ErrorCode::InvalidValue, what).about("size"));
    }
    Ok(Some(size))
}

/// Notes on what is left of a request in OpenAI's words.
fn ignored(mut fields: Fields) -> Vec<Note> {
    let note = |name: String, message: String| Note {
        code: "ignored_field",
        message,
        param: Some(name),
    };
    // It says who asks, which is nothing to draw.
    fields.any("user");
    let mut notes: Vec<Note> = WITHOUT_EFFECT
        .iter()
        .filter(|&&name| {
            let value = fields.any(name);
            // "auto" leaves it to the server, which is what happens.
            value.is_some_and(|value| value != "auto")
        })
        .map(|&name| note(name.to_owned(), format!("{name} has no effect here")))
        .collect();
    notes.extend(fields.finish().into_iter().map(|unknown| {
        let message = unknown.to_string();
        note(unknown.name, message)
    }));
    notes
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::http::body::Object;

    const LIMITS: Limits = Limits {
        max_images: 10,
        max_steps: 100,
        max_side_px: 2048,
    };

    fn parse(dialect: Dialect, json: Value) -> Result<DrawingRequest, ApiError> {
        let object = Object::parse(json.to_string().as_bytes()).unwrap();
        DrawingRequest::parse(Fields::new(object), dialect, &LIMITS)
    }

    /// The request with these fields beside its prompt.
    fn with(mut fields: Value) -> Result<DrawingRequest, ApiError> {
        fields["prompt"] = "a cactus".into();
        parse(Dialect::Own, fields)
    }

    #[track_caller]
    fn refused(fields: Value, code: &str, param: &str) -> String {
        let error = with(fields).unwrap_err();
        assert_eq!((error.code().name(), error.param()), (code, Some(param)));
        error.message(None)
    }

    #[test]
    fn a_prompt_is_enough() {
        let request = with(json!({})).unwrap();
        assert_eq!(request.prompt.as_str(), "a cactus");
        assert_eq!((request.images, request.stream), (1, false));
        assert_eq!(request.response_format, ResponseFormat::B64Json);
        assert_eq!((request.size, request.seed), (None, None));
        assert_eq!(request.notes, []);
    }

    #[test]
    fn every_field_is_read() {
        let request = with(json!({
            "negative_prompt": "", "size": "512x256", "num_inference_steps": 4.0, "guidance_scale": 3,
            "seed": u64::MAX, "n": 10, "scheduler": "lcm", "decoder": "tiny", "output_format": "webp",
            "output_compression": 0, "response_format": "url", "deadline_seconds": 0.5,
            "abandon_after_seconds": 10,
            "stream": true, "partial_images": 3, "resolution_binning": false,
            "clean_caption": true, "embed_prompt": true, "model": "sketchbook",
        }))
        .unwrap();
        assert_eq!(request.negative_prompt.unwrap().as_str(), "");
        assert_eq!(request.size.unwrap().to_string(), "512x256");
        assert_eq!(request.steps.unwrap().count(), 4);
        assert!((request.guidance.unwrap().scale() - 3.0).abs() < f32::EPSILON);
        assert_eq!((request.seed, request.images), (Some(u64::MAX), 10));
        assert_eq!(request.scheduler, Some(SchedulerKind::Lcm));
        assert_eq!(request.decoder, Some(Decoder::Tiny));
        assert_eq!(request.output_format, Some(OutputFormat::Webp));
        assert_eq!(request.output_compression, Some(0));
        assert_eq!(request.response_format, ResponseFormat::Url);
        assert_eq!(request.deadline, Some(Duration::from_millis(500)));
        assert_eq!(request.abandon_after, Some(Duration::from_secs(10)));
        assert_eq!((request.stream, request.partial_images), (true, 3));
        assert_eq!(request.resolution_binning, Some(false));
        assert!(request.clean_caption && request.embed_prompt);
        assert_eq!(request.model.as_deref(), Some("sketchbook"));
    }

    #[test]
    fn other_spellings_are_taken() {
        for (spelling, value) in [("steps", 7), ("step", 7), ("rng_seed", 7), ("cfg_scale", 7)] {
            assert!(with(json!({ spelling: value })).is_ok(), "{spelling}");
        }
        let request = with(json!({"width": 640, "height": 320.0})).unwrap();
        assert_eq!(request.size.unwrap().to_string(), "640x320");
        assert_eq!(with(json!({"size": "auto"})).unwrap().size, None);
        refused(json!({"steps": 4, "step": 4}), "conflicting_fields", "step");
    }

    #[test]
    fn a_value_that_cannot_be_drawn_is_refused_by_field() {
        for (field, value) in [
            ("num_inference_steps", json!(0)),
            ("steps", json!(101)),
            ("step", json!(4.5)),
            ("guidance_scale", json!(-0.1)),
            ("guidance_scale", json!(50.000_000_000_1)),
            ("cfg_scale", json!("3")),
            ("seed", json!(-2)),
            ("rng_seed", json!(-1.5)),
            ("seed", json!(1.5)),
            ("n", json!(0)),
            ("n", json!(11)),
            ("size", json!("0x64")),
            ("size", json!("4096x64")),
            ("size", json!("64x999999")),
            ("size", json!("big")),
            ("size", json!(64)),
            ("scheduler", json!("ddim")),
            ("output_format", json!("gif")),
            ("output_compression", json!(101)),
            ("response_format", json!("png")),
            ("deadline_seconds", json!(0)),
            ("deadline_seconds", json!(86_401)),
            ("abandon_after_seconds", json!(0)),
            ("abandon_after_seconds", json!(3601)),
            ("stream", json!("true")),
            ("partial_images", json!(4)),
            ("embed_prompt", json!(1)),
            ("model", json!(["a"])),
            ("negative_prompt", json!("a\0b")),
        ] {
            refused(json!({ field: value }), "invalid_value", field);
        }
        refused(json!({"width": 64}), "missing_field", "height");
        refused(json!({"height": 64}), "missing_field", "width");
        refused(
            json!({"width": 64, "height": 2049}),
            "invalid_value",
            "height",
        );
        refused(
            json!({"size": "auto", "width": 64}),
            "conflicting_fields",
            "width",
        );
        refused(json!({"sizes": "64x64"}), "unknown_field", "sizes");
        refused(json!({"quality": "hd"}), "unknown_field", "quality");
    }

    #[test]
    fn a_prompt_is_required_and_never_repeated() {
        for (fields, code) in [
            (json!({}), "missing_field"),
            (json!({"prompt": null}), "missing_field"),
            (json!({"prompt": ["a secret"]}), "invalid_value"),
            (json!({"prompt": "a secret\0"}), "invalid_value"),
            (json!({"prompt": "a secret".repeat(600)}), "invalid_value"),
        ] {
            let error = parse(Dialect::Own, fields).unwrap_err();
            assert_eq!((error.code().name(), error.param()), (code, Some("prompt")));
            assert!(!error.message(None).contains("secret"));
        }
        let request = parse(Dialect::Own, json!({"prompt": "a secret"})).unwrap();
        assert!(!format!("{request:?}").contains("secret"));
    }

    #[test]
    fn an_empty_prompt_is_taken_where_it_is_ours_and_refused_where_it_is_openais() {
        for prompt in ["", " ", "\u{3000}\n"] {
            let request = parse(Dialect::Own, json!({"prompt": prompt})).unwrap();
            assert_eq!(request.prompt.as_str(), prompt);
            let error = parse(Dialect::Openai, json!({"prompt": prompt})).unwrap_err();
            let refused = (error.code().name(), error.param());
            assert_eq!(refused, ("invalid_value", Some("prompt")));
        }
    }

    #[test]
    fn a_seed_of_minus_one_is_any() {
        for (name, seed) in [
            ("seed", json!(-1)),
            ("seed", json!(-1.0)),
            ("rng_seed", json!(-1)),
        ] {
            assert_eq!(with(json!({ name: seed })).unwrap().seed, None);
        }
        let message = refused(json!({"seed": -2}), "invalid_value", "seed");
        assert!(message.contains("-1 for any"), "{message}");
    }

    #[test]
    fn the_old_models_of_openai_answer_with_urls_unless_told_otherwise() {
        use ResponseFormat::{B64Json, Url};
        let format = |dialect, mut fields: Value| {
            fields["prompt"] = "a cactus".into();
            parse(dialect, fields).unwrap().response_format
        };
        for (fields, expected) in [
            (json!({"model": "dall-e-2"}), Url),
            (json!({"model": "DALL-E-3"}), Url),
            (json!({"model": "dall-e-3", "response_format": null}), Url),
            (
                json!({"model": "dall-e-3", "response_format": "b64_json"}),
                B64Json,
            ),
            (json!({"model": "dall-e-3", "stream": true}), B64Json),
            (json!({"model": "gpt-image-1"}), B64Json),
            (json!({"model": ""}), B64Json),
            (json!({}), B64Json),
        ] {
            assert_eq!(
                format(Dialect::Openai, fields.clone()),
                expected,
                "{fields}"
            );
        }
        assert_eq!(format(Dialect::Own, json!({"model": "dall-e-3"})), B64Json);
    }

    #[test]
    fn a_field_is_called_as_it_came() {
        let name = |fields, field, at_fault| with(fields).unwrap().spelled.name(field, at_fault);
        for names in [&STEPS[..], &["num_inference_steps"]] {
            for spelling in names {
                assert_eq!(name(json!({ *spelling: 4 }), "steps", None), *spelling);
            }
        }
        for spelling in GUIDANCE {
            assert_eq!(
                name(json!({ spelling: 4 }), "guidance_scale", None),
                spelling
            );
        }
        let sides = || json!({"width": 64, "height": 64});
        assert_eq!(name(sides(), "size", Some("height")), "height");
        assert_eq!(
            name(json!({"size": "64x64"}), "size", Some("height")),
            "size"
        );
        assert_eq!(name(json!({}), "steps", None), "num_inference_steps");
        assert_eq!(name(json!({}), "decoder", None), "decoder");
    }

    #[test]
    fn a_long_size_is_not_repeated_at_length() {
        let message = refused(json!({"size": "9".repeat(5000)}), "invalid_value", "size");
        assert!(message.len() < 200, "{message}");
    }

    #[test]
    fn what_openai_has_beyond_ours_is_told_and_ignored() {
        let request = parse(
            Dialect::Openai,
            json!({
                "prompt": "a cactus", "model": null, "n": null, "quality": "hd", "background": "auto",
                "moderation": "low", "style": null, "user": "u-1", "input_fidelity": "high", "sede": 1,
            }),
        )
        .unwrap();
        let told: Vec<_> = request
            .notes
            .iter()
            .map(|note| (note.code, note.param.as_deref().unwrap()))
            .collect();
        assert_eq!(
            told,
            [
                ("ignored_field", "quality"),
                ("ignored_field", "moderation"),
                // Unknown ones in the order of the request, which serde_json's `json!` sorts by name.
                ("ignored_field", "input_fidelity"),
                ("ignored_field", "sede"),
            ]
        );
        assert!(request.notes[3].message.contains("did you mean seed?"));
    }
}
