//! Matryoshka cuts as Python sees them.

use crate::gil::released;
use numpy::{PyArray1, PyArray2, PyArrayMethods, PyReadonlyArray2, PyUntypedArrayMethods};
use pyo3::prelude::*;

/// The first `size` numbers of each vector, scaled to length 1 again.
#[pyfunction]
pub fn cut<'py>(
    py: Python<'py>,
    vectors: PyReadonlyArray2<'py, f32>,
    size: usize,
    norm_first: bool,
) -> PyResult<Bound<'py, PyArray2<f32>>> {
    let (rows, width) = (vectors.shape()[0], vectors.shape()[1]);
    let vectors = vectors.as_slice()?;
    let kept = released(py, size_of_val(vectors), || {
        embergem_core::cut(vectors, width, size, norm_first)
    });
    PyArray1::from_vec(py, kept).reshape([rows, size.min(width)])
}
