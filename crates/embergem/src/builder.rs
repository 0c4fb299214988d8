//! Builders: from a model's name to an [`EmbeddingModel`].

use crate::background::on_a_thread;
use crate::error::{Error, Result};
use crate::logging;
use crate::model::EmbeddingModel;
use crate::registry::{Entry, Registry};
use crate::resolve::resolve;
use crate::settings::{EmbeddingLoaderType, ModelDType, Settings, TokenSource};
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
    settings: Settings,
    logging: bool,
}

impl EmbeddingModelBuilder {
    /// Names the model: a directory, a name or alias of the catalog (`minilm`), or a hub id
    /// (`google/embeddinggemma-300m`), looked for in this order.
    pub fn new(model: impl Into<String>) -> Self {
        Self {
            model: model.into(),
            settings: Settings::default(),
            logging: false,
        }
    }

    /// Shows what is done (downloads, loading, warnings) on standard error, unless the program has a logger of the `log`
    /// crate, which gets it then.
    pub fn with_logging(mut self) -> Self {
        self.logging = true;
        self
    }

    /// Reports every batch to the log: rows, tokens, milliseconds, tokens a second.
    pub fn with_throughput_logging(mut self) -> Self {
        self.settings.throughput_logging = true;
        self
    }

    /// Arithmetic of the large products.
    pub fn with_dtype(mut self, dtype: ModelDType) -> Self {
        self.settings.dtype = dtype;
        self
    }

    /// Most threads that this model computes with; all cores by default.
    pub fn with_threads(mut self, threads: usize) -> Self {
        self.settings.threads = Some(threads);
        self
    }

    /// Most rows of one batch. Without it only tokens bound a batch.
    pub fn with_max_num_seqs(mut self, rows: usize) -> Self {
        self.settings.max_num_seqs = Some(rows);
        self
    }

    /// Reads this tokenizer.json in place of the checkpoint's own.
    pub fn with_tokenizer_json(mut self, path: impl Into<PathBuf>) -> Self {
        self.settings.tokenizer_json = Some(path.into());
        self
    }

    /// Insists on a family; `build` fails where the checkpoint is of another.
    pub fn with_loader_type(mut self, family: EmbeddingLoaderType) -> Self {
        self.settings.loader_type = Some(family);
        self
    }

    /// Where the hub's access token comes from.
    pub fn with_token_source(mut self, source: TokenSource) -> Self {
        self.settings.token_source = source;
        self
    }

    /// A branch, tag or commit of the model's repository on the hub; `main` by default. `build` fails with one for a
    /// directory.
    pub fn with_hf_revision(mut self, revision: impl Into<String>) -> Self {
        self.settings.revision = Some(revision.into());
        self
    }

    /// The hub library's cache directory, in place of `$HF_HOME/hub`; looked in before embergem's own cache. `build` fails
    /// with one for a directory.
    pub fn from_hf_cache_path(mut self, path: impl Into<PathBuf>) -> Self {
        self.settings.hf_cache = Some(path.into());
        self
    }

    /// Finds the files, downloading what is not on this machine, and loads the model on a thread of its own.
    ///
    /// # Errors
    /// [`Error::UnknownModel`], [`Error::Download`] or [`Error::GatedModel`] where the files cannot be had;
    /// [`Error::CorruptCheckpoint`], [`Error::MissingTensor`] or [`Error::UnsupportedModel`] where they cannot be used;
    /// [`Error::InsufficientMemory`].
    pub async fn build(self) -> Result<EmbeddingModel> {
        MultiModelBuilder::new().add_model(self).build().await
    }

    /// Blocking: finds the files, loads them and adds the model to the others.
    fn load(self, alias: Option<String>, registry: &mut Registry) -> Result<()> {
        for (name, value) in [
            ("threads", self.settings.threads),
            ("max_num_seqs", self.settings.max_num_seqs),
        ] {
            if value == Some(0) {
                let message = format!("with_{name}(0) is not possible; give 1 or more, or leave it out");
                return Err(Error::RequestValidation(message));
            }
        }
        let location = resolve(&self.model, &self.settings)?;
        let names = registry.names([&location.id, &self.model], alias)?;
        registry.add(Entry::load(location, self.settings, names)?);
        Ok(())
    }
}

/// Loads several models into one [`EmbeddingModel`]; requests name one of them, or get the default.
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
    /// Begins without a model.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a model under its own name.
    pub fn add_model(mut self, model: EmbeddingModelBuilder) -> Self {
        self.models.push((None, model));
        self
    }

    /// Adds a model that can also be asked for as `alias`. Where its own name is taken already, as by the same model with
    /// another dtype, it is known by the alias alone.
    pub fn add_model_with_alias(mut self, alias: impl Into<String>, model: EmbeddingModelBuilder) -> Self {
        self.models.push((Some(alias.into()), model));
        self
    }

    /// Which model answers requests that name none; the first one otherwise.
    pub fn with_default_model(mut self, name: impl Into<String>) -> Self {
        self.default = Some(name.into());
        self
    }

    /// Loads the models one after the other, on a thread of their own.
    ///
    /// # Errors
    /// [`Error::Management`] without a model or where two have one name, [`Error::UnknownModel`] for a default that none
    /// of them is, and the errors of [`EmbeddingModelBuilder::build`].
    pub async fn build(self) -> Result<EmbeddingModel> {
        if self.models.is_empty() {
            let message = "MultiModelBuilder needs at least one model; add one with add_model";
            return Err(Error::Management(message.to_owned()));
        }
        if self.models.iter().any(|(_, model)| model.logging) {
            logging::show();
        }
        let registry = on_a_thread("load", move || {
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
