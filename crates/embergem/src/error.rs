//! The one error type of this crate.

/// What can go wrong between a model's name and a vector. The message says what happened and what to do about it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The request cannot be embedded as it stands.
    #[error("{0}")]
    RequestValidation(String),
    /// There is nothing to embed: no input, or a row without a token id.
    #[error("{0}")]
    EmptyInput(String),
    /// A token id lies outside the model's embedding table.
    #[error("{0}")]
    TokenOutOfRange(String),
    /// An input has more tokens than the model reads, and no permission to cut it was given.
    #[error("{0}")]
    InputTooLong(String),
    /// The task or title is one that this model or this input cannot take.
    #[error("{0}")]
    InvalidTask(String),
    /// The vector size is not one that the model was trained for.
    #[error("{0}")]
    InvalidDimensions(String),
    /// No model is known by this name.
    #[error("{0}")]
    UnknownModel(String),
    /// The files of a model could not be had.
    #[error("{0}")]
    Download(String),
    /// The hub asks for an accepted licence first.
    #[error("{0}")]
    GatedModel(String),
    /// A file of a checkpoint is damaged, incomplete or contradicts another.
    #[error("{0}")]
    CorruptCheckpoint(String),
    /// A tensor that the model needs is absent, misshapen or holds NaN.
    #[error("{0}")]
    MissingTensor(String),
    /// An architecture, a module or a setting that this crate does not have.
    #[error("{0}")]
    UnsupportedModel(String),
    /// The weights do not fit into the memory that is free.
    #[error("{0}")]
    InsufficientMemory(String),
    /// A vector came out as NaN or infinity; nothing was returned.
    #[error("{0}")]
    NonFiniteOutput(String),
    /// Something about the models of a [`crate::EmbeddingModel`] that cannot be done.
    #[error("{0}")]
    Management(String),
    /// The model was closed while the request was in work.
    #[error("the model was closed before the request was done")]
    Closed,
    /// A server could not be reached, or its answer makes no sense.
    #[error("{0}")]
    Channel(String),
    /// A server refused a request for a reason that has no variant of its own.
    #[error("the server answered {status}: {message}")]
    Server {
        /// HTTP status.
        status: u16,
        /// The server's code for it, such as `overloaded`.
        code: String,
        /// The server's words.
        message: String,
    },
}

/// Result with this crate's [`Error`].
pub type Result<T> = std::result::Result<T, Error>;

impl From<embergem_core::Error> for Error {
    fn from(error: embergem_core::Error) -> Self {
        use embergem_core::Error as Core;
        let message = error.to_string();
        match error {
            Core::Io { .. } | Core::Corrupt { .. } | Core::Changed(_) => Self::CorruptCheckpoint(message),
            Core::Tensor { .. } => Self::MissingTensor(message),
            Core::Batch(_) => Self::RequestValidation(message),
            Core::Memory { .. } => Self::InsufficientMemory(message),
            Core::NonFinite { .. } => Self::NonFiniteOutput(message),
            Core::Cancelled => Self::Closed,
            _ => Self::UnsupportedModel(message),
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
            Text::Input { problem, .. } => match problem {
                InputError::Empty => Self::EmptyInput(message),
                InputError::OutOfRange { .. } => Self::TokenOutOfRange(message),
                InputError::TooLong { .. } => Self::InputTooLong(message),
                _ => Self::RequestValidation(message),
            },
            _ => Self::UnsupportedModel(message),
        }
    }
}

#[cfg(feature = "client")]
impl Error {
    /// The error that a server's answer stands for.
    pub(crate) fn from_server(status: u16, code: &str, message: String) -> Self {
        match code {
            "empty_input" => Self::EmptyInput(message),
            "token_out_of_range" => Self::TokenOutOfRange(message),
            "context_length_exceeded" => Self::InputTooLong(message),
            "invalid_task" => Self::InvalidTask(message),
            "invalid_dimensions" => Self::InvalidDimensions(message),
            "invalid_request" | "invalid_text" | "unsupported_option" => Self::RequestValidation(message),
            "model_not_found" => Self::UnknownModel(message),
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
