//! Matrix product with packed weights: out = x · weightᵀ (+ bias), through an activation or a gate where there is one.
//!
//! Weights are packed once at load into panels: some columns of the output side by side, K major, so that the inner loop
//! reads them in one stream. Each output is one chain of fused multiply-adds over K in ascending order, so its bits don't
//! depend on how many rows there are or on how they are divided among threads.

use super::Matrix;
use crate::aligned::Aligned;
use crate::pool::Pool;
use crate::simd::Simd;
use crate::simd::math::Activation;
use std::ops::Range;
use std::sync::{Mutex, PoisonError};

/// Vectors of a panel row: with 6 rows of a tile they fill 12 of 16 registers.
pub const VECTORS: usize = 2;

/// What a weight matrix computes.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// Outputs.
    pub out: usize,
    /// Inputs.
    pub k: usize,
    /// The weight is two matrices of `out` rows: a vector of the first beside the same columns of the second.
    pub gated: bool,
}

impl Shape {
    /// Rows of the weight.
    pub fn rows(self) -> Option<usize> {
        self.out.checked_mul(if self.gated { 2 } else { 1 })
    }

    /// Outputs of a panel.
    pub fn columns(self, lanes: usize) -> usize {
        if self.gated { lanes } else { VECTORS * lanes }
    }

    /// Panels.
    pub fn panels(self, lanes: usize) -> usize {
        self.out.div_ceil(self.columns(lanes))
    }

    /// The row of the weight that stands in column `place` of a panel; `None` past the last.
    pub fn source(self, lanes: usize, panel: usize, place: usize) -> Option<usize> {
        let (vector, lane) = (place / lanes, place % lanes);
        let first = panel * self.columns(lanes);
        let (output, matrix) = if self.gated {
            (first + lane, vector)
        } else {
            (first + place, 0)
        };
        (output < self.out).then_some(matrix * self.out + output)
    }
}

/// A weight matrix, packed.
pub struct Packed {
    data: Aligned,
    /// What it computes.
    pub shape: Shape,
    lanes: usize,
}

impl Packed {
    /// Packs the rows that `row` reads; columns past the last are 0.
    pub fn new<E: Send>(
        shape: Shape,
        lanes: usize,
        row: impl Fn(usize, &mut [f32]) -> Result<(), E> + Sync,
    ) -> Result<Self, E> {
        let (k, width) = (shape.k, VECTORS * lanes);
        let mut data = Aligned::zeros(shape.panels(lanes) * width * k);
        let failure = Mutex::new(None);
        let whole = Matrix {
            data: data.as_mut_ptr(),
            stride: width * k,
        };
        Pool::global().run(usize::MAX, shape.panels(lanes), &|panel, _| {
            // SAFETY: panels lie one behind the other, and each is written by one task.
            let out = unsafe { std::slice::from_raw_parts_mut(whole.row(panel), width * k) };
            let mut lines = vec![0.0; width * k];
            for (place, line) in lines.chunks_exact_mut(k).enumerate() {
                let read = shape.source(lanes, panel, place).map(|source| row(source, line));
                if let Some(Err(error)) = read {
                    *failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
                    return;
                }
            }
            for (i, values) in out.chunks_exact_mut(width).enumerate() {
                for (place, value) in values.iter_mut().enumerate() {
                    *value = lines[place * k + i];
                }
            }
        });
        match failure.into_inner().unwrap_or_else(PoisonError::into_inner) {
            Some(error) => Err(error),
            None => Ok(Self { data, shape, lanes }),
        }
    }

    /// Number of panels.
    pub fn panels(&self) -> usize {
        self.shape.panels(self.lanes)
    }
}

/// Puts one number a row of the weight into the order of the panels' columns; 0 past the last.
pub fn in_order_of_panels(values: &[f32], shape: Shape, lanes: usize) -> Vec<f32> {
    let places = (0..shape.panels(lanes)).flat_map(|panel| (0..VECTORS * lanes).map(move |place| (panel, place)));
    places
        .map(|(panel, place)| shape.source(lanes, panel, place).map_or(0.0, |row| values[row]))
        .collect()
}

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

