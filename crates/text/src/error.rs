//! The one error type of this crate.

use std::path::PathBuf;

/// What can go wrong between a string and its token ids. `index` counts the inputs of a request from 0.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file of the checkpoint cannot be read or makes no sense.
    #[error("{path}: {reason}. Download the model again, or mend the file.")]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The tokenizer or a setting is of a kind that embergem does not have.
    #[error("{0}")]
    Unsupported(String),
    /// There is nothing to embed.
    #[error("{0}")]
    Empty(String),
    /// An id lies outside the embedding table.
    #[error("{what} is outside the model's table of {size} tokens (ids 0 to {last}). {advice}", last = size - 1)]
    OutOfRange {
        /// The id and where it stands.
        what: String,
        /// Rows of the table.
        size: u32,
        /// The way out.
        advice: &'static str,
    },
    /// More tokens than the model reads, and no permission to cut.
    #[error(
        "input {index} has {}{length} tokens and this model reads at most {limit}. Shorten or split it, or allow the \
         cut: truncate=True in Python, truncate_sequence in a request.",
        if *at_least { "at least " } else { "" }
    )]
    TooLong {
        /// The input.
        index: usize,
        /// Its tokens, special ones included.
        length: usize,
        /// Whether `length` is a lower bound, known before tokenizing.
        at_least: bool,
        /// Most tokens of a row.
        limit: usize,
    },
    /// A task or title that this model cannot take.
    #[error("{0}")]
    Task(String),
    /// The tokenizer gave up on a text.
    #[error("the model's tokenizer cannot read input {index}: {reason}")]
    Tokenize {
        /// The input.
        index: usize,
        /// The library's reason.
        reason: String,
    },
}

/// Result with this crate's [`Error`].
pub type Result<T> = std::result::Result<T, Error>;
