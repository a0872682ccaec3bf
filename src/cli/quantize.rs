//! `pixart quantize`: a converted model → a smaller one that computes in integers.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Result, bail};
use clap::ValueEnum;

use super::convert::say_converted;
use super::progress::{Interrupt, QuantizeProgress};
use super::{Common, say};
use crate::app::quantize::{CalibrationOptions, Choices, QuantizeOptions};
use crate::app::shell::quoted;
use crate::config::Precision;
use crate::domain::{ImageSize, Steps};
use crate::model::{Part, QuantizationMode, VARIANTS};
use crate::quantize::{ComponentOptions, RangeRule, WeightsChoice};

/// Make a converted model smaller and faster: 8-bit integers where they are computed with, 4-bit weights where they are only
/// stored.
///
/// Ranges of activations come from pictures that the model draws itself, of captions in a file or of its own. Every operation
/// that should be computed in integers is looked up in the device's profile; if one is not, the command fails.
#[derive(Debug, clap::Args)]
pub(super) struct Quantize {
    /// The model, made by 'pixart convert' with f16 or f32 weights: a folder, or a name that 'pixart list' shows
    model: PathBuf,

    /// The model directory to make, as MODEL/variants/int8; one that pixart made before is replaced when the new one is whole
    #[arg(
        long,
        short,
        value_name = "DIR",
        required_unless_present = "operations"
    )]
    output: Option<PathBuf>,

    /// What the model will be called in receipts [default: the model's own name]
    #[arg(long)]
    name: Option<String>,

    #[command(flatten)]
    components: Components,

    #[command(flatten)]
    calibration: Calibration,

    /// Where the networks run and are proven: CPU, GPU, … [default: CPU]
    #[arg(long, value_name = "DEVICE")]
    device: Option<String>,

    /// Arithmetic of what stays in floats: auto, f32, bf16, f16 [default: auto]
    #[arg(long, value_name = "PRECISION")]
    precision: Option<Precision>,

    /// Only list the operations that can be computed in integers, by the names that --in-float takes
    #[arg(long)]
    operations: bool,

    /// No progress bars
    #[arg(long, short)]
    quiet: bool,
}

/// What becomes of each component.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Components")]
struct Components {
    /// The transformer: weights (8-bit weights alone), hybrid (and attention in integers), full (and every linear layer), keep;
    /// the convolution that takes the latents stays in floats
    #[arg(long, value_name = "MODE", default_value = "full")]
    transformer: Mode,

    /// The VAE decoder: full (convolutions in integers but for the one that takes the latents), weights (8-bit weights alone), keep
    #[arg(long, value_name = "MODE", default_value = "full")]
    vae_decoder: Mode,

    /// The VAE decoder's weights where they alone change: int8, int4, int4-asymmetric
    #[arg(long, value_name = "FORMAT", default_value = "int8")]
    vae_decoder_weights: StoredWeights,

    /// The text encoder's weights: int8, int4, int4-asymmetric, keep
    #[arg(long, value_name = "FORMAT", default_value = "int4")]
    text_encoder_weights: TextWeights,

    /// Its table of embeddings: int8 (one scale a row), int4 (symmetric, in groups) [default: as many bits as its weights]
    #[arg(long, value_name = "FORMAT")]
    embeddings: Option<TableWeights>,

    /// Inputs that share a scale in 4-bit weights; rows that it does not divide have 8 bits
    #[arg(long, value_name = "N", default_value_t = 128, value_parser = clap::value_parser!(u32).range(2..=65536))]
    group: u32,

    /// How much of the activations' outliers moves into weights, 0 to 1, or none
    #[arg(long, value_name = "ALPHA", value_parser = smoothing, default_value = "0.5")]
    smoothing: Smoothing,

    /// An operation of the transformer or the VAE decoder that stays in floats; may be given again
    #[arg(long, value_name = "NAME")]
    in_float: Vec<String>,

