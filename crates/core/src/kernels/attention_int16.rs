//! Attention within each text, in 16-bit integers.
//!
//! Tiles are those of [`attention`](super::attention), products those of [`int16`](super::int16). Each query, key and
//! row of softmax weights has a scale of its own. Values have one scale for each feature over the whole text. No sum
//! can overflow, and a text gets the same bits in any batch.

mod pack;

use super::Matrix;
use super::attention::{Attention, QueryTile, TILE_QUERIES, softmax_weights, visible_panels};
use super::int16::{Integers, Quantise, convert, max_row_norm, multiply_unfinished, pairs, quantise, scale};
use super::panels::Format;
use crate::simd::Simd;
use crate::simd::tile::{self, Int16Rows, VECTORS};
pub use pack::pack;

/// Returns the f32 values that one text's packed keys and values take, over all heads.
pub fn packed_len(len: usize, kv_heads: usize, head_dim: usize, panel: usize) -> usize {
    Layout::new(len, head_dim, panel).total() * kv_heads
}

/// Returns the f32 values of scratch memory that a tile needs for texts of up to `len` tokens.
pub fn scratch_len(len: usize, head_dim: usize, panel: usize) -> usize {
    let keys = len.next_multiple_of(panel);
    TILE_QUERIES * (keys + pairs(keys).max(pairs(head_dim)) + 1)
}

/// The layout of one text's and head's packed data, in f32 values: panels of keys, panels of features, and scratch
/// memory for one panel of keys before it is transposed. A panel has the layout of a weight's panel, see [`Integers`].
#[derive(Clone, Copy)]
struct Layout {
    /// Length of one panel of keys.
    key_panel: usize,
    /// Length of all panels of keys.
    keys: usize,
    /// Length of one panel of features.
    value_panel: usize,
    /// Length of all panels of features.
    values: usize,
    /// Length of the scratch memory.
    rows: usize,
}

impl Layout {
    fn new(len: usize, head_dim: usize, panel: usize) -> Self {
        let (padded, lanes) = (len.next_multiple_of(panel), panel / VECTORS);
        let (key_panel, value_panel) = (Integers::panel_len(head_dim, lanes), Integers::panel_len(padded, lanes));
        Self {
            key_panel,
            keys: padded / panel * key_panel,
            value_panel,
            values: head_dim.div_ceil(panel) * value_panel,
            rows: panel * pairs(head_dim),
        }
    }

    /// Length of everything.
    fn total(self) -> usize {
        self.keys + self.values + self.rows
    }
}

/// Returns the matrix that begins at row `row`.
///
/// # Safety
/// The row must lie inside the matrix.
#[inline(always)]
unsafe fn from_row(matrix: Matrix, row: usize) -> Matrix {
    Matrix {
        // SAFETY: the row lies inside the matrix by this function's contract.
        data: unsafe { matrix.row(row) },
        ..matrix
    }
}

/// Returns the matrix that begins at column `column`.
///
/// # Safety
/// The column must lie inside the matrix.
#[inline(always)]
unsafe fn from_column(matrix: Matrix, column: usize) -> Matrix {
    Matrix {
        // SAFETY: the column lies inside the matrix by this function's contract.
        data: unsafe { matrix.data.add(column) },
        ..matrix
    }
}

/// Rows of integers with their scales, in scratch memory.
#[derive(Clone, Copy)]
struct IntegerRows {
    rows: Matrix,
    scales: Matrix,
    count: usize,
}

impl IntegerRows {
    /// Converts the first `count` rows of `x`, which have `k` values.
    ///
    /// # Safety
    /// `x` must cover `count` rows of `k` values, and `rows` and `scales` must have room for them. The processor must
    /// have the instruction set of `V`.
    #[inline(always)]
    unsafe fn fill<V: Simd>(self, x: Matrix, k: usize) {
        let args = Quantise {
            x,
            k,
            out: self.rows,
            rows: Int16Rows::Pairs,
            scales: self.scales,
            max_norm: max_row_norm(k),
        };
        // SAFETY: x has `count` rows of k values, and the scratch memory has room for them, by this method's contract.
        unsafe { quantise::<V>(&args, 0..self.count) }
    }

    /// Multiplies the rows with `pairs` pairs of one panel, from `b` on: out = rows · b. `panel` points to the panel's
    /// scales.
    ///
    /// # Safety
    /// The rows must have been converted, `panel` must have [`VECTORS`] vectors of scales, `b` `pairs` rows of the
    /// panel, and `out` `count` rows of `columns` values. The processor must have the instruction set of `V`.
    #[inline(always)]
    unsafe fn multiply<V: Simd>(self, pairs: usize, panel: *const f32, b: *const f32, out: Matrix, columns: usize) {
        for row in (0..self.count).step_by(V::TILE) {
            // SAFETY: the tile's rows are among the `count` converted rows and rows of out; panel and b have scales and
            // `pairs` rows, by this method's contract. The prefetch address is not dereferenced.
            unsafe {
                let tile = tile::Tile {
                    k: pairs,
                    x: self.rows.row(row),
                    x_stride: self.rows.stride,
                    b,
                    prefetch: b.wrapping_add(pairs * VECTORS * V::LANES),
                    further: 0,
                    out: out.row(row),
                    out_stride: out.stride,
                    columns,
                };
                multiply_unfinished::<V>(V::TILE.min(self.count - row), &tile, self.scales.row(row), panel);
            }
        }
    }
}

