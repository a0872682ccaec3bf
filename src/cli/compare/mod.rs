//! `pixart compare`: two models beside each other, how large they are, how far their pictures differ, how long they take.

mod drawn;

use std::ffi::OsStr;
use std::path::PathBuf;

use self::drawn::{Both, Drawn, Task, pairs};
use super::bench::turns::{Side, Turns};
use super::output::Outputs;
use super::progress::{BenchBar, Interrupt};
use super::{Common, say};
use crate::bench::{Comparison, Machine, compare};
use crate::compare::{
    Captioned, CompareError, Pair, PictureReport, QualityFigures, Report, SCHEMA, ScoreError, page,
    side_by_side, sizes, table,
};
use crate::config::{Precision, TextEncoderResidency};
use crate::domain::{Decoder, ImageSize, Prompt, RequestDraft, Seed, Steps};
use crate::pipeline::pixels::Rgb8;
use crate::pipeline::png;
use crate::quantize::{Caption, QuantizeError, read_captions};
use anyhow::Result;

/// What is drawn where no prompt is given; sketchbook draws all of them.
const PROMPTS: [&str; 8] = [
    "A small cactus with a happy face in the Sahara desert.",
    "A sad robot next to a yellow house",
    "Two red boats on the sea at sunset",
    "A sleepy white cat at night",
    "A big red rocket in outer space",
    "Three pink flowers in a meadow in the morning",
    "An angry snowman on the beach",
    "A purple mushroom in the dark forest",
];

/// Compare two models: their sizes, their pictures of the same prompts and noise, their times.
///
/// A is what B is held against: the original, say, and what 'pixart quantize' made of it. Each prompt is drawn by both, and the
/// pictures compared by PSNR and SSIM, the latents after each step by their cosine. A picture that leaves something open may
/// turn out otherwise as a whole: look at the median, and at the pictures (--html, --side-by-side).
///
/// Then both draw the first prompt by turns, each turn in a process of its own, and the ratio is told pair by pair: above 1, B
/// is the faster one.
///
/// docs/compare.md has the fields of the JSON.
#[derive(Debug, clap::Args)]
pub(super) struct Compare {
    /// The model that the other is compared with, made by 'pixart convert' or 'pixart quantize': a folder, or a name that
    /// 'pixart list' shows, as NAME or NAME/variants/int8
    a: PathBuf,

    /// The other
    b: PathBuf,

    /// What is drawn; may be given again [default: eight scenes that sketchbook knows]
    #[arg(long, value_name = "TEXT", conflicts_with = "captions")]
    prompt: Vec<String>,

    /// What is drawn, from a file: one a line, JSON lines with "caption" and "negative_prompt", or CSV with a caption column
    #[arg(long, value_name = "FILE", requires = "samples")]
    captions: Option<PathBuf>,

    /// How many of the captions
    #[arg(long, value_name = "N", requires = "captions", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    samples: Option<u32>,

    /// Seed of the first prompt; prompt i has the seed + i
    #[arg(long, value_name = "N", default_value_t = 41)]
    seed: u64,

    /// Denoising steps [default: 4 for lcm, 20 for dpmsolver++]
    #[arg(long, value_name = "N")]
    steps: Option<u32>,

    /// Width and height in pixels, drawn as asked and in no aspect bin [default: the checkpoint's own]
    #[arg(long, value_name = "WxH")]
    size: Option<String>,

    /// Tell how many of this many captions both follow, where both are sketchbook: 500 come along, judged by a network that reads
    /// pictures of its world; a minute for all of them
    #[arg(long, value_name = "N", num_args = 0..=1, default_missing_value = "500", value_parser = clap::value_parser!(u32).range(1..=500))]
    score: Option<u32>,

