//! `pixart bench`: where the time and the memory of pictures go, beside what the machine can at most; alone or against
//! another model.

mod start;
pub(super) mod turns;
mod worker;

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use serde::Serialize;

use self::turns::Turns;
use super::output::Outputs;
use super::progress::{BenchBar, ConvertProgress, Interrupt};
use super::{Common, ModelFlags, say};
use crate::app::{App, Model, threads};
use crate::bench::{
    Case, Effort, Machine, MemoryWatch, PeakOptions, Report, SCHEMA, matmul_peak, measure, table,
};
use crate::domain::{
    Decoder, GenerateRequest, ImageSize, InvalidRequest, Prompt, RequestDraft, Seed, Steps,
};
use crate::engine::Runtime;

/// Measure where the time and the memory of a picture go.
///
/// For each size a picture of one step warms up, and then pictures are drawn and timed: each stage's median, spread and
/// number of samples, its arithmetic by the shapes, and the share of what matrix products reach on the same device in the
/// same precision. Peak memory is told beside it, anonymous and file-backed apart. Every picture encodes its prompt anew.
///
/// With --against, the two models take turns, each turn in a process of its own (two large models do not fit into memory
/// together), and the ratio is told pair by pair: above 1, the model of --model is the faster one.
///
/// docs/bench.md has the fields of the JSON.
#[derive(Debug, clap::Args)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a flag of the command line"
)]
pub(super) struct Bench {
    /// Another model, a folder or a name, drawn with in turns
    #[arg(long, value_name = "DIR", conflicts_with = "start")]
    against: Option<PathBuf>,

    /// Sizes in pixels, such as 1024x1024,768x512, drawn as asked and in no aspect bin [default: the checkpoint's own]
    #[arg(long, value_name = "WxH,…", value_delimiter = ',')]
    sizes: Vec<String>,

    /// Denoising steps, 1 to 1000 [default: 4 for lcm, 20 for dpmsolver++]
    #[arg(long, value_name = "N")]
    steps: Option<u32>,

    /// Pictures of each size that count, or turns of each model, or starts of each kind, 1 to 1000
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=1000))]
    repeat: u32,

    /// What is drawn
    #[arg(
        long,
        value_name = "TEXT",
        default_value = "A small cactus with a happy face in the Sahara desert."
    )]
    prompt: OsString,

    /// The decoder of the pictures: full, or tiny where the model has one; those of --against are of the full one
    #[arg(long, value_name = "NAME", default_value_t = Decoder::Full)]
    decoder: Decoder,

    /// Measure starts instead of pictures: from the beginning of the process to compiled networks, and the first picture;
    /// with the runtime's cache of compiled networks or without
    #[arg(long, value_enum, value_name = "CACHE,…", value_delimiter = ',', num_args = 0..=1, default_missing_value = "none,size")]
    start: Option<Vec<start::Cache>>,

    /// Leave out the matmul peak, which takes up to ten seconds, and the shares of it
    #[arg(long)]
    no_peak: bool,

    /// Write everything, each sample too, as JSON into this file
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,

    /// No progress bar
    #[arg(long, short)]
    quiet: bool,

    #[command(flatten)]
    model: ModelFlags,

    /// Run one network on what standard input asks for: benches/notebook/ speaks this
    #[arg(long, value_enum, value_name = "NETWORK", hide = true)]
    component: Option<worker::Network>,

    /// Load the model, say so, draw a picture of one step, and end: the other half of --start
    #[arg(long, hide = true)]
    ready: bool,

    /// The folder of the runtime's cache, for --ready
    #[arg(long, value_name = "DIR", hide = true, requires = "ready")]
    compile_cache: Option<PathBuf>,

    /// Keep no weights in that cache
    #[arg(long, hide = true, requires = "compile_cache")]
    compile_cache_small: bool,
}

impl Bench {
    pub(super) fn run(&self, common: &Common) -> Result<()> {
        // What can be refused without a model is refused before one is loaded.
        let drafts = self.drafts()?;
        let output = self.json.as_deref().map(JsonFile::new).transpose()?;
        let app = common.app(self.model.settings()?)?;
        let interrupt = Interrupt::listen()?;
        if let Some(network) = self.component {
            return worker::serve(&app, self.model.notebook_files(), network, &interrupt);
        }
        if self.ready {
            return start::ready(&app, self, &drafts[0], &interrupt);
        }
        if let Some(caches) = &self.start {
            let starts = interrupt.attended(|| start::measure(self, common, caches, &interrupt))?;
            say(&start::table(&starts))?;
            return write(output, &starts);
        }
        if self.against.is_some() {
            let comparison = turns::measure(self, common, &app, &interrupt)?;
            say(&crate::bench::comparison_table(
                &comparison,
                ["model", "against"],
            ))?;
            return write(output, &comparison);
        }
        let report = self.measure(&app, &drafts, &interrupt)?;
        say(&table(&report))?;
        write(output, &report)
    }

