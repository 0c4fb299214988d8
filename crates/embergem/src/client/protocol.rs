//! The bodies of the HTTP API that the client sends and reads. docs/http.md describes them.

use crate::engine::ModelInfo;
use crate::request::{EmbeddingRequest, EmbeddingRequestInput};
use serde::{Deserialize, Serialize};

/// Body of `POST /v1/embeddings`.
#[derive(Serialize)]
pub(super) struct EmbeddingsBody<'a> {
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

impl<'a> EmbeddingsBody<'a> {
    /// The body for the inputs of a request at `places`, which are all texts or all token ids.
    pub fn new(model: &'a str, request: &'a EmbeddingRequest, places: &[usize]) -> Self {
        let (mut texts, mut titles, mut tokens) = (Vec::new(), Vec::new(), Vec::new());
        for place in places {
            match &request.inputs[*place] {
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
        Self {
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
}

/// Answer of `POST /v1/embeddings`.
#[derive(Deserialize)]
pub(super) struct EmbeddingsAnswer {
    pub data: Vec<EmbeddingRow>,
    pub usage: Usage,
}

/// One vector: base64 of its little-endian floats.
#[derive(Deserialize)]
pub(super) struct EmbeddingRow {
    pub index: usize,
    pub embedding: String,
    #[serde(default)]
    pub truncated: bool,
}

#[derive(Deserialize)]
pub(super) struct Usage {
    pub prompt_tokens: usize,
}

/// Answer that is not a success.
#[derive(Deserialize)]
pub(super) struct ErrorAnswer {
    pub error: ErrorBody,
}

#[derive(Deserialize)]
pub(super) struct ErrorBody {
    pub message: String,
    pub code: Option<String>,
    pub input_index: Option<usize>,
}

/// Answer of `GET /v1/models`.
#[derive(Deserialize)]
pub(super) struct ModelList {
    pub data: Vec<ModelEntry>,
}

/// A model of the server. Fields are null until the server has loaded the model.
#[derive(Deserialize)]
pub(super) struct ModelEntry {
    pub root: String,
    dimensions: Option<usize>,
    allowed_dimensions: Option<Vec<usize>>,
    pub max_tokens: Option<usize>,
    tasks: Option<Vec<String>>,
    dtype: Option<String>,
}

impl ModelEntry {
    /// The description of the model; none if the server has not loaded it.
    pub fn info(self) -> Option<ModelInfo> {
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
