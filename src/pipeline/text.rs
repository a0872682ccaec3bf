//! Token ids → text embeddings: from those of earlier pictures, or from the text encoder, which may come and go.

use std::sync::Arc;
use std::time::{Duration, Instant};

use ndarray::Array2;

use super::embedding_cache::{EmbeddingCache, Embeddings};
use super::embedding_store::EmbeddingStore;
use super::{Event, ModelFacts, PipelineError, Watch, check_finite};
use crate::domain::Timings;
use crate::engine::{Graph, Tensor};

const STAGE: &str = "text encoder";

/// Something for the prompt and, while guidance is active, for the negative prompt.
pub(super) struct Both<T> {
    pub(super) prompt: T,
    pub(super) negative: Option<T>,
}

/// What is kept of text between pictures.
#[derive(Debug)]
pub struct TextKeeping {
    /// Most that text embeddings take in memory, in bytes.
    pub cache_bytes: usize,
    /// Where they are kept from one start to the next.
    pub store: Option<EmbeddingStore>,
    /// How long a text encoder that can be loaded again stays after the last prompt that it read; none: for ever.
    pub idle: Option<Duration>,
}

impl Default for TextKeeping {
    /// Embeddings of 34 prompts of α's 120 tokens at width 4096, or 13 of Σ's 300; the text encoder stays.
    fn default() -> Self {
        Self {
            cache_bytes: 64 << 20,
            store: None,
            idle: None,
        }
    }
}

/// What reading prompts goes by, and what it tells.
pub(super) struct Reading<'a> {
    pub(super) facts: &'a ModelFacts,
    pub(super) timings: &'a mut Timings,
    pub(super) watch: &'a mut dyn Watch,
    /// Called before the text encoder is loaded.
    pub(super) make_room: &'a mut dyn FnMut(),
}

/// The text encoder and what it computed lately.
pub(super) struct TextEncoder {
    graph: Box<dyn Graph>,
    cache: EmbeddingCache,
    store: Option<EmbeddingStore>,
    idle: Option<Duration>,
    last_used: Instant,
}

impl TextEncoder {
    pub(super) fn new(graph: Box<dyn Graph>, keeping: TextKeeping) -> Self {
        Self {
            graph,
            cache: EmbeddingCache::new(keeping.cache_bytes),
            store: keeping.store,
            idle: keeping.idle,
            last_used: Instant::now(),
        }
    }

    /// The same network with nothing remembered.
    pub(super) fn keeping(self, keeping: TextKeeping) -> Self {
        Self::new(self.graph, keeping)
    }

    /// Forgets what it computed. What is on disk stays there and is not asked any more.
    pub(super) fn forget(&mut self) {
        self.cache.clear();
        self.store = None;
    }

    /// Text embeddings f32 `[tokens, width]`. Padding is masked everywhere, so each prompt runs at its true length: the same
    /// embeddings, in a fraction of the time.
    pub(super) fn encode(
        &mut self,
        ids: &Both<Vec<i64>>,
        reading: &mut Reading<'_>,
    ) -> Result<Both<Embeddings>, PipelineError> {
        let negative = match &ids.negative {
            Some(ids) => Some(self.find_or_run(ids, reading)?),
            None => None,
        };
        let prompt = self.find_or_run(&ids.prompt, reading)?;
        reading.watch.observe(Event::TextEncoded {
            prompt: prompt.view(),
            negative: negative.as_ref().map(|negative| negative.view()),
        });
        Ok(Both { prompt, negative })
    }

    /// Reads a prompt before it is asked for. A text encoder that is in memory runs, so that it is known to.
    pub(super) fn read_ahead(
        &mut self,
        ids: &[i64],
        reading: &mut Reading<'_>,
    ) -> Result<(), PipelineError> {
        if self.graph.is_resident() {
            self.run(ids, reading)?;
        } else {
            self.find_or_run(ids, reading)?;
        }
        Ok(())
    }

