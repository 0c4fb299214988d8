//! A model: a lowered program, ready to run batches.

use crate::aligned::Aligned;
use crate::error::{Error, Result};
use crate::format::checkpoint::Checkpoint;
use crate::hex::sha256_hex;
use crate::kernels::pooling::Kind;
use crate::kernels::rope::Angles;
use crate::kernels::{Kernels, peak};
use crate::lower::{Lowered, Op, lower};
use crate::memory;
use crate::packed::{PackedCache, Packs};
use crate::pool::Pool;
use crate::precision::Precision;
use crate::program::{Axis, Buffer, Operand, Program};
use std::collections::HashMap;
use std::collections::HashSet;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How a model is to be loaded.
#[derive(Clone, Copy, Default)]
pub struct Options<'a> {
    /// Most threads of the compute pool that a run uses; all of them by default.
    pub threads: Option<usize>,
    /// Most bytes that packed weights may take; by default what the system says is free.
    pub memory_limit: Option<u64>,
    /// Read embedding tables, too, and refuse NaN in them; everything else is always checked.
    pub scan: bool,
    /// Arithmetic of the large products.
    pub precision: Precision,
    /// Where packed weights are kept for the next start; `None` packs at every start.
    pub packed: Option<PackedCache<'a>>,
    /// Kernels by name, for tests; by default the fastest that the machine has.
    pub kernels: Option<&'a str>,
}

/// A lowered program with its weights. Runs may go on at the same time in several threads.
pub struct Model {
    /// Identifies what the program was traced from.
    pub key: String,
    pub(crate) steps: Vec<Lowered>,
    pub(crate) buffers: Vec<Buffer>,
    pub(crate) output: Operand,
    pub(crate) kernels: &'static Kernels,
    pub(crate) threads: usize,
    precision: Precision,
    /// Rows of the smallest embedding table: ids below it are valid.
    pub vocabulary: usize,
    /// Places that every position table covers; `None` without such a table.
    pub places: Option<usize>,
    /// Fewest tokens of a text: none for a program that only averages rows of a table, else one.
    pub least_tokens: usize,
    angles: Mutex<HashMap<(u64, usize), Arc<Angles>>>,
    spare: Mutex<Vec<Vec<Aligned>>>,
}

impl Model {
    /// Parses `program`, maps `files` (name prefix and path) and packs the weights.
    pub fn load<'a>(
        program: &str,
        files: impl IntoIterator<Item = (&'a str, &'a Path)>,
        options: Options<'_>,
    ) -> Result<Self> {
        let files: Vec<(&str, &Path)> = files.into_iter().collect();
        let (text, program) = (program, Program::parse(program)?);
        let kernels = match options.kernels {
            None => Kernels::best(),
            Some(name) => Kernels::named(name)
                .ok_or_else(|| Error::Program(format!("this machine has no instruction set {name:?}")))?,
        };
        let precision = format!("{:?}", options.precision);
        let paths = files.iter().map(|(_, path)| *path);
        let mut packs = Packs::open(options.packed, paths, &[&precision, kernels.name, &sha256_hex(text)]);
        // After the state of the files was taken: one that is exchanged from now on is noticed at the end.
        let checkpoint = Checkpoint::open(files.iter().copied())?.with_prefixes(&program.prefixes);
        if !packs.found() {
            let available = options.memory_limit.or_else(memory::available);
            require_memory(&program, options.precision, available)?;
        }
        let steps = lower(&program, &checkpoint, kernels, options.precision, &mut packs)?;
        packs.finish(files.iter().map(|(_, path)| *path))?;
        let (vocabulary, places) = limits(&steps)?;
        let averages = |step: &Lowered| step.axis == Axis::Rows || matches!(step.op, Op::Embed { .. });
        let means = |step: &Lowered| !matches!(step.op, Op::Pool(kind) if kind != Kind::Mean);
        let least_tokens = usize::from(!steps.iter().all(|step| averages(step) && means(step)));
        if options.scan {
            for step in &steps {
                if let Op::Embed { table, .. } = &step.op {
                    table.require_finite()?;
                }
            }
        }
        let output = program.output;
        let inside = program.buffers.get(output.buffer).is_some_and(|buffer| {
            buffer.axis == Axis::Rows
                && output
                    .column
                    .checked_add(output.width)
                    .is_some_and(|end| end <= buffer.width)
        });
        if !inside || output.width == 0 {
            return Err(Error::Program(format!("the output {output:?} is not made of rows")));
        }
        Ok(Self {
            key: program.key,
            steps,
            buffers: program.buffers,
            output,
            kernels,
            precision: options.precision,
            threads: options.threads.unwrap_or(usize::MAX).clamp(1, Pool::global().threads()),
            vocabulary,
            places,
            least_tokens,
            angles: Mutex::default(),
            spare: Mutex::default(),
        })
    }

    /// Width of the vectors.
    pub fn dimensions(&self) -> usize {
        self.output.width
    }

    /// Name of the kernels in use.
    pub fn instruction_set(&self) -> &'static str {
        self.kernels.name
    }

    /// Arithmetic of the large products.
    pub fn precision(&self) -> Precision {
        self.precision
    }

    /// Threads that a run uses at most.
    pub fn threads(&self) -> usize {
        self.threads
    }

    /// Measures how many floating point operations a second the model's threads can do at most: fused multiply-adds in
    /// registers, for about `duration`.
    pub fn peak(&self, duration: Duration) -> f64 {
        const ROUNDS: usize = 20_000;
        let rounds = AtomicUsize::new(0);
        let start = Instant::now();
        Pool::global().run(self.threads, self.threads, &|_, _| {
            while start.elapsed() < duration {
                // SAFETY: the model's kernels are those of this machine.
                std::hint::black_box(unsafe { (self.kernels.peak)(ROUNDS) });
                rounds.fetch_add(ROUNDS, Ordering::Relaxed);
            }
        });
        (rounds.into_inner() * peak::operations(self.kernels.lanes)) as f64 / start.elapsed().as_secs_f64()
    }

    /// Returns the buffers of an earlier run, or new empty ones.
    pub(crate) fn take_buffers(&self) -> Vec<Aligned> {
        let mut spare = self.spare.lock().unwrap_or_else(PoisonError::into_inner);
        spare.pop().unwrap_or_default()
    }

    /// Keeps the buffers of a finished run for the next one: fresh pages from the system cost time.
    pub(crate) fn return_buffers(&self, arena: Vec<Aligned>) {
        const SPARES: usize = 2;
        let mut spare = self.spare.lock().unwrap_or_else(PoisonError::into_inner);
        if spare.len() < SPARES {
            spare.push(arena);
        }
    }

    /// The rotary table for `theta` and `dim` covering `places`; made once, grown by doubling.
    pub(crate) fn angles(&self, theta: f64, dim: usize, places: usize) -> Arc<Angles> {
        let mut tables = self.angles.lock().unwrap_or_else(PoisonError::into_inner);
        let table = tables
            .get(&(theta.to_bits(), dim))
            .filter(|table| table.places >= places);
        if let Some(table) = table {
            return Arc::clone(table);
        }
        let table = Arc::new(Angles::new(theta, dim, places.next_power_of_two().max(256)));
        tables.insert((theta.to_bits(), dim), Arc::clone(&table));
        table
    }
}

