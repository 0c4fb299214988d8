//! An embedding table in a mapped weight file.

use super::tensor::Tensor;
use crate::error::{Error, Result};
use crate::mapped::Part;
use crate::simd::prefetch;

/// An embedding table, read row by row from the mapped file.
pub struct Table {
    /// Name of the tensor.
    name: String,
    tensor: Tensor,
    /// Number of rows.
    pub rows: usize,
    /// Values of one row.
    pub width: usize,
}

impl Table {
    /// Wraps a tensor of two dimensions.
    ///
    /// # Errors
    /// [`Error::Program`] for a tensor of another number of dimensions.
    pub fn new(name: &str, tensor: Tensor) -> Result<Self> {
        let &[rows, width] = tensor.shape.as_slice() else {
            return Err(Error::Program(format!(
                "the embedding table {name} has shape {:?}; a table has two dimensions",
                tensor.shape
            )));
        };
        Ok(Self {
            name: name.into(),
            tensor,
            rows,
            width,
        })
    }

    /// Reads the whole table and refuses values that are not finite.
    ///
    /// All other weights are checked while they are packed. A table stays in its file: without this check a NaN would
    /// appear only when a text contains that token.
    ///
    /// # Errors
    /// [`Error::Tensor`] with the first value that is not finite.
    pub fn require_finite(&self) -> Result<()> {
        let mut row_values = vec![0.0; self.width];
        for row in 0..self.rows {
            self.read_row(row, &mut row_values);
            require_finite(&self.name, &row_values)?;
        }
        Ok(())
    }

    /// Returns the name of the tensor.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns where the table is in its mapped file. `crcs` are the checksums that an earlier call computed; without
    /// them the bytes are read.
    pub fn parts(&self, crcs: Option<&[u32]>) -> Vec<Part> {
        self.tensor.parts(crcs)
    }

    /// Asks the processor to read row `row` into its cache.
    #[inline(always)]
    pub fn prefetch(&self, row: usize) {
        prefetch(self.tensor.bytes(row * self.width, self.width));
    }

    /// Writes row `row` to `out`, which has `width` values.
    #[inline(always)]
    pub fn read_row(&self, row: usize, out: &mut [f32]) {
        self.tensor.read(row * self.width, out);
    }
}

/// Checks that all values of the tensor `name` are finite.
///
/// # Errors
/// [`Error::Tensor`] with the first value that is not.
pub fn require_finite(name: &str, values: &[f32]) -> Result<()> {
    // Without its sign bit a float orders like an integer, and the compiler vectorises the integer maximum.
    let magnitude = |value: &f32| (value.to_bits() & 0x7fff_ffff).cast_signed();
    let largest = values.iter().fold(0, |largest, value| largest.max(magnitude(value)));
    if largest < f32::INFINITY.to_bits().cast_signed() {
        return Ok(());
    }
    match values.iter().find(|value| !value.is_finite()) {
        None => Ok(()),
        Some(value) => Err(Error::Tensor {
            name: name.into(),
            reason: format!(
                "it contains {value}. The checkpoint is damaged, or its training diverged. Download it again, or use \
                 another checkpoint."
            ),
        }),
    }
}
