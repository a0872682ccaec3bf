//! `pixart convert`: a diffusers directory → a model directory.

use std::path::PathBuf;
use std::time::Instant;

use anyhow::Result;

use super::progress::{ConvertProgress, Interrupt};
use super::{Common, say};
use crate::convert::{ComponentWeights, ConvertOptions, convert};
use crate::model::WeightsFormat;

/// Turn a published diffusers directory into OpenVINO IR, without Python or torch.
///
/// SOURCE holds model_index.json, tokenizer/, text_encoder/, transformer/, vae/ and scheduler/, with weights as
/// safetensors. Memory stays below 1 GiB plus three times the largest tensor. Components whose source and options have
/// not changed since the last conversion to the same folder are taken over.
#[derive(Debug, clap::Args)]
pub(super) struct Convert {
    /// The diffusers directory
    source: PathBuf,

    /// The model directory to make; one that pixart made before is replaced when the new one is whole
    #[arg(long, short, value_name = "DIR")]
    output: PathBuf,

    /// What the model will be called in receipts [default: the name of SOURCE]
    #[arg(long)]
    name: Option<String>,

    /// How weights are stored: f32 (bit-true), f16, int8 (linear layers, one scale a row), int4 (groups of 64)
    #[arg(long, value_name = "FORMAT", default_value = "f16")]
    weights: WeightsFormat,

    /// Another format for the text encoder
    #[arg(long, value_name = "FORMAT")]
    text_encoder_weights: Option<WeightsFormat>,

    /// Another format for the transformer
    #[arg(long, value_name = "FORMAT")]
    transformer_weights: Option<WeightsFormat>,

    /// Another format for the VAE decoder
    #[arg(long, value_name = "FORMAT")]
    vae_decoder_weights: Option<WeightsFormat>,

    /// No progress bars
    #[arg(long, short)]
    quiet: bool,
}

impl Convert {
    pub(super) fn run(&self, common: &Common) -> Result<()> {
        let app = common.app(Vec::new())?;
        let start = Instant::now();
        let progress = ConvertProgress::new(Interrupt::listen()?, self.quiet);
        let mut runtime = app.runtime()?;
        let options = ConvertOptions {
            source: self.source.clone(),
            output: self.output.clone(),
            name: self.name.clone(),
            weights: ComponentWeights {
                text_encoder: self.text_encoder_weights.unwrap_or(self.weights),
                transformer: self.transformer_weights.unwrap_or(self.weights),
                vae_decoder: self.vae_decoder_weights.unwrap_or(self.weights),
            },
        };
        let model = convert(&options, &mut runtime, &progress)?;
        progress.finish();
        let bytes: u64 = model.manifest().files.values().map(|file| file.bytes).sum();
        say(&format!(
            "{}: {:.1} MB in {:.1} s\ndraw with it: pixart generate \"a prompt\" --model {}",
            self.output.display(),
            bytes as f64 / 1e6,
            start.elapsed().as_secs_f64(),
            self.output.display()
        ))?;
        Ok(())
    }
}
