//! A repository on a Hugging Face compatible hub → the diffusers directory that [`crate::convert`] reads.
//!
//! [`pull`] is the whole of it: the files are listed (`listing.rs`), what a PixArt checkpoint needs is chosen
//! (`selection.rs`), and the files come side by side, each resumed from its partial, checked by length and SHA-256 and moved into
//! its place when it is whole (`transfer.rs`, `folder.rs`). `hub.rs` knows HTTP, `patience.rs` when to ask again. What the hub's own
//! tools have fetched before is taken from their cache (`hub_cache.rs`, `here.rs`).
//!
//! [`pull_by_component`] hands each component over as soon as it is whole, and drops its weights then (`by_component.rs`).
//!
//! Nothing that the hub sends is trusted: names, lengths and digests are checked before they are used.

mod address;
mod by_component;
mod error;
mod folder;
mod here;
mod hub;
mod hub_cache;
mod inspect;
mod listing;
mod patience;
mod progress;
mod repository;
mod selection;
mod transfer;

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;

pub use by_component::{Arrival, Taker, pull_by_component};
pub use error::PullError;
pub use folder::pulled_repository;
pub use hub_cache::{CachedRepository, Snapshot};
pub use inspect::{Inspection, WeightsHeader, inspect};
pub use patience::Patience;
pub use progress::Progress;
pub use repository::{InvalidRepository, Repository};

use crate::config::HubSettings;
use crate::threads::share;
use folder::Folder;
use hub::Hub;
use listing::{BadListing, Listing};
use patience::{LOOK_EVERY, Setback};
use progress::Together;
use selection::{Item, MODEL_INDEX, select};
use transfer::transfer;

/// Files that come at the same time: one connection of a hub seldom fills a line, and eight are called abuse.
const SIDE_BY_SIDE: usize = 4;
/// Longest small file that is read whole: an index of shards is some 100 kB.
const MAX_DOCUMENT_BYTES: u64 = 16 << 20;

/// What to pull, from where, and where to.
#[derive(Debug, Clone)]
pub struct PullOptions {
    /// The repository.
    pub repository: Repository,
    /// The folder: new, empty, or one that an earlier pull of the same repository made.
    pub output: PathBuf,
    /// The hub.
    pub hub: HubSettings,
    /// How long it is waited for.
    pub patience: Patience,
    /// What was seen of the repository before: then just this comes.
    pub inspected: Option<Inspection>,
}

/// What was pulled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pulled {
    /// The commit that the revision stands for.
    pub commit: String,
    /// How many files.
    pub files: usize,
    /// Their length altogether.
    pub bytes: u64,
}

/// Pulls a checkpoint. What an earlier run brought is kept and completed.
///
/// # Errors
/// When the hub, the repository or the output cannot be used, or the caller asked to stop. What has come is kept.
pub fn pull(options: &PullOptions, progress: &dyn Progress) -> Result<Pulled, PullError> {
    with_hub(options, progress, |hub, together| {
        let plan = Plan::make(hub, options, false, together)?;
        let (commit, path) = (&plan.pulled.commit, plan.folder.path());
        let taking_room = hub.here.taking_room(commit, &plan.items, path);
        plan.folder.check_free_space(&taking_room)?;
        together.progress.begin(plan.pulled.bytes);
        let (last, first) = plan.items.into_iter().partition(Item::comes_last);
        transfer_all(hub, &plan.pulled.commit, first, &plan.folder, together)?;
        transfer_all(hub, &plan.pulled.commit, last, &plan.folder, together)?;
        Ok(plan.pulled)
    })
}

/// Does `work` with the hub, and wakes whoever waits for it when the caller asks to stop.
fn with_hub<T, E: From<PullError>>(
    options: &PullOptions,
    progress: &dyn Progress,
    work: impl FnOnce(&Hub, &Together<'_>) -> Result<T, E>,
) -> Result<T, E> {
    let hub = Hub::new(&options.hub, &options.repository, options.patience)?;
    let together = Together::begin(progress);
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        // Reads block: whoever waits in one is woken by the end of its connection.
        let watch = || {
            while !done.load(Ordering::Acquire) {
                if together.stopped() {
                    hub.shut_down();
                    return;
                }
                thread::park_timeout(LOOK_EVERY);
            }
        };
        // Without one, a read that is waited for ends by its own time.
        let watcher = thread::Builder::new().spawn_scoped(scope, watch).ok();
        let outcome = work(&hub, &together);
        done.store(true, Ordering::Release);
        if let Some(watcher) = watcher {
            watcher.thread().unpark();
        }
        outcome
    })
}

