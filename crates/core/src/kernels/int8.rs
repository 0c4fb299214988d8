//! Matrix product of 8-bit integers, rows and weights.
//!
//! Row and weight are transformed so that no value stands out: channels are divided, and multiplied, by powers of 2^¼
//! (`model/smoothing.rs`), then groups of [`INT8_GROUP`] values along K are multiplied with a Hadamard matrix. Each
//! group of a row and each group of a channel has a scale of its own. The products of a group are summed exactly: at most
//! 128 · 255 · 128 < 2²³, so its sum is exact in f32, too. The groups of a channel are then summed in f32, in order.
//! docs/performance.md has the accuracy, and that of other schemes.

pub mod quantise;

use self::quantise::{MAX_INTEGER, groups};
use super::bfloat16::to_bfloat16;
use super::gemm::{MAX_TILE_ROWS, Sums, finish_and_store, with_const_rows};
use super::int16::Gemm;
use super::panels::{self, Format, Shape, halves_mut, to_integer};
use crate::error::Result;
use crate::hadamard::hadamard;
use crate::simd::Simd;
use crate::simd::tile::{INT8_GROUP, Int8Rows, Tile, VECTORS, group_len, next_panel};
use crate::smoothing_factors::{channel_factor, row_factor};
use std::ops::Range;

/// The layout of int8 panels: groups along K. A group is one f32 scale for each column; for each column the negated sum of
/// its integers, in 16 bits; then the integers, as many adjacent ones of a column as one multiplication takes, column by
/// column. After all panels come the factors of the rows' elements, as bfloat16.
pub struct Groups;

impl Format for Groups {
    fn panel_len(k: usize, lanes: usize) -> usize {
        groups(k) * group_len(VECTORS * lanes)
    }

    fn tail_len(k: usize) -> usize {
        groups(k) * INT8_GROUP / 2
    }
}

/// A packed weight matrix of 8-bit integers.
pub type Packed = panels::Packed<Groups>;

impl Packed {
    /// Packs the channels that `read_row` reads, for an instruction set with `lanes` f32 values in a vector that takes
    /// rows as `rows` says. Element i of a channel is multiplied by the [`channel_factor`] of `exponents`\[i\]. Element i of
    /// a row will be multiplied by the [`row_factor`]. Missing exponents are 0.
    ///
    /// # Errors
    /// An error of `read_row`, and [`crate::Error::OutOfMemory`].
    pub fn smoothed(
        shape: Shape,
        (lanes, rows): (usize, Int8Rows),
        exponents: &[i8],
        read_row: impl Fn(usize, &mut [f32]) -> Result<()> + Sync,
    ) -> Result<Self> {
        let padded = groups(shape.k) * INT8_GROUP;
        let exponent = |i: usize| exponents.get(i).copied().unwrap_or_default();
        let channel_factors: Vec<f32> = (0..padded).map(|i| channel_factor(exponent(i))).collect();
        let put = |panel: &mut [f32], column: usize, source: usize, values: &mut [f32]| {
            read_row(source, &mut values[..shape.k])?;
            for (value, factor) in values.iter_mut().zip(&channel_factors) {
                *value *= factor;
            }
            put_channel(panel, VECTORS * lanes, column, rows.step(), values);
            values[shape.k..].fill(0.0);
            Ok(())
        };
        Self::fill(shape, lanes, padded, put, |tail| {
            for (i, half) in halves_mut(tail).iter_mut().enumerate() {
                *half = to_bfloat16(row_factor(exponent(i)));
            }
        })
    }

    /// Returns the factors of the rows' elements, as bfloat16.
    pub fn factors(&self) -> &[u16] {
        let tail = self.tail();
        // SAFETY: two u16 have the size of one f32 and a smaller alignment; the slice covers `tail` exactly.
        unsafe { std::slice::from_raw_parts(tail.as_ptr().cast(), 2 * tail.len()) }
    }
}

