//! Matrix product steps, in each of the precisions.

use super::blocks::Blocks;
use super::{Run, by_rows};
use crate::error::Result;
use crate::kernels::gemm::{Finish, Gemm};
use crate::kernels::int8::quantise::QuantiseInt8;
use crate::kernels::{Kernels, Matrix, bfloat16, int16};
use crate::packed::weight::PackedWeight;
use crate::pool::Pool;
use crate::simd::tile::Bfloat16Rows;
use std::ops::Range;

/// Values of x in one task, so that they stay in the second-level cache beside a panel.
const TASK_VALUES: usize = 1 << 16;
/// Most rows of one task.
const MAX_TASK_ROWS: usize = 96;

/// Operands of a product besides its weight.
#[derive(Clone, Copy)]
pub(super) struct Product<'a> {
    pub x: Matrix,
    pub out: Matrix,
    pub bias: Option<&'a [f32]>,
    pub finish: Finish,
}

/// Scratch memory for converted rows (integers or bfloat16 numbers) and for their scales, in one part for each worker.
#[derive(Clone, Copy)]
pub(super) struct Scratch {
    rows: Matrix,
    scales: Matrix,
}

impl Scratch {
    /// Each argument is the address of the first worker's part, and the length of one part.
    pub fn new(rows: (*mut f32, usize), scales: (*mut f32, usize)) -> Self {
        let matrix = |(data, stride)| Matrix { data, stride };
        Self {
            rows: matrix(rows),
            scales: matrix(scales),
        }
    }

    /// Returns the part of a worker.
    pub fn of(&self, worker: usize) -> Self {
        let part = |matrix: Matrix| Matrix {
            data: matrix.data.wrapping_add(worker * matrix.stride),
            stride: matrix.stride,
        };
        Self {
            rows: part(self.rows),
            scales: part(self.scales),
        }
    }
}

impl Run<'_> {
    /// Computes the product of all rows; threads divide rows and columns.
    ///
    /// # Errors
    /// [`crate::Error::OutOfMemory`].
    pub(super) fn linear(
        &mut self,
        pool: &Pool,
        weight: &PackedWeight,
        product: Product<'_>,
        rows: usize,
    ) -> Result<()> {
        let (kernels, threads) = (self.model.kernels, self.model.threads);
        let (row, scales) = weight.converted_row(kernels);
        let storage = self.model.buffers.len() + 2;
        self.buffers[storage].reserve(rows * row)?;
        self.buffers[storage + 1].reserve(rows * scales)?;
        let scratch = Scratch::new(
            (self.buffers[storage].as_mut_ptr(), 0),
            (self.buffers[storage + 1].as_mut_ptr(), 0),
        );
        if row > 0 {
            by_rows(pool, threads, (rows, weight.shape().k), |rows| {
                convert(kernels, product, weight, rows.clone(), rows.start, scratch);
            });
        }
        let k = if row > 0 { row } else { weight.shape().k };
        by_rows_and_panels(pool, (kernels, threads), (rows, k, weight.panels()), |rows, panels| {
            multiply(kernels, product, weight, (rows.clone(), rows.start), panels, scratch);
        });
        Ok(())
    }
}

/// Computes the product of a range of rows on the calling thread.
pub(super) fn multiply_rows(
    kernels: &Kernels,
    product: Product<'_>,
    weight: &PackedWeight,
    rows: Range<usize>,
    scratch: Scratch,
) {
    if weight.converted_row(kernels).0 > 0 {
        convert(kernels, product, weight, rows.clone(), 0, scratch);
    }
    multiply(kernels, product, weight, (rows, 0), 0..weight.panels(), scratch);
}

/// Converts rows to the numbers of the product. The first of them goes to row `to` of the scratch memory.
fn convert(
    kernels: &Kernels,
    product: Product<'_>,
    weight: &PackedWeight,
    rows: Range<usize>,
    to: usize,
    scratch: Scratch,
) {
    let (x, k) = (product.x, weight.shape().k);
    let (out, scales) = converted_rows(kernels, weight, rows.start, to, scratch);
    if let PackedWeight::Bfloat16(_) = weight {
        let args = bfloat16::Round { x, k, out };
        // SAFETY: `lower` checked that x lies inside its buffer and has k columns, and the buffer has the batch's rows.
        // The scratch memory was reserved for these rows, and each thread converts rows of its own.
        unsafe { (kernels.round_bfloat16)(&args, rows) }
    } else if let PackedWeight::Int8(packed) = weight {
        let args = QuantiseInt8 {
            x,
            k,
            factors: packed.factors(),
            out,
            scales,
        };
        // SAFETY: `lower` checked that x lies inside its buffer and has k columns, and the buffer has the batch's rows.
        // The scratch memory was reserved for these rows, and each thread converts rows of its own.
        unsafe { (kernels.quantise_int8)(&args, rows) }
    } else {
        let args = int16::Quantise {
            x,
            k,
            out,
            rows: kernels.int16_rows,
            scales,
            max_norm: int16::max_row_norm(k),
        };
        // SAFETY: `lower` checked that x lies inside its buffer and has k columns, and the buffer has the batch's rows.
        // The scratch memory was reserved for these rows, and each thread converts rows of its own.
        unsafe { (kernels.quantise)(&args, rows) }
    }
}