/// Computes attention for one tile of queries and one query head. `scratch` has at least [`scratch_len`] values.
///
/// # Safety
/// `q` and `out` must cover the text with all heads, and the text must have been packed for the instruction set of `V`,
/// which the processor must have. No other thread may access these rows and this head of `out`.
#[inline(always)]
pub unsafe fn tile<V: Simd>(args: &Attention<'_>, tile: QueryTile, head: usize, scratch: &mut [f32]) {
    let width = VECTORS * V::LANES;
    let (d, span) = (args.head_dim, tile.span);
    let queries = tile.first..(tile.first + TILE_QUERIES).min(span.len);
    let keys = visible_panels(args, span.len, &queries, width);
    let layout = Layout::new(span.len, d, width);
    let (scores, rest) = scratch.split_at_mut(TILE_QUERIES * keys.len());
    let (scales, rows) = rest.split_at_mut(TILE_QUERIES);
    let matrix = |data: &mut [f32], stride| Matrix {
        data: data.as_mut_ptr(),
        stride,
    };
    let scores = matrix(scores, keys.len());
    let q = IntegerRows {
        rows: matrix(rows, pairs(d)),
        scales: matrix(scales, 1),
        count: queries.len(),
    };
    let weights = IntegerRows {
        rows: matrix(rows, pairs(keys.len())),
        ..q
    };
    // SAFETY: q and out cover the text's rows, and keys and values are packed, by this function's contract. The scratch
    // memory has `TILE_QUERIES` rows of scores, as many scales, and rows of integers for the longer of queries and
    // weights.
    unsafe {
        let kv_head = head / (args.heads / args.kv_heads);
        let start = args.packed.data.add(span.packed + kv_head * layout.total());
        let from_first_query = |matrix| from_column(from_row(matrix, span.start + queries.start), head * d);
        let out = from_first_query(args.out);
        q.fill::<V>(from_first_query(args.q), d);
        for key in keys.clone().step_by(width) {
            let panel = start.add(key / width * layout.key_panel);
            let out = from_column(scores, key - keys.start);
            q.multiply::<V>(d.div_ceil(2), panel, panel.add(width), out, width);
        }
        let max_norm = max_row_norm(keys.len());
        for (number, query) in queries.clone().enumerate() {
            let row = std::slice::from_raw_parts_mut(scores.row(number), keys.len());
            let (sum, squares) = softmax_weights::<V>(args, head, span, query, &keys, row);
            // The largest weight is 1. The scale of the row includes the division by the sum of the weights.
            let row_scale = scale(1.0, squares.sqrt(), max_norm);
            *weights.scales.row(number) = row_scale / sum;
            let out = weights.rows.row(number);
            convert::<V>(row.as_ptr(), keys.len(), row_scale, out, Int16Rows::Pairs);
        }
        for (number, first) in (0..d).step_by(width).enumerate() {
            let panel = start.add(layout.keys + number * layout.value_panel);
            let b = panel.add(width + keys.start / 2 * width);
            let out = from_column(out, first);
            weights.multiply::<V>(keys.len() / 2, panel, b, out, width.min(d - first));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::Kernels;
    use crate::kernels::attention::Span;

    /// Computes attention within one text whose rows are all `row`, with one head, on every instruction set of this
    /// machine.
    fn outputs(row: &[f32], len: usize) -> Vec<f32> {
        let d = row.len();
        let mut rows = row.repeat(len);
        let x = Matrix {
            data: rows.as_mut_ptr(),
            stride: d,
        };
        let span = Span {
            start: 0,
            len,
            packed: 0,
        };
        let mut found = Vec::new();
        for kernels in Kernels::all() {
            let mut out = vec![0.0; len * d];
            let mut packed = vec![f32::NAN; packed_len(len, 1, d, kernels.panel)];
            let mut scratch = vec![f32::NAN; scratch_len(len, d, kernels.panel)];
            let args = Attention {
                q: x,
                k: x,
                v: x,
                out: Matrix {
                    data: out.as_mut_ptr(),
                    stride: d,
                },
                heads: 1,
                kv_heads: 1,
                head_dim: d,
                scale: 1e-3,
                causal: false,
                radius: None,
                bias: None,
                packed: Matrix {
                    data: packed.as_mut_ptr(),
                    stride: 0,
                },
            };
            // SAFETY: the operands have `len` rows, `packed` and `scratch` have the lengths that the functions return,
            // and this machine has the kernels.
            unsafe {
                (kernels.attention_int16.pack)(&args, span, 0);
                for first in (0..len).step_by(TILE_QUERIES) {
                    (kernels.attention_int16.tile)(&args, QueryTile { span, first }, 0, &mut scratch);
                }
            }
            found.extend(out);
        }
        found
    }

    #[test]
    fn no_text_overflows() {
        // With equal rows scores and sums are as large as possible, and every output is the row itself.
        for len in [1, 2, 33, 500, 2048] {
            for row in [[1.0f32; 64], [-7.5; 64], [1e-15; 64], [1e4; 64]] {
                for value in outputs(&row, len) {
                    assert!((value / row[0] - 1.0).abs() < 1e-3, "{len} rows of {}: {value}", row[0]);
                }
            }
        }
    }

    #[test]
    fn nan_and_infinity_stay_not_finite() {
        for bad in [f32::NAN, f32::INFINITY] {
            let mut row = [1.0f32; 40];
            row[17] = bad;
            assert!(outputs(&row, 20).chunks(40).all(|row| !row[17].is_finite()));
        }
    }
}
