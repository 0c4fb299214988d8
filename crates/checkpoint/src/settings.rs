//! Settings in the JSON files beside the weights: which are read, which change nothing, and which are refused.
//!
//! The published library gives many settings to functions that this crate does not call. A setting that is skipped
//! without a word can be the one that makes other vectors, so each key of these files is in a table here, and a key that
//! is in none is refused. Keys of nested objects are written with dots: `processor_kwargs.model_max_length`.

use crate::error::{Result, unsupported};
use crate::json::{Object, brief};
use serde_json::{Map, Value};

/// A row of a table.
pub(crate) struct Setting {
    /// Names of the settings. A `*` at the beginning or the end stands for any text.
    names: &'static [&'static str],
    /// The values that are accepted, as JSON; all if there are none.
    values: &'static [&'static str],
    /// What the setting does.
    reason: &'static str,
}

/// Settings that this crate reads, or that change no vector.
pub(crate) const fn any(names: &'static [&'static str], reason: &'static str) -> Setting {
    let values = &[];
    Setting { names, values, reason }
}

/// Settings that change no vector as long as they have one of `values`.
pub(crate) const fn only(
    names: &'static [&'static str],
    values: &'static [&'static str],
    reason: &'static str,
) -> Setting {
    Setting { names, values, reason }
}

/// The settings of sentence_bert_config.json.
pub(crate) const TRANSFORMER: &[Setting] = &[
    any(&["max_seq_length", "do_lower_case", "transformer_task"], "is read"),
    any(
        &[
            "tokenizer_args.model_max_length",
            "processor_kwargs.model_max_length",
            "processing_kwargs.text.max_length",
            "processing_kwargs.common.max_length",
        ],
        "is read as the limit",
    ),
    any(&["unpad_inputs"], "says how rows are batched"),
    only(
        &["module_output_name"],
        &["\"token_embeddings\""],
        "names what the next module reads",
    ),
    only(
        &["query_length", "document_length"],
        &["null"],
        "gives queries and documents limits of their own",
    ),
    only(&["query_expansion"], &["null"], "adds tokens to queries"),
    only(
        &["tokenizer_name_or_path"],
        &["null", "\"\""],
        "names the tokenizer of another model",
    ),
    only(
        &["modality_config.text.method"],
        &["\"forward\""],
        "names the part of the model that reads texts",
    ),
    only(
        &["modality_config.text.method_output_name"],
        &["\"last_hidden_state\""],
        "names the result that is pooled",
    ),
    any(&["modality_config.message*"], "is compared with the chat template"),
    any(
        &[
            "modality_config.image*",
            "modality_config.audio*",
            "modality_config.video*",
        ],
        "belongs to images, audio or video",
    ),
    any(
        &[
            "processing_kwargs.text.padding",
            "processing_kwargs.common.padding",
            "processing_kwargs.text.padding_side",
            "processing_kwargs.common.padding_side",
            "processing_kwargs.text.pad_to_multiple_of",
            "processing_kwargs.common.pad_to_multiple_of",
            "processing_kwargs.common.return_tensors",
        ],
        "says how rows are padded, and embergem pads none",
    ),
    only(
        &[
            "processing_kwargs.text.truncation",
            "processing_kwargs.common.truncation",
        ],
        &["true", "\"longest_first\"", "\"only_first\""],
        "leaves texts beyond the limit as they are",
    ),
    only(
        &[
            "processing_kwargs.text.add_special_tokens",
            "processing_kwargs.common.add_special_tokens",
        ],
        &["true"],
        "leaves out the tokens around a text",
    ),
    any(
        &["processing_kwargs.chat_template*"],
        "is used with a chat template only",
    ),
    any(
        &[
            "processing_kwargs.image*",
            "processing_kwargs.audio*",
            "processing_kwargs.video*",
        ],
        "belongs to images, audio or video",
    ),
    only(
        &[
            "processing_kwargs",
            "processing_kwargs.text",
            "processing_kwargs.common",
        ],
        &["null", "{}"],
        "is empty",
    ),
    any(
        &[
            "*_args.trust_remote_code",
            "*_kwargs.trust_remote_code",
            "*_args.revision",
            "*_kwargs.revision",
            "*_args.subfolder",
            "*_kwargs.subfolder",
            "*_args.token",
            "*_kwargs.token",
            "*_args.cache_dir",
            "*_kwargs.cache_dir",
            "*_args.local_files_only",
            "*_kwargs.local_files_only",
        ],
        "is replaced by the library",
    ),
    any(
        &[
            "model_args.torch_dtype",
            "model_kwargs.torch_dtype",
            "model_args.dtype",
            "model_kwargs.dtype",
            "model_args.attn_implementation",
            "model_kwargs.attn_implementation",
            "model_args.device_map",
            "model_kwargs.device_map",
            "model_args.low_cpu_mem_usage",
            "model_kwargs.low_cpu_mem_usage",
            "model_args.use_safetensors",
            "model_kwargs.use_safetensors",
            "model_args.use_cache",
            "model_kwargs.use_cache",
            "config_args.use_cache",
            "config_kwargs.use_cache",
        ],
        "chooses between implementations of the same arithmetic",
    ),
    any(
        &["model_args.add_pooling_layer", "model_kwargs.add_pooling_layer"],
        "belongs to a pooler, which an embedding does not use",
    ),
    only(
        &["tokenizer_args.truncation_side", "processor_kwargs.truncation_side"],
        &["\"right\""],
        "says at which end a text that is too long loses tokens",
    ),
    any(
        &[
            "tokenizer_args.padding_side",
            "processor_kwargs.padding_side",
            "tokenizer_args.use_fast",
            "processor_kwargs.use_fast",
        ],
        "says how rows are padded, and embergem pads none",
    ),
    only(
        &[
            "model_args",
            "model_kwargs",
            "tokenizer_args",
            "processor_kwargs",
            "config_args",
            "config_kwargs",
        ],
        &["null", "{}"],
        "is empty",
    ),
    only(
        &["config_args.*", "config_kwargs.*"],
        &["a value in config.json instead"],
        "replaces a field of config.json: write the value there",
    ),
];

