//! Directories that Model2Vec saved: config.json, a table of token vectors in model.safetensors, a tokenizer.
//!
//! config.json says whether vectors are normalised and how many tokens are read. modules.json, which sentence-transformers
//! reads in the same directory, is not needed; if it exists, it must not contradict config.json.

use crate::error::{Result, corrupt};
use crate::head::Module;
use crate::json::{Object, read_text};
use crate::static_embedding::{Table, UNLIMITED};
use crate::weights::SINGLE;
use crate::{Checkpoint, modules, raw};
use serde_json::Value;
use std::path::Path;

const MODEL_TYPE: &str = "model2vec";
/// Tokens that Model2Vec reads if the config does not say.
const DEFAULT_LIMIT: usize = 512;

/// Reads the checkpoint in the directory `root`; none if it is of another kind.
pub(crate) fn read(root: &Path) -> Result<Option<Checkpoint>> {
    let file = root.join("config.json");
    if !file.is_file() {
        return Ok(None);
    }
    let config = Object::read(&file)?;
    if config.get("model_type").is_none_or(|kind| kind != MODEL_TYPE) {
        return Ok(None);
    }
    let (tokenizer, weights) = (root.join("tokenizer.json"), root.join(SINGLE));
    for file in [&tokenizer, &weights] {
        if !file.is_file() {
            let reason =
                " is missing, so the model in this directory is not complete. Download or save the model again.";
            return Err(corrupt(file, reason));
        }
    }
    let table = Table::read(&weights, &["embeddings"])?;
    let normalised = match config.get("normalize") {
        Some(Value::Null) => false,
        _ => config.flag("normalize", false)?,
    };
    refuse_contradiction(&root.join(modules::NAME), normalised)?;
    let unlimited = config.get("max_length") == Some(&Value::Null);
    let limit = config.length("max_length")?;
    let mut head = vec![Module::Pooling { mode: "mean".into() }];
    if normalised {
        head.push(Module::Normalize {});
    }
    Ok(Some(Checkpoint {
        config: raw(read_text(&file)?),
        added: table.fields(),
        head,
        width: None,
        remote_code: Vec::new(),
        weights: vec![(String::new(), weights)],
        tokenizer,
        prompts: None,
        limit: limit.unwrap_or(if unlimited { UNLIMITED } else { DEFAULT_LIMIT }),
        limit_declared: true,
        warnings: Vec::new(),
    }))
}

/// Refuses a modules.json that normalises vectors where config.json does not.
fn refuse_contradiction(file: &Path, normalised: bool) -> Result<()> {
    if file.exists() && !normalised && modules::read(file)?.iter().any(|entry| entry.kind == "Normalize") {
        let reason =
            " normalises vectors, and config.json says that this model does not. Save the model again with model2vec.";
        return Err(corrupt(file, reason));
    }
    Ok(())
}
