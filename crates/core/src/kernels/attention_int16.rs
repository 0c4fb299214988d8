//! Attention within each text in 16-bit integers: the same tiles as in [`attention`](super::attention), whose two
//! products are those of [`int16`](super::int16). Queries, keys and the softmax's weights are scaled by row, values by
//! feature over the whole text, so that no sum can overflow and a text gets the same bits in any batch.

mod pack;

use super::Matrix;
use super::attention::{Attention, TILE, Tile, seen, weigh};
use super::int16::{Pairs, Quantise, convert, multiply_plain, pairs, quantise, row_norm, scale};
use super::panels::Format;
use crate::simd::Simd;
use crate::simd::tile::{self, VECTORS};
pub use pack::pack;

/// Floats that one text's packed keys and values take, over all heads.
pub fn packed_len(len: usize, kv_heads: usize, head_dim: usize, panel: usize) -> usize {
    Layout::new(len, head_dim, panel).all() * kv_heads
}

/// Floats of scratch that a tile needs for texts of up to `len` tokens.
pub fn scratch_len(len: usize, head_dim: usize, panel: usize) -> usize {
    let keys = len.next_multiple_of(panel);
    TILE * (keys + pairs(keys).max(pairs(head_dim)) + 1)
}

/// How the packed keys and values of one text and head lie: panels of keys, panels of features, and room for one panel
/// of keys before it is transposed. Panels are those of a weight, see [`Pairs`].
#[derive(Clone, Copy)]
struct Layout {
    key_panel: usize,
    keys: usize,
    value_panel: usize,
    values: usize,
    rows: usize,
}

impl Layout {
    fn new(len: usize, head_dim: usize, panel: usize) -> Self {
        let (padded, lanes) = (len.next_multiple_of(panel), panel / VECTORS);
        let (key_panel, value_panel) = (Pairs::panel_len(head_dim, lanes), Pairs::panel_len(padded, lanes));
        Self {
            key_panel,
            keys: padded / panel * key_panel,
            value_panel,
            values: head_dim.div_ceil(panel) * value_panel,
            rows: panel * pairs(head_dim),
        }
    }

    fn all(self) -> usize {
        self.keys + self.values + self.rows
    }
}

/// The matrix from row `row` on.
///
/// # Safety
/// The row must lie inside the matrix.
#[inline(always)]
unsafe fn from_row(matrix: Matrix, row: usize) -> Matrix {
    Matrix {
        // SAFETY: the caller vouches for the row.
        data: unsafe { matrix.row(row) },
        ..matrix
    }
}

/// The matrix from column `column` on.
///
/// # Safety
/// The column must lie inside the matrix.
#[inline(always)]
unsafe fn from_column(matrix: Matrix, column: usize) -> Matrix {
    Matrix {
        // SAFETY: the caller vouches for the column.
        data: unsafe { matrix.data.add(column) },
        ..matrix
    }
}

/// Rows as integers, and what their units are worth.
#[derive(Clone, Copy)]
struct Integers {
    rows: Matrix,
    scales: Matrix,
    count: usize,
}

impl Integers {
    /// From the first `count` rows of `x`, which have `k` numbers.
    #[inline(always)]
    unsafe fn fill<V: Simd>(self, x: Matrix, k: usize) {
        let args = Quantise {
            x,
            k,
            out: self.rows,
            scales: self.scales,
            largest_norm: row_norm(k),
        };
        // SAFETY: the caller vouches for the rows and for room for them.
        unsafe { quantise::<V>(&args, 0..self.count) }
    }

    /// Times one panel, of which the pairs from `b` on count: out = rows · b.
    #[inline(always)]
    unsafe fn times<V: Simd>(self, pairs: usize, panel: *const f32, b: *const f32, out: Matrix, columns: usize) {
        for row in (0..self.count).step_by(V::TILE) {
            // SAFETY: the caller vouches for rows, panel and room for the result.
            unsafe {
                let product = tile::Tile {
                    k: pairs,
                    x: self.rows.row(row),
                    x_stride: self.rows.stride,
                    b,
                    prefetch: b.wrapping_add(pairs * VECTORS * V::LANES),
                    out: out.row(row),
                    out_stride: out.stride,
                    columns,
                };
                multiply_plain::<V>(V::TILE.min(self.count - row), &product, self.scales.row(row), panel);
            }
        }
    }
}