    /// Turns of each model that are timed, 0 to 1000; 0 leaves times out
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u32).range(0..=1000))]
    repeat: u32,

    /// Write everything as JSON into this file
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,

    /// Write a page for people into this file, pictures inside
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,

    /// Write one PNG into this file, a row for each prompt: A, B, their difference four times strengthened around grey
    #[arg(long, value_name = "FILE")]
    side_by_side: Option<PathBuf>,

    /// Keep in B's manifest how near its pictures are to those of A in f32, and how fast it draws beside A: what --quality of
    /// 'pixart generate' and 'pixart serve' chooses by, where B lies in A/variants
    #[arg(long)]
    record: bool,

    /// Where the networks run: CPU, GPU, GPU.1, NPU, AUTO [default: CPU]
    #[arg(long, value_name = "DEVICE")]
    device: Option<String>,

    /// Arithmetic of what is computed in floats: auto, f32, bf16, f16 [default: auto, the device's own choice]
    #[arg(long, value_name = "PRECISION")]
    precision: Option<Precision>,

    /// Arithmetic of A's pictures where it is another: with f32, B's are held against exact ones [default with --record: f32].
    /// Times are not of it
    #[arg(long, value_name = "PRECISION")]
    reference_precision: Option<Precision>,

    /// The decoder of B's pictures: full, or tiny where it has one; A's are of the full one
    #[arg(long, value_name = "NAME", default_value_t = Decoder::Full)]
    decoder: Decoder,

    /// CPU threads; 0 follows the container's CPU quota, or leaves the number to the runtime [default: 0]
    #[arg(long, value_name = "N")]
    threads: Option<u16>,

    /// When the text encoder is in memory: always, or on_demand, which takes less of it [default: always]
    #[arg(long, value_name = "WHEN")]
    text_encoder: Option<TextEncoderResidency>,

    /// No progress bars
    #[arg(long, short)]
    quiet: bool,
}

/// Where everything goes beside the terminal; what cannot be written to is refused at once.
struct Files {
    json: Option<Outputs>,
    html: Option<Outputs>,
    side_by_side: Option<Outputs>,
}

impl Files {
    fn new(options: &Compare) -> Result<Self> {
        let file = |path: &Option<PathBuf>| {
            let path = path.as_ref()?;
            Some(Outputs::new(Some(path.clone()), Seed::new(0), 1))
        };
        Ok(Self {
            json: file(&options.json).transpose()?,
            html: file(&options.html).transpose()?,
            side_by_side: file(&options.side_by_side).transpose()?,
        })
    }

    fn write(&self, report: &Report, pairs: &[Both<'_>]) -> Result<()> {
        if let Some(file) = &self.json {
            let mut text = serde_json::to_vec_pretty(report)?;
            text.push(b'\n');
            file.write(0, &text)?;
        }
        if let Some(file) = &self.html {
            let encoded = pairs
                .iter()
                .map(|pair| Ok((png::encode(pair.a, &[])?, png::encode(pair.b, &[])?)))
                .collect::<Result<Vec<_>>>()?;
            file.write(0, page(report, &encoded).as_bytes())?;
        }
        if let Some(file) = &self.side_by_side {
            let both: Vec<(&Rgb8, &Rgb8)> = pairs.iter().map(|pair| (pair.a, pair.b)).collect();
            let sheet = side_by_side(&both).expect("there is one prompt at least");
            file.write(0, &png::encode(&sheet, &[])?)?;
        }
        Ok(())
    }
}

impl Compare {
    pub(super) fn run(&self, common: &Common) -> Result<()> {
        // What can be refused without a model is refused before one is loaded.
        let drafts = self.drafts()?;
        let files = Files::new(self)?;
        let interrupt = Interrupt::listen()?;
        let captions = self.scored_captions()?;
        let (a, b) = self.draw(common, &drafts, &captions, &interrupt)?;
        let pairs = pairs(&a, &b)?;
        let pictures: Vec<PictureReport> = drafts
            .iter()
            .zip(&pairs)
            .map(|(draft, pair)| pair.report(draft))
            .collect();
        let report = Report {
            schema: SCHEMA,
            machine: Machine::here(),
            pixart: env!("CARGO_PKG_VERSION").to_owned(),
            openvino: a.openvino.clone(),
            sizes: sizes(a.directory.manifest(), b.directory.manifest()),
            models: Pair {
                a: a.report.clone(),
                b: b.report.clone(),
            },
            quality: QualityFigures::of(&pictures),
            pictures,
            scores: a
                .score
                .clone()
                .zip(b.score.clone())
                .map(|(a, b)| Pair { a, b }),
            times: self.times(common, drafts[0].prompt.as_str(), &interrupt)?,
        };
        say(table(&report).trim_end())?;
        let against = a.directory.manifest().measured_digest();
        let instruction_set = common.app(Vec::new())?.instruction_set();
        let measurement = report.measurement(against, b.asked_precision.clone(), &instruction_set);
        if let (true, Some(measurement)) = (self.record, measurement) {
            b.directory.record(measurement)?;
        }
        files.write(&report, &pairs)
    }

