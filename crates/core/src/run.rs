//! One batch on its way through a program: its own buffers and its own cursor, so that a run can stop at any step and
//! go on later while other runs of the same model proceed.

mod attention;
mod linear;

use crate::aligned::Aligned;
use crate::arbiter::Lane;
use crate::error::{Error, Result};
use crate::kernels::Matrix;
use crate::kernels::elementwise::Elementwise;
use crate::kernels::embed::Embed;
use crate::kernels::norm::Norm;
use crate::kernels::pooling::{Normalise, Pool as Pooling, Text};
use crate::kernels::rope::Rope;
use crate::lower::{Lowered, Op};
use crate::memory;
use crate::model::Model;
use crate::pool::Pool;
use crate::program::{Axis, Operand};
use linear::Product;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Rows that a task of any other operation covers at most.
const ROWS: usize = 64;

/// A checked batch.
pub struct Batch {
    ids: Vec<u32>,
    places: Vec<u32>,
    texts: Vec<Text>,
    longest: usize,
}

impl Batch {
    /// Checks ids against the model's tables and offsets against the ids.
    pub(crate) fn new(ids: &[u32], cu_seqlens: &[u32], model: &Model) -> Result<Self> {
        let wrong = |reason: String| Err(Error::Batch(reason));
        if cu_seqlens.len() < 2 || cu_seqlens[0] != 0 || cu_seqlens[cu_seqlens.len() - 1] as usize != ids.len() {
            return wrong(format!("cu_seqlens must run from 0 to the {} ids", ids.len()));
        }
        if let Some(bad) = ids.iter().find(|id| **id as usize >= model.vocabulary) {
            return wrong(format!(
                "the id {bad} is outside the table of {} rows",
                model.vocabulary
            ));
        }
        let mut batch = Self {
            ids: ids.to_vec(),
            places: Vec::with_capacity(ids.len()),
            texts: Vec::new(),
            longest: 0,
        };
        for (row, ends) in cu_seqlens.windows(2).enumerate() {
            let len = ends[1].saturating_sub(ends[0]) as usize;
            if len < model.least_tokens || ends[0] > ends[1] || model.places.is_some_and(|places| len > places) {
                return wrong(format!(
                    "row {row} has {len} tokens; {} to {} fit",
                    model.least_tokens,
                    model.places.unwrap_or(ids.len())
                ));
            }
            batch.places.extend(0..len as u32);
            batch.texts.push(Text {
                start: ends[0] as usize,
                len,
                row,
            });
            batch.longest = batch.longest.max(len);
        }
        batch.require_memory(model)?;
        Ok(batch)
    }

    /// Refuses what the buffers of this batch cannot be made for: an allocation that fails ends the process.
    fn require_memory(&self, model: &Model) -> Result<()> {
        const SMALL: u64 = 1 << 30;
        let bytes = model.buffers.iter().fold(0u64, |sum, buffer| {
            let floats = (buffer.width as u64).saturating_mul(self.rows(buffer.axis) as u64);
            sum.saturating_add(floats.saturating_mul(4))
        });
        match (bytes > SMALL).then(memory::available).flatten() {
            Some(available) if bytes > available => Err(Error::Batch(format!(
                "its {} tokens need {} MB of buffers and {} MB are free; send fewer at a time",
                self.ids.len(),
                bytes >> 20,
                available >> 20
            ))),
            _ => Ok(()),
        }
    }

    fn rows(&self, axis: Axis) -> usize {
        if axis == Axis::Tokens {
            self.ids.len()
        } else {
            self.texts.len()
        }
    }
}

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
    lane: Lane,
}