/// What will come, and where to.
struct Plan {
    folder: Folder,
    items: Vec<Item>,
    /// What it will be altogether.
    pulled: Pulled,
}

impl Plan {
    /// `model`: whether what comes has to be a whole one.
    fn make(
        hub: &Hub,
        options: &PullOptions,
        model: bool,
        together: &Together<'_>,
    ) -> Result<Self, PullError> {
        let repository = &options.repository;
        // First: somebody without rights there need not wait for a hub, and two runs need not list twice.
        let folder = Folder::open(&options.output, repository.name(), together)?;
        let (commit, items) = if let Some(inspection) = &options.inspected {
            (inspection.commit.clone(), inspection.items.clone())
        } else {
            let listing = list(hub, repository.revision(), together)?;
            let items = choose(hub, &listing, together, &mut |_, _| ())?;
            (listing.commit, items)
        };
        if model && !items.iter().any(|item| item.local == MODEL_INDEX) {
            return Err(PullError::TinyVaeAlone {
                repository: hub.repository(),
            });
        }
        folder.prepare(repository.name(), repository.revision(), &commit, &items)?;
        let pulled = Pulled {
            files: items.len(),
            bytes: items.iter().filter_map(|item| item.listed.bytes).sum(),
            commit,
        };
        Ok(Self {
            folder,
            items,
            pulled,
        })
    }
}

/// Chooses what a checkpoint needs, and hands over the small files that were read for that.
fn choose(
    hub: &Hub,
    listing: &Listing,
    together: &Together<'_>,
    read: &mut dyn FnMut(&str, &[u8]),
) -> Result<Vec<Item>, PullError> {
    select(listing, &hub.repository(), &mut |name| {
        let bytes = document(hub, &listing.commit, name, together)?;
        read(name, &bytes);
        Ok(bytes)
    })
    .map_err(|error| hub.here.explain(&listing.commit, error))
}

/// A small file, whole.
fn document(
    hub: &Hub,
    commit: &str,
    name: &str,
    together: &Together<'_>,
) -> Result<Vec<u8>, PullError> {
    let url = hub.file_url(commit, name);
    hub.here
        .document(commit, name)
        .unwrap_or_else(|| hub.document(&url, name, MAX_DOCUMENT_BYTES, together))
}

fn list(hub: &Hub, revision: &str, together: &Together<'_>) -> Result<Listing, PullError> {
    if let Some(listing) = hub.here.listing()? {
        return Ok(listing);
    }
    let url = hub.listing_url();
    let json = hub.document(&url, "the list of files", listing::MAX_BYTES, together)?;
    Listing::parse(&json, revision).map_err(|bad| match bad {
        BadListing::Hostile(error) => error,
        BadListing::Nonsense(detail) => match hub.no_hub(detail) {
            Setback::Stop(error) => error,
            Setback::Again { .. } | Setback::Unresolved { .. } => PullError::Cancelled,
        },
    })
}

/// Brings `items`, the largest first.
fn transfer_all(
    hub: &Hub,
    commit: &str,
    mut items: Vec<Item>,
    folder: &Folder,
    together: &Together<'_>,
) -> Result<(), PullError> {
    // No single one is waited for at the end.
    items.sort_by_key(|item| item.listed.bytes);
    side_by_side(items, together, |item| {
        transfer(hub, commit, item, folder, together)
    })
}

/// Does `work` for each of `items`, the last first, a few at a time. The first that fails stops the others.
fn side_by_side(
    items: Vec<Item>,
    together: &Together<'_>,
    each: impl Fn(&Item) -> Result<(), PullError> + Sync,
) -> Result<(), PullError> {
    let threads = items.len().min(SIDE_BY_SIDE);
    let waiting = Mutex::new(items);
    let failure = Mutex::new(None);
    let work = || {
        loop {
            let next = waiting.lock().unwrap_or_else(PoisonError::into_inner).pop();
            let Some(item) = next else { return };
            if let Err(error) = each(&item) {
                let mut failure = failure.lock().unwrap_or_else(PoisonError::into_inner);
                // The others were only told to stop.
                if failure.is_none() {
                    *failure = Some(error);
                }
                together.fail();
                return;
            }
        }
    };
    share(threads, work);
    failure
        .into_inner()
        .unwrap_or_else(PoisonError::into_inner)
        .map_or(Ok(()), Err)
}
