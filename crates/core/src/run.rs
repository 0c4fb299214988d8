//! The execution of a program on one batch.
//!
//! A run has its own buffers and its own program counter. It can stop between two steps and continue later, while other
//! runs of the same model proceed.

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

/// Most rows of one task in a rowwise step.
const MAX_TASK_ROWS: usize = 64;

/// State of a run after [`Run::advance`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// All steps are complete.
    Done,
    /// The run stopped between two steps because its stop flag was set.
    Stopped,
}

/// A batch and how far a model's program has processed it.
pub struct Run<'m> {
    model: &'m Model,
    batch: Batch,
    /// The buffers of the program, followed by four scratch buffers: packed keys and values, attention scores of each
    /// worker, rows as integers, and the scales of these rows.
    buffers: Vec<Aligned>,
    /// Index of the next step.
    next_step: usize,
    /// Which row blocks have completed the section that begins at `next_step`.
    completed_blocks: Vec<AtomicBool>,
    lane: Lane,
}

impl Model {
    /// Checks a batch and begins a run.
    ///
    /// `ids` has the token ids of all texts one after the other. `cu_seqlens` has the offsets at which texts begin, and
    /// the number of ids at the end: text i is `ids[cu_seqlens[i]..cu_seqlens[i + 1]]`.
    ///
    /// # Errors
    /// [`Error::Batch`] for invalid offsets, ids outside the table, a text that is too short or too long, and a batch
    /// whose buffers do not fit into memory.
    pub fn start(&self, ids: &[u32], cu_seqlens: &[u32]) -> Result<Run<'_>> {
        let batch = Batch::new(ids, cu_seqlens, self)?;
        Ok(Run::new(self, batch, self.take_buffers()))
    }
}

impl<'m> Run<'m> {
    fn new(model: &'m Model, batch: Batch, mut buffers: Vec<Aligned>) -> Self {
        buffers.resize_with(model.buffers.len() + 4, Aligned::default);
        for (storage, buffer) in buffers.iter_mut().zip(&model.buffers) {
            // At least one row: in a batch of texts without tokens the operands still need valid addresses.
            storage.reserve(buffer.width * batch.rows(buffer.axis).max(1));
        }
        Self {
            model,
            batch,
            buffers,
            next_step: 0,
            completed_blocks: Vec::new(),
            lane: Lane::default(),
        }
    }

    /// Sets the priority class of the run; the default is interactive.
    pub fn in_lane(mut self, lane: Lane) -> Self {
        self.lane = lane;
        self
    }

    /// Executes steps until all are complete or `stop` is set.
    ///
    /// Between two steps, or two row blocks of a section, other runs go first when it is their turn, whichever model
    /// they belong to. After [`Progress::Stopped`] another call continues the run.
    pub fn advance(&mut self, pool: &Pool, stop: &AtomicBool) -> Progress {
        let turn = pool.arbiter().enter(self.lane);
        while self.next_step < self.model.steps.len() {
            if stop.load(Ordering::Relaxed) {
                return Progress::Stopped;
            }
            match self.section() {
                Some(steps) => {
                    let interrupted = || stop.load(Ordering::Relaxed) || turn.should_yield();
                    if self.run_section(pool, steps.clone(), &interrupted) {
                        self.next_step = steps.end;
                    }
                }
                None => {
                    self.run_step(pool, &self.model.steps[self.next_step]);
                    self.next_step += 1;
                }
            }
            turn.pause();
        }
        Progress::Done
    }

    /// Executes all steps one by one and returns the duration of each.
    pub fn timed(&mut self, pool: &Pool) -> Vec<Duration> {
        let steps = self.next_step..self.model.steps.len();
        steps
            .map(|number| {
                let start = Instant::now();
                self.run_step(pool, &self.model.steps[number]);
                self.next_step = number + 1;
                start.elapsed()
            })
            .collect()
    }

    /// Returns the vectors one after the other, in the order of the texts.
    ///
    /// # Errors
    /// [`Error::Cancelled`] before [`Progress::Done`], when the buffers may contain values of another batch.
    /// [`Error::NonFinite`] with the first text whose vector contains NaN or infinity.
    pub fn vectors(self) -> Result<Vec<f32>> {
        if self.next_step < self.model.steps.len() {
            return Err(Error::Cancelled);
        }
        let output = self.model.output;
        let stride = self.model.buffers[output.buffer].width;
        let mut vectors = Vec::with_capacity(self.batch.texts.len() * output.width);
        for (row, values) in self.buffers[output.buffer].chunks_exact(stride).enumerate() {
            let vector = &values[output.column..output.column + output.width];
            if !vector.iter().all(|value| value.is_finite()) {
                return Err(Error::NonFinite { row });
            }
            vectors.extend_from_slice(vector);
        }
        self.model.return_buffers(self.buffers);
        Ok(vectors)
    }

    /// Returns the addresses of a step's operands.
    fn operands(&mut self, step: &Lowered) -> Operands {
        Operands {
            out: self.matrix(step.out),
            inputs: step.inputs.iter().map(|input| self.matrix(*input)).collect(),
        }
    }

    fn matrix(&mut self, operand: Operand) -> Matrix {
        let stride = self.model.buffers[operand.buffer].width;
        // The column lies inside the buffer: `lower` checked all operands.
        let data = self.buffers[operand.buffer].as_mut_ptr().wrapping_add(operand.column);
        Matrix { data, stride }
    }

    /// Executes one step on all rows.
    fn run_step(&mut self, pool: &Pool, step: &Lowered) {
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
                // SAFETY: `lower` checked that x and out lie inside their buffers and have `width` columns; the buffers
                // have a row for each token and each text of the batch; each task writes the row of its own text.
                pool.run(threads, texts.len(), &|text, _| unsafe {
                    (kernels.pool)(&args, texts[text])
                });
            }
            _ => {
                let run = self.rowwise(step, &operands);
                by_rows(pool, threads, (rows, width), run);
            }
        }
    }
}

/// Addresses of a step's operands.
struct Operands {
    out: Matrix,
    inputs: Vec<Matrix>,
}

/// A rowwise step of at most this many values runs on the calling thread. To wake a sleeping helper took 37 µs on a
/// virtual machine, longer than the step itself.
const MIN_PARALLEL_VALUES: usize = 4096;

/// Divides rows of `width` values among threads. A few values stay on the calling thread.
fn by_rows(pool: &Pool, threads: usize, (rows, width): (usize, usize), run: impl Fn(Range<usize>) + Sync) {
    let threads = if rows * width <= MIN_PARALLEL_VALUES {
        1
    } else {
        threads
    };
    let chunk = rows.div_ceil(threads * 4).clamp(1, MAX_TASK_ROWS);
    pool.run(threads, rows.div_ceil(chunk), &|task, _| {
        run(task * chunk..((task + 1) * chunk).min(rows))
    });
}