    fn find_or_run(
        &mut self,
        ids: &[i64],
        reading: &mut Reading<'_>,
    ) -> Result<Embeddings, PipelineError> {
        let cache = &mut reading.timings.prompt_cache;
        if let Some(found) = self.cache.get(ids) {
            cache.hits += 1;
            return Ok(found);
        }
        if let Some(found) = self.store.as_ref().and_then(|store| store.get(ids)) {
            cache.hits += 1;
            cache.from_disk += 1;
            let found = Arc::new(found);
            self.cache.insert(ids, &found);
            return Ok(found);
        }
        cache.misses += 1;
        self.run(ids, reading)
    }

    fn run(&mut self, ids: &[i64], reading: &mut Reading<'_>) -> Result<Embeddings, PipelineError> {
        if !self.graph.is_resident() {
            (reading.make_room)();
        }
        let loaded = self
            .graph
            .load()
            .map_err(|source| PipelineError::engine(STAGE, source))?;
        if let Some(took) = loaded {
            reading.timings.text_encoder_load += took;
            reading.watch.observe(Event::TextEncoderLoaded { took });
        }
        let outcome = run(self.graph.as_mut(), ids, reading.facts, reading.watch);
        self.last_used = Instant::now();
        let embeddings = Arc::new(outcome?);
        self.cache.insert(ids, &embeddings);
        if let Some(store) = &mut self.store {
            store.put(ids, &embeddings);
        }
        Ok(embeddings)
    }

    /// Gives a text encoder back that has been idle for long enough at `now`. Whether there was one.
    pub(super) fn release_idle(&mut self, now: Instant) -> bool {
        self.release_due().is_some_and(|due| due <= now) && self.graph.release()
    }

    /// Gives the text encoder back at once, if it can be loaded again.
    pub(super) fn release(&mut self) {
        self.graph.release();
    }

    /// When the text encoder will have been idle for long enough; none where it stays, or is not in memory.
    pub(super) fn release_due(&self) -> Option<Instant> {
        let due = self.last_used.checked_add(self.idle?)?;
        self.graph.is_resident().then_some(due)
    }

    /// Whether the text encoder is in memory.
    pub(super) fn is_resident(&self) -> bool {
        self.graph.is_resident()
    }

    /// Bytes of the embeddings that are held in memory.
    pub(super) fn held_bytes(&self) -> usize {
        self.cache.held_bytes()
    }
}

fn run(
    encoder: &mut dyn Graph,
    ids: &[i64],
    facts: &ModelFacts,
    watch: &dyn Watch,
) -> Result<Array2<f32>, PipelineError> {
    // A traced encoder may have been frozen to the padded length.
    let length = frozen_length(encoder, "input_ids")
        .unwrap_or(ids.len())
        .max(ids.len());
    let padded = |values: &mut dyn Iterator<Item = i64>| {
        let mut values: Vec<i64> = values.collect();
        values.resize(length, 0);
        Tensor::i64([1, length], values)
    };
    let input_ids = padded(&mut ids.iter().copied());
    let attention_mask = padded(&mut ids.iter().map(|_| 1));
    let embeddings = encoder
        .infer(
            &[
                ("input_ids", &input_ids),
                ("attention_mask", &attention_mask),
            ],
            &|| watch.cancelled(),
        )
        .and_then(Tensor::into_f32)
        .map_err(|source| PipelineError::engine(STAGE, source))?;
    let (shape, values) = embeddings;
    let [1, rows, width] = shape[..] else {
        return Err(wrong_shape(length, shape));
    };
    if rows != length {
        return Err(wrong_shape(length, shape));
    }
    let kept = values[..ids.len() * width].to_vec();
    check_finite(facts, STAGE, &kept)?;
    Ok(Array2::from_shape_vec((ids.len(), width), kept).expect("cut to this length"))
}

fn wrong_shape(length: usize, got: Vec<usize>) -> PipelineError {
    PipelineError::Shape {
        stage: STAGE,
        expected: format!("[1, {length}, width]"),
        got,
    }
}

/// The fixed size of a port's axis of tokens, if it has one.
pub(super) fn frozen_length(graph: &dyn Graph, port: &str) -> Option<usize> {
    graph
        .input(port)
        .and_then(|port| port.dims.get(1).copied().flatten())
}