/// The settings of config_sentence_transformers.json.
pub(crate) const MODEL: &[Setting] = &[
    any(&["prompts", "prompts.*"], "is read"),
    any(&["default_prompt_name"], "is used by callers who name no prompt"),
    any(
        &["__version__", "__version__.*", "requirements", "requirements.*"],
        "says which versions saved the model",
    ),
    any(&["similarity_fn_name"], "says how vectors are compared"),
    only(
        &["model_type"],
        &["\"SentenceTransformer\"", "null"],
        "is the kind of the model",
    ),
    only(
        &["truncate_dim"],
        &["null"],
        "makes the library cut the vectors. Remove the setting, and ask for vectors of this size with dimensions",
    ),
];

/// The settings of the config.json of a Pooling module.
pub(crate) const POOLING: &[Setting] = &[any(
    &[
        "word_embedding_dimension",
        "embedding_dimension",
        "pooling_mode",
        "pooling_mode_*",
        "include_prompt",
    ],
    "is read",
)];

/// The settings of the config.json of a Dense module.
pub(crate) const DENSE: &[Setting] = &[any(
    &[
        "in_features",
        "out_features",
        "bias",
        "activation_function",
        "use_residual",
        "module_input_name",
        "module_output_name",
    ],
    "is read",
)];

/// The settings of the config.json of a Normalize module.
pub(crate) const NORMALIZE: &[Setting] = &[any(&["module_input_name", "module_output_name"], "is read")];

/// The settings of an entry of modules.json.
pub(crate) const ENTRY: &[Setting] = &[
    any(&["type", "path", "name", "idx"], "is read"),
    only(&["kwargs"], &["[]", "null"], "gives further inputs to the module"),
];

/// Refuses a file with a setting that is in no row of `table`, or has another value than the row accepts.
///
/// # Errors
/// [`crate::Error::Unsupported`] names the first such setting.
pub(crate) fn check(object: &Object, table: &[Setting]) -> Result<()> {
    for (name, value) in flattened(&object.fields) {
        let Some(row) = table
            .iter()
            .find(|row| row.names.iter().any(|pattern| matches(pattern, &name)))
        else {
            let shown = brief(value);
            let reason = format!(
                ": {name} is {shown}. embergem does not know this setting, so it cannot tell whether the setting changes \
                 the vectors. If it changes nothing, remove it; otherwise the model needs the library that wrote it."
            );
            return Err(unsupported(&object.file, reason));
        };
        if !row.values.is_empty() && !row.values.contains(&value.to_string().as_str()) {
            let (shown, allowed) = (brief(value), row.values.join(" or "));
            let reason = format!(
                ": {name} is {shown}; embergem supports {allowed} here ({name} {}).",
                row.reason
            );
            return Err(unsupported(&object.file, reason));
        }
    }
    Ok(())
}

/// The settings of an object with dots between the names of nested objects. An empty object is a setting itself.
fn flattened(fields: &Map<String, Value>) -> Vec<(String, &Value)> {
    let mut all = Vec::new();
    for (name, value) in fields {
        match value {
            Value::Object(inner) if !inner.is_empty() => {
                let inside = flattened(inner).into_iter();
                all.extend(inside.map(|(inner, value)| (format!("{name}.{inner}"), value)));
            }
            _ => all.push((name.clone(), value)),
        }
    }
    all
}

/// Whether a name fits a pattern with at most one `*`.
pub fn matches(pattern: &str, name: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == name,
        Some((start, end)) => name.len() >= start.len() + end.len() && name.starts_with(start) && name.ends_with(end),
    }
}
