//! Other processes of this binary: two models that take turns.
//!
//! A process a turn, not one for both: a full-size model takes up to 11 GB of anonymous memory while it draws, and two of
//! them would swap, or be killed, on the machines that this is for. What it costs is a load and a warm-up a turn.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use super::Bench;
use crate::app::App;
use crate::bench::{Comparison, Effort, Report, compare};
use crate::cli::Common;
use crate::cli::progress::{BenchBar, Interrupt};
use crate::config::Environment;
use crate::domain::Decoder;
use crate::pipeline::PipelineError;

/// How often a running process and Ctrl-C are looked at.
const LOOK: Duration = Duration::from_millis(20);

/// Both models by turns, each held against the machine's peak.
pub(super) fn measure(
    bench: &Bench,
    common: &Common,
    app: &App,
    interrupt: &Interrupt,
) -> Result<Comparison> {
    let peak =
        if bench.no_peak {
            None
        } else {
            let mut runtime = app.runtime()?;
            Some(interrupt.attended(|| {
                super::peak(app, &mut runtime, Effort::Thorough, &|| interrupt.came())
            })?)
        };
    let settings = bench.model.settings()?;
    let models = [
        Side {
            name: "model",
            model: bench.model.model.as_deref(),
            decoder: bench.decoder,
        },
        Side {
            name: "against",
            model: bench.against.as_deref(),
            decoder: Decoder::Full,
        },
    ];
    let mut turns = bench
        .turns(common, &settings)
        .alternate(models, interrupt)?;
    if let Some(peak) = peak {
        for case in turns.iter_mut().flatten().flat_map(|turn| &mut turn.cases) {
            case.hold_against(peak);
        }
    }
    let [model, against] = turns;
    Ok(Comparison {
        matmul_flops_per_second: peak,
        ..compare(model, against)
    })
}

/// One of the two that take turns.
#[derive(Clone, Copy)]
pub(in crate::cli) struct Side<'a> {
    /// For the bar.
    pub(in crate::cli) name: &'a str,
    /// Its folder; the embedded model without one.
    pub(in crate::cli) model: Option<&'a Path>,
    pub(in crate::cli) decoder: Decoder,
}

/// What both models draw in turns.
pub(in crate::cli) struct Turns<'a> {
    pub(in crate::cli) common: &'a Common,
    /// Flags, as settings.
    pub(in crate::cli) settings: &'a [(&'static str, String)],
    pub(in crate::cli) steps: Option<u32>,
    pub(in crate::cli) sizes: &'a [String],
    pub(in crate::cli) prompt: &'a OsStr,
    /// Whether the notebook's quantised networks are taken.
    pub(in crate::cli) quantized: bool,
    pub(in crate::cli) pairs: usize,
    pub(in crate::cli) quiet: bool,
}

