//! A server's models with the methods of those in this process.
//!
//! Each request has a thread as long as it waits for the server, so that no async executor is blocked and none is
//! required. Vectors travel as base64 of their bits.

use crate::background::on_a_thread;
use crate::embeddings::Embeddings;
use crate::engine::ModelInfo;
use crate::error::{Error, Result};
use crate::model::EmbeddingModel;
use crate::request::{EmbeddingRequest, EmbeddingRequestInput};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use std::env;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};
use ureq::http::{HeaderMap, StatusCode};

/// Bytes of text, or of token ids, that go into one request to the server; longer lists are split.
const BYTES_A_REQUEST: usize = 1 << 20;
/// Inputs of one request: as the Python client, and far below what servers take.
const INPUTS_A_REQUEST: usize = 256;
/// Most bytes of an answer.
const ANSWER_BYTES: u64 = 1 << 30;
/// How often a request that the server puts off is sent again.
const RETRIES: u32 = 5;
/// Longest time for one answer.
const LONGEST_ANSWER: Duration = Duration::from_secs(600);
/// Longest wait that a server may ask for.
const LONGEST_WAIT: Duration = Duration::from_secs(60);
/// How often a thread that waits looks whether its future is still there.
const GLANCE: Duration = Duration::from_millis(50);

/// A connection to a server.
pub(crate) struct Client {
    address: String,
    agent: ureq::Agent,
    key: Option<String>,
    models: Vec<String>,
}

impl EmbeddingModel {
    /// Connects to an embergem server, such as `http://localhost:1234`. Its models have the methods of those in this
    /// process and give the same bits; those that load and unload are for the server's administrator.
    ///
    /// A key in `EMBERGEM_API_KEY` is sent along. What the server puts off (status 429 or 503 with a `Retry-After`) is
    /// sent again when it says; an answer may take ten minutes. Of a dropped future nothing more is sent, but what the
    /// server has begun it ends.
    ///
    /// # Errors
    /// [`Error::Channel`] where nobody answers as a server of embeddings does.
    pub async fn connect(url: impl Into<String>) -> Result<Self> {
        Self::connect_with_key(url, env::var("EMBERGEM_API_KEY").ok()).await
    }

    /// [`EmbeddingModel::connect`] with this key, or without one.
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
        let client = on_a_thread("connect", move || Client::new(address, key)).await?;
        Ok(Self::remote(client))
    }
}

