//! Matrix product of 16-bit integers. Rows and weights are scaled to integers, multiplied exactly with 32-bit sums, and
//! scaled back. The loss is very small.
//!
//! No sum can overflow, whatever the input. By the Cauchy-Schwarz inequality a sum of products, and any part of it, is
//! at most ‖row‖ · ‖channel‖. Each channel of the weight is scaled to a norm of at most [`WEIGHT_NORM`], each row to a
//! norm of at most [`max_row_norm`], and the values of both to 16 bits. Vectors with peaks keep more bits under a bound
//! on the norm than under a bound on the largest value, and activations of real models have peaks of 20 to 50 times
//! their mean. With K = 768 and normally distributed numbers, rows and weights have 13 to 14 bits each.

use super::Matrix;
use super::gemm::{Finish, MAX_TILE_ROWS, Sums, finish_and_store, store, with_const_rows};
use super::loops::{for_each_vector, sum_vectors};
use super::panels::{self, Format, MAX_COLUMNS, Shape, to_integer};
use crate::error::Result;
use crate::simd::Simd;
use crate::simd::tile::{Int16Rows, Tile, VECTORS, next_panel};
use std::ops::Range;

/// Largest norm of a weight channel in units of its scale, before rounding: √2³¹.
pub(super) const WEIGHT_NORM: f32 = 46_340.0;
/// Largest value of a scaled element.
const MAX_INTEGER: f32 = 32_767.0;
/// Factor on both bounds, because the norm is summed in f32 and a scaled value is rounded to f32. The error of rows of
/// 50,000 elements, which are summed in 32 parts, stays well below this margin.
const ROUNDING_MARGIN: f32 = 1.0 - 1e-4;

/// Returns the largest norm of a row of `k` elements in units of its scale, before rounding. Rounding changes each
/// element of row and channel by at most ½, which adds at most ½√k to either norm.
pub fn max_row_norm(k: usize) -> f32 {
    let rounding = 0.5 * (k as f64).sqrt();
    ((f64::from(i32::MAX) / (f64::from(WEIGHT_NORM) + rounding)) - rounding) as f32
}

/// Lower bound of a peak, a vector's largest absolute value. With it the reciprocal of a peak is finite, and the
/// integers of a smaller vector are 0.
pub(super) const MIN_PEAK: f32 = 1e-30;

/// Returns the scale at which a vector has integers of 16 bits and a norm of at most `max_norm`.
///
/// `peak` is the vector's largest absolute value and `norm` its norm in units of `peak`: squares of the values
/// themselves could be too small or too large for f32. The scale of NaN is NaN.
pub(super) fn scale(peak: f32, norm: f32, max_norm: f32) -> f32 {
    let (by_norm, by_peak) = (
        peak * norm / (max_norm * ROUNDING_MARGIN),
        peak / (MAX_INTEGER * ROUNDING_MARGIN),
    );
    if by_norm < by_peak { by_peak } else { by_norm }
}

/// Returns the f32 values that the memory of a row of `k` integers takes.
pub fn row_len(k: usize, rows: Int16Rows) -> usize {
    k.next_multiple_of(rows.unit()) / 2
}

/// Returns the pairs of 16-bit values that a row of `k` takes, if the integers are stored in pairs.
pub fn pairs(k: usize) -> usize {
    row_len(k, Int16Rows::Pairs)
}

/// The layout of int16 panels: one f32 scale for each column, then adjacent weights along K, column by column. These are
/// pairs of all columns; or, for each vector of columns in turn, the upper and the lower bytes of four.
pub struct Integers;

/// f32 values that a matrix instruction reads past the end of a panel, at most: 15 of 16 quads of a vector of columns.
const OVERREAD: usize = 15 * 2 * MAX_COLUMNS / VECTORS;

impl Format for Integers {
    fn panel_len(k: usize, lanes: usize) -> usize {
        VECTORS * lanes * (1 + k.next_multiple_of(4) / 2)
    }

    fn tail_len(k: usize) -> usize {
        if k.is_multiple_of(Int16Rows::SplitBytes.unit()) {
            0
        } else {
            OVERREAD
        }
    }
}

/// A packed weight matrix of 16-bit integers.
pub type Packed = panels::Packed<Integers>;

