//! `pixart pull REPO --check`: what a repository is and takes, before anything large is fetched.

use std::time::Instant;

use anyhow::Result;
use serde::Serialize;

use crate::app::judge::{Converting, DefaultImage, Judged, Needs, in_words, judge, needs};
use crate::app::{App, threads};
use crate::bench::{Effort, Throughput};
use crate::cli::bench::peak;
use crate::cli::say;
use crate::convert::{ComponentWeights, ConversionPlan};
use crate::model::{UnusedTensors, has_amx_bf16, size_in_words};
use crate::pull::{Inspection, PullError, PullOptions, inspect};
use crate::telemetry::cpus;
use crate::threads::beside;

use super::PullProgress;

/// Whether nothing is fetched but what a judgement takes.
#[derive(Debug, clap::Args)]
pub(super) struct CheckFlags {
    /// Report what the repository is, what it takes here and what is in the way; fetch nothing else
    #[arg(long)]
    pub(super) check: bool,

    /// Print the report of --check as JSON
    #[arg(long, requires = "check")]
    pub(super) json: bool,
}

/// What `--check --json` prints.
#[derive(Debug, Serialize)]
struct Report<'a> {
    repository: &'a str,
    commit: &'a str,
    /// What it is, in words.
    is: String,
    files: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    image: Option<DefaultImage>,
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    needs: Option<Needs>,
    /// Seconds for one image, where the machine could be measured.
    #[serde(skip_serializing_if = "Option::is_none")]
    seconds_per_image: Option<f64>,
    /// Tensors that will be left out, by component.
    unused_tensors: Vec<Unused<'a>>,
    /// What is in the way here, each with what to do.
    problems: Vec<String>,
    /// Bytes that came to find this out, and the time that it took.
    traffic_bytes: u64,
    check_seconds: f64,
}

#[derive(Debug, Serialize)]
struct Unused<'a> {
    component: &'a str,
    #[serde(flatten)]
    tensors: &'a UnusedTensors,
}

/// How a check is asked for.
pub(super) struct Check<'a> {
    pub(super) options: &'a PullOptions,
    pub(super) weights: ComponentWeights,
    pub(super) converting: Converting,
    pub(super) json: bool,
}

impl Check<'_> {
    /// Looks, judges, and reports.
    pub(super) fn run(&self, app: &App, progress: &PullProgress) -> Result<()> {
        let start = Instant::now();
        // The machine computes while the hub is waited for.
        let (throughput, inspection) = beside(
            || throughput(app, progress),
            || inspect(self.options, progress),
        );
        progress.finish();
        let inspection = inspection?;
        let judged = judge(&inspection, self.weights)?;
        let mut report = Report {
            repository: &inspection.repository,
            commit: &inspection.commit,
            is: "a tiny autoencoder, which 'pixart convert' gives to a model".to_owned(),
            files: inspection.files,
            image: None,
            needs: None,
            seconds_per_image: None,
            unused_tensors: Vec::new(),
            problems: Vec::new(),
            traffic_bytes: inspection.traffic_bytes,
            check_seconds: 0.0,
        };
        if let Judged::Checkpoint(plan) = &judged {
            self.fill(&mut report, &inspection, plan, throughput, app);
        }
        report.check_seconds = start.elapsed().as_secs_f64();
        if self.json {
            say(&serde_json::to_string_pretty(&report)?)?;
        } else {
            say(&lines(&report, inspection.total_bytes).join("\n"))?;
        }
        Ok(())
    }

    fn fill<'a>(
        &self,
        report: &mut Report<'a>,
        inspection: &Inspection,
        plan: &'a ConversionPlan,
        throughput: Option<Throughput>,
        app: &App,
    ) {
        let precision = app.settings().openvino.precision;
        let output = &self.options.output;
        let needs = needs(inspection, plan, output, self.converting, precision);
        let image = DefaultImage::of(plan);
        report.is = in_words(plan);
        report.image = Some(image);
        report.seconds_per_image =
            throughput.and_then(|throughput| image.seconds(plan, throughput));
        report.unused_tensors = plan
            .components
            .iter()
            .filter_map(|part| {
                let tensors = part.unused.as_ref()?;
                let component = part.name;
                Some(Unused { component, tensors })
            })
            .collect();
        if let Err(shortage) = needs.disk.check() {
            report.problems.push(shortage.to_string());
        }
        report.problems.extend(needs.memory.shortage.clone());
        report.needs = Some(needs);
    }
}

