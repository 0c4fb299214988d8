//! Lookup of embedding rows, straight from the mapped checkpoint.

use super::Matrix;
use super::loops::each;
use crate::format::table::Table;
use crate::simd::Simd;
use std::ops::Range;

/// One lookup.
pub struct Embed<'a> {
    /// A row an id.
    pub table: &'a Table,
    /// Token ids, checked against the table.
    pub ids: &'a [u32],
    /// Each token's place in its text.
    pub places: &'a [u32],
    /// Position rows and the row of place 0.
    pub positions: Option<(&'a [f32], usize)>,
    /// Added to every row.
    pub types: Option<&'a [f32]>,
    /// Multiplies the table's row.
    pub scale: f32,
    /// Features.
    pub width: usize,
    /// Output rows.
    pub out: Matrix,
}

/// Looks up the tokens of the given rows.
///
/// # Safety
/// See [`super::Kernels`]; ids and places must lie inside their tables.
#[inline(always)]
pub unsafe fn embed<V: Simd>(args: &Embed<'_>, rows: Range<usize>) {
    let scale = V::splat(args.scale);
    for row in rows {
        // SAFETY: the caller vouches for the row, the id and the place.
        unsafe {
            let out = args.out.row(row);
            args.table
                .read_row(args.ids[row] as usize, std::slice::from_raw_parts_mut(out, args.width));
            let positions = args.positions.map(|(table, offset)| {
                let place = offset + args.places[row] as usize;
                table[place * args.width..(place + 1) * args.width].as_ptr()
            });
            each!(V, args.width, |i, n| {
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
