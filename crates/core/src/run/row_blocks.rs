//! Sections of rowwise steps, executed one block of rows at a time.
//!
//! Between two attention steps every step computes a row of its result from the same row of its inputs. A thread can
//! therefore take a block of rows through all of these steps: the rows stay in the second-level cache, and threads
//! synchronise once for each section instead of once for each step. Only batches with many rows are executed like this.
//! With few rows threads share the columns of each product instead.

use super::linear::{self, Product, Scratch};
use super::rowwise::Rowwise;
use super::{Operands, Run};
use crate::error::Result;
use crate::kernels::Kernels;
use crate::lower::{Lowered, Op};
use crate::packed::weight::PackedWeight;
use crate::pool::Pool;
use crate::program::Axis;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};

/// Fewest rows for each thread. With fewer blocks, threads would wait long for the last one.
const MIN_ROWS_PER_THREAD: usize = 384;

/// Returns the rows of a block: a multiple of the rows of a register tile on every instruction set.
///
/// Every block reads all weights again, and its rows should stay in the second-level cache. Processors with AVX-512 have
/// 1 MB of it or more (Zen 4, Ice Lake), others often half as much.
fn block_rows(kernels: &Kernels) -> usize {
    if kernels.lanes >= 16 { 96 } else { 48 }
}

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
        let height = block_rows(model.kernels);
        let count = rows.div_ceil(height);
        if self.completed_blocks.is_empty() {
            self.completed_blocks.resize_with(count, AtomicBool::default);
        }
        let steps = &model.steps[steps];
        let operands: Vec<Operands> = steps.iter().map(|step| self.operands(step)).collect();
        let scratch = self.scratch(pool, steps, height)?;
        let this = &*self;
        let section: Vec<SectionStep<'_>> = steps
            .iter()
            .zip(&operands)
            .map(|(step, operands)| this.section_step(step, operands))
            .collect();
        pool.run(model.threads, count, &|block, worker| {
            if this.completed_blocks[block].load(Ordering::Relaxed) || interrupted() {
                return;
            }
            let rows = block * height..((block + 1) * height).min(rows);
            for step in &section {
                match step {
                    SectionStep::Rowwise(run) => run(rows.clone()),
                    SectionStep::Product(product, weight) => {
                        linear::multiply_rows(model.kernels, *product, weight, rows.clone(), scratch.of(worker));
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

    fn section_step<'a>(&'a self, step: &'a Lowered, operands: &Operands) -> SectionStep<'a> {
        match &step.op {
            Op::Linear { weight, bias, finish } => SectionStep::Product(
                Product {
                    x: operands.inputs[0],
                    out: operands.out,
                    bias: bias.as_deref(),
                    finish: *finish,
                },
                weight,
            ),
            _ => SectionStep::Rowwise(self.rowwise(step, operands)),
        }
    }

    /// Returns scratch memory for a block of rows as integers, one part for each worker.
    fn scratch(&mut self, pool: &Pool, steps: &[Lowered], rows: usize) -> Result<Scratch> {
        let integer_row = |step: &Lowered| match &step.op {
            Op::Linear { weight, .. } => weight.integer_row(self.model.kernels),
            _ => (0, 0),
        };
        let widest = |a: (usize, usize), b: (usize, usize)| (a.0.max(b.0), a.1.max(b.1));
        let (ints, scales) = steps.iter().map(integer_row).fold((0, 0), widest);
        // Whole cache lines, so that no two workers write to the same one.
        let (ints, scales) = (rows * ints, (rows * scales).next_multiple_of(16));
        let storage = self.model.buffers.len() + 2;
        self.buffers[storage].reserve(ints * pool.threads())?;
        self.buffers[storage + 1].reserve(scales * pool.threads())?;
        Ok(Scratch::new(
            (self.buffers[storage].as_mut_ptr(), ints),
            (self.buffers[storage + 1].as_mut_ptr(), scales),
        ))
    }
}

/// One step of a section.
enum SectionStep<'a> {
    Rowwise(Rowwise<'a>),
    Product(Product<'a>, &'a PackedWeight),
}
