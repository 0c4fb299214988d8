//! Embedding lookup, which reads rows directly from the mapped checkpoint.

use super::Matrix;
use super::loops::for_each_vector;
use crate::format::table::Table;
use crate::simd::Simd;
use std::ops::Range;

/// Arguments of a lookup.
pub struct Embed<'a> {
    /// Embedding table; row i belongs to id i.
    pub table: &'a Table,
    /// Token ids, below the rows of the table.
    pub ids: &'a [u32],
    /// Position of each token in its text.
    pub positions: &'a [u32],
    /// Position table, and its row for position 0.
    pub position_table: Option<(&'a [f32], usize)>,
    /// Token type embedding, added to every row.
    pub types: Option<&'a [f32]>,
    /// Factor that the row of the embedding table is multiplied by.
    pub scale: f32,
    /// Features of a row.
    pub width: usize,
    /// Output rows.
    pub out: Matrix,
}

/// Looks up the tokens of the given rows.
///
/// # Safety
/// `out` must cover the rows with `width` columns. No other thread may access these rows, and the processor must have
/// the instruction set of `V`.
#[inline(always)]
pub unsafe fn embed<V: Simd>(args: &Embed<'_>, rows: Range<usize>) {
    let scale = V::splat(args.scale);
    for row in rows {
        // SAFETY: `out` covers the row by this function's contract. The tables are indexed with bounds checks, and both
        // they and `types` have `width` columns: `for_each_vector` reads no element past the width.
        unsafe {
            let out = args.out.row(row);
            args.table
                .read_row(args.ids[row] as usize, std::slice::from_raw_parts_mut(out, args.width));
            let positions = args.position_table.map(|(table, offset)| {
                let position = offset + args.positions[row] as usize;
                table[position * args.width..(position + 1) * args.width].as_ptr()
            });
            for_each_vector!(V, args.width, |i, n| {
                let mut x = V::load_first(out.add(i), n).mul(scale);
                if let Some(types) = args.types {
                    x = x.add(V::load_first(types.as_ptr().add(i), n));
                }
                if let Some(positions) = positions {
                    x = x.add(V::load_first(positions.add(i), n));
                }
                x.store_first(out.add(i), n);
            });
        }
    }
}
