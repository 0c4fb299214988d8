//! One batch on its way through a program: its own buffers and its own cursor, so that a run can stop at any step and
//! go on later while other runs of the same model proceed.

mod attention;
mod batch;
mod linear;
mod row_blocks;
mod rowwise;

use crate::aligned::Aligned;
use crate::arbiter::Lane;
use crate::error::{Error, Result};
use crate::kernels::Matrix;
use crate::kernels::pooling::Pool as Pooling;
use crate::lower::{Lowered, Op};
use crate::model::Model;
use crate::pool::Pool;
use crate::program::Operand;
pub use batch::Batch;
use linear::Product;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Rows that a task of any other operation covers at most.
const ROWS: usize = 64;

/// Whether a run is through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// All steps are done.
    Done,
    /// It stopped between two steps, because it was told to.
    Stopped,
}

/// A batch part way through a model's program.
pub struct Run<'m> {
    model: &'m Model,
    batch: Batch,
    /// One a program buffer, then packed keys and values, the workers' scores, and rows as integers with their scales.
    arena: Vec<Aligned>,
    cursor: usize,
    /// Which blocks are through the section that the cursor stands at.
    through: Vec<AtomicBool>,
    lane: Lane,
}

impl Model {
    /// Checks a batch and begins a run: ids in one sequence, and the offsets where texts begin and end.
    pub fn start(&self, ids: &[u32], cu_seqlens: &[u32]) -> Result<Run<'_>> {
        let batch = Batch::new(ids, cu_seqlens, self)?;
        Ok(Run::new(self, batch, self.take_buffers()))
    }
}

impl<'m> Run<'m> {
    fn new(model: &'m Model, batch: Batch, mut arena: Vec<Aligned>) -> Self {
        arena.resize_with(model.buffers.len() + 4, Aligned::default);
        for (storage, buffer) in arena.iter_mut().zip(&model.buffers) {
            // A batch of texts without tokens has no row at all, and yet every operand begins somewhere.
            storage.reserve(buffer.width * batch.rows(buffer.axis).max(1));
        }
        Self {
            model,
            batch,
            arena,
            cursor: 0,
            through: Vec::new(),
            lane: Lane::default(),
        }
    }

    /// Says how urgent the run is.
    pub fn in_lane(mut self, lane: Lane) -> Self {
        self.lane = lane;
        self
    }

    /// Runs steps until all are done or `stop` is set. Between two steps, or two blocks of a section, more urgent runs go
    /// first, of whatever model.
    pub fn advance(&mut self, pool: &Pool, stop: &AtomicBool) -> Progress {
        let turn = pool.arbiter().enter(self.lane);
        while self.cursor < self.model.steps.len() {
            if stop.load(Ordering::Relaxed) {
                return Progress::Stopped;
            }
            match self.section() {
                Some(steps) => {
                    let breaks_off = || stop.load(Ordering::Relaxed) || turn.is_wanted();
                    if self.blocks(pool, steps.clone(), &breaks_off) {
                        self.cursor = steps.end;
                    }
                }
                None => {
                    self.step(pool, &self.model.steps[self.cursor]);
                    self.cursor += 1;
                }
            }
            turn.pause();
        }
        Progress::Done
    }

    /// Like [`Run::advance`] to the end, timing each step.
    pub fn timed(&mut self, pool: &Pool) -> Vec<Duration> {
        let steps = self.cursor..self.model.steps.len();
        steps
            .map(|cursor| {
                let start = Instant::now();
                self.step(pool, &self.model.steps[cursor]);
                self.cursor = cursor + 1;
                start.elapsed()
            })
            .collect()
    }

    /// The vectors, row by row, after [`Progress::Done`]; every number is finite. Before that there are none: what
    /// stands in the buffers may be another batch's.
    pub fn vectors(self) -> Result<Vec<f32>> {
        if self.cursor < self.model.steps.len() {
            return Err(Error::Cancelled);
        }
        let output = self.model.output;
        let stride = self.model.buffers[output.buffer].width;
        let mut vectors = Vec::with_capacity(self.batch.texts.len() * output.width);
        for (row, values) in self.arena[output.buffer].chunks_exact(stride).enumerate() {
            let vector = &values[output.column..output.column + output.width];
            if !vector.iter().all(|value| value.is_finite()) {
                return Err(Error::NonFinite { row });
            }
            vectors.extend_from_slice(vector);
        }
        self.model.return_buffers(self.arena);
        Ok(vectors)
    }

    fn operands(&mut self, step: &Lowered) -> Operands {
        Operands {
            out: self.matrix(step.out),
            inputs: step.inputs.iter().map(|input| self.matrix(*input)).collect(),
        }
    }

    fn matrix(&mut self, operand: Operand) -> Matrix {
        let stride = self.model.buffers[operand.buffer].width;
        // The operand's columns lie inside the buffer: checked when the program was lowered.
        let data = self.arena[operand.buffer].as_mut_ptr().wrapping_add(operand.column);
        Matrix { data, stride }
    }

    fn step(&mut self, pool: &Pool, step: &Lowered) {
        let operands = self.operands(step);
        let (kernels, threads) = (self.model.kernels, self.model.threads);
        let (out, width, rows) = (operands.out, step.out.width, self.batch.rows(step.axis));
        match &step.op {
            Op::Linear { weight, bias, finish } => {
                let product = Product {
                    x: operands.inputs[0],
                    out,
                    bias: bias.as_deref(),
                    finish: *finish,
                };
                self.linear(pool, weight, product, rows);
            }
            Op::Attention(parameters, bias) => self.attention(pool, parameters, bias.as_deref(), &operands.inputs, out),
            Op::Pool(kind) => {
                let args = Pooling {
                    kind: *kind,
                    x: operands.inputs[0],
                    out,
                    width,
                };
                let texts = &self.batch.texts;
                // SAFETY: see `Run::local`; each task writes the row of its own text.
                pool.run(threads, texts.len(), &|text, _| unsafe {
                    (kernels.pool)(&args, texts[text])
                });
            }
            _ => {
                let run = self.local(step, &operands);
                by_rows(pool, threads, (rows, width), run);
            }
        }
    }
}

/// Where a step's operands are.
struct Operands {
    out: Matrix,
    inputs: Vec<Matrix>,
}

/// Up to so many numbers, a step of rows runs on the calling thread: to wake a sleeping helper took 37 µs on a virtual
/// machine, and these numbers take a few.
const FEW: usize = 4096;

/// Splits rows of `width` numbers among threads; few numbers stay on the calling thread.
fn by_rows(pool: &Pool, threads: usize, (rows, width): (usize, usize), run: impl Fn(Range<usize>) + Sync) {
    let threads = if rows * width <= FEW { 1 } else { threads };
    let chunk = rows.div_ceil(threads * 4).clamp(1, ROWS);
    pool.run(threads, rows.div_ceil(chunk), &|task, _| {
        run(task * chunk..((task + 1) * chunk).min(rows))
    });
}
