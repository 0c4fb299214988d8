//! Reads the directory of a model in the layout of sentence-transformers, without the weights.

pub(crate) mod json;
mod model2vec;
pub(crate) mod modules;
pub(crate) mod weights;

use crate::error::{Error, Result};
use json::{Object, corrupt, read_text};
use log::warn;
pub(crate) use modules::Module;
use modules::ModuleEntry;
use serde_json::Value;
use std::path::{Path, PathBuf};

/// A model's files, read and checked as far as that is possible without its weights.
pub(crate) struct Checkpoint {
    /// config.json.
    pub config: Value,
    /// The modules after the transformer.
    pub head: Vec<Module>,
    /// Prefix of the tensor names and path of each safetensors file.
    pub weights: Vec<(String, PathBuf)>,
    /// tokenizer.json.
    pub tokenizer: PathBuf,
    /// Text of config_sentence_transformers.json.
    pub prompts: Option<String>,
    /// Most tokens of one input, special tokens included.
    pub limit: usize,
    /// Whether the checkpoint sets the limit. Otherwise the limit follows from the tokenizer or the position table.
    pub limit_declared: bool,
}

impl Checkpoint {
    /// Reads the checkpoint at `root`.
    ///
    /// # Errors
    /// [`Error::CorruptCheckpoint`] for a file that is missing, damaged or contradicts another,
    /// [`Error::UnsupportedModel`] for a module, a setting or a format that embergem does not have.
    pub fn read(root: &Path) -> Result<Self> {
        if let Some(checkpoint) = model2vec::read(root)? {
            return Ok(checkpoint);
        }
        let file = root.join(modules::NAME);
        if !file.exists() {
            let reason = "is missing; it lists the modules that make one vector of the tokens. Load the model with \
                          sentence-transformers and save it, which writes this file.";
            return Err(corrupt(&file, reason.to_owned()));
        }
        let chain = modules::entries(&file)?;
        if chain[0].kind == modules::STATIC {
            return Err(Error::UnsupportedModel(format!(
                "{} names a StaticEmbedding, but there is no config.json of Model2Vec, which says how texts are \
                 read. Save the model with model2vec, which writes one.",
                file.display()
            )));
        }
        modules::inside(root, &chain[0].path)?;
        let head = modules::head(root, &chain)?;
        let body = body(root, &chain);
        let config = Object::read(&body.join("config.json"))?;
        let tokenizer = body.join("tokenizer.json");
        if !tokenizer.is_file() {
            let reason = "is missing. Load the tokenizer with transformers and save it, which writes this file.";
            return Err(corrupt(&tokenizer, reason.to_owned()));
        }
        let settings = Object::read_optional(&body.join("sentence_bert_config.json"))?;
        check_settings(&settings, &tokenizer)?;
        let mut files: Vec<_> = weights::body(&body)?
            .into_iter()
            .map(|file| (String::new(), file))
            .collect();
        files.extend(weights::dense(root, &head)?);
        let prompts = root.join("config_sentence_transformers.json");
        let prompts = if prompts.exists() {
            Object::read(&prompts)?;
            Some(read_text(&prompts)?)
        } else {
            None
        };
        let (limit, limit_declared) = limit(&body, &settings, &config)?;
        Ok(Self {
            limit,
            limit_declared,
            config: Value::Object(config.fields),
            head,
            weights: files,
            tokenizer,
            prompts,
        })
    }
}

fn body(root: &Path, chain: &[ModuleEntry]) -> PathBuf {
    root.join(&chain[0].path)
}

fn check_settings(settings: &Object, tokenizer: &Path) -> Result<()> {
    let unsupported = |reason: String| {
        let message = format!("{}: {reason}", settings.file.display());
        Err(Error::UnsupportedModel(message))
    };
    match settings.get("transformer_task") {
        None => {}
        Some(task) if task == "feature-extraction" => {}
        Some(task) => return unsupported(format!("transformer_task is {task}. embergem runs feature-extraction.")),
    }
    let lower = settings.get("do_lower_case") == Some(&Value::Bool(true));
    if lower && !Object::read(tokenizer)?.get("normalizer").is_some_and(lowercases) {
        return unsupported(
            "do_lower_case is set, but the normalizer in tokenizer.json keeps capitals. Save the tokenizer with a \
             Lowercase normalizer."
                .to_owned(),
        );
    }
    Ok(())
}

fn lowercases(normalizer: &Value) -> bool {
    match normalizer["type"].as_str() {
        Some("Sequence") => normalizer["normalizers"]
            .as_array()
            .is_some_and(|parts| parts.iter().any(lowercases)),
        Some("Lowercase") => true,
        _ => normalizer["lowercase"] == true,
    }
}

/// Returns the limit, and whether the checkpoint sets it; see [`Checkpoint::limit_declared`].
fn limit(body: &Path, settings: &Object, config: &Object) -> Result<(usize, bool)> {
    let text = match config.get("text_config") {
        Some(Value::Object(fields)) => &Object {
            file: config.file.clone(),
            fields: fields.clone(),
        },
        _ => config,
    };
    let positions = text.length("max_position_embeddings")?;
    let Some(declared) = settings.length("max_seq_length")? else {
        let tokenizer = Object::read_optional(&body.join("tokenizer_config.json"))?.length("model_max_length")?;
        let allowed = [tokenizer, positions].into_iter().flatten().min();
        return allowed.map(|limit| (limit, false)).ok_or_else(|| {
            let reason = "does not say how many tokens the model reads. Add max_seq_length to \
                          sentence_bert_config.json, model_max_length to tokenizer_config.json or \
                          max_position_embeddings to config.json.";
            corrupt(body, reason.to_owned())
        });
    };
    let rotary = text
        .fields
        .keys()
        .any(|key| key.contains("rope") || key.contains("rotary"));
    match positions {
        Some(positions) if declared > positions && !rotary => {
            warn!(
                "{}: max_seq_length is {declared}, but the model's position table ends at {positions}; the limit is \
                 {positions} tokens",
                settings.file.display()
            );
            Ok((positions, true))
        }
        _ => Ok((declared, true)),
    }
}
