//! Results that are kept for those who asked for them, and how many: what was promised stays until it expires.
//!
//! A result is promised from the admission of its job until it has been collected, which is every image handed over once, or
//! until its job has ended without them. Room for it is reserved at admission, by an upper bound of its bytes, so a job that is
//! admitted never pushes another's result out. What was collected, or never promised, stays as long as there is room: then
//! the caller that holds most gives way first, with its oldest. Where there are several API keys, one of them can hold at
//! most half (`docs/adr/0023-shares-of-the-queue-and-of-what-is-kept.md`).

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use super::{Bounds, JobId, Order, Owner};

/// What an image may take beside its pixels: headers of the file, and the prompts of its receipt.
const BYTES_BESIDE_PIXELS: u64 = 64 << 10;
/// No format that is written here takes more than the pixels themselves: R, G and B, 8 bits each.
const BYTES_PER_PIXEL: u64 = 3;

/// No room for what a job would come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct NoRoom {
    /// Whether the caller's own share is full, or else all of it.
    pub(super) is_own_share: bool,
    /// When the first of what is in the way expires.
    pub(super) retry_after: Duration,
}

/// See the module.
pub(super) struct Kept {
    bounds: Bounds,
    items: HashMap<JobId, Item>,
    /// Those of them that have ended, the oldest first.
    ended: VecDeque<JobId>,
}

#[derive(Debug)]
struct Item {
    owner: Owner,
    /// Of what is there, or while the job is on its way the most that there can be.
    bytes: usize,
    is_promised: bool,
    /// Indices of the images that nobody has been handed yet.
    uncollected: Vec<usize>,
    /// When its job ended, once it has.
    since: Option<Instant>,
}

/// A number of results and their bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Amount {
    count: usize,
    bytes: usize,
}

impl Amount {
    fn of<'a>(items: impl Iterator<Item = &'a Item>) -> Self {
        items.fold(Self::default(), |sum, item| Self {
            count: sum.count + 1,
            bytes: sum.bytes.saturating_add(item.bytes),
        })
    }

    fn exceeds(self, bound: Self) -> bool {
        self.count > bound.count || self.bytes > bound.bytes
    }
}

impl Kept {
    pub(super) fn new(bounds: Bounds) -> Self {
        Self {
            bounds,
            items: HashMap::new(),
            ended: VecDeque::new(),
        }
    }

    /// Whether what `order` comes to can be promised. Who has been promised nothing yet is not refused for the size of it.
    pub(super) fn has_room(&self, order: &Order, now: Instant) -> Result<(), NoRoom> {
        let owner = order.claim.owner;
        let whole = Amount {
            count: self.bounds.max_kept,
            bytes: self.bounds.max_memory_bytes,
        };
        let share = Amount {
            count: share(whole.count, self.bounds.owners),
            bytes: share(whole.bytes, self.bounds.owners),
        };
        let promised = |of: Option<Owner>| {
            self.items
                .values()
                .filter(move |item| item.is_promised && of.is_none_or(|of| item.owner == of))
        };
        for (of, bound) in [(Some(owner), share), (None, whole)] {
            let there = Amount::of(promised(of));
            let with_it = Amount {
                count: there.count + 1,
                bytes: there.bytes.saturating_add(most_bytes(order)),
            };
            if there.count > 0 && with_it.exceeds(bound) {
                let first = promised(of).filter_map(|item| item.since).min();
                let left = first.map(|since| {
                    let age = now.saturating_duration_since(since);
                    self.bounds.ttl.saturating_sub(age)
                });
                return Err(NoRoom {
                    is_own_share: of.is_some() && self.bounds.owners > 1,
                    retry_after: left.unwrap_or(self.bounds.ttl),
                });
            }
        }
        Ok(())
    }

    /// Promises what a job will come to.
    pub(super) fn promise(&mut self, id: JobId, order: &Order) {
        let item = Item {
            owner: order.claim.owner,
            bytes: most_bytes(order),
            is_promised: true,
            uncollected: (0..order.images as usize).collect(),
            since: None,
        };
        self.items.insert(id, item);
    }

    /// Keeps what a job has come to, whether or not it was promised. The end of one without its images is no promise.
    pub(super) fn keep(
        &mut self,
        id: JobId,
        owner: Owner,
        (bytes, has_succeeded): (usize, bool),
        now: Instant,
    ) {
        let item = self.items.entry(id).or_insert_with(|| Item {
            owner,
            bytes,
            is_promised: false,
            uncollected: Vec::new(),
            since: None,
        });
        item.bytes = bytes;
        item.is_promised &= has_succeeded;
        item.since = Some(now);
        self.ended.push_back(id);
    }

    /// Image `index` of a job has been handed over.
    pub(super) fn collected_image(&mut self, id: JobId, index: usize) {
        if let Some(item) = self.items.get_mut(&id) {
            item.uncollected.retain(|&uncollected| uncollected != index);
            item.is_promised &= !item.uncollected.is_empty();
        }
    }

    /// What must go so that the rest fits, if anything must and may. The newest stays.
    pub(super) fn next_to_go(&self) -> Option<JobId> {
        let whole = Amount {
            count: self.bounds.max_kept,
            bytes: self.bounds.max_memory_bytes,
        };
        let there = || self.ended.iter().filter_map(|id| self.items.get(id));
        if !Amount::of(there()).exceeds(whole) {
            return None;
        }
        let older = self.ended.len().saturating_sub(1);
        let may_go = self.ended.iter().take(older).filter_map(|id| {
            let item = self.items.get(id)?;
            (!item.is_promised).then_some((id, item))
        });
        let held_by = |owner: Owner| Amount::of(there().filter(|item| item.owner == owner)).bytes;
        // Of those that hold equally much the first, which is the oldest.
        let mut found: Option<(JobId, usize)> = None;
        for (&id, item) in may_go {
            let held = held_by(item.owner);
            if found.is_none_or(|(_, most)| held > most) {
                found = Some((id, held));
            }
        }
        found.map(|(id, _)| id)
    }

    /// What was kept as long as was promised.
    pub(super) fn next_expired(&self, now: Instant) -> Option<JobId> {
        let &oldest = self.ended.front()?;
        let since = self.since(oldest)?;
        (now.saturating_duration_since(since) >= self.bounds.ttl).then_some(oldest)
    }

    /// Since when a result is kept.
    pub(super) fn since(&self, id: JobId) -> Option<Instant> {
        self.items.get(&id)?.since
    }

    /// Lets a result or the promise of one go.
    pub(super) fn forget(&mut self, id: JobId) {
        if let Some(item) = self.items.remove(&id)
            && item.since.is_some()
        {
            self.ended.retain(|&ended| ended != id);
        }
    }
}

/// The most of `whole` that one caller may have.
pub(super) fn share(whole: usize, owners: usize) -> usize {
    if owners > 1 { whole / 2 } else { whole }
}

/// The most memory that the images and previews of `order` can take.
fn most_bytes(order: &Order) -> usize {
    let files = u64::from(order.images) * (1 + u64::from(order.partial_images));
    let size = order.first.size;
    let pixels = u64::from(size.width_px()) * u64::from(size.height_px());
    let each = pixels * BYTES_PER_PIXEL + BYTES_BESIDE_PIXELS;
    usize::try_from(files.saturating_mul(each)).unwrap_or(usize::MAX)
}
