//! `pixart pull`: a repository on a hub → a diffusers directory, or with `--convert` a model directory.

mod check;

use std::path::PathBuf;
use std::time::Instant;

use anyhow::Result;

use super::convert::{Conversion, say_converted};
use super::exit::WithoutConvert;
use super::progress::{ConvertProgress, Interrupt, PullProgress};
use super::{Common, say};
use crate::app::judge::Converting;
use crate::app::names::Names;
use crate::app::pulled::{self, Watches, pull_and_convert};
use crate::config::{Environment, HubSettings, OwnPlace, PUBLIC_HUB, hub_address};
use crate::pull::{InvalidRepository, Patience, PullOptions, Repository, pull};
use check::{Check, CheckFlags, before_pull};

/// Fetch a published checkpoint from the Hugging Face Hub, or from one that speaks as it does.
///
/// Takes what 'pixart convert' reads: configurations, tokenizer and safetensors, never pickles, and no tiny_vae/; of a tiny
/// autoencoder alone, such as madebyollin/taesd, its two files. Each file is checked by length
/// and SHA-256 where the hub gives them. What is interrupted is kept, and the same command goes on from there.
/// Before anything large comes, the repository is judged by its small files and the headers of its weights; --check stops there.
/// With --convert the output is a model: each component is converted as soon as it is whole, and its weights are dropped then.
/// HF_ENDPOINT names another hub; HF_TOKEN, or the token of 'hf auth login', opens private and gated repositories. Files that
/// the hub's own cache has are taken from there, and with HF_HUB_OFFLINE=1 nothing else is.
#[derive(Debug, clap::Args)]
pub(super) struct Pull {
    /// OWNER/NAME on the hub, as PixArt-alpha/PixArt-LCM-XL-2-1024-MS, or the address of its page; a branch, tag or commit may
    /// follow the @
    #[arg(value_name = "REPO[@REVISION]", value_parser = repository)]
    repository: Repository,

    /// The folder: new, or one that an earlier pull of the same repository made; with --convert, the model directory
    /// [default: PIXART_HOME/checkpoints/OWNER/NAME; with --convert, PIXART_HOME/models/OWNER/NAME]
    #[arg(long, short, value_name = "DIR")]
    output: Option<PathBuf>,

    /// Convert each component as soon as it is whole, and drop its weights: the disk holds those of one at a time
    #[arg(long)]
    convert: bool,

    #[command(flatten)]
    conversion: Conversion,

    #[command(flatten)]
    checking: CheckFlags,

    /// No progress bar
    #[arg(long, short)]
    quiet: bool,
}

impl Pull {
    pub(super) fn run(&self, common: &Common) -> Result<()> {
        if let Some(flag) = self.conversion.first_given().filter(|_| !self.convert) {
            return Err(WithoutConvert { flag }.into());
        }
        let environment = Environment::of_process();
        let names = Names::of(&environment);
        let output = match &self.output {
            Some(output) => output.clone(),
            None if self.convert => names.place_of(OwnPlace::Models, &self.repository)?,
            None => names.place_of(OwnPlace::Checkpoints, &self.repository)?,
        };
        let mut options = PullOptions {
            repository: self.repository.clone(),
            output: output.clone(),
            hub: HubSettings::of(&environment)?,
            patience: Patience::default(),
            inspected: None,
        };
        let start = Instant::now();
        let interrupt = Interrupt::listen()?;
        let progress = PullProgress::new(interrupt.clone(), self.quiet);
        let weights = self.conversion.formats();
        let converting = if self.convert {
            Converting::AsItComes
        } else {
            Converting::Later
        };
        if self.checking.check {
            let check = Check {
                options: &options,
                weights,
                converting,
                json: self.checking.json,
            };
            return check.run(&common.app(Vec::new())?, &progress);
        }
        options.inspected = Some(before_pull(&options, weights, converting, &progress)?);
        if self.convert {
            let mut runtime = common.app(Vec::new())?.runtime()?;
            let converting = ConvertProgress::beside(&progress);
            let conversion = pulled::Conversion {
                name: self.conversion.name.clone(),
                weights,
            };
            let watches = Watches {
                pull: &progress,
                convert: &converting,
            };
            let made = pull_and_convert(&options, &conversion, &mut runtime, watches);
            converting.finish();
            progress.finish();
            return say_converted(&output, &made?.1, start);
        }
        let pulled = pull(&options, &progress);
        progress.finish();
        let pulled = pulled?;
        let next = names.after_pull(&output);
        say(&format!(
            "{}: {:.1} MB in {} files, {:.1} s, commit {}\n{next}",
            output.display(),
            pulled.bytes as f64 / 1e6,
            pulled.files,
            start.elapsed().as_secs_f64(),
            pulled.commit,
        ))?;
        Ok(())
    }
}

/// A repository, or its address on the hub that is asked.
fn repository(text: &str) -> Result<Repository, InvalidRepository> {
    // HF_ENDPOINT itself is checked later, where its error has a message of its own.
    let hub = hub_address(&Environment::of_process());
    Repository::read(text, hub.as_deref().unwrap_or(PUBLIC_HUB))
}
