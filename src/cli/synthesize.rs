//! `pixart synthesize`: a diffusers directory of published shapes with generated weights, for trials.

use std::path::PathBuf;
use std::time::Instant;

use anyhow::Result;
use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};

use super::progress::{Interrupt, SynthesizeProgress};
use super::say;
use crate::app::shell::quoted;
use crate::synthesize::{Published, Shapes, Storage, SynthesizeOptions, synthesize};

/// Make a checkpoint with the files and shapes of a published one and generated weights, to try time and memory without its files.
///
/// Converting, loading and drawing take what they take with the published files; the images mean nothing. As published, in f32, it
/// has 22 GB; with --dtype f16, 11 GB. --layers, --text-layers and --width make smaller ones.
#[derive(Debug, clap::Args)]
pub(super) struct Synthesize {
    /// The diffusers directory to make: new, or empty
    #[arg(long, short, value_name = "DIR")]
    output: PathBuf,

    /// How weights are stored: f16, f32, bf16 [default: as published]
    #[arg(long, value_name = "DTYPE")]
    dtype: Option<Storage>,

    /// Another seed gives other weights
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,

    /// Layers of the transformer, 1 to 28
    #[arg(long, value_name = "N", default_value_t = Shapes::LAYERS as u64,
        value_parser = clap::value_parser!(u64).range(1..=Shapes::LAYERS as u64))]
    layers: u64,

    /// Layers of the text encoder, 1 to 24
    #[arg(long, value_name = "N", default_value_t = Shapes::TEXT_LAYERS as u64,
        value_parser = clap::value_parser!(u64).range(1..=Shapes::TEXT_LAYERS as u64))]
    text_layers: u64,

    /// Width of the transformer, a multiple of 96 up to 1152; the text encoder and the VAE narrow with it
    #[arg(long, value_name = "N", default_value_t = Shapes::WIDTH, value_parser = width)]
    width: usize,

    /// The published repository whose files and shapes it has
    #[arg(long, value_name = "OWNER/NAME", default_value = "PixArt-alpha/PixArt-LCM-XL-2-1024-MS",
        value_parser = repositories())]
    like: &'static Published,

    /// No progress bar
    #[arg(long, short)]
    quiet: bool,
}

/// Those of [`Published::ALL`], by name.
fn repositories() -> impl TypedValueParser<Value = &'static Published> {
    let names = Published::ALL.iter().map(|published| {
        let name = PossibleValue::new(published.name);
        match published.alias {
            Some(alias) => name.alias(alias),
            None => name,
        }
    });
    PossibleValuesParser::new(names)
        .map(|name| Published::named(&name).expect("only names and aliases come through"))
}

fn width(text: &str) -> Result<usize, String> {
    text.parse()
        .ok()
        .filter(|width: &usize| {
            (1..=Shapes::WIDTH).contains(width) && width.is_multiple_of(Shapes::WIDTH_STEP)
        })
        .ok_or_else(|| {
            let (step, full) = (Shapes::WIDTH_STEP, Shapes::WIDTH);
            format!("it must be a multiple of {step}, from {step} to {full}")
        })
}

impl Synthesize {
    pub(super) fn run(&self) -> Result<()> {
        let layers = usize::try_from(self.layers)?;
        let text_layers = usize::try_from(self.text_layers)?;
        let options = SynthesizeOptions {
            output: self.output.clone(),
            like: self.like,
            shapes: Shapes::of(self.like)
                .with_layers(layers, text_layers)
                .with_width(self.width),
            storage: self.dtype,
            seed: self.seed,
        };
        let start = Instant::now();
        let progress = SynthesizeProgress::new(Interrupt::listen()?, self.quiet);
        let made = synthesize(&options, &progress)?;
        progress.finish();
        let output = self.output.display();
        say(&format!(
            "{output}: {:.1} MB, {:.0} M weights, {:.1} s",
            made.bytes as f64 / 1e6,
            made.weights as f64 / 1e6,
            start.elapsed().as_secs_f64(),
        ))?;
        if self.like.is_full() {
            let output = quoted(&self.output);
            say(&format!("convert it: pixart convert {output} --output DIR"))?;
        }
        Ok(())
    }
}
