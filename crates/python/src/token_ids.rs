//! Conversion of lists of token ids from Python lists and NumPy arrays.

use crate::errors::raise_for_input;
use numpy::{PyReadonlyArray1, PyUntypedArray, PyUntypedArrayMethods};
use pyo3::exceptions::{PyOverflowError, PyTypeError};
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyByteArray, PyBytes, PyMapping, PyString};

/// Reads every row. `too_large` makes the error for a number above 64 bits, from (row, position, number).
pub fn token_ids(
    rows: &Bound<'_, PyAny>,
    too_large: impl Fn(usize, usize, String) -> PyErr,
) -> PyResult<Vec<Vec<i64>>> {
    if is_no_list(rows) {
        let kind = rows.get_type().name()?;
        return Err(PyTypeError::new_err(format!(
            "rows must be a list of lists of token ids, not {kind}"
        )));
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
        let statement = format!("has {} dimensions; a list of token ids has one.", array.ndim());
        return Err(raise_for_input(row.py(), "InvalidType", index, statement));
    }
    let ids = match row.try_iter() {
        Ok(ids) if !is_no_list(row) => ids,
        _ => {
            let statement = format!("is of type {}; it must be a list of token ids.", row.get_type().name()?);
            return Err(raise_for_input(row.py(), "InvalidType", index, statement));
        }
    };
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
                let kind = id.get_type().name()?;
                let statement = format!("has a value of type {kind} at position {position}; token ids are integers.");
                return Err(raise_for_input(id.py(), "InvalidType", index, statement));
            }
        }
    }
    Ok(read)
}

/// Whether `value` can be iterated over but is not a list of ids.
fn is_no_list(value: &Bound<'_, PyAny>) -> bool {
    value.is_instance_of::<PyString>()
        || value.is_instance_of::<PyBytes>()
        || value.is_instance_of::<PyByteArray>()
        || value.is_instance_of::<PyMapping>()
}
