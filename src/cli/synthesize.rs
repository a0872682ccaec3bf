//! `pixart synthesize`: a diffusers directory of published shapes with generated weights, for trials.

use std::path::PathBuf;
use std::time::Instant;

use anyhow::Result;
use clap::ValueEnum;

use super::progress::{Interrupt, SynthesizeProgress};
use super::say;
use crate::synthesize::{Shapes, Storage, SynthesizeOptions, synthesize};

/// Make a checkpoint with the shapes of a published one and generated weights, to try time and memory without its files.
///
/// Converting, loading and drawing take what they take with the published files; the pictures mean nothing. In f16 it has 10.9 GB:
/// --layers and --text-layers make smaller ones, whose other weights are the same.
#[derive(Debug, clap::Args)]
pub(super) struct Synthesize {
    /// The diffusers directory to make: new, or empty
    #[arg(long, short, value_name = "DIR")]
    output: PathBuf,

    /// How weights are stored: f16, f32, bf16
    #[arg(long, value_name = "DTYPE", default_value = "f16")]
    dtype: Storage,

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

    /// The published checkpoint whose shapes it has
    #[arg(long, value_name = "NAME", default_value = "alpha-lcm-xl-2-1024")]
    like: Like,

    /// No progress bar
    #[arg(long, short)]
    quiet: bool,
}

/// Published checkpoints.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Like {
    /// PixArt-alpha/PixArt-LCM-XL-2-1024-MS
    #[value(name = "alpha-lcm-xl-2-1024")]
    AlphaLcmXl21024,
}

impl Synthesize {
    pub(super) fn run(&self) -> Result<()> {
        let shapes = match self.like {
            Like::AlphaLcmXl21024 => Shapes::alpha_lcm_xl_2_1024(
                usize::try_from(self.layers)?,
                usize::try_from(self.text_layers)?,
            ),
        };
        let options = SynthesizeOptions {
            output: self.output.clone(),
            shapes,
            storage: self.dtype,
            seed: self.seed,
        };
        let start = Instant::now();
        let progress = SynthesizeProgress::new(Interrupt::listen()?, self.quiet);
        let made = synthesize(&options, &progress)?;
        progress.finish();
        let output = self.output.display();
        say(&format!(
            "{output}: {:.1} MB, {:.0} M weights, {:.1} s\nconvert it: pixart convert {output} --output DIR",
            made.bytes as f64 / 1e6,
            made.weights as f64 / 1e6,
            start.elapsed().as_secs_f64(),
        ))?;
        Ok(())
    }
}
