//! Native errors as the classes of `embergem.errors`, so that a caller sees one error tree.

use pyo3::prelude::*;
use pyo3::types::PyDict;

/// Builds the Python exception `embergem.errors.<class>` with `message`.
///
/// If the class does not exist, the result is Python's `AttributeError`, so that a wrong name here is seen.
pub fn raise(py: Python<'_>, class: &str, message: String) -> PyErr {
    build(py, class, message, None).unwrap_or_else(|error| error)
}

/// Like [`raise`], for an error of one input: the message that a caller sees is "Input {index} {statement}".
pub fn raise_for_input(py: Python<'_>, class: &str, index: usize, statement: String) -> PyErr {
    build(py, class, statement, Some(index)).unwrap_or_else(|error| error)
}

fn build(py: Python<'_>, class: &str, message: String, input_index: Option<usize>) -> PyResult<PyErr> {
    let class = py.import("embergem.errors")?.getattr(class)?;
    let arguments = PyDict::new(py);
    arguments.set_item("input_index", input_index)?;
    Ok(PyErr::from_value(class.call((message,), Some(&arguments))?))
}
