//! `pixart generate`: a prompt → one or more pictures.

use std::ffi::{OsStr, OsString};
use std::mem::ManuallyDrop;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Result;
use serde_json::{Value, json};

use super::output::Outputs;
use super::progress::{ConvertProgress, Interrupt, StepBar};
use super::{Common, ModelFlags, QualityFlag, say};
use crate::app::Loaded;
use crate::domain::{
    Compression, GenerateRequest, Generated, Guidance, InvalidRequest, OutputFormat, Prompt,
    RequestDraft, Seed, Steps,
};
use crate::http::answer;
use crate::model::Choice;
use crate::pipeline::{Generate as _, PipelineError};

/// Draw a picture from a prompt.
///
/// Scheduler, steps and guidance follow the checkpoint: an LCM student draws in 4 steps without guidance, any other
/// model in 20 steps of DPM-Solver++ with a guidance scale of 4.5. The same prompt, seed and settings give the same
/// bytes again; with --precision f32 the picture is the one that diffusers draws.
#[derive(Debug, clap::Args)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a flag of the command line"
)]
pub(super) struct Generate {
    /// What to draw; '' is drawn as well, as whatever the model comes to
    prompt: OsString,

    /// What to keep away from; works while the guidance scale is above 1
    #[arg(long, value_name = "TEXT", default_value = "")]
    negative_prompt: OsString,

    /// Denoising steps, 1 to 1000 [default: 4 for lcm, 20 for dpmsolver++]
    #[arg(long, value_name = "N")]
    steps: Option<u32>,

    /// Classifier-free guidance scale, 0 to 50; 1 and below is none [default: 0 for lcm, 4.5 for dpmsolver++]
    #[arg(long, value_name = "F", allow_negative_numbers = true)]
    guidance_scale: Option<f32>,

    /// Seed of the noise, from 0, or -1 for a random one; image i of --count uses seed + i [default: a random one, which is shown]
    #[arg(long, value_name = "N", allow_negative_numbers = true, value_parser = seed)]
    seed: Option<Seed>,

    /// Width and height in pixels, such as 1024x768 [default: the checkpoint's own]
    #[arg(long, value_name = "WxH")]
    size: Option<String>,

    /// How many pictures, 1 to 1000
    #[arg(long, value_name = "N", default_value_t = 1)]
    count: u32,

    /// lcm or dpmsolver++ [default: the checkpoint's own]
    #[arg(long, value_name = "NAME")]
    scheduler: Option<String>,

    /// What makes pixels of latents: full, or tiny where the model has such a decoder: many times faster, a little coarser
    /// [default: tiny with --quality fast, full otherwise]
    #[arg(long, value_name = "NAME")]
    decoder: Option<String>,

    /// Draw at the nearest aspect bin of the checkpoint, then resize and crop [default: as the checkpoint is made for]
    #[arg(long, overrides_with = "no_resolution_binning")]
    resolution_binning: bool,

    /// Draw at the very size asked for
    #[arg(long)]
    no_resolution_binning: bool,

    /// Clean the prompts of links, markup and the like first, as DeepFloyd IF does
    #[arg(long)]
    clean_caption: bool,

    /// The file: PNG, JPEG or WebP by its ending, PNG with any other; picture i of several gets -i before it
    /// [default: pixart-SEED.png, or with a number where another picture has that name]
    #[arg(long, short, value_name = "PATH")]
    output: Option<PathBuf>,

    /// Quality of a JPEG, 0 to 100; PNG and WebP lose nothing [default: 90]
    #[arg(long, value_name = "N")]
    output_compression: Option<u32>,

    /// Put the prompts into a PNG's text chunks beside the receipt
    #[arg(long)]
    embed_prompt: bool,

    /// Print timings and receipts as one JSON object
    #[arg(long)]
    json: bool,

    /// Nothing but the names of the pictures
    #[arg(long, short)]
    quiet: bool,

    #[command(flatten)]
    model: ModelFlags,

    #[command(flatten)]
    quality: QualityFlag,
}