    /// All pictures of the one model, then all of the other.
    fn draw(
        &self,
        common: &Common,
        drafts: &[RequestDraft],
        captions: &[Captioned],
        interrupt: &Interrupt,
    ) -> Result<(Drawn, Drawn)> {
        // What is kept is how far B is from exact pictures.
        let exact = self.record.then_some(Precision::F32);
        let precision = self.reference_precision.or(exact).or(self.precision);
        let a = common.app(self.settings(Some(&self.a), precision)?)?;
        let b = common.app(self.settings(Some(&self.b), self.precision)?)?;
        let device = &b.settings().openvino.device;
        if self.record && device != "CPU" {
            return Err(CompareError::RecordElsewhere {
                device: device.clone(),
            }
            .into());
        }
        let count = 2 * (drafts.len() + captions.len());
        let bar = BenchBar::new(interrupt.clone(), count, "picture", self.quiet);
        let mut runtime = a.runtime()?;
        let task = Task {
            drafts,
            captions,
            steps: drafts.first().and_then(|draft| draft.steps),
            bar: &bar,
            interrupt,
        };
        let drawn = interrupt.attended(|| {
            let first = task.draw(&a, &mut runtime, "a", Decoder::Full)?;
            let second = task.draw(&b, &mut runtime, "b", self.decoder)?;
            Ok((first, second))
        });
        bar.finish();
        drawn
    }

    /// Both by turns, where times are asked for.
    fn times(
        &self,
        common: &Common,
        prompt: &str,
        interrupt: &Interrupt,
    ) -> Result<Option<Comparison>> {
        if self.repeat == 0 {
            return Ok(None);
        }
        let settings = self.settings(None, self.precision)?;
        let sizes: Vec<String> = self.size.iter().cloned().collect();
        let turns = Turns {
            common,
            settings: &settings,
            steps: self.steps,
            sizes: &sizes,
            prompt: OsStr::new(prompt),
            quantized: false,
            pairs: self.repeat as usize,
            quiet: self.quiet,
        };
        let models = [
            Side {
                name: "b",
                model: Some(&self.b),
                decoder: self.decoder,
            },
            Side {
                name: "a",
                model: Some(&self.a),
                decoder: Decoder::Full,
            },
        ];
        let [ours, others] = turns.alternate(models, interrupt)?;
        Ok(Some(compare(ours, others)))
    }

    /// The flags that were given, as settings; with the folder of a model.
    fn settings(
        &self,
        model: Option<&PathBuf>,
        precision: Option<Precision>,
    ) -> Result<Vec<(&'static str, String)>> {
        let folder = super::path("the model", model)?;
        Ok([
            ("model.directory", folder),
            ("openvino.device", self.device.clone()),
            ("openvino.precision", precision.map(|p| p.to_string())),
            ("openvino.threads", self.threads.map(|n| n.to_string())),
            (
                "model.text_encoder",
                self.text_encoder.map(|residency| residency.to_string()),
            ),
        ]
        .into_iter()
        .filter_map(|(key, value)| Some((key, value?)))
        .collect())
    }

    /// What sketchbook's pictures are judged by.
    fn scored_captions(&self) -> Result<Vec<Captioned>, ScoreError> {
        let Some(count) = self.score else {
            return Ok(Vec::new());
        };
        let mut captions = Captioned::built_in()?;
        captions.truncate(count as usize);
        Ok(captions)
    }

    /// What is drawn, one for each prompt.
    fn drafts(&self) -> Result<Vec<RequestDraft>> {
        let captions = if let (Some(path), Some(count)) = (&self.captions, self.samples) {
            read_captions(path, count as usize).map_err(QuantizeError::from)?
        } else {
            let given: Vec<&str> = self.prompt.iter().map(String::as_str).collect();
            let prompts = if given.is_empty() {
                &PROMPTS[..]
            } else {
                &given
            };
            let caption = |prompt: &&str| {
                Ok(Caption {
                    prompt: Prompt::new(*prompt)?,
                    negative_prompt: None,
                })
            };
            prompts.iter().map(caption).collect::<Result<_>>()?
        };
        let steps = self.steps.map(Steps::new).transpose()?;
        let size: Option<ImageSize> = self.size.as_deref().map(str::parse).transpose()?;
        let first = Seed::new(self.seed);
        Ok((0..)
            .zip(captions)
            .map(|(index, caption)| RequestDraft {
                negative_prompt: caption.negative_prompt,
                steps,
                size,
                // The size that was asked for is the one that is compared, and that the turns draw: no aspect bin near it.
                resolution_binning: Some(false),
                ..RequestDraft::new(caption.prompt, first.for_picture(index))
            })
            .collect())
    }
}
