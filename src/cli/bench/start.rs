//! `pixart bench --start`: from the beginning of the process to compiled networks, with the runtime's cache of compiled
//! networks and without it.

use std::fmt::Write as _;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::Stdio;
use std::time::Instant;

use anyhow::{Context as _, Result, bail};
use serde::{Deserialize, Serialize};

use super::Bench;
use super::turns::Process;
use crate::app::App;
use crate::bench::{Machine, MemoryPeak, MemoryWatch, SCHEMA, Spread};
use crate::cli::progress::{BenchBar, Interrupt};
use crate::cli::{Common, say};
use crate::domain::{GenerateRequest, RequestDraft, Steps};
use crate::pipeline::Generate as _;

/// What the runtime keeps of what it compiled (OpenVINO's CACHE_DIR and CACHE_MODE).
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Cache {
    /// Nothing, as 'pixart serve' does
    None,
    /// Networks without weights
    Size,
    /// Networks with their weights, as large as the model
    Speed,
}

/// Starts of one kind.
#[derive(Debug, Serialize)]
pub(super) struct Starts {
    schema: u32,
    machine: Machine,
    kinds: Vec<Kind>,
}

/// Starts with one kind of cache.
#[derive(Debug, Serialize)]
struct Kind {
    cache: Cache,
    /// The start that filled the cache; without one, the first start, which may have filled the page cache.
    first: Start,
    /// Those after it.
    starts: Vec<Start>,
    /// Of [`Kind::starts`], seconds from the beginning of the process to compiled networks.
    ready: Spread,
    /// And to the first picture of one step, which packs the weights.
    first_picture: Spread,
    /// What lies in the cache afterwards.
    cache_bytes: u64,
}

/// One start, in seconds.
#[derive(Debug, Clone, Serialize)]
struct Start {
    /// From the beginning of the process to compiled networks, by the clock of who started it.
    ready_seconds: f64,
    /// To the end of the first picture.
    first_picture_seconds: f64,
    #[serde(flatten)]
    told: Told,
}

/// What a started process says of itself when its networks are compiled.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Told {
    /// Finding and loading the runtime.
    runtime_seconds: f64,
    /// Opening the model and checking its files' SHA-256.
    check_seconds: f64,
    /// Reading and compiling.
    compile_seconds: f64,
    /// Peak memory of it.
    memory: Option<MemoryPeak>,
}

/// The started process's half.
pub(super) fn ready(
    app: &App,
    bench: &Bench,
    draft: &RequestDraft,
    interrupt: &Interrupt,
) -> Result<()> {
    let memory = MemoryWatch::start();
    let start = Instant::now();
    let mut runtime = app.runtime()?;
    let runtime_seconds = start.elapsed().as_secs_f64();
    let start = Instant::now();
    let model = bench.find(app, &mut runtime, interrupt)?;
    let check_seconds = start.elapsed().as_secs_f64();
    if let Some(folder) = &bench.compile_cache {
        let device = &app.settings().openvino.device;
        runtime.keep_compiled(device, folder, bench.compile_cache_small)?;
    }
    let mut loaded = app.load(&mut runtime, &model)?;
    let told = Told {
        runtime_seconds,
        check_seconds,
        compile_seconds: loaded.load.as_secs_f64(),
        memory: memory.finish(),
    };
    say(&serde_json::to_string(&told)?)?;
    let request = GenerateRequest {
        steps: Steps::new(1)?,
        ..draft.clone().complete(loaded.pipeline.planner().defaults())
    };
    let mut watch = BenchBar::new(interrupt.clone(), 1, "step", true);
    interrupt.attended(|| loaded.pipeline.generate(&request, &mut watch))?;
    say("drawn")?;
    Ok(())
}

