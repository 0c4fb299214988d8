//! The execution of a program on one batch.
//!
//! A run has its own buffers and its own program counter. It can stop between two steps and continue later, while other
//! runs of the same model proceed.

mod attention;
mod batch;
mod blocks;
mod linear;
mod row_blocks;
mod rowwise;

use crate::aligned::Aligned;
use crate::arbiter::Lane;
use crate::error::{Error, Result};
use crate::kernels::Matrix;
use crate::kernels::pooling::Pool as Pooling;
use crate::lower::{Lowered, Op};
use crate::mapped::Confirmed;
use crate::memory;
use crate::model::Model;
use crate::packed::weight::PackedWeight;
use crate::pool::Pool;
use crate::program::{Buffer, Operand};
pub use batch::Batch;
use linear::Product;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Most rows of one task in a rowwise step.
const MAX_TASK_ROWS: usize = 64;

/// Most executions of a run whose files are touched during each of them.
const MAX_EXECUTIONS: usize = 3;

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
    /// The buffers of the program, followed by five scratch buffers: packed keys and values, attention scores of each
    /// worker, rows as integers, the scales of these rows, and rows of the local buffers of a section.
    buffers: Vec<Aligned>,
    /// Index of the next step.
    next_step: usize,
    /// Which row blocks have completed the section that begins at `next_step`.
    completed_blocks: Vec<AtomicBool>,
    lane: Lane,
    /// How long other runs computed while this one waited for its turn.
    waited: Duration,
    /// Number of touches of the model's files when the run began to read them.
    begin: u64,
    /// Why the run has no vectors.
    failure: Option<Error>,
}

impl Model {
    /// Checks a batch and begins a run.
    ///
    /// `ids` has the token ids of all texts one after the other. `cu_seqlens` has the offsets at which texts begin, and
    /// the number of ids at the end: text i is `ids[cu_seqlens[i]..cu_seqlens[i + 1]]`.
    ///
    /// # Errors
    /// [`Error::Batch`] for invalid offsets, ids outside the table, and a text that is too short or too long;
    /// [`Error::OutOfMemory`] for a batch whose buffers do not fit into memory; [`Error::FileChanged`] if a file of the
    /// model was found changed before.
    pub fn start(&self, ids: &[u32], cu_seqlens: &[u32]) -> Result<Run<'_>> {
        self.watched.require_sound()?;
        let batch = Batch::new(ids, cu_seqlens, self)?;
        Run::new(self, batch, self.take_buffers())
    }
}

impl<'m> Run<'m> {
    fn new(model: &'m Model, batch: Batch, mut buffers: Vec<Aligned>) -> Result<Self> {
        buffers.resize_with(model.buffers.len() + 5, Aligned::default);
        // At least one row: in a batch of texts without tokens the operands still need valid addresses.
        let len = |buffer: &Buffer| buffer.width.saturating_mul(batch.rows(buffer.axis).max(1));
        let missing = buffers.iter().zip(&model.buffers);
        let missing = missing.map(|(storage, buffer)| (len(buffer).saturating_sub(storage.capacity())) as u64);
        memory::require(missing.fold(0, u64::saturating_add).saturating_mul(4))?;
        for (storage, buffer) in buffers.iter_mut().zip(&model.buffers) {
            storage.reserve(len(buffer))?;
        }
        Ok(Self {
            model,
            batch,
            buffers,
            next_step: 0,
            completed_blocks: Vec::new(),
            lane: Lane::default(),
            waited: Duration::ZERO,
            begin: model.watched.begin(),
            failure: None,
        })
    }

    /// Sets the priority class of the run; the default is interactive.
    pub fn in_lane(mut self, lane: Lane) -> Self {
        self.lane = lane;
        self
    }

