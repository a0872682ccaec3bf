//! `pixart convert`: a diffusers directory → a model directory.

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Result, bail};

use super::progress::{ConvertProgress, Interrupt};
use super::{Common, say};
use crate::app::names::Names;
use crate::config::Environment;
use crate::convert::{
    ComponentWeights, ConvertOptions, TinyVaeOptions, add_tiny_vae, convert, is_tiny_vae,
};
use crate::model::{ModelDirectory, WeightsFormat, variants};
use crate::pull::Repository;

/// Turn a published diffusers directory into OpenVINO IR, without Python or torch.
///
/// SOURCE may be OWNER/NAME of a checkpoint that is on this machine. It holds model_index.json, tokenizer/, text_encoder/, transformer/, vae/ and scheduler/, with weights as
/// safetensors; tiny_vae/ may come with them. Where SOURCE is a tiny autoencoder alone (a copy of madebyollin/taesd: config.json with
/// the class AutoencoderTiny), the model at --output gets it beside its own decoder, and its variants too, and keeps the rest. Memory stays below 1 GiB plus three times the largest tensor. Components whose source and options have
/// not changed since the last conversion to the same folder are taken over.
#[derive(Debug, clap::Args)]
pub(super) struct Convert {
    /// The diffusers directory; or OWNER/NAME of one that 'pixart pull' or the hub's own tools have fetched
    source: PathBuf,

    /// The model directory to make; one that pixart made before is replaced when the new one is whole
    /// [default: PIXART_HOME/models/OWNER/NAME]
    #[arg(long, short, value_name = "DIR")]
    output: Option<PathBuf>,

    #[command(flatten)]
    conversion: Conversion,

    /// The folder of a tiny autoencoder for the same latents, such as a copy of madebyollin/taesd: pictures may then be asked for
    /// with its decoder, and previews are made by it
    #[arg(long, value_name = "DIR")]
    vae: Option<PathBuf>,

    /// No progress bars
    #[arg(long, short)]
    quiet: bool,
}

/// How a checkpoint is converted, wherever it comes from.
#[derive(Debug, clap::Args)]
pub(super) struct Conversion {
    /// What the model will be called in receipts [default: the name of its source]
    #[arg(long)]
    pub(super) name: Option<String>,

    /// How weights are stored: f32 (bit-true), f16, int8 (linear layers, one scale a row), int4 (groups of 64) [default: f16]
    #[arg(long, value_name = "FORMAT")]
    weights: Option<WeightsFormat>,

    /// Another format for the text encoder
    #[arg(long, value_name = "FORMAT")]
    text_encoder_weights: Option<WeightsFormat>,

    /// Another format for the transformer
    #[arg(long, value_name = "FORMAT")]
    transformer_weights: Option<WeightsFormat>,

    /// Another format for the VAE decoder
    #[arg(long, value_name = "FORMAT")]
    vae_decoder_weights: Option<WeightsFormat>,
}

impl Conversion {
    pub(super) fn formats(&self) -> ComponentWeights {
        let weights = self.weights.unwrap_or(WeightsFormat::F16);
        ComponentWeights {
            text_encoder: self.text_encoder_weights.unwrap_or(weights),
            transformer: self.transformer_weights.unwrap_or(weights),
            vae_decoder: self.vae_decoder_weights.unwrap_or(weights),
        }
    }

    /// A flag that was given.
    pub(super) fn first_given(&self) -> Option<&'static str> {
        [
            ("--name", self.name.is_some()),
            ("--weights", self.weights.is_some()),
            (
                "--text-encoder-weights",
                self.text_encoder_weights.is_some(),
            ),
            ("--transformer-weights", self.transformer_weights.is_some()),
            ("--vae-decoder-weights", self.vae_decoder_weights.is_some()),
        ]
        .into_iter()
        .find_map(|(flag, given)| given.then_some(flag))
    }
}

/// Says what was made, and what to do with it.
pub(super) fn say_converted(output: &Path, model: &ModelDirectory, start: Instant) -> Result<()> {
    let bytes: u64 = model.manifest().files.values().map(|file| file.bytes).sum();
    let called = Names::of(&Environment::of_process()).spelled(output);
    say(&format!(
        "{}: {:.1} MB in {:.1} s\ndraw with it: pixart generate \"a prompt\" --model {called}",
        output.display(),
        bytes as f64 / 1e6,
        start.elapsed().as_secs_f64(),
    ))?;
    Ok(())
}

impl Convert {
    pub(super) fn run(&self, common: &Common) -> Result<()> {
        let app = common.app(Vec::new())?;
        let environment = Environment::of_process();
        let names = Names::of(&environment);
        let found = names.checkpoint(&self.source)?;
        let vae = self.vae.as_ref().map(|vae| names.checkpoint(vae));
        let vae = vae.transpose()?.map(|found| found.folder);
        let start = Instant::now();
        let progress = ConvertProgress::new(Interrupt::listen()?, self.quiet);
        let mut runtime = app.runtime()?;
        if is_tiny_vae(&found.folder) {
            let unused = self.conversion.first_given();
            if let Some(flag) = unused.or(self.vae.is_some().then_some("--vae")) {
                bail!(
                    "{flag} is of a whole checkpoint, and SOURCE is a tiny autoencoder alone: leave it out"
                );
            }
            // A variant that draws in the model's place has to have what the model has.
            let Some(output) = &self.output else {
                bail!("SOURCE is a tiny autoencoder alone: --output names the model that gets it");
            };
            let output = names.model(output)?;
            for model in [output.clone()].into_iter().chain(variants(&output)) {
                let source = found.folder.clone();
                let options = TinyVaeOptions { source, model };
                let made = add_tiny_vae(&options, &mut runtime, &progress)?;
                say_converted(&options.model, &made, start)?;
            }
            progress.finish();
            return Ok(());
        }
        let output = match &self.output {
            Some(output) => output.clone(),
            None => names.place_of_model_of(&found)?,
        };
        let own_name = |repository: &Repository| repository.own_name().to_owned();
        let options = ConvertOptions {
            name: (self.conversion.name.clone()).or(found.repository.as_ref().map(own_name)),
            source: found.folder,
            output: output.clone(),
            weights: self.conversion.formats(),
            tiny_vae: vae,
        };
        let model = convert(&options, &mut runtime, &progress)?;
        progress.finish();
        say_converted(&output, &model, start)
    }
}
