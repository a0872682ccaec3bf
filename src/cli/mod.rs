//! The command line: flags in, calls of [`crate::app`], words and exit codes out. No logic of its own.

mod bench;
mod compare;
mod convert;
mod exit;
mod generate;
mod healthcheck;
mod info;
mod limits;
mod list;
mod output;
mod progress;
mod pull;
mod quantize;
mod serve;
mod synthesize;

use std::io::{self, Write as _};
use std::path::PathBuf;

use anyhow::{Context as _, Result};
use clap::{Parser, Subcommand};

use crate::app::{App, Model, forbid_core_dumps};
use crate::config::{
    Environment, Precision, Settings, SettingsError, TextEncoderResidency, foreign_variables, utf8,
};
use crate::domain::Quality;
use crate::engine::end_process;
use crate::shown::shown;
use crate::telemetry::{end_log, say_last};

/// Text-to-image with PixArt-α on ordinary CPUs, through OpenVINO.
#[derive(Debug, Parser)]
#[command(name = "pixart", version, about, long_about = None, propagate_version = true, after_help = exit::HELP)]
struct Cli {
    #[command(subcommand)]
    command: Command,

    #[command(flatten)]
    common: Common,
}

/// Each says of itself what it does, shortly in the list and at length in its own help.
#[derive(Debug, Subcommand)]
enum Command {
    Generate(Box<generate::Generate>),
    Serve(Box<serve::Serve>),
    Healthcheck(healthcheck::Healthcheck),
    Pull(pull::Pull),
    Convert(convert::Convert),
    Quantize(Box<quantize::Quantize>),
    List(list::List),
    Info(info::Info),
    #[command(hide = true)]
    Synthesize(synthesize::Synthesize),
    Bench(Box<bench::Bench>),
    Compare(Box<compare::Compare>),
}

/// Flags of every subcommand. Each overrides the setting of the same name.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Settings")]
struct Common {
    /// Settings file; config/default.toml lists every key [environment: PIXART_CONFIG]
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,

    /// Folder of the OpenVINO runtime's libraries
    #[arg(long, global = true, value_name = "DIR")]
    openvino: Option<PathBuf>,
}

/// The flag of the subcommands that choose among a model's variants.
#[derive(Debug, clap::Args)]
struct QualityFlag {
    /// How near to the original's pictures have to be: exact, balanced, fast. The fastest of the folders in MODEL/variants that is
    /// measured to be near enough draws; exact is f32 where nothing else is, fast takes the tiny decoder [default: balanced]
    #[arg(long, value_name = "QUALITY")]
    quality: Option<Quality>,
}

impl QualityFlag {
    /// As a setting, where it was given.
    fn setting(&self) -> Option<(&'static str, String)> {
        self.quality
            .map(|quality| ("model.quality", quality.to_string()))
    }
}

/// Flags of the subcommands that load a model.
#[derive(Debug, clap::Args)]
struct ModelFlags {
    /// Model: a folder that 'pixart convert' or the PixArt OpenVINO notebook made, or a name that 'pixart list' shows
    /// [default: the embedded sketchbook]
    #[arg(long, value_name = "MODEL")]
    model: Option<PathBuf>,

    /// diffusers directory with tokenizer and scheduler, for a model that pixart did not convert
    #[arg(long, value_name = "DIR")]
    checkpoint: Option<PathBuf>,

    /// Take the notebook's _int8 and _int4 networks where it left both
    #[arg(long)]
    quantized: bool,

    /// Where the networks run: CPU, GPU, GPU.1, NPU, AUTO [default: CPU]
    #[arg(long, value_name = "DEVICE")]
    device: Option<String>,

    /// Arithmetic: auto, f32, bf16, f16 [default: auto, the device's own choice]
    #[arg(long, value_name = "PRECISION")]
    precision: Option<Precision>,

    /// CPU threads; 0 follows the container's CPU quota, or leaves the number to the runtime [default: 0]
    #[arg(long, value_name = "N")]
    threads: Option<u16>,

    /// When the text encoder is in memory: always, or on_demand, which takes less of it [default: always]
    #[arg(long, value_name = "WHEN")]
    text_encoder: Option<TextEncoderResidency>,
}

impl ModelFlags {
    /// The flags that were given, as settings.
    fn settings(&self) -> Result<Vec<(&'static str, String)>, SettingsError> {
        Ok([
            ("model.directory", path("--model", self.model.as_ref())?),
            (
                "model.checkpoint",
                path("--checkpoint", self.checkpoint.as_ref())?,
            ),
            ("openvino.device", self.device.clone()),
            (
                "openvino.precision",
                self.precision.map(|precision| precision.to_string()),
            ),
            (
                "openvino.threads",
                self.threads.map(|threads| threads.to_string()),
            ),
            (
                "model.text_encoder",
                self.text_encoder.map(|residency| residency.to_string()),
            ),
        ]
        .into_iter()
        .filter_map(|(key, value)| Some((key, value?)))
        .collect())
    }

