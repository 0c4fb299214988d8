//! Products of integers with weights, by matrix instructions if the instruction set has them.
//!
//! The rows are divided into tiles of [`Simd::MATRIX_ROWS`] rows. If these do not divide the number of rows, the last
//! tile begins earlier and computes some rows again: the sizes of tiles are expensive to change.

use super::gemm::{MAX_FINISHED_ROWS, finish_and_store};
use super::int16::Integers;
use super::panels::Format;
use super::{int8, int16};
use crate::kernels::int8::quantise::groups;
use crate::simd::Simd;
use crate::simd::tile::{Tile, VECTORS, group_len};
use std::ops::Range;

/// Rows of 16-bit integers whose sums are kept. All of them are multiplied with one vector of columns before the next, so
/// that its weights are read from the first-level cache.
const KEPT_ROWS: usize = 96;
const KEPT_TILES: usize = KEPT_ROWS / MAX_FINISHED_ROWS;

/// Returns the first row of each tile of `size` rows, at most all, that together are `rows`.
fn tiles(rows: Range<usize>, size: usize) -> impl Iterator<Item = usize> {
    rows.clone().step_by(size).map(move |row| row.min(rows.end - size))
}

/// Computes the given rows and panels of a product of 8-bit integers, with the bits of [`int8::gemm`].
///
/// # Safety
/// That of [`int8::gemm`].
#[inline(always)]
pub unsafe fn int8<V: Simd>(args: &int16::Gemm<'_, int8::Packed>, rows: Range<usize>, panels: Range<usize>) {
    let Some(tile_rows) = V::MATRIX_ROWS else {
        // SAFETY: the requirements are the same.
        return unsafe { int8::gemm::<V>(args, rows, panels) };
    };
    let (shape, width) = (args.weight.shape, VECTORS * V::LANES);
    let size = rows.len().min(tile_rows);
    if size == 0 {
        return;
    }
    let groups = groups(shape.k);
    let len = groups * group_len(width);
    // SAFETY: x, scales and out cover the rows and columns by this function's contract, and a panel of the packed weight
    // has `groups` groups. The prefetch address is not dereferenced.
    unsafe {
        V::begin_matrix(size);
        for panel in panels {
            let column = panel * shape.columns(V::LANES);
            let b = args.weight.panel(panel, V::LANES).as_ptr();
            let bias = args.bias.map(|bias| &bias[panel * width..][..width]);
            let mut tiles = tiles(rows.clone(), size);
            let mut pass = 0;
            while let Some(first) = tiles.next() {
                let second = tiles.next();
                let tile = Tile {
                    k: groups,
                    x: args.x.row(first),
                    x_stride: args.x.stride,
                    b,
                    prefetch: b.wrapping_add(len + pass * len / 4),
                    out: args.out.row(first).add(column),
                    out_stride: args.out.stride,
                    columns: shape.columns(V::LANES).min(shape.out - column),
                };
                let mut sums = [[[V::splat(0.0); VECTORS]; MAX_FINISHED_ROWS]; 2];
                let [ours, others] = &mut sums;
                let (ours, others) = (&mut ours[..size], &mut others[..size]);
                let scales = (args.scales.row(first).cast_const(), args.scales.stride);
                let other = second.map(|second| (second - first, &mut *others));
                V::matrix_int8(ours, other, &tile, scales, groups);
                finish_and_store(ours, &tile, bias, args.finish);
                if let Some(second) = second {
                    let out = args.out.row(second).add(column);
                    finish_and_store(others, &Tile { out, ..tile }, bias, args.finish);
                }
                pass += 1;
            }
        }
        V::end_matrix();
    }
}

/// Computes the given rows and panels of a product of 16-bit integers, with the bits of [`int16::gemm`].
///
/// # Safety
/// That of [`int16::gemm`].
#[inline(always)]
pub unsafe fn int16<V: Simd>(args: &int16::Gemm<'_>, rows: Range<usize>, panels: Range<usize>) {
    let Some(tile_rows) = V::MATRIX_ROWS else {
        // SAFETY: the requirements are the same.
        return unsafe { int16::gemm::<V>(args, rows, panels) };
    };
    let (shape, width) = (args.weight.shape, VECTORS * V::LANES);
    let size = rows.len().min(tile_rows);
    if size == 0 {
        return;
    }
    let units = shape.k.div_ceil(V::INT16_ROWS.unit());
    let mut sums = [[V::splat(0.0); VECTORS]; KEPT_ROWS];
    // SAFETY: x, scales and out cover the rows and columns by this function's contract, and a panel of the packed weight
    // has all integers, and memory after it for the rest of a unit. The prefetch address is not dereferenced.
    unsafe {
        V::begin_matrix(size);
        let mut tiles = tiles(rows, size).peekable();
        while tiles.peek().is_some() {
            let mut first_rows = [0; KEPT_TILES];
            let count = first_rows.iter_mut().zip(&mut tiles).map(|(to, row)| *to = row).count();
            let first_rows = &first_rows[..count];
            let sums = &mut sums[..count * size];
            for panel in panels.clone() {
                let column = panel * shape.columns(V::LANES);
                let (column_scales, weights) = args.weight.panel(panel, V::LANES).split_at(width);
                let bias = args.bias.map(|bias| &bias[panel * width..][..width]);
                let mut tile = Tile {
                    k: units,
                    x: args.x.row(0),
                    x_stride: args.x.stride,
                    b: weights.as_ptr(),
                    prefetch: weights.as_ptr().wrapping_add(Integers::panel_len(shape.k, V::LANES)),
                    out: args.out.row(0),
                    out_stride: args.out.stride,
                    columns: shape.columns(V::LANES).min(shape.out - column),
                };
                for vector in 0..VECTORS {
                    let column_scales = column_scales[vector * V::LANES..].as_ptr();
                    let sums = sums.chunks_exact_mut(size);
                    V::matrix_int16(sums, first_rows, vector, &tile, args.scales.row(0), column_scales);
                    tile.b = tile.b.wrapping_add(weights.len() / VECTORS);
                }
                for (sums, row) in sums.chunks_exact_mut(size).zip(first_rows) {
                    let out = args.out.row(*row).add(column);
                    finish_and_store(sums, &Tile { out, ..tile }, bias, args.finish);
                }
            }
        }
        V::end_matrix();
    }
}
