//! Finds the weight files of a checkpoint. They must be safetensors files.

use super::json::{Object, corrupt};
use super::modules::Module;
use crate::error::{Error, Result};
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Name of the file if all weights are in one file.
pub(crate) const SINGLE: &str = "model.safetensors";
/// Name of the index, which lists the files if there are several.
pub(crate) const INDEX: &str = "model.safetensors.index.json";
const OTHER_FORMATS: [&str; 8] = ["bin", "pt", "pth", "ckpt", "h5", "msgpack", "gguf", "onnx"];

/// Returns the transformer's files, in name order.
pub(super) fn body(directory: &Path) -> Result<Vec<PathBuf>> {
    let single = directory.join(SINGLE);
    let index = directory.join(INDEX);
    if single.is_file() {
        Ok(vec![single])
    } else if index.is_file() {
        shards(&index, directory)
    } else {
        Err(none(&single))
    }
}

/// Returns the files of the head's linear layers, with the prefix of their tensor names.
pub(super) fn dense(root: &Path, head: &[Module]) -> Result<Vec<(String, PathBuf)>> {
    let mut files = Vec::new();
    for module in head {
        if let Module::Dense { weights, .. } = module {
            let file = root.join(weights).join(SINGLE);
            if !file.is_file() {
                return Err(none(&file));
            }
            let named = (format!("{weights}."), file);
            if !files.contains(&named) {
                files.push(named);
            }
        }
    }
    Ok(files)
}

fn shards(index: &Path, directory: &Path) -> Result<Vec<PathBuf>> {
    let wrong = || {
        corrupt(
            index,
            ": weight_map should name a file for each tensor. Download or save the model again.".to_owned(),
        )
    };
    let object = Object::read(index)?;
    let map = object.get("weight_map").and_then(Value::as_object).ok_or_else(wrong)?;
    let names = map
        .values()
        .map(Value::as_str)
        .collect::<Option<BTreeSet<_>>>()
        .ok_or_else(wrong)?;
    if names.is_empty() {
        return Err(wrong());
    }
    let check = |name: &str| {
        if name.contains(['/', '\\']) || !name.ends_with(".safetensors") {
            let reason = format!(": weight_map names {name:?}; only .safetensors files beside the index are read.");
            return Err(corrupt(index, reason));
        }
        let file = directory.join(name);
        if !file.is_file() {
            return Err(corrupt(
                &file,
                format!("is missing, and {INDEX} names it. Download or save the model again."),
            ));
        }
        Ok(file)
    };
    names.into_iter().map(check).collect()
}

fn none(file: &Path) -> Error {
    let beside = file
        .parent()
        .and_then(|parent| parent.read_dir().ok())
        .into_iter()
        .flatten()
        .flatten();
    let mut others: Vec<_> = beside
        .map(|entry| entry.path())
        .filter(|path| {
            path.extension()
                .is_some_and(|end| OTHER_FORMATS.iter().any(|other| end == *other))
        })
        .filter_map(|path| Some(path.file_name()?.to_string_lossy().into_owned()))
        .collect();
    if others.is_empty() {
        return corrupt(
            file,
            "is missing, so this directory has no weights. Download or save the model again.".to_owned(),
        );
    }
    others.sort_unstable();
    Error::UnsupportedModel(format!(
        "{} is missing, and {} is not read: embergem reads weights from safetensors files only, because pickle files can \
         run code. Save the model again with safe_serialization=True.",
        file.display(),
        others.join(", ")
    ))
}
