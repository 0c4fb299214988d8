//! What a caller wants embedded.

use crate::error::{Error, Result};
use std::fmt;

/// What texts are embedded for; the model's prompt for it is put around each text.
///
/// Code is embedded as [`Task::Document`]; only a question about code is [`Task::CodeRetrieval`]. Any other name that a
/// model declares can be given as a string.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Task {
    /// A search query.
    Query,
    /// A text to be found; it may have a title.
    Document,
    /// A question to be answered.
    QuestionAnswering,
    /// A statement to be checked.
    FactVerification,
    /// A text to be sorted into classes.
    Classification,
    /// A text to be grouped with others.
    Clustering,
    /// A text to be compared with others like it; not for retrieval.
    SemanticSimilarity,
    /// A question about code.
    CodeRetrieval,
}

impl Task {
    /// Its name, as models and servers know it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Query => "query",
            Self::Document => "document",
            Self::QuestionAnswering => "question_answering",
            Self::FactVerification => "fact_verification",
            Self::Classification => "classification",
            Self::Clustering => "clustering",
            Self::SemanticSimilarity => "semantic_similarity",
            Self::CodeRetrieval => "code_retrieval",
        }
    }
}

impl fmt::Display for Task {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl From<Task> for String {
    fn from(task: Task) -> Self {
        task.as_str().to_owned()
    }
}

/// One input of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum EmbeddingRequestInput {
    /// A text. Nothing is added to it unless the request names a task.
    Prompt(String),
    /// A text with a title, for a task whose prompt has a place for one.
    Document {
        /// The title.
        title: String,
        /// The text.
        text: String,
    },
    /// Token ids, taken verbatim: no special tokens are added.
    Tokens(Vec<u32>),
}

/// Inputs to embed, and how. Made by [`EmbeddingRequest::builder`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct EmbeddingRequest {
    /// At least one.
    pub inputs: Vec<EmbeddingRequestInput>,
    /// Inputs over the model's limit are cut instead of refused.
    pub truncate_sequence: bool,
    /// Name of a task that the model has a prompt for.
    pub task: Option<String>,
    /// Vectors are cut to this size and scaled to length 1 again.
    pub dimensions: Option<usize>,
}

impl EmbeddingRequest {
    /// Begins a request.
    ///
    /// ```
    /// use embergem::{EmbeddingRequest, Task};
    ///
    /// let request = EmbeddingRequest::builder()
    ///     .add_prompt("What is graphene?")
    ///     .with_task(Task::Query)
    ///     .build()?;
    /// assert_eq!(request.inputs.len(), 1);
    /// # Ok::<(), embergem::Error>(())
    /// ```
    pub fn builder() -> EmbeddingRequestBuilder {
        EmbeddingRequestBuilder::default()
    }
}

/// Collects the inputs of a request. Texts and token ids may be mixed; vectors come back in this order.
#[derive(Clone, Debug, Default)]
#[must_use = "a builder does nothing until it is given to a model"]
pub struct EmbeddingRequestBuilder {
    inputs: Vec<EmbeddingRequestInput>,
    truncate_sequence: bool,
    task: Option<String>,
    dimensions: Option<usize>,
}

impl EmbeddingRequestBuilder {
    /// Adds a text.
    pub fn add_prompt(mut self, prompt: impl Into<String>) -> Self {
        self.inputs.push(EmbeddingRequestInput::Prompt(prompt.into()));
        self
    }

    /// Adds several texts.
    pub fn add_prompts(mut self, prompts: impl IntoIterator<Item = impl Into<String>>) -> Self {
        let prompts = prompts.into_iter().map(Into::into);
        self.inputs.extend(prompts.map(EmbeddingRequestInput::Prompt));
        self
    }

    /// Adds a text with a title; the request needs a task that has a place for it, such as [`Task::Document`].
    pub fn add_document(mut self, title: impl Into<String>, text: impl Into<String>) -> Self {
        self.inputs.push(EmbeddingRequestInput::Document {
            title: title.into(),
            text: text.into(),
        });
        self
    }

    /// Adds a row of token ids, which are taken verbatim.
    pub fn add_tokens(mut self, tokens: impl Into<Vec<u32>>) -> Self {
        self.inputs.push(EmbeddingRequestInput::Tokens(tokens.into()));
        self
    }

    /// Adds several rows of token ids.
    pub fn add_tokens_batch(mut self, batch: impl IntoIterator<Item = Vec<u32>>) -> Self {
        self.inputs.extend(batch.into_iter().map(EmbeddingRequestInput::Tokens));
        self
    }

    /// Whether inputs over the model's limit are cut to it (`true`) or refused (`false`, the default).
    pub fn with_truncate_sequence(mut self, truncate: bool) -> Self {
        self.truncate_sequence = truncate;
        self
    }

    /// Puts the model's prompt for a [`Task`], or for another name that it declares, around each text.
    pub fn with_task(mut self, task: impl Into<String>) -> Self {
        self.task = Some(task.into());
        self
    }

    /// Cuts the vectors to one of the sizes that the model was trained for; see [`crate::ModelInfo`].
    pub fn with_dimensions(mut self, dimensions: usize) -> Self {
        self.dimensions = Some(dimensions);
        self
    }

    /// Checks the request as far as that needs no model. Models take the builder itself and do this.
    ///
    /// # Errors
    /// [`Error::EmptyInput`] without an input or with a row without a token; [`Error::InvalidTask`] for a task beside
    /// token ids, which are embedded as they are.
    pub fn build(self) -> Result<EmbeddingRequest> {
        if self.inputs.is_empty() {
            let message = "an embedding request needs at least one input; add one with add_prompt or add_tokens";
            return Err(Error::EmptyInput(message.to_owned()));
        }
        for (index, input) in self.inputs.iter().enumerate() {
            if let EmbeddingRequestInput::Tokens(tokens) = input {
                if tokens.is_empty() {
                    return Err(Error::EmptyInput(format!(
                        "input {index} is a list without a token id. Give it at least one, or leave it away."
                    )));
                }
                if let Some(task) = &self.task {
                    return Err(Error::InvalidTask(format!(
                        "the task {task:?} needs texts, and input {index} is token ids, which are embedded as they are"
                    )));
                }
            }
        }
        Ok(EmbeddingRequest {
            inputs: self.inputs,
            truncate_sequence: self.truncate_sequence,
            task: self.task,
            dimensions: self.dimensions,
        })
    }
}
