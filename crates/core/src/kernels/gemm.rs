//! Matrix product in f32: out = finish(x · weightᵀ + bias), with packed weights.
//!
//! Weights are packed into [`panels`] once, when a model is loaded. Each output is one chain of fused multiply-adds
//! over K in ascending order, so its bits depend neither on the number of rows nor on how threads divide them.

use super::Matrix;
use super::panels::{self, Format, PutRow};
use crate::simd::Simd;
use crate::simd::math::Activation;
use crate::simd::tile::{Tile, VECTORS, next_panel};
use std::ops::Range;

/// The layout of f32 panels: K major.
pub struct Floats;

impl Format for Floats {
    fn panel_len(k: usize, lanes: usize) -> usize {
        VECTORS * lanes * k
    }
}

impl PutRow for Floats {
    fn put(panel: &mut [f32], lanes: usize, column: usize, row: &[f32]) {
        for (values, value) in panel.chunks_exact_mut(VECTORS * lanes).zip(row) {
            values[column] = *value;
        }
    }
}

/// A packed weight matrix of f32.
pub type Packed = panels::Packed<Floats>;

/// What happens to the sums of a product.
#[derive(Clone, Copy, Debug)]
pub enum Finish {
    /// The sums are the result.
    Keep,
    /// The result is the activation of each sum.
    Activate(Activation),
    /// The result is the activation of the first matrix's sums times the second matrix's sums.
    Gate(Activation),
}

/// Arguments of a product with weights packed as `W`.
pub struct Gemm<'a, W = Packed> {
    /// Input rows of `weight.shape.k` values.
    pub x: Matrix,
    /// Output rows of `weight.shape.out` values.
    pub out: Matrix,
    /// Weights, packed for the instruction set that runs.
    pub weight: &'a W,
    /// One value for each column of each panel; see [`panels::in_panel_order`].
    pub bias: Option<&'a [f32]>,
    /// What happens to the sums.
    pub finish: Finish,
}

/// Computes the given rows and panels.
///
/// # Safety
/// `x` and `out` must cover the rows with the widths of the weight and must not overlap. No other thread may access
/// these rows and columns of `out`, and the processor must have the instruction set of `V`.
#[inline(always)]
pub unsafe fn gemm<V: Simd>(args: &Gemm<'_>, rows: Range<usize>, panels: Range<usize>) {
    let shape = args.weight.shape;
    let width = VECTORS * V::LANES;
    let len = Floats::panel_len(shape.k, V::LANES);
    for panel in panels {
        let column = panel * shape.columns(V::LANES);
        let b = args.weight.panel(panel, V::LANES).as_ptr();
        let bias = args.bias.map(|bias| &bias[panel * width..][..width]);
        let passes = rows.len().div_ceil(V::TILE);
        for (pass, row) in rows.clone().step_by(V::TILE).enumerate() {
            // SAFETY: x and out cover the rows and columns by this function's contract, and a panel of the packed
            // weight has k rows. The prefetch address is not dereferenced, so it may lie outside.
            unsafe {
                let (prefetch, further) = next_panel::<V>(b.wrapping_add(len), len, pass, passes);
                let product = Tile {
                    k: shape.k,
                    x: args.x.row(row),
                    x_stride: args.x.stride,
                    b,
                    prefetch,
                    further,
                    out: args.out.row(row).add(column),
                    out_stride: args.out.stride,
                    columns: shape.columns(V::LANES).min(shape.out - column),
                };
                multiply::<V>(V::TILE.min(rows.end - row), &product, bias, args.finish);
            }
        }
    }
}

/// `with_const_rows!(V, rows, |ROWS| body)` runs `body` with the constant `ROWS` equal to `rows`, which is 1 to
/// `V::TILE`. The sums of a tile stay in registers only if their number is known at compile time.
macro_rules! with_const_rows {
    ($vector:ty, $rows:expr, |$count:ident| $body:expr) => {
        with_const_rows!(@ $vector, $rows, $count, $body, [12 11 10 9 8 7], [6 5 4 3 2])
    };
    (@ $vector:ty, $rows:expr, $count:ident, $body:expr, [$($large:literal)*], [$($small:literal)*]) => {
        match $rows {
            $($large if <$vector>::TILE >= 12 => {
                const $count: usize = $large;
                $body
            })*
            $($small => {
                const $count: usize = $small;
                $body
            })*
            _ => {
                const $count: usize = 1;
                $body
            }
        }
    };
}
pub(super) use with_const_rows;

/// Most rows of a register tile on any instruction set.
pub(super) const MAX_TILE_ROWS: usize = 12;

/// Most rows that are finished at once: those of a tile of matrix instructions.
pub(super) const MAX_FINISHED_ROWS: usize = 16;

/// The sums of a tile in memory. Code that works on them is compiled once, not for each number of rows.
pub(super) type Sums<V> = [[V; VECTORS]; MAX_TILE_ROWS];

