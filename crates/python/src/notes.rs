//! The class `Note`: cached results about files, for Python.

use pyo3::exceptions::PyFileNotFoundError;
use pyo3::prelude::*;
use std::path::{Path, PathBuf};

/// The cache entry of a result that belongs to one state of some files.
#[pyclass(frozen, module = "embergem._native")]
pub struct Note {
    memo: embergem_core::Memo,
}

#[pymethods]
impl Note {
    #[new]
    fn new(directory: PathBuf, kind: &str, files: Vec<PathBuf>, variant: Vec<String>) -> PyResult<Self> {
        let variant: Vec<&str> = variant.iter().map(String::as_str).collect();
        let memo = embergem_core::Memo::new(&directory, kind, files.iter().map(Path::new), &variant);
        memo.map(|memo| Self { memo }).ok_or_else(|| {
            PyFileNotFoundError::new_err(format!(
                "the metadata of one of {files:?} cannot be read. Check that the files exist."
            ))
        })
    }

    /// Return the stored text; None if there is none.
    fn read(&self) -> Option<String> {
        self.memo.read()
    }

    /// Store `text`. A failed write is ignored: the next process computes the result again.
    fn write(&self, text: &str) {
        self.memo.write(text);
    }
}
