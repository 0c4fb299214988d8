//! Matrix product with packed weights: out = x · weightᵀ (+ bias), through an activation or a gate where there is one.
//!
//! Weights are packed once at load into [`panels`]. Each output is one chain of fused multiply-adds over K in ascending
//! order, so its bits don't depend on how many rows there are or on how they are divided among threads.

use super::Matrix;
use super::panels::{self, Format};
use crate::simd::Simd;
use crate::simd::math::Activation;
use crate::simd::tile::{Tile, VECTORS};
use std::ops::Range;

/// Panels of floats, K major.
pub struct Floats;

impl Format for Floats {
    fn panel_len(k: usize, lanes: usize) -> usize {
        VECTORS * lanes * k
    }

    fn put(panel: &mut [f32], lanes: usize, place: usize, row: &[f32]) {
        for (values, value) in panel.chunks_exact_mut(VECTORS * lanes).zip(row) {
            values[place] = *value;
        }
    }
}

/// A weight matrix of floats.
pub type Packed = panels::Packed<Floats>;

/// What becomes of the sums.
#[derive(Clone, Copy, Debug)]
pub enum Finish {
    /// They are the result.
    Keep,
    /// Each goes through it.
    Activate(Activation),
    /// The first matrix's go through it and are multiplied by the second's.
    Gate(Activation),
}

/// One product, with weights packed as `W`.
pub struct Gemm<'a, W = Packed> {
    /// Input rows of `weight.shape.k` floats.
    pub x: Matrix,
    /// Output rows of `weight.shape.out` floats.
    pub out: Matrix,
    /// The weights, packed for the instruction set that runs.
    pub weight: &'a W,
    /// One a column of each panel; see [`panels::in_order_of_panels`].
    pub bias: Option<&'a [f32]>,
    /// Applied last.
    pub finish: Finish,
}

/// Computes the given rows and panels.
///
/// # Safety
/// See [`super::Kernels`]; `x` and `out` must not overlap.
#[inline(always)]
pub unsafe fn gemm<V: Simd>(args: &Gemm<'_>, rows: Range<usize>, panels: Range<usize>) {
    let shape = args.weight.shape;
    let width = VECTORS * V::LANES;
    for panel in panels {
        let column = panel * shape.columns(V::LANES);
        let b = args.weight.panel(panel, V::LANES).as_ptr();
        let bias = args.bias.map(|bias| &bias[panel * width..][..width]);
        for (pass, row) in rows.clone().step_by(V::TILE).enumerate() {
            // SAFETY: rows and columns lie inside the operands by the caller's contract, and the panel inside the packed
            // weights by construction. What is only fetched ahead may be anywhere.
            unsafe {
                let product = Tile {
                    k: shape.k,
                    x: args.x.row(row),
                    x_stride: args.x.stride,
                    b,
                    prefetch: b.wrapping_add(width * shape.k + pass * shape.k / 4 * width),
                    out: args.out.row(row).add(column),
                    out_stride: args.out.stride,
                    columns: shape.columns(V::LANES).min(shape.out - column),
                };
                multiply::<V>(V::TILE.min(rows.end - row), &product, bias, args.finish);
            }
        }
    }
}

/// `by_rows!(V, rows, |ROWS| body)` runs `body` with the constant `ROWS`, 1 to `V::TILE`: a tile's sums stay in registers
/// only where their number is known.
macro_rules! by_rows {
    ($vector:ty, $rows:expr, |$count:ident| $body:expr) => {
        by_rows!(@ $vector, $rows, $count, $body, [12 11 10 9 8 7], [6 5 4 3 2])
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
pub(super) use by_rows;

/// Most rows of a register tile of any instruction set.
pub(super) const MOST_ROWS: usize = 12;

/// The sums of a tile, out of the registers: what follows is compiled once, not for each number of rows.
pub(super) type Sums<V> = [[V; VECTORS]; MOST_ROWS];

/// Runs a tile of 1 to `V::TILE` rows.
#[inline(always)]
pub(super) unsafe fn multiply<V: Simd>(rows: usize, tile: &Tile, bias: Option<&[f32]>, finish: Finish) {
    let mut sums: Sums<V> = [[V::splat(0.0); VECTORS]; MOST_ROWS];
    // SAFETY: the caller vouches for the tile.
    unsafe {
        by_rows!(V, rows, |ROWS| {
            let mut registers = [[V::splat(0.0); VECTORS]; ROWS];
            V::tile_f32::<ROWS>(&mut registers, tile);
            sums[..ROWS].copy_from_slice(&registers);
        });
        store(&mut sums[..rows], tile, bias, finish);
    }
}

/// Runs a tile of 1 to `V::TILE` rows and writes its sums as they are, or times a factor for each row, straight from the
/// registers: short products, as attention has them, would spend a third of their time on the way of [`multiply`].
#[inline(always)]
pub(super) unsafe fn multiply_plain<V: Simd>(rows: usize, tile: &Tile, factors: Option<*const f32>) {
    // SAFETY: the caller vouches for the tile, and for as many factors as rows.
    unsafe {
        by_rows!(V, rows, |ROWS| {
            let mut sums = [[V::splat(0.0); VECTORS]; ROWS];
            V::tile_f32::<ROWS>(&mut sums, tile);
            if let Some(factors) = factors {
                for (r, sums) in sums.iter_mut().enumerate() {
                    let factor = V::splat(*factors.add(r));
                    *sums = [sums[0].mul(factor), sums[1].mul(factor)];
                }
            }
            put(&sums, tile);
        });
    }
}

/// Writes the sums of a tile.
///
/// # Safety
/// The tile must cover as many rows of `columns` floats.
#[inline(always)]
pub(super) unsafe fn put<V: Simd>(sums: &[[V; VECTORS]], tile: &Tile) {
    // SAFETY: the caller vouches for the rows.
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

/// Adds the bias to the sums of a tile, finishes them and writes them out.
///
/// # Safety
/// The tile must cover as many rows of `columns` floats, the bias one panel's width.
#[inline(always)]
pub(super) unsafe fn store<V: Simd>(sums: &mut [[V; VECTORS]], tile: &Tile, bias: Option<&[f32]>, finish: Finish) {
    let rows = sums.len();
    // SAFETY: the caller vouches for rows and bias.
    unsafe {
        if let Some(bias) = bias {
            let bias = [V::load(bias.as_ptr()), V::load(bias[V::LANES..].as_ptr())];
            for row in sums.iter_mut() {
                *row = [row[0].add(bias[0]), row[1].add(bias[1])];
            }
        }
        let mut gates = [V::splat(0.0); MOST_ROWS];
        let activated = match finish {
            Finish::Keep => None,
            Finish::Activate(activation) => Some((activation, sums.as_flattened_mut())),
            Finish::Gate(activation) => {
                for (gate, [of_row, _]) in gates.iter_mut().zip(sums.iter()) {
                    *gate = *of_row;
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
            put(sums, tile);
        }
    }
}
