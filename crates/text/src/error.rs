//! The error types of this crate.

use std::path::PathBuf;

/// Failures between a text and its token ids.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file of the checkpoint cannot be read or has invalid content.
    #[error("{path}: {reason}. Download the model again, or repair the file.")]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The tokenizer or a setting is of a kind that embergem does not support.
    #[error("{0}")]
    Unsupported(String),
    /// The request has no inputs.
    #[error("{0}")]
    Empty(String),
    /// This model cannot use the task or the title.
    #[error("{0}")]
    Task(String),
    /// The caller stopped the work.
    #[error("The request was cancelled while its texts were tokenized.")]
    Cancelled,
    /// One input of the request cannot be used.
    #[error("Input {index} {problem}")]
    Input {
        /// Index of the input in the request, from 0. A caller that splits a larger request adds the start of the part.
        index: usize,
        /// What is wrong with it.
        problem: InputError,
    },
}

/// What is wrong with one input. The text continues a sentence whose subject is the input.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InputError {
    /// A row of token ids has no ids.
    #[error("is a list without token ids. Give it at least one id, or leave the input out.")]
    Empty,
    /// A token id lies outside the embedding table.
    #[error("{what} is outside the model's table of {size} tokens (ids 0 to {last}). {advice}", last = size - 1)]
    OutOfRange {
        /// The id and its position.
        what: String,
        /// Rows of the table.
        size: u32,
        /// What the caller can do.
        advice: &'static str,
    },
    /// The input has more tokens than the model reads, and the request does not allow truncation.
    #[error(
        "has {}{length} tokens and this model reads at most {limit}. Shorten or split it, or allow truncation: \
         truncate=True in Python, truncate_sequence in a request.",
        if *at_least { "at least " } else { "" }
    )]
    TooLong {
        /// Tokens of the input, special ones included.
        length: usize,
        /// Whether `length` is a lower bound that was computed without tokenizing.
        at_least: bool,
        /// Most tokens of an input.
        limit: usize,
    },
    /// The tokenizer library failed on the text.
    #[error("cannot be read by the model's tokenizer: {0}")]
    Tokenize(String),
    /// The tokenizer library was refused memory.
    #[error(
        "cannot be tokenized now: the system refuses more memory. Send fewer or shorter texts at a time, or raise the \
         memory limit of the process."
    )]
    OutOfMemory,
}

impl InputError {
    /// Returns the error for a text on which the tokenizer library failed.
    pub(crate) fn from_library(reason: String) -> Self {
        if reason.contains(REGEX_OUT_OF_MEMORY) {
            Self::OutOfMemory
        } else {
            Self::Tokenize(reason)
        }
    }
}

/// Oniguruma's message for an allocation that failed in a search. Its allocations do not go through Rust's allocator.
const REGEX_OUT_OF_MEMORY: &str = "fail to memory allocation";

/// Result with this crate's [`Error`].
pub type Result<T> = std::result::Result<T, Error>;

#[cfg(test)]
mod tests {
    use super::*;

    /// A full memory is not the fault of the text, so it must not be reported as one.
    #[test]
    fn a_regex_without_memory_is_no_fault_of_the_text() {
        let refused = format!("the tokenizers library failed: Onig: Regex search error: {REGEX_OUT_OF_MEMORY}");
        assert!(matches!(InputError::from_library(refused), InputError::OutOfMemory));
        assert!(matches!(
            InputError::from_library("another".to_owned()),
            InputError::Tokenize(_)
        ));
    }
}
