//! The weights section: checkpoint tensors to what the kernels read.

use crate::error::{Error, Result};
use crate::format::checkpoint::Checkpoint;
use crate::format::table::{Table, require_finite};
use crate::format::tensor::Tensor;
use crate::kernels::panels::Shape;
use crate::program::{Source, WeightSpec};
use std::ops::Range;

/// Returns the embedding table of a weight, which must be one whole tensor without a constant to add.
///
/// # Errors
/// [`Error::Program`] for any other weight, [`Error::Tensor`] if the tensor is absent or has another shape.
pub fn table(checkpoint: &Checkpoint, spec: &WeightSpec) -> Result<Table> {
    let [
        Source {
            tensor,
            shape,
            rows: None,
        },
    ] = spec.sources.as_slice()
    else {
        return Err(Error::Program("an embedding table must be one whole tensor".into()));
    };
    if spec.add != 0.0 {
        return Err(Error::Program("an embedding table cannot have a constant added".into()));
    }
    Table::new(tensor, checkpoint.tensor(tensor, shape)?.clone())
}

/// A small weight (a norm, a bias, a position table) as floats; the shape is checked to be `shape`.
pub fn floats(checkpoint: &Checkpoint, spec: &WeightSpec, shape: &[usize]) -> Result<Vec<f32>> {
    let parts = parts(checkpoint, spec, shape)?;
    let mut values = vec![0.0; shape.iter().product()];
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

/// The rows of a linear layer's weight, wherever in the checkpoint they are.
pub struct Rows<'a> {
    parts: Vec<Part<'a>>,
    add: f32,
}

impl Rows<'_> {
    /// Reads row `n` into `line` of one row's length.
    pub fn read(&self, mut n: usize, line: &mut [f32]) -> Result<()> {
        for part in &self.parts {
            if n < part.rows.len() {
                part.tensor.read((part.rows.start + n) * line.len(), line);
                require_finite(part.name, line)?;
                line.iter_mut().for_each(|value| *value += self.add);
                return Ok(());
            }
            n -= part.rows.len();
        }
        Err(Error::Program(format!("row {n} past the end of a weight")))
    }
}

/// Finds the rows of a linear layer's weight and checks that they have the shape.
pub fn rows_of<'a>(checkpoint: &'a Checkpoint, spec: &'a WeightSpec, shape: Shape) -> Result<Rows<'a>> {
    let rows = shape
        .rows()
        .ok_or_else(|| Error::Program("a product too wide".into()))?;
    Ok(Rows {
        parts: parts(checkpoint, spec, &[rows, shape.k])?,
        add: spec.add,
    })
}

/// A range of rows of a checkpoint tensor.
struct Part<'a> {
    name: &'a str,
    tensor: &'a Tensor,
    rows: Range<usize>,
}

/// Finds the sources of a weight and checks that stacked they have `shape`. Every source exists in a mapped file with
/// the size it claims, which bounds what is allocated for them.
fn parts<'a>(checkpoint: &'a Checkpoint, spec: &'a WeightSpec, shape: &[usize]) -> Result<Vec<Part<'a>>> {
    if spec.sources.is_empty() {
        return Err(Error::Program("a weight without a source".into()));
    }
    let mut parts = Vec::new();
    let mut stacked = 0usize;
    for source in &spec.sources {
        let tensor = checkpoint.tensor(&source.tensor, &source.shape)?;
        let (from, to) = source.rows.unwrap_or((0, *source.shape.first().unwrap_or(&0)));
        let fits = from < to && to <= source.shape.first().copied().unwrap_or(0);
        if !fits || source.shape.get(1..) != shape.get(1..) {
            return Err(Error::Program(format!(
                "rows {from}..{to} of {} in a weight of shape {shape:?}",
                source.tensor
            )));
        }
        stacked += to - from;
        parts.push(Part {
            name: &source.tensor,
            tensor,
            rows: from..to,
        });
    }
    if Some(&stacked) != shape.first() {
        return Err(Error::Program(format!(
            "sources with {stacked} rows in a weight of shape {shape:?}"
        )));
    }
    Ok(parts)
}
