//! Packing of a text's keys and values as panels of 16-bit integers.
//!
//! In the product with the queries a key is a row of the weight, so each key has a scale. In the product with the
//! softmax weights a feature of the values is a row of the weight, so its scale depends on all values of the text.

use super::super::Matrix;
use super::super::attention::{Attention, Span};
use super::super::int16::{MIN_PEAK, Quantise, WEIGHT_NORM, pairs, quantise, scale};
use super::super::panels::MAX_COLUMNS;
use super::{Layout, from_column, from_row};
use crate::simd::Simd;
use crate::simd::tile::{Int16Rows, VECTORS};

/// Squares are summed in chunks of this many keys, because one chain of 30,000 sums would lose too much precision.
const CHUNK: usize = 64;

/// Packs the keys and values of one text and head. Elements past the end of the text are zero.
///
/// # Safety
/// `k` and `v` must cover the text with all heads, and `packed` must have been sized by [`super::packed_len`] for all
/// texts. No other thread may access the packed memory of this text and head, and the processor must have the
/// instruction set of `V`.
#[inline(always)]
pub unsafe fn pack<V: Simd>(args: &Attention<'_>, span: Span, kv_head: usize) {
    let width = VECTORS * V::LANES;
    let d = args.head_dim;
    let layout = Layout::new(span.len, d, width);
    // SAFETY: k and v cover the text's rows, and `packed` has room for the layout of every text and head, by this
    // function's contract.
    unsafe {
        let start = args.packed.data.add(span.packed + kv_head * layout.total());
        let rows = Matrix {
            data: start.add(layout.keys + layout.values),
            stride: pairs(d),
        };
        let k = from_column(from_row(args.k, span.start), kv_head * d);
        for (number, first) in (0..span.len).step_by(width).enumerate() {
            let keys = first..(first + width).min(span.len);
            pack_key_panel::<V>(
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
            pack_value_panel::<V>(from_column(v, first), span.len, width.min(d - first), panel);
        }
    }
}

/// Packs `n` keys from `first` on into one panel. `rows` is scratch memory for a panel of keys.
///
/// # Safety
/// `k` must cover these keys with `d` columns, `rows` a panel of keys, and `panel` must have the length of a key panel.
/// The processor must have the instruction set of `V`.
#[inline(always)]
unsafe fn pack_key_panel<V: Simd>(k: Matrix, d: usize, (first, n): (usize, usize), rows: Matrix, panel: *mut f32) {
    let width = VECTORS * V::LANES;
    // SAFETY: k covers the n keys, and rows and panel have room for a panel of them, by this function's contract.
    unsafe {
        let scales = Matrix { data: panel, stride: 1 };
        let args = Quantise {
            x: from_row(k, first),
            k: d,
            out: rows,
            rows: Int16Rows::Pairs,
            scales,
            max_norm: WEIGHT_NORM,
        };
        quantise::<V>(&args, 0..n);
        for key in n..width {
            *scales.row(key) = 0.0;
        }
        // Copied as integers, because a copy as f32 may change the bits of a signalling NaN.
        let (from, to) = (rows.data.cast::<u32>(), panel.add(width).cast::<u32>());
        let pairs = d.div_ceil(2);
        let whole = if n == width { pairs / V::LANES * V::LANES } else { 0 };
        for pair in (0..whole).step_by(V::LANES) {
            for key in (0..width).step_by(V::LANES) {
                let from = from.add(key * rows.stride + pair);
                V::transpose((from, rows.stride), (to.add(pair * width + key), width));
            }
        }
        for pair in whole..pairs {
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

/// Writes vectors to an array, one lane for each column of a panel.
#[inline(always)]
fn columns<V: Simd>(vectors: [V; VECTORS]) -> [f32; MAX_COLUMNS] {
    const { assert!(VECTORS * V::LANES <= MAX_COLUMNS) };
    let mut columns = [0.0; MAX_COLUMNS];
    for (v, vector) in vectors.into_iter().enumerate() {
        // SAFETY: the array has `MAX_COLUMNS` values, at least as many as all vectors have lanes.
        unsafe { vector.store(columns.as_mut_ptr().add(v * V::LANES)) };
    }
    columns
}

/// Reads vectors from an array, one lane for each column of a panel.
#[inline(always)]
fn vectors<V: Simd>(columns: [f32; MAX_COLUMNS]) -> [V; VECTORS] {
    // SAFETY: the array has `MAX_COLUMNS` values, at least as many as all vectors have lanes.
    [0, 1].map(|v| unsafe { V::load(columns.as_ptr().add(v * V::LANES)) })
}

/// Reads `features` features of one value; the other lanes are zero.
///
/// # Safety
/// `row` must be valid for `features` reads, at most a panel's columns. The processor must have the instruction set of
/// `V`.
#[inline(always)]
unsafe fn load<V: Simd>(row: *const f32, features: usize) -> [V; VECTORS] {
    let lanes = |v: usize| features.saturating_sub(v * V::LANES).min(V::LANES);
    // SAFETY: the two loads read at most `features` values together, for which `row` is valid by this function's
    // contract.
    unsafe {
        [
            V::load_first(row, lanes(0)),
            V::load_first(row.wrapping_add(V::LANES), lanes(1)),
        ]
    }
}

/// Packs `features` features of the `len` values of a text into one panel.
///
/// # Safety
/// `x` must cover `len` rows of `features` values, and `panel` must have the length of a value panel. The processor
/// must have the instruction set of `V`.
#[inline(always)]
unsafe fn pack_value_panel<V: Simd>(x: Matrix, len: usize, features: usize, panel: *mut f32) {
    let width = VECTORS * V::LANES;
    // SAFETY: x covers the rows, and the panel has room for all keys rounded up to whole panels, by this function's
    // contract.
    unsafe {
        let mut peaks = [V::splat(MIN_PEAK); VECTORS];
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
            let (mut even, mut odd) = ([0i16; MAX_COLUMNS], [0i16; MAX_COLUMNS]);
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
