//! Native errors as the classes of `embergem.errors`, so that a caller sees one error tree.

use pyo3::prelude::*;
use pyo3::types::PyType;

/// Builds the Python exception `embergem.errors.<class>` with `message`.
///
/// If the class cannot be found the import error itself is returned: a wrong name here is our bug and must be seen.
pub fn raise(py: Python<'_>, class: &str, message: String) -> PyErr {
    let found = py
        .import("embergem.errors")
        .and_then(|module| module.getattr(class))
        .and_then(|class| Ok(class.cast_into::<PyType>()?));
    match found {
        Ok(class) => PyErr::from_type(class, message),
        Err(error) => error,
    }
}
