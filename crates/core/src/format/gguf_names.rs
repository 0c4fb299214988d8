//! Translation of GGUF's tensor names to the names of the original checkpoints, which the model definitions use.

/// Names of one architecture, as pairs of (GGUF, checkpoint).
struct Names {
    /// The checkpoint's prefix of a layer, in front of its number.
    layer_prefix: &'static str,
    /// Names inside a layer.
    in_layer: &'static [(&'static str, &'static str)],
    /// Names outside the layers.
    outside: &'static [(&'static str, &'static str)],
}

const GEMMA: Names = Names {
    layer_prefix: "layers.",
    in_layer: &[
        ("attn_norm", "input_layernorm"),
        ("attn_q", "self_attn.q_proj"),
        ("attn_k", "self_attn.k_proj"),
        ("attn_v", "self_attn.v_proj"),
        ("attn_output", "self_attn.o_proj"),
        ("attn_q_norm", "self_attn.q_norm"),
        ("attn_k_norm", "self_attn.k_norm"),
        ("post_attention_norm", "post_attention_layernorm"),
        ("ffn_norm", "pre_feedforward_layernorm"),
        ("ffn_gate", "mlp.gate_proj"),
        ("ffn_up", "mlp.up_proj"),
        ("ffn_down", "mlp.down_proj"),
        ("post_ffw_norm", "post_feedforward_layernorm"),
    ],
    outside: &[
        ("token_embd", "embed_tokens"),
        ("output_norm", "norm"),
        ("dense_2", "2_Dense.linear"),
        ("dense_3", "3_Dense.linear"),
        ("dense.0", "2_Dense.linear"),
        ("dense.1", "3_Dense.linear"),
    ],
};

const BERT: Names = Names {
    layer_prefix: "encoder.layer.",
    in_layer: &[
        ("attn_q", "attention.self.query"),
        ("attn_k", "attention.self.key"),
        ("attn_v", "attention.self.value"),
        ("attn_output", "attention.output.dense"),
        ("attn_output_norm", "attention.output.LayerNorm"),
        ("ffn_up", "intermediate.dense"),
        ("ffn_down", "output.dense"),
        ("layer_output_norm", "output.LayerNorm"),
    ],
    outside: &[
        ("token_embd", "embeddings.word_embeddings"),
        ("position_embd", "embeddings.position_embeddings"),
        ("token_types", "embeddings.token_type_embeddings"),
        ("token_embd_norm", "embeddings.LayerNorm"),
    ],
};

/// Returns the checkpoint's name of the GGUF tensor `name`. Unknown names and architectures keep the GGUF name.
pub fn checkpoint_name(architecture: &str, name: &str) -> String {
    translate(architecture, name).unwrap_or_else(|| name.to_owned())
}

fn translate(architecture: &str, name: &str) -> Option<String> {
    let names = match architecture {
        "gemma-embedding" | "gemma3" => GEMMA,
        "bert" => BERT,
        _ => return None,
    };
    let (stem, kind) = name.rsplit_once('.')?;
    let find = |table: &[(&str, &'static str)], stem| table.iter().find(|pair| pair.0 == stem).map(|pair| pair.1);
    if let Some(rest) = stem.strip_prefix("blk.") {
        let (number, part) = rest.split_once('.')?;
        let part = find(names.in_layer, part)?;
        return Some(format!("{}{number}.{part}.{kind}", names.layer_prefix));
    }
    find(names.outside, stem).map(|stem| format!("{stem}.{kind}"))
}

#[cfg(test)]
mod tests {
    use super::checkpoint_name;

    #[test]
    fn names_of_both_converters_are_translated() {
        for (architecture, gguf, checkpoint) in [
            (
                "gemma-embedding",
                "blk.11.attn_q_norm.weight",
                "layers.11.self_attn.q_norm.weight",
            ),
            ("gemma-embedding", "dense_2.weight", "2_Dense.linear.weight"),
            ("gemma3", "dense.1.weight", "3_Dense.linear.weight"),
            (
                "bert",
                "blk.0.attn_output.bias",
                "encoder.layer.0.attention.output.dense.bias",
            ),
            ("bert", "token_embd_norm.weight", "embeddings.LayerNorm.weight"),
            ("bert", "cls.weight", "cls.weight"),
            ("llama", "token_embd.weight", "token_embd.weight"),
        ] {
            assert_eq!(checkpoint_name(architecture, gguf), checkpoint);
        }
    }
}
