//! Matrix product with bfloat16 weights: half the memory, and arithmetic in 32-bit floats as in [`super::gemm`].
//!
//! A weight keeps the upper half of its float, rounded to the nearest; checkpoints that hold bfloat16 lose nothing.

use super::gemm::{Gemm, MOST_ROWS, Sums, by_rows, store};
use super::panels::{self, Format};
use crate::simd::Simd;
use crate::simd::tile::{Tile, VECTORS};
use std::ops::Range;

/// The nearest bfloat16, ties to even. The weights are known to be finite.
fn upper_half(value: f32) -> u16 {
    let bits = value.to_bits();
    (bits.wrapping_add(0x7fff + (bits >> 16 & 1)) >> 16) as u16
}

/// Panels of upper halves, K major.
pub struct Halves;

impl Format for Halves {
    fn panel_len(k: usize, lanes: usize) -> usize {
        VECTORS * lanes / 2 * k
    }

    fn put(panel: &mut [f32], lanes: usize, place: usize, row: &[f32]) {
        // SAFETY: a float has room for two halves, and no wish for alignment that a half would not have.
        let halves = unsafe { std::slice::from_raw_parts_mut(panel.as_mut_ptr().cast::<u16>(), 2 * panel.len()) };
        for (values, value) in halves.chunks_exact_mut(VECTORS * lanes).zip(row) {
            values[place] = upper_half(*value);
        }
    }
}

/// A weight matrix of upper halves.
pub type Packed = panels::Packed<Halves>;

/// Computes the given rows and panels.
///
/// # Safety
/// See [`super::Kernels`]; `x` and `out` must not overlap.
#[inline(always)]
pub unsafe fn gemm<V: Simd>(args: &Gemm<'_, Packed>, rows: Range<usize>, panels: Range<usize>) {
    let shape = args.weight.shape;
    let width = VECTORS * V::LANES;
    let floats = Halves::panel_len(shape.k, V::LANES);
    for panel in panels {
        let column = panel * shape.columns(V::LANES);
        let b = args.weight.panel(panel, V::LANES).as_ptr();
        let bias = args.bias.map(|bias| &bias[panel * width..][..width]);
        for (pass, row) in rows.clone().step_by(V::TILE).enumerate() {
            // SAFETY: as in the product of floats.
            unsafe {
                let product = Tile {
                    k: shape.k,
                    x: args.x.row(row),
                    x_stride: args.x.stride,
                    b,
                    prefetch: b.wrapping_add(floats + pass * shape.k / 4 * width),
                    out: args.out.row(row).add(column),
                    out_stride: args.out.stride,
                    columns: shape.columns(V::LANES).min(shape.out - column),
                };
                let count = V::TILE.min(rows.end - row);
                let mut sums: Sums<V> = [[V::splat(0.0); VECTORS]; MOST_ROWS];
                by_rows!(V, count, |ROWS| {
                    let mut registers = [[V::splat(0.0); VECTORS]; ROWS];
                    V::tile_bf16::<ROWS>(&mut registers, &product);
                    sums[..ROWS].copy_from_slice(&registers);
                });
                store(&mut sums[..count], &product, bias, args.finish);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halves_are_the_nearest() {
        for (value, half) in [
            (0.0, 0x0000),
            (1.0, 0x3f80),
            (-2.0, 0xc000),
            (1.003_906_3, 0x3f80), // a tie, to even
            (1.011_718_8, 0x3f82), // a tie, to even
            (1.004, 0x3f81),
        ] {
            assert_eq!(upper_half(value), half, "{value}");
        }
    }
}
