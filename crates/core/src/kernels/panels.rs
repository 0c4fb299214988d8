//! Weight matrices packed in panels.
//!
//! A panel has the weights of a few adjacent output columns, so that the inner loop of a product reads memory in order.
//! The [`Format`] decides the layout of the numbers in a panel.

use super::Matrix;
use crate::aligned::Aligned;
use crate::error::Result;
use crate::pool::Pool;
use crate::simd::tile::VECTORS;
use crate::storage::Storage;
use std::marker::PhantomData;
use std::sync::{Mutex, PoisonError};

/// f32 values that a thread packs before other runs may go first: about a millisecond.
pub const VALUES_PER_TURN: usize = 1 << 18;

/// Most columns of a panel on any instruction set.
pub(super) const MAX_COLUMNS: usize = 32;

/// Inputs and outputs of a matrix product.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// Number of outputs.
    pub out: usize,
    /// Number of inputs.
    pub k: usize,
    /// The weight is two stacked matrices of `out` rows each. A panel has one vector of columns of the first matrix and
    /// one of the same columns of the second.
    pub gated: bool,
}

impl Shape {
    /// Returns the rows of the weight; `None` on overflow.
    pub fn rows(self) -> Option<usize> {
        self.out.checked_mul(if self.gated { 2 } else { 1 })
    }

    /// Returns the outputs of one panel.
    pub fn columns(self, lanes: usize) -> usize {
        if self.gated { lanes } else { VECTORS * lanes }
    }

    /// Returns the number of panels.
    pub fn panels(self, lanes: usize) -> usize {
        self.out.div_ceil(self.columns(lanes))
    }

    /// Returns the row of the weight that is in column `column` of a panel; `None` past the last output.
    pub fn source_row(self, lanes: usize, panel: usize, column: usize) -> Option<usize> {
        let (vector, lane) = (column / lanes, column % lanes);
        let first = panel * self.columns(lanes);
        let (output, matrix) = if self.gated {
            (first + lane, vector)
        } else {
            (first + column, 0)
        };
        (output < self.out).then_some(matrix * self.out + output)
    }
}

/// The layout of the numbers in a panel.
pub trait Format {
    /// Returns the f32 values that a panel takes for rows of `k` weights.
    fn panel_len(k: usize, lanes: usize) -> usize;

    /// Returns the f32 values that follow the panels.
    fn tail_len(_k: usize) -> usize {
        0
    }
}

/// A layout in which a panel depends only on its own rows.
pub trait PutRow: Format {
    /// Writes a row of the weight to column `column` of a panel. The panel must contain zeros there.
    fn put(panel: &mut [f32], lanes: usize, column: usize, row: &[f32]);
}

/// Rounds to the nearest integer, ties to even. `value` must be between -2²² and 2²².
///
/// After the addition the last bit of the sum is 1, so the addition rounds. `f32::round_ties_even` is a call of a library
/// function for each value where the compiler may not use SSE4.1.
pub(super) fn to_integer(value: f32) -> i32 {
    const INTEGERS: f32 = (3 << 22) as f32;
    (value + INTEGERS)
        .to_bits()
        .wrapping_sub(INTEGERS.to_bits())
        .cast_signed()
}

/// Returns the memory of f32 values as 16-bit numbers.
pub(super) fn halves_mut(values: &mut [f32]) -> &mut [u16] {
    // SAFETY: two u16 have the size of one f32 and a smaller alignment. The slice covers `values` exactly, which is
    // borrowed as long.
    unsafe { std::slice::from_raw_parts_mut(values.as_mut_ptr().cast(), 2 * values.len()) }
}

/// A packed weight matrix.
pub struct Packed<F> {
    data: Storage,
    /// Inputs and outputs.
    pub shape: Shape,
    lanes: usize,
    format: PhantomData<F>,
}

impl<F: PutRow> Packed<F> {
    /// Packs the rows that `read_row` reads, on all cores and in turns with other runs. Columns past the last output
    /// are 0.
    ///
    /// # Errors
    /// An error of `read_row`, and [`crate::Error::OutOfMemory`].
    pub fn new(shape: Shape, lanes: usize, read_row: impl Fn(usize, &mut [f32]) -> Result<()> + Sync) -> Result<Self> {
        let put = |panel: &mut [f32], column, source, values: &mut [f32]| {
            read_row(source, values)?;
            F::put(panel, lanes, column, values);
            Ok(())
        };
        Self::fill(shape, lanes, shape.k, put, |_| ())
    }
}