    /// An operation that stays in floats by default and is to be computed in integers all the same, by the name that --operations
    /// lists: the convolution of each network that takes the latents; may be given again
    #[arg(long, value_name = "NAME")]
    in_integers: Vec<String>,
}

/// Which pictures are drawn to see ranges.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Calibration")]
struct Calibration {
    /// Captions: one a line, JSON lines with "caption" and "negative_prompt", or CSV with a caption column [default: the model's own]
    #[arg(long, value_name = "FILE")]
    captions: Option<PathBuf>,

    /// How many pictures
    #[arg(long, value_name = "N", default_value_t = 32, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    samples: u32,

    /// Denoising steps of each [default: 4 for lcm, 20 for dpmsolver++]
    #[arg(long, value_name = "N")]
    steps: Option<u32>,

    /// Width and height in pixels, drawn as asked and in no aspect bin [default: the checkpoint's own]
    #[arg(long, value_name = "WxH")]
    size: Option<String>,

    /// Seed of the first picture; picture i has the seed + i
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,

    /// Which range counts: min-max, mean-min-max (of the pictures' steps), or percentile:P
    #[arg(long, value_name = "RULE", default_value = "min-max")]
    range: RangeRule,

    /// Keep in floats what errs by more than this share of its size where it is tried in integers, 0 to 1: each operation by
    /// itself, beside the exact one, over the first four pictures
    #[arg(long, value_name = "SHARE", value_parser = share)]
    tolerance: Option<f64>,

    /// Keep what calibration sees in this file, and go on from it or take it where it is of this model and these options
    #[arg(long, value_name = "FILE")]
    statistics: Option<PathBuf>,
}

/// What becomes of a network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Mode {
    Keep,
    Weights,
    Hybrid,
    Full,
}

impl Mode {
    fn mode(self) -> Option<QuantizationMode> {
        match self {
            Self::Keep => None,
            Self::Weights => Some(QuantizationMode::Weights),
            Self::Hybrid => Some(QuantizationMode::Hybrid),
            Self::Full => Some(QuantizationMode::Full),
        }
    }
}

/// How weights are stored that nothing is computed with in integers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum StoredWeights {
    Int8,
    Int4,
    Int4Asymmetric,
}

impl StoredWeights {
    fn choice(self, group: usize) -> WeightsChoice {
        match self {
            Self::Int8 => WeightsChoice::Int8,
            Self::Int4 => WeightsChoice::Int4Symmetric { group },
            Self::Int4Asymmetric => WeightsChoice::Int4Asymmetric { group },
        }
    }
}

/// How the text encoder's weights are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum TextWeights {
    Keep,
    Int8,
    Int4,
    Int4Asymmetric,
}

/// How a table of embeddings is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum TableWeights {
    Int8,
    Int4,
}

/// An exponent, or none.
type Smoothing = Option<f32>;

fn smoothing(text: &str) -> Result<Smoothing, String> {
    if text == "none" {
        return Ok(None);
    }
    match text.parse::<f32>() {
        Ok(alpha) if (0.0..=1.0).contains(&alpha) => Ok(Some(alpha)),
        _ => Err("it is a number between 0 and 1, or none".to_owned()),
    }
}

fn share(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(share) if (0.0..=1.0).contains(&share) => Ok(share),
        _ => Err("it is a number between 0 and 1".to_owned()),
    }
}

