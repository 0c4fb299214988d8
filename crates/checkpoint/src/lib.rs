//! Reads a model's files as sentence-transformers or Model2Vec saves them, as far as that is possible without the weights.
//!
//! The Rust SDK and the Python package read checkpoints with this crate, so that both accept the same files, and refuse
//! the others with the same words. A setting is either understood or refused: skipping one would give vectors that look
//! right and are wrong.

mod chat;
mod error;
pub mod head;
pub mod json;
mod limit;
mod model2vec;
pub mod modules;
mod settings;
mod special_tokens;
mod static_embedding;
mod tokenizer;
mod tokenizer_json;
pub mod weights;

pub use error::{Error, Result, corrupt};
pub use head::Module;
pub use settings::matches;

use json::{Object, read_text};
use modules::STATIC;
use serde::Serialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value};
use std::path::{Path, PathBuf};

/// Name of the file with the prompts of a model.
pub const PROMPTS: &str = "config_sentence_transformers.json";
/// Names of the file with the settings of the transformer: the first that exists and is not empty counts.
pub const SETTINGS: [&str; 7] = [
    "sentence_bert_config.json",
    "sentence_roberta_config.json",
    "sentence_distilbert_config.json",
    "sentence_camembert_config.json",
    "sentence_albert_config.json",
    "sentence_xlm-roberta_config.json",
    "sentence_xlnet_config.json",
];
/// Largest tokenizer.json that is read, in bytes.
const TOKENIZER_BYTES: u64 = 512 << 20;
/// A file that makes the published library load another model, and add the weights of an adapter to it.
const ADAPTER: &str = "adapter_config.json";

/// The files of a model.
#[derive(Debug, Serialize)]
pub struct Checkpoint {
    /// Text of config.json. It is kept as it is, because its numbers are part of the model's fingerprint.
    config: Box<RawValue>,
    /// Fields that config.json of a static model lacks, from its tensors: the sizes and the kind of its table.
    added: Map<String, Value>,
    /// The modules after the transformer.
    pub head: Vec<Module>,
    /// Width of the hidden states that the pooling module declares; none for a static model.
    pub width: Option<usize>,
    /// Where files other than config.json name code that comes with the model, such as `tokenizer_config.json: auto_map`.
    pub remote_code: Vec<String>,
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
        refuse_adapter(root)?;
        let (entries, head) = read_modules(root)?;
        let width = head::width(root, &entries[1..])?;
        let body = root.join(&entries[0].path);
        refuse_adapter(&body)?;
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
        let settings = read_settings(&body)?;
        let tokenizer_settings = Object::read_optional(&body.join("tokenizer_config.json"))?;
        chat::check(&body, &settings, &tokenizer_settings)?;
        let remote_code = tokenizer::check(&tokenizer_settings, &body, &settings)?;
        let mut files: Vec<_> = weights::of_body(&body)?
            .into_iter()
            .map(|file| (String::new(), file))
            .collect();
        files.extend(weights::of_head(root, &head)?);
        let mut warnings = Vec::new();
        let (limit, limit_declared) = limit::limit(&body, &settings, &tokenizer_settings, &config, &mut warnings)?;
        Ok(Self {
            config: raw(read_text(&config_file)?),
            added: Map::new(),
            head,
            width,
            remote_code,
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
        settings::check(&Object::read(&file)?, settings::MODEL)?;
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

/// The settings of the transformer in the directory `body`, checked.
fn read_settings(body: &Path) -> Result<Object> {
    let mut settings = Object::read_optional(&body.join(SETTINGS[0]))?;
    for name in &SETTINGS[1..] {
        if settings.fields.is_empty() {
            settings = Object::read_optional(&body.join(name))?;
        }
    }
    if let Some(task) = settings
        .get("transformer_task")
        .filter(|task| **task != "feature-extraction")
    {
        let message = format!(
            "{}: transformer_task is {task}. embergem runs feature-extraction.",
            settings.file.display()
        );
        return Err(Error::Unsupported(message));
    }
    settings::check(&settings, settings::TRANSFORMER)?;
    Ok(settings)
}

/// Refuses a directory with an adapter.
fn refuse_adapter(directory: &Path) -> Result<()> {
    let file = directory.join(ADAPTER);
    if !file.exists() {
        return Ok(());
    }
    Err(error::unsupported(
        &file,
        " describes an adapter (PEFT), which the published library adds to the weights of another model. embergem reads \
         whole models: merge the adapter with merge_and_unload() of peft, save the model, and remove this file.",
    ))
}

/// The text of a JSON file that was parsed before.
fn raw(text: String) -> Box<RawValue> {
    RawValue::from_string(text).unwrap_or_else(|_| RawValue::NULL.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_config_of_a_static_model_has_the_sizes_of_its_table() {
        let goldens = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/data/goldens");
        let config = |name: &str| Checkpoint::read(&goldens.join(name)).unwrap().config();
        assert_eq!(
            config("static_embedding"),
            json!({"model_type": "static_embedding", "vocab_size": 800, "hidden_size": 40, "table": "embedding.weight"})
        );
        let found = config("static");
        assert_eq!(
            (&found["embedding_dtype"], &found["max_length"]),
            (&json!("float32"), &json!(512))
        );
        assert_eq!(found["table"], "embeddings");
    }
}
