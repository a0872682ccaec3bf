//! `pixart serve`: the HTTP service.

use std::io::IsTerminal as _;
use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::Result;

use super::{Common, ModelFlags, QualityFlag, exit, path};
use crate::app::serve::{Announce, Ended};
use crate::config::{Environment, LogFormat, Settings, foreign_variables};
use crate::files::readable_by_others;
use crate::model::Choice;
use crate::telemetry::{Logging, end_log, log_panics, memory_limit_bytes, say_beside_log};

/// Serve pictures over HTTP.
///
/// One model, one worker, one bounded queue. POST /v1/images draws while the caller waits (JSON, the bytes of a picture, or
/// server-sent events), POST /v1/jobs draws without an open connection, and POST /v1/images/generations is what the OpenAI
/// SDKs call. GET /openapi.yaml has the whole contract, GET /metrics what Prometheus reads, GET /readyz and /healthz what an
/// orchestrator asks. Every key of config/default.toml can also be set in the environment, as in PIXART__LIMITS__MAX_STEPS=50
/// or PIXART__AUTH__KEYS=a,b. SIGTERM, Ctrl-C and a closed terminal answer those who wait with 503, let the running picture finish
/// within the grace period, and exit with 0; a second SIGTERM or Ctrl-C exits at once.
#[derive(Debug, clap::Args)]
pub(super) struct Serve {
    /// Address and port; 0.0.0.0:8080 answers other machines [default: 127.0.0.1:8080]
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<SocketAddr>,

    /// An address of its own for /metrics [default: /metrics on --listen]
    #[arg(long, value_name = "ADDRESS")]
    metrics_listen: Option<SocketAddr>,

    /// Requests that may wait behind the one that is drawn; the next gets 429 and Retry-After [default: 8]
    #[arg(long, value_name = "N")]
    queue_capacity: Option<u32>,

    /// Deadline of requests that name none; 0 is none [default: 0]
    #[arg(long, value_name = "SECONDS")]
    deadline_seconds: Option<u32>,

    /// How long the running picture may take after SIGTERM [default: 25]
    #[arg(long, value_name = "SECONDS")]
    grace_seconds: Option<u32>,

    /// File of API keys, one a line, or a name for the log and a key; without keys anybody may draw
    #[arg(long, value_name = "FILE")]
    keys_file: Option<PathBuf>,

    /// How log lines are written: human or json [default: human]
    #[arg(long, value_name = "FORMAT")]
    log_format: Option<String>,

    /// What is logged: error, warn, info, debug, trace, or by target, as in info,pixart::http=debug [default: info]
    #[arg(long, value_name = "LEVEL")]
    log_level: Option<String>,

    #[command(flatten)]
    model: ModelFlags,

    #[command(flatten)]
    quality: QualityFlag,
}

impl Serve {
    pub(super) fn run(&self, common: &Common) -> Result<()> {
        let mut flags = self.model.settings()?;
        flags.extend(self.settings()?);
        flags.extend(self.quality.setting());
        let app = common.app(flags)?;
        let log = &app.settings().log;
        Logging {
            json: log.format == LogFormat::Json,
            level: &log.level,
        }
        .start()?;
        log_panics();
        tracing::info!(
            settings = other_than_default(app.settings()),
            "starting, with these settings and the defaults of config/default.toml"
        );
        for note in foreign_variables(&Environment::of_process()) {
            tracing::warn!("{note}");
        }
        if memory_limit_bytes().is_none() && !app.settings().server.listen.ip().is_loopback() {
            tracing::warn!(
                "no memory limit is set for this process, so large pictures take memory from everything beside it: set one \
                 (docker: --memory 4g; Kubernetes: resources.limits.memory; systemd: MemoryMax=4G)"
            );
        }
        warn_of_readable_keys(app.settings());
        let (app, choice) = app.choosing()?;
        log_choice(&choice);
        let mut announce = ToTerminal {
            format: app.settings().log.format,
        };
        let second_signal = exit::INTERRUPTED.into();
        match app.serve(self.model.notebook_files(), second_signal, &mut announce)? {
            Ended::Cleanly => {
                tracing::info!("stopped");
                Ok(())
            }
            Ended::WorkerBusy => {
                tracing::info!("stopped while the worker was busy");
                end_log();
                // OpenVINO's destructors would run under the worker that still uses what they destroy.
                signal_hook::low_level::exit(exit::DONE.into())
            }
        }
    }

