//! Products of integers and of bfloat16 numbers with weights, by matrix instructions if the instruction set has them.
//!
//! The rows are divided into tiles of [`Simd::MATRIX_ROWS`] rows. If these do not divide the number of rows, the last
//! tile begins earlier and computes some rows again: the sizes of tiles are expensive to change.

use super::gemm::{MAX_FINISHED_ROWS, finish_and_store};
use super::int16::Integers;
use super::panels::Format;
use super::{bfloat16, gemm, int8, int16};
use crate::kernels::int8::quantise::groups;
use crate::simd::Simd;
use crate::simd::tile::{BFLOAT16_UNIT, Tile, VECTORS, group_len};
use std::ops::Range;

/// Rows whose sums are kept. All of them are multiplied with one vector of columns of 16-bit integers, or with one block of
/// bfloat16 weights, before the next, so that these weights are read from the first-level cache.
const KEPT_ROWS: usize = 96;
const KEPT_TILES: usize = KEPT_ROWS / MAX_FINISHED_ROWS;
/// Units along K of a block of bfloat16 weights: a third of the first-level cache.
const BFLOAT16_BLOCK: usize = 8;

/// The first rows of tiles of `size` rows, at most all, that together are `rows`; at most `N` at a time.
struct Tiles<const N: usize> {
    rows: Range<usize>,
    size: usize,
    first_rows: [usize; N],
}

impl<const N: usize> Tiles<N> {
    fn new(rows: Range<usize>, size: usize) -> Self {
        Self {
            rows,
            size,
            first_rows: [0; N],
        }
    }

    /// Returns the next tiles. This is for a loop, not for a closure: that would be compiled without the instruction set of
    /// the kernel around it.
    #[inline(always)]
    fn next(&mut self) -> Option<&[usize]> {
        let mut count = 0;
        while count < N && !self.rows.is_empty() {
            self.first_rows[count] = self.rows.start.min(self.rows.end - self.size);
            self.rows.start += self.size;
            count += 1;
        }
        (count > 0).then(|| &self.first_rows[..count])
    }
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
    // Each pass over a panel prefetches a part of the next one.
    let lines = len.div_ceil(16).div_ceil(groups * rows.len());
    let mut sums = [[V::splat(0.0); VECTORS]; 2 * MAX_FINISHED_ROWS];
    // SAFETY: x, scales and out cover the rows and columns by this function's contract, and a panel of the packed weight
    // has `groups` groups. The prefetch address is not dereferenced.
    unsafe {
        V::begin_matrix(size);
        for panel in panels {
            let column = panel * shape.columns(V::LANES);
            let b = args.weight.panel(panel, V::LANES).as_ptr();
            let bias = args.bias.map(|bias| &bias[panel * width..][..width]);
            let mut tile = Tile {
                k: groups,
                x: args.x.row(0),
                x_stride: args.x.stride,
                b,
                prefetch: b.wrapping_add(len),
                further: 0,
                out: args.out.row(0),
                out_stride: args.out.stride,
                columns: shape.columns(V::LANES).min(shape.out - column),
            };
            let scales = (args.scales.row(0).cast_const(), args.scales.stride);
            let mut tiles = Tiles::<2>::new(rows.clone(), size);
            while let Some(first_rows) = tiles.next() {
                let sums = &mut sums[..first_rows.len() * size];
                V::matrix_int8(sums, (first_rows, size), &tile, scales, lines);
                tile.prefetch = tile.prefetch.wrapping_add(16 * lines * groups * sums.len());
                for (sums, row) in sums.chunks_exact_mut(size).zip(first_rows) {
                    let out = args.out.row(*row).wrapping_add(column);
                    finish_and_store(sums, &Tile { out, ..tile }, bias, args.finish);
                }
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
        let mut tiles = Tiles::<KEPT_TILES>::new(rows, size);
        while let Some(first_rows) = tiles.next() {
            let sums = &mut sums[..first_rows.len() * size];
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
                    further: 0,
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
                    let out = args.out.row(*row).wrapping_add(column);
                    finish_and_store(sums, &Tile { out, ..tile }, bias, args.finish);
                }
            }
        }
        V::end_matrix();
    }
}

/// Computes the given rows and panels of a product with bfloat16 weights.
///
/// # Safety
/// That of [`bfloat16::gemm`].
#[inline(always)]
pub unsafe fn bfloat16<V: Simd>(args: &gemm::Gemm<'_, bfloat16::Packed>, rows: Range<usize>, panels: Range<usize>) {
    let Some(tile_rows) = V::MATRIX_ROWS else {
        // SAFETY: the requirements are the same.
        return unsafe { bfloat16::gemm::<V>(args, rows, panels) };
    };
    let (shape, width) = (args.weight.shape, VECTORS * V::LANES);
    let size = rows.len().min(tile_rows);
    if size == 0 {
        return;
    }
    let units = shape.k.div_ceil(BFLOAT16_UNIT);
    let mut sums = [[V::splat(0.0); VECTORS]; KEPT_ROWS];
    // SAFETY: x and out cover the rows and columns by this function's contract, and rows and panels have whole units. The
    // prefetch address is not dereferenced.
    unsafe {
        V::begin_matrix(size);
        let mut tiles = Tiles::<KEPT_TILES>::new(rows, size);
        while let Some(first_rows) = tiles.next() {
            let sums = &mut sums[..first_rows.len() * size];
            let block = if first_rows.len() > 2 { BFLOAT16_BLOCK } else { units };
            for panel in panels.clone() {
                let column = panel * shape.columns(V::LANES);
                let b = args.weight.panel(panel, V::LANES);
                let bias = args.bias.map(|bias| &bias[panel * width..][..width]);
                let tile = Tile {
                    k: 0,
                    x: args.x.row(0),
                    x_stride: args.x.stride,
                    b: b.as_ptr(),
                    prefetch: b.as_ptr_range().end,
                    further: 0,
                    out: args.out.row(0),
                    out_stride: args.out.stride,
                    columns: shape.columns(V::LANES).min(shape.out - column),
                };
                for unit in (0..units).step_by(block) {
                    let k = block.min(units - unit);
                    let weights = unit * BFLOAT16_UNIT / 2 * width;
                    let pairs = first_rows.chunks(2).zip(sums.chunks_mut(2 * size));
                    for (pass, (pair, sums)) in pairs.enumerate() {
                        let part = Tile {
                            k,
                            x: args.x.row(pair[0]).wrapping_add(unit * BFLOAT16_UNIT / 2),
                            b: tile.b.wrapping_add(weights),
                            prefetch: tile
                                .prefetch
                                .wrapping_add(weights + pass * k * BFLOAT16_UNIT / 8 * width),
                            ..tile
                        };
                        let (ours, others) = sums.split_at_mut(size);
                        let second = pair.get(1).map(|second| (second - pair[0], others));
                        V::matrix_bf16(ours, second, &part, unit == 0);
                    }
                }
                for (sums, row) in sums.chunks_exact_mut(size).zip(first_rows) {
                    let out = args.out.row(*row).wrapping_add(column);
                    finish_and_store(sums, &Tile { out, ..tile }, bias, args.finish);
                }
            }
        }
        V::end_matrix();
    }
}