/// Attends for one tile of queries and one query head. `scratch` is at least [`scratch_len`] floats.
///
/// # Safety
/// See [`super::Kernels`]; the text must have been packed.
#[inline(always)]
pub unsafe fn tile<V: Simd>(args: &Attention<'_>, tile: Tile, head: usize, scratch: &mut [f32]) {
    let width = VECTORS * V::LANES;
    let (d, span) = (args.head_dim, tile.span);
    let queries = tile.first..(tile.first + TILE).min(span.len);
    let keys = seen(args, span.len, &queries, width);
    let layout = Layout::new(span.len, d, width);
    let (scores, rest) = scratch.split_at_mut(TILE * keys.len());
    let (scales, rows) = rest.split_at_mut(TILE);
    let matrix = |data: &mut [f32], stride| Matrix {
        data: data.as_mut_ptr(),
        stride,
    };
    let scores = matrix(scores, keys.len());
    let q = Integers {
        rows: matrix(rows, pairs(d)),
        scales: matrix(scales, 1),
        count: queries.len(),
    };
    let weights = Integers {
        rows: matrix(rows, pairs(keys.len())),
        ..q
    };
    // SAFETY: the caller vouches for the text's rows and for packed keys and values; the scratch holds `TILE` rows of
    // scores, of scales, and of either integers.
    unsafe {
        let kv_head = head / (args.heads / args.kv_heads);
        let start = args.packed.data.add(span.packed + kv_head * layout.all());
        let from_first = |matrix| from_column(from_row(matrix, span.start + queries.start), head * d);
        let out = from_first(args.out);
        q.fill::<V>(from_first(args.q), d);
        for key in keys.clone().step_by(width) {
            let panel = start.add(key / width * layout.key_panel);
            let out = from_column(scores, key - keys.start);
            q.times::<V>(d.div_ceil(2), panel, panel.add(width), out, width);
        }
        let largest_norm = row_norm(keys.len());
        for (number, query) in queries.clone().enumerate() {
            let row = std::slice::from_raw_parts_mut(scores.row(number), keys.len());
            let (sum, squares) = weigh::<V>(args, head, span, query, &keys, row);
            // The largest weight is 1, and the division by the sum goes with what a unit is worth.
            let unit = scale(1.0, squares.sqrt(), largest_norm);
            *weights.scales.row(number) = unit / sum;
            convert::<V>(row.as_ptr(), keys.len(), unit, weights.rows.row(number).cast());
        }
        for (number, first) in (0..d).step_by(width).enumerate() {
            let panel = start.add(layout.keys + number * layout.value_panel);
            let b = panel.add(width + keys.start / 2 * width);
            let out = from_column(out, first);
            weights.times::<V>(keys.len() / 2, panel, b, out, width.min(d - first));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::Kernels;
    use crate::kernels::attention::Span;

    /// Attends within one text whose rows are all `row`, with one head, on every instruction set of the machine.
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
            // SAFETY: one text of `len` rows, with room as the two functions say.
            unsafe {
                (kernels.attention_int16.pack)(&args, span, 0);
                for first in (0..len).step_by(TILE) {
                    (kernels.attention_int16.tile)(&args, Tile { span, first }, 0, &mut scratch);
                }
            }
            found.extend(out);
        }
        found
    }

    #[test]
    fn no_text_overflows() {
        // Equal rows: scores and sums are as large as they can be, and every output is the row itself.
        for len in [1, 2, 33, 500, 2048] {
            for row in [[1.0f32; 64], [-7.5; 64], [1e-15; 64], [1e4; 64]] {
                for value in outputs(&row, len) {
                    assert!((value / row[0] - 1.0).abs() < 1e-3, "{len} rows of {}: {value}", row[0]);
                }
            }
        }
    }

    #[test]
    fn what_is_no_number_stays_none() {
        for bad in [f32::NAN, f32::INFINITY] {
            let mut row = [1.0f32; 40];
            row[17] = bad;
            assert!(outputs(&row, 20).chunks(40).all(|row| !row[17].is_finite()));
        }
    }
}