impl Generate {
    pub(super) fn run(&self, common: &Common) -> Result<()> {
        // What can be refused without a model is refused before one is loaded.
        let draft = self.draft()?;
        let mut flags = self.model.settings()?;
        flags.extend(self.quality.setting());
        let (app, choice) = common.app(flags)?.choosing()?;
        let notes = notes(&choice);
        let outputs = Outputs::new(self.output.clone(), draft.seed, self.count)?;
        let interrupt = Interrupt::listen()?;
        let quiet = self.quiet || self.json;

        // Neither runtime nor model is taken down: the process ends (see `end_process`).
        let mut runtime = ManuallyDrop::new(app.runtime()?);
        let progress = ConvertProgress::new(interrupt.clone(), quiet);
        let model = app.model(&mut runtime, self.model.notebook_files(), &progress)?;
        progress.finish();
        interrupt.check()?;
        self.model.warn_of_unused(&model);
        let mut loaded = ManuallyDrop::new(app.load(&mut runtime, &model)?);
        let first = draft.complete(loaded.pipeline.planner().defaults());
        check_memory(&mut loaded, &first)?;
        interrupt.attended(|| self.draw(&mut loaded, &first, &outputs, &notes, &interrupt))
    }

    /// Draws every picture, and tells of those that are whole even where a later one fails.
    fn draw(
        &self,
        loaded: &mut Loaded,
        first: &GenerateRequest,
        outputs: &Outputs,
        notes: &[String],
        interrupt: &Interrupt,
    ) -> Result<()> {
        let mut pages = Vec::new();
        let drawn = (0..self.count).try_for_each(|index| {
            let request = GenerateRequest {
                seed: first.seed.for_picture(index),
                ..first.clone()
            };
            let quiet = self.quiet || self.json;
            let mut bar = StepBar::new(interrupt.clone(), request.steps.count(), quiet);
            let picture = loaded.pipeline.generate(&request, &mut bar);
            bar.finish();
            // A network that was stopped by Ctrl-C may not come to rest, which is nobody's affair here any more.
            let picture = picture.map_err(|error| match error {
                PipelineError::Engine { .. } if interrupt.came() => PipelineError::Cancelled,
                error => error,
            })?;
            let path = outputs.write(index, &picture.image)?;
            if self.json {
                pages.push(page(&path, &picture));
            } else if self.quiet {
                say(&path.display().to_string())?;
            } else {
                // What is of the model is told once.
                let once = (index == 0).then_some((loaded.load, notes));
                say(&readable(&path, &picture, once))?;
            }
            Ok(())
        });
        if self.json && (drawn.is_ok() || !pages.is_empty()) {
            let whole = json!({
                "load_seconds": loaded.load.as_secs_f64(),
                "notes": notes,
                "images": pages,
            });
            let said = serde_json::to_string_pretty(&whole)
                .map_err(anyhow::Error::from)
                .and_then(|text| Ok(say(&text)?));
            // What stopped the series goes before what became of the answer.
            return drawn.and(said);
        }
        drawn
    }

    /// Parses everything that does not depend on the model.
    fn draft(&self) -> Result<RequestDraft, InvalidRequest> {
        if !(1..=1000).contains(&self.count) {
            return Err(InvalidRequest::OutOfRange {
                field: "count",
                got: self.count.to_string(),
                expected: "1 to 1000".to_owned(),
            });
        }
        Ok(RequestDraft {
            prompt: Prompt::maybe_empty(utf8("prompt", &self.prompt)?)?,
            negative_prompt: Some(Prompt::negative(utf8(
                "negative_prompt",
                &self.negative_prompt,
            )?)?),
            steps: self.steps.map(Steps::new).transpose()?,
            guidance: self.guidance_scale.map(Guidance::new).transpose()?,
            seed: self.seed.unwrap_or_else(Seed::random),
            size: self.size.as_deref().map(str::parse).transpose()?,
            scheduler: self.scheduler.as_deref().map(str::parse).transpose()?,
            decoder: self.decoder.as_deref().map(str::parse).transpose()?,
            resolution_binning: match (self.resolution_binning, self.no_resolution_binning) {
                (_, true) => Some(false),
                (true, false) => Some(true),
                (false, false) => None,
            },
            clean_caption: self.clean_caption,
            embed_prompt: self.embed_prompt,
            output_format: self.output.as_deref().map_or(OutputFormat::Png, format_of),
            output_compression: self.output_compression.map(Compression::new).transpose()?,
        })
    }
}

