//! Callers take turns: nobody waits for the second job of another caller before their own first.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use super::{Job, Owner};

/// How many of `jobs` are `owner`'s.
pub(super) fn of<'a>(jobs: impl Iterator<Item = &'a Arc<Job>>, owner: Owner) -> usize {
    jobs.filter(|job| job.order().claim.owner == owner).count()
}

/// Where among the `waiting` jobs the next one of `owner` goes: behind as many of every other caller as there are of its own.
pub(super) fn place(drawn: Option<&Arc<Job>>, waiting: &VecDeque<Arc<Job>>, owner: Owner) -> usize {
    let own = of(drawn.into_iter().chain(waiting), owner);
    let mut turns: HashMap<Owner, usize> = HashMap::new();
    if let Some(drawn) = drawn {
        turns.insert(drawn.order().claim.owner, 1);
    }
    let mut place = 0;
    for (index, job) in waiting.iter().enumerate() {
        let turn = turns.entry(job.order().claim.owner).or_default();
        if *turn <= own {
            place = index + 1;
        }
        *turn += 1;
    }
    place
}
