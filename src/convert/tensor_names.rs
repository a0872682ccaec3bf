//! What names of tensors say: of which layer, by which version, of which other architecture.

/// Parts of names by which tensors of other architectures are known, and what they are of. Without them images would come out wrong
/// and nothing would say so; everything else that is not used changes nothing.
pub(super) const OTHER_ARCHITECTURES: [(&str, &str); 9] = [
    ("lora_", "an adapter (LoRA) that was not merged"),
    (".lora.", "an adapter (LoRA) that was not merged"),
    ("lokr_", "an adapter (LoKr) that was not merged"),
    (".norm_q.", "norms of queries and keys"),
    (".norm_k.", "norms of queries and keys"),
    (".q_norm.", "norms of queries and keys"),
    (".k_norm.", "norms of queries and keys"),
    (".sr.", "compressed keys and values"),
    ("controlnet", "a ControlNet"),
];

/// `transformer_blocks.3.ff.net.2.bias` → `transformer_blocks.#.ff.net.#.bias`.
pub(super) fn without_numbers(name: &str) -> String {
    let is_number = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    let parts = name.split('.');
    let parts = parts.map(|part| if is_number(part) { "#" } else { part });
    parts.collect::<Vec<_>>().join(".")
}

/// The name that a tensor has today. Autoencoders of before diffusers 0.17 call the layers of their attention otherwise; diffusers
/// renames them when it loads (`ModelMixin._convert_deprecated_attention_blocks`).
pub(super) fn current_name(name: &str) -> String {
    if let Some((block, layer)) = name.split_once(".attentions.") {
        for (then, now) in [
            (".query.", ".to_q."),
            (".key.", ".to_k."),
            (".value.", ".to_v."),
            (".proj_attn.", ".to_out.0."),
        ] {
            if layer.contains(then) {
                return format!("{block}.attentions.{}", layer.replacen(then, now, 1));
            }
        }
    }
    name.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_of_attention_have_one_name_whoever_saved_them() {
        for (then, now) in [
            ("query.weight", "to_q.weight"),
            ("key.bias", "to_k.bias"),
            ("value.weight", "to_v.weight"),
            ("proj_attn.bias", "to_out.0.bias"),
            ("group_norm.weight", "group_norm.weight"),
        ] {
            let block = "decoder.mid_block.attentions.0";
            assert_eq!(
                current_name(&format!("{block}.{then}")),
                format!("{block}.{now}")
            );
        }
        let other = "encoder.key.weight";
        assert_eq!(current_name(other), other);
    }

    #[test]
    fn every_layer_of_a_kind_has_one_name_without_its_number() {
        let third = without_numbers("transformer_blocks.3.ff.net.2.bias");
        assert_eq!(third, "transformer_blocks.#.ff.net.#.bias");
        assert_eq!(
            third,
            without_numbers("transformer_blocks.27.ff.net.2.bias")
        );
        assert_eq!(without_numbers("shared.weight"), "shared.weight");
    }
}