#[derive(Serialize)]
struct Body<'a> {
    model: &'a str,
    input: Input<'a>,
    encoding_format: &'static str,
    truncate_sequence: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    dimensions: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    task: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    title: Option<Vec<Option<&'a str>>>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Input<'a> {
    Texts(Vec<&'a str>),
    Tokens(Vec<&'a [u32]>),
}

#[derive(Deserialize)]
struct Answer {
    data: Vec<Row>,
    usage: Usage,
}

#[derive(Deserialize)]
struct Row {
    index: usize,
    embedding: String,
    #[serde(default)]
    truncated: bool,
}

#[derive(Deserialize)]
struct Usage {
    prompt_tokens: usize,
}

#[derive(Deserialize)]
struct Failure {
    error: Reason,
}

#[derive(Deserialize)]
struct Reason {
    message: String,
    code: Option<String>,
}

#[derive(Deserialize)]
struct Models {
    data: Vec<Served>,
}

/// A model as a server lists it; what is null is not known before the model is loaded.
#[derive(Deserialize)]
struct Served {
    root: String,
    dimensions: Option<usize>,
    allowed_dimensions: Option<Vec<usize>>,
    max_tokens: Option<usize>,
    tasks: Option<Vec<String>>,
    dtype: Option<String>,
}

/// Tells a thread that its future is no longer there.
struct Gone(Arc<AtomicBool>);

impl Drop for Gone {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl Client {
    fn new(address: String, key: Option<String>) -> Result<Self> {
        let agent = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .timeout_connect(Some(Duration::from_secs(10)))
            .timeout_global(Some(LONGEST_ANSWER))
            .build()
            .new_agent();
        let mut client = Self {
            address,
            agent,
            key,
            models: Vec::new(),
        };
        let models: Models = client.call("/v1/models", None, &AtomicBool::new(false))?;
        for model in models.data {
            if !client.models.contains(&model.root) {
                client.models.push(model.root); // the same model is listed by other names, too
            }
        }
        Ok(client)
    }

    /// Where the server is.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// What the server had when it was connected to.
    pub fn models(&self) -> &[String] {
        &self.models
    }

    /// What the server says of a model now.
    pub async fn info(self: &Arc<Self>, model: Option<&str>) -> Result<ModelInfo> {
        let client = Arc::clone(self);
        let model = model.unwrap_or("default").to_owned();
        on_a_thread("client", move || {
            let path = format!("/v1/models/{model}");
            let served: Served = client.call(&path, None, &AtomicBool::new(false))?;
            served.info().ok_or_else(|| {
                let address = &client.address;
                Error::Management(format!("{address} has not loaded {model:?}; ask it for a vector first"))
            })
        })
        .await
    }

    /// Embeds on the server.
    pub async fn embed(self: &Arc<Self>, request: EmbeddingRequest, model: Option<&str>) -> Result<Embeddings> {
        let client = Arc::clone(self);
        let model = model.unwrap_or("default").to_owned();
        let gone = Gone(Arc::default());
        let seen = Arc::clone(&gone.0);
        let answer = on_a_thread("client", move || client.embed_all(&request, &model, &seen)).await;
        drop(gone);
        answer
    }

    fn embed_all(&self, request: &EmbeddingRequest, model: &str, gone: &AtomicBool) -> Result<Embeddings> {
        let mut all = Embeddings {
            vectors: Vec::new(),
            dimensions: 0,
            tokens: 0,
            truncated: Vec::new(),
        };
        for part in parts(&request.inputs) {
            if gone.load(Ordering::Relaxed) {
                return Err(Error::Closed); // nobody is there to read it
            }
            let body = body(request, &part, model);
            let answer: Answer = self.call("/v1/embeddings", Some(&body), gone)?;
            all.tokens += answer.usage.prompt_tokens;
            self.store(&mut all, answer, &part, request.inputs.len())?;
        }
        all.truncated.sort_unstable();
        Ok(all)
    }

    /// Puts the rows of a part where they belong; each must be there once.
    fn store(&self, all: &mut Embeddings, answer: Answer, part: &[usize], count: usize) -> Result<()> {
        let wrong = |what: String| Error::Channel(format!("{} sent {what}", self.address));
        if answer.data.len() != part.len() {
            return Err(wrong(format!(
                "{} vectors for {} inputs",
                answer.data.len(),
                part.len()
            )));
        }
        let mut missing = vec![true; part.len()];
        for row in answer.data {
            if !missing.get_mut(row.index).is_some_and(std::mem::take) {
                let index = row.index;
                return Err(wrong(format!(
                    "a vector {index}, twice or of none of {} inputs",
                    part.len()
                )));
            }
            let bytes = STANDARD
                .decode(&row.embedding)
                .map_err(|error| wrong(format!("no base64: {error}")))?;
            let (floats, rest) = bytes.as_chunks::<4>();
            if all.dimensions == 0 {
                all.dimensions = floats.len();
                all.vectors = vec![0.0; count * floats.len()];
            }
            if floats.is_empty() || !rest.is_empty() || floats.len() != all.dimensions {
                return Err(wrong(format!(
                    "{} bytes as the vector of input {}",
                    bytes.len(),
                    row.index
                )));
            }
            let place = part[row.index];
            if row.truncated {
                all.truncated.push(place);
            }
            let target = &mut all.vectors[place * all.dimensions..][..floats.len()];
            target
                .iter_mut()
                .zip(floats)
                .for_each(|(value, bytes)| *value = f32::from_le_bytes(*bytes));
        }
        Ok(())
    }

    /// Sends a request and reads its answer; waits and sends again where the server puts it off.
    fn call<T: for<'de> Deserialize<'de>>(&self, path: &str, body: Option<&Body<'_>>, gone: &AtomicBool) -> Result<T> {
        let lost = |error: &dyn std::fmt::Display| {
            let message = format!("no answer from {}: {error}. Is a server running there?", self.address);
            Error::Channel(message)
        };
        let url = format!("{}{path}", self.address);
        let sent = body.map(|body| serde_json::to_vec(body).expect("strings and numbers are always JSON"));
        for attempt in 0.. {
            let answer = match &sent {
                Some(json) => self
                    .authorized(self.agent.post(&url))
                    .content_type("application/json")
                    .send(json),
                None => self.authorized(self.agent.get(&url)).call(),
            };
            let mut answer = answer.map_err(|error| lost(&error))?;
            let status = answer.status();
            let text = answer
                .body_mut()
                .with_config()
                .limit(ANSWER_BYTES)
                .read_to_vec()
                .map_err(|error| lost(&error))?;
            if status.is_success() {
                return serde_json::from_slice(&text).map_err(|error| {
                    Error::Channel(format!("{url} doesn't answer as a server of embeddings: {error}"))
                });
            }
            match wait(status, answer.headers()) {
                Some(time) if attempt < RETRIES && sleep(time, gone) => {}
                _ => return Err(self.failure(status, &text)),
            }
        }
        unreachable!("the loop ends by returning")
    }

    fn authorized<B>(&self, request: ureq::RequestBuilder<B>) -> ureq::RequestBuilder<B> {
        match &self.key {
            Some(key) => request.header("authorization", format!("Bearer {key}")),
            None => request,
        }
    }

    fn failure(&self, status: StatusCode, text: &[u8]) -> Error {
        match serde_json::from_slice::<Failure>(text) {
            Ok(Failure { error }) => Error::from_server(
                status.as_u16(),
                error.code.as_deref().unwrap_or_default(),
                error.message,
            ),
            Err(_) => Error::Channel(format!(
                "{} answered {status} without a reason that can be read",
                self.address
            )),
        }
    }
}

impl Served {
    fn info(self) -> Option<ModelInfo> {
        Some(ModelInfo {
            id: self.root,
            dimensions: self.dimensions?,
            allowed_dimensions: self.allowed_dimensions?,
            max_sequence_length: self.max_tokens?,
            tasks: self.tasks?,
            dtype: self.dtype?,
        })
    }
}

/// Splits inputs into requests that a server takes: of one kind, and not too long.
fn parts(inputs: &[EmbeddingRequestInput]) -> Vec<Vec<usize>> {
    let mut parts: [Vec<Vec<usize>>; 2] = Default::default();
    let mut room = [0usize; 2];
    for (index, input) in inputs.iter().enumerate() {
        let (kind, bytes) = match input {
            EmbeddingRequestInput::Prompt(text) => (0, text.len()),
            EmbeddingRequestInput::Document { title, text } => (0, title.len() + text.len()),
            EmbeddingRequestInput::Tokens(tokens) => (1, 8 * tokens.len()),
        };
        let bytes = bytes + 16;
        match parts[kind].last_mut() {
            Some(part) if bytes <= room[kind] && part.len() < INPUTS_A_REQUEST => {
                part.push(index);
                room[kind] -= bytes;
            }
            _ => {
                parts[kind].push(vec![index]);
                room[kind] = BYTES_A_REQUEST.saturating_sub(bytes);
            }
        }
    }
    parts.into_iter().flatten().collect()
}

fn body<'a>(request: &'a EmbeddingRequest, part: &[usize], model: &'a str) -> Body<'a> {
    let (mut texts, mut titles, mut tokens) = (Vec::new(), Vec::new(), Vec::new());
    for index in part {
        match &request.inputs[*index] {
            EmbeddingRequestInput::Prompt(text) => {
                texts.push(text.as_str());
                titles.push(None);
            }
            EmbeddingRequestInput::Document { title, text } => {
                texts.push(text.as_str());
                titles.push(Some(title.as_str()));
            }
            EmbeddingRequestInput::Tokens(ids) => tokens.push(ids.as_slice()),
        }
    }
    Body {
        model,
        title: titles.iter().any(Option::is_some).then_some(titles),
        input: if tokens.is_empty() {
            Input::Texts(texts)
        } else {
            Input::Tokens(tokens)
        },
        encoding_format: "base64",
        truncate_sequence: request.truncate_sequence,
        dimensions: request.dimensions,
        task: request.task.as_deref(),
    }
}

/// How long the server asks to wait, where it asks for that.
fn wait(status: StatusCode, headers: &HeaderMap) -> Option<Duration> {
    let put_off = [StatusCode::TOO_MANY_REQUESTS, StatusCode::SERVICE_UNAVAILABLE].contains(&status);
    let seconds: f64 = headers.get("retry-after")?.to_str().ok()?.trim().parse().ok()?;
    let time = Duration::try_from_secs_f64(seconds).ok()?;
    (put_off && time <= LONGEST_WAIT).then_some(time)
}

/// Waits; false when the future went away meanwhile.
fn sleep(time: Duration, gone: &AtomicBool) -> bool {
    let end = Instant::now() + time;
    while !gone.load(Ordering::Relaxed) {
        match end.checked_duration_since(Instant::now()) {
            Some(left) if !left.is_zero() => thread::sleep(left.min(GLANCE)),
            _ => return true,
        }
    }
    false
}

#[cfg(test)]
mod tests;
