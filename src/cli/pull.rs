//! `pixart pull`: a repository on a hub → a diffusers directory.

use std::path::PathBuf;
use std::time::Instant;

use anyhow::Result;

use super::progress::{Interrupt, PullProgress};
use super::say;
use crate::config::{Environment, HubSettings};
use crate::pull::{Patience, PullOptions, Repository, pull};

/// Fetch a published checkpoint from the Hugging Face Hub, or from one that speaks as it does.
///
/// Takes what 'pixart convert' reads: configurations, tokenizer and safetensors, never pickles. Each file is checked by length
/// and SHA-256 where the hub gives them. What is interrupted is kept, and the same command goes on from there.
/// HF_ENDPOINT names another hub, HF_TOKEN opens private and gated repositories.
#[derive(Debug, clap::Args)]
pub(super) struct Pull {
    /// OWNER/NAME on the hub, as PixArt-alpha/PixArt-LCM-XL-2-1024-MS; a branch, tag or commit may follow the @
    #[arg(value_name = "REPO[@REVISION]")]
    repository: Repository,

    /// The folder: new, or one that an earlier pull of the same repository made
    #[arg(long, short, value_name = "DIR")]
    output: PathBuf,

    /// No progress bar
    #[arg(long, short)]
    quiet: bool,
}

impl Pull {
    pub(super) fn run(&self) -> Result<()> {
        let options = PullOptions {
            repository: self.repository.clone(),
            output: self.output.clone(),
            hub: HubSettings::of(&Environment::of_process())?,
            patience: Patience::default(),
        };
        let start = Instant::now();
        let progress = PullProgress::new(Interrupt::listen()?, self.quiet);
        let pulled = pull(&options, &progress);
        progress.finish();
        let pulled = pulled?;
        let output = self.output.display();
        say(&format!(
            "{output}: {:.1} MB in {} files, {:.1} s, commit {}\nconvert it: pixart convert {output} --output DIR",
            pulled.bytes as f64 / 1e6,
            pulled.files,
            start.elapsed().as_secs_f64(),
            pulled.commit,
        ))?;
        Ok(())
    }
}
