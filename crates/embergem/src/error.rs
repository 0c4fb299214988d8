//! The one error type of this crate.

/// What can go wrong between a model's name and a vector. The message says what happened and what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The request cannot be embedded.
    #[error("{0}")]
    RequestValidation(String),
    /// There is nothing to embed: the request has no input, or a row has no token id.
    #[error("{0}")]
    EmptyInput(String),
    /// The model's tokenizer cannot read a text.
    #[error("{0}")]
    InvalidText(String),
    /// A token id is outside the model's embedding table.
    #[error("{0}")]
    TokenOutOfRange(String),
    /// An input has more tokens than the model reads, and the request does not allow truncation.
    #[error("{0}")]
    InputTooLong(String),
    /// This model or this input cannot use the task or the title.
    #[error("{0}")]
    InvalidTask(String),
    /// The model was not trained for vectors of this size.
    #[error("{0}")]
    InvalidDimensions(String),
    /// An option has a value that is not possible, or does not apply to this model.
    #[error("{0}")]
    UnsupportedOption(String),
    /// No model has this name.
    #[error("{0}")]
    UnknownModel(String),
    /// The files of a model could not be downloaded.
    #[error("{0}")]
    Download(String),
    /// The hub requires an accepted licence.
    #[error("{0}")]
    GatedModel(String),
    /// A file of a checkpoint is damaged, missing or contradicts another file.
    #[error("{0}")]
    CorruptCheckpoint(String),
    /// A tensor that the model needs is missing, has another shape or contains NaN.
    #[error("{0}")]
    MissingTensor(String),
    /// An architecture, a module or a setting that this crate does not have.
    #[error("{0}")]
    UnsupportedModel(String),
    /// The model failed its self-check and must not answer.
    #[error("{0}")]
    ModelNotReady(String),
    /// The weights of a model, or the buffers of a batch, do not fit into the free memory.
    #[error("{0}")]
    InsufficientMemory(String),
    /// A file of the model was overwritten or cut short while the model was loaded. Unload the model and load it again.
    #[error("{0}")]
    ModelFailed(String),
    /// A vector contains NaN or infinity. No vectors were returned.
    #[error("{0}")]
    NonFiniteOutput(String),
    /// An operation on the models of a [`crate::EmbeddingModel`] is not possible.
    #[error("{0}")]
    Management(String),
    /// The model was closed before the request was done.
    #[error("the model was closed before the request was done")]
    Closed,
    /// A server cannot be reached, or its answer is not valid.
    #[error("{0}")]
    Channel(String),
    /// A server refused a request for a reason without a variant of its own.
    #[error("the server answered {status}: {message}")]
    Server {
        /// HTTP status.
        status: u16,
        /// The server's code of the error, such as `overloaded`.
        code: String,
        /// The server's message.
        message: String,
    },
}

/// Result with this crate's [`Error`].
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// The code of this error in the HTTP API, which Python errors have as `code`; docs/http.md lists the codes.
    pub fn code(&self) -> &str {
        match self {
            Self::RequestValidation(_) | Self::Management(_) => "invalid_request",
            Self::EmptyInput(_) => "empty_input",
            Self::InvalidText(_) => "invalid_text",
            Self::TokenOutOfRange(_) => "token_out_of_range",
            Self::InputTooLong(_) => "context_length_exceeded",
            Self::InvalidTask(_) => "invalid_task",
            Self::InvalidDimensions(_) => "invalid_dimensions",
            Self::UnsupportedOption(_) => "unsupported_option",
            Self::UnknownModel(_) => "model_not_found",
            Self::Download(_) => "download_failed",
            Self::GatedModel(_) => "gated_model",
            Self::CorruptCheckpoint(_) => "corrupt_checkpoint",
            Self::MissingTensor(_) => "missing_tensor",
            Self::UnsupportedModel(_) => "unsupported_model",
            Self::ModelNotReady(_) => "model_not_ready",
            Self::InsufficientMemory(_) => "insufficient_memory",
            Self::ModelFailed(_) => "model_failed",
            Self::NonFiniteOutput(_) => "non_finite_output",
            Self::Closed => "engine_closed",
            Self::Channel(_) => "server_unreachable",
            Self::Server { code, .. } => code,
        }
    }
}

impl From<embergem_core::Error> for Error {
    fn from(error: embergem_core::Error) -> Self {
        use embergem_core::Error as Core;
        let message = error.to_string();
        match error {
            Core::Io { .. } | Core::Corrupt { .. } | Core::Changed(_) => Self::CorruptCheckpoint(message),
            Core::Tensor { .. } => Self::MissingTensor(message),
            Core::Unread { .. } => Self::UnsupportedModel(message),
            Core::Batch(_) => Self::RequestValidation(message),
            Core::Memory { .. } | Core::OutOfMemory { .. } => Self::InsufficientMemory(message),
            Core::FileChanged(_) => Self::ModelFailed(message),
            Core::NonFinite { .. } => Self::NonFiniteOutput(message),
            Core::Cancelled => Self::Closed,
            _ => Self::UnsupportedModel(message),
        }
    }
}

impl From<embergem_checkpoint::Error> for Error {
    fn from(error: embergem_checkpoint::Error) -> Self {
        match error {
            embergem_checkpoint::Error::Corrupt(message) => Self::CorruptCheckpoint(message),
            embergem_checkpoint::Error::Unsupported(message) => Self::UnsupportedModel(message),
        }
    }
}

impl From<embergem_text::Error> for Error {
    fn from(error: embergem_text::Error) -> Self {
        use embergem_text::{Error as Text, InputError};
        let message = error.to_string();
        match error {
            Text::Corrupt { .. } => Self::CorruptCheckpoint(message),
            Text::Empty(_) => Self::EmptyInput(message),
            Text::Task(_) => Self::InvalidTask(message),
            Text::Cancelled => Self::Closed,
            Text::Input { problem, .. } => match problem {
                InputError::Empty => Self::EmptyInput(message),
                InputError::OutOfRange { .. } => Self::TokenOutOfRange(message),
                InputError::TooLong { .. } => Self::InputTooLong(message),
                InputError::Tokenize(_) => Self::InvalidText(message),
                InputError::OutOfMemory => Self::InsufficientMemory(message),
                _ => Self::RequestValidation(message),
            },
            _ => Self::UnsupportedModel(message),
        }
    }
}

#[cfg(feature = "client")]
impl Error {
    /// The error that a server answered with.
    pub(crate) fn from_server(status: u16, code: &str, message: String) -> Self {
        match code {
            "empty_input" => Self::EmptyInput(message),
            "token_out_of_range" => Self::TokenOutOfRange(message),
            "context_length_exceeded" => Self::InputTooLong(message),
            "invalid_task" => Self::InvalidTask(message),
            "invalid_dimensions" => Self::InvalidDimensions(message),
            "invalid_request" => Self::RequestValidation(message),
            "invalid_text" => Self::InvalidText(message),
            "unsupported_option" => Self::UnsupportedOption(message),
            "model_not_found" => Self::UnknownModel(message),
            "model_not_ready" => Self::ModelNotReady(message),
            "model_failed" => Self::ModelFailed(message),
            "insufficient_memory" => Self::InsufficientMemory(message),
            "non_finite_output" => Self::NonFiniteOutput(message),
            "engine_closed" => Self::Closed,
            _ => Self::Server {
                status,
                code: code.to_owned(),
                message,
            },
        }
    }
}
