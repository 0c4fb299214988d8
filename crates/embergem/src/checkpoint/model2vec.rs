//! Reads directories that Model2Vec saved: config.json, a table of token vectors in model.safetensors, and a tokenizer.

use super::json::{Object, corrupt};
use super::modules::{self, Module};
use super::weights::SINGLE;
use super::{Checkpoint, modules::NAME};
use crate::error::Result;
use serde_json::Value;
use std::fs::File;
use std::io::Read;
use std::path::Path;

const MODEL_TYPE: &str = "model2vec";
/// Most tokens of an input if config.json does not set a limit.
const LIMIT: usize = 512;
/// Most tokens of an input if config.json says that there is no limit.
const UNLIMITED: usize = 32_768;
/// Largest header that the safetensors format allows, in bytes.
const MOST: u64 = 100_000_000;

/// Reads the checkpoint at `root`; none if it is not a Model2Vec directory.
pub(super) fn read(root: &Path) -> Result<Option<Checkpoint>> {
    let file = root.join("config.json");
    if !file.is_file() {
        return Ok(None);
    }
    let mut config = Object::read(&file)?;
    if config.get("model_type").is_none_or(|kind| kind != MODEL_TYPE) {
        return Ok(None);
    }
    let (tokenizer, weights) = (root.join("tokenizer.json"), root.join(SINGLE));
    for file in [&tokenizer, &weights] {
        if !file.is_file() {
            return Err(corrupt(
                file,
                "is missing, so the model is not complete. Download or save it again.".into(),
            ));
        }
    }
    let (rows, width) = shape(&weights)?;
    let normalised = config.flag("normalize", false)?;
    let declared = root.join(NAME);
    if declared.exists()
        && !normalised
        && modules::entries(&declared)?
            .iter()
            .any(|module| module.kind == "Normalize")
    {
        let reason = "normalises vectors, but config.json says that this model does not. Correct one of the two.";
        return Err(corrupt(&declared, reason.into()));
    }
    let unlimited = config.get("max_length") == Some(&Value::Null);
    let limit = config
        .length("max_length")?
        .unwrap_or(if unlimited { UNLIMITED } else { LIMIT });
    let mut head = vec![Module::Pooling { mode: "mean".into() }];
    if normalised {
        head.push(Module::Normalize {});
    }
    config.fields.insert("vocab_size".into(), rows.into());
    config.fields.insert("hidden_size".into(), width.into());
    Ok(Some(Checkpoint {
        config: Value::Object(config.fields),
        head,
        weights: vec![(String::new(), weights)],
        tokenizer,
        prompts: None,
        limit,
        limit_declared: true,
    }))
}

/// Returns rows and width of the table. The executor checks the rest of the file.
fn shape(weights: &Path) -> Result<(usize, usize)> {
    let damaged = |reason: &str| {
        corrupt(
            weights,
            format!("is not a valid safetensors file: {reason}. Download it again."),
        )
    };
    let mut file = File::open(weights).map_err(|error| damaged(&error.to_string()))?;
    let mut size = [0; 8];
    file.read_exact(&mut size).map_err(|_| damaged("it is cut off"))?;
    let mut header = Vec::new();
    let length = u64::from_le_bytes(size).min(MOST);
    file.take(length)
        .read_to_end(&mut header)
        .map_err(|error| damaged(&error.to_string()))?;
    let header: Value = serde_json::from_slice(&header).map_err(|error| damaged(&error.to_string()))?;
    let sizes = header["embeddings"]["shape"]
        .as_array()
        .map(|sizes| sizes.iter().filter_map(Value::as_u64));
    match sizes.map(Iterator::collect::<Vec<_>>).as_deref() {
        Some([rows, width]) => Ok((*rows as usize, *width as usize)),
        _ => Err(corrupt(
            weights,
            "should have a tensor called embeddings. Download or save the model again.".into(),
        )),
    }
}
