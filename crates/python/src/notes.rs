//! `Note`: what was found out about files, as Python sees it.

use pyo3::exceptions::PyFileNotFoundError;
use pyo3::prelude::*;
use std::path::{Path, PathBuf};

/// A result that was found out about files in a certain state.
#[pyclass(frozen, module = "embergem._native")]
pub struct Note {
    note: embergem_core::Memo,
}

#[pymethods]
impl Note {
    #[new]
    fn new(directory: PathBuf, kind: &str, files: Vec<PathBuf>, variant: Vec<String>) -> PyResult<Self> {
        let variant: Vec<&str> = variant.iter().map(String::as_str).collect();
        let note = embergem_core::Memo::new(&directory, kind, files.iter().map(Path::new), &variant);
        note.map(|note| Self { note })
            .ok_or_else(|| PyFileNotFoundError::new_err(format!("one of {files:?} cannot be read")))
    }

    /// The text that was noted; None if there is none.
    fn read(&self) -> Option<String> {
        self.note.read()
    }

    /// Note `text`. If the directory cannot be written, nothing is noted, and the work is done again next time.
    fn write(&self, text: &str) {
        self.note.write(text);
    }
}