/// Refuses to start packing what cannot fit. Tables stay mapped and don't count.
fn require_memory(program: &Program, precision: Precision, available: Option<u64>) -> Result<()> {
    let tables: HashSet<usize> = program
        .steps
        .iter()
        .filter_map(|step| step.weights.get("table").copied())
        .collect();
    let elements = program
        .weights
        .iter()
        .enumerate()
        .filter(|(number, _)| !tables.contains(number))
        .flat_map(|(_, weight)| &weight.sources)
        .map(|source| {
            let whole = source.shape.first().copied().unwrap_or(1);
            let rows = source
                .rows
                .map_or(whole, |(from, to)| to.saturating_sub(from).min(whole));
            let sizes = std::iter::once(&rows).chain(source.shape.iter().skip(1));
            sizes.fold(1u64, |elements, size| elements.saturating_mul(*size as u64))
        })
        .fold(0, u64::saturating_add);
    let bytes = (elements / 1000).saturating_mul(precision.bytes_per_thousand());
    match available {
        Some(available) if bytes > available => Err(Error::Memory {
            needed_mb: bytes >> 20,
            available_mb: available >> 20,
        }),
        _ => Ok(()),
    }
}

/// Ids and places that every lookup of the program covers.
fn limits(steps: &[Lowered]) -> Result<(usize, Option<usize>)> {
    let mut vocabulary = None;
    let mut places = None;
    for step in steps {
        if let Op::Embed { table, positions, .. } = &step.op {
            vocabulary = Some(vocabulary.map_or(table.rows, |rows: usize| rows.min(table.rows)));
            if let Some((values, offset)) = positions {
                let covered = (values.len() / table.width).saturating_sub(*offset);
                places = Some(places.map_or(covered, |places: usize| places.min(covered)));
            }
        }
    }
    match vocabulary {
        Some(rows) => Ok((rows, places)),
        None => Err(Error::Program("it reads no ids".into())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_sliced_tensor_counts_once() {
        let rows =
            |from, to| json!({"sources": [{"tensor": "qkv", "shape": [3000, 1000], "rows": [from, to]}], "add": 0.0});
        let program = json!({
            "format": "embergem-program/1",
            "key": "test",
            "weights": [rows(0, 1000), rows(1000, 2000), rows(2000, 3000)],
            "buffers": [],
            "steps": [],
            "output": {"buffer": 0, "column": 0, "width": 1},
        });
        let program = Program::parse(&program.to_string()).unwrap();
        require_memory(&program, Precision::Float32, Some(12_000_000)).unwrap();
        let refused = require_memory(&program, Precision::Float32, Some(11_999_999));
        assert!(
            matches!(refused, Err(Error::Memory { needed_mb: 11, .. })),
            "{refused:?}"
        );
    }
}
