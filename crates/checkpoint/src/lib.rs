//! Reads a model's files as sentence-transformers or Model2Vec saves them, as far as that is possible without the weights.
//!
//! The Rust SDK and the Python package read checkpoints with this crate, so that both accept the same files, and refuse
//! the others with the same words. A setting is either understood or refused: skipping one would give vectors that look
//! right and are wrong.

mod error;
pub mod head;
pub mod json;
mod limit;
mod model2vec;
pub mod modules;
mod static_embedding;
pub mod weights;

pub use error::{Error, Result, corrupt};
pub use head::Module;

use json::{Object, read_text};
use modules::STATIC;
use serde::Serialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value};
use std::path::{Path, PathBuf};

/// Name of the file with the prompts of a model.
pub const PROMPTS: &str = "config_sentence_transformers.json";
/// Largest tokenizer.json that is read, in bytes.
const TOKENIZER_BYTES: u64 = 512 << 20;

/// The files of a model.
#[derive(Debug, Serialize)]
pub struct Checkpoint {
    /// Text of config.json. It is kept as it is, because its numbers are part of the model's fingerprint.
    config: Box<RawValue>,
    /// Fields that config.json of a static model lacks, from its tensors: the sizes and the kind of its table.
    added: Map<String, Value>,
    /// The modules after the transformer.
    pub head: Vec<Module>,
    /// Prefix of the tensor names and path of each weight file.
    pub weights: Vec<(String, PathBuf)>,
    /// Path of tokenizer.json.
    pub tokenizer: PathBuf,
    /// Text of config_sentence_transformers.json.
    pub prompts: Option<String>,
    /// Most tokens of one input, special tokens included.
    pub limit: usize,
    /// Whether the checkpoint declares the limit, or it follows from the tokenizer or the position table.
    pub limit_declared: bool,
    /// What a person should know about the files.
    pub warnings: Vec<String>,
}

impl Checkpoint {
    /// Reads the checkpoint in the directory `root`.
    ///
    /// # Errors
    /// [`Error::Corrupt`] for a file that is missing, damaged or contradicts another file; [`Error::Unsupported`] for a
    /// module, a setting or a format that embergem does not have.
    pub fn read(root: &Path) -> Result<Self> {
        if let Some(checkpoint) = model2vec::read(root)? {
            return Ok(checkpoint);
        }
        let (entries, head) = read_modules(root)?;
        let body = root.join(&entries[0].path);
        if entries[0].kind == STATIC {
            return static_embedding::read(root, &body, head);
        }
        let config_file = body.join("config.json");
        let config = Object::read(&config_file)?;
        let tokenizer = body.join("tokenizer.json");
        if !tokenizer.is_file() {
            return Err(Error::Corrupt(format!(
                "{} is missing. embergem reads the format of the tokenizers library. Load the tokenizer with transformers \
                 and save it, which writes this file.",
                tokenizer.display()
            )));
        }
        let settings = Object::read_optional(&body.join("sentence_bert_config.json"))?;
        check_settings(&settings, &tokenizer)?;
        let mut files: Vec<_> = weights::of_body(&body)?
            .into_iter()
            .map(|file| (String::new(), file))
            .collect();
        files.extend(weights::of_head(root, &head)?);
        let mut warnings = Vec::new();
        let (limit, limit_declared) = limit::limit(&body, &settings, &config, &mut warnings)?;
        Ok(Self {
            config: raw(read_text(&config_file)?),
            added: Map::new(),
            head,
            weights: files,
            tokenizer,
            prompts: prompts(root)?,
            limit,
            limit_declared,
            warnings,
        })
    }

    /// The fields of config.json, and those that a static model lacks there.
    pub fn config(&self) -> Value {
        let mut fields: Map<String, Value> = serde_json::from_str(self.config.get()).unwrap_or_default();
        fields.extend(self.added.clone());
        Value::Object(fields)
    }
}

/// The text of config_sentence_transformers.json in the directory `root`, if there is one.
fn prompts(root: &Path) -> Result<Option<String>> {
    let file = root.join(PROMPTS);
    let read = || {
        Object::read(&file)?; // which checks that it is a JSON object
        read_text(&file)
    };
    file.exists().then(read).transpose()
}

/// Reads modules.json and the head of the checkpoint in the directory `root`. The first entry is the transformer.
///
/// # Errors
/// Those of [`Checkpoint::read`].
pub fn read_modules(root: &Path) -> Result<(Vec<modules::ModuleEntry>, Vec<Module>)> {
    let file = root.join(modules::NAME);
    if !file.exists() {
        return Err(Error::Corrupt(format!(
            "{} has no {}, which says how token vectors become one embedding. embergem reads models that \
             sentence-transformers saved. Load this model with sentence-transformers and save it first.",
            root.display(),
            modules::NAME
        )));
    }
    let entries = modules::read(&file)?;
    modules::check_inside(root, &entries[0].path)?;
    let mut head = head::read(root, &entries[1..])?;
    if entries[0].kind == STATIC {
        head.insert(0, Module::Pooling { mode: "mean".into() });
    }
    Ok((entries, head))
}

/// Refuses settings in sentence_bert_config.json that would change the vectors.
fn check_settings(settings: &Object, tokenizer: &Path) -> Result<()> {
    let file = settings.file.display();
    match settings.get("transformer_task") {
        None => {}
        Some(task) if task == "feature-extraction" => {}
        Some(task) => {
            let message = format!("{file}: transformer_task is {task}. embergem runs feature-extraction.");
            return Err(Error::Unsupported(message));
        }
    }
    if settings.get("do_lower_case") == Some(&Value::Bool(true)) {
        let tokenizer = Object::read_up_to(tokenizer, TOKENIZER_BYTES)?;
        if !tokenizer.get("normalizer").is_some_and(lowers_case) {
            return Err(Error::Unsupported(format!(
                "{file} sets do_lower_case, but the normalizer in tokenizer.json keeps capitals. Save the tokenizer with \
                 a Lowercase normalizer."
            )));
        }
    }
    Ok(())
}

/// Whether a normalizer of tokenizer.json makes texts lower case.
fn lowers_case(normalizer: &Value) -> bool {
    match normalizer["type"].as_str() {
        Some("Sequence") => normalizer["normalizers"]
            .as_array()
            .is_some_and(|parts| parts.iter().any(lowers_case)),
        Some("Lowercase") => true,
        _ => normalizer["lowercase"] == true,
    }
}

/// The text of a JSON file that was parsed before.
fn raw(text: String) -> Box<RawValue> {
    RawValue::from_string(text).unwrap_or_else(|_| RawValue::NULL.to_owned())
}
