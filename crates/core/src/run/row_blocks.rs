//! Sections of rowwise steps, executed one block of rows at a time.
//!
//! Between two attention steps every step computes a row of its result from the same row of its inputs. A thread can
//! therefore take a block of rows through all of these steps: the rows stay in the second-level cache, and threads
//! synchronise once for each section instead of once for each step. Only batches with many rows are executed like this.
//! With few rows threads share the columns of each product instead.
//!
//! A buffer that nothing outside the section reads is local: each worker has rows of its own for it, which every block
//! overwrites, so they never leave the cache.

use super::blocks::Blocks;
use super::linear::{self, Product, Scratch};
use super::rowwise::Rowwise;
use super::{Operands, Run};
use crate::error::Result;
use crate::kernels::Matrix;
use crate::kernels::gemm::Finish;
use crate::lower::{Lowered, Op};
use crate::model::Model;
use crate::packed::weight::PackedWeight;
use crate::pool::Pool;
use crate::program::{Axis, Operand};
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};

/// Fewest rows for each thread. Smaller batches are not faster in blocks (docs/performance.md).
const MIN_ROWS_PER_THREAD: usize = 384;

impl Run<'_> {
    /// Returns the steps from `next_step` on that form a section; `None` if the next step is better executed alone.
    pub(super) fn section(&self) -> Option<Range<usize>> {
        let rows = self.batch.rows(Axis::Tokens);
        if rows < MIN_ROWS_PER_THREAD * self.model.threads {
            return None;
        }
        let is_rowwise =
            |step: &&Lowered| step.axis == Axis::Tokens && !matches!(step.op, Op::Attention(..) | Op::Pool(_));
        let steps = self.model.steps[self.next_step..].iter().take_while(is_rowwise).count();
        (steps > 0).then(|| self.next_step..self.next_step + steps)
    }

    /// Executes a section block by block until all blocks are complete or `interrupted` returns true.
    ///
    /// Returns whether all blocks are complete. Another call continues with the remaining blocks.
    ///
    /// # Errors
    /// [`crate::Error::OutOfMemory`].
    pub(super) fn run_section(
        &mut self,
        pool: &Pool,
        steps: Range<usize>,
        interrupted: &(dyn Fn() -> bool + Sync),
    ) -> Result<bool> {
        let model = self.model;
        let rows = self.batch.rows(Axis::Tokens);
        let blocks = Blocks::of_section(model.kernels, rows, model.threads);
        let (count, height) = (blocks.count, blocks.height());
        if self.completed_blocks.is_empty() {
            self.completed_blocks.resize_with(count, AtomicBool::default);
        }
        let local = Local::of(model, steps.clone());
        let steps = &model.steps[steps];
        let operands: Vec<Operands> = steps.iter().map(|step| self.operands(step)).collect();
        let scratch = self.scratch(pool, steps, height)?;
        let storage = self.model.buffers.len() + 4;
        self.buffers[storage].reserve(height * local.width * pool.threads())?;
        let local_rows = Matrix {
            data: self.buffers[storage].as_mut_ptr(),
            stride: height * local.width,
        };
        let this = &*self;
        let section: Vec<SectionStep<'_>> = steps.iter().map(|step| this.section_step(step)).collect();
        pool.run(model.threads, count, &|block, worker| {
            if this.completed_blocks[block].load(Ordering::Relaxed) || interrupted() {
                return;
            }
            let rows = blocks.rows(block);
            for ((step, run), operands) in steps.iter().zip(&section).zip(&operands) {
                // SAFETY: there are rows for each worker.
                let local_rows = unsafe { local_rows.row(worker) };
                let operands = local.operands(step, operands, local_rows, (rows.start, height));
                match run {
                    SectionStep::Rowwise(run) => run(&operands, rows.clone()),
                    SectionStep::Product(weight, bias, finish) => {
                        let product = Product {
                            x: operands.inputs[0],
                            out: operands.out,
                            bias: *bias,
                            finish: *finish,
                        };
                        linear::multiply_rows(model.kernels, product, weight, rows.clone(), scratch.of(worker));
                    }
                }
            }
            this.completed_blocks[block].store(true, Ordering::Relaxed);
        });
        drop(section);
        let complete = self.completed_blocks.iter().all(|block| block.load(Ordering::Relaxed));
        if complete {
            self.completed_blocks.clear();
        }
        Ok(complete)
    }

    fn section_step<'a>(&'a self, step: &'a Lowered) -> SectionStep<'a> {
        match &step.op {
            Op::Linear { weight, bias, finish } => SectionStep::Product(weight, bias.as_deref(), *finish),
            _ => SectionStep::Rowwise(self.rowwise(step)),
        }
    }

    /// Returns scratch memory for a block of converted rows, one part for each worker.
    fn scratch(&mut self, pool: &Pool, steps: &[Lowered], rows: usize) -> Result<Scratch> {
        let converted_row = |step: &Lowered| match &step.op {
            Op::Linear { weight, .. } => weight.converted_row(self.model.kernels),
            _ => (0, 0),
        };
        let widest = |a: (usize, usize), b: (usize, usize)| (a.0.max(b.0), a.1.max(b.1));
        let (values, scales) = steps.iter().map(converted_row).fold((0, 0), widest);
        // Whole cache lines, so that no two workers write to the same one.
        let (values, scales) = (rows * values, (rows * scales).next_multiple_of(16));
        let storage = self.model.buffers.len() + 2;
        self.buffers[storage].reserve(values * pool.threads())?;
        self.buffers[storage + 1].reserve(scales * pool.threads())?;
        Ok(Scratch::new(
            (self.buffers[storage].as_mut_ptr(), values),
            (self.buffers[storage + 1].as_mut_ptr(), scales),
        ))
    }
}

