//! Weight matrices in panels: some columns of the output side by side, so that the inner loop of a product reads them in
//! one stream. How a panel holds its numbers is the [`Format`]'s.

use super::Matrix;
use crate::aligned::Aligned;
use crate::pool::Pool;
use crate::simd::tile::VECTORS;
use crate::storage::Storage;
use std::marker::PhantomData;
use std::sync::{Mutex, PoisonError};

/// Floats that a thread packs before other runs may go first: about a millisecond.
const FLOATS_A_TURN: usize = 1 << 18;

/// What a weight matrix computes.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// Outputs.
    pub out: usize,
    /// Inputs.
    pub k: usize,
    /// The weight is two matrices of `out` rows: a vector of the first beside the same columns of the second.
    pub gated: bool,
}

impl Shape {
    /// Rows of the weight.
    pub fn rows(self) -> Option<usize> {
        self.out.checked_mul(if self.gated { 2 } else { 1 })
    }

    /// Outputs of a panel.
    pub fn columns(self, lanes: usize) -> usize {
        if self.gated { lanes } else { VECTORS * lanes }
    }

    /// Panels.
    pub fn panels(self, lanes: usize) -> usize {
        self.out.div_ceil(self.columns(lanes))
    }

    /// The row of the weight that stands in column `place` of a panel; `None` past the last.
    pub fn source(self, lanes: usize, panel: usize, place: usize) -> Option<usize> {
        let (vector, lane) = (place / lanes, place % lanes);
        let first = panel * self.columns(lanes);
        let (output, matrix) = if self.gated {
            (first + lane, vector)
        } else {
            (first + place, 0)
        };
        (output < self.out).then_some(matrix * self.out + output)
    }
}

/// How a panel holds its numbers.
pub trait Format {
    /// Floats that a panel takes for rows of `k`.
    fn panel_len(k: usize, lanes: usize) -> usize;

    /// Writes a row of the weight into column `place` of a panel that holds zeros there.
    fn put(panel: &mut [f32], lanes: usize, place: usize, row: &[f32]);
}

/// A weight matrix, packed.
pub struct Packed<F> {
    data: Storage,
    /// What it computes.
    pub shape: Shape,
    lanes: usize,
    format: PhantomData<F>,
}

impl<F: Format> Packed<F> {
    /// Packs the rows that `row` reads, with all cores and in turns with other runs; columns past the last are 0.
    pub fn new<E: Send>(
        shape: Shape,
        lanes: usize,
        row: impl Fn(usize, &mut [f32]) -> Result<(), E> + Sync,
    ) -> Result<Self, E> {
        let len = F::panel_len(shape.k, lanes);
        let panels = shape.panels(lanes);
        let mut data = Aligned::zeros(panels * len);
        let failure = Mutex::new(None);
        let whole = Matrix {
            data: data.as_mut_ptr(),
            stride: len,
        };
        Pool::global().run_in_turns(panels, FLOATS_A_TURN / len.max(1), &|panel, _| {
            // SAFETY: panels lie one behind the other, and each is written by one task.
            let out = unsafe { std::slice::from_raw_parts_mut(whole.row(panel), len) };
            let mut line = vec![0.0; shape.k];
            for place in 0..VECTORS * lanes {
                let Some(source) = shape.source(lanes, panel, place) else {
                    continue;
                };
                if let Err(error) = row(source, &mut line) {
                    *failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
                    return;
                }
                F::put(out, lanes, place, &line);
            }
        });
        match failure.into_inner().unwrap_or_else(PoisonError::into_inner) {
            Some(error) => Err(error),
            None => Ok(Self::from_data(shape, lanes, data.into())),
        }
    }

    /// The matrix from its floats, which are [`Packed::len_of`] many.
    pub fn from_data(shape: Shape, lanes: usize, data: Storage) -> Self {
        Self {
            data,
            shape,
            lanes,
            format: PhantomData,
        }
    }

    /// Its floats.
    pub fn into_data(self) -> Storage {
        self.data
    }

    /// Floats that a matrix of this shape takes.
    pub fn len_of(shape: Shape, lanes: usize) -> usize {
        shape.panels(lanes) * F::panel_len(shape.k, lanes)
    }

    /// Number of panels.
    pub fn panels(&self) -> usize {
        self.shape.panels(self.lanes)
    }

    /// One panel, as kernels of `lanes` read it.
    pub(super) fn panel(&self, panel: usize, lanes: usize) -> &[f32] {
        debug_assert_eq!(self.lanes, lanes);
        let len = F::panel_len(self.shape.k, lanes);
        &self.data[panel * len..(panel + 1) * len]
    }
}

/// Puts one number a row of the weight into the order of the panels' columns; 0 past the last.
pub fn in_order_of_panels(values: &[f32], shape: Shape, lanes: usize) -> Vec<f32> {
    let places = (0..shape.panels(lanes)).flat_map(|panel| (0..VECTORS * lanes).map(move |place| (panel, place)));
    places
        .map(|(panel, place)| shape.source(lanes, panel, place).map_or(0.0, |row| values[row]))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::gemm;
    use crate::pool::require_turns;
    use std::convert::Infallible;

    #[test]
    fn packing_is_done_in_turns() {
        let shape = Shape {
            out: 40,
            k: 3,
            gated: false,
        };
        require_turns(|| {
            let read = |row: usize, line: &mut [f32]| {
                line.fill(row as f32);
                Ok::<(), Infallible>(())
            };
            let Ok(packed) = gemm::Packed::new(shape, 8, read);
            assert_eq!(packed.panels(), 3);
        });
    }
}