    /// Executes steps until all are complete or `stop` is set, and checks that the files of the model have not changed.
    ///
    /// Between two steps, or two row blocks of a section, other runs go first when it is their turn, whichever model
    /// they belong to. After [`Progress::Stopped`] another call continues the run. If a file was touched meanwhile, all
    /// steps are executed again.
    pub fn advance(&mut self, pool: &Pool, stop: &AtomicBool) -> Progress {
        for _ in 0..MAX_EXECUTIONS {
            let confirmed = match self.execute(pool, stop) {
                Ok(Progress::Stopped) => return Progress::Stopped,
                Ok(Progress::Done) => self.model.watched.confirm(self.begin),
                Err(error) => Err(error),
            };
            match confirmed {
                Ok(Confirmed::Loaded) => return Progress::Done,
                Ok(Confirmed::Touched) => (self.next_step, self.begin) = (0, self.model.watched.begin()),
                Err(error) => {
                    self.failure = Some(error);
                    return Progress::Done;
                }
            }
        }
        self.failure = Some(Error::FileChanged(
            "A file of the model was written several times while it was read. Load the model again when nothing writes \
             to it."
                .into(),
        ));
        Progress::Done
    }

    /// Executes steps until all are complete or `stop` is set.
    fn execute(&mut self, pool: &Pool, stop: &AtomicBool) -> Result<Progress> {
        let (arbiter, start) = (pool.arbiter(), Instant::now());
        let turn = arbiter.enter(self.lane);
        self.waited += start.elapsed();
        while self.next_step < self.model.steps.len() {
            if stop.load(Ordering::Relaxed) {
                return Ok(Progress::Stopped);
            }
            match self.section() {
                Some(steps) => {
                    let interrupted = || stop.load(Ordering::Relaxed) || turn.should_yield();
                    if self.run_section(pool, steps.clone(), &interrupted)? {
                        self.next_step = steps.end;
                    }
                }
                None => {
                    self.run_step(pool, &self.model.steps[self.next_step], None)?;
                    self.next_step += 1;
                }
            }
            self.waited += turn.pause();
        }
        Ok(Progress::Done)
    }

    /// Returns how long [`Run::advance`] has waited for other runs.
    pub(crate) fn waited(&self) -> Duration {
        self.waited
    }

    /// Executes all steps one by one and returns the duration of each.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`].
    pub fn timed(&mut self, pool: &Pool) -> Result<Vec<Duration>> {
        let steps = self.next_step..self.model.steps.len();
        steps
            .map(|number| {
                let start = Instant::now();
                self.run_step(pool, &self.model.steps[number], None)?;
                self.next_step = number + 1;
                Ok(start.elapsed())
            })
            .collect()
    }

    /// Executes the next step, which is `step`, when it is the turn of this run. If `packed` is given, it is the weight of
    /// the product.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`].
    pub(crate) fn execute_step(&mut self, pool: &Pool, step: &Lowered, packed: Option<&PackedWeight>) -> Result<()> {
        let _turn = pool.arbiter().enter(self.lane);
        self.next_step += 1;
        self.run_step(pool, step, packed)
    }

    /// Returns the rows that a step reads as its first input.
    pub(crate) fn input_rows(&self, step: &Lowered) -> Vec<&[f32]> {
        let input = step.inputs[0];
        let rows = self.buffers[input.buffer].chunks_exact(self.model.buffers[input.buffer].width);
        rows.take(self.batch.rows(step.axis))
            .map(|row| &row[input.column..input.column + input.width])
            .collect()
    }