impl<F: Format> Packed<F> {
    /// Packs with `put(panel, column, row, scratch)`, which writes a row of the weight to a column that contains zeros, on
    /// all cores and in turns with other runs. Columns past the last output are 0. The scratch memory has `scratch` values,
    /// all 0 before the first call for a panel. `finish` writes the values after the panels.
    ///
    /// # Errors
    /// An error of `put`, and [`crate::Error::OutOfMemory`].
    pub(super) fn fill(
        shape: Shape,
        lanes: usize,
        scratch: usize,
        put: impl Fn(&mut [f32], usize, usize, &mut [f32]) -> Result<()> + Sync,
        finish: impl FnOnce(&mut [f32]),
    ) -> Result<Self> {
        let len = F::panel_len(shape.k, lanes);
        let panels = shape.panels(lanes);
        let mut data = Aligned::zeros(Self::len_of(shape, lanes))?;
        finish(&mut data[panels * len..]);
        let failure = Mutex::new(None);
        let whole = Matrix {
            data: data.as_mut_ptr(),
            stride: len,
        };
        Pool::global().run_in_turns(panels, VALUES_PER_TURN / len.max(1), &|panel, _| {
            // SAFETY: `data` has `panels` panels of `len` values, and each panel is written by one task.
            let out = unsafe { std::slice::from_raw_parts_mut(whole.row(panel), len) };
            let mut values = vec![0.0; scratch];
            for column in 0..VECTORS * lanes {
                let Some(source) = shape.source_row(lanes, panel, column) else {
                    continue;
                };
                if let Err(error) = put(out, column, source, &mut values) {
                    *failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
                    return;
                }
            }
        });
        match failure.into_inner().unwrap_or_else(PoisonError::into_inner) {
            Some(error) => Err(error),
            None => Ok(Self::from_data(shape, lanes, data.into())),
        }
    }

    /// Wraps packed data of [`Packed::len_of`] f32 values.
    pub fn from_data(shape: Shape, lanes: usize, data: Storage) -> Self {
        Self {
            data,
            shape,
            lanes,
            format: PhantomData,
        }
    }

    /// Returns the packed data.
    pub fn into_data(self) -> Storage {
        self.data
    }

    /// Returns the f32 values that a matrix of this shape takes.
    pub fn len_of(shape: Shape, lanes: usize) -> usize {
        shape.panels(lanes) * F::panel_len(shape.k, lanes) + F::tail_len(shape.k)
    }

    /// Returns the number of panels.
    pub fn panels(&self) -> usize {
        self.shape.panels(self.lanes)
    }

    /// Returns one panel. `lanes` must be the number for which the matrix was packed.
    pub(super) fn panel(&self, panel: usize, lanes: usize) -> &[f32] {
        debug_assert_eq!(self.lanes, lanes);
        let len = F::panel_len(self.shape.k, lanes);
        &self.data[panel * len..(panel + 1) * len]
    }

    /// Returns the values that follow the panels.
    pub(super) fn tail(&self) -> &[f32] {
        &self.data[self.data.len() - F::tail_len(self.shape.k)..]
    }
}

/// Returns values, one for each row of the weight, in the order of the panels' columns; 0 past the last output.
pub fn in_panel_order(values: &[f32], shape: Shape, lanes: usize) -> Vec<f32> {
    let columns = (0..shape.panels(lanes)).flat_map(|panel| (0..VECTORS * lanes).map(move |column| (panel, column)));
    columns
        .map(|(panel, column)| shape.source_row(lanes, panel, column).map_or(0.0, |row| values[row]))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::gemm;
    use crate::pool::require_turns;

    #[test]
    fn integers_are_rounded_to_the_nearest() {
        let steps = (-400_000..400_000).map(|step| step as f32 / 8.0);
        let ends = [
            f32::MIN_POSITIVE,
            -0.0,
            0.499_999_97,
            2_097_152.5,
            -2_097_151.5,
            4_194_304.0,
        ];
        for value in steps.chain(ends) {
            assert_eq!(to_integer(value), value.round_ties_even() as i32, "{value}");
        }
    }

    #[test]
    fn packing_lets_other_runs_go_first() {
        let shape = Shape {
            out: 40,
            k: 3,
            gated: false,
        };
        require_turns(|| {
            let read = |row: usize, values: &mut [f32]| {
                values.fill(row as f32);
                Ok(())
            };
            let packed = gemm::Packed::new(shape, 8, read).unwrap();
            assert_eq!(packed.panels(), 3);
        });
    }
}
