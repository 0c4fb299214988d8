//! Matrix product of 16-bit integers, near lossless: rows and weights are scaled to integers, multiplied exactly into
//! 32 bits, and scaled back.
//!
//! No sum can overflow, whatever the input. By the inequality of Cauchy and Schwarz a sum of products, and any part of
//! it, is at most ‖row‖ · ‖channel‖. So each channel of the weight is scaled to a norm of at most [`WEIGHT_NORM`], each
//! row to the norm that leaves, and both to 16 bits; what peaks (activations of real models do, at 20 to 50 times their
//! mean) keeps more bits that way than by a bound on the largest values. With K = 768 and normal numbers rows and
//! weights have 13 to 14 bits each.

use super::Matrix;
use super::gemm::{Finish, MOST_ROWS, Sums, by_rows, put, store};
use super::loops::{each, total};
use super::panels::{self, Format};
use crate::simd::Simd;
use crate::simd::tile::{Tile, VECTORS};
use std::ops::Range;

/// Largest norm of a channel of the weight, in units of its scale, before rounding: √2³¹.
pub(super) const WEIGHT_NORM: f32 = 46_340.0;
/// Largest value of a scaled element.
const PEAK: f32 = 32_767.0;
/// A norm is summed in floats (32 sums, so that rows of 50,000 stay well inside) and a scaled value rounded to one: they
/// may be off by this share.
const SLACK: f32 = 1.0 - 1e-4;

/// Largest norm of a row of `k` elements before rounding. Rounding moves each element of both sides by at most ½, which
/// adds at most ½√k to either norm.
pub fn row_norm(k: usize) -> f32 {
    let rounding = 0.5 * (k as f64).sqrt();
    ((f64::from(i32::MAX) / (f64::from(WEIGHT_NORM) + rounding)) - rounding) as f32
}

/// Peaks below this count as this: their reciprocal is still a number, and their integers are 0.
pub(super) const LEAST_PEAK: f32 = 1e-30;

/// The scale that brings a vector into bounds, from its largest value and from its norm in units of that: squares of
/// the values themselves could be too small or too large for a float. NaN gives NaN.
pub(super) fn scale(peak: f32, norm: f32, largest_norm: f32) -> f32 {
    let (by_norm, by_peak) = (peak * norm / (largest_norm * SLACK), peak / (PEAK * SLACK));
    if by_norm < by_peak { by_peak } else { by_norm }
}

/// Pairs of 16-bit values that a row of `k` takes, whole cache lines so that rows begin on one.
pub fn pairs(k: usize) -> usize {
    k.next_multiple_of(32) / 2
}

/// Panels of a scale a column, then pairs of neighbours along K, column by column.
pub struct Pairs;

impl Format for Pairs {
    fn panel_len(k: usize, lanes: usize) -> usize {
        VECTORS * lanes * (1 + k.div_ceil(2))
    }

    fn put(panel: &mut [f32], lanes: usize, place: usize, row: &[f32]) {
        let width = VECTORS * lanes;
        let (scales, pairs) = panel.split_at_mut(width);
        let peak = row.iter().fold(LEAST_PEAK, |peak, w| peak.max(w.abs()));
        let square: f64 = row.iter().map(|w| f64::from(w / peak).powi(2)).sum();
        scales[place] = scale(peak, square.sqrt() as f32, WEIGHT_NORM);
        // SAFETY: a pair has the size of a float.
        let pairs = unsafe { std::slice::from_raw_parts_mut(pairs.as_mut_ptr().cast::<[i16; 2]>(), pairs.len()) };
        for (i, w) in row.iter().enumerate() {
            pairs[i / 2 * width + place][i % 2] = (w / scales[place]).round_ties_even() as i16;
        }
    }
}

/// A weight matrix of 16-bit integers.
pub type Packed = panels::Packed<Pairs>;

/// Rows to integers, for products of 16-bit integers and for those with 8-bit weights.
pub struct Quantise {
    /// Rows of `k` floats.
    pub x: Matrix,
    /// Elements of a row.
    pub k: usize,
    /// Rows of [`pairs`] pairs, each the size of a float; places past `k` become 0.
    pub out: Matrix,
    /// One a row: what a unit is worth.
    pub scales: Matrix,
    /// Largest norm that a row may have in integers; see [`row_norm`]. Infinite where only 16 bits bound it.
    pub largest_norm: f32,
}

