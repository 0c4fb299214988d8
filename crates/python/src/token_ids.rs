//! Lists of token ids, from Python lists or NumPy arrays.

use numpy::{PyReadonlyArray1, PyUntypedArray, PyUntypedArrayMethods};
use pyo3::exceptions::{PyOverflowError, PyTypeError};
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyByteArray, PyBytes, PyMapping, PyString};

/// Reads every row. A number too large to be any id goes to `too_large` as (row, position, number).
pub fn token_ids(
    rows: &Bound<'_, PyAny>,
    too_large: impl Fn(usize, usize, String) -> PyErr,
) -> PyResult<Vec<Vec<i64>>> {
    if is_no_list(rows) {
        return Err(wrong("rows", rows, "a list of lists of token ids"));
    }
    let rows = rows.try_iter()?.enumerate();
    rows.map(|(index, row)| read_row(&row?, index, &too_large)).collect()
}

fn read_row(
    row: &Bound<'_, PyAny>,
    index: usize,
    too_large: impl Fn(usize, usize, String) -> PyErr,
) -> PyResult<Vec<i64>> {
    if let Ok(array) = row.extract::<PyReadonlyArray1<'_, i64>>() {
        return Ok(array.as_array().iter().copied().collect());
    }
    if let Ok(array) = row.extract::<PyReadonlyArray1<'_, u32>>() {
        return Ok(array.as_array().iter().map(|id| i64::from(*id)).collect());
    }
    if let Ok(array) = row.cast::<PyUntypedArray>()
        && array.ndim() != 1
    {
        let message = format!(
            "input {index} has {} dimensions; a row of token ids has one",
            array.ndim()
        );
        return Err(PyTypeError::new_err(message));
    }
    let Ok(ids) = row.try_iter() else {
        return Err(wrong(&format!("input {index}"), row, "a list of token ids"));
    };
    if is_no_list(row) {
        return Err(wrong(&format!("input {index}"), row, "a list of token ids"));
    }
    let mut read = Vec::with_capacity(row.len().unwrap_or_default());
    for (position, id) in ids.enumerate() {
        let id = id?;
        let found = if id.is_instance_of::<PyBool>() {
            None
        } else {
            Some(id.extract::<i64>())
        };
        match found {
            Some(Ok(id)) => read.push(id),
            Some(Err(error)) if error.is_instance_of::<PyOverflowError>(id.py()) => {
                return Err(too_large(index, position, id.str()?.to_string()));
            }
            _ => {
                return Err(wrong(
                    &format!("input {index}, position {position}"),
                    &id,
                    "a whole number",
                ));
            }
        }
    }
    Ok(read)
}

/// What can be gone through but is no list of ids.
fn is_no_list(value: &Bound<'_, PyAny>) -> bool {
    value.is_instance_of::<PyString>()
        || value.is_instance_of::<PyBytes>()
        || value.is_instance_of::<PyByteArray>()
        || value.is_instance_of::<PyMapping>()
}

fn wrong(place: &str, value: &Bound<'_, PyAny>, wanted: &str) -> PyErr {
    match value.get_type().name() {
        Ok(kind) => PyTypeError::new_err(format!("{place} must be {wanted}, not {kind}")),
        Err(error) => error,
    }
}