/// Returns the scratch memory as matrices in which row `first` of the batch is row `to` of the memory.
///
/// The address of row 0 may lie before the allocation, so it is computed by wrapping arithmetic.
fn converted_rows(
    kernels: &Kernels,
    weight: &PackedWeight,
    first: usize,
    to: usize,
    scratch: Scratch,
) -> (Matrix, Matrix) {
    let (row, scales) = weight.converted_row(kernels);
    let shifted = |data: *mut f32, stride: usize| Matrix {
        data: data.wrapping_add(to * stride).wrapping_sub(first * stride),
        stride,
    };
    (shifted(scratch.rows.data, row), shifted(scratch.scales.data, scales))
}

/// Multiplies `rows` with some panels. If rows are converted, the first one is row `to` of the scratch memory.
fn multiply(
    kernels: &Kernels,
    product: Product<'_>,
    weight: &PackedWeight,
    (rows, to): (Range<usize>, usize),
    panels: Range<usize>,
    scratch: Scratch,
) {
    // Every call below relies on the same facts: `lower` checked that x and out lie inside their buffers, share no
    // column and have the widths of the weight, the buffers have the batch's rows, and each thread writes rows or
    // panels of its own.
    match weight {
        PackedWeight::Float32(weight) => {
            // SAFETY: x and out are inside their buffers and disjoint; no other thread writes these rows and panels.
            unsafe { (kernels.gemm)(&float_gemm(product, weight), rows, panels) }
        }
        PackedWeight::Bfloat16(packed) => {
            let product = match kernels.bfloat16_rows {
                Bfloat16Rows::Floats => product,
                Bfloat16Rows::Pairs => Product {
                    x: converted_rows(kernels, weight, rows.start, to, scratch).0,
                    ..product
                },
            };
            // SAFETY: x and out are inside their buffers and disjoint, or the scratch memory has these rows as bfloat16
            // numbers; no other thread writes these rows and panels.
            unsafe { (kernels.gemm_bfloat16)(&float_gemm(product, packed), rows, panels) }
        }
        PackedWeight::Int16(packed) => {
            let args = integer_gemm(
                product,
                packed,
                converted_rows(kernels, weight, rows.start, to, scratch),
            );
            // SAFETY: the scratch memory has these rows as integers with their scales, and out is inside its buffer; no
            // other thread writes these rows and panels.
            unsafe { (kernels.gemm_int16)(&args, rows, panels) }
        }
        PackedWeight::Int8(packed) => {
            let args = integer_gemm(
                product,
                packed,
                converted_rows(kernels, weight, rows.start, to, scratch),
            );
            // SAFETY: the scratch memory has these rows as integers with their scales, and out is inside its buffer; no
            // other thread writes these rows and panels.
            unsafe { (kernels.gemm_int8)(&args, rows, panels) }
        }
    }
}

fn float_gemm<'a, W>(product: Product<'a>, weight: &'a W) -> Gemm<'a, W> {
    Gemm {
        x: product.x,
        out: product.out,
        weight,
        bias: product.bias,
        finish: product.finish,
    }
}

fn integer_gemm<'a, W>(product: Product<'a>, weight: &'a W, (x, scales): (Matrix, Matrix)) -> int16::Gemm<'a, W> {
    int16::Gemm {
        x,
        scales,
        out: product.out,
        weight,
        bias: product.bias,
        finish: product.finish,
    }
}

/// Divides a product of `rows` rows of `k` values with `panels` panels into tasks: blocks of rows, and groups of panels. The
/// groups of a thread are adjacent, so that it prefetches the next panel while it multiplies with one.
fn by_rows_and_panels(
    pool: &Pool,
    (kernels, threads): (&Kernels, usize),
    (rows, k, panels): (usize, usize, usize),
    run: impl Fn(Range<usize>, Range<usize>) + Sync,
) {
    let blocks = Blocks::new(kernels, rows, (TASK_VALUES / k).min(MAX_TASK_ROWS), 1);
    // Matrix instructions take long to begin and to end, once in each task.
    let group = match kernels.matrix_rows {
        Some(_) => (panels / (8 * threads)).max(1),
        None => 1,
    };
    let groups = panels.div_ceil(group);
    pool.run(threads, blocks.count * groups, &|task, _| {
        let first = task % groups * group;
        run(blocks.rows(task / groups), first..(first + group).min(panels));
    });
}