impl Packed {
    /// Packs the channels that `read_row` reads, for an instruction set with `lanes` f32 values in a vector that takes
    /// integers as `rows` says.
    ///
    /// # Errors
    /// An error of `read_row`, and [`crate::Error::OutOfMemory`].
    pub fn scaled(
        shape: Shape,
        (lanes, rows): (usize, Int16Rows),
        read_row: impl Fn(usize, &mut [f32]) -> Result<()> + Sync,
    ) -> Result<Self> {
        let put = |panel: &mut [f32], column: usize, source: usize, values: &mut [f32]| {
            read_row(source, values)?;
            put_channel(panel, VECTORS * lanes, column, rows, values);
            Ok(())
        };
        Self::fill(shape, lanes, shape.k, put, |_| ())
    }
}

/// Writes one channel to a panel of `width` columns.
fn put_channel(panel: &mut [f32], width: usize, column: usize, rows: Int16Rows, row: &[f32]) {
    let (scales, integers) = panel.split_at_mut(width);
    let peak = row.iter().fold(MIN_PEAK, |peak, w| peak.max(w.abs()));
    let square: f64 = row.iter().map(|w| f64::from(w / peak).powi(2)).sum();
    scales[column] = scale(peak, square.sqrt() as f32, WEIGHT_NORM);
    // SAFETY: four bytes have the size of one f32 and a smaller alignment. The slice covers `integers` exactly, which is
    // not used while it exists.
    let bytes = unsafe { std::slice::from_raw_parts_mut(integers.as_mut_ptr().cast::<u8>(), 4 * integers.len()) };
    let quads = row.len().div_ceil(4);
    for (i, w) in row.iter().enumerate() {
        let [lower, upper] = (to_integer(w / scales[column]) as i16).to_le_bytes();
        match rows {
            Int16Rows::Pairs => {
                bytes[(i / 2 * width + column) * 4 + i % 2 * 2..][..2].copy_from_slice(&[lower, upper]);
            }
            Int16Rows::SplitBytes => {
                let lanes = width / VECTORS;
                let quad = (column / lanes * quads + i / 4) * 2 * lanes + column % lanes;
                bytes[quad * 4 + i % 4] = upper;
                bytes[(quad + lanes) * 4 + i % 4] = lower;
            }
        }
    }
}

/// Arguments of the conversion of rows to integers, for products of 16-bit integers and for those with 8-bit weights.
pub struct Quantise {
    /// Input rows of `k` values.
    pub x: Matrix,
    /// Elements of a row.
    pub k: usize,
    /// Output rows of [`row_len`] f32 values. Integers past `k` become 0.
    pub out: Matrix,
    /// How the integers are stored.
    pub rows: Int16Rows,
    /// Output: one scale for each row.
    pub scales: Matrix,
    /// Largest norm of a row in integers, see [`max_row_norm`]; infinite if only the 16 bits limit it.
    pub max_norm: f32,
}

/// Converts the given rows.
///
/// # Safety
/// `x`, `out` and `scales` must cover the rows. No other thread may access these rows of `out` and `scales`, and the
/// processor must have the instruction set of `V`.
#[inline(always)]
pub unsafe fn quantise<V: Simd>(args: &Quantise, rows: Range<usize>) {
    for row in rows {
        // SAFETY: x, out and scales cover the row by this function's contract. A row of pairs is whole cache lines,
        // which whole vectors of every instruction set divide.
        unsafe {
            let x = args.x.row(row);
            let mut peak = V::splat(MIN_PEAK);
            for_each_vector!(V, args.k, |i, n| {
                let v = V::load_first(x.add(i), n);
                peak = v.max(V::splat(0.0).sub(v)).max(peak);
            });
            let peak = peak.largest();
            let unit = V::splat(1.0 / peak);
            let square = sum_vectors!(V, args.k, |i, n| {
                let v = V::load_first(x.add(i), n).mul(unit);
                v.mul(v)
            });
            let scale = scale(peak, square.sqrt(), args.max_norm);
            *args.scales.row(row) = scale;
            convert::<V>(x, args.k, scale, args.out.row(row), args.rows);
        }
    }
}