    /// One model, in this process.
    fn measure(&self, app: &App, drafts: &[RequestDraft], interrupt: &Interrupt) -> Result<Report> {
        let mut runtime = app.runtime()?;
        let matmul = if self.no_peak {
            None
        } else {
            Some(
                interrupt
                    .attended(|| peak(app, &mut runtime, Effort::Thorough, &|| interrupt.came()))?,
            )
        };
        let model = self.find(app, &mut runtime, interrupt)?;
        let shapes = model.shapes();
        let memory = MemoryWatch::start();
        let mut loaded = app.load(&mut runtime, &model)?;
        let load_memory = memory.finish();
        let requests: Vec<GenerateRequest> = drafts
            .iter()
            .map(|draft| draft.clone().complete(loaded.pipeline.planner().defaults()))
            .collect();
        // A size that the model does not draw is told before minutes are spent on another one.
        let mut steps = 0;
        for request in &requests {
            let plan = loaded.pipeline.planner().plan(request)?;
            steps += 1 + plan.steps * self.repeat as usize;
        }
        let bar = BenchBar::new(interrupt.clone(), steps, "step", self.quiet);
        let cases = interrupt.attended(|| {
            let mut cases = Vec::new();
            for request in &requests {
                bar.tell(request.size.to_string());
                let case = Case {
                    request,
                    repeats: self.repeat as usize,
                    shapes: &shapes,
                };
                let mut watch = bar.clone();
                let mut report = measure(&mut loaded.pipeline, &case, &mut watch)?;
                if let Some(peak) = matmul {
                    report.hold_against(peak);
                }
                cases.push(report);
            }
            Ok::<_, anyhow::Error>(cases)
        });
        bar.finish();
        let facts = loaded.pipeline.planner().facts();
        Ok(Report {
            schema: SCHEMA,
            machine: Machine::here(),
            pixart: env!("CARGO_PKG_VERSION").to_owned(),
            openvino: facts.openvino_version.clone(),
            model: facts.name.clone(),
            weights: facts.weights.clone(),
            model_digest: facts.digest.clone(),
            device: facts.device.clone(),
            precision: facts.precision.clone(),
            decoder: self.decoder.name().to_owned(),
            load_seconds: loaded.load.as_secs_f64(),
            load_memory,
            matmul_flops_per_second: matmul,
            cases: cases?,
        })
    }

    /// Finds the model, converting the embedded one at its first use.
    fn find(&self, app: &App, runtime: &mut Runtime, interrupt: &Interrupt) -> Result<Model> {
        let progress = ConvertProgress::new(interrupt.clone(), self.quiet);
        let model = app.model(runtime, self.model.notebook_files(), &progress);
        progress.finish();
        let model = model?;
        interrupt.check()?;
        self.model.warn_of_unused(&model);
        Ok(model)
    }

    /// One a size, or one of the model's own size.
    fn drafts(&self) -> Result<Vec<RequestDraft>, InvalidRequest> {
        let prompt = Prompt::new(
            self.prompt
                .to_str()
                .ok_or(InvalidRequest::NotUtf8 { field: "prompt" })?,
        )?;
        let steps = self.steps.map(Steps::new).transpose()?;
        let draft = |size: Option<ImageSize>| RequestDraft {
            steps,
            size,
            decoder: Some(self.decoder),
            // What is asked for is what is drawn.
            resolution_binning: Some(false),
            ..RequestDraft::new(prompt.clone(), Seed::new(0))
        };
        if self.sizes.is_empty() {
            return Ok(vec![draft(None)]);
        }
        self.sizes
            .iter()
            .map(|size| Ok(draft(Some(size.parse()?))))
            .collect()
    }

    /// What another process of the same kind draws.
    fn turns<'a>(
        &'a self,
        common: &'a Common,
        settings: &'a [(&'static str, String)],
    ) -> Turns<'a> {
        Turns {
            common,
            settings,
            steps: self.steps,
            sizes: &self.sizes,
            prompt: &self.prompt,
            quantized: self.model.quantized,
            pairs: self.repeat as usize,
            quiet: self.quiet,
        }
    }
}

/// The machine's matmul peak with the settings of the model.
pub(super) fn peak(
    app: &App,
    runtime: &mut Runtime,
    effort: Effort,
    cancelled: &dyn Fn() -> bool,
) -> Result<f64> {
    let folder = tempfile::tempdir().context("the matmul peak needs 17 MB for temporary files")?;
    let openvino = &app.settings().openvino;
    let options = PeakOptions {
        device: &openvino.device,
        precision: openvino.precision,
        threads: threads(openvino),
        folder: folder.path(),
        effort,
    };
    Ok(matmul_peak(runtime, &options, cancelled)?)
}

/// The file of `--json`, which is refused before anything is measured.
struct JsonFile(Outputs);

impl JsonFile {
    fn new(path: &Path) -> Result<Self> {
        Ok(Self(Outputs::new(Some(path.to_owned()), Seed::new(0), 1)?))
    }
}

fn write(file: Option<JsonFile>, value: &impl Serialize) -> Result<()> {
    if let Some(JsonFile(outputs)) = file {
        let mut text = serde_json::to_vec_pretty(value)?;
        text.push(b'\n');
        outputs.write(0, &text)?;
    }
    Ok(())
}
