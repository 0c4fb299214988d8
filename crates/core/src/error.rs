//! The one error type of this crate.

use std::path::PathBuf;

/// What can go wrong between a checkpoint on disk and a vector.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file cannot be read.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// A safetensors or GGUF file is damaged, cut off or lies about its own layout.
    #[error("{path} is not a valid {} file: {reason}. Download it again.", if path.extension().is_some_and(|end| end == "gguf") { "GGUF" } else { "safetensors" })]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A file was exchanged while it was read.
    #[error("{0} changed while it was loaded. Load the model again.")]
    Changed(PathBuf),
    /// A tensor is absent, has another shape or element type, or holds NaN or infinity.
    #[error("tensor {name}: {reason}")]
    Tensor {
        /// Name as the model asks for it.
        name: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The program is not one that this executor can run.
    #[error("program: {0}")]
    Program(String),
    /// The batch does not fit the model: ids outside the table, offsets that do not ascend.
    #[error("batch: {0}")]
    Batch(String),
    /// The weights do not fit into the memory that is free.
    #[error(
        "loading needs about {needed_mb} MB of memory and {available_mb} MB are free. Close other programs, or use a \
         smaller model."
    )]
    Memory {
        /// Estimated need.
        needed_mb: u64,
        /// What the system says is free.
        available_mb: u64,
    },
    /// A vector came out as NaN or infinity.
    #[error("the vector of row {row} is not finite; nothing was returned")]
    NonFinite {
        /// First such row of the batch.
        row: usize,
    },
    /// The run was cancelled.
    #[error("cancelled")]
    Cancelled,
}

/// Result with this crate's [`Error`].
pub type Result<T> = std::result::Result<T, Error>;