/// One step of a section.
enum SectionStep<'a> {
    Rowwise(Rowwise<'a>),
    Product(&'a PackedWeight, Option<&'a [f32]>, Finish),
}

/// The local buffers of a section.
struct Local {
    /// For each buffer of the program that is local, the values of a row in local buffers before it.
    before: Vec<Option<usize>>,
    /// Values of a row in all local buffers.
    width: usize,
}

impl Local {
    /// Finds the local buffers of a section: those whose first access inside it, and whose first access after it, if there
    /// is one, overwrite whole rows.
    fn of(model: &Model, section: Range<usize>) -> Self {
        let (mut width, after) = (0, section.end);
        let is_local = |buffer: usize| {
            let inside = first_access(model, section.clone(), buffer);
            let outside = first_access(model, after..model.steps.len(), buffer);
            inside == Some(Access::Overwrite) && outside != Some(Access::Other) && buffer != model.output.buffer
        };
        let before = (0..model.buffers.len())
            .map(|buffer| {
                is_local(buffer).then(|| {
                    width += model.buffers[buffer].width;
                    width - model.buffers[buffer].width
                })
            })
            .collect();
        Self { before, width }
    }

    /// Returns the operands of a step for a block of at most `height` rows that begins at `first`.
    ///
    /// `rows` is the memory of the worker. The address of row 0 may lie before it, so it is computed by wrapping arithmetic.
    fn operands(&self, step: &Lowered, shared: &Operands, rows: *mut f32, (first, height): (usize, usize)) -> Operands {
        let matrix = |operand: &Operand, matrix: Matrix| match self.before[operand.buffer] {
            Some(before) => Matrix {
                data: rows
                    .wrapping_add(before * height + operand.column)
                    .wrapping_sub(first * matrix.stride),
                ..matrix
            },
            None => matrix,
        };
        let inputs = step.inputs.iter().zip(&shared.inputs);
        Operands {
            out: matrix(&step.out, shared.out),
            inputs: inputs.map(|(operand, shared)| matrix(operand, *shared)).collect(),
        }
    }
}

#[derive(PartialEq, Eq)]
enum Access {
    /// Whole rows are written and not read.
    Overwrite,
    Other,
}

/// Returns how the first of some steps that accesses a buffer does so.
fn first_access(model: &Model, steps: Range<usize>, buffer: usize) -> Option<Access> {
    let step = model.steps[steps]
        .iter()
        .find(|step| step.out.buffer == buffer || step.inputs.iter().any(|input| input.buffer == buffer))?;
    let reads = step.inputs.iter().any(|input| input.buffer == buffer);
    let overwrites = !reads && step.out.width == model.buffers[buffer].width;
    Some(if overwrites { Access::Overwrite } else { Access::Other })
}