/// Computes a tile of 1 to `V::TILE` rows and writes the finished sums.
///
/// # Safety
/// `tile` must describe `rows` rows of x and out and `k` rows of b; `bias` must have one panel's width. No other thread
/// may access these rows and columns of out, and the processor must have the instruction set of `V`.
#[inline(always)]
pub(super) unsafe fn multiply<V: Simd>(rows: usize, tile: &Tile, bias: Option<&[f32]>, finish: Finish) {
    let mut sums: Sums<V> = [[V::splat(0.0); VECTORS]; MAX_TILE_ROWS];
    // SAFETY: the tile covers `rows` rows of x and out and k rows of b, and the bias one panel, by this function's
    // contract.
    unsafe {
        with_const_rows!(V, rows, |ROWS| {
            let mut registers = [[V::splat(0.0); VECTORS]; ROWS];
            V::tile_f32::<ROWS>(&mut registers, tile);
            sums[..ROWS].copy_from_slice(&registers);
        });
        finish_and_store(&mut sums[..rows], tile, bias, finish);
    }
}

/// Computes a tile of 1 to `V::TILE` rows and writes its sums from the registers, unchanged or times a factor for each
/// row.
///
/// Attention has short products, which would spend a third of their time on the memory copy of [`multiply`].
///
/// # Safety
/// `tile` must describe `rows` rows of x and out and `k` rows of b; `factors` must be valid for `rows` reads. No other
/// thread may access these rows and columns of out, and the processor must have the instruction set of `V`.
#[inline(always)]
pub(super) unsafe fn multiply_unfinished<V: Simd>(rows: usize, tile: &Tile, factors: Option<*const f32>) {
    // SAFETY: the tile covers `rows` rows of x and out and k rows of b, and there are `rows` factors, by this
    // function's contract.
    unsafe {
        with_const_rows!(V, rows, |ROWS| {
            let mut sums = [[V::splat(0.0); VECTORS]; ROWS];
            V::tile_f32::<ROWS>(&mut sums, tile);
            if let Some(factors) = factors {
                for (r, sums) in sums.iter_mut().enumerate() {
                    let factor = V::splat(*factors.add(r));
                    *sums = [sums[0].mul(factor), sums[1].mul(factor)];
                }
            }
            store(&sums, tile);
        });
    }
}

/// Writes the sums of a tile.
///
/// # Safety
/// The output of `tile` must have a row of `columns` values for each row of `sums`.
#[inline(always)]
pub(super) unsafe fn store<V: Simd>(sums: &[[V; VECTORS]], tile: &Tile) {
    // SAFETY: the output has a row of `columns` values for each row of sums by this function's contract.
    unsafe {
        for (r, [first, second]) in sums.iter().enumerate() {
            let out = tile.out.add(r * tile.out_stride);
            if tile.columns == VECTORS * V::LANES {
                first.store(out);
                second.store(out.add(V::LANES));
            } else {
                first.store_first(out, tile.columns.min(V::LANES));
                if tile.columns > V::LANES {
                    second.store_first(out.add(V::LANES), tile.columns - V::LANES);
                }
            }
        }
    }
}

/// Adds the bias to the sums of a tile of at most [`MAX_FINISHED_ROWS`] rows, applies the finish and writes the results.
///
/// # Safety
/// The output of `tile` must have a row of `columns` values for each row of `sums`; `bias` must have one panel's width.
#[inline(always)]
pub(super) unsafe fn finish_and_store<V: Simd>(
    sums: &mut [[V; VECTORS]],
    tile: &Tile,
    bias: Option<&[f32]>,
    finish: Finish,
) {
    let rows = sums.len();
    // SAFETY: the output has a row for each row of sums, and the bias one panel's width, by this function's contract.
    unsafe {
        if let Some(bias) = bias {
            let bias = [V::load(bias.as_ptr()), V::load(bias[V::LANES..].as_ptr())];
            for row in sums.iter_mut() {
                *row = [row[0].add(bias[0]), row[1].add(bias[1])];
            }
        }
        let mut gates = [V::splat(0.0); MAX_FINISHED_ROWS];
        let activated = match finish {
            Finish::Keep => None,
            Finish::Activate(activation) => Some((activation, sums.as_flattened_mut())),
            Finish::Gate(activation) => {
                for (gate, [first, _]) in gates.iter_mut().zip(sums.iter()) {
                    *gate = *first;
                }
                Some((activation, &mut gates[..rows]))
            }
        };
        if let Some((activation, values)) = activated {
            activation.apply_all(values);
        }
        if let Finish::Gate(_) = finish {
            for (r, [_, second]) in sums.iter().enumerate() {
                let out = tile.out.add(r * tile.out_stride);
                gates[r].mul(*second).store_first(out, tile.columns.min(V::LANES));
            }
        } else {
            store(sums, tile);
        }
    }
}
