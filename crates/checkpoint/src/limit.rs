//! The most tokens that a model reads of one input.

use crate::error::{Result, corrupt};
use crate::json::Object;
use serde_json::Value;
use std::path::Path;

/// Settings of the transformer that declare the limit, in the order in which the published library applies them.
const DECLARED: [&[&str]; 5] = [
    &["processing_kwargs", "common", "max_length"],
    &["processing_kwargs", "text", "max_length"],
    &["tokenizer_args", "model_max_length"],
    &["processor_kwargs", "model_max_length"],
    &["max_seq_length"],
];

/// The limit, and whether the checkpoint declares it. `body` is the directory of the transformer, `settings` its
/// sentence_bert_config.json, `tokenizer` its tokenizer_config.json and `config` its config.json.
pub(crate) fn limit(
    body: &Path,
    settings: &Object,
    tokenizer: &Object,
    config: &Object,
    warnings: &mut Vec<String>,
) -> Result<(usize, bool)> {
    let text = match config.get("text_config") {
        Some(Value::Object(fields)) => &Object {
            file: config.file.clone(),
            fields: fields.clone(),
        },
        _ => config,
    };
    let positions = text.length("max_position_embeddings")?;
    let mut declared = None;
    for path in DECLARED {
        declared = declared.or(settings.length_at(path)?);
    }
    let Some(declared) = declared else {
        let tokenizer = tokenizer.length("model_max_length")?;
        let allowed = [tokenizer, positions].into_iter().flatten().min();
        return allowed.map(|limit| (limit, false)).ok_or_else(|| {
            corrupt(
                body,
                " does not say how many tokens the model reads. Add max_seq_length to sentence_bert_config.json, \
                 model_max_length to tokenizer_config.json or max_position_embeddings to config.json.",
            )
        });
    };
    // Positions that are computed (rotary) have no table that ends.
    let rotary = text
        .fields
        .keys()
        .any(|key| key.contains("rope") || key.contains("rotary"));
    match positions {
        Some(positions) if declared > positions && !rotary => {
            warnings.push(format!(
                "{}: the limit is {declared}, but the model's position table ends at {positions}. The limit is \
                 {positions} tokens.",
                settings.file.display()
            ));
            Ok((positions, true))
        }
        _ => Ok((declared, true)),
    }
}
