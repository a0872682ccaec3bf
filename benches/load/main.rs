//! What the service holds under load, asked of the real binary: `make load`, or `cargo bench --bench load -- SCENARIO…`.
//!
//! Each scenario starts `pixart serve` with the embedded model on a free port, plays its clients, and adds rows to one
//! Markdown table: what, the figure asked for, the figure found, and whether it holds. The exit code is 1 if one does not.
//! Arrivals keep to a clock that waits for no answer, because clients do not either. Client and service share the
//! machine's cores, as the inference does: the figures contain what the client costs, and all are worse for neighbours.
#![allow(
    clippy::unwrap_used,
    reason = "a benchmark that cannot run says so by panicking"
)]

mod aborts;
mod arrivals;
mod burst;
mod cancel;
mod client;
mod hostile;
mod limits;
mod memory;
mod overhead;
mod overload;
mod report;
mod samples;
mod service;
mod sigterm;
mod sizes;
mod statistics;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use report::Report;
use service::Binary;

/// All scenarios, in the order in which they run.
const SCENARIOS: [&str; 10] = [
    "burst", "overload", "aborts", "cancel", "sigterm", "overhead", "memory", "hostile", "sizes",
    "limits",
];
/// Threads of the client.
const CLIENT_THREADS: usize = 2;

fn main() -> ExitCode {
    let (binary, chosen) = arguments();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(CLIENT_THREADS)
        .enable_all()
        .build()
        .unwrap();
    let mut report = Report::begin();
    for scenario in SCENARIOS {
        if !chosen.is_empty() && !chosen.iter().any(|name| name == scenario) {
            continue;
        }
        let began = Instant::now();
        report.scenario(scenario);
        runtime.block_on(async {
            match scenario {
                "burst" => burst::run(&binary, &mut report).await,
                "overload" => overload::run(&binary, &mut report).await,
                "aborts" => aborts::run(&binary, &mut report).await,
                "cancel" => cancel::run(&binary, &mut report).await,
                "overhead" => overhead::run(&binary, &mut report).await,
                "memory" => memory::run(&binary, &mut report).await,
                "sizes" => sizes::run(&binary, &mut report).await,
                "limits" => limits::run(&binary, &mut report).await,
                "hostile" => hostile::run(&binary, &mut report).await,
                "sigterm" => sigterm::run(&binary, &mut report).await,
                _ => unreachable!("the list and the match have the same names"),
            }
        });
        let took = format!("{:.0} s", began.elapsed().as_secs_f64());
        report.tell("time of the scenario", &took);
    }
    report.end()
}

/// The binary (`--pixart PATH`, else target/release/pixart) and the scenarios that are wanted; none is all.
fn arguments() -> (Binary, Vec<String>) {
    let mut path = None;
    let mut chosen = Vec::new();
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            // cargo says so to every benchmark.
            "--bench" => {}
            "--pixart" => path = arguments.next().map(PathBuf::from),
            name if SCENARIOS.contains(&name) => chosen.push(argument),
            other => panic!("there is no scenario '{other}': choose from {SCENARIOS:?}"),
        }
    }
    let path = path.unwrap_or_else(|| "target/release/pixart".into());
    (Binary::at(path), chosen)
}
