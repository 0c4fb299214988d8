//! The models of a server, with the methods of models in this process.
//!
//! Each request occupies a thread while it waits for the server, so no async executor is blocked and none is needed.
//! Vectors are sent as base64 of their bits.

mod protocol;
mod token_estimate;
mod transport;

use crate::blocking::run_blocking;
use crate::embeddings::Embeddings;
use crate::engine::ModelInfo;
use crate::error::{Error, Result};
use crate::model::EmbeddingModel;
use crate::request::{EmbeddingRequest, EmbeddingRequestInput};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use protocol::{EmbeddingsAnswer, EmbeddingsBody, ModelEntry, ModelList};
use std::collections::HashMap;
use std::env;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use token_estimate::{PART_TOKENS, TokenEstimate};
use transport::{Failure, Transport};
use ureq::http::StatusCode;

/// A connection to a server.
pub(crate) struct Client {
    transport: Transport,
    models: Vec<String>,
    estimates: Mutex<HashMap<String, TokenEstimate>>,
}

impl EmbeddingModel {
    /// Connects to an embergem server, such as `http://localhost:1234`. Its models have the methods of models in this
    /// process and give the same bits. Only the server's administrator can load and unload models.
    ///
    /// The key in `EMBERGEM_API_KEY`, if there is one, is sent with each request. A request that the server answers with
    /// 429 or 503 and `Retry-After` is sent again after that time. An answer may take ten minutes. After a future is
    /// dropped, no further part of its request is sent; the server finishes the part that it has.
    ///
    /// # Errors
    /// [`Error::Channel`] if no embergem server answers at the address.
    pub async fn connect(url: impl Into<String>) -> Result<Self> {
        Self::connect_with_key(url, env::var("EMBERGEM_API_KEY").ok()).await
    }

    /// [`EmbeddingModel::connect`] with this key, or without a key.
    ///
    /// # Errors
    /// The same.
    pub async fn connect_with_key(url: impl Into<String>, key: Option<String>) -> Result<Self> {
        let url = url.into();
        let address = url
            .trim_end_matches('/')
            .trim_end_matches("/v1")
            .trim_end_matches('/')
            .to_owned();
        let client = run_blocking("connect", move || Client::new(address, key)).await?;
        Ok(Self::remote(client))
    }
}

/// Sets a flag when a future is dropped.
struct SetOnDrop(Arc<AtomicBool>);

impl Drop for SetOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl Client {
    fn new(address: String, key: Option<String>) -> Result<Self> {
        let transport = Transport::new(address, key);
        let list: ModelList = transport.get("/v1/models")?;
        let mut models = Vec::new();
        for model in list.data {
            if !models.contains(&model.root) {
                models.push(model.root); // the list has an entry for each alias, too
            }
        }
        Ok(Self {
            transport,
            models,
            estimates: Mutex::default(),
        })
    }

    /// The address of the server.
    pub fn address(&self) -> &str {
        &self.transport.address
    }

    /// The models that the server had at the time of the connection.
    pub fn models(&self) -> &[String] {
        &self.models
    }

    /// The server's description of a model.
    pub async fn info(self: &Arc<Self>, model: Option<&str>) -> Result<ModelInfo> {
        let client = Arc::clone(self);
        let model = model.unwrap_or("default").to_owned();
        run_blocking("client", move || {
            client.entry(&model)?.info().ok_or_else(|| {
                let address = client.address();
                Error::Management(format!(
                    "{address} has not loaded {model:?}. Embed a text with it first, which loads it."
                ))
            })
        })
        .await
    }

    /// Embeds on the server.
    pub async fn embed(self: &Arc<Self>, request: EmbeddingRequest, model: Option<&str>) -> Result<Embeddings> {
        let client = Arc::clone(self);
        let model = model.unwrap_or("default").to_owned();
        let guard = SetOnDrop(Arc::default());
        let cancelled = Arc::clone(&guard.0);
        let answer = run_blocking("client", move || client.embed_all(&request, &model, &cancelled)).await;
        drop(guard);
        answer
    }

    fn entry(&self, model: &str) -> Result<ModelEntry> {
        self.transport.get(&format!("/v1/models/{model}"))
    }

    /// Sends a request in parts: texts and token ids separately, and each kind in parts of about [`PART_TOKENS`] tokens.
    fn embed_all(&self, request: &EmbeddingRequest, model: &str, cancelled: &AtomicBool) -> Result<Embeddings> {
        let mut result = Embeddings {
            vectors: Vec::new(),
            dimensions: 0,
            tokens: 0,
            truncated: Vec::new(),
        };
        let inputs = &request.inputs;
        let is_tokens = |place: &usize| matches!(inputs[*place], EmbeddingRequestInput::Tokens(_));
        let (tokens, texts): (Vec<usize>, Vec<usize>) = (0..inputs.len()).partition(is_tokens);
        for mut places in [texts.as_slice(), &tokens] {
            while !places.is_empty() {
                let estimate = self.estimate(model, places.iter().map(|place| &inputs[*place]))?;
                let count = estimate.first_part(places.iter().map(|place| &inputs[*place]));
                let (part, rest) = places.split_at(count);
                self.embed_part(request, model, part, &mut result, cancelled)?;
                places = rest;
            }
        }
        result.truncated.sort_unstable();
        Ok(result)
    }

