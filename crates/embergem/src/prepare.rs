//! What the engine needs to know about a model before it loads the weights: from a checkpoint or a compiled directory.

use crate::cards;
use crate::catalog::{self, Entry};
use crate::compiled::{self, Manifest};
use crate::error::{Error, Result};
use crate::options::LoadOptions;
use crate::paths;
use crate::resolve::Location;
use crate::selfcheck;
use crate::unread::{self, REMOTE_CODE};
use embergem_checkpoint::{Checkpoint, Module};
use log::warn;
use serde_json::{Map, Value};
use std::path::{Path, PathBuf};

/// A model that is ready to be loaded.
pub(crate) struct Prepared {
    /// Name of the family.
    pub model_type: String,
    /// The program, as JSON.
    pub program: String,
    /// Prefix of the tensor names and path of each weight file.
    pub weights: Vec<(String, PathBuf)>,
    /// Path of tokenizer.json.
    pub tokenizer: PathBuf,
    /// Text of config_sentence_transformers.json.
    pub prompts: Option<String>,
    /// Set of prompts in crates/text.
    pub builtin_prompts: Option<String>,
    /// Most tokens of one input, special tokens included.
    pub limit: usize,
    /// Number of token ids.
    pub vocab_size: u32,
    /// Texts get no special tokens, and unknown tokens are removed.
    pub bare: bool,
    /// A model without special tokens keeps unknown tokens.
    pub keep_unknown: bool,
    /// Sizes that Matryoshka training covered, in any order.
    pub trained_dimensions: Vec<usize>,
    /// A layer norm without weights comes before a vector is shortened.
    pub norm_before_cut: bool,
    /// Roles of the tokens that the family puts around every text.
    pub special_tokens: Vec<String>,
    /// Fields of the family's config; none for a compiled model.
    pub config: Option<Map<String, Value>>,
    /// The modules after the transformer; none for a compiled model.
    pub head: Option<Vec<Module>>,
    /// What the catalog says about a model of this name.
    pub entry: Option<&'static Entry>,
    /// What the catalog says about the model that this one is, or was fine-tuned from.
    pub base: Option<&'static Entry>,
    /// Id that the files were downloaded under.
    pub hub_id: Option<String>,
    /// Manifest of a compiled model.
    pub compiled: Option<Manifest>,
}

impl Prepared {
    /// Reads the directory of a model and combines its files with the catalog.
    ///
    /// # Errors
    /// [`Error::CorruptCheckpoint`] or [`Error::UnsupportedModel`] for files that cannot be used;
    /// [`Error::ModelNotReady`] if a conversion left out the dense layers.
    pub fn read(location: &Location, options: &LoadOptions) -> Result<Self> {
        let mut prepared = match compiled::read(&location.path)? {
            Some(manifest) => Self::of_compiled(manifest, &location.path)?,
            None => Self::of_checkpoint(location)?,
        };
        if let Some(wanted) = options.loader_type
            && wanted.model_type() != prepared.model_type
        {
            return Err(Error::UnsupportedModel(format!(
                "{} is of the family {:?}, not {wanted:?}. Leave out with_loader_type.",
                location.id, prepared.model_type
            )));
        }
        if let Some(tokenizer) = &options.tokenizer_json {
            prepared.tokenizer.clone_from(tokenizer);
        }
        Ok(prepared)
    }

    /// All files that the model is loaded from.
    pub fn files(&self) -> impl Iterator<Item = &Path> {
        self.weight_files().chain([self.tokenizer.as_path()])
    }

    /// The files of the weights.
    pub fn weight_files(&self) -> impl Iterator<Item = &Path> {
        self.weights.iter().map(|(_, path)| path.as_path())
    }

