//! StaticEmbedding of sentence-transformers: a table of token vectors and a tokenizer, without a config.json.
//!
//! Model2Vec stores its tables in the same form, and may add two vectors: `mapping`, the row of the table for each id, and
//! `weights`, a factor for each id.

use crate::error::{Error, Result, corrupt};
use crate::head::Module;
use crate::json::Object;
use crate::weights::{self, SINGLE};
use crate::{Checkpoint, TOKENIZER_BYTES, prompts, raw};
use embergem_core::Tensors;
use serde_json::{Map, Value};
use std::path::Path;

/// Tokens of one input if nothing sets a limit. A row of this length fits into memory many times over.
pub(crate) const UNLIMITED: usize = 32_768;
/// Names of the table: that of sentence-transformers, and that of Model2Vec.
const TABLES: [&str; 2] = ["embedding.weight", "embeddings"];

/// Reads the checkpoint in the directory `root`, whose first module is in `body`. `head` has the pooling already.
pub(crate) fn read(root: &Path, body: &Path, head: Vec<Module>) -> Result<Checkpoint> {
    let (tokenizer, weights) = (body.join("tokenizer.json"), body.join(SINGLE));
    // The library applies the truncation that the tokenizer was saved with, and sets no limit of its own.
    let settings = Object::read_up_to(&tokenizer, TOKENIZER_BYTES)?;
    let limit = match settings.get("truncation") {
        Some(Value::Object(fields)) => Object {
            file: tokenizer.clone(),
            fields: fields.clone(),
        }
        .length("max_length")?,
        _ => None,
    };
    if !weights.is_file() {
        return Err(weights::no_weights(&weights));
    }
    let table = Table::read(&weights, &TABLES)?;
    let mut files = vec![(String::new(), weights)];
    files.extend(weights::of_head(root, &head)?);
    Ok(Checkpoint {
        config: raw(r#"{"model_type": "static_embedding"}"#.into()),
        added: table.fields(),
        head,
        width: None,
        remote_code: Vec::new(),
        weights: files,
        tokenizer,
        prompts: prompts(root)?,
        limit: limit.unwrap_or(UNLIMITED),
        limit_declared: true,
        warnings: Vec::new(),
    })
}

/// The table of a static model, as far as its weight file describes it.
pub(crate) struct Table {
    name: &'static str,
    rows: usize,
    width: usize,
    /// Number of ids that have a row of their own or share one.
    mapped: Option<usize>,
    weighted: bool,
    /// Whether the values are whole numbers without scales.
    integers: bool,
}

impl Table {
    /// Reads the description of the first of `names` that the file has.
    pub fn read(file: &Path, names: &[&'static str]) -> Result<Self> {
        let tensors = Tensors::open([("", file)]).map_err(|error| Error::Corrupt(error.to_string()))?;
        let list = tensors.list();
        let find = |wanted: &str| list.iter().find(|(name, ..)| *name == wanted);
        let known = names.join(" or ");
        let refuse = |found: String| {
            let reason = format!(" should hold a matrix called {known}, found {found}. Save the model again.");
            Err(corrupt(file, reason))
        };
        let Some((name, found)) = names.iter().find_map(|name| Some((name, find(name)?))) else {
            return refuse("no such tensor".into());
        };
        let (_, shape, element) = found;
        let &[rows, width] = *shape else {
            return refuse(format!("the shape {shape:?}"));
        };
        let vector = |name: &str| match find(name) {
            None => Ok(None),
            Some((_, [ids], _)) => Ok(Some(*ids)),
            Some((_, shape, _)) => {
                let reason = format!(": {name} should have one number for each id, found the shape {shape:?}.");
                Err(corrupt(file, reason))
            }
        };
        let (mapped, weighted) = (vector("mapping")?, vector("weights")?);
        let ids = mapped.unwrap_or(rows);
        if let Some(weighted) = weighted.filter(|weighted| *weighted != ids) {
            let reason = format!(": weights has {weighted} numbers for {ids} ids. Download or save the model again.");
            return Err(corrupt(file, reason));
        }
        Ok(Self {
            name,
            rows,
            width,
            mapped,
            weighted: weighted.is_some(),
            integers: *element == "I8" && find(&format!("{name}.scales")).is_none(),
        })
    }

    /// The fields that config.json lacks.
    pub fn fields(&self) -> Map<String, Value> {
        let mut fields = Map::new();
        fields.insert("vocab_size".into(), self.mapped.unwrap_or(self.rows).into());
        fields.insert("hidden_size".into(), self.width.into());
        fields.insert("table".into(), self.name.into());
        if self.mapped.is_some() {
            fields.insert("table_rows".into(), self.rows.into());
        }
        if self.weighted {
            fields.insert("token_weights".into(), true.into());
        }
        if self.integers {
            fields.insert("integer_table".into(), true.into());
        }
        fields
    }
}
