//! Matryoshka truncation for Python.

use crate::gil::without_gil;
use numpy::{PyArray1, PyArray2, PyArrayMethods, PyReadonlyArray2, PyUntypedArrayMethods};
use pyo3::prelude::*;

/// Returns the first `size` values of each vector, scaled to length 1.
#[pyfunction]
pub fn cut<'py>(
    py: Python<'py>,
    vectors: PyReadonlyArray2<'py, f32>,
    size: usize,
    norm_first: bool,
) -> PyResult<Bound<'py, PyArray2<f32>>> {
    let (rows, width) = (vectors.shape()[0], vectors.shape()[1]);
    let vectors = vectors.as_slice()?;
    let truncated = without_gil(py, size_of_val(vectors), || {
        embergem_core::truncate_dimensions(vectors, width, size, norm_first)
    });
    PyArray1::from_vec(py, truncated).reshape([rows, size.min(width)])
}
