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
use crate::lower::{Lowered, Op};
use crate::packed::weight::PackedWeight;
use crate::pool::Pool;
use crate::program::Axis;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};

/// Rows of a block: a multiple of the rows of a register tile on every instruction set.
const BLOCK_ROWS: usize = 48;
/// Fewest blocks for each thread. With fewer, threads would wait long for the last block.
const MIN_BLOCKS_PER_THREAD: usize = 8;

impl Run<'_> {
    /// Returns the steps from `next_step` on that form a section; `None` if the next step is better executed alone.
    pub(super) fn section(&self) -> Option<Range<usize>> {
        let rows = self.batch.rows(Axis::Tokens);
        if rows < BLOCK_ROWS * MIN_BLOCKS_PER_THREAD * self.model.threads {
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
        let count = rows.div_ceil(BLOCK_ROWS);
        if self.completed_blocks.is_empty() {
            self.completed_blocks.resize_with(count, AtomicBool::default);
        }
        let steps = &model.steps[steps];
        let operands: Vec<Operands> = steps.iter().map(|step| self.operands(step)).collect();
        let scratch = self.scratch(pool, steps, BLOCK_ROWS)?;
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
            let rows = block * BLOCK_ROWS..((block + 1) * BLOCK_ROWS).min(rows);
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
        let pairs = |step: &Lowered| match &step.op {
            Op::Linear { weight, .. } => weight.pairs(),
            _ => 0,
        };
        let pairs = steps.iter().map(pairs).max().unwrap_or(0);
        let storage = self.model.buffers.len() + 2;
        self.buffers[storage].reserve(rows * pairs * pool.threads())?;
        self.buffers[storage + 1].reserve(rows.next_multiple_of(16) * pool.threads())?;
        Ok(Scratch::new(
            self.buffers[storage].as_mut_ptr(),
            rows * pairs,
            self.buffers[storage + 1].as_mut_ptr(),
            rows.next_multiple_of(16),
        ))
    }
}

/// One step of a section.
enum SectionStep<'a> {
    Rowwise(Rowwise<'a>),
    Product(Product<'a>, &'a PackedWeight),
}
