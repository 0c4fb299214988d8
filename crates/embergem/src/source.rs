//! Everything that loading needs to know of a model, from a plain checkpoint or a compiled directory.

use crate::catalog;
use crate::checkpoint::Checkpoint;
use crate::compiled::{self, Golden};
use crate::error::Result;
use crate::origin;
use crate::programs;
use std::path::{Path, PathBuf};

/// A model that is ready to be loaded.
pub(crate) struct Source {
    /// `model_type` of its config.json.
    pub model_type: String,
    /// For the executor, as JSON.
    pub program: String,
    /// Prefix of the tensor names, and the safetensors file.
    pub weights: Vec<(String, PathBuf)>,
    /// tokenizer.json.
    pub tokenizer: PathBuf,
    /// Text of config_sentence_transformers.json.
    pub prompts: Option<String>,
    /// A set of prompts in crates/text.
    pub builtin_prompts: Option<String>,
    /// Most tokens of one input.
    pub limit: usize,
    /// Token ids are below this.
    pub vocab_size: u32,
    /// Width that the vectors must have, where it is written down.
    pub dimensions: Option<usize>,
    /// Sizes that vectors can be cut to, below their own, in any order.
    pub smaller: Vec<usize>,
    /// A layer norm comes before such a cut.
    pub norm_before_cut: bool,
    /// Texts get no special tokens and lose unknown ones.
    pub bare: bool,
    /// What the model gave when it was compiled.
    pub golden: Option<Golden>,
}

impl Source {
    /// Reads a directory of either kind; the catalog adds what it says of a model called `id`.
    pub fn read(id: &str, directory: &Path) -> Result<Self> {
        if let Some(compiled) = compiled::read(directory)? {
            return Ok(compiled);
        }
        let checkpoint = Checkpoint::read(directory)?;
        let card = programs::find(&checkpoint.config, &checkpoint.head, directory)?;
        let hub_id = origin::hub_id(directory);
        let known = catalog::known(hub_id.as_deref().unwrap_or(id), &card.model_type);
        let smaller = known.map_or(&card.smaller, |known| &known.smaller);
        let said: Vec<&str> = [Some(id), origin::of_config(&checkpoint.config)]
            .into_iter()
            .flatten()
            .collect();
        let kin = known.or_else(|| catalog::kin(&said, &card.models));
        let prompts = kin.and_then(|kin| kin.prompts.clone());
        let derived = kin.filter(|_| !checkpoint.limit_declared).map(|kin| kin.limit);
        let limits = [Some(checkpoint.limit), card.places, derived];
        Ok(Self {
            smaller: smaller.iter().flat_map(|(first, last)| *first..=*last).collect(),
            builtin_prompts: prompts.or(card.builtin_prompts),
            limit: limits.into_iter().flatten().min().unwrap_or(checkpoint.limit),
            model_type: card.model_type,
            program: card.program.get().to_owned(),
            weights: checkpoint.weights,
            tokenizer: checkpoint.tokenizer,
            prompts: checkpoint.prompts,
            vocab_size: card.vocab_size,
            dimensions: None,
            norm_before_cut: card.norm_before_cut,
            bare: card.bare,
            golden: None,
        })
    }
}