/// Writes one channel to a panel of `width` columns. `row` has the values of whole groups, and is transformed.
fn put_channel(panel: &mut [f32], width: usize, column: usize, step: usize, row: &mut [f32]) {
    for (values, group) in row
        .chunks_exact_mut(INT8_GROUP)
        .zip(panel.chunks_exact_mut(group_len(width)))
    {
        hadamard(values);
        let (scales, rest) = group.split_at_mut(width);
        let (sums, integers) = rest.split_at_mut(width / 2);
        let peak = values.iter().fold(0.0f32, |peak, w| peak.max(w.abs()));
        // The division by the length of the group makes the transform of the weights the inverse of that of the rows.
        scales[column] = peak / MAX_INTEGER / INT8_GROUP as f32;
        let factor = if peak > 0.0 { MAX_INTEGER / peak } else { 0.0 };
        // SAFETY: four i8 have the size of one f32 and a smaller alignment. The slice covers `integers` exactly, which is
        // not used while it exists.
        let integers: &mut [i8] =
            unsafe { std::slice::from_raw_parts_mut(integers.as_mut_ptr().cast(), 4 * integers.len()) };
        let mut rounded = [0i8; INT8_GROUP];
        if factor.is_finite() {
            for (integer, w) in rounded.iter_mut().zip(values.iter()) {
                *integer = to_integer(w * factor) as i8;
            }
        } else {
            // A peak below 127 / f32::MAX, whose scale is almost 0.
            for (integer, w) in rounded.iter_mut().zip(values.iter()) {
                *integer = (w * factor).round_ties_even() as i8;
            }
        }
        for (adjacent, row) in rounded.chunks_exact(step).zip(integers.chunks_exact_mut(width * step)) {
            row[column * step..][..step].copy_from_slice(adjacent);
        }
        let sum: i16 = rounded.iter().copied().map(i16::from).sum();
        halves_mut(sums)[column] = (-sum).cast_unsigned();
    }
}