impl Turns<'_> {
    /// First the one, then the other, and the next pair the other way round. Returns the reports of both.
    pub(in crate::cli) fn alternate(
        &self,
        sides: [Side<'_>; 2],
        interrupt: &Interrupt,
    ) -> Result<[Vec<Report>; 2]> {
        let words = self.words();
        let folder =
            tempfile::tempdir().context("the reports of the turns need a temporary folder")?;
        let turn = |side: Side<'_>| -> Result<Report> {
            let json = folder.path().join("turn.json");
            let mut words = words.clone();
            words.extend(["--repeat".into(), "1".into(), "--json".into()]);
            words.push(json.clone().into());
            words.extend(["--decoder".into(), side.decoder.name().into()]);
            let mut child = Process::start(&words, side.model, Stdio::null())?;
            child.wait(interrupt)?;
            let text =
                fs::read(&json).with_context(|| format!("cannot read {}", json.display()))?;
            Ok(serde_json::from_slice(&text)?)
        };
        let bar = BenchBar::new(interrupt.clone(), 2 * self.pairs, "turn", self.quiet);
        let both = interrupt.attended(|| {
            let mut reports = [Vec::new(), Vec::new()];
            for pair in 0..self.pairs {
                for place in 0..2 {
                    let index = (pair + place) % 2;
                    let side = sides[index];
                    bar.tell(side.name);
                    reports[index].push(turn(side)?);
                    bar.advance();
                }
            }
            Ok::<_, anyhow::Error>(reports)
        });
        bar.finish();
        both
    }

    /// The flags that a process of the same kind gets, beside its model.
    pub(super) fn words(&self) -> Vec<OsString> {
        let mut words: Vec<OsString> = vec!["bench".into(), "--quiet".into(), "--no-peak".into()];
        let mut flag = |name: &str, value: OsString| {
            words.extend([name.into(), value]);
        };
        if let Some(config) = &self.common.config {
            flag("--config", config.into());
        }
        if let Some(openvino) = &self.common.openvino {
            flag("--openvino", openvino.into());
        }
        if let Some(steps) = self.steps {
            flag("--steps", steps.to_string().into());
        }
        if !self.sizes.is_empty() {
            flag("--sizes", self.sizes.join(",").into());
        }
        for (key, value) in self.settings {
            let name = match *key {
                "openvino.device" => "--device",
                "openvino.precision" => "--precision",
                "openvino.threads" => "--threads",
                "model.checkpoint" => "--checkpoint",
                "model.text_encoder" => "--text-encoder",
                // Each process has its own.
                _ => continue,
            };
            flag(name, value.into());
        }
        // A prompt may begin with a dash.
        let mut prompt = OsString::from("--prompt=");
        prompt.push(self.prompt);
        words.push(prompt);
        if self.quantized {
            words.push("--quantized".into());
        }
        words
    }
}

/// A process of this binary, which ends with this value at the latest.
pub(super) struct Process {
    child: Child,
    /// Its standard error, told where it fails.
    errors: File,
}

impl Process {
    /// Starts one that measures `model`; the embedded one where there is none.
    pub(super) fn start(words: &[OsString], model: Option<&Path>, out: Stdio) -> Result<Self> {
        let environment = Environment::of_process();
        let binary = environment
            .executable()
            .context("the system does not tell where this binary lies: start it by its path")?;
        let errors = tempfile::tempfile().context("the words of another process need a file")?;
        let mut command = Command::new(binary);
        command
            .args(words)
            .stdin(Stdio::null())
            .stdout(out)
            .stderr(errors.try_clone()?);
        if let Some(model) = model {
            command.arg("--model").arg(model);
        }
        let child = command
            .spawn()
            .with_context(|| format!("cannot start {}", binary.display()))?;
        Ok(Self { child, errors })
    }

    /// Its standard output, once.
    pub(super) fn output(&mut self) -> Option<std::process::ChildStdout> {
        self.child.stdout.take()
    }

    /// Waits for its end, and ends it where Ctrl-C came.
    pub(super) fn wait(&mut self, interrupt: &Interrupt) -> Result<()> {
        loop {
            // The terminal's Ctrl-C meets both: then it is ours that counts, not the other's exit code.
            if interrupt.came() {
                return Err(PipelineError::Cancelled.into());
            }
            if let Some(status) = self.child.try_wait()? {
                return self.ended(status, interrupt);
            }
            thread::sleep(LOOK);
        }
    }

    fn ended(&mut self, status: ExitStatus, interrupt: &Interrupt) -> Result<()> {
        if status.success() {
            return Ok(());
        }
        interrupt.check()?;
        let words = self.words();
        let words = words.trim().trim_start_matches("pixart: ");
        bail!("a turn's process ended with {status}: {words}");
    }

    fn words(&mut self) -> String {
        use std::io::{Read as _, Seek as _};
        let mut words = Vec::new();
        // What cannot be read is not told: the exit status is.
        let _ = self
            .errors
            .rewind()
            .and_then(|()| self.errors.read_to_end(&mut words));
        String::from_utf8_lossy(&words).into_owned()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // One that has ended is neither killed nor waited for.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
