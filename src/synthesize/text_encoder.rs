//! The tensors of a T5 v1.1 encoder, by their names in transformers 5.23 `T5EncoderModel`.

use super::tensor::{Tensor, Tensors, Values};
use crate::model::TextEncoderSpec;

/// All of them, in the order of the layers. `encoder.embed_tokens.weight` is `shared.weight`, and stored once.
pub(super) fn tensors(spec: &TextEncoderSpec) -> Vec<Tensor> {
    let mut tensors = Tensors::default();
    let (width, inner) = (spec.d_model, spec.inner_dim());
    // Rows are looked up, nothing is summed: the embeddings themselves have deviation 1.
    tensors.add(
        "shared.weight",
        &[spec.vocab_size, width],
        Values::Spread { deviation: 1.0 },
    );
    for layer in 0..spec.num_layers {
        let block = format!("encoder.block.{layer}.layer");
        let attention = format!("{block}.0.SelfAttention");
        // T5 does not scale its scores, its queries' weights are small instead.
        let query_gain = 1.0 / (spec.d_kv as f32).sqrt();
        tensors.weight(&format!("{attention}.q"), &[inner, width], query_gain);
        tensors.weight(&format!("{attention}.k"), &[inner, width], 1.0);
        tensors.weight(&format!("{attention}.v"), &[inner, width], 1.0);
        tensors.weight(&format!("{attention}.o"), &[width, inner], 1.0);
        if layer == 0 {
            let (buckets, heads) = (spec.relative_attention_num_buckets, spec.num_heads);
            tensors.add(
                format!("{attention}.relative_attention_bias.weight"),
                &[buckets, heads],
                Values::Distances { buckets, heads },
            );
        }
        tensors.norm(&format!("{block}.0.layer_norm"), width);
        let dense = format!("{block}.1.DenseReluDense");
        tensors.weight(&format!("{dense}.wi_0"), &[spec.d_ff, width], 1.0);
        tensors.weight(&format!("{dense}.wi_1"), &[spec.d_ff, width], 1.0);
        tensors.weight(&format!("{dense}.wo"), &[width, spec.d_ff], 1.0);
        tensors.norm(&format!("{block}.1.layer_norm"), width);
    }
    tensors.norm("encoder.final_layer_norm", width);
    tensors.into_vec()
}