    fn of_checkpoint(location: &Location) -> Result<Self> {
        let checkpoint = Checkpoint::read(&location.path)?;
        for warning in &checkpoint.warnings {
            warn!("{warning}");
        }
        let mut config = checkpoint.config();
        accept_known_code(&mut config, &checkpoint)?;
        let card = match cards::find(&config, &checkpoint.head, &location.path) {
            Ok(card) => card,
            // No card lacks dense layers that its kind of model has. The self-check knows the cause and the remedy.
            Err(error) => {
                return Err(selfcheck::missing_dense_layers(location, &config, &checkpoint.head).unwrap_or(error));
            }
        };
        if let (Some(declared), Some(width)) = (checkpoint.width, card.width)
            && declared != width
        {
            return Err(Error::CorruptCheckpoint(format!(
                "The pooling module says that the model makes vectors of {declared} numbers, and by config.json it makes \
                 {width}. The files belong to different models, or the model has a projection that embergem does not \
                 know. Download or save the model again."
            )));
        }
        let hub_id = paths::hub_id(&location.path);
        let entry = catalog::known(hub_id.as_deref().unwrap_or(&location.id), &card.model_type);
        let declared = [Some(location.id.as_str()), config["_name_or_path"].as_str()];
        let declared: Vec<&str> = declared.into_iter().flatten().collect();
        let base = entry.or_else(|| catalog::base_model(&card.model_type, &card.config, &declared));
        let published = base.filter(|_| !checkpoint.limit_declared).map(|base| base.limit);
        let limits = [Some(checkpoint.limit), card.places, published];
        let family = &card.model_type;
        Ok(Self {
            program: card.program.get().to_owned(),
            weights: checkpoint.weights,
            tokenizer: checkpoint.tokenizer,
            prompts: checkpoint.prompts,
            builtin_prompts: base.and_then(|base| base.prompts.clone()).or(card.builtin_prompts),
            limit: limits.into_iter().flatten().min().unwrap_or(checkpoint.limit),
            vocab_size: card.vocab_size,
            bare: card.special_tokens.is_empty(),
            keep_unknown: card.keep_unknown,
            trained_dimensions: match base {
                Some(base)
                    if width_after(&checkpoint.head, card.width).is_none_or(|width| width == base.dimensions) =>
                {
                    base.shorter()
                }
                _ => declared_dimensions(&config),
            },
            norm_before_cut: match entry {
                Some(entry) => entry.norm_before_cut,
                None => catalog::shared(family, |entry| entry.norm_before_cut) == Some(true),
            },
            special_tokens: card.special_tokens,
            config: Some(card.config),
            head: Some(checkpoint.head),
            entry,
            base,
            hub_id,
            compiled: None,
            model_type: card.model_type,
        })
    }

    fn of_compiled(manifest: Manifest, directory: &Path) -> Result<Self> {
        let files = manifest.files(directory)?;
        Ok(Self {
            model_type: manifest.model_type.clone(),
            program: files.program,
            weights: files.weights,
            tokenizer: files.tokenizer,
            prompts: files.prompts,
            builtin_prompts: manifest.text.builtin_prompts.clone(),
            limit: manifest.text.limit,
            vocab_size: manifest.text.vocab_size,
            bare: manifest.text.bare,
            keep_unknown: manifest.text.keep_unknown,
            trained_dimensions: manifest.vectors.trained_dimensions.clone(),
            norm_before_cut: manifest.vectors.norm_before_cut,
            special_tokens: cards::special_tokens(&manifest.model_type),
            config: None,
            head: None,
            entry: None,
            base: None,
            hub_id: paths::hub_id(directory),
            compiled: Some(manifest),
        })
    }
}

/// Size of the vectors that the head makes of hidden states of the width `hidden`; none if it is unknown.
fn width_after(head: &[Module], hidden: Option<usize>) -> Option<usize> {
    let sizes = head.iter().rev().find_map(|module| match module {
        Module::Dense { out_features, .. } => Some(*out_features),
        _ => None,
    });
    sizes.or(hidden)
}

/// Sizes that config.json says that the model was trained for. They count where the catalog knows no model of this size
/// that it is, or was fine-tuned from.
fn declared_dimensions(config: &Value) -> Vec<usize> {
    let sizes = config["matryoshka_dimensions"].as_array();
    let sizes = sizes.into_iter().flatten().filter_map(Value::as_u64);
    sizes.map(|size| size as usize).filter(|size| *size > 0).collect()
}

/// Removes `auto_map` from `config` if the catalog knows by the weights that the code of the model is not needed.
///
/// # Errors
/// [`Error::UnsupportedModel`] if another file of an unknown model names code.
fn accept_known_code(config: &mut Value, checkpoint: &Checkpoint) -> Result<()> {
    if config.get(REMOTE_CODE).is_none() && checkpoint.remote_code.is_empty() {
        return Ok(());
    }
    let family = cards::canonical_model_type(config["model_type"].as_str().unwrap_or_default());
    let files: Vec<&Path> = checkpoint.weights.iter().map(|(_, path)| path.as_path()).collect();
    if catalog::has_known_code(&family, &files) {
        if let Some(fields) = config.as_object_mut() {
            fields.remove(REMOTE_CODE);
        }
        return Ok(());
    }
    match checkpoint.remote_code.first() {
        Some(place) => Err(unread::remote_code(place, "a tokenizer", &family)),
        None => Ok(()),
    }
}
