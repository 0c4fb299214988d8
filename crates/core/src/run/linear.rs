//! Matrix products, in each of the precisions.

use super::{Run, by_rows};
use crate::kernels::gemm::{Finish, Gemm};
use crate::kernels::{Matrix, int16};
use crate::lower::Matrix as Weights;
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
    pub rows: usize,
    pub bias: Option<&'a [f32]>,
    pub finish: Finish,
}

impl Run<'_> {
    pub(super) fn linear(&mut self, pool: &Pool, weight: &Weights, product: Product<'_>) {
        let (kernels, threads, rows) = (self.model.kernels, self.model.threads, product.rows);
        let split = |k: usize, panels: usize, run: &(dyn Fn(Range<usize>, Range<usize>) + Sync)| {
            by_rows_and_panels(pool, threads, (rows, k, panels), run);
        };
        // SAFETY, for every kernel call here: see `Run::step`.
        match weight {
            Weights::Float32(weight) => {
                let args = floats(product, weight);
                split(weight.shape.k, weight.panels(), &|rows, panels| {
                    // SAFETY: see above.
                    unsafe { (kernels.gemm)(&args, rows, panels) }
                });
            }
            Weights::Bfloat16(weight) => {
                let args = floats(product, weight);
                split(weight.shape.k, weight.panels(), &|rows, panels| {
                    // SAFETY: see above.
                    unsafe { (kernels.gemm_bfloat16)(&args, rows, panels) }
                });
            }
            Weights::Int16(weight) => {
                let k = weight.shape.k;
                let args = self.integers(pool, product, weight, k, int16::row_norm(k));
                split(int16::pairs(k), weight.panels(), &|rows, panels| {
                    // SAFETY: see above.
                    unsafe { (kernels.gemm_int16)(&args, rows, panels) }
                });
            }
            Weights::Int8(weight) => {
                let k = weight.shape.k;
                let args = self.integers(pool, product, weight, k, f32::INFINITY);
                split(int16::pairs(k), weight.panels(), &|rows, panels| {
                    // SAFETY: see above.
                    unsafe { (kernels.gemm_int8)(&args, rows, panels) }
                });
            }
        }
    }

    /// Turns the rows of a product into integers, in storage of the run's own.
    fn integers<'a, W>(
        &mut self,
        pool: &Pool,
        product: Product<'a>,
        weight: &'a W,
        k: usize,
        largest_norm: f32,
    ) -> int16::Gemm<'a, W> {
        let kernels = self.model.kernels;
        let pairs = int16::pairs(k);
        let storage = self.model.buffers.len() + 2;
        self.arena[storage].reserve(product.rows * pairs);
        self.arena[storage + 1].reserve(product.rows);
        let mut matrix = |number: usize, stride| Matrix {
            data: self.arena[number].as_mut_ptr(),
            stride,
        };
        let (x, scales) = (matrix(storage, pairs), matrix(storage + 1, 1));
        let quantise = int16::Quantise {
            x: product.x,
            k,
            out: x,
            scales,
            largest_norm,
        };
        by_rows(pool, self.model.threads, product.rows, |rows| {
            // SAFETY: lowering checked the operands; the storage has the batch's rows.
            unsafe { (kernels.quantise)(&quantise, rows) }
        });
        int16::Gemm {
            x,
            scales,
            out: product.out,
            weight,
            bias: product.bias,
            finish: product.finish,
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
