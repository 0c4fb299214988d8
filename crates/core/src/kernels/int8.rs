//! Matrix product with 8-bit weights, which take half the memory of 16-bit ones.
//!
//! Every [`INT8_GROUP`] weights of a channel along K share a scale. With one scale for a whole channel an outlier would
//! leave too few bits to all other weights. Rows are 16-bit integers with one scale each: with 8-bit rows, grouped or
//! not, the outliers of a real Gemma's activations lose more accuracy than the weights do (docs/performance.md). The
//! products of a group are summed exactly in 32 bits, at most 32 · 2¹⁵ · 2⁷ = 2²⁷. The groups of a channel are then
//! summed in f32, in order.

use super::gemm::{MAX_TILE_ROWS, Sums, finish_and_store, with_const_rows};
use super::int16::Gemm;
use super::panels::{self, Format};
use crate::simd::Simd;
use crate::simd::tile::{INT8_GROUP, Tile, VECTORS};
use std::ops::Range;

/// Largest weight in units of its scale.
const MAX_INTEGER: f32 = 127.0;

/// Returns the f32 values that one group of a panel takes: one scale for each column, and the weights.
fn group_len(lanes: usize) -> usize {
    VECTORS * lanes * (1 + INT8_GROUP / 4)
}

/// The layout of int8 panels: groups along K. A group is one f32 scale for each column, then pairs of adjacent weights
/// along K, column by column.
pub struct Groups;

impl Format for Groups {
    fn panel_len(k: usize, lanes: usize) -> usize {
        k.div_ceil(INT8_GROUP) * group_len(lanes)
    }

    fn put(panel: &mut [f32], lanes: usize, column: usize, row: &[f32]) {
        let width = VECTORS * lanes;
        for (weights, group) in row.chunks(INT8_GROUP).zip(panel.chunks_exact_mut(group_len(lanes))) {
            let (scales, pairs) = group.split_at_mut(width);
            let peak = weights.iter().fold(0.0f32, |peak, w| peak.max(w.abs()));
            scales[column] = peak / MAX_INTEGER;
            let factor = if peak > 0.0 { MAX_INTEGER / peak } else { 0.0 };
            // SAFETY: two pairs of i8 have the size of one f32 and a smaller alignment. The slice covers `pairs`
            // exactly, which is not used while it exists.
            let pairs =
                unsafe { std::slice::from_raw_parts_mut(pairs.as_mut_ptr().cast::<[i8; 2]>(), 2 * pairs.len()) };
            for (i, w) in weights.iter().enumerate() {
                pairs[i / 2 * width + column][i % 2] = (w * factor).round_ties_even() as i8;
            }
        }
    }
}

/// A packed weight matrix of 8-bit integers.
pub type Packed = panels::Packed<Groups>;