/// One product.
pub struct Gemm<'a> {
    /// Input rows of `weight.shape.k` floats.
    pub x: Matrix,
    /// Output rows of `weight.shape.out` floats.
    pub out: Matrix,
    /// The weights, packed for the instruction set that runs.
    pub weight: &'a Packed,
    /// One a column of each panel; see [`in_order_of_panels`].
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
    debug_assert_eq!(args.weight.lanes, V::LANES);
    for panel in panels {
        let column = panel * shape.columns(V::LANES);
        let b = args.weight.data[panel * width * shape.k..].as_ptr();
        let bias = args.bias.map(|bias| bias[panel * width..].as_ptr());
        for (pass, row) in rows.clone().step_by(V::TILE).enumerate() {
            // SAFETY: rows and columns lie inside the operands by the caller's contract, and the panel inside the packed
            // weights by construction. What is only fetched ahead may be anywhere.
            unsafe {
                let product = Product {
                    k: shape.k,
                    x: args.x.row(row),
                    x_stride: args.x.stride,
                    b,
                    ahead: b.wrapping_add(width * shape.k + pass * shape.k / 4 * width),
                    out: args.out.row(row).add(column),
                    out_stride: args.out.stride,
                    columns: shape.columns(V::LANES).min(shape.out - column),
                };
                multiply::<V>(V::TILE.min(rows.end - row), &product, bias, args.finish);
            }
        }
    }
}

/// One register tile: out = x · b, with b's rows of one panel's width.
pub(crate) struct Product {
    pub k: usize,
    pub x: *const f32,
    pub x_stride: usize,
    pub b: *const f32,
    /// What will be read next, fetched meanwhile at a line for every fourth step of K.
    pub ahead: *const f32,
    pub out: *mut f32,
    pub out_stride: usize,
    /// Columns of `out`.
    pub columns: usize,
}

/// Runs a tile of 1 to `V::TILE` rows.
#[inline(always)]
pub(super) unsafe fn multiply<V: Simd>(rows: usize, tile: &Product, bias: Option<*const f32>, finish: Finish) {
    macro_rules! rows {
        ($rows:literal) => {{
            let mut sums = [[V::splat(0.0); VECTORS]; $rows];
            V::chains::<$rows>(&mut sums, tile);
            store(&sums, tile, bias, finish);
        }};
    }
    // SAFETY: the caller vouches for the tile.
    unsafe {
        match rows {
            12 if V::TILE >= 12 => rows!(12),
            11 if V::TILE >= 12 => rows!(11),
            10 if V::TILE >= 12 => rows!(10),
            9 if V::TILE >= 12 => rows!(9),
            8 if V::TILE >= 12 => rows!(8),
            7 if V::TILE >= 12 => rows!(7),
            6 => rows!(6),
            5 => rows!(5),
            4 => rows!(4),
            3 => rows!(3),
            2 => rows!(2),
            _ => rows!(1),
        }
    }
}

/// Adds x · b to the sums of a tile.
///
/// # Safety
/// The tile must cover `ROWS` rows of x and k rows of b.
#[inline(always)]
pub(crate) unsafe fn chains<V: Simd, const ROWS: usize>(sums: &mut [[V; VECTORS]; ROWS], tile: &Product) {
    // SAFETY: the caller vouches for the tile.
    unsafe {
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
    }
}

#[inline(always)]
pub(super) unsafe fn store<V: Simd, const ROWS: usize>(
    sums: &[[V; VECTORS]; ROWS],
    tile: &Product,
    bias: Option<*const f32>,
    finish: Finish,
) {
    let lanes = |v: usize| tile.columns.saturating_sub(v * V::LANES).min(V::LANES);
    // SAFETY: the caller vouches for `ROWS` rows of `columns` floats, and for a bias of one panel's width.
    unsafe {
        for (r, [first, second]) in sums.iter().enumerate() {
            let out = tile.out.add(r * tile.out_stride);
            let (mut first, mut second) = (*first, *second);
            if let Some(bias) = bias {
                first = first.add(V::load(bias));
                second = second.add(V::load(bias.add(V::LANES)));
            }
            match finish {
                Finish::Keep => {}
                Finish::Activate(activation) => (first, second) = (activation.apply(first), activation.apply(second)),
                Finish::Gate(activation) => {
                    activation.apply(first).mul(second).store_first(out, lanes(0));
                    continue;
                }
            }
            first.store_first(out, lanes(0));
            if lanes(1) > 0 {
                second.store_first(out.add(V::LANES), lanes(1));
            }
        }
    }
}
