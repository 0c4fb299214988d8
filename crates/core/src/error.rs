//! The error type of this crate.

use std::path::PathBuf;

/// Failures between a checkpoint on disk and a vector.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file cannot be read.
    #[error("{path} cannot be read: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// A safetensors or GGUF file is damaged or truncated, or its header is inconsistent.
    #[error("{path} is not a valid {} file: {reason}. Download it again.", if path.extension().is_some_and(|end| end == "gguf") { "GGUF" } else { "safetensors" })]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A file was written, cut short or replaced while it was read.
    #[error("{0} changed while it was loaded. Load the model again.")]
    Changed(PathBuf),
    /// A file that a loaded model reads from was written or cut short.
    #[error("{0}")]
    FileChanged(String),
    /// A tensor is absent, has another shape or element type, or contains NaN or infinity.
    #[error("tensor {name}: {reason}")]
    Tensor {
        /// Name by which the model looks the tensor up.
        name: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A tensor that the program does not read, and that may be needed for the vectors of its authors.
    #[error(
        "{path}: the tensor {name} is not part of the model that config.json and modules.json describe, so the model \
         may compute something else than its authors' code. If the tensor changes no vector, remove it from the file; \
         otherwise the model needs the library that wrote it."
    )]
    Unread {
        /// Name of the tensor in the file.
        name: String,
        /// The file.
        path: PathBuf,
    },
    /// This executor cannot run the program.
    #[error("program: {0}")]
    Program(String),
    /// The batch does not fit the model: ids outside the table, or offsets that do not ascend.
    #[error("batch: {0}")]
    Batch(String),
    /// The weights do not fit into the available memory.
    #[error(
        "loading needs about {needed_mb} MB of memory, and {available_mb} MB are available. Close other programs, or \
         use a smaller model."
    )]
    Memory {
        /// Estimated need.
        needed_mb: u64,
        /// Memory that the system reports as available, or the caller's limit.
        available_mb: u64,
    },
    /// The system has no memory left for the buffers of a load or of a batch.
    #[error("{needed_mb} MB more memory are needed{}. Load fewer models, or send fewer texts at a time.", available_mb.map_or_else(|| ", and the system refused them".to_owned(), |mb| format!(", and {mb} MB are available")))]
    OutOfMemory {
        /// Size of the buffers, rounded up.
        needed_mb: u64,
        /// Memory that the system reports as available; `None` if it refused an allocation.
        available_mb: Option<u64>,
    },
    /// A vector contains NaN or infinity.
    #[error("the vector of row {row} contains NaN or infinity, so the batch has no result")]
    NonFinite {
        /// First such row of the batch.
        row: usize,
    },
    /// The run was cancelled.
    #[error("the run was cancelled")]
    Cancelled,
}

/// Result with this crate's [`Error`].
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// The system refused an allocation of `bytes`.
    pub(crate) fn refused(bytes: usize) -> Self {
        Self::OutOfMemory {
            needed_mb: (bytes as u64).div_ceil(1 << 20),
            available_mb: None,
        }
    }
}
