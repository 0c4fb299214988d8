//! The files of a checkpoint as Python sees them.

use crate::errors::raise;
use embergem_checkpoint::modules::{self, ModuleEntry};
use embergem_checkpoint::{Checkpoint, Error, weights};
use pyo3::prelude::*;
use std::path::{Path, PathBuf};

/// The checkpoint in a directory, as JSON.
#[pyfunction]
pub fn read_checkpoint(py: Python<'_>, root: PathBuf) -> PyResult<String> {
    let json = py.detach(|| {
        let checkpoint = Checkpoint::read(&root)?;
        serde_json::to_string(&checkpoint).map_err(|error| Error::Corrupt(format!("{}: {error}", root.display())))
    });
    json.map_err(|error| to_python(py, &error))
}

/// The directory of the transformer, and the head as JSON, of the checkpoint in a directory.
#[pyfunction]
pub fn read_modules(py: Python<'_>, root: PathBuf) -> PyResult<(String, String)> {
    let (entries, head) = embergem_checkpoint::read_modules(&root).map_err(|error| to_python(py, &error))?;
    Ok((entries[0].path.clone(), serde_json::json!(head).to_string()))
}

/// Prefix of the tensor names and path of the weight file of each dense layer in the head of a checkpoint.
#[pyfunction]
pub fn dense_files(py: Python<'_>, root: PathBuf) -> PyResult<Vec<(String, PathBuf)>> {
    let files = embergem_checkpoint::read_modules(&root).and_then(|(_, head)| weights::of_head(&root, &head));
    files.map_err(|error| to_python(py, &error))
}

/// Kind and path of each entry in the text of a modules.json.
#[pyfunction]
pub fn parse_modules(py: Python<'_>, data: &[u8], file: &str) -> PyResult<Vec<(String, String)>> {
    let entries = modules::parse(data, Path::new(file)).map_err(|error| to_python(py, &error))?;
    let pair = |entry: ModuleEntry| (entry.kind, entry.path);
    Ok(entries.into_iter().map(pair).collect())
}

fn to_python(py: Python<'_>, error: &Error) -> PyErr {
    let class = match error {
        Error::Corrupt(_) => "CorruptCheckpoint",
        Error::Unsupported(_) => "UnsupportedModel",
    };
    raise(py, class, error.to_string())
}
