//! One batch on its way through a program: its own buffers and its own cursor, so that a run can stop at any step and
//! go on later while other runs of the same model proceed.

use crate::aligned::Aligned;
use crate::arbiter::Lane;
use crate::error::{Error, Result};
use crate::kernels::attention::{self, Attention, Bias, Span, Tile};
use crate::kernels::elementwise::Elementwise;
use crate::kernels::embed::Embed;
use crate::kernels::gemm::{Finish, Gemm};
use crate::kernels::norm::Norm;
use crate::kernels::pooling::{Normalise, Pool as Pooling, Text};
use crate::kernels::rope::Rope;
use crate::kernels::{Matrix, int16};
use crate::lower::{Lowered, Matrix as Weights, Op};
use crate::memory;
use crate::model::Model;
use crate::pool::Pool;
use crate::program::{AttentionParameters, Axis, Operand};
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Floats of x that a task of a matrix product covers, so that they stay in the second-level cache beside a panel.
const GEMM_FLOATS: usize = 1 << 16;
/// Rows come in whole register tiles of any instruction set.
const GEMM_STEP: usize = 12;
/// Most rows that such a task covers.
const GEMM_ROWS: usize = 96;
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
                let bias = bias.as_deref();
                match weight {
                    Weights::Float32(weight) => {
                        let args = Gemm {
                            x: inputs[0],
                            out,
                            weight,
                            bias,
                            finish: *finish,
                        };
                        let size = (rows, weight.shape.k, weight.panels());
                        by_rows_and_panels(pool, threads, size, |rows, panels| {
                            // SAFETY: see above.
                            unsafe { (kernels.gemm)(&args, rows, panels) }
                        });
                    }
                    Weights::Int16(weight) => self.int16(pool, weight, bias, *finish, inputs[0], out),
                }
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

    fn int16(
        &mut self,
        pool: &Pool,
        weight: &int16::Packed,
        bias: Option<&[f32]>,
        finish: Finish,
        x: Matrix,
        out: Matrix,
    ) {
        let (kernels, threads, rows) = (self.model.kernels, self.model.threads, self.batch.ids.len());
        let (k, pairs) = (weight.shape.k, int16::pairs(weight.shape.k));
        let storage = self.model.buffers.len() + 2;
        self.arena[storage].reserve(rows * pairs);
        self.arena[storage + 1].reserve(rows);
        let mut matrix = |number: usize, stride| Matrix {
            data: self.arena[number].as_mut_ptr(),
            stride,
        };
        let (ints, scales) = (matrix(storage, pairs), matrix(storage + 1, 1));
        let quantise = int16::Quantise {
            x,
            k,
            out: ints,
            scales,
        };
        // SAFETY: lowering checked the operands; the arena has the batch's rows.
        by_rows(pool, threads, rows, |rows| unsafe {
            (kernels.quantise)(&quantise, rows)
        });
        let args = int16::Gemm {
            x: ints,
            scales,
            out,
            weight,
            bias,
            finish,
        };
        by_rows_and_panels(pool, threads, (rows, pairs, weight.panels()), |rows, panels| {
            // SAFETY: as above.
            unsafe { (kernels.gemm_int16)(&args, rows, panels) }
        });
    }

    fn attention(
        &mut self,
        pool: &Pool,
        p: &AttentionParameters,
        buckets: Option<&[f32]>,
        inputs: &[Matrix],
        out: Matrix,
    ) {
        let kernels = self.model.kernels;
        let mut packed = 0;
        let mut tiles = Vec::new();
        let mut spans = Vec::with_capacity(self.batch.texts.len());
        for text in &self.batch.texts {
            let span = Span {
                start: text.start,
                len: text.len,
                packed,
            };
            packed += attention::packed_len(text.len, p.kv_heads, p.head_dim, kernels.panel);
            tiles.extend((0..text.len).step_by(attention::TILE).map(|first| Tile { span, first }));
            spans.push(span);
        }
        let per_worker = attention::scratch_len(self.batch.longest, kernels.panel);
        let storage = self.model.buffers.len();
        self.arena[storage].reserve(packed);
        self.arena[storage + 1].reserve(per_worker * pool.threads());
        let scores = Matrix {
            data: self.arena[storage + 1].as_mut_ptr(),
            stride: per_worker,
        };
        let spread = buckets.map(|buckets| attention::spread_bias(buckets, p.heads, self.batch.longest));
        let args = Attention {
            q: inputs[0],
            k: inputs[1],
            v: inputs[2],
            out,
            heads: p.heads,
            kv_heads: p.kv_heads,
            head_dim: p.head_dim,
            scale: p.scale,
            causal: p.causal,
            radius: p.radius,
            bias: spread.as_deref().map(|values| Bias {
                values,
                span: self.batch.longest,
            }),
            packed: Matrix {
                data: self.arena[storage].as_mut_ptr(),
                stride: 0,
            },
        };
        pool.run(self.model.threads, spans.len() * p.kv_heads, &|task, _| {
            // SAFETY: lowering checked the operands; each task packs one text and head, and `packed` has room for all.
            unsafe { (kernels.attention_pack)(&args, spans[task / p.kv_heads], task % p.kv_heads) }
        });
        pool.run(self.model.threads, tiles.len() * p.heads, &|task, worker| {
            // SAFETY: as above; each task writes its own queries and head, each worker has scores of its own.
            unsafe {
                let scores = std::slice::from_raw_parts_mut(scores.row(worker), per_worker);
                (kernels.attention_tile)(&args, tiles[task / p.heads], task % p.heads, scores);
            }
        });
    }
}

/// Splits rows among threads.
fn by_rows(pool: &Pool, threads: usize, rows: usize, run: impl Fn(Range<usize>) + Sync) {
    let chunk = rows.div_ceil(threads * 4).clamp(1, ROWS);
    pool.run(threads, rows.div_ceil(chunk), &|task, _| {
        run(task * chunk..((task + 1) * chunk).min(rows))
    });
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
