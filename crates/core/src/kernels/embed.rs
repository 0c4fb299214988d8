//! Embedding lookup, which reads rows directly from the mapped checkpoint.

use super::Matrix;
use super::loops::for_each_vector;
use crate::format::table::Table;
use crate::simd::Simd;
use std::ops::Range;

/// Arguments of a lookup.
pub struct Embed<'a> {
    /// Embedding table.
    pub table: &'a Table,
    /// Row of the table for each id; without it row i belongs to id i.
    pub rows: Option<&'a [u32]>,
    /// Factor of the row of the table, for each id.
    pub weights: Option<&'a [f32]>,
    /// Token ids, below the number of ids of the table.
    pub ids: &'a [u32],
    /// Position table, and its row for each token.
    pub positions: Option<(&'a [f32], &'a [u32])>,
    /// Token type embedding, added to every row.
    pub types: Option<&'a [f32]>,
    /// Factor that the row of the embedding table is multiplied by.
    pub scale: f32,
    /// Features of a row.
    pub width: usize,
    /// Output rows.
    pub out: Matrix,
}

/// Tokens between one that is looked up and the one whose row of the table is prefetched: the rows of a text are anywhere in
/// a large table, and a row comes from memory in about the time of a few lookups.
const AHEAD: usize = 3;

/// Looks up the tokens of the given rows.
///
/// # Safety
/// `out` must cover the rows with `width` columns. No other thread may access these rows, and the processor must have
/// the instruction set of `V`.
#[inline(always)]
pub unsafe fn embed<V: Simd>(args: &Embed<'_>, rows: Range<usize>) {
    let table_row = |id: usize| args.rows.map_or(id, |rows| rows[id] as usize);
    for row in rows.clone() {
        if row + AHEAD < rows.end {
            args.table.prefetch(table_row(args.ids[row + AHEAD] as usize));
        }
        let id = args.ids[row] as usize;
        let table_row = table_row(id);
        let scale = V::splat(args.weights.map_or(args.scale, |weights| args.scale * weights[id]));
        // SAFETY: `out` covers the row by this function's contract. The tables are indexed with bounds checks, and both
        // they and `types` have `width` columns: `for_each_vector` reads no element past the width.
        unsafe {
            let out = args.out.row(row);
            args.table
                .read_row(table_row, std::slice::from_raw_parts_mut(out, args.width));
            let positions = args.positions.map(|(table, places)| {
                let place = places[row] as usize;
                table[place * args.width..(place + 1) * args.width].as_ptr()
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
