//! Directories that `embergem compile` writes: a program and its weights, whatever the family. See docs/format.md.

use crate::checkpoint::json::{corrupt, read_text, read_value};
use crate::error::{Error, Result};
use crate::source::Source;
use serde::Deserialize;
use std::fs;
use std::path::{Component, Path, PathBuf};

const MANIFEST: &str = "compiled.json";
const FORMAT: &str = "embergem-model/1";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Manifest {
    #[serde(rename = "format")]
    _format: String,
    #[serde(rename = "id")]
    _id: String,
    model_type: String,
    program: String,
    weights: Vec<Weights>,
    tokenizer: String,
    text: Text,
    vectors: Vectors,
    #[serde(rename = "dtype")]
    _dtype: Storage,
    /// Of the space; the vectors are what is held against the files here.
    #[serde(rename = "fingerprint")]
    _fingerprint: String,
    golden: Golden,
}

/// How the weights are stored; the executor sees that by itself.
#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum Storage {
    Stored,
    Float32,
    Bfloat16,
    Int16,
    Int8,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Weights {
    prefix: String,
    file: String,
    size: u64,
    /// For whoever moves files; sizes are compared at each load.
    #[serde(rename = "sha256")]
    _sha256: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Text {
    limit: usize,
    vocab_size: u32,
    prompts: Option<String>,
    builtin_prompts: Option<String>,
    bare: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Vectors {
    dimensions: usize,
    trained_dimensions: Vec<usize>,
    norm_before_cut: bool,
}

/// Rows of ids, and the vectors that the directory gave for them when it was made.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Golden {
    /// Not empty.
    pub ids: Vec<Vec<u32>>,
    /// One for each row.
    pub vectors: Vec<Vec<f32>>,
}

impl Golden {
    /// Holds what the loaded model gives for the ids, as `run` packs them, against what is stored.
    ///
    /// # Errors
    /// [`Error::CorruptCheckpoint`] under a cosine of `least`, and those of `run`.
    pub fn check(&self, least: f64, run: impl FnOnce(&[u32], &[u32]) -> Result<Vec<f32>>) -> Result<()> {
        let ids = self.ids.concat();
        let ends = self.ids.iter().scan(0, |end, row| {
            *end += row.len() as u32;
            Some(*end)
        });
        let ends: Vec<u32> = std::iter::once(0).chain(ends).collect();
        let found = run(&ids, &ends)?;
        let width = found.len() / self.ids.len().max(1);
        let worst = found
            .chunks_exact(width.max(1))
            .zip(&self.vectors)
            .map(|(a, b)| cosine(a, b))
            .fold(f64::INFINITY, f64::min);
        if self.vectors.len() == self.ids.len() && worst >= least {
            return Ok(());
        }
        Err(Error::CorruptCheckpoint(format!(
            "the compiled model doesn't give the vectors that are stored with it (least cosine {worst:.6}): one of its \
             files is damaged or from another model. Compile it again"
        )))
    }
}

fn cosine(a: &[f32], b: &[f32]) -> f64 {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
    if a.len() != b.len() {
        return -1.0;
    }
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt().max(1e-12)
}

/// Reads a compiled directory; none where it is not one.
///
/// # Errors
/// [`Error::CorruptCheckpoint`] where its manifest makes no sense, names a file outside, or one of another size;
/// [`Error::UnsupportedModel`] for a format that this version doesn't read.
pub(crate) fn read(directory: &Path) -> Result<Option<Source>> {
    let file = directory.join(MANIFEST);
    if !file.is_file() {
        return Ok(None);
    }
    let manifest = read_value(&file)?;
    if manifest["format"] != FORMAT {
        return Err(Error::UnsupportedModel(format!(
            "{} has the format {}; this version reads {FORMAT:?}. Compile the model again with it",
            file.display(),
            manifest["format"]
        )));
    }
    let manifest: Manifest = serde_json::from_value(manifest)
        .map_err(|error| corrupt(&file, format!("makes no sense: {error}. Compile the model again")))?;
    let inside = |name: &str| inside(directory, name);
    let weights = manifest.weights.iter().map(|weights| {
        let path = inside(&weights.file)?;
        let size = path.metadata().map_or(0, |about| about.len());
        if size != weights.size {
            let reason = format!("has {size} bytes instead of {}; compile the model again", weights.size);
            return Err(corrupt(&path, reason));
        }
        Ok((weights.prefix.clone(), path))
    });
    let weights = weights.collect::<Result<_>>()?;
    let prompts = manifest.text.prompts.as_deref().map(inside).transpose()?;
    Ok(Some(Source {
        model_type: manifest.model_type,
        program: read_text(&inside(&manifest.program)?)?,
        weights,
        tokenizer: inside(&manifest.tokenizer)?,
        prompts: prompts.map(|path| read_text(&path)).transpose()?,
        builtin_prompts: manifest.text.builtin_prompts,
        bare: manifest.text.bare,
        limit: manifest.text.limit,
        vocab_size: manifest.text.vocab_size,
        dimensions: Some(manifest.vectors.dimensions),
        smaller: manifest.vectors.trained_dimensions,
        norm_before_cut: manifest.vectors.norm_before_cut,
        golden: Some(manifest.golden),
    }))
}

/// The file that a manifest names; a name that leads out of the directory is refused.
fn inside(directory: &Path, name: &str) -> Result<PathBuf> {
    let path = directory.join(name);
    let normal = Path::new(name)
        .components()
        .all(|part| matches!(part, Component::Normal(_)));
    let real = |path: &Path| fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let stays = path
        .parent()
        .is_some_and(|parent| real(parent).starts_with(real(directory)));
    if !normal || name.contains(['\\', ':']) || !stays {
        let reason = format!("names the file {name:?}, which lies outside of the directory");
        return Err(corrupt(&directory.join(MANIFEST), reason));
    }
    if !path.is_file() {
        return Err(corrupt(
            &path,
            "is missing; the compiled model is not complete".to_owned(),
        ));
    }
    Ok(path)
}
