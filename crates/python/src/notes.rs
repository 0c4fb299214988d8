//! The classes `FileStates` and `Note`: the state of files and cached results about them, for Python.

use crate::model::to_python;
use pyo3::exceptions::PyFileNotFoundError;
use pyo3::prelude::*;
use std::path::{Path, PathBuf};

/// Size and times of files.
#[pyclass(frozen, module = "embergem._native")]
pub struct FileStates {
    states: embergem_core::FileStates,
}

#[pymethods]
impl FileStates {
    #[new]
    fn new(py: Python<'_>, files: Vec<PathBuf>) -> PyResult<Self> {
        let states = py.detach(|| embergem_core::FileStates::of(files.iter().map(Path::new)));
        states
            .map(|states| Self { states })
            .map_err(|error| to_python(py, &error))
    }

    /// Do nothing if the files are in this state.
    fn require_unchanged(&self, py: Python<'_>) -> PyResult<()> {
        let unchanged = py.detach(|| self.states.require_unchanged());
        unchanged.map_err(|error| to_python(py, &error))
    }
}

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