/// What this machine reaches. None where there is no runtime: the check does without.
fn throughput(app: &App, progress: &PullProgress) -> Option<Throughput> {
    let mut runtime = app.runtime().ok()?;
    let stopped = || crate::pull::Progress::cancelled(progress);
    let threads = threads(&app.settings().openvino);
    Some(Throughput {
        peak: peak(app, &mut runtime, Effort::Quick, &stopped).ok()?,
        cores: threads.map_or_else(cpus, usize::from),
        has_tiles: has_amx_bf16(),
    })
}

fn lines(report: &Report<'_>, total_bytes: u64) -> Vec<String> {
    let mut lines = vec![
        format!("{}, commit {}", report.repository, report.commit),
        format!("is               {}", report.is),
        format!(
            "to fetch         {} in {} files",
            size_in_words(total_bytes),
            report.files
        ),
    ];
    if let Some(Needs { disk, memory, .. }) = &report.needs {
        let free = in_brackets(disk.free_bytes, "free");
        lines.push(format!(
            "disk             {} at the most, {} afterwards{free}",
            size_in_words(disk.peak_bytes),
            size_in_words(disk.kept_bytes),
        ));
        let available = in_brackets(memory.available_bytes, "available");
        lines.push(format!(
            "memory           at least {} to draw, {} with --text-encoder on_demand{available}",
            size_in_words(memory.resident_bytes),
            size_in_words(memory.on_demand_bytes),
        ));
    }
    if let Some(image) = report.image {
        let steps = format!(
            "{}x{} px, {} steps{}",
            image.width_px,
            image.height_px,
            image.steps,
            if image.guided { ", guided" } else { "" }
        );
        lines.push(match report.seconds_per_image {
            Some(seconds) => format!(
                "an image         {steps}: about {} on this machine, once the model is loaded",
                duration(seconds)
            ),
            None => format!(
                "an image         {steps}; how long it takes is not known: no OpenVINO runtime was found ('pixart info' says where it is looked for)"
            ),
        });
    }
    for unused in &report.unused_tensors {
        lines.push(format!(
            "left out         of {} {}",
            unused.component, unused.tensors
        ));
    }
    if report.problems.is_empty() {
        lines.push("missing          nothing".to_owned());
    }
    for problem in &report.problems {
        lines.push(format!("missing          {problem}"));
    }
    lines.push(format!(
        "checked          in {:.1} s, with {} from the hub",
        report.check_seconds,
        size_in_words(report.traffic_bytes)
    ));
    lines
}

fn in_brackets(bytes: Option<u64>, what: &str) -> String {
    bytes.map_or_else(String::new, |bytes| {
        format!(" ({} {what} here)", size_in_words(bytes))
    })
}

/// To two digits, which is more than an estimate knows.
fn duration(seconds: f64) -> String {
    match seconds {
        ..10.0 => format!("{seconds:.1} s"),
        10.0..120.0 => format!("{seconds:.0} s"),
        _ => format!("{:.0} minutes", seconds / 60.0),
    }
}

/// Judges before a pull. Returns what was seen, which is what the pull then fetches, after a word on what comes.
pub(super) fn before_pull(
    options: &PullOptions,
    weights: ComponentWeights,
    converting: Converting,
    progress: &PullProgress,
) -> Result<Inspection> {
    let inspection = inspect(options, progress)?;
    if let Judged::Checkpoint(plan) = judge(&inspection, weights)? {
        let precision = crate::config::Precision::Auto;
        let needs = needs(&inspection, &plan, &options.output, converting, precision);
        progress.note(&format!(
            "{}: {}; {} to fetch",
            inspection.repository,
            in_words(&plan),
            size_in_words(inspection.total_bytes)
        ));
        if converting == Converting::AsItComes {
            needs.disk.check().map_err(PullError::NoSpace)?;
            if let Some(shortage) = &needs.memory.shortage {
                progress.tell(&format!("warning: {shortage}"));
            }
        }
        for part in &plan.components {
            // The conversion says so itself where it follows.
            if let (Some(unused), Converting::Later) = (&part.unused, converting) {
                progress.tell(&format!("{}: {unused} will be left out", part.name));
            }
        }
    } else if converting == Converting::AsItComes {
        return Err(PullError::TinyVaeAlone {
            repository: inspection.repository,
        }
        .into());
    }
    Ok(inspection)
}
