//! Directories that `embergem compile` writes: a program and its weights, whatever the family. See docs/format.md.

use crate::checkpoint::json::{corrupt, read_text, read_value};
use crate::error::Result;
use crate::settings::ModelDType;
use crate::source::Source;
use serde::Deserialize;
use serde_json::Value;
use std::path::{Component, Path, PathBuf};

const MANIFEST: &str = "embergem.json";
const FORMAT: &str = "embergem-model/1";

#[derive(Deserialize)]
struct Manifest {
    model_type: String,
    program: String,
    weights: Vec<Weights>,
    tokenizer: String,
    text: Text,
    vectors: Vectors,
    dtype: String,
}

#[derive(Deserialize)]
struct Weights {
    prefix: String,
    file: String,
    size: u64,
}

#[derive(Deserialize)]
struct Text {
    limit: usize,
    vocab_size: u32,
    prompts: Option<String>,
    builtin_prompts: Option<String>,
    #[serde(default)]
    plain: bool,
}

#[derive(Deserialize)]
struct Vectors {
    dimensions: usize,
    trained_dimensions: Vec<usize>,
    norm_before_cut: bool,
}

/// Reads a compiled directory; none where it is not one.
///
/// # Errors
/// [`crate::Error::CorruptCheckpoint`] where its manifest makes no sense, names a file outside, or one of another size.
pub(crate) fn read(directory: &Path) -> Result<Option<Source>> {
    let file = directory.join(MANIFEST);
    if !file.is_file() {
        return Ok(None);
    }
    let manifest = read_value(&file)?;
    match manifest["format"].as_str() {
        None => return Ok(None), // what the package's cache notes of a plain checkpoint has the same name
        Some(FORMAT) => {}
        Some(other) => {
            let reason = format!("has the format {other:?}; this version reads {FORMAT:?}. Compile the model again");
            return Err(corrupt(&file, reason));
        }
    }
    source(directory, &file, manifest).map(Some)
}

fn source(directory: &Path, file: &Path, manifest: Value) -> Result<Source> {
    let manifest: Manifest = serde_json::from_value(manifest).map_err(|error| corrupt(file, format!(": {error}")))?;
    let inside = |name: &str| {
        if Path::new(name)
            .components()
            .all(|part| matches!(part, Component::Normal(_)))
        {
            return Ok(directory.join(name));
        }
        Err(corrupt(
            file,
            format!("names {name:?}, which is outside of its directory"),
        ))
    };
    let check = |weights: Weights| -> Result<(String, PathBuf)> {
        let path = inside(&weights.file)?;
        match path.metadata() {
            Ok(about) if about.len() == weights.size => Ok((weights.prefix, path)),
            Ok(about) => Err(corrupt(
                &path,
                format!("has {} bytes instead of {}", about.len(), weights.size),
            )),
            Err(error) => Err(corrupt(&path, format!("cannot be read: {error}"))),
        }
    };
    let dtype = match manifest.dtype.as_str() {
        "float32" => ModelDType::Auto,
        "int16" => ModelDType::I16,
        other => {
            return Err(corrupt(
                file,
                format!("holds {other} weights, which this version does not compute with"),
            ));
        }
    };
    if manifest.text.plain {
        return Err(corrupt(
            file,
            "is of a static model, which this version does not read".into(),
        ));
    }
    let smaller = manifest.vectors.trained_dimensions;
    let full = manifest.vectors.dimensions;
    let prompts = manifest.text.prompts.as_deref().map(inside).transpose()?;
    Ok(Source {
        model_type: manifest.model_type,
        program: read_text(&inside(&manifest.program)?)?,
        weights: manifest.weights.into_iter().map(check).collect::<Result<_>>()?,
        tokenizer: inside(&manifest.tokenizer)?,
        prompts: prompts.map(|path| read_text(&path)).transpose()?,
        builtin_prompts: manifest.text.builtin_prompts,
        limit: manifest.text.limit,
        vocab_size: manifest.text.vocab_size,
        smaller: smaller.into_iter().filter(|size| *size < full).collect(),
        norm_before_cut: manifest.vectors.norm_before_cut,
        dtype,
    })
}