/// Starts of all kinds by turns: one of each, and again.
pub(super) fn measure(
    bench: &Bench,
    common: &Common,
    caches: &[Cache],
    interrupt: &Interrupt,
) -> Result<Starts> {
    let folders: Vec<tempfile::TempDir> = caches
        .iter()
        .map(|_| tempfile::tempdir())
        .collect::<Result<_, _>>()
        .context("the caches need a temporary folder; TMPDIR names one")?;
    let rounds = bench.repeat as usize + 1;
    let bar = BenchBar::new(
        interrupt.clone(),
        rounds * caches.len(),
        "start",
        bench.quiet,
    );
    let mut starts: Vec<Vec<Start>> = caches.iter().map(|_| Vec::new()).collect();
    for _ in 0..rounds {
        for (index, &cache) in caches.iter().enumerate() {
            starts[index].push(one(bench, common, cache, folders[index].path(), interrupt)?);
            bar.advance();
        }
    }
    bar.finish();
    let kinds = caches
        .iter()
        .zip(starts)
        .zip(&folders)
        .map(|((&cache, mut starts), folder)| {
            let first = starts.remove(0);
            let spread = |value: fn(&Start) -> f64| {
                Spread::of(&starts.iter().map(value).collect::<Vec<f64>>())
            };
            Kind {
                cache,
                first,
                ready: spread(|start| start.ready_seconds),
                first_picture: spread(|start| start.first_picture_seconds),
                starts,
                cache_bytes: bytes_in(folder.path()),
            }
        })
        .collect();
    Ok(Starts {
        schema: SCHEMA,
        machine: Machine::here(),
        kinds,
    })
}

fn one(
    bench: &Bench,
    common: &Common,
    cache: Cache,
    folder: &Path,
    interrupt: &Interrupt,
) -> Result<Start> {
    let settings = bench.model.settings()?;
    let mut words = bench.turns(common, &settings).words();
    words.push("--ready".into());
    if cache != Cache::None {
        words.extend(["--compile-cache".into(), folder.into()]);
    }
    if cache == Cache::Size {
        words.push("--compile-cache-small".into());
    }
    let clock = Instant::now();
    let mut process = Process::start(&words, bench.model.model.as_deref(), Stdio::piped())?;
    let out = process.output().context("its output is a pipe")?;
    let mut lines = BufReader::new(out).lines();
    let Some(told) = lines.next().transpose()? else {
        process.wait(interrupt)?;
        bail!("a started process said nothing");
    };
    let ready_seconds = clock.elapsed().as_secs_f64();
    let drawn = lines.next().transpose()?;
    let first_picture_seconds = clock.elapsed().as_secs_f64();
    process.wait(interrupt)?;
    if drawn.is_none() {
        bail!("a started process drew nothing");
    }
    Ok(Start {
        ready_seconds,
        first_picture_seconds,
        told: serde_json::from_str(&told).context("a started process said something else")?,
    })
}

fn bytes_in(folder: &Path) -> u64 {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .filter_map(|entry| entry.metadata().ok())
        .filter(fs::Metadata::is_file)
        .map(|file| file.len())
        .sum()
}

/// The table.
pub(super) fn table(starts: &Starts) -> String {
    let mut text = String::from(
        "| cache | first start | ready: median | min – max | n | of it compiling | first picture | peak memory | cache |\n\
         |---|--:|--:|--:|--:|--:|--:|--:|--:|\n",
    );
    for kind in &starts.kinds {
        let compiling: Vec<f64> = kind
            .starts
            .iter()
            .map(|start| start.told.compile_seconds)
            .collect();
        let memory = kind
            .starts
            .iter()
            .filter_map(|start| Some(start.told.memory?.anonymous_bytes))
            .max()
            .unwrap_or_default();
        let _ = writeln!(
            text,
            "| {:?} | {:.2} s | {:.2} s | {:.2} – {:.2} s | {} | {:.2} s | {:.2} s | {:.2} GiB | {:.1} MB |",
            kind.cache,
            kind.first.ready_seconds,
            kind.ready.median,
            kind.ready.min,
            kind.ready.max,
            kind.ready.n,
            Spread::of(&compiling).median,
            kind.first_picture.median,
            memory as f64 / f64::from(1 << 30),
            kind.cache_bytes as f64 / 1e6,
        );
    }
    text
}
