//! Directories that `embergem compile` writes: a program and its weights. docs/format.md describes them.

use crate::error::{Error, Result};
use embergem_checkpoint::corrupt;
use embergem_checkpoint::json::{read_text, read_value};
use embergem_core::cosine;
use serde::Deserialize;
use std::fs;
use std::path::{Component, Path, PathBuf};

const MANIFEST: &str = "compiled.json";
/// The formats that are read. Directories of the second have matrices of int8 as the kernels multiply them.
const FORMATS: [&str; 2] = ["embergem-model/1", "embergem-model/2"];
/// Least cosine in float32 of the model's vectors to those in the manifest: machines round differently.
const LEAST_COSINE_FLOAT32: f64 = 0.99999;
/// The same in another dtype. The vectors of a damaged model are far below either bound.
const LEAST_COSINE_OTHER: f64 = 0.9;

/// The contents of compiled.json.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Manifest {
    #[serde(rename = "format")]
    _format: String,
    #[serde(rename = "id")]
    _id: String,
    /// Name of the family.
    pub model_type: String,
    program: String,
    weights: Vec<WeightFile>,
    tokenizer: String,
    /// How texts are read.
    pub text: Text,
    /// What is known about the vectors.
    pub vectors: Vectors,
    #[serde(rename = "dtype")]
    _dtype: Storage,
    /// Name of the vector space.
    pub fingerprint: String,
    golden: Golden,
    /// Number of the last correction that the program has.
    #[serde(default)]
    corrections: u32,
}

/// A correction of the arithmetic of some families that left the program key as it was.
#[derive(Deserialize)]
struct Correction {
    number: u32,
    model_types: Vec<String>,
    what: String,
}

/// How the weights are stored. The executor reads the element type of each tensor from its file.
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
struct WeightFile {
    prefix: String,
    file: String,
    size: u64,
    /// For programs that copy the directory. Each load compares the size only.
    #[serde(rename = "sha256")]
    _sha256: String,
}

/// How texts are read.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Text {
    /// Most tokens of one input.
    pub limit: usize,
    /// Number of token ids.
    pub vocab_size: u32,
    prompts: Option<String>,
    /// Set of prompts in crates/text.
    pub builtin_prompts: Option<String>,
    /// Texts get no special tokens, and unknown tokens are removed.
    pub bare: bool,
    /// Unknown tokens are kept nevertheless.
    #[serde(default)]
    pub keep_unknown: bool,
}

/// What is known about the vectors.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Vectors {
    /// Size of a vector.
    pub dimensions: usize,
    /// Sizes that Matryoshka training covered.
    pub trained_dimensions: Vec<usize>,
    /// A layer norm without weights comes before a vector is shortened.
    pub norm_before_cut: bool,
}

/// Rows of ids, and the vectors that the model gave for them when it was compiled.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Golden {
    ids: Vec<Vec<u32>>,
    vectors: Vec<Vec<f32>>,
}

/// The files that a manifest names: texts that are read, and paths.
pub(crate) struct Files {
    /// Text of the program.
    pub program: String,
    /// Prefix of the tensor names and path of each weight file.
    pub weights: Vec<(String, PathBuf)>,
    /// Path of tokenizer.json.
    pub tokenizer: PathBuf,
    /// Text of config_sentence_transformers.json.
    pub prompts: Option<String>,
}

/// Reads the manifest of a compiled directory; none if the directory is not compiled.
///
/// # Errors
/// [`Error::CorruptCheckpoint`] for a damaged manifest; [`Error::UnsupportedModel`] for another version of the format, and
/// if the arithmetic of the family was corrected after the directory was written.
pub(crate) fn read(directory: &Path) -> Result<Option<Manifest>> {
    let file = directory.join(MANIFEST);
    if !file.is_file() {
        return Ok(None);
    }
    let manifest = read_value(&file)?;
    let format = &manifest["format"];
    if !FORMATS.iter().any(|known| format == known) {
        return Err(Error::UnsupportedModel(format!(
            "{} has the format {format}, and this version reads {}. Compile the model again with this version.",
            file.display(),
            FORMATS.map(|known| format!("{known:?}")).join(" and ")
        )));
    }
    let manifest: Manifest = serde_json::from_value(manifest)
        .map_err(|error| corrupt(&file, format!(" is not valid: {error}. Compile the model again.")))?;
    match missing_correction(&manifest.model_type, manifest.corrections) {
        None => Ok(Some(manifest)),
        Some(what) => Err(Error::UnsupportedModel(format!(
            "{} was written before a correction of {} models: {what}. Its program gives other vectors than the original \
             model. Compile the original model again.",
            file.display(),
            manifest.model_type
        ))),
    }
}