    /// Returns the vectors one after the other, in the order of the texts.
    ///
    /// # Errors
    /// [`Error::Cancelled`] before [`Progress::Done`], when the buffers may contain values of another batch.
    /// [`Error::FileChanged`] if the files of the model changed, [`Error::OutOfMemory`] if there was no memory for a step.
    /// [`Error::NonFinite`] with the first text whose vector contains NaN or infinity.
    pub fn vectors(self) -> Result<Vec<f32>> {
        if let Some(error) = self.failure {
            return Err(error);
        }
        if self.next_step < self.model.steps.len() {
            return Err(Error::Cancelled);
        }
        let output = self.model.output;
        let stride = self.model.buffers[output.buffer].width;
        let mut vectors = Vec::new();
        let len = self.batch.texts.len() * output.width;
        vectors
            .try_reserve_exact(len)
            .map_err(|_| Error::refused(len * size_of::<f32>()))?;
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

    /// Executes one step on all rows. The weight of a product is `packed` if that is given.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`].
    fn run_step(&mut self, pool: &Pool, step: &Lowered, packed: Option<&PackedWeight>) -> Result<()> {
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
                self.linear(pool, packed.unwrap_or(weight), product, rows)?;
            }
            Op::Attention(parameters, bias) => {
                self.attention(pool, parameters, bias.as_deref(), &operands.inputs, out)?;
            }
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
                let run = self.rowwise(step);
                by_rows(pool, threads, (rows, width), |rows| run(&operands, rows));
            }
        }
        Ok(())
    }
}

/// Addresses of a step's operands.
struct Operands {
    out: Matrix,
    inputs: Vec<Matrix>,
}

impl Operands {
    /// Returns the first input; without inputs the output.
    fn first(&self) -> Matrix {
        self.inputs.first().copied().unwrap_or(self.out)
    }

    /// Returns the last input; without inputs the output.
    fn last(&self) -> Matrix {
        self.inputs.last().copied().unwrap_or(self.out)
    }
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

#[cfg(all(test, not(windows)))] // on Windows nobody can write to the file of a loaded model
mod tests {
    use super::*;
    use crate::model::Options;
    use serde_json::json;
    use std::fs;

    #[test]
    fn bytes_that_were_other_ones_only_during_the_run_are_read_again() {
        let whole = |buffer: usize| json!({"buffer": buffer, "column": 0, "width": 2});
        let program = json!({
            "format": "embergem-program/1",
            "key": "test",
            "weights": [{"sources": [{"tensor": "table", "shape": [2, 2], "rows": null}], "add": 0.0}],
            "buffers": [{"width": 2, "axis": "tokens"}, {"width": 2, "axis": "rows"}],
            "steps": [
                {"op": "embed", "out": whole(0), "inputs": [], "weights": {"table": 0}, "parameters": {"offset": 0}},
                {"op": "pool", "out": whole(1), "inputs": [whole(0)], "weights": {}, "parameters": {"kind": "mean"}},
            ],
            "output": whole(1),
        });
        let checkpoint = |values: [f32; 4]| {
            let header = json!({"table": {"dtype": "F32", "shape": [2, 2], "data_offsets": [0, 16]}}).to_string();
            let data = values.map(f32::to_le_bytes).concat();
            [&(header.len() as u64).to_le_bytes(), header.as_bytes(), &data].concat()
        };
        let path = std::env::temp_dir().join(format!("embergem-during-{}.safetensors", std::process::id()));
        let (sound, other) = (checkpoint([1.0, 2.0, 3.0, 4.0]), checkpoint([9.0, 9.0, 9.0, 9.0]));
        fs::write(&path, &sound).unwrap();
        let model = Model::load(&program.to_string(), [("", path.as_path())], Options::default()).unwrap();
        let (pool, stop) = (Pool::global(), AtomicBool::new(false));
        let mut first = model.start(&[0], &[0, 1]).unwrap();
        let mut second = model.start(&[1], &[0, 1]).unwrap();
        fs::write(&path, &other).unwrap();
        for run in [&mut first, &mut second] {
            run.run_step(pool, &model.steps[0], None).unwrap();
            run.next_step = 1;
        }
        fs::write(&path, &sound).unwrap();
        // The second run finds that the first one has compared the file already.
        for (run, expected) in [(first, [1.0, 2.0]), (second, [3.0, 4.0])] {
            let mut run = run;
            assert_eq!(run.advance(pool, &stop), Progress::Done);
            assert_eq!(run.vectors().unwrap(), expected);
        }
        fs::remove_file(path).unwrap();
    }
}