impl<'m> Run<'m> {
    pub(crate) fn new(model: &'m Model, batch: Batch, mut arena: Vec<Aligned>) -> Self {
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
            lane: Lane::default(),
        }
    }

    /// Says how urgent the run is.
    pub fn in_lane(mut self, lane: Lane) -> Self {
        self.lane = lane;
        self
    }

    /// Runs steps until all are done or `stop` is set. Between two steps more urgent runs go first, of whatever model.
    pub fn advance(&mut self, pool: &Pool, stop: &AtomicBool) -> Progress {
        let turn = pool.arbiter().enter(self.lane);
        while self.cursor < self.model.steps.len() {
            if stop.load(Ordering::Relaxed) {
                return Progress::Stopped;
            }
            self.step(pool, &self.model.steps[self.cursor]);
            self.cursor += 1;
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
        self.model.give_back(self.arena);
        Ok(vectors)
    }

    fn matrix(&mut self, operand: Operand) -> Matrix {
        let stride = self.model.buffers[operand.buffer].width;
        // The operand's columns lie inside the buffer: checked when the program was lowered.
        let data = self.arena[operand.buffer].as_mut_ptr().wrapping_add(operand.column);
        Matrix { data, stride }
    }

    fn step(&mut self, pool: &Pool, step: &Lowered) {
        let kernels = self.model.kernels;
        let out = self.matrix(step.out);
        let inputs: Vec<Matrix> = step.inputs.iter().map(|input| self.matrix(*input)).collect();
        let width = step.out.width;
        let rows = self.batch.rows(step.axis);
        let threads = self.model.threads;
        let Batch {
            ids,
            places,
            texts,
            longest,
        } = &self.batch;
        // SAFETY, for every kernel call of this function: lowering checked that operands lie inside their buffers, have
        // the widths the kernel reads and overlap only where it may; the arena has the batch's rows; ids and places were
        // checked against the tables; tasks write disjoint rows, or disjoint columns of a product.
        match &step.op {
            Op::Embed {
                table,
                positions,
                types,
                scale,
            } => {
                let positions = positions.as_ref().map(|(values, offset)| (values.as_slice(), *offset));
                let args = Embed {
                    table,
                    ids,
                    places,
                    positions,
                    types: types.as_deref(),
                    scale: *scale,
                    width,
                    out,
                };
                // SAFETY: see above.
                by_rows(pool, threads, rows, |rows| unsafe { (kernels.embed)(&args, rows) });
            }
            Op::Norm {
                kind,
                eps,
                group,
                residual,
                weight,
                bias,
            } => {
                let args = Norm {
                    kind: *kind,
                    eps: *eps,
                    x: inputs[0],
                    out,
                    residual: residual.map(|place| (inputs[1], place)),
                    group: *group,
                    groups: width / group,
                    weight: weight.as_deref(),
                    bias: bias.as_deref(),
                };
                // SAFETY: see above.
                by_rows(pool, threads, rows, |rows| unsafe { (kernels.norm)(&args, rows) });
            }
            Op::Linear { weight, bias, finish } => {
                let product = Product {
                    x: inputs[0],
                    out,
                    rows,
                    bias: bias.as_deref(),
                    finish: *finish,
                };
                self.linear(pool, weight, product);
            }
            Op::Rope(p) => {
                let angles = &self.model.angles(p.theta, p.dim, *longest);
                let args = Rope {
                    x: out,
                    heads: width / p.head_dim,
                    head_dim: p.head_dim,
                    places,
                    angles,
                };
                // SAFETY: see above.
                by_rows(pool, threads, rows, |rows| unsafe { (kernels.rope)(&args, rows) });
            }
            Op::Attention(parameters, bias) => self.attention(pool, parameters, bias.as_deref(), &inputs, out),
            Op::Elementwise(operation) => {
                let b = *inputs.last().unwrap_or(&inputs[0]);
                let args = Elementwise {
                    operation: *operation,
                    a: inputs[0],
                    b,
                    out,
                    width,
                };
                // SAFETY: see above.
                by_rows(pool, threads, rows, |rows| unsafe {
                    (kernels.elementwise)(&args, rows)
                });
            }
            Op::Pool(kind) => {
                let args = Pooling {
                    kind: *kind,
                    x: inputs[0],
                    out,
                    width,
                };
                // SAFETY: see above.
                pool.run(threads, texts.len(), &|text, _| unsafe {
                    (kernels.pool)(&args, texts[text])
                });
            }
            Op::Normalise => {
                let args = Normalise {
                    x: inputs[0],
                    out,
                    width,
                };
                // SAFETY: see above.
                by_rows(pool, threads, rows, |rows| unsafe { (kernels.normalise)(&args, rows) });
            }
        }
    }
}

/// Splits rows among threads.
fn by_rows(pool: &Pool, threads: usize, rows: usize, run: impl Fn(Range<usize>) + Sync) {
    let chunk = rows.div_ceil(threads * 4).clamp(1, ROWS);
    pool.run(threads, rows.div_ceil(chunk), &|task, _| {
        run(task * chunk..((task + 1) * chunk).min(rows))
    });
}
