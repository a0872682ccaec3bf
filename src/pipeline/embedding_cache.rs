//! Text embeddings that were computed lately, by token ids: the pictures of a series and repeated prompts skip the text encoder.
//!
//! An embedding depends on nothing but its ids, so that a picture has the same bytes either way. Bounded in bytes, the least
//! recently used leave first. Prompts themselves are not kept.

use std::collections::HashMap;
use std::sync::Arc;

use ndarray::Array2;

/// f32 `[tokens, width]`, shared between the cache and the picture in the making.
pub(super) type Embeddings = Arc<Array2<f32>>;

/// Embeddings by ids.
pub(super) struct EmbeddingCache {
    limit_bytes: usize,
    held_bytes: usize,
    /// Counts the looks, so that entries know which was last.
    clock: u64,
    entries: HashMap<Box<[i64]>, Entry>,
}

struct Entry {
    embeddings: Embeddings,
    last_used: u64,
}

impl EmbeddingCache {
    /// An empty cache that never holds more than `limit_bytes`.
    pub(super) fn new(limit_bytes: usize) -> Self {
        Self {
            limit_bytes,
            held_bytes: 0,
            clock: 0,
            entries: HashMap::new(),
        }
    }

    /// Forgets all.
    pub(super) fn clear(&mut self) {
        self.entries.clear();
        self.held_bytes = 0;
    }

    /// What it holds, in bytes.
    pub(super) fn held_bytes(&self) -> usize {
        self.held_bytes
    }

    /// The embeddings of these ids, if they are held.
    pub(super) fn get(&mut self, ids: &[i64]) -> Option<Embeddings> {
        let entry = self.entries.get_mut(ids)?;
        self.clock += 1;
        entry.last_used = self.clock;
        Some(Arc::clone(&entry.embeddings))
    }

    /// Holds the embeddings of these ids, and drops others until there is room. What is larger than the whole cache is not held.
    pub(super) fn insert(&mut self, ids: &[i64], embeddings: &Embeddings) {
        let bytes = bytes_of(ids, embeddings);
        if bytes > self.limit_bytes || self.entries.contains_key(ids) {
            return;
        }
        while self.held_bytes + bytes > self.limit_bytes && self.drop_oldest() {}
        self.clock += 1;
        self.held_bytes += bytes;
        self.entries.insert(
            ids.into(),
            Entry {
                embeddings: Arc::clone(embeddings),
                last_used: self.clock,
            },
        );
    }

    /// Looks through all entries: thousands at most, and only before the text encoder's next run is kept, which takes longer.
    fn drop_oldest(&mut self) -> bool {
        let oldest = self
            .entries
            .iter()
            .min_by_key(|(_, entry)| entry.last_used)
            .map(|(ids, _)| ids.clone());
        let Some((ids, entry)) = oldest.and_then(|ids| self.entries.remove_entry(&ids)) else {
            return false;
        };
        self.held_bytes -= bytes_of(&ids, &entry.embeddings);
        true
    }
}

fn bytes_of(ids: &[i64], embeddings: &Embeddings) -> usize {
    size_of_val(ids) + embeddings.len() * size_of::<f32>() + size_of::<Entry>()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn embeddings(tokens: usize, value: f32) -> Embeddings {
        Arc::new(Array2::from_elem((tokens, 4), value))
    }

    /// Room for so many embeddings of two tokens.
    fn room_for(count: usize) -> usize {
        count * bytes_of(&[0, 0], &embeddings(2, 0.0))
    }

    #[test]
    fn what_was_inserted_is_found_by_its_very_ids() {
        let mut cache = EmbeddingCache::new(room_for(2));
        cache.insert(&[3, 1], &embeddings(2, 0.5));
        assert_eq!(cache.get(&[3, 1]), Some(embeddings(2, 0.5)));
        for other in [&[1, 3][..], &[3], &[3, 1, 1], &[]] {
            assert_eq!(cache.get(other), None, "{other:?}");
        }
    }

    #[test]
    fn the_least_recently_used_leaves_first() {
        let mut cache = EmbeddingCache::new(room_for(2));
        cache.insert(&[1, 1], &embeddings(2, 1.0));
        cache.insert(&[2, 1], &embeddings(2, 2.0));
        assert!(cache.get(&[1, 1]).is_some());
        cache.insert(&[3, 1], &embeddings(2, 3.0));
        assert!(cache.get(&[2, 1]).is_none());
        assert!(cache.get(&[1, 1]).is_some() && cache.get(&[3, 1]).is_some());
    }

    #[test]
    fn what_is_larger_than_the_cache_drives_nothing_out() {
        let mut cache = EmbeddingCache::new(room_for(1));
        cache.insert(&[1, 1], &embeddings(2, 1.0));
        cache.insert(&[2, 1], &embeddings(200, 2.0));
        assert!(cache.get(&[1, 1]).is_some() && cache.get(&[2, 1]).is_none());
        let mut none = EmbeddingCache::new(0);
        none.insert(&[1, 1], &embeddings(2, 1.0));
        assert!(none.get(&[1, 1]).is_none());
    }

    proptest! {
        #[test]
        fn the_bound_holds_and_the_account_is_right(
            limit in 0_usize..2000,
            looks in prop::collection::vec((0_i64..12, 1_usize..9), 0..80),
        ) {
            let mut cache = EmbeddingCache::new(limit);
            for (id, tokens) in looks {
                // An embedding is always the same for the same ids.
                let ids = vec![id; tokens];
                if let Some(found) = cache.get(&ids) {
                    prop_assert_eq!(found, embeddings(tokens, 0.5));
                } else {
                    cache.insert(&ids, &embeddings(tokens, 0.5));
                }
                let held: usize = cache
                    .entries
                    .iter()
                    .map(|(ids, entry)| bytes_of(ids, &entry.embeddings))
                    .sum();
                prop_assert_eq!(held, cache.held_bytes);
                prop_assert!(held <= limit);
            }
        }
    }
}