/// Converts the given rows.
///
/// # Safety
/// See [`super::Kernels`].
#[inline(always)]
pub unsafe fn quantise<V: Simd>(args: &Quantise, rows: Range<usize>) {
    for row in rows {
        // SAFETY: the caller vouches for the row; a row of pairs has room for whole vectors.
        unsafe {
            let x = args.x.row(row);
            let out = args.out.row(row).cast::<i16>();
            let mut peak = V::splat(LEAST_PEAK);
            each!(V, args.k, |i, n| {
                let v = V::load_first(x.add(i), n);
                peak = v.max(V::splat(0.0).sub(v)).max(peak);
            });
            let peak = peak.largest();
            let unit = V::splat(1.0 / peak);
            let square = total!(V, args.k, |i, n| {
                let v = V::load_first(x.add(i), n).mul(unit);
                v.mul(v)
            });
            let scale = scale(peak, square.sqrt(), args.largest_norm);
            *args.scales.row(row) = scale;
            convert::<V>(x, args.k, scale, out);
        }
    }
}

/// Writes `k` floats in units of `scale`, and zeros up to whole pairs; see [`pairs`].
///
/// # Safety
/// There must be that many floats and that much room.
#[inline(always)]
pub(super) unsafe fn convert<V: Simd>(x: *const f32, k: usize, scale: f32, out: *mut i16) {
    let factor = V::splat(1.0 / scale);
    // SAFETY: the caller vouches for floats and room.
    unsafe {
        each!(V, 2 * pairs(k), |i, _n| {
            let n = k.saturating_sub(i).min(V::LANES);
            V::load_first(x.wrapping_add(i), n).mul(factor).store_int16(out.add(i));
        });
    }
}

/// One product of integers, with weights packed as `W`.
pub struct Gemm<'a, W = Packed> {
    /// Rows of pairs, from [`Quantise`].
    pub x: Matrix,
    /// Their scales.
    pub scales: Matrix,
    /// Output rows of `weight.shape.out` floats.
    pub out: Matrix,
    /// The weights, packed for the instruction set that runs.
    pub weight: &'a W,
    /// One a column of each panel.
    pub bias: Option<&'a [f32]>,
    /// Applied last.
    pub finish: Finish,
}

/// Computes the given rows and panels.
///
/// # Safety
/// See [`super::Kernels`].
#[inline(always)]
pub unsafe fn gemm<V: Simd>(args: &Gemm<'_>, rows: Range<usize>, panels: Range<usize>) {
    let shape = args.weight.shape;
    let (width, pairs) = (VECTORS * V::LANES, shape.k.div_ceil(2));
    let len = Pairs::panel_len(shape.k, V::LANES);
    for panel in panels {
        let column = panel * shape.columns(V::LANES);
        let (of_columns, b) = args.weight.panel(panel, V::LANES).split_at(width);
        let (of_columns, b) = (of_columns.as_ptr(), b.as_ptr());
        let bias = args.bias.map(|bias| &bias[panel * width..][..width]);
        for (pass, row) in rows.clone().step_by(V::TILE).enumerate() {
            // SAFETY: as in the product of floats.
            unsafe {
                let product = Tile {
                    k: pairs,
                    x: args.x.row(row),
                    x_stride: args.x.stride,
                    b,
                    prefetch: b.wrapping_add(len + pass * pairs / 4 * width),
                    out: args.out.row(row).add(column),
                    out_stride: args.out.stride,
                    columns: shape.columns(V::LANES).min(shape.out - column),
                };
                let of_rows = args.scales.row(row);
                multiply::<V>(
                    V::TILE.min(rows.end - row),
                    &product,
                    of_rows,
                    of_columns,
                    bias,
                    args.finish,
                );
            }
        }
    }
}

/// The sums of a tile as floats.
#[inline(always)]
unsafe fn rows_times_panel<V: Simd, const ROWS: usize>(
    tile: &Tile,
    of_rows: *const f32,
    of_columns: [V; VECTORS],
) -> [[V; VECTORS]; ROWS] {
    let mut ints = [[V::int_zero(); VECTORS]; ROWS];
    let mut sums = [[V::splat(0.0); VECTORS]; ROWS];
    // SAFETY: the caller vouches for the tile and its scales.
    unsafe {
        V::tile_int16::<ROWS>(&mut ints, tile);
        for (r, (sums, ints)) in sums.iter_mut().zip(&ints).enumerate() {
            let of_row = V::splat(*of_rows.add(r));
            for ((sum, int), of_column) in sums.iter_mut().zip(ints).zip(of_columns) {
                *sum = V::from_int(*int).mul(of_row.mul(of_column));
            }
        }
    }
    sums
}

/// Runs a tile of 1 to `V::TILE` rows and writes its sums straight from the registers; see [`gemm::multiply_plain`].
///
/// [`gemm::multiply_plain`]: super::gemm::multiply_plain
#[inline(always)]
pub(super) unsafe fn multiply_plain<V: Simd>(rows: usize, tile: &Tile, of_rows: *const f32, of_columns: *const f32) {
    // SAFETY: the caller vouches for the tile and its scales.
    unsafe {
        let of_columns = [V::load(of_columns), V::load(of_columns.add(V::LANES))];
        by_rows!(V, rows, |ROWS| {
            let sums = rows_times_panel::<V, ROWS>(tile, of_rows, of_columns);
            put(&sums, tile);
        });
    }
}

