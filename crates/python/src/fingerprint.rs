//! The function `fingerprint` for Python.

use crate::allocator::require_memory;
use crate::{model, text};
use pyo3::prelude::*;
use std::path::{Path, PathBuf};

/// An error of either crate.
enum Failure {
    Core(embergem_core::Error),
    Text(embergem_text::Error),
}

impl From<embergem_core::Error> for Failure {
    fn from(error: embergem_core::Error) -> Self {
        Self::Core(error)
    }
}

/// Returns the fingerprint of a model's vector space, in hexadecimal.
#[pyfunction]
#[pyo3(signature = (program, files, tokenizer_json, *, notes=None))]
pub fn fingerprint(
    py: Python<'_>,
    program: &str,
    files: Vec<(String, PathBuf)>,
    tokenizer_json: PathBuf,
    notes: Option<PathBuf>,
) -> PyResult<String> {
    require_memory(py)?;
    let files: Vec<(&str, &Path)> = files
        .iter()
        .map(|(prefix, path)| (prefix.as_str(), path.as_path()))
        .collect();
    let digest = || embergem_text::tokenizer_digest(&tokenizer_json).map_err(Failure::Text);
    let found = py.detach(|| embergem_core::fingerprint(program, &files, &tokenizer_json, digest, notes.as_deref()));
    found.map_err(|failure| match failure {
        Failure::Core(error) => model::to_python(py, &error),
        Failure::Text(error) => text::to_python(py, &error),
    })
}
