//! What comes back: the picture, where the time went, and enough to draw it again.

use std::time::Duration;

use super::{GenerateRequest, ImageSize, Warning};

/// A finished picture.
#[derive(Debug, Clone)]
pub struct Generated {
    /// The file, in the format that was asked for. A PNG has the receipt in its text chunks.
    pub image: Vec<u8>,
    /// Where the time went.
    pub timings: Timings,
    /// What it was drawn with.
    pub receipt: Receipt,
    /// What the caller should know and did not ask for.
    pub warnings: Vec<Warning>,
}

/// Time of each stage of one picture. Loading and compiling happen once and are not part of it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Timings {
    /// Prompt clean-up and tokens, both prompts.
    pub tokenize: Duration,
    /// T5, both prompts; next to nothing for those that [`Timings::prompt_cache`] had.
    pub text_encode: Duration,
    /// The part of it in which T5 was read and compiled, because it was not in memory, and again what had made room for it.
    pub text_encoder_load: Duration,
    /// Each denoising step: transformer, guidance and scheduler.
    pub steps: Vec<Duration>,
    /// Latents to pixels.
    pub vae_decode: Duration,
    /// Resize and crop after binning, and the file: called after PNG, whatever the format.
    pub png_encode: Duration,
    /// How many prompts the text encoder was spared.
    pub prompt_cache: PromptCache,
}

/// Where the text embeddings of one picture came from: one prompt, two while guidance is active.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PromptCache {
    /// Found among those of earlier pictures, in memory or on disk.
    pub hits: u32,
    /// Those of them that were on disk alone.
    pub from_disk: u32,
    /// Computed.
    pub misses: u32,
}

impl Timings {
    /// All denoising steps together.
    pub fn denoise(&self) -> Duration {
        self.steps.iter().sum()
    }

    /// The stages by their names in JSON and in the metrics, in the order in which they follow.
    pub fn stages(&self) -> [(&'static str, Duration); 5] {
        [
            ("tokenize", self.tokenize),
            ("text_encode", self.text_encode),
            ("denoise", self.denoise()),
            ("vae_decode", self.vae_decode),
            ("png_encode", self.png_encode),
        ]
    }

    /// The whole picture.
    pub fn total(&self) -> Duration {
        self.tokenize + self.text_encode + self.denoise() + self.vae_decode + self.png_encode
    }
}

/// What of a processor decides the bytes of a picture: kernels are chosen by the instruction set and add up numbers in another
/// order, and so do more or fewer threads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Processor {
    /// The extensions that kernels are chosen by, such as `AVX2 FMA`, as far as the processor has them and the environment allows
    /// them.
    pub instruction_set: String,
    /// Threads that compute.
    pub threads: usize,
}

/// Everything that decides the bytes of a picture, but for the prompts.
#[derive(Debug, Clone, PartialEq)]
pub struct Receipt {
    /// The request, its seed being the one that was used.
    pub request: GenerateRequest,
    /// The size that was drawn before resize and crop; the request's own without binning.
    pub drawn_size: ImageSize,
    /// What the model is called, by its manifest.
    pub model: String,
    /// Weights format of the components: `f32`, `f16`, `int8` or `int4` where all have the same, each one's otherwise;
    /// `foreign` for IR made elsewhere.
    pub weights: String,
    /// Device that drew, by its name in the settings.
    pub device: String,
    /// Arithmetic that the device used.
    pub precision: String,
    /// The processor that computed; none where another device did.
    pub processor: Option<Processor>,
    /// Digest of the model's files.
    pub model_digest: String,
    /// Version of the OpenVINO runtime.
    pub openvino_version: String,
}

impl Receipt {
    /// The receipt as names and values, in the order in which people read it. Prompts are not part of it.
    pub fn fields(&self) -> Vec<(&'static str, String)> {
        let request = &self.request;
        let mut fields = vec![
            ("seed", request.seed.value().to_string()),
            ("scheduler", request.scheduler.to_string()),
            ("steps", request.steps.count().to_string()),
            ("guidance_scale", request.guidance.scale().to_string()),
            ("decoder", request.decoder.to_string()),
            ("size", request.size.to_string()),
            ("drawn_size", self.drawn_size.to_string()),
            ("resolution_binning", request.resolution_binning.to_string()),
            ("clean_caption", request.clean_caption.to_string()),
            ("output_format", request.output_format.to_string()),
            ("model", self.model.clone()),
            ("weights", self.weights.clone()),
            ("device", self.device.clone()),
            ("precision", self.precision.clone()),
            ("model_digest", self.model_digest.clone()),
            ("openvino", self.openvino_version.clone()),
            ("pixart", env!("CARGO_PKG_VERSION").to_owned()),
        ];
        if let Some(compression) = request.compression() {
            fields.push(("output_compression", compression.percent().to_string()));
        }
        if let Some(processor) = &self.processor {
            fields.push(("instruction_set", processor.instruction_set.clone()));
            fields.push(("threads", processor.threads.to_string()));
        }
        fields
    }
}
