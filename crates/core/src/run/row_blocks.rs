//! Sections: the steps from one attention to the next look at one row at a time, so a block of rows can go through all of
//! them at once. Its rows then stay in the second-level cache, and threads meet once a section instead of once a step.
//! Only batches of many rows are run like that: with few, threads share the columns of a product instead.

use super::linear::{self, Product, Scratch};
use super::rowwise::Local;
use super::{Operands, Run};
use crate::lower::{Lowered, Op};
use crate::packed::weight::PackedWeight;
use crate::pool::Pool;
use crate::program::Axis;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};

/// Rows of a block: whole register tiles of any instruction set.
const BLOCK: usize = 48;
/// Blocks that each thread must have at least, or some would wait long for the last one.
const BLOCKS: usize = 8;

impl Run<'_> {
    /// The steps from the cursor on that a block can go through at once; `None` where they are better run one by one.
    pub(super) fn section(&self) -> Option<Range<usize>> {
        let rows = self.batch.rows(Axis::Tokens);
        if rows < BLOCK * BLOCKS * self.model.threads {
            return None;
        }
        let local = |step: &&Lowered| step.axis == Axis::Tokens && !matches!(step.op, Op::Attention(..) | Op::Pool(_));
        let steps = self.model.steps[self.cursor..].iter().take_while(local).count();
        (steps > 0).then(|| self.cursor..self.cursor + steps)
    }

    /// Takes blocks through the steps of a section until all are through, or until `breaks_off`; returns whether they
    /// are. Called again, it goes on with the others.
    pub(super) fn blocks(&mut self, pool: &Pool, steps: Range<usize>, breaks_off: &(dyn Fn() -> bool + Sync)) -> bool {
        let model = self.model;
        let rows = self.batch.rows(Axis::Tokens);
        let count = rows.div_ceil(BLOCK);
        if self.through.is_empty() {
            self.through.resize_with(count, AtomicBool::default);
        }
        let steps = &model.steps[steps];
        let operands: Vec<Operands> = steps.iter().map(|step| self.operands(step)).collect();
        let scratch = self.scratch(pool, steps, BLOCK);
        let this = &*self;
        let local: Vec<Part<'_>> = steps
            .iter()
            .zip(&operands)
            .map(|(step, at)| this.part(step, at))
            .collect();
        pool.run(model.threads, count, &|block, worker| {
            if this.through[block].load(Ordering::Relaxed) || breaks_off() {
                return;
            }
            let rows = block * BLOCK..((block + 1) * BLOCK).min(rows);
            for part in &local {
                match part {
                    Part::Local(run) => run(rows.clone()),
                    Part::Product(product, weight) => {
                        linear::rows_of(model.kernels, *product, weight, rows.clone(), scratch.of(worker));
                    }
                }
            }
            this.through[block].store(true, Ordering::Relaxed);
        });
        drop(local);
        let done = self.through.iter().all(|through| through.load(Ordering::Relaxed));
        if done {
            self.through.clear();
        }
        done
    }

    fn part<'a>(&'a self, step: &'a Lowered, operands: &Operands) -> Part<'a> {
        match &step.op {
            Op::Linear { weight, bias, finish } => Part::Product(
                Product {
                    x: operands.inputs[0],
                    out: operands.out,
                    bias: bias.as_deref(),
                    finish: *finish,
                },
                weight,
            ),
            _ => Part::Local(self.local(step, operands)),
        }
    }

    /// Room for a block of rows as integers, for each worker.
    fn scratch(&mut self, pool: &Pool, steps: &[Lowered], rows: usize) -> Scratch {
        let pairs = |step: &Lowered| match &step.op {
            Op::Linear { weight, .. } => weight.pairs(),
            _ => 0,
        };
        let pairs = steps.iter().map(pairs).max().unwrap_or(0);
        let storage = self.model.buffers.len() + 2;
        self.arena[storage].reserve(rows * pairs * pool.threads());
        self.arena[storage + 1].reserve(rows.next_multiple_of(16) * pool.threads());
        Scratch::new(
            self.arena[storage].as_mut_ptr(),
            rows * pairs,
            self.arena[storage + 1].as_mut_ptr(),
            rows.next_multiple_of(16),
        )
    }
}

/// One step of a section.
enum Part<'a> {
    Local(Local<'a>),
    Product(Product<'a>, &'a PackedWeight),
}
