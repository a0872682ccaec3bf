//! Token ids → text embeddings.

use std::sync::Arc;

use ndarray::Array2;

use super::embedding_cache::{EmbeddingCache, Embeddings};
use super::{Event, ModelFacts, PipelineError, Watch, check_finite};
use crate::domain::PromptCache;
use crate::engine::{Graph, Tensor};

const STAGE: &str = "text encoder";

/// Something for the prompt and, while guidance is active, for the negative prompt.
pub(super) struct Both<T> {
    pub(super) prompt: T,
    pub(super) negative: Option<T>,
}

/// The text encoder and what it computed lately.
pub(super) struct TextEncoder<'a> {
    pub(super) graph: &'a mut dyn Graph,
    pub(super) cache: &'a mut EmbeddingCache,
    pub(super) facts: &'a ModelFacts,
}

impl TextEncoder<'_> {
    /// Text embeddings f32 `[tokens, width]`. Padding is masked everywhere, so each prompt runs at its true length: the same
    /// embeddings, in a fraction of the time.
    pub(super) fn encode(
        mut self,
        ids: &Both<Vec<i64>>,
        counts: &mut PromptCache,
        watch: &mut dyn Watch,
    ) -> Result<Both<Embeddings>, PipelineError> {
        let negative = match &ids.negative {
            Some(ids) => Some(self.find_or_encode(ids, counts, watch)?),
            None => None,
        };
        let prompt = self.find_or_encode(&ids.prompt, counts, watch)?;
        watch.observe(Event::TextEncoded {
            prompt: prompt.view(),
            negative: negative.as_ref().map(|negative| negative.view()),
        });
        Ok(Both { prompt, negative })
    }

    fn find_or_encode(
        &mut self,
        ids: &[i64],
        counts: &mut PromptCache,
        watch: &dyn Watch,
    ) -> Result<Embeddings, PipelineError> {
        if let Some(found) = self.cache.get(ids) {
            counts.hits += 1;
            return Ok(found);
        }
        counts.misses += 1;
        let embeddings = Arc::new(encode_one(self.graph, ids, self.facts, watch)?);
        self.cache.insert(ids, &embeddings);
        Ok(embeddings)
    }
}

fn encode_one(
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
