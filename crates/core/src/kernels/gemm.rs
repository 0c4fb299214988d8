//! Matrix product with packed weights: out = x · weightᵀ (+ bias), optionally through an activation.
//!
//! Weights are packed once at load into panels: `panel` columns of the output side by side, K major, so that the inner
//! loop reads them in one stream. Each output is one chain of fused multiply-adds over K in ascending order; cutting K
//! into blocks only parks the running sum in the output, so the bits don't depend on how many rows there are or on how
//! they are divided among threads.

use super::Matrix;
use crate::aligned::Aligned;
use crate::simd::Simd;
use crate::simd::math::Activation;
use std::ops::Range;

/// Vectors of a panel row: with 6 rows of a tile they fill 12 of 16 registers.
pub const VECTORS: usize = 2;
/// Rows of a register tile.
const TILE: usize = 6;
/// K is cut so that a block of a panel (16 columns) stays in the first-level cache beside the rows of x.
const K_BLOCK: usize = 256;

/// A weight matrix (out, in), packed.
pub struct Packed {
    data: Aligned,
    /// Outputs.
    pub out: usize,
    /// Inputs.
    pub k: usize,
    panel: usize,
}

impl Packed {
    /// Packs `out` rows of `k` floats, read through `row`, into panels of `panel` columns; the last is filled with 0.
    pub fn new<E>(
        out: usize,
        k: usize,
        panel: usize,
        mut row: impl FnMut(usize, &mut [f32]) -> Result<(), E>,
    ) -> Result<Self, E> {
        let mut data = Aligned::zeros(out.div_ceil(panel) * panel * k);
        let mut line = vec![0.0; k];
        for n in 0..out {
            row(n, &mut line)?;
            let first = n / panel * panel * k + n % panel;
            for (i, value) in line.iter().enumerate() {
                data[first + i * panel] = *value;
            }
        }
        Ok(Self { data, out, k, panel })
    }

    /// Number of panels.
    pub fn panels(&self) -> usize {
        self.out.div_ceil(self.panel)
    }
}

/// One product.
pub struct Gemm<'a> {
    /// Input rows of `weight.k` floats.
    pub x: Matrix,
    /// Output rows of `weight.out` floats.
    pub out: Matrix,
    /// The weights, packed for the instruction set that runs.
    pub weight: &'a Packed,
    /// One a column.
    pub bias: Option<&'a [f32]>,
    /// Applied last.
    pub activation: Option<Activation>,
}

/// Computes the given rows and panels.
///
/// # Safety
/// See [`super::Kernels`]; `x` and `out` must not overlap.
#[inline(always)]
pub unsafe fn gemm<V: Simd>(args: &Gemm<'_>, rows: Range<usize>, panels: Range<usize>) {
    let width = VECTORS * V::LANES;
    let k = args.weight.k;
    debug_assert_eq!(args.weight.panel, width);
    for panel in panels {
        let column = panel * width;
        let columns = width.min(args.weight.out - column);
        for k0 in (0..k).step_by(K_BLOCK) {
            let block = K_BLOCK.min(k - k0);
            let finish = Finish {
                bias: args.bias.map_or(std::ptr::null(), |bias| bias[column..].as_ptr()),
                activation: args.activation,
            };
            let finish = (k0 + block == k).then_some(finish);
            for row in rows.clone().step_by(TILE) {
                // SAFETY: rows and columns lie inside the operands by the caller's contract, and the panel's block
                // inside the packed weights by construction.
                unsafe {
                    let x = args.x.row(row).add(k0);
                    let out = args.out.row(row).add(column);
                    let b = args.weight.data.as_ptr().add(column * k + k0 * width);
                    let tile = Product {
                        k: block,
                        x,
                        x_stride: args.x.stride,
                        b,
                        out,
                        out_stride: args.out.stride,
                    };
                    multiply::<V>(TILE.min(rows.end - row), &tile, columns, k0 == 0, finish);
                }
            }
        }
    }
}

/// What happens to a sum when it is complete.
#[derive(Clone, Copy)]
pub(super) struct Finish {
    bias: *const f32,
    activation: Option<Activation>,
}

/// One register tile: `out` (+)= x · b, with b's rows of one panel's width.
pub(super) struct Product {
    pub k: usize,
    pub x: *const f32,
    pub x_stride: usize,
    pub b: *const f32,
    pub out: *mut f32,
    pub out_stride: usize,
}

/// Runs a tile of 1 to 6 rows.
#[inline(always)]
pub(super) unsafe fn multiply<V: Simd>(
    rows: usize,
    tile: &Product,
    columns: usize,
    start: bool,
    finish: Option<Finish>,
) {
    // SAFETY: the caller vouches for the tile.
    unsafe {
        match rows {
            6 => tile_of::<V, 6>(tile, columns, start, finish),
            5 => tile_of::<V, 5>(tile, columns, start, finish),
            4 => tile_of::<V, 4>(tile, columns, start, finish),
            3 => tile_of::<V, 3>(tile, columns, start, finish),
            2 => tile_of::<V, 2>(tile, columns, start, finish),
            _ => tile_of::<V, 1>(tile, columns, start, finish),
        }
    }
}

#[inline(always)]
unsafe fn tile_of<V: Simd, const ROWS: usize>(tile: &Product, columns: usize, start: bool, finish: Option<Finish>) {
    let whole = columns == VECTORS * V::LANES;
    let lanes = |v: usize| columns.saturating_sub(v * V::LANES).min(V::LANES);
    let mut sums = [[V::splat(0.0); VECTORS]; ROWS];
    // SAFETY: the caller vouches for `ROWS` rows of x and out, `columns` columns of out and k rows of b.
    unsafe {
        if !start {
            for (r, row) in sums.iter_mut().enumerate() {
                let out = tile.out.add(r * tile.out_stride);
                for (v, sum) in row.iter_mut().enumerate() {
                    let p = out.wrapping_add(v * V::LANES);
                    *sum = if whole { V::load(p) } else { V::load_first(p, lanes(v)) };
                }
            }
        }
        let mut x: [*const f32; ROWS] = std::array::from_fn(|r| tile.x.add(r * tile.x_stride));
        let mut b = tile.b;
        for _ in 0..tile.k {
            let b0 = V::load(b);
            let b1 = V::load(b.add(V::LANES));
            b = b.add(VECTORS * V::LANES);
            for r in 0..ROWS {
                let factor = V::splat(*x[r]);
                x[r] = x[r].add(1);
                sums[r][0] = factor.fma(b0, sums[r][0]);
                sums[r][1] = factor.fma(b1, sums[r][1]);
            }
        }
        for (r, row) in sums.iter().enumerate() {
            let out = tile.out.add(r * tile.out_stride);
            for (v, sum) in row.iter().enumerate() {
                let mut sum = *sum;
                if let Some(finish) = finish {
                    if !finish.bias.is_null() {
                        sum = sum.add(V::load_first(finish.bias.wrapping_add(v * V::LANES), lanes(v)));
                    }
                    if let Some(activation) = finish.activation {
                        sum = activation.apply(sum);
                    }
                }
                let p = out.wrapping_add(v * V::LANES);
                if whole {
                    sum.store(p)
                } else {
                    sum.store_first(p, lanes(v))
                }
            }
        }
    }
}