/// What the first correction of a family changed that a program lacks, which has those up to the number `included`.
fn missing_correction(model_type: &str, included: u32) -> Option<String> {
    let all: Vec<Correction> = serde_json::from_str(include_str!("../../../src/embergem/models/corrections.json"))
        .expect("a test of this crate parses this file");
    let of_family = |one: &Correction| one.model_types.iter().any(|other| other == model_type);
    all.into_iter()
        .find(|one| one.number > included && of_family(one))
        .map(|one| one.what)
}

impl Manifest {
    /// Finds the files in `directory`, and reads the program and the prompts.
    ///
    /// # Errors
    /// [`Error::CorruptCheckpoint`] for a file that is missing, is outside of the directory or has another size.
    pub fn files(&self, directory: &Path) -> Result<Files> {
        let inside = |name: &str| inside(directory, name);
        let weights = self.weights.iter().map(|weights| {
            let path = inside(&weights.file)?;
            let size = path.metadata().map_or(0, |metadata| metadata.len());
            if size != weights.size {
                let reason = format!(
                    " has {size} bytes instead of {}. Compile the model again.",
                    weights.size
                );
                return Err(corrupt(&path, reason).into());
            }
            Ok((weights.prefix.clone(), path))
        });
        let prompts = self.text.prompts.as_deref().map(inside).transpose()?;
        Ok(Files {
            program: read_text(&inside(&self.program)?)?,
            weights: weights.collect::<Result<_>>()?,
            tokenizer: inside(&self.tokenizer)?,
            prompts: prompts.map(|path| read_text(&path)).transpose()?,
        })
    }

    /// Compares the loaded model with the fingerprint and the vectors of the manifest. `run` computes the vectors of rows
    /// of ids; `float32` says whether it computes in float32.
    ///
    /// # Errors
    /// [`Error::CorruptCheckpoint`] if they differ, and those of `run`.
    pub fn compare(
        &self,
        fingerprint: &str,
        float32: bool,
        run: impl FnOnce(&[Vec<u32>]) -> Result<Vec<Vec<f32>>>,
    ) -> Result<()> {
        if fingerprint != self.fingerprint {
            return Err(Error::CorruptCheckpoint(format!(
                "the weights, program or tokenizer of the compiled model changed since it was compiled (fingerprint {:.16}… \
                 instead of {:.16}…). Compile it again",
                fingerprint, self.fingerprint
            )));
        }
        let ids = &self.golden.ids;
        let found = if ids.is_empty() { Vec::new() } else { run(ids)? };
        let pairs = found.iter().zip(&self.golden.vectors);
        let cosines = pairs.map(|(a, b)| if a.len() == b.len() { cosine(a, b) } else { -1.0 });
        let least = cosines.reduce(f64::min).unwrap_or(-1.0); // without vectors nothing was compared
        let bound = if float32 {
            LEAST_COSINE_FLOAT32
        } else {
            LEAST_COSINE_OTHER
        };
        if found.len() == self.golden.vectors.len() && least >= bound {
            return Ok(());
        }
        Err(Error::CorruptCheckpoint(format!(
            "the compiled model does not give the vectors that are stored with it (least cosine {least:.6}): one of its \
             files is damaged or belongs to another model. Compile it again"
        )))
    }
}

/// The path of a file that a manifest names; a name that leads out of the directory is refused.
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
        let reason = format!(" names the file {name:?}, which lies outside the directory. Compile the model again.");
        return Err(corrupt(&directory.join(MANIFEST), reason).into());
    }
    if !path.is_file() {
        let reason = " is missing, so the compiled model is not complete. Compile it again.";
        return Err(corrupt(&path, reason).into());
    }
    Ok(path)
}
