//! Conversion of lists of Python strings, with an error for the first invalid item.

use crate::errors::raise_for_input;
use pyo3::exceptions::{PyTypeError, PyUnicodeEncodeError};
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedStr;
use pyo3::types::{PyBytes, PyString};

/// Returns the strings of `list` without copying them. `what` is the noun for an item in errors.
pub fn strings(list: &Bound<'_, PyAny>, what: &str) -> PyResult<Vec<PyBackedStr>> {
    items(list, what)?
        .map(|item| {
            let (index, item) = item?;
            string(&item, what, index)
        })
        .collect()
}

/// Like [`strings`], with `None` allowed.
pub fn optional_strings(list: &Bound<'_, PyAny>, what: &str) -> PyResult<Vec<Option<PyBackedStr>>> {
    items(list, what)?
        .map(|item| {
            let (index, item) = item?;
            (!item.is_none()).then(|| string(&item, what, index)).transpose()
        })
        .collect()
}

type Item<'py> = PyResult<(usize, Bound<'py, PyAny>)>;

/// Iterates over a list with indices. A string is refused, because it is itself a sequence of strings and would be
/// embedded letter by letter.
fn items<'py>(list: &Bound<'py, PyAny>, what: &str) -> PyResult<impl Iterator<Item = Item<'py>>> {
    if list.is_instance_of::<PyString>() || list.is_instance_of::<PyBytes>() {
        let kind = list.get_type().name()?;
        return Err(PyTypeError::new_err(format!(
            "{what}s must be a list of strings, not one {kind}"
        )));
    }
    Ok(list
        .try_iter()?
        .enumerate()
        .map(|(index, item)| item.map(|item| (index, item))))
}

fn string(item: &Bound<'_, PyAny>, what: &str, index: usize) -> PyResult<PyBackedStr> {
    let Ok(text) = item.cast::<PyString>() else {
        let kind = item.get_type().name()?;
        let statement = format!("has a {what} of type {kind}; it must be a string.");
        return Err(raise_for_input(item.py(), "InvalidType", index, statement));
    };
    PyBackedStr::try_from(text.clone()).map_err(|error| {
        let py = item.py();
        if !error.is_instance_of::<PyUnicodeEncodeError>(py) {
            return error;
        }
        let position = error
            .value(py)
            .getattr("start")
            .and_then(|start| start.extract::<usize>());
        match position {
            Err(error) => error,
            Ok(position) => raise_for_input(
                py,
                "InvalidText",
                index,
                format!(
                    "has a lone surrogate at character {position} of its {what}, so the {what} is not Unicode. Decode \
                     it with errors=\"replace\", or remove the character."
                ),
            ),
        }
    })
}