/// Writes `k` values as integers in units of `scale`, and zeros up to the end of the row.
///
/// # Safety
/// `x` must be valid for `k` reads and `out` for [`row_len`] writes. The processor must have the instruction set of `V`.
#[inline(always)]
pub(super) unsafe fn convert<V: Simd>(x: *const f32, k: usize, scale: f32, out: *mut f32, rows: Int16Rows) {
    let factor = V::splat(1.0 / scale);
    // SAFETY: reads stop at k and writes at the end of the row, for which x and out are valid by this function's contract.
    unsafe {
        for_each_vector!(V, 2 * row_len(k, rows), |i, _n| {
            let n = k.saturating_sub(i).min(V::LANES);
            let value = V::load_first(x.wrapping_add(i), n).mul(factor);
            match rows {
                Int16Rows::Pairs => value.store_int16(out.cast::<i16>().add(i)),
                Int16Rows::SplitBytes => value.store_split_int16(out.cast::<i8>().add(i / 64 * 128 + i % 64)),
            }
        });
    }
}

/// Arguments of a product of integers with weights packed as `W`.
pub struct Gemm<'a, W = Packed> {
    /// Input rows of integers, from [`Quantise`].
    pub x: Matrix,
    /// Scales of the input rows.
    pub scales: Matrix,
    /// Output rows of `weight.shape.out` values.
    pub out: Matrix,
    /// Weights, packed for the instruction set that runs.
    pub weight: &'a W,
    /// One value for each column of each panel.
    pub bias: Option<&'a [f32]>,
    /// What happens to the sums.
    pub finish: Finish,
}

/// Computes the given rows and panels.
///
/// # Safety
/// `x`, `scales` and `out` must cover the rows with the widths of the weight, and `out` must not overlap the inputs. No
/// other thread may access these rows and columns of `out`, and the processor must have the instruction set of `V`.
#[inline(always)]
pub unsafe fn gemm<V: Simd>(args: &Gemm<'_>, rows: Range<usize>, panels: Range<usize>) {
    let shape = args.weight.shape;
    let (width, pairs) = (VECTORS * V::LANES, shape.k.div_ceil(2));
    let len = Integers::panel_len(shape.k, V::LANES);
    for panel in panels {
        let column = panel * shape.columns(V::LANES);
        let (column_scales, b) = args.weight.panel(panel, V::LANES).split_at(width);
        let (column_scales, b) = (column_scales.as_ptr(), b.as_ptr());
        let bias = args.bias.map(|bias| &bias[panel * width..][..width]);
        let passes = rows.len().div_ceil(V::TILE);
        for (pass, row) in rows.clone().step_by(V::TILE).enumerate() {
            // SAFETY: x, scales and out cover the rows and columns by this function's contract, and a panel of the
            // packed weight has all integers, and memory after it for the rest of a unit. The prefetch address is not
            // dereferenced, so it may lie outside.
            unsafe {
                let (prefetch, further) = next_panel::<V>(b.wrapping_add(len), pairs * width, pass, passes);
                let tile = Tile {
                    k: pairs,
                    x: args.x.row(row),
                    x_stride: args.x.stride,
                    b,
                    prefetch,
                    further,
                    out: args.out.row(row).add(column),
                    out_stride: args.out.stride,
                    columns: shape.columns(V::LANES).min(shape.out - column),
                };
                let row_scales = args.scales.row(row);
                multiply::<V>(
                    V::TILE.min(rows.end - row),
                    &tile,
                    row_scales,
                    column_scales,
                    bias,
                    args.finish,
                );
            }
        }
    }
}

/// Returns the sums of a tile, scaled to f32.
///
/// # Safety
/// `tile` must describe `ROWS` rows of x and `k` rows of b; `row_scales` must be valid for `ROWS` reads. The processor
/// must have the instruction set of `V`.
#[inline(always)]
unsafe fn rows_times_panel<V: Simd, const ROWS: usize>(
    tile: &Tile,
    row_scales: *const f32,
    column_scales: [V; VECTORS],
) -> [[V; VECTORS]; ROWS] {
    let mut ints = [[V::int_zero(); VECTORS]; ROWS];
    let mut sums = [[V::splat(0.0); VECTORS]; ROWS];
    // SAFETY: the tile has ROWS rows of x and k rows of b, and there are ROWS scales, by this function's contract.
    unsafe {
        V::tile_int16::<ROWS>(&mut ints, tile);
        for (r, (sums, ints)) in sums.iter_mut().zip(&ints).enumerate() {
            let row_scale = V::splat(*row_scales.add(r));
            for ((sum, int), column_scale) in sums.iter_mut().zip(ints).zip(column_scales) {
                *sum = V::from_int(*int).mul(row_scale.mul(column_scale));
            }
        }
    }
    sums
}