    fn settings(&self) -> Result<Vec<(&'static str, String)>> {
        let text = |number: Option<u32>| number.map(|number| number.to_string());
        Ok([
            ("server.listen", self.listen.map(|it| it.to_string())),
            (
                "server.metrics_listen",
                self.metrics_listen.map(|it| it.to_string()),
            ),
            ("queue.capacity", text(self.queue_capacity)),
            ("queue.deadline_seconds", text(self.deadline_seconds)),
            ("server.grace_seconds", text(self.grace_seconds)),
            (
                "auth.keys_file",
                path("--keys-file", self.keys_file.as_ref())?,
            ),
            ("log.format", self.log_format.clone()),
            ("log.level", self.log_level.clone()),
        ]
        .into_iter()
        .filter_map(|(key, value)| Some((key, value?)))
        .collect())
    }
}

/// Tells of a file of API keys that other users of the machine can read.
fn warn_of_readable_keys(settings: &Settings) {
    let path = &settings.auth.keys_file;
    let metadata = std::fs::metadata(path);
    if !path.as_os_str().is_empty() && metadata.is_ok_and(|found| readable_by_others(&found)) {
        tracing::warn!(
            path = %path.display(),
            "other users of this machine can read the keys in auth.keys_file: take that right from them (chmod go-r)"
        );
    }
}

/// Which of a model's variants draws, and why others do not.
fn log_choice(choice: &Choice) {
    for (standing, found) in choice.measured_elsewhere() {
        tracing::warn!(
            variant = standing.name,
            cpu = found.cpu,
            instruction_set = found.instruction_set.join(" "),
            "a variant was measured on another processor alone, so it does not draw on this one: measure it here with \
             'pixart compare MODEL VARIANT --record'"
        );
    }
    for standing in &choice.standings {
        if let (Some(reason), None) = (&standing.useless, &standing.measured_elsewhere) {
            tracing::info!(
                variant = standing.name,
                reason,
                "a variant that never draws"
            );
        }
    }
    tracing::info!(
        quality = choice.quality.name(),
        variant = choice.variant,
        in_f32 = choice.in_f32,
        "what draws"
    );
}

/// Every setting that differs from its default, secrets redacted.
fn other_than_default(settings: &Settings) -> String {
    let defaults = Settings::default().described();
    let others: Vec<String> = settings
        .described()
        .into_iter()
        .filter(|setting| !defaults.contains(setting))
        .map(|(key, value)| format!("{key} = {value}"))
        .collect();
    others.join(", ")
}

/// Says where the service is and how to get a picture; programs that read JSON logs are told in the log alone.
struct ToTerminal {
    format: LogFormat,
}

impl Announce for ToTerminal {
    fn bound(&mut self, address: SocketAddr) {
        tracing::info!(%address, "listening; the model is being loaded");
    }

    fn ready(&mut self, address: SocketAddr) {
        tracing::info!(%address, "ready");
        if self.format == LogFormat::Json && !std::io::stdout().is_terminal() {
            return;
        }
        // Not with 'say': a terminal that is paused would stop the service.
        say_beside_log(&format!(
            "\npixart draws at http://{address}\n\n  \
             curl http://{address}/v1/images --json '{{\"prompt\": \"A small cactus with a happy face in the Sahara desert.\", \"seed\": 42}}' \\\n    \
             -H 'accept: image/png' --output cactus.png\n\n"
        ));
    }
}
