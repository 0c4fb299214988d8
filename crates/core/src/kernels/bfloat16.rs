//! Matrix product with bfloat16 weights: half the memory of f32 weights.
//!
//! A weight is rounded to the nearest bfloat16, the upper half of an f32. Checkpoints in bfloat16 lose nothing.
//!
//! The instruction set decides the arithmetic ([`Bfloat16Rows`]). Without instructions that multiply bfloat16 numbers it
//! is that of [`super::gemm`]. With them, rows are rounded to bfloat16 too, and their instruction decides in which order
//! f32 sums are rounded, so these sets differ from the others and from each other. On each set an output is one chain of
//! operations along K, whatever the number of rows.

use super::Matrix;
use super::gemm::{Gemm, MAX_TILE_ROWS, Sums, finish_and_store, with_const_rows};
use super::loops::for_each_vector;
use super::panels::{self, Format, Shape, halves_mut};
use crate::error::Result;
use crate::simd::Simd;
use crate::simd::tile::{BFLOAT16_UNIT, Bfloat16Rows, Tile, VECTORS, next_panel};
use std::ops::Range;

/// Rounds to the nearest bfloat16, ties to even. `value` must be finite.
pub(super) fn to_bfloat16(value: f32) -> u16 {
    let bits = value.to_bits();
    (bits.wrapping_add(0x7fff + (bits >> 16 & 1)) >> 16) as u16
}

/// Returns the f32 values that the memory of a row of `k` bfloat16 numbers takes; 0 if rows stay f32.
pub fn row_len(k: usize, rows: Bfloat16Rows) -> usize {
    match rows {
        Bfloat16Rows::Floats => 0,
        Bfloat16Rows::Pairs => k.next_multiple_of(BFLOAT16_UNIT) / 2,
    }
}

/// The layout of bfloat16 panels: K major, weight by weight or in pairs. Zeros fill the last unit: a product of a row's
/// zeros with other weights could be NaN.
pub struct Bfloat16s;

impl Format for Bfloat16s {
    fn panel_len(k: usize, lanes: usize) -> usize {
        VECTORS * lanes / 2 * k.next_multiple_of(BFLOAT16_UNIT)
    }
}

/// A packed weight matrix of bfloat16 numbers.
pub type Packed = panels::Packed<Bfloat16s>;

impl Packed {
    /// Packs the channels that `read_row` reads, for an instruction set with `lanes` f32 values in a vector that takes
    /// weights as `rows` says.
    ///
    /// # Errors
    /// An error of `read_row`, and [`crate::Error::OutOfMemory`].
    pub fn rounded(
        shape: Shape,
        (lanes, rows): (usize, Bfloat16Rows),
        read_row: impl Fn(usize, &mut [f32]) -> Result<()> + Sync,
    ) -> Result<Self> {
        let width = VECTORS * lanes;
        let put = |panel: &mut [f32], column: usize, source: usize, values: &mut [f32]| {
            read_row(source, values)?;
            let panel = halves_mut(panel);
            for (i, value) in values.iter().enumerate() {
                let place = match rows {
                    Bfloat16Rows::Floats => i * width + column,
                    Bfloat16Rows::Pairs => (i / 2 * width + column) * 2 + i % 2,
                };
                panel[place] = to_bfloat16(*value);
            }
            Ok(())
        };
        Self::fill(shape, lanes, shape.k, put, |_| ())
    }
}

/// Arguments of the conversion of rows to bfloat16 numbers.
pub struct Round {
    /// Input rows of `k` values.
    pub x: Matrix,
    /// Elements of a row.
    pub k: usize,
    /// Output rows of [`row_len`] f32 values, in [`Bfloat16Rows::Pairs`]. Numbers past `k` become 0.
    pub out: Matrix,
}

/// Converts the given rows.
///
/// # Safety
/// `x` and `out` must cover the rows. No other thread may access these rows of `out`, and the processor must have the
/// instruction set of `V`.
#[inline(always)]
pub unsafe fn round<V: Simd>(args: &Round, rows: Range<usize>) {
    for row in rows {
        // SAFETY: x and out cover the row by this function's contract; reads stop at k, and whole vectors of every
        // instruction set divide a unit.
        unsafe {
            let (x, out) = (args.x.row(row), args.out.row(row).cast::<u16>());
            for_each_vector!(V, args.k.next_multiple_of(BFLOAT16_UNIT), |i, _n| {
                let n = args.k.saturating_sub(i).min(V::LANES);
                V::load_first(x.wrapping_add(i), n).store_bf16(out.add(i));
            });
        }
    }
}

/// Computes the given rows and panels.
///
/// # Safety
/// `x`, with rows as [`Simd::BFLOAT16_ROWS`] says, and `out` must cover the rows with the widths of the weight and must not
/// overlap. No other thread may access these rows and columns of `out`, and the processor must have the instruction set of
/// `V`.
#[inline(always)]
pub unsafe fn gemm<V: Simd>(args: &Gemm<'_, Packed>, rows: Range<usize>, panels: Range<usize>) {
    let shape = args.weight.shape;
    let width = VECTORS * V::LANES;
    let panel_len = Bfloat16s::panel_len(shape.k, V::LANES);
    let k = match V::BFLOAT16_ROWS {
        Bfloat16Rows::Floats => shape.k,
        Bfloat16Rows::Pairs => shape.k.div_ceil(2),
    };
    for panel in panels {
        let column = panel * shape.columns(V::LANES);
        let b = args.weight.panel(panel, V::LANES).as_ptr();
        let bias = args.bias.map(|bias| &bias[panel * width..][..width]);
        let passes = rows.len().div_ceil(V::TILE);
        for (pass, row) in rows.clone().step_by(V::TILE).enumerate() {
            // SAFETY: x and out cover the rows and columns by this function's contract, and a panel of the packed
            // weight has k rows of weights or of pairs. The prefetch address is not dereferenced, so it may lie outside.
            unsafe {
                let (prefetch, further) = next_panel::<V>(b.wrapping_add(panel_len), k * width, pass, passes);
                let tile = Tile {
                    k,
                    x: args.x.row(row),
                    x_stride: args.x.stride,
                    b,
                    prefetch,
                    further,
                    out: args.out.row(row).add(column),
                    out_stride: args.out.stride,
                    columns: shape.columns(V::LANES).min(shape.out - column),
                };
                let count = V::TILE.min(rows.end - row);
                let mut sums: Sums<V> = [[V::splat(0.0); VECTORS]; MAX_TILE_ROWS];
                with_const_rows!(V, count, |ROWS| {
                    let mut registers = [[V::splat(0.0); VECTORS]; ROWS];
                    V::tile_bf16::<ROWS>(&mut registers, &tile);
                    sums[..ROWS].copy_from_slice(&registers);
                });
                finish_and_store(&mut sums[..count], &tile, bias, args.finish);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounding_is_to_the_nearest() {
        for (value, half) in [
            (0.0, 0x0000),
            (1.0, 0x3f80),
            (-2.0, 0xc000),
            (1.003_906_3, 0x3f80), // a tie, to even
            (1.011_718_8, 0x3f82), // a tie, to even
            (1.004, 0x3f81),
        ] {
            assert_eq!(to_bfloat16(value), half, "{value}");
        }
    }
}