    /// Embeds the inputs at `places`. A part that is too large for the server is sent in halves.
    fn embed_part(
        &self,
        request: &EmbeddingRequest,
        model: &str,
        places: &[usize],
        result: &mut Embeddings,
        cancelled: &AtomicBool,
    ) -> Result<()> {
        if cancelled.load(Ordering::Relaxed) {
            return Err(Error::Closed); // the future was dropped
        }
        let body = EmbeddingsBody::new(model, request, places);
        match self.transport.post("/v1/embeddings", &body, cancelled) {
            Ok(answer) => {
                self.learn(model, request, places, &answer);
                self.store(result, answer, places, request.inputs.len())
            }
            Err(Failure::Answered(StatusCode::PAYLOAD_TOO_LARGE, _)) if places.len() > 1 => {
                let (first, second) = places.split_at(places.len() / 2);
                self.embed_part(request, model, first, result, cancelled)?;
                self.embed_part(request, model, second, result, cancelled)
            }
            Err(failure) => Err(renumbered(failure, places).into()),
        }
    }

    /// The estimate for a model. The server is asked for the model's limit only if the inputs may not fit into one
    /// part.
    fn estimate<'a>(
        &self,
        model: &str,
        inputs: impl IntoIterator<Item = &'a EmbeddingRequestInput>,
    ) -> Result<TokenEstimate> {
        let mut estimate = self.with_estimate(model, |estimate| *estimate);
        let total: usize = inputs.into_iter().map(|input| estimate.size(input)).sum();
        if estimate.limit.is_none() && total > PART_TOKENS {
            let limit = self.entry(model)?.max_tokens; // none if the server has not loaded the model
            estimate = self.with_estimate(model, |estimate| {
                estimate.limit = limit;
                *estimate
            });
        }
        Ok(estimate)
    }

    fn learn(&self, model: &str, request: &EmbeddingRequest, places: &[usize], answer: &EmbeddingsAnswer) {
        if !answer.data.iter().any(|row| row.truncated) {
            let inputs = places.iter().map(|place| &request.inputs[*place]);
            self.with_estimate(model, |estimate| estimate.learn(inputs, answer.usage.prompt_tokens));
        }
    }

    fn with_estimate<T>(&self, model: &str, work: impl FnOnce(&mut TokenEstimate) -> T) -> T {
        let mut estimates = self.estimates.lock().unwrap_or_else(PoisonError::into_inner);
        work(estimates.entry(model.to_owned()).or_default())
    }

    /// Stores the vectors of a part. The answer must have each vector once.
    fn store(&self, result: &mut Embeddings, answer: EmbeddingsAnswer, places: &[usize], count: usize) -> Result<()> {
        let wrong = |what: String| {
            let message = format!("{} sent {what}. Check that it is an embergem server.", self.address());
            Error::Channel(message)
        };
        if answer.data.len() != places.len() {
            let (vectors, inputs) = (answer.data.len(), places.len());
            return Err(wrong(format!("{vectors} vectors for {inputs} inputs")));
        }
        result.tokens += answer.usage.prompt_tokens;
        let mut missing = vec![true; places.len()];
        for row in answer.data {
            if !missing.get_mut(row.index).is_some_and(std::mem::take) {
                let (index, inputs) = (row.index, places.len());
                return Err(wrong(format!("the vector {index} twice, or with only {inputs} inputs")));
            }
            let bytes = STANDARD
                .decode(&row.embedding)
                .map_err(|error| wrong(format!("a vector that is not base64 ({error})")))?;
            let (floats, rest) = bytes.as_chunks::<4>();
            if result.dimensions == 0 {
                result.dimensions = floats.len();
                result.vectors = vec![0.0; count * floats.len()];
            }
            if floats.is_empty() || !rest.is_empty() || floats.len() != result.dimensions {
                return Err(wrong(format!(
                    "{} bytes as the vector of input {}",
                    bytes.len(),
                    row.index
                )));
            }
            let place = places[row.index];
            if row.truncated {
                result.truncated.push(place);
            }
            let target = &mut result.vectors[place * result.dimensions..][..floats.len()];
            for (value, bytes) in target.iter_mut().zip(floats) {
                *value = f32::from_le_bytes(*bytes);
            }
        }
        Ok(())
    }
}

/// The failure with the input at fault counted in the whole request. `places` are the inputs of the part.
fn renumbered(mut failure: Failure, places: &[usize]) -> Failure {
    if let Failure::Answered(_, body) = &mut failure
        && let Some(index) = body.input_index
        && let (Some(place), Some(rest)) = (places.get(index), body.message.strip_prefix(&format!("Input {index} ")))
    {
        body.message = format!("Input {place} {rest}");
    }
    failure
}

#[cfg(test)]
mod tests;
