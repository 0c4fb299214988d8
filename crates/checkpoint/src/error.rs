//! The error type of this crate.

use std::path::Path;

/// Why a checkpoint cannot be read. The message names the file and says what to do.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file is missing, damaged, or contradicts another file.
    #[error("{0}")]
    Corrupt(String),
    /// A module, a setting or a format that embergem does not have.
    #[error("{0}")]
    Unsupported(String),
}

/// Result with this crate's [`Error`].
pub type Result<T> = std::result::Result<T, Error>;

/// [`Error::Corrupt`] about a file. `reason` continues a sentence that begins with the file.
pub fn corrupt(file: &Path, reason: impl std::fmt::Display) -> Error {
    Error::Corrupt(format!("{}{reason}", file.display()))
}

/// [`Error::Unsupported`] about a file. `reason` continues a sentence that begins with the file.
pub(crate) fn unsupported(file: &Path, reason: impl std::fmt::Display) -> Error {
    Error::Unsupported(format!("{}{reason}", file.display()))
}
