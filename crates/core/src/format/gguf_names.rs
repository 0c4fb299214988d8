//! What GGUF calls a tensor, as the model files of embergem call it.

/// Pairs of (GGUF, checkpoint) for the parts of a layer and for the rest, and the checkpoint's prefix of a layer.
struct Names {
    layer: &'static str,
    layers: &'static [(&'static str, &'static str)],
    rest: &'static [(&'static str, &'static str)],
}

const GEMMA: Names = Names {
    layer: "layers.",
    layers: &[
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
    rest: &[
        ("token_embd", "embed_tokens"),
        ("output_norm", "norm"),
        ("dense_2", "2_Dense.linear"),
        ("dense_3", "3_Dense.linear"),
        ("dense.0", "2_Dense.linear"),
        ("dense.1", "3_Dense.linear"),
    ],
};

const BERT: Names = Names {
    layer: "encoder.layer.",
    layers: &[
        ("attn_q", "attention.self.query"),
        ("attn_k", "attention.self.key"),
        ("attn_v", "attention.self.value"),
        ("attn_output", "attention.output.dense"),
        ("attn_output_norm", "attention.output.LayerNorm"),
        ("ffn_up", "intermediate.dense"),
        ("ffn_down", "output.dense"),
        ("layer_output_norm", "output.LayerNorm"),
    ],
    rest: &[
        ("token_embd", "embeddings.word_embeddings"),
        ("position_embd", "embeddings.position_embeddings"),
        ("token_types", "embeddings.token_type_embeddings"),
        ("token_embd_norm", "embeddings.LayerNorm"),
    ],
};

/// The checkpoint's name of tensor `name` in a file of `architecture`; one that no model asks for keeps its own.
pub fn canonical(architecture: &str, name: &str) -> String {
    translated(architecture, name).unwrap_or_else(|| name.to_owned())
}

fn translated(architecture: &str, name: &str) -> Option<String> {
    let names = match architecture {
        "gemma-embedding" | "gemma3" => GEMMA,
        "bert" => BERT,
        _ => return None,
    };
    let (stem, kind) = name.rsplit_once('.')?;
    let find =
        |table: &[(&str, &'static str)], stem| table.iter().find(|(theirs, _)| *theirs == stem).map(|pair| pair.1);
    if let Some(rest) = stem.strip_prefix("blk.") {
        let (number, part) = rest.split_once('.')?;
        let ours = find(names.layers, part)?;
        return Some(format!("{}{number}.{ours}.{kind}", names.layer));
    }
    find(names.rest, stem).map(|ours| format!("{ours}.{kind}"))
}

#[cfg(test)]
mod tests {
    use super::canonical;

    #[test]
    fn names_of_both_conversions_are_known() {
        for (architecture, theirs, ours) in [
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
            assert_eq!(canonical(architecture, theirs), ours);
        }
    }
}
