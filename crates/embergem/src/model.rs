//! [`EmbeddingModel`], the handle of a program.

use crate::blocking::run_blocking;
use crate::embeddings::Embeddings;
use crate::engine::ModelInfo;
#[cfg(any(doc, feature = "client"))]
use crate::error::Error;
use crate::error::Result;
use crate::registry::{Entry, ModelStatus, Registry};
use crate::request::{EmbeddingRequest, EmbeddingRequestBuilder};
use crate::worker::Worker;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// One or several models, in this process or on a server. Clones share the models. The type is `Send` and `Sync`.
///
/// Requests of all async tasks are packed into common batches, first in, first out. No method blocks an async executor,
/// and every executor works. Dropping a future stops its work.
#[derive(Clone)]
pub struct EmbeddingModel {
    backend: Backend,
}

#[derive(Clone)]
enum Backend {
    Local(Arc<Mutex<Registry>>),
    #[cfg(feature = "client")]
    Remote(Arc<crate::client::Client>),
}

impl EmbeddingModel {
    pub(crate) fn local(registry: Registry) -> Self {
        Self {
            backend: Backend::Local(Arc::new(Mutex::new(registry))),
        }
    }

    #[cfg(feature = "client")]
    pub(crate) fn remote(client: crate::client::Client) -> Self {
        Self {
            backend: Backend::Remote(Arc::new(client)),
        }
    }

    /// Embeds with the default model. Returns a vector for each input, in order.
    ///
    /// # Errors
    /// [`Error::EmptyInput`], [`Error::InvalidText`], [`Error::TokenOutOfRange`], [`Error::InputTooLong`],
    /// [`Error::InvalidTask`] or [`Error::InvalidDimensions`] if the request cannot be embedded.
    pub async fn generate_embeddings(&self, request: EmbeddingRequestBuilder) -> Result<Vec<Vec<f32>>> {
        self.generate_embeddings_with_model(request, None).await
    }

    /// Embeds with the model of this name or alias; `None` means the default model.
    ///
    /// # Errors
    /// As [`EmbeddingModel::generate_embeddings`], and [`Error::UnknownModel`].
    pub async fn generate_embeddings_with_model(
        &self,
        request: EmbeddingRequestBuilder,
        model: Option<&str>,
    ) -> Result<Vec<Vec<f32>>> {
        Ok(self.embed_with_model(request, model).await?.into_vecs())
    }

    /// Embeds one text without a prompt, with the default model.
    ///
    /// # Errors
    /// As [`EmbeddingModel::generate_embeddings`].
    pub async fn generate_embedding(&self, prompt: impl ToString) -> Result<Vec<f32>> {
        self.generate_embedding_with_model(prompt, None).await
    }

    /// Embeds one text without a prompt, with the model of this name or alias.
    ///
    /// # Errors
    /// As [`EmbeddingModel::generate_embeddings_with_model`].
    pub async fn generate_embedding_with_model(&self, prompt: impl ToString, model: Option<&str>) -> Result<Vec<f32>> {
        let request = EmbeddingRequest::builder().add_prompt(prompt.to_string());
        Ok(self.embed_with_model(request, model).await?.into_flat())
    }

    /// Like [`EmbeddingModel::generate_embeddings`], with all vectors in one allocation, the number of tokens, and the
    /// positions of truncated inputs.
    ///
    /// # Errors
    /// The same.
    pub async fn embed(&self, request: EmbeddingRequestBuilder) -> Result<Embeddings> {
        self.embed_with_model(request, None).await
    }

    /// [`EmbeddingModel::embed`] with the model of this name or alias.
    ///
    /// # Errors
    /// As [`EmbeddingModel::generate_embeddings_with_model`].
    pub async fn embed_with_model(&self, request: EmbeddingRequestBuilder, model: Option<&str>) -> Result<Embeddings> {
        let request = request.build()?;
        match &self.backend {
            Backend::Local(_) => self.worker(model).await?.embed(request).await,
            #[cfg(feature = "client")]
            Backend::Remote(client) => client.embed(request, model).await,
        }
    }

    /// Describes the default model.
    ///
    /// # Errors
    /// Those of [`crate::EmbeddingModelBuilder::build`], if the model was unloaded.
    pub async fn info(&self) -> Result<ModelInfo> {
        self.info_with_model(None).await
    }

