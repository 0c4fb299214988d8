//! The class `Tensors`: weight files for Python.

use crate::allocator::require_memory;
use crate::model::to_python;
use numpy::{PyArray1, PyArray2, PyArrayMethods};
use pyo3::prelude::*;
use std::path::PathBuf;

/// The tensors of safetensors and GGUF files, mapped into memory.
#[pyclass(frozen, module = "embergem._native")]
pub struct Tensors {
    tensors: embergem_core::Tensors,
}

#[pymethods]
impl Tensors {
    #[new]
    #[pyo3(signature = (files, *, prefixes=Vec::new()))]
    fn new(py: Python<'_>, files: Vec<(String, PathBuf)>, prefixes: Vec<String>) -> PyResult<Self> {
        let files = files.iter().map(|(prefix, path)| (prefix.as_str(), path.as_path()));
        let tensors = py.detach(|| embergem_core::Tensors::open(files));
        tensors
            .map(|tensors| Self {
                tensors: tensors.with_prefixes(&prefixes),
            })
            .map_err(|error| to_python(py, &error))
    }

    #[getter]
    fn metadata(&self) -> String {
        self.tensors.metadata()
    }

    #[getter]
    fn list(&self) -> Vec<(String, Vec<usize>, &'static str)> {
        let all = self.tensors.list();
        let owned = |(name, shape, element): (&str, &[usize], _)| (name.to_owned(), shape.to_vec(), element);
        all.into_iter().map(owned).collect()
    }

    fn rows<'py>(&self, py: Python<'py>, name: &str, start: usize, stop: usize) -> PyResult<Bound<'py, PyArray2<f32>>> {
        require_memory(py)?;
        let read = py.detach(|| self.tensors.rows(name, start, stop));
        let (values, width) = read.map_err(|error| to_python(py, &error))?;
        PyArray1::from_vec(py, values).reshape([stop - start, width])
    }
}

/// Refuses weight files with a tensor that `program` does not read and that may be needed for the vectors.
#[pyfunction]
pub fn require_all_read(py: Python<'_>, program: &str, files: Vec<(String, PathBuf)>) -> PyResult<()> {
    let files = files.iter().map(|(prefix, path)| (prefix.as_str(), path.as_path()));
    let checked = py.detach(|| embergem_core::require_all_read(program, files));
    checked.map_err(|error| to_python(py, &error))
}
