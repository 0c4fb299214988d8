//! Matrix product with bfloat16 weights: half the memory of f32 weights, and arithmetic in f32 as in [`super::gemm`].
//!
//! A weight is rounded to the nearest bfloat16, the upper half of an f32. Checkpoints in bfloat16 lose nothing.

use super::gemm::{Gemm, MAX_TILE_ROWS, Sums, finish_and_store, with_const_rows};
use super::panels::{self, Format, PutRow, halves_mut};
use crate::simd::Simd;
use crate::simd::tile::{Tile, VECTORS};
use std::ops::Range;

/// Rounds to the nearest bfloat16, ties to even. `value` must be finite.
pub(super) fn to_bfloat16(value: f32) -> u16 {
    let bits = value.to_bits();
    (bits.wrapping_add(0x7fff + (bits >> 16 & 1)) >> 16) as u16
}

/// The layout of bfloat16 panels: K major.
pub struct Bfloat16s;

impl Format for Bfloat16s {
    fn panel_len(k: usize, lanes: usize) -> usize {
        VECTORS * lanes / 2 * k
    }
}

impl PutRow for Bfloat16s {
    fn put(panel: &mut [f32], lanes: usize, column: usize, row: &[f32]) {
        for (values, value) in halves_mut(panel).chunks_exact_mut(VECTORS * lanes).zip(row) {
            values[column] = to_bfloat16(*value);
        }
    }
}

/// A packed weight matrix of bfloat16 numbers.
pub type Packed = panels::Packed<Bfloat16s>;

/// Computes the given rows and panels.
///
/// # Safety
/// `x` and `out` must cover the rows with the widths of the weight and must not overlap. No other thread may access
/// these rows and columns of `out`, and the processor must have the instruction set of `V`.
#[inline(always)]
pub unsafe fn gemm<V: Simd>(args: &Gemm<'_, Packed>, rows: Range<usize>, panels: Range<usize>) {
    let shape = args.weight.shape;
    let width = VECTORS * V::LANES;
    let panel_len = Bfloat16s::panel_len(shape.k, V::LANES);
    for panel in panels {
        let column = panel * shape.columns(V::LANES);
        let b = args.weight.panel(panel, V::LANES).as_ptr();
        let bias = args.bias.map(|bias| &bias[panel * width..][..width]);
        for (pass, row) in rows.clone().step_by(V::TILE).enumerate() {
            // SAFETY: x and out cover the rows and columns by this function's contract, and a panel of the packed
            // weight has k rows. The prefetch address is not dereferenced, so it may lie outside.
            unsafe {
                let tile = Tile {
                    k: shape.k,
                    x: args.x.row(row),
                    x_stride: args.x.stride,
                    b,
                    prefetch: b.wrapping_add(panel_len + pass * shape.k / 4 * width),
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
