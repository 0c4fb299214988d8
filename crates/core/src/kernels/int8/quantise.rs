//! Conversion of rows to 8-bit integers: smoothing, a Walsh-Hadamard transform, and a scale for each group.
//!
//! Activations of real models have a few large values in a row. Alone they would leave too few bits to all others. The
//! transform spreads each value over its whole group of [`INT8_GROUP`], in the rows and in the weights alike, so that
//! products stay what they are: H · Hᵀ = [`INT8_GROUP`] · I.

use crate::kernels::Matrix;
use crate::kernels::int16::MIN_PEAK;
use crate::simd::Simd;
use crate::simd::tile::{INT8_GROUP, Int8Rows};
use std::ops::Range;

/// Largest integer.
pub const MAX_INTEGER: f32 = 127.0;
/// Most vectors in a group on any instruction set: those of four lanes.
const MAX_VECTORS: usize = INT8_GROUP / 4;

/// Returns the groups of a row of `k` values. The last one may be filled with zeros.
pub fn groups(k: usize) -> usize {
    k.div_ceil(INT8_GROUP)
}

/// Returns the f32 values that the memory of a row of integers takes: whole cache lines.
pub fn row_len(k: usize, rows: Int8Rows) -> usize {
    groups(k) * INT8_GROUP / rows.in_f32()
}

/// Arguments of the conversion of rows to 8-bit integers.
pub struct QuantiseInt8<'a> {
    /// Input rows of `k` values.
    pub x: Matrix,
    /// Elements of a row.
    pub k: usize,
    /// Factors of the elements, by which they are smoothed, as bfloat16: one for each of all [`groups`].
    pub factors: &'a [u16],
    /// Output rows of [`row_len`] values, as [`Simd::INT8_ROWS`] says. Elements past `k` count as 0.
    pub out: Matrix,
    /// Output: rows of one scale for each group.
    pub scales: Matrix,
}

/// Converts the given rows.
///
/// # Safety
/// `x`, `out` and `scales` must cover the rows. No other thread may access these rows of `out` and `scales`, and the
/// processor must have the instruction set of `V`.
#[inline(always)]
pub unsafe fn quantise<V: Simd>(args: &QuantiseInt8<'_>, rows: Range<usize>) {
    assert!(args.factors.len() >= groups(args.k) * INT8_GROUP);
    for row in rows {
        let mut zero = V::splat(0.0);
        for group in 0..groups(args.k) {
            // SAFETY: x, out and scales cover the row by this function's contract, and there is a factor for each
            // element of each group.
            unsafe {
                let values = if args.k >= (group + 1) * INT8_GROUP {
                    transformed::<V, true>(args, row, group)
                } else {
                    transformed::<V, false>(args, row, group)
                };
                let values = &values[..INT8_GROUP / V::LANES];
                let (mut largest, mut least) = (V::splat(MIN_PEAK), V::splat(-MIN_PEAK));
                for value in values {
                    largest = largest.max(*value);
                    least = least.min(*value);
                    zero = value.fma(V::splat(0.0), zero);
                }
                let peak = largest.max(V::splat(0.0).sub(least)).largest();
                *args.scales.row(row).add(group) = peak / MAX_INTEGER;
                let factor = V::splat(MAX_INTEGER / peak);
                let out = args.out.row(row);
                for (i, value) in values.iter().enumerate() {
                    let (value, at) = (value.mul(factor), group * INT8_GROUP + i * V::LANES);
                    match V::INT8_ROWS {
                        Int8Rows::Pairs => value.store_int16(out.cast::<i16>().add(at)),
                        Int8Rows::UnsignedQuads | Int8Rows::SignedQuads | Int8Rows::SignedOctets => {
                            value.store_int8(out.cast::<i8>().add(at))
                        }
                    }
                }
            }
        }
        // The largest value of a group with NaN may be a number. A sum of products with 0 is 0 only if all are numbers.
        // SAFETY: the scales cover the row by this function's contract.
        unsafe { *args.scales.row(row) += zero.sum() };
    }
}

/// Reads a group of a row, which has all its elements if `WHOLE`, smooths and transforms it.
///
/// # Safety
/// `args` must cover the row, with a factor for each element of the group. The processor must have the instruction set of
/// `V`.
#[inline(always)]
unsafe fn transformed<V: Simd, const WHOLE: bool>(
    args: &QuantiseInt8<'_>,
    row: usize,
    group: usize,
) -> [V; MAX_VECTORS] {
    let first = group * INT8_GROUP;
    // SAFETY: x covers the row, of which reads stop at k, and the factors the group, by this function's contract.
    unsafe {
        let (x, factors) = (args.x.row(row), args.factors.as_ptr().add(first));
        let mut values = [V::splat(0.0); MAX_VECTORS];
        for (i, value) in values[..INT8_GROUP / V::LANES].iter_mut().enumerate() {
            let at = i * V::LANES;
            let x = x.wrapping_add(first + at);
            let read = if WHOLE {
                V::load(x)
            } else {
                V::load_first(x, args.k.saturating_sub(first + at).min(V::LANES))
            };
            *value = read.mul(V::load_bf16(factors.add(at)));
        }
        transform(&mut values);
        values
    }
}

/// Transforms one group in vectors: the steps of [`crate::hadamard::hadamard`], in its order, so that the bits are the same.
#[inline(always)]
fn transform<V: Simd>(values: &mut [V; MAX_VECTORS]) {
    across_vectors::<V, 16>(values);
    across_vectors::<V, 8>(values);
    across_vectors::<V, 4>(values);
    across_vectors::<V, 2>(values);
    across_vectors::<V, 1>(values);
    for value in &mut values[..INT8_GROUP / V::LANES] {
        if V::LANES > 8 {
            *value = value.butterfly::<8>();
        }
        if V::LANES > 4 {
            *value = value.butterfly::<4>();
        }
        *value = value.butterfly::<2>().butterfly::<1>();
    }
}

/// One step of the transform, between vectors that are `DISTANCE` apart, if a group has as many.
///
/// The distance is a constant so that the compiler unrolls the loops and keeps the vectors in registers.
#[inline(always)]
fn across_vectors<V: Simd, const DISTANCE: usize>(values: &mut [V; MAX_VECTORS]) {
    let count = INT8_GROUP / V::LANES;
    if DISTANCE < count {
        for pair in 0..count / 2 {
            let low = pair / DISTANCE * 2 * DISTANCE + pair % DISTANCE;
            let (a, b) = (values[low], values[low + DISTANCE]);
            values[low] = a.add(b);
            values[low + DISTANCE] = a.sub(b);
        }
    }
}
