//! Finds the weight files of a checkpoint: safetensors only.

use crate::error::{Error, Result, corrupt, unsupported};
use crate::head::Module;
use crate::json::Object;
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// The file with all weights of a module.
pub const SINGLE: &str = "model.safetensors";
/// The file that names several weight files.
pub const INDEX: &str = "model.safetensors.index.json";
const OTHER_FORMATS: [&str; 8] = ["bin", "pt", "pth", "ckpt", "h5", "msgpack", "gguf", "onnx"];

/// The files of the transformer in `directory`, in name order.
pub(crate) fn of_body(directory: &Path) -> Result<Vec<PathBuf>> {
    let single = directory.join(SINGLE);
    let index = directory.join(INDEX);
    if single.is_file() {
        Ok(vec![single])
    } else if index.is_file() {
        shards(&index)
    } else {
        Err(no_weights(&single))
    }
}

/// The files of the linear layers of a head, each with the prefix of its tensor names.
///
/// # Errors
/// [`Error::Corrupt`] or [`Error::Unsupported`] if a layer has no safetensors file.
pub fn of_head(root: &Path, head: &[Module]) -> Result<Vec<(String, PathBuf)>> {
    let mut files = Vec::new();
    for module in head {
        if let Module::Dense { weights, .. } = module {
            let file = root.join(weights).join(SINGLE);
            if !file.is_file() {
                return Err(no_weights(&file));
            }
            let named = (format!("{weights}."), file);
            if !files.contains(&named) {
                files.push(named);
            }
        }
    }
    Ok(files)
}

/// The weight files that an index names, in name order.
fn shards(index: &Path) -> Result<Vec<PathBuf>> {
    let object = Object::read(index)?;
    let map = object.get("weight_map").and_then(Value::as_object);
    let names = map.map(|map| map.values().map(Value::as_str).collect::<Option<BTreeSet<_>>>());
    let Some(names) = names.flatten().filter(|names| !names.is_empty()) else {
        let reason = ": weight_map should name a file for each tensor. Download or save the model again.";
        return Err(corrupt(index, reason));
    };
    let check = |name: &str| {
        if name.contains(['/', '\\', ':', '\0']) || !name.ends_with(".safetensors") {
            let name = Value::from(name);
            let reason = format!(": weight_map names {name}. Only .safetensors files in the same directory are read.");
            return Err(corrupt(index, reason));
        }
        let file = index.with_file_name(name);
        if !file.is_file() {
            let reason =
                format!(" is missing, and {INDEX} says that it holds weights. Download or save the model again.");
            return Err(corrupt(&file, reason));
        }
        Ok(file)
    };
    names.into_iter().map(check).collect()
}

pub(crate) fn no_weights(file: &Path) -> Error {
    let siblings = file.parent().and_then(|parent| parent.read_dir().ok());
    let paths = siblings.into_iter().flatten().flatten().map(|entry| entry.path());
    let is_other = |path: &PathBuf| {
        path.extension()
            .is_some_and(|end| OTHER_FORMATS.iter().any(|other| end == *other))
    };
    let mut others: Vec<String> = paths
        .filter(is_other)
        .filter_map(|path| Some(path.file_name()?.to_string_lossy().into_owned()))
        .collect();
    if others.is_empty() {
        let reason = " is missing, so the model in this directory has no weights. Download or save the model again.";
        return corrupt(file, reason);
    }
    others.sort_unstable();
    let reason = format!(
        " is missing, and {} is not read: embergem reads weights from safetensors files, or from one GGUF file alone, \
         because pickle files can run code. Save the model again with safe_serialization=True.",
        others.join(", ")
    );
    unsupported(file, reason)
}