    /// Tells of flags that this model makes no use of.
    fn warn_of_unused(&self, model: &Model) {
        let Model::Own(_) = model else { return };
        let unused: Vec<&str> = [
            ("--checkpoint", self.checkpoint.is_some()),
            ("--quantized", self.quantized),
        ]
        .into_iter()
        .filter_map(|(flag, given)| given.then_some(flag))
        .collect();
        if !unused.is_empty() {
            // Nothing is lost with a terminal that is gone.
            let _ = writeln!(
                io::stderr(),
                "pixart: note: no effect of {}: the model is one that pixart made, and whole",
                unused.join(" and ")
            );
        }
    }

    /// Which of the notebook's networks to take.
    fn notebook_files(&self) -> crate::model::NotebookFiles {
        if self.quantized {
            crate::model::NotebookFiles::Quantised
        } else {
            crate::model::NotebookFiles::Plain
        }
    }
}

/// A flag's path as the text of a setting.
fn path(flag: &str, path: Option<&PathBuf>) -> Result<Option<String>, SettingsError> {
    path.map(|path| utf8(flag, path.as_os_str()).map(str::to_owned))
        .transpose()
}

impl Common {
    /// Resolves the settings with a subcommand's own flags on top.
    fn app(&self, mut flags: Vec<(&'static str, String)>) -> Result<App> {
        if let Some(folder) = path("--openvino", self.openvino.as_ref())? {
            flags.push(("openvino.library", folder));
        }
        let environment = Environment::of_process();
        let file = self
            .config
            .clone()
            .or_else(|| environment.path("PIXART_CONFIG"));
        let settings = Settings::resolve(file.as_deref(), &environment, &flags)?;
        if !settings.server.core_dumps {
            forbid_core_dumps().context(
                "the system does not let core dumps be forbidden: set server.core_dumps to true to take them",
            )?;
        }
        Ok(App::new(settings, environment))
    }
}

/// Parses the command line, does what it says, tells how it went, and ends the process.
pub fn run() -> ! {
    limits::prepare();
    let code = run_command();
    end_log();
    // Where nobody reads any more, nothing is lost.
    let _ = io::stdout().flush();
    end_process(code)
}

/// Runs what the command line asks for; the exit code.
fn run_command() -> u8 {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let code = if error.use_stderr() {
                exit::USAGE
            } else {
                exit::DONE
            };
            // Nowhere is left to tell that the terminal is gone.
            let _ = error.print();
            return code;
        }
    };
    // A service has its log for that, and a health check is asked again and again.
    if !matches!(cli.command, Command::Serve(_) | Command::Healthcheck(_)) {
        for note in foreign_variables(&Environment::of_process()) {
            let _ = writeln!(io::stderr(), "pixart: note: {note}");
        }
    }
    let outcome = match &cli.command {
        Command::Generate(command) => command.run(&cli.common),
        Command::Serve(command) => command.run(&cli.common),
        Command::Healthcheck(command) => command.run(&cli.common),
        Command::Pull(command) => command.run(&cli.common),
        Command::Convert(command) => command.run(&cli.common),
        Command::Quantize(command) => command.run(&cli.common),
        Command::List(command) => command.run(),
        Command::Info(command) => command.run(&cli.common),
        Command::Synthesize(command) => command.run(),
        Command::Bench(command) => command.run(&cli.common),
        Command::Compare(command) => command.run(&cli.common),
    };
    match outcome {
        Ok(()) => exit::DONE,
        Err(error) => {
            let line = format!("pixart: {}", exit::describe(&error));
            // Where there is a log, nobody may be reading what it is written to: then nothing else must wait for that either.
            if !say_last(&line) {
                let _ = writeln!(io::stderr(), "{line}");
            }
            exit::code(&error)
        }
    }
}

/// Writes lines to standard output, with nothing in them that a terminal obeys. A reader that has gone, as `head` does, wants no
/// more and stops nothing.
fn say(text: &str) -> Result<(), exit::OutputError> {
    let mut out = io::stdout().lock();
    let said = out
        .write_all(shown(text).as_bytes())
        .and_then(|()| out.write_all(b"\n"))
        .and_then(|()| out.flush());
    match said {
        Err(source) if source.kind() != io::ErrorKind::BrokenPipe => Err(exit::OutputError {
            path: PathBuf::from("the answer to standard output"),
            source,
        }),
        _ => Ok(()),
    }
}
