//! A pull whose components are handed over one after the other, each as soon as it is whole; then its weights are dropped.
//!
//! So the disk never holds the weights of two components. Configurations, tokenizer and scheduler come first and stay.

use std::path::Path;

use sha2::{Digest, Sha256};

use super::selection::{COMPONENTS, Item};
use super::{Plan, Progress, PullError, PullOptions, Pulled, transfer_all, with_hub};
use crate::model::hex;

/// A component of a checkpoint on its way.
#[derive(Debug, Clone, Copy)]
pub struct Arrival<'a> {
    /// `text_encoder`, `transformer` or `vae`.
    pub component: &'static str,
    /// The diffusers directory in which it lies, or will lie.
    pub folder: &'a Path,
    /// Digest of what its files are, configuration included: equal exactly when they are.
    pub identity: &'a str,
}

/// Who takes what comes.
pub trait Taker {
    /// Why something could not be taken.
    type Error: From<PullError>;
    /// What becomes of everything that it took.
    type Made;

    /// Whether an earlier run has taken it: then its weights are not fetched. Everything but weights is there.
    ///
    /// # Errors
    /// When that cannot be found out.
    fn has(&mut self, arrival: Arrival<'_>) -> Result<bool, Self::Error>;

    /// Takes it. Its weights are removed afterwards.
    ///
    /// # Errors
    /// When it cannot be taken; then its weights stay.
    fn take(&mut self, arrival: Arrival<'_>) -> Result<(), Self::Error>;

    /// Everything has been taken, of `commit`. The folder is needed no more.
    ///
    /// # Errors
    /// When the end cannot be made.
    fn finish(&mut self, folder: &Path, commit: &str) -> Result<Self::Made, Self::Error>;
}

/// Pulls a checkpoint into `taker`, which keeps what it needs. The output holds what is on its way.
///
/// # Errors
/// As [`super::pull`], and those of `taker`. What has come and what was taken is kept.
pub fn pull_by_component<T: Taker>(
    options: &PullOptions,
    taker: &mut T,
    progress: &dyn Progress,
) -> Result<(Pulled, T::Made), T::Error> {
    with_hub(options, progress, |hub, together| {
        let Plan {
            folder,
            items,
            pulled,
        } = Plan::make(hub, options, true, together)?;
        progress.begin(pulled.bytes);
        let (weights, small): (Vec<Item>, Vec<Item>) =
            items.iter().cloned().partition(Item::is_of_weights);
        transfer_all(hub, &pulled.commit, small, &folder, together)?;
        for (component, _) in COMPONENTS {
            let identity = identity(items.iter().filter(|item| item.is_of(component)));
            let arrival = Arrival {
                component,
                folder: folder.path(),
                identity: &identity,
            };
            let parts: Vec<Item> = weights
                .iter()
                .filter(|item| item.is_of(component))
                .cloned()
                .collect();
            if taker.has(arrival)? {
                progress.already(parts.iter().filter_map(|item| item.listed.bytes).sum());
            } else {
                let path = folder.path();
                let taking_room = hub.here.taking_room(&pulled.commit, &parts, path);
                folder.check_free_space(&taking_room)?;
                transfer_all(hub, &pulled.commit, parts.clone(), &folder, together)?;
                taker.take(arrival)?;
            }
            // A run that was killed may have left them, too.
            folder.drop_files(parts.iter())?;
        }
        let made = taker.finish(folder.path(), &pulled.commit)?;
        Ok((pulled, made))
    })
}

fn identity<'a>(items: impl Iterator<Item = &'a Item>) -> String {
    let mut digest = Sha256::new();
    for item in items {
        digest.update(&item.local);
        digest.update([0]);
        digest.update(&item.listed.identity);
        digest.update(item.listed.bytes.unwrap_or(0).to_le_bytes());
    }
    hex(&digest.finalize())
}
