//! The input of the self-check: a loaded model, what is known about it, and its vectors for the rows of the check.

use crate::catalog::Entry;
use crate::error::{Error, Result};
use embergem_checkpoint::Module;
use embergem_text::Pipeline;
use serde_json::{Map, Value};
use std::path::Path;

/// Vectors, one for each row.
pub(crate) type Vectors = Vec<Vec<f32>>;

/// Computes the vectors of rows of ids.
pub(crate) type Run<'a> = dyn Fn(&[Vec<u32>]) -> Result<Vectors> + 'a;

/// A model under check.
#[derive(Clone)]
pub(crate) struct Context<'a> {
    /// Computes the vectors of rows of ids, in one batch.
    pub run: &'a Run<'a>,
    /// The tokenizer and the prompts.
    pub text: &'a Pipeline,
    /// Name of the family.
    pub model_type: &'a str,
    /// Roles of the tokens that the family puts around every text.
    pub special_tokens: &'a [String],
    /// Fields of the family's config; none for a compiled model.
    pub config: Option<&'a Map<String, Value>>,
    /// The modules after the transformer; none for a compiled model.
    pub head: Option<&'a [Module]>,
    /// Most tokens of one input.
    pub limit: usize,
    /// Size of a vector.
    pub dimensions: usize,
    /// Arithmetic of the large products.
    pub dtype: &'a str,
    /// Least cosine of the vectors to those in float32, as measured.
    pub cosine: f64,
    /// What the catalog says about a model of this name.
    pub entry: Option<&'a Entry>,
    /// What the catalog says about the model that this one is, or was fine-tuned from.
    pub base: Option<&'a Entry>,
    /// All files that the model was loaded from.
    pub files: Vec<&'a Path>,
    /// Everything else that the vectors depend on.
    pub variant: Vec<String>,
    /// Name of the model.
    pub name: &'a str,
    /// Id that the files were downloaded under; none for a directory of the caller.
    pub hub_id: Option<&'a str>,
}

/// Vectors of rows in one batch, and those of the first rows alone.
pub(crate) struct Observation {
    /// Vectors of all rows, in one batch.
    pub together: Vectors,
    /// Vectors of the first rows, each alone.
    pub alone: Vectors,
    /// The error of a run that gave no vectors.
    pub fault: Option<String>,
}

/// Runs rows in one batch, and the first `alone` of them each in a batch of its own.
pub(crate) fn observe(context: &Context<'_>, rows: Vec<Vec<u32>>, alone: usize) -> Result<Observation> {
    let run = || {
        let together = (context.run)(&rows)?;
        let single = rows.chunks(1).take(alone).map(|row| (context.run)(row));
        Ok((together, single.collect::<Result<Vec<_>>>()?.concat()))
    };
    match run() {
        Ok((together, alone)) => Ok(Observation {
            together,
            alone,
            fault: None,
        }),
        Err(Error::NonFiniteOutput(message)) => Ok(Observation {
            together: Vec::new(),
            alone: Vec::new(),
            fault: Some(message),
        }),
        Err(error) => Err(error),
    }
}