/// Runs a tile of 1 to `V::TILE` rows.
#[inline(always)]
unsafe fn multiply<V: Simd>(
    rows: usize,
    tile: &Tile,
    of_rows: *const f32,
    of_columns: *const f32,
    bias: Option<&[f32]>,
    finish: Finish,
) {
    let mut sums: Sums<V> = [[V::splat(0.0); VECTORS]; MOST_ROWS];
    // SAFETY: the caller vouches for the tile.
    unsafe {
        let of_columns = [V::load(of_columns), V::load(of_columns.add(V::LANES))];
        by_rows!(V, rows, |ROWS| {
            sums[..ROWS].copy_from_slice(&rows_times_panel::<V, ROWS>(tile, of_rows, of_columns));
        });
        store(&mut sums[..rows], tile, bias, finish);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::Kernels;
    use crate::kernels::panels::Shape;

    /// Runs one row through a product, on every instruction set that the machine has.
    fn products(x: &[f32], weight: &[f32]) -> Vec<f32> {
        let shape = Shape {
            out: weight.len() / x.len(),
            k: x.len(),
            gated: false,
        };
        [Kernels::portable(), Kernels::best()]
            .into_iter()
            .flat_map(|kernels| {
                let packed = Packed::new::<()>(shape, kernels.lanes, |row, line| {
                    line.copy_from_slice(&weight[row * shape.k..(row + 1) * shape.k]);
                    Ok(())
                })
                .unwrap();
                let matrix = |values: &mut [f32], stride| Matrix {
                    data: values.as_mut_ptr(),
                    stride,
                };
                let (mut x, mut ints) = (x.to_vec(), vec![0.0; pairs(shape.k)]);
                let (mut scales, mut out) = (vec![0.0], vec![0.0; shape.out]);
                let quantise = Quantise {
                    x: matrix(&mut x, shape.k),
                    k: shape.k,
                    out: matrix(&mut ints, pairs(shape.k)),
                    scales: matrix(&mut scales, 1),
                    largest_norm: row_norm(shape.k),
                };
                // SAFETY: one row of everything.
                unsafe { (kernels.quantise)(&quantise, 0..1) };
                let gemm = Gemm {
                    x: quantise.out,
                    scales: quantise.scales,
                    out: matrix(&mut out, shape.out),
                    weight: &packed,
                    bias: None,
                    finish: Finish::Keep,
                };
                // SAFETY: as above.
                unsafe { (kernels.gemm_int16)(&gemm, 0..1, 0..packed.panels()) };
                out
            })
            .collect()
    }

    #[test]
    fn no_input_overflows() {
        for k in [1, 2, 31, 512, 768, 1152, 3072, 4096] {
            let mut peaked = vec![0.0; k];
            peaked[k / 2] = 1e9;
            let half: Vec<f32> = (0..k).map(|i| if i % 2 == 0 { 3.0 } else { -3.0 }).collect();
            for x in [vec![1.0; k], vec![-7.5; k], peaked, half, vec![1e-15; k]] {
                // The worst channel is the row itself: then the sum is as large as it can be.
                let weight: Vec<f32> = x.iter().chain(&x).copied().collect();
                let exact: f64 = x.iter().map(|v| f64::from(*v) * f64::from(*v)).sum();
                for found in products(&x, &weight) {
                    assert!(
                        (f64::from(found) / exact - 1.0).abs() < 1e-3,
                        "k {k}: {found} for {exact}"
                    );
                }
            }
        }
    }

    #[test]
    fn sizes_of_numbers_do_not_matter() {
        for size in [1e-25, 1e-10, 1.0, 1e10, 1e18] {
            let x: Vec<f32> = (0..777).map(|i| size * ((i * 37 % 101) as f32 - 50.0)).collect();
            let weight: Vec<f32> = (0..777).map(|i| ((i * 53 % 97) as f32 - 40.0) / size).collect();
            let exact: f64 = x.iter().zip(&weight).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum();
            let norms = |v: &[f32]| v.iter().map(|v| f64::from(*v) * f64::from(*v)).sum::<f64>().sqrt();
            for found in products(&x, &weight) {
                assert!(
                    (f64::from(found) - exact).abs() < 1e-4 * norms(&x) * norms(&weight),
                    "{size}: {found}"
                );
            }
        }
    }

    #[test]
    fn zeros_stay_zeros_and_nan_stays_nan() {
        assert!(products(&[0.0; 40], &[1.0; 40]).iter().all(|found| *found == 0.0));
        assert!(products(&[1.0; 40], &[0.0; 40]).iter().all(|found| *found == 0.0));
        for bad in [f32::NAN, f32::INFINITY] {
            let mut x = [1.0; 40];
            x[17] = bad;
            assert!(products(&x, &[1.0; 40]).iter().all(|found| !found.is_finite()));
        }
    }
}
