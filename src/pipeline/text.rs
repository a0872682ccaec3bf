//! Token ids → text embeddings.

use ndarray::Array2;

use super::{Event, ModelFacts, PipelineError, Watch, check_finite};
use crate::engine::{Graph, Tensor};

const STAGE: &str = "text encoder";

/// Something for the prompt and, while guidance is active, for the negative prompt.
pub(super) struct Both<T> {
    pub(super) prompt: T,
    pub(super) negative: Option<T>,
}

/// Text embeddings f32 `[tokens, width]`. Padding is masked everywhere, so each prompt runs at its true length: the same
/// embeddings, in a fraction of the time.
pub(super) fn encode(
    encoder: &mut dyn Graph,
    tokens: &Both<Vec<i64>>,
    facts: &ModelFacts,
    watch: &mut dyn Watch,
) -> Result<Both<Array2<f32>>, PipelineError> {
    let negative = match &tokens.negative {
        Some(ids) => Some(encode_one(encoder, ids, facts, watch)?),
        None => None,
    };
    let prompt = encode_one(encoder, &tokens.prompt, facts, watch)?;
    watch.observe(Event::TextEncoded {
        prompt: prompt.view(),
        negative: negative.as_ref().map(|negative| negative.view()),
    });
    Ok(Both { prompt, negative })
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