impl Components {
    fn choices(&self) -> Choices {
        let group = self.group as usize;
        let component = |mode: QuantizationMode, weights| ComponentOptions {
            mode,
            weights,
            embeddings: match (self.embeddings, self.text_encoder_weights) {
                (Some(TableWeights::Int8), _) | (None, TextWeights::Int8) => WeightsChoice::Int8,
                _ => WeightsChoice::Int4Symmetric { group },
            },
            smoothing: self.smoothing,
            in_float: BTreeSet::new(),
        };
        let computed = |mode: Mode, weights: StoredWeights| {
            let weights = match mode {
                Mode::Weights => weights.choice(group),
                _ => WeightsChoice::Int8,
            };
            mode.mode().map(|mode| component(mode, weights))
        };
        let text_weights = match self.text_encoder_weights {
            TextWeights::Keep => None,
            TextWeights::Int8 => Some(StoredWeights::Int8),
            TextWeights::Int4 => Some(StoredWeights::Int4),
            TextWeights::Int4Asymmetric => Some(StoredWeights::Int4Asymmetric),
        };
        let text_weights = text_weights.map(|weights| weights.choice(group));
        Choices {
            parts: [
                (
                    Part::TextEncoder,
                    text_weights.map(|weights| component(QuantizationMode::Weights, weights)),
                ),
                (
                    Part::Transformer,
                    computed(self.transformer, StoredWeights::Int8),
                ),
                (
                    Part::VaeDecoder,
                    computed(self.vae_decoder, self.vae_decoder_weights),
                ),
            ]
            .into_iter()
            .filter_map(|(part, options)| Some((part, options?)))
            .collect(),
            in_float: self.in_float.clone(),
            in_integers: self.in_integers.clone(),
        }
    }
}

impl Quantize {
    pub(super) fn run(&self, common: &Common) -> Result<()> {
        let flags = [
            ("openvino.device", self.device.clone()),
            (
                "openvino.precision",
                self.precision.map(|precision| precision.to_string()),
            ),
            // Its gigabytes are wanted for a second a caption.
            ("model.text_encoder", Some("on_demand".to_owned())),
            ("model.directory", super::path("MODEL", Some(&self.model))?),
        ];
        let flags = flags
            .into_iter()
            .filter_map(|(key, value)| Some((key, value?)))
            .collect();
        let app = common.app(flags)?;
        let model = match app.model_folder()? {
            // The embedded one, which has none.
            folder if folder.as_os_str().is_empty() => self.model.clone(),
            folder => folder,
        };
        let choices = self.components.choices();
        if self.operations {
            for (part, names) in app.operations(&model, &choices)? {
                for name in names {
                    say(&format!("{}\t{name}", part.name()))?;
                }
            }
            return Ok(());
        }
        let Some(output) = &self.output else {
            bail!("--output says where the model goes");
        };
        // A variant of a model that is given by its name belongs into its folder.
        let output = match output.strip_prefix(&self.model) {
            Ok(rest) if rest.starts_with(VARIANTS) => model.join(rest),
            _ => output.clone(),
        };
        let start = Instant::now();
        let progress = QuantizeProgress::new(Interrupt::listen()?, self.quiet);
        let mut runtime = app.runtime()?;
        let options = QuantizeOptions {
            model: model.clone(),
            output: output.clone(),
            name: self.name.clone(),
            choices,
            calibration: CalibrationOptions {
                captions: self.calibration.captions.clone(),
                samples: self.calibration.samples,
                steps: self.calibration.steps.map(Steps::new).transpose()?,
                size: self
                    .calibration
                    .size
                    .as_deref()
                    .map(str::parse::<ImageSize>)
                    .transpose()?,
                seed: self.calibration.seed,
                range: self.calibration.range,
                statistics: self.calibration.statistics.clone(),
                tolerance: self.calibration.tolerance,
            },
        };
        let made = app.quantize(&mut runtime, options, &progress)?;
        progress.finish();
        say_converted(&output, &made, start)?;
        let parent = output
            .parent()
            .and_then(|parent| parent.canonicalize().ok());
        if parent.is_some() && parent == model.join(VARIANTS).canonicalize().ok() {
            let (model, output) = (quoted(&self.model), quoted(&output));
            say(&format!(
                "measure it, for --quality to choose it: pixart compare {model} {output} --record"
            ))?;
        }
        Ok(())
    }
}