/// Computes the given rows and panels.
///
/// # Safety
/// `x`, `scales` and `out` must cover the rows with the widths of the weight, and `out` must not overlap the inputs. No
/// other thread may access these rows and columns of `out`, and the processor must have the instruction set of `V`.
#[inline(always)]
pub unsafe fn gemm<V: Simd>(args: &Gemm<'_, Packed>, rows: Range<usize>, panels: Range<usize>) {
    let shape = args.weight.shape;
    let width = VECTORS * V::LANES;
    let len = group_len(width);
    let groups = groups(shape.k);
    let panel_len = groups * len;
    for panel in panels {
        let column = panel * shape.columns(V::LANES);
        let b = args.weight.panel(panel, V::LANES).as_ptr();
        let bias = args.bias.map(|bias| &bias[panel * width..][..width]);
        let passes = rows.len().div_ceil(V::TILE);
        for (pass, row) in rows.clone().step_by(V::TILE).enumerate() {
            // SAFETY: x, scales and out cover the rows and columns by this function's contract. A panel of the packed
            // weight has `groups` groups, and a row of integers is whole groups long. The prefetch address is not
            // dereferenced.
            unsafe {
                let count = V::TILE.min(rows.end - row);
                let (prefetch, further) = next_panel::<V>(b.wrapping_add(panel_len), panel_len, pass, passes);
                let mut tile = Tile {
                    k: INT8_GROUP / V::INT8_ROWS.step(),
                    x: args.x.row(row),
                    x_stride: args.x.stride,
                    b,
                    prefetch,
                    further,
                    out: args.out.row(row).add(column),
                    out_stride: args.out.stride,
                    columns: shape.columns(V::LANES).min(shape.out - column),
                };
                let mut sums: Sums<V> = [[V::splat(0.0); VECTORS]; MAX_TILE_ROWS];
                for group in 0..groups {
                    let scales = (args.scales.row(row).add(group).cast_const(), args.scales.stride);
                    with_const_rows!(V, count, |ROWS| V::group_int8::<ROWS>(&mut sums, &tile, scales));
                    tile.x = tile.x.add(INT8_GROUP / V::INT8_ROWS.in_f32());
                    tile.b = tile.b.add(len);
                    tile.prefetch = tile.prefetch.wrapping_add(len / 4);
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
    use crate::kernels::int8::quantise::{QuantiseInt8, row_len};
    use crate::kernels::{Kernels, Matrix};

    /// Multiplies all rows of x with a weight, on one instruction set.
    fn product(kernels: &Kernels, x: &[f32], weight: &[f32], k: usize) -> Vec<f32> {
        let (rows, out) = (x.len() / k, weight.len() / k);
        let shape = Shape { out, k, gated: false };
        let packed = Packed::smoothed(shape, (kernels.lanes, kernels.int8_rows), &[], |row, values| {
            values.copy_from_slice(&weight[row * k..(row + 1) * k]);
            Ok(())
        })
        .unwrap();
        let matrix = |values: &mut [f32], stride| Matrix {
            data: values.as_mut_ptr(),
            stride,
        };
        let len = row_len(k, kernels.int8_rows);
        let (mut x, mut ints) = (x.to_vec(), vec![0.0; rows * len]);
        let (mut scales, mut result) = (vec![0.0; rows * groups(k)], vec![0.0; rows * out]);
        let quantise = QuantiseInt8 {
            x: matrix(&mut x, k),
            k,
            factors: packed.factors(),
            out: matrix(&mut ints, len),
            scales: matrix(&mut scales, groups(k)),
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
            (kernels.quantise_int8)(&quantise, 0..rows);
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
                    let bound = 0.01 * (k as f64).sqrt();
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
    fn instruction_sets_with_fused_multiply_adds_compute_the_same_bits() {
        for (rows, k, out) in [(1, 128, 8), (5, 300, 35), (13, 768, 40)] {
            let (x, weight) = (numbers(rows * k, 1), numbers(out * k, 2));
            let fused = Kernels::all().into_iter().filter(|kernels| kernels.name != "portable");
            let found: Vec<_> = fused
                .map(|kernels| (kernels.name, product(kernels, &x, &weight, k)))
                .collect();
            for (name, bits) in &found {
                assert!(*bits == found[0].1, "{name} and {}: {rows} {k} {out}", found[0].0);
            }
        }
    }

    #[test]
    fn extremes_stay_finite_and_exact() {
        for (k, kernels) in [31, 32, 512, 4096]
            .into_iter()
            .flat_map(|k| Kernels::all().into_iter().map(move |set| (k, set)))
        {
            let x: Vec<f32> = (0..k).map(|i| if i % 3 == 0 { 1e9 } else { -1e9 }).collect();
            let exact: f64 = x.iter().map(|v| f64::from(*v) * f64::from(*v)).sum();
            for found in product(kernels, &x, &x, k) {
                assert!(
                    (f64::from(found) / exact - 1.0).abs() < 2e-2,
                    "{}: {k}: {found} for {exact}",
                    kernels.name
                );
            }
        }
    }

    #[test]
    fn channels_of_the_smallest_numbers_stay_finite() {
        for size in [1e-36, 1e-38, 1e-45] {
            let mut weight = [0.0; 256];
            (weight[0], weight[1], weight[200]) = (size, -size, size);
            assert!(product(Kernels::best(), &[1.0; 256], &weight, 256)[0].abs() <= 2.0 * size);
        }
    }

    #[test]
    fn zeros_stay_zeros_and_nan_stays_nan() {
        for kernels in Kernels::all() {
            let all = |x: &[f32; 40], weight: &[f32; 40], is: fn(f32) -> bool| {
                let found = product(kernels, x, weight, 40);
                assert!(found.iter().all(|found| is(*found)), "{}: {found:?}", kernels.name);
            };
            all(&[0.0; 40], &[1.0; 40], |found| found == 0.0);
            all(&[1.0; 40], &[0.0; 40], |found| found == 0.0);
            for bad in [f32::NAN, f32::INFINITY, f32::MAX] {
                let mut x = [1.0; 40];
                x[17] = bad;
                x[18] = bad;
                all(&x, &[1.0; 40], |found| !found.is_finite());
            }
        }
    }
}