/// The seed of a flag. Other programs call any seed -1.
fn seed(text: &str) -> Result<Seed, String> {
    if text.trim() == "-1" {
        return Ok(Seed::random());
    }
    text.parse().map(Seed::new).map_err(|_| {
        let most = u64::MAX;
        format!("it must be an integer from 0 to {most}, or -1 for a random one, as without --seed")
    })
}

/// Holds that an image fits into memory before it is drawn. What the model itself has against the request is said first.
fn check_memory(loaded: &mut Loaded, request: &GenerateRequest) -> Result<()> {
    let Some(budget) = loaded.measure_memory() else {
        return Ok(());
    };
    let planner = loaded.pipeline.planner();
    let plan = planner.plan(request)?;
    planner.check_memory(request, plan.drawn_size, budget)?;
    loaded.hold_memory(plan.cost);
    Ok(())
}

/// The format that a file's ending promises; PNG where it promises none.
fn format_of(path: &Path) -> OutputFormat {
    path.extension()
        .and_then(OsStr::to_str)
        .and_then(OutputFormat::of_extension)
        .unwrap_or_default()
}

fn utf8<'text>(field: &'static str, text: &'text OsStr) -> Result<&'text str, InvalidRequest> {
    text.to_str().ok_or(InvalidRequest::NotUtf8 { field })
}

fn page(path: &Path, picture: &Generated) -> Value {
    let warnings: Vec<String> = picture.warnings.iter().map(ToString::to_string).collect();
    json!({
        "path": path.display().to_string(),
        "timings": answer::timings(&picture.timings),
        "receipt": answer::receipt(&picture.receipt),
        "warnings": warnings,
    })
}

/// What is to be known of the model that draws.
fn notes(choice: &Choice) -> Vec<String> {
    choice
        .measured_elsewhere()
        .map(|(standing, found)| {
            format!(
                "the variant {} does not draw here, as it was measured on another processor alone ({}): pixart compare MODEL VARIANT --record",
                standing.name,
                found.processor()
            )
        })
        .collect()
}

/// With how long loading took and the notes on the model, where they are to be told.
fn readable(path: &Path, picture: &Generated, once: Option<(Duration, &[String])>) -> String {
    let mut lines = vec![path.display().to_string()];
    let notes = once.map(|(_, notes)| notes).unwrap_or_default().iter();
    lines.extend(
        notes
            .cloned()
            .chain(picture.warnings.iter().map(ToString::to_string))
            .map(|note| format!("  note      {note}")),
    );
    let mut times = Vec::new();
    if let Some((load, _)) = once {
        times.push(format!("load {}", seconds(load)));
    }
    for (stage, time) in picture.timings.stages() {
        times.push(format!("{} {}", stage.replace('_', " "), seconds(time)));
    }
    if !picture.timings.text_encoder_load.is_zero() {
        let load = seconds(picture.timings.text_encoder_load);
        times.push(format!("of text encode {load} to load it"));
    }
    lines.push(format!("  time      {}", times.join(" · ")));
    let steps: Vec<String> = picture
        .timings
        .steps
        .iter()
        .map(|&step| seconds(step))
        .collect();
    lines.push(format!("  steps     {}", steps.join(" ")));
    let receipt: Vec<String> = picture
        .receipt
        .fields()
        .into_iter()
        .map(|(name, value)| format!("{name} {value}"))
        .collect();
    lines.push(format!("  receipt   {}", receipt.join(" · ")));
    lines.join("\n")
}

fn seconds(time: Duration) -> String {
    let seconds = time.as_secs_f64();
    if seconds < 1.0 {
        format!("{:.0} ms", seconds * 1e3)
    } else {
        format!("{seconds:.2} s")
    }
}
