//! The weights section of a program: checkpoint tensors to the tables, vectors and rows that the kernels read.

use crate::error::{Error, Result};
use crate::format::checkpoint::Checkpoint;
use crate::format::table::{Table, require_finite};
use crate::format::tensor::Tensor;
use crate::memory::zeros;
use crate::program::{Source, WeightSpec};
use std::ops::Range;

/// Returns the embedding table of a weight, which must be one whole tensor without a constant to add. With `integers`
/// its values are whole numbers without scales.
///
/// # Errors
/// [`Error::Program`] for any other weight, [`Error::Tensor`] if the tensor is absent or has another shape.
pub fn table(checkpoint: &Checkpoint, spec: &WeightSpec, integers: bool) -> Result<Table> {
    let source = whole_tensor(spec, "an embedding table")?;
    let tensor = if integers {
        checkpoint.whole_numbers(&source.tensor, &source.shape)?
    } else {
        checkpoint.tensor(&source.tensor, &source.shape)?
    };
    Table::new(&source.tensor, tensor.clone())
}

/// Reads a weight of whole numbers, each the number of one of `rows` rows.
///
/// # Errors
/// [`Error::Program`] for a weight that is not one whole vector; [`Error::Tensor`] if the tensor is absent, has another
/// shape or element type, or contains a number that is not below `rows`.
pub fn indices(checkpoint: &Checkpoint, spec: &WeightSpec, rows: usize) -> Result<Vec<u32>> {
    let source = whole_tensor(spec, "a mapping")?;
    if source.shape.len() != 1 {
        return Err(Error::Program("a mapping must have one dimension".into()));
    }
    let numbers = checkpoint.whole_numbers(&source.tensor, &source.shape)?.integers();
    let row = |number: i64| u32::try_from(number).ok().filter(|row| (*row as usize) < rows);
    let outside = |number: i64| Error::Tensor {
        name: source.tensor.clone(),
        reason: format!(
            "it contains {number}, and the table has {rows} rows. The checkpoint is damaged: download or save it again."
        ),
    };
    numbers
        .map(|number| row(number).ok_or_else(|| outside(number)))
        .collect()
}

/// Returns the only source of a weight that must be one whole tensor without a constant to add.
fn whole_tensor<'a>(spec: &'a WeightSpec, what: &str) -> Result<&'a Source> {
    let [source @ Source { rows: None, .. }] = spec.sources.as_slice() else {
        return Err(Error::Program(format!("{what} must be one whole tensor")));
    };
    if spec.add != 0.0 {
        return Err(Error::Program(format!("{what} cannot have a constant added")));
    }
    Ok(source)
}

/// Reads a small weight (a norm, a bias, a position table) as f32 values and checks that its shape is `shape`.
///
/// # Errors
/// [`Error::Program`] if the sources of the weight do not have the shape, [`Error::Tensor`] if a tensor is absent, has
/// another shape, or contains a value that is not finite.
pub fn floats(checkpoint: &Checkpoint, spec: &WeightSpec, shape: &[usize]) -> Result<Vec<f32>> {
    let parts = parts(checkpoint, spec, shape)?;
    let mut values = zeros(shape.iter().product())?;
    let mut rest = values.as_mut_slice();
    for part in parts {
        let (values, after) = rest.split_at_mut(part.rows.len() * part.tensor.row_len());
        part.tensor.read(part.rows.start * part.tensor.row_len(), values);
        require_finite(part.name, values)?;
        rest = after;
    }
    values.iter_mut().for_each(|value| *value += spec.add);
    Ok(values)
}

/// The rows of a weight matrix, which may come from several tensors.
pub struct Rows<'a> {
    parts: Vec<Part<'a>>,
    add: f32,
}

impl Rows<'_> {
    /// Returns the exponents of smoothing that the file has for the columns, if they are the same for all rows.
    pub fn exponents(&self) -> Option<Vec<i8>> {
        let mut all = self.parts.iter().map(|part| part.tensor.exponents());
        let first = all.next()??;
        let same = all.all(|exponents| exponents == Some(first));
        same.then(|| first.iter().map(|byte| byte.cast_signed()).collect())
    }

    /// Writes row `number` to `values`, which has the length of one row.
    ///
    /// # Errors
    /// [`Error::Tensor`] if the row contains a value that is not finite.
    pub fn read(&self, mut number: usize, values: &mut [f32]) -> Result<()> {
        for part in &self.parts {
            if number < part.rows.len() {
                part.tensor.read((part.rows.start + number) * values.len(), values);
                require_finite(part.name, values)?;
                values.iter_mut().for_each(|value| *value += self.add);
                return Ok(());
            }
            number -= part.rows.len();
        }
        Err(Error::Program(format!("row {number} past the end of a weight")))
    }
}

/// Finds the rows of a weight matrix and checks that they have the shape (rows, k).
///
/// # Errors
/// [`Error::Program`] if the sources of the weight do not have the shape, [`Error::Tensor`] if a tensor is absent or
/// has another shape.
pub fn rows_of<'a>(checkpoint: &'a Checkpoint, spec: &'a WeightSpec, rows: usize, k: usize) -> Result<Rows<'a>> {
    Ok(Rows {
        parts: parts(checkpoint, spec, &[rows, k])?,
        add: spec.add,
    })
}

/// A range of rows of a checkpoint tensor.
struct Part<'a> {
    name: &'a str,
    tensor: &'a Tensor,
    rows: Range<usize>,
}

/// Finds the sources of a weight and checks that they have `shape` when stacked.
///
/// Every source has the size that the program says and lies in a mapped file, so the size of the files bounds what is
/// allocated for the weight.
fn parts<'a>(checkpoint: &'a Checkpoint, spec: &'a WeightSpec, shape: &[usize]) -> Result<Vec<Part<'a>>> {
    if spec.sources.is_empty() {
        return Err(Error::Program("a weight without a source".into()));
    }
    let mut parts = Vec::new();
    let mut stacked_rows = 0usize;
    for source in &spec.sources {
        let tensor = checkpoint.tensor(&source.tensor, &source.shape)?;
        let (from, to) = source.rows.unwrap_or((0, *source.shape.first().unwrap_or(&0)));
        let fits = from < to && to <= source.shape.first().copied().unwrap_or(0);
        if !fits || source.shape.get(1..) != shape.get(1..) {
            return Err(Error::Program(format!(
                "rows {from}..{to} of {} (shape {:?}) do not fit a weight of shape {shape:?}",
                source.tensor, source.shape
            )));
        }
        stacked_rows += to - from;
        parts.push(Part {
            name: &source.tensor,
            tensor,
            rows: from..to,
        });
    }
    if Some(&stacked_rows) != shape.first() {
        return Err(Error::Program(format!(
            "the sources of a weight of shape {shape:?} have {stacked_rows} rows"
        )));
    }
    Ok(parts)
}
