//! Draws captions and tells which share of the pictures follows them: `cargo run --release --example score -- --help`.
#![expect(clippy::print_stdout, reason = "a program that prints its table")]

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use clap::Parser;
use pixart::app::App;
use pixart::config::{Environment, Settings};

use pixart::compare::{Captioned, Reader, Score, Verdict};
use pixart::pipeline::pixels::Rgb8;

/// Tell which share of sketchbook's pictures shows what their captions say.
///
/// Pictures are named by their seeds: 0.png is the first caption's, drawn with seed 0. Those that are missing are drawn by
/// 'pixart generate'.
#[derive(Debug, Parser)]
struct Options {
    /// The folder of the pictures, made where it is missing.
    pictures: PathBuf,
    /// What to draw and what it states, one JSON object a line.
    #[arg(long, default_value = "models/sketchbook/score/captions.jsonl")]
    captions: PathBuf,
    /// The binary that draws what is missing.
    #[arg(long, default_value = "target/release/pixart")]
    pixart: PathBuf,
    /// Only the first captions.
    #[arg(long)]
    limit: Option<usize>,
    /// Print every picture that does not follow its caption.
    #[arg(long)]
    wrong: bool,
    /// What else 'pixart generate' is told, such as --model DIR.
    #[arg(last = true)]
    generate: Vec<String>,
}

fn main() -> Result<()> {
    let options = Options::parse();
    let environment = Environment::of_process();
    let settings = Settings::resolve(None, &environment, &[])?;
    let mut runtime = App::new(settings, environment).runtime()?;
    let mut reader = Reader::load(&mut runtime)?;
    let mut captions = Captioned::read_all(&options.captions)?;
    captions.truncate(options.limit.unwrap_or(captions.len()));
    std::fs::create_dir_all(&options.pictures)?;
    let mut verdicts = Vec::with_capacity(captions.len());
    for (seed, captioned) in captions.iter().enumerate() {
        let file = options.pictures.join(format!("{seed}.png"));
        if !file.exists() {
            draw(&options, &captioned.caption, seed, &file)?;
        }
        let shown = reader
            .read(&pixels(&file)?)
            .with_context(|| file.display().to_string())?;
        let verdict = captioned.judge(&shown);
        if options.wrong && !verdict.follows() {
            println!(
                "{}: {:?} shows {shown:?}",
                file.display(),
                captioned.caption
            );
        }
        verdicts.push(verdict);
    }
    print_table(&captions, &verdicts);
    Ok(())
}

fn draw(options: &Options, caption: &str, seed: usize, file: &Path) -> Result<()> {
    let status = Command::new(&options.pixart)
        .args([
            "generate",
            "--quiet",
            "--seed",
            &seed.to_string(),
            "--output",
        ])
        .arg(file)
        .args(&options.generate)
        .args(["--", caption])
        .status()
        .with_context(|| format!("cannot start {}", options.pixart.display()))?;
    ensure!(status.success(), "{caption:?} was not drawn: {status}");
    Ok(())
}

fn pixels(file: &Path) -> Result<Rgb8> {
    let bytes = std::fs::read(file).with_context(|| file.display().to_string())?;
    let mut decoder = png::Decoder::new(std::io::Cursor::new(bytes)).read_info()?;
    let mut rgb = vec![
        0;
        decoder
            .output_buffer_size()
            .context("a picture too large")?
    ];
    let frame = decoder.next_frame(&mut rgb)?;
    Ok(Rgb8 {
        width: frame.width,
        height: frame.height,
        data: rgb,
    })
}

fn print_table(captions: &[Captioned], verdicts: &[Verdict]) {
    let all = |name: &str, right: usize, of: usize| {
        println!(
            "| {name} | {right} of {of} | {:.1} % |",
            100.0 * right as f64 / of.max(1) as f64
        );
    };
    println!("| what | right | share |\n|---|---|---|");
    for (name, share) in Score::of(verdicts).shares() {
        all(name, share.right, share.of);
    }
    for count in 1..=3 {
        let of_these: Vec<&Verdict> = captions
            .iter()
            .zip(verdicts)
            .filter_map(|(c, v)| (c.subjects.len() == count).then_some(v))
            .collect();
        let right = of_these.iter().filter(|v| v.follows()).count();
        all(
            &format!("all three, of captions with {count}"),
            right,
            of_these.len(),
        );
    }
}