/// Computes a tile of 1 to `V::TILE` rows and writes its sums from the registers, for the short products of attention.
///
/// # Safety
/// `tile` must describe `rows` rows of x and out and `k` rows of b; `row_scales` must be valid for `rows` reads and
/// `column_scales` for one panel's width. No other thread may access these rows and columns of out, and the processor
/// must have the instruction set of `V`.
#[inline(always)]
pub(super) unsafe fn multiply_unfinished<V: Simd>(
    rows: usize,
    tile: &Tile,
    row_scales: *const f32,
    column_scales: *const f32,
) {
    // SAFETY: the tile covers `rows` rows and one panel, and both scales are as long, by this function's contract.
    unsafe {
        let column_scales = [V::load(column_scales), V::load(column_scales.add(V::LANES))];
        with_const_rows!(V, rows, |ROWS| {
            let sums = rows_times_panel::<V, ROWS>(tile, row_scales, column_scales);
            store(&sums, tile);
        });
    }
}

/// Computes a tile of 1 to `V::TILE` rows and writes the finished sums.
///
/// # Safety
/// `tile` must describe `rows` rows of x and out and `k` rows of b; `row_scales` must be valid for `rows` reads,
/// `column_scales` and `bias` for one panel's width. No other thread may access these rows and columns of out, and the
/// processor must have the instruction set of `V`.
#[inline(always)]
unsafe fn multiply<V: Simd>(
    rows: usize,
    tile: &Tile,
    row_scales: *const f32,
    column_scales: *const f32,
    bias: Option<&[f32]>,
    finish: Finish,
) {
    let mut sums: Sums<V> = [[V::splat(0.0); VECTORS]; MAX_TILE_ROWS];
    // SAFETY: the tile covers `rows` rows and one panel, and the scales and the bias are as long, by this function's
    // contract.
    unsafe {
        let column_scales = [V::load(column_scales), V::load(column_scales.add(V::LANES))];
        with_const_rows!(V, rows, |ROWS| {
            sums[..ROWS].copy_from_slice(&rows_times_panel::<V, ROWS>(tile, row_scales, column_scales));
        });
        finish_and_store(&mut sums[..rows], tile, bias, finish);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::Kernels;
    use crate::kernels::panels::Shape;

    /// Multiplies one row with a weight, by the portable kernels and by the fastest of this machine.
    fn products(x: &[f32], weight: &[f32]) -> Vec<f32> {
        let shape = Shape {
            out: weight.len() / x.len(),
            k: x.len(),
            gated: false,
        };
        [Kernels::portable(), Kernels::best()]
            .into_iter()
            .flat_map(|kernels| {
                let packed = Packed::scaled(shape, (kernels.lanes, kernels.int16_rows), |row, values| {
                    values.copy_from_slice(&weight[row * shape.k..(row + 1) * shape.k]);
                    Ok(())
                })
                .unwrap();
                let matrix = |values: &mut [f32], stride| Matrix {
                    data: values.as_mut_ptr(),
                    stride,
                };
                let len = row_len(shape.k, kernels.int16_rows);
                let (mut x, mut ints) = (x.to_vec(), vec![0.0; len]);
                let (mut scales, mut out) = (vec![0.0], vec![0.0; shape.out]);
                let quantise = Quantise {
                    x: matrix(&mut x, shape.k),
                    k: shape.k,
                    out: matrix(&mut ints, len),
                    rows: kernels.int16_rows,
                    scales: matrix(&mut scales, 1),
                    max_norm: max_row_norm(shape.k),
                };
                // SAFETY: every operand has one row of the size that the arguments say, and this machine has the
                // kernels.
                unsafe { (kernels.quantise)(&quantise, 0..1) };
                let gemm = Gemm {
                    x: quantise.out,
                    scales: quantise.scales,
                    out: matrix(&mut out, shape.out),
                    weight: &packed,
                    bias: None,
                    finish: Finish::Keep,
                };
                // SAFETY: every operand has one row of the size that the arguments say, and this machine has the
                // kernels.
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
                // A channel equal to the row gives the largest possible sum.
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
    fn magnitudes_do_not_matter() {
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
