//! Keys and values of a text as panels of 16-bit integers. Keys are rows of a product's weight, scaled as such; values
//! are its columns, so that their scales need the whole text.

use super::super::Matrix;
use super::super::attention::{Attention, Span};
use super::super::int16::{LEAST_PEAK, Quantise, WEIGHT_NORM, pairs, quantise, scale};
use super::{Layout, from_column, from_row};
use crate::simd::Simd;
use crate::simd::tile::VECTORS;

/// Most lanes of a panel of any instruction set.
const MOST_COLUMNS: usize = 32;
/// Keys whose squares are summed before they join the sum: a chain of 30,000 would lose too much.
const CHUNK: usize = 64;

/// Packs the keys and values of one text and head; places past the end are zero.
///
/// # Safety
/// See [`super::Kernels`].
#[inline(always)]
pub unsafe fn pack<V: Simd>(args: &Attention<'_>, span: Span, kv_head: usize) {
    let width = VECTORS * V::LANES;
    let d = args.head_dim;
    let layout = Layout::new(span.len, d, width);
    // SAFETY: the caller vouches for the text's rows; `packed` was sized with `packed_len` for every text, and heads
    // follow each other inside that.
    unsafe {
        let start = args.packed.data.add(span.packed + kv_head * layout.all());
        let rows = Matrix {
            data: start.add(layout.keys + layout.values),
            stride: pairs(d),
        };
        let k = from_column(from_row(args.k, span.start), kv_head * d);
        for (number, first) in (0..span.len).step_by(width).enumerate() {
            let keys = first..(first + width).min(span.len);
            keys_of_panel::<V>(
                k,
                d,
                (keys.start, keys.len()),
                rows,
                start.add(number * layout.key_panel),
            );
        }
        let v = from_column(from_row(args.v, span.start), kv_head * d);
        for (number, first) in (0..d).step_by(width).enumerate() {
            let panel = start.add(layout.keys + number * layout.value_panel);
            values_of_panel::<V>(from_column(v, first), span.len, width.min(d - first), panel);
        }
    }
}

/// Packs `n` keys from `first` on; `rows` has room for a panel of them.
#[inline(always)]
unsafe fn keys_of_panel<V: Simd>(k: Matrix, d: usize, (first, n): (usize, usize), rows: Matrix, panel: *mut f32) {
    let width = VECTORS * V::LANES;
    // SAFETY: the caller vouches for the keys, for `rows`, and for a panel of the layout.
    unsafe {
        let scales = Matrix { data: panel, stride: 1 };
        let args = Quantise {
            x: from_row(k, first),
            k: d,
            out: rows,
            scales,
            largest_norm: WEIGHT_NORM,
        };
        quantise::<V>(&args, 0..n);
        for key in n..width {
            *scales.row(key) = 0.0;
        }
        // As integers: what two numbers look like as a float must not matter.
        let (from, to) = (rows.data.cast::<u32>(), panel.add(width).cast::<u32>());
        for pair in 0..d.div_ceil(2) {
            for key in 0..width {
                *to.add(pair * width + key) = if key < n {
                    *from.add(key * rows.stride + pair)
                } else {
                    0
                };
            }
        }
    }
}

/// The numbers of a panel's columns, one a lane.
#[inline(always)]
fn columns<V: Simd>(vectors: [V; VECTORS]) -> [f32; MOST_COLUMNS] {
    const { assert!(VECTORS * V::LANES <= MOST_COLUMNS) };
    let mut columns = [0.0; MOST_COLUMNS];
    for (v, vector) in vectors.into_iter().enumerate() {
        // SAFETY: `MOST_COLUMNS` is room for all vectors.
        unsafe { vector.store(columns.as_mut_ptr().add(v * V::LANES)) };
    }
    columns
}

/// The other way.
#[inline(always)]
fn vectors<V: Simd>(columns: [f32; MOST_COLUMNS]) -> [V; VECTORS] {
    // SAFETY: as above.
    [0, 1].map(|v| unsafe { V::load(columns.as_ptr().add(v * V::LANES)) })
}

/// Features of one value, as many as there are in a panel.
#[inline(always)]
unsafe fn load<V: Simd>(row: *const f32, features: usize) -> [V; VECTORS] {
    let lanes = |v: usize| features.saturating_sub(v * V::LANES).min(V::LANES);
    // SAFETY: the caller vouches for the features.
    unsafe {
        [
            V::load_first(row, lanes(0)),
            V::load_first(row.wrapping_add(V::LANES), lanes(1)),
        ]
    }
}

/// Packs `features` features of the `len` values of a text.
#[inline(always)]
unsafe fn values_of_panel<V: Simd>(x: Matrix, len: usize, features: usize, panel: *mut f32) {
    let width = VECTORS * V::LANES;
    // SAFETY: the caller vouches for the rows and for a panel of the layout.
    unsafe {
        let mut peaks = [V::splat(LEAST_PEAK); VECTORS];
        for key in 0..len {
            for (peak, value) in peaks.iter_mut().zip(load::<V>(x.row(key), features)) {
                *peak = value.max(V::splat(0.0).sub(value)).max(*peak);
            }
        }
        let peaks = columns(peaks);
        let units = vectors::<V>(peaks.map(|peak| 1.0 / peak));
        let mut squares = [V::splat(0.0); VECTORS];
        for first in (0..len).step_by(CHUNK) {
            let mut sums = [V::splat(0.0); VECTORS];
            for key in first..(first + CHUNK).min(len) {
                let values = load::<V>(x.row(key), features);
                for ((sum, value), unit) in sums.iter_mut().zip(values).zip(units) {
                    let value = value.mul(unit);
                    *sum = value.fma(value, *sum);
                }
            }
            for (square, sum) in squares.iter_mut().zip(sums) {
                *square = square.add(sum);
            }
        }
        let mut scales = columns(squares);
        for (square, peak) in scales.iter_mut().zip(peaks) {
            *square = scale(peak, square.sqrt(), WEIGHT_NORM);
        }
        for (v, vector) in vectors::<V>(scales).into_iter().enumerate() {
            vector.store(panel.add(v * V::LANES));
        }
        let factors = vectors::<V>(scales.map(|scale| 1.0 / scale));
        let pairs = panel.add(width).cast::<[i16; 2]>();
        for first in (0..len.next_multiple_of(width)).step_by(2) {
            let (mut even, mut odd) = ([0i16; MOST_COLUMNS], [0i16; MOST_COLUMNS]);
            for (key, ints) in (first..len).zip([&mut even, &mut odd]) {
                let values = load::<V>(x.row(key), features);
                for (v, (value, factor)) in values.into_iter().zip(factors).enumerate() {
                    value.mul(factor).store_int16(ints.as_mut_ptr().add(v * V::LANES));
                }
            }
            for (column, (even, odd)) in even.into_iter().zip(odd).enumerate().take(width) {
                *pairs.add(first / 2 * width + column) = [even, odd];
            }
        }
    }
}