/// Computes the given rows and panels.
///
/// # Safety
/// `x`, `scales` and `out` must cover the rows with the widths of the weight, and `out` must not overlap the inputs. No
/// other thread may access these rows and columns of `out`, and the processor must have the instruction set of `V`.
#[inline(always)]
pub unsafe fn gemm<V: Simd>(args: &Gemm<'_, Packed>, rows: Range<usize>, panels: Range<usize>) {
    let shape = args.weight.shape;
    let width = VECTORS * V::LANES;
    let len = group_len(V::LANES);
    let groups = shape.k.div_ceil(INT8_GROUP);
    for panel in panels {
        let column = panel * shape.columns(V::LANES);
        let b = args.weight.panel(panel, V::LANES).as_ptr();
        let bias = args.bias.map(|bias| &bias[panel * width..][..width]);
        for (pass, row) in rows.clone().step_by(V::TILE).enumerate() {
            // SAFETY: x, scales and out cover the rows and columns by this function's contract. A panel of the packed
            // weight has `groups` groups, and a row of pairs is whole groups long. The prefetch address is not
            // dereferenced.
            unsafe {
                let count = V::TILE.min(rows.end - row);
                let mut tile = Tile {
                    k: INT8_GROUP / 2,
                    x: args.x.row(row),
                    x_stride: args.x.stride,
                    b,
                    prefetch: b.wrapping_add(groups * len + pass * groups * len / 4),
                    out: args.out.row(row).add(column),
                    out_stride: args.out.stride,
                    columns: shape.columns(V::LANES).min(shape.out - column),
                };
                let mut sums: Sums<V> = [[V::splat(0.0); VECTORS]; MAX_TILE_ROWS];
                for _ in 0..groups {
                    with_const_rows!(V, count, |ROWS| V::group_int8::<ROWS>(&mut sums, &tile));
                    tile.x = tile.x.add(INT8_GROUP / 2);
                    tile.b = tile.b.add(len);
                    tile.prefetch = tile.prefetch.wrapping_add(INT8_GROUP / 8 * 16);
                }
                for (r, sums) in sums[..count].iter_mut().enumerate() {
                    let row_scale = V::splat(*args.scales.row(row + r));
                    *sums = [sums[0].mul(row_scale), sums[1].mul(row_scale)];
                }
                finish_and_store(&mut sums[..count], &tile, bias, args.finish);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::gemm::Finish;
    use crate::kernels::panels::Shape;
    use crate::kernels::{Kernels, Matrix, int16};

    /// Multiplies all rows of x with a weight, on one instruction set.
    fn product(kernels: &Kernels, x: &[f32], weight: &[f32], k: usize) -> Vec<f32> {
        let (rows, out) = (x.len() / k, weight.len() / k);
        let shape = Shape { out, k, gated: false };
        let packed = Packed::new(shape, kernels.lanes, |row, values| {
            values.copy_from_slice(&weight[row * k..(row + 1) * k]);
            Ok(())
        })
        .unwrap();
        let matrix = |values: &mut [f32], stride| Matrix {
            data: values.as_mut_ptr(),
            stride,
        };
        let (mut x, mut ints) = (x.to_vec(), vec![0.0; rows * int16::pairs(k)]);
        let (mut scales, mut result) = (vec![0.0; rows], vec![0.0; rows * out]);
        let quantise = int16::Quantise {
            x: matrix(&mut x, k),
            k,
            out: matrix(&mut ints, int16::pairs(k)),
            scales: matrix(&mut scales, 1),
            max_norm: f32::INFINITY,
        };
        let gemm = Gemm {
            x: quantise.out,
            scales: quantise.scales,
            out: matrix(&mut result, out),
            weight: &packed,
            bias: None,
            finish: Finish::Keep,
        };
        // SAFETY: the matrices have the sizes that the arguments say, and this machine has the kernels.
        unsafe {
            (kernels.quantise)(&quantise, 0..rows);
            (kernels.gemm_int8)(&gemm, 0..rows, 0..packed.panels());
        }
        result
    }

    fn numbers(count: usize, seed: u32) -> Vec<f32> {
        let mut state = seed;
        (0..count)
            .map(|_| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (state >> 8) as f32 / (1 << 23) as f32 - 1.0
            })
            .collect()
    }

    #[test]
    fn is_near_the_exact_product_on_every_instruction_set() {
        for (rows, k, out) in [
            (1, 1, 1),
            (1, 31, 3),
            (2, 33, 17),
            (6, 64, 16),
            (7, 100, 35),
            (13, 768, 40),
        ] {
            let (x, weight) = (numbers(rows * k, 1), numbers(out * k, 2));
            let portable = product(Kernels::portable(), &x, &weight, k);
            for kernels in Kernels::all() {
                let found = product(kernels, &x, &weight, k);
                let name = kernels.name;
                for (i, (found, portable)) in found.iter().zip(&portable).enumerate() {
                    let (x, w) = (&x[i / out * k..][..k], &weight[i % out * k..][..k]);
                    let exact: f64 = x.iter().zip(w).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum();
                    let bound = 0.006 * (k as f64).sqrt();
                    assert!(
                        (f64::from(*found) - exact).abs() < bound,
                        "{name} {rows} {k} {out}: {found} for {exact}"
                    );
                    assert!(
                        (found - portable).abs() < 1e-5 * (k as f32).sqrt(),
                        "{name} {rows} {k} {out}: {found}, {portable}"
                    );
                }
            }
        }
    }

    #[test]
    fn extremes_stay_finite_and_exact() {
        for k in [31, 32, 512, 4096] {
            let x: Vec<f32> = (0..k).map(|i| if i % 3 == 0 { 1e9 } else { -1e9 }).collect();
            let exact: f64 = x.iter().map(|v| f64::from(*v) * f64::from(*v)).sum();
            for found in product(Kernels::best(), &x, &x, k) {
                assert!(
                    (f64::from(found) / exact - 1.0).abs() < 1e-3,
                    "{k}: {found} for {exact}"
                );
            }
        }
    }

    #[test]
    fn zeros_stay_zeros_and_nan_stays_nan() {
        let kernels = Kernels::best();
        assert!(
            product(kernels, &[0.0; 40], &[1.0; 40], 40)
                .iter()
                .all(|found| *found == 0.0)
        );
        assert!(
            product(kernels, &[1.0; 40], &[0.0; 40], 40)
                .iter()
                .all(|found| *found == 0.0)
        );
        for bad in [f32::NAN, f32::INFINITY] {
            let mut x = [1.0; 40];
            x[17] = bad;
            assert!(
                product(kernels, &x, &[1.0; 40], 40)
                    .iter()
                    .all(|found| !found.is_finite())
            );
        }
    }
}
