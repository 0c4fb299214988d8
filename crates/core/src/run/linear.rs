//! Matrix products, in each of the precisions.

use super::{Run, by_rows};
use crate::kernels::gemm::{Finish, Gemm};
use crate::kernels::{Kernels, Matrix, int16};
use crate::packed::weight::PackedWeight;
use crate::pool::Pool;
use std::ops::Range;

/// Floats of x that a task of a matrix product covers, so that they stay in the second-level cache beside a panel.
const GEMM_FLOATS: usize = 1 << 16;
/// Rows come in whole register tiles of any instruction set.
const GEMM_STEP: usize = 12;
/// Most rows that such a task covers.
const GEMM_ROWS: usize = 96;

/// What a product reads and writes besides its weights.
#[derive(Clone, Copy)]
pub(super) struct Product<'a> {
    pub x: Matrix,
    pub out: Matrix,
    pub bias: Option<&'a [f32]>,
    pub finish: Finish,
}

/// Room for rows as integers and for their scales, one part a worker.
#[derive(Clone, Copy)]
pub(super) struct Scratch {
    ints: Matrix,
    scales: Matrix,
}

impl Scratch {
    /// From the first part of either, and the floats of each.
    pub fn new(ints: *mut f32, of_ints: usize, scales: *mut f32, of_scales: usize) -> Self {
        let matrix = |data, stride| Matrix { data, stride };
        Self {
            ints: matrix(ints, of_ints),
            scales: matrix(scales, of_scales),
        }
    }

    /// The part of a worker.
    pub fn of(&self, worker: usize) -> Self {
        let part = |matrix: Matrix| Matrix {
            data: matrix.data.wrapping_add(worker * matrix.stride),
            stride: matrix.stride,
        };
        Self {
            ints: part(self.ints),
            scales: part(self.scales),
        }
    }
}

impl Run<'_> {
    /// The product of all rows, its rows and columns divided among threads.
    pub(super) fn linear(&mut self, pool: &Pool, weight: &PackedWeight, product: Product<'_>, rows: usize) {
        let (kernels, threads) = (self.model.kernels, self.model.threads);
        let pairs = weight.pairs();
        let storage = self.model.buffers.len() + 2;
        self.arena[storage].reserve(rows * pairs);
        self.arena[storage + 1].reserve(rows);
        let (ints, scales) = (self.arena[storage].as_mut_ptr(), self.arena[storage + 1].as_mut_ptr());
        let scratch = Scratch::new(ints, 0, scales, 0);
        if pairs > 0 {
            by_rows(pool, threads, (rows, weight.shape().k), |rows| {
                quantise(kernels, product, weight, rows.clone(), rows.start, scratch);
            });
        }
        let k = if pairs > 0 { pairs } else { weight.shape().k };
        by_rows_and_panels(pool, threads, (rows, k, weight.panels()), |rows, panels| {
            multiply(kernels, product, weight, (rows.clone(), rows.start), panels, scratch);
        });
    }
}

/// The product of some rows, by one thread.
pub(super) fn rows_of(
    kernels: &Kernels,
    product: Product<'_>,
    weight: &PackedWeight,
    rows: Range<usize>,
    scratch: Scratch,
) {
    if weight.pairs() > 0 {
        quantise(kernels, product, weight, rows.clone(), 0, scratch);
    }
    multiply(kernels, product, weight, (rows, 0), 0..weight.panels(), scratch);
}

/// Turns rows into integers; the first goes to row `to` of the scratch.
fn quantise(
    kernels: &Kernels,
    product: Product<'_>,
    weight: &PackedWeight,
    rows: Range<usize>,
    to: usize,
    scratch: Scratch,
) {
    let k = weight.shape().k;
    let (ints, scales) = integers(weight, rows.start, to, scratch);
    let args = int16::Quantise {
        x: product.x,
        k,
        out: ints,
        scales,
        largest_norm: match weight {
            PackedWeight::Int8(_) => f32::INFINITY,
            _ => int16::row_norm(k),
        },
    };
    // SAFETY: see `Run::local`; the scratch has room for the rows.
    unsafe { (kernels.quantise)(&args, rows) }
}

/// The scratch as matrices in which row `first` of the batch stands in row `to`.
fn integers(weight: &PackedWeight, first: usize, to: usize, scratch: Scratch) -> (Matrix, Matrix) {
    let shifted = |data: *mut f32, stride: usize| Matrix {
        data: data.wrapping_add(to * stride).wrapping_sub(first * stride),
        stride,
    };
    (
        shifted(scratch.ints.data, weight.pairs()),
        shifted(scratch.scales.data, 1),
    )
}

/// Multiplies rows, which stand in the scratch from the given row on where they are integers.
fn multiply(
    kernels: &Kernels,
    product: Product<'_>,
    weight: &PackedWeight,
    (rows, to): (Range<usize>, usize),
    panels: Range<usize>,
    scratch: Scratch,
) {
    // SAFETY, for every kernel call here: see `Run::local`.
    match weight {
        PackedWeight::Float32(weight) => {
            // SAFETY: see above.
            unsafe { (kernels.gemm)(&floats(product, weight), rows, panels) }
        }
        PackedWeight::Bfloat16(weight) => {
            // SAFETY: see above.
            unsafe { (kernels.gemm_bfloat16)(&floats(product, weight), rows, panels) }
        }
        PackedWeight::Int16(packed) => {
            let args = of_integers(product, packed, integers(weight, rows.start, to, scratch));
            // SAFETY: see above.
            unsafe { (kernels.gemm_int16)(&args, rows, panels) }
        }
        PackedWeight::Int8(packed) => {
            let args = of_integers(product, packed, integers(weight, rows.start, to, scratch));
            // SAFETY: see above.
            unsafe { (kernels.gemm_int8)(&args, rows, panels) }
        }
    }
}

fn floats<'a, W>(product: Product<'a>, weight: &'a W) -> Gemm<'a, W> {
    Gemm {
        x: product.x,
        out: product.out,
        weight,
        bias: product.bias,
        finish: product.finish,
    }
}

fn of_integers<'a, W>(product: Product<'a>, weight: &'a W, (x, scales): (Matrix, Matrix)) -> int16::Gemm<'a, W> {
    int16::Gemm {
        x,
        scales,
        out: product.out,
        weight,
        bias: product.bias,
        finish: product.finish,
    }
}

/// Splits a product of `rows` rows of `k` floats and of `panels` panels into blocks of rows and, as far as that is too
/// coarse, groups of panels.
fn by_rows_and_panels(
    pool: &Pool,
    threads: usize,
    (rows, k, panels): (usize, usize, usize),
    run: impl Fn(Range<usize>, Range<usize>) + Sync,
) {
    let block = (GEMM_FLOATS / k / GEMM_STEP * GEMM_STEP).clamp(GEMM_STEP, GEMM_ROWS);
    let blocks = rows.div_ceil(block);
    let groups = (threads * 8).div_ceil(blocks).min(panels);
    let group = panels.div_ceil(groups);
    let groups = panels.div_ceil(group);
    pool.run(threads, blocks * groups, &|task, _| {
        let (number, first) = (task / groups, task % groups * group);
        run(
            number * block..((number + 1) * block).min(rows),
            first..(first + group).min(panels),
        );
    });
}
