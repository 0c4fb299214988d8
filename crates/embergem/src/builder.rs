//! Builders that load models into an [`EmbeddingModel`].

use crate::blocking::run_blocking;
use crate::error::{Error, Result};
use crate::logging;
use crate::model::EmbeddingModel;
use crate::options::{EmbeddingLoaderType, LoadOptions, ModelDType, TokenSource};
use crate::registry::{Entry, Registry};
use crate::resolve::resolve;
use std::path::PathBuf;

/// Loads one model.
///
/// ```
/// use embergem::{EmbeddingModelBuilder, EmbeddingRequest};
///
/// # #[tokio::main]
/// # async fn main() -> embergem::Result<()> {
/// # let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/data/goldens/gemma3_text");
/// let model = EmbeddingModelBuilder::new(directory).build().await?;
/// let request = EmbeddingRequest::builder().add_prompt("What is graphene?");
/// let embeddings = model.generate_embeddings(request).await?;
/// assert_eq!(embeddings[0].len(), 96);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
#[must_use = "a builder does nothing until `build` is called"]
pub struct EmbeddingModelBuilder {
    model: String,
    options: LoadOptions,
    logging: bool,
}

impl EmbeddingModelBuilder {
    /// Names the model: a directory, a name or alias of the catalog (`minilm`), or a hub id
    /// (`google/embeddinggemma-300m`). They are tried in this order.
    pub fn new(model: impl Into<String>) -> Self {
        Self {
            model: model.into(),
            options: LoadOptions::default(),
            logging: false,
        }
    }

    /// Logs downloads, loads and warnings to standard error, or to the program's logger of the `log` crate.
    pub fn with_logging(mut self) -> Self {
        self.logging = true;
        self
    }

    /// Logs the rows, tokens, milliseconds and tokens per second of every batch.
    pub fn with_throughput_logging(mut self) -> Self {
        self.options.throughput_logging = true;
        self
    }

    /// Chooses the arithmetic of the large products.
    pub fn with_dtype(mut self, dtype: ModelDType) -> Self {
        self.options.dtype = dtype;
        self
    }

    /// Limits the threads that this model computes with. The default is all cores.
    pub fn with_threads(mut self, threads: usize) -> Self {
        self.options.threads = Some(threads);
        self
    }

    /// Limits the rows of one batch. The default limits only the tokens of a batch.
    pub fn with_max_num_seqs(mut self, rows: usize) -> Self {
        self.options.max_num_seqs = Some(rows);
        self
    }

    /// Reads this tokenizer.json instead of the checkpoint's.
    pub fn with_tokenizer_json(mut self, path: impl Into<PathBuf>) -> Self {
        self.options.tokenizer_json = Some(path.into());
        self
    }

    /// Requires a family. `build` fails for a checkpoint of another family.
    pub fn with_loader_type(mut self, family: EmbeddingLoaderType) -> Self {
        self.options.loader_type = Some(family);
        self
    }

    /// Chooses the source of the hub's access token.
    pub fn with_token_source(mut self, source: TokenSource) -> Self {
        self.options.token_source = source;
        self
    }

    /// Chooses a branch, tag or commit of the model's repository on the hub. The default is `main`. `build` fails if the
    /// model is a directory.
    pub fn with_hf_revision(mut self, revision: impl Into<String>) -> Self {
        self.options.revision = Some(revision.into());
        self
    }

    /// Chooses the hub library's cache directory instead of `$HF_HOME/hub`. It is searched before embergem's own cache.
    /// `build` fails if the model is a directory.
    pub fn from_hf_cache_path(mut self, path: impl Into<PathBuf>) -> Self {
        self.options.hf_cache = Some(path.into());
        self
    }

    /// Finds the files, downloads those that are not on this machine, loads the model and runs its self-check, on a thread
    /// of its own.
    ///
    /// # Errors
    /// [`Error::UnknownModel`], [`Error::Download`] or [`Error::GatedModel`] if the files cannot be found;
    /// [`Error::CorruptCheckpoint`], [`Error::MissingTensor`] or [`Error::UnsupportedModel`] if they cannot be used;
    /// [`Error::ModelNotReady`] if the model fails its self-check; [`Error::UnsupportedOption`] for an option that does not
    /// apply; [`Error::InsufficientMemory`].
    pub async fn build(self) -> Result<EmbeddingModel> {
        MultiModelBuilder::new().add_model(self).build().await
    }

    /// Loads the model into a registry. Blocks.
    fn load(self, alias: Option<String>, registry: &mut Registry) -> Result<()> {
        self.options.check()?;
        let location = resolve(&self.model, &self.options)?;
        let names = registry.names([&location.id, &self.model], alias)?;
        registry.add(Entry::load(location, self.options, names)?);
        Ok(())
    }
}

/// Loads several models into one [`EmbeddingModel`]. A request names a model, or the default model answers it.
///
/// ```
/// use embergem::{EmbeddingModelBuilder, MultiModelBuilder};
///
/// # #[tokio::main]
/// # async fn main() -> embergem::Result<()> {
/// # let goldens = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/data/goldens");
/// let models = MultiModelBuilder::new()
///     .add_model(EmbeddingModelBuilder::new(format!("{goldens}/bert_mean")))
///     .add_model_with_alias("gemma", EmbeddingModelBuilder::new(format!("{goldens}/gemma3_text")))
///     .with_default_model("gemma")
///     .build()
///     .await?;
/// assert_eq!(models.list_models()?, ["bert_mean", "gemma3_text"]);
/// assert_eq!(models.generate_embedding("What is graphene?").await?.len(), 96);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, Default)]
#[must_use = "a builder does nothing until `build` is called"]
pub struct MultiModelBuilder {
    models: Vec<(Option<String>, EmbeddingModelBuilder)>,
    default: Option<String>,
}

impl MultiModelBuilder {
    /// Starts without models.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a model under its own name.
    pub fn add_model(mut self, model: EmbeddingModelBuilder) -> Self {
        self.models.push((None, model));
        self
    }

    /// Adds a model that requests can also name by `alias`. If another model already has its name, as the same model with
    /// another dtype has, requests name it by the alias only.
    pub fn add_model_with_alias(mut self, alias: impl Into<String>, model: EmbeddingModelBuilder) -> Self {
        self.models.push((Some(alias.into()), model));
        self
    }

    /// Chooses the model that answers requests which name none. The default is the first model.
    pub fn with_default_model(mut self, name: impl Into<String>) -> Self {
        self.default = Some(name.into());
        self
    }

    /// Loads the models one after the other, on a thread of their own.
    ///
    /// # Errors
    /// [`Error::Management`] without models or for two models with the same name; [`Error::UnknownModel`] for a default
    /// that is none of the models; the errors of [`EmbeddingModelBuilder::build`].
    pub async fn build(self) -> Result<EmbeddingModel> {
        if self.models.is_empty() {
            let message = "MultiModelBuilder has no models. Add at least one with add_model.";
            return Err(Error::Management(message.to_owned()));
        }
        if self.models.iter().any(|(_, model)| model.logging) {
            logging::show();
        }
        let registry = run_blocking("load", move || {
            let mut registry = Registry::default();
            for (alias, model) in self.models {
                model.load(alias, &mut registry)?;
            }
            if let Some(name) = self.default {
                registry.set_default(&name)?;
            }
            Ok(registry)
        });
        Ok(EmbeddingModel::local(registry.await?))
    }
}