    /// Describes the model of this name or alias.
    ///
    /// # Errors
    /// [`Error::UnknownModel`], and those of [`crate::EmbeddingModelBuilder::build`], if the model was unloaded.
    pub async fn info_with_model(&self, model: Option<&str>) -> Result<ModelInfo> {
        match &self.backend {
            Backend::Local(_) => Ok(self.worker(model).await?.engine().info.clone()),
            #[cfg(feature = "client")]
            Backend::Remote(client) => client.info(model).await,
        }
    }

    /// Lists the ids of all models, loaded or not, in the order in which they were added. For a server, it lists the models
    /// that the server had at the time of the connection.
    ///
    /// # Errors
    /// None at present.
    pub fn list_models(&self) -> Result<Vec<String>> {
        match &self.backend {
            Backend::Local(registry) => Ok(locked(registry)
                .entries()
                .iter()
                .map(|entry| entry.id().to_owned())
                .collect()),
            #[cfg(feature = "client")]
            Backend::Remote(client) => Ok(client.models().to_vec()),
        }
    }

    /// Returns the id of the model that answers requests which name none.
    ///
    /// # Errors
    /// [`Error::Management`] for a server, which does not tell its default.
    pub fn get_default_model_id(&self) -> Result<Option<String>> {
        Ok(Some(locked(self.registry()?).get(None)?.id().to_owned()))
    }

    /// Makes another model the default.
    ///
    /// # Errors
    /// [`Error::UnknownModel`]; [`Error::Management`] for a server.
    pub fn set_default_model_id(&self, model: &str) -> Result<()> {
        locked(self.registry()?).set_default(model)
    }

    /// Lists every model with its status, in the order in which they were added.
    ///
    /// # Errors
    /// [`Error::Management`] for a server.
    pub fn list_models_with_status(&self) -> Result<Vec<(String, ModelStatus)>> {
        let registry = locked(self.registry()?);
        let entries = registry.entries().iter();
        Ok(entries.map(|entry| (entry.id().to_owned(), entry.status())).collect())
    }

    /// Returns whether a model is in memory.
    ///
    /// # Errors
    /// [`Error::UnknownModel`]; [`Error::Management`] for a server.
    pub fn is_model_loaded(&self, model: &str) -> Result<bool> {
        Ok(self.entry(Some(model))?.status() == ModelStatus::Loaded)
    }

    /// Frees a model's memory when its running requests are done. The next request for it loads it again.
    ///
    /// # Errors
    /// [`Error::UnknownModel`]; [`Error::Management`] for a server.
    pub fn unload_model(&self, model: &str) -> Result<()> {
        self.entry(Some(model))?.unload();
        Ok(())
    }

    /// Loads a model that was unloaded. A loaded model is not changed.
    ///
    /// # Errors
    /// [`Error::UnknownModel`], those of [`crate::EmbeddingModelBuilder::build`], and [`Error::Management`] for a server.
    pub async fn reload_model(&self, model: &str) -> Result<()> {
        let entry = self.entry(Some(model))?;
        run_blocking("load", move || entry.reload().map(drop)).await
    }

    /// Removes a model. If it was the default, the first of the others becomes the default.
    ///
    /// # Errors
    /// [`Error::UnknownModel`]; [`Error::Management`] for the last model, and for a server.
    pub fn remove_model(&self, model: &str) -> Result<()> {
        locked(self.registry()?).remove(model)
    }

    fn registry(&self) -> Result<&Mutex<Registry>> {
        match &self.backend {
            Backend::Local(registry) => Ok(registry),
            #[cfg(feature = "client")]
            Backend::Remote(client) => Err(Error::Management(format!(
                "Clients cannot manage the models of {}. Manage them on the server.",
                client.address()
            ))),
        }
    }

    fn entry(&self, model: Option<&str>) -> Result<Arc<Entry>> {
        Ok(Arc::clone(locked(self.registry()?).get(model)?))
    }

    /// The threads of a model. Loads the model if it was unloaded.
    async fn worker(&self, model: Option<&str>) -> Result<Arc<Worker>> {
        let entry = self.entry(model)?;
        match entry.worker() {
            Some(worker) => Ok(worker),
            None => run_blocking("load", move || entry.reload()).await,
        }
    }
}

fn locked(registry: &Mutex<Registry>) -> MutexGuard<'_, Registry> {
    registry.lock().unwrap_or_else(PoisonError::into_inner)
}
