//! Requests, and the builder that makes them.

use crate::error::{Error, Result};
use embergem_text::InputError;
use std::fmt;

/// The purpose of a text. The model's prompt for the task is put around each text.
///
/// Embed code as [`Task::Document`], and a question about code as [`Task::CodeRetrieval`]. Any other task that a model
/// declares can be given as a string.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Task {
    /// A search query.
    Query,
    /// A text that queries search for. It may have a title.
    Document,
    /// A question.
    QuestionAnswering,
    /// A statement whose truth is checked.
    FactVerification,
    /// A text that is classified.
    Classification,
    /// A text that is clustered with others.
    Clustering,
    /// A text that is compared with others of its kind. Not for retrieval.
    SemanticSimilarity,
    /// A question about code.
    CodeRetrieval,
}

impl Task {
    /// The name of the task in models and in the HTTP API.
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
    /// A text with a title, for a task whose prompt has a place for a title.
    Document {
        /// The title.
        title: String,
        /// The text.
        text: String,
    },
    /// Token ids. Nothing is added to them.
    Tokens(Vec<u32>),
}

/// Inputs and options of one request. [`EmbeddingRequest::builder`] makes it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct EmbeddingRequest {
    /// The inputs, at least one.
    pub inputs: Vec<EmbeddingRequestInput>,
    /// Whether inputs over the model's limit are cut instead of refused.
    pub truncate_sequence: bool,
    /// Name of a task.
    pub task: Option<String>,
    /// Size of the vectors. They are shortened to it and scaled to length 1 again.
    pub dimensions: Option<usize>,
}

impl EmbeddingRequest {
    /// Starts a request without inputs.
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

/// Collects the inputs of a request. Texts and token ids may be mixed. Vectors have the order of the inputs.
#[derive(Clone, Debug, Default)]
#[must_use = "a builder does nothing until it is passed to a model"]
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

    /// Adds a text with a title. The request needs a task whose prompt has a place for a title, such as
    /// [`Task::Document`].
    pub fn add_document(mut self, title: impl Into<String>, text: impl Into<String>) -> Self {
        self.inputs.push(EmbeddingRequestInput::Document {
            title: title.into(),
            text: text.into(),
        });
        self
    }

    /// Adds a row of token ids. Nothing is added to them.
    pub fn add_tokens(mut self, tokens: impl Into<Vec<u32>>) -> Self {
        self.inputs.push(EmbeddingRequestInput::Tokens(tokens.into()));
        self
    }

    /// Adds several rows of token ids.
    pub fn add_tokens_batch(mut self, batch: impl IntoIterator<Item = Vec<u32>>) -> Self {
        self.inputs.extend(batch.into_iter().map(EmbeddingRequestInput::Tokens));
        self
    }

    /// Chooses whether inputs over the model's limit are cut to it (`true`) or refused (`false`, the default).
    pub fn with_truncate_sequence(mut self, truncate: bool) -> Self {
        self.truncate_sequence = truncate;
        self
    }

    /// Puts the model's prompt for a task around each text. The task is a [`Task`] or another name that the model declares.
    pub fn with_task(mut self, task: impl Into<String>) -> Self {
        self.task = Some(task.into());
        self
    }

    /// Shortens the vectors to one of the sizes that the model was trained for; see [`crate::ModelInfo`].
    pub fn with_dimensions(mut self, dimensions: usize) -> Self {
        self.dimensions = Some(dimensions);
        self
    }

    /// Checks what can be checked without a model. The methods of a model take the builder and call this.
    ///
    /// # Errors
    /// [`Error::EmptyInput`] without an input or for a row without token ids; [`Error::InvalidTask`] for a task together
    /// with token ids, which are embedded as they are.
    pub fn build(self) -> Result<EmbeddingRequest> {
        if self.inputs.is_empty() {
            let message = "There are no texts. Give at least one; a text may be empty.";
            return Err(Error::EmptyInput(message.to_owned()));
        }
        for (index, input) in self.inputs.iter().enumerate() {
            if let EmbeddingRequestInput::Tokens(tokens) = input {
                if tokens.is_empty() {
                    let problem = InputError::Empty;
                    return Err(embergem_text::Error::Input { index, problem }.into());
                }
                if let Some(task) = &self.task {
                    return Err(Error::InvalidTask(format!(
                        "The task {task:?} needs texts, and input {index} is token ids, which are embedded as they are. \
                         Leave the task out, or give texts."
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
