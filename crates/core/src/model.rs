//! A loaded model: a lowered program with its weights.

mod smoothing;
mod streamed;

use crate::aligned::Aligned;
use crate::error::{Error, Result};
use crate::format::checkpoint::Checkpoint;
use crate::hex::sha256_hex;
use crate::kernels::pooling::Kind;
use crate::kernels::rope::Angles;
use crate::kernels::{Kernels, peak};
use crate::lower::{Lowered, Op, Rotation, lower};
use crate::mapped::{Mapped, Part, Watched};
use crate::memo::Memo;
use crate::memory;
use crate::packed::{PackProgress, PackedCache, PackedMatrices};
use crate::pool::Pool;
use crate::precision::Precision;
use crate::program::{Axis, Buffer, Operand, Program};
use crate::weights::Rows;
use smoothing::Smoothing;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
pub use streamed::Streamed;

/// Options of [`Model::load`].
#[derive(Clone, Copy, Default)]
pub struct Options<'a> {
    /// Most threads of the compute pool that a run uses. `None` is all of them.
    pub threads: Option<usize>,
    /// Most bytes that packed weights may take. `None` is the memory that the system reports as available.
    pub memory_limit: Option<u64>,
    /// Directory in which the check of the embedding tables is remembered. `None` checks them at every start.
    pub notes: Option<&'a Path>,
    /// Arithmetic of the matrix products over tokens.
    pub precision: Precision,
    /// Cache of packed weights. `None` packs them at every start.
    pub packed: Option<PackedCache<'a>>,
    /// Name of the instruction set, for tests. `None` is the fastest that the machine has.
    pub kernels: Option<&'a str>,
    /// Where another thread reads how far the packing is. `None` tells nobody.
    pub progress: Option<&'a Arc<PackProgress>>,
}

/// The bits of the base, those of the scaling, and the features of a head.
type AnglesKey = (u64, [u64; 4], usize);

/// A lowered program with its weights. Several threads may run it at the same time.
pub struct Model {
    /// SHA-256 of the program's text in hexadecimal. It stands for every step and parameter.
    pub digest: String,
    pub(crate) steps: Vec<Lowered>,
    pub(crate) buffers: Vec<Buffer>,
    pub(crate) output: Operand,
    pub(crate) kernels: &'static Kernels,
    pub(crate) threads: usize,
    precision: Precision,
    /// Ids of the smallest embedding table. Valid ids are below this number.
    pub vocabulary: usize,
    /// Most tokens of a text, from the position tables; `None` without such a table.
    pub max_tokens: Option<usize>,
    /// Fewest tokens of a text: 0 for a program that only averages rows of a table, else 1.
    pub min_tokens: usize,
    /// The maps that the embedding tables are in.
    tables: Vec<Arc<Mapped>>,
    /// The files that runs read from.
    pub(crate) watched: Watched,
    /// Rotary tables by their base, scaling and head size.
    angles: Mutex<HashMap<AnglesKey, Arc<Angles>>>,
    /// Buffers of finished runs.
    spare: Mutex<Vec<Vec<Aligned>>>,
}

impl Model {
    /// Parses `program` (JSON), maps `files`, given as (name prefix, path), and packs the weights.
    ///
    /// # Errors
    /// [`Error::Program`] for a program that cannot run, [`Error::Memory`] or [`Error::OutOfMemory`] if the weights do not
    /// fit, and
    /// [`Error::Io`], [`Error::Corrupt`], [`Error::Changed`] or [`Error::Tensor`] for the files.
    pub fn load<'a>(
        program: &str,
        files: impl IntoIterator<Item = (&'a str, &'a Path)>,
        options: Options<'_>,
    ) -> Result<Self> {
        let files: Vec<(&str, &Path)> = files.into_iter().collect();
        let (text, program) = (program, Program::parse(program)?);
        let kernels = find_kernels(options.kernels)?;
        let (precision, digest) = (format!("{:?}", options.precision), sha256_hex(text));
        let paths = files.iter().map(|(_, path)| *path);
        let mut matrices = PackedMatrices::open(options.packed, paths, &[&precision, kernels.name, &digest]);
        // The files are opened after their state was read, so `finish` notices a file that is replaced from now on.
        let checkpoint = Checkpoint::open(files.iter().copied())?.with_prefixes(&program.prefixes);
        if !matrices.is_stored() {
            let available = options.memory_limit.or_else(memory::available);
            let weights = packed_weights(&program);
            require_memory(weights, options.precision, available)?;
            if let Some(progress) = options.progress {
                progress.expect(weights);
                matrices.progress = Arc::clone(progress);
            }
        }
        let smoothing = Smoothing::new(text, &files, options);
        let exponents = |step, rows: &Rows<'_>, shape| smoothing.exponents(step, rows, shape);
        let steps = lower(
            &program,
            &checkpoint,
            kernels,
            options.precision,
            &exponents,
            &mut matrices,
        )?;
        let mut parts = check_tables(&steps, files.iter().map(|(_, path)| *path), options.notes)?;
        let tables = parts.iter().map(|part| Arc::clone(&part.map)).collect();
        parts.extend(matrices.finish()?);
        checkpoint.require_unchanged()?;
        // Packing and the check of the tables read the whole checkpoint; a run reads single rows of the tables.
        checkpoint.release_pages();
        let mut model = Self::assemble(digest, &program, steps, kernels, options)?;
        model.tables = tables;
        model.watched = Watched::new(parts);
        Ok(model)
    }

    /// Makes a model of lowered steps, whose files are not watched. `digest` is that of the program's text.
    ///
    /// # Errors
    /// [`Error::Program`] if the program reads no ids, or its output is not a part of a buffer.
    fn assemble(
        digest: String,
        program: &Program,
        steps: Vec<Lowered>,
        kernels: &'static Kernels,
        options: Options<'_>,
    ) -> Result<Self> {
        let (vocabulary, max_tokens) = limits(&steps)?;
        let only_averages = steps.iter().all(|step| match step.op {
            Op::Pool(kind) => kind == Kind::Mean,
            Op::Embed { .. } => true,
            _ => step.axis == Axis::Rows,
        });
        let min_tokens = usize::from(!only_averages);
        let output = program.output;
        let inside = program.buffers.get(output.buffer).is_some_and(|buffer| {
            buffer.axis == Axis::Rows
                && output
                    .column
                    .checked_add(output.width)
                    .is_some_and(|end| end <= buffer.width)
        });
        if !inside || output.width == 0 {
            return Err(Error::Program(format!(
                "the output {output:?} must be columns of a buffer with one row for each text"
            )));
        }
        Ok(Self {
            digest,
            steps,
            buffers: program.buffers.clone(),
            output,
            kernels,
            precision: options.precision,
            threads: options.threads.unwrap_or(usize::MAX).clamp(1, Pool::global().threads()),
            vocabulary,
            max_tokens,
            min_tokens,
            tables: Vec::new(),
            watched: Watched::default(),
            angles: Mutex::default(),
            spare: Mutex::default(),
        })
    }

    /// Returns why the model computes no vectors any more: one of its files was overwritten or cut short. `None` if it
    /// computes.
    pub fn failure(&self) -> Option<String> {
        self.watched.failure()
    }

    /// Returns the dimensions of the vectors.
    pub fn dimensions(&self) -> usize {
        self.output.width
    }

    /// Returns the name of the instruction set in use.
    pub fn instruction_set(&self) -> &'static str {
        self.kernels.name
    }

    /// Returns the arithmetic of the matrix products over tokens.
    pub fn precision(&self) -> Precision {
        self.precision
    }

    /// Returns the most threads that a run uses.
    pub fn threads(&self) -> usize {
        self.threads
    }

    /// Measures the peak floating point operations per second of the model's threads, for about `duration`. It executes
    /// fused multiply-adds on registers.
    pub fn peak(&self, duration: Duration) -> f64 {
        const ROUNDS: usize = 20_000;
        let rounds = AtomicUsize::new(0);
        let start = Instant::now();
        Pool::global().run(self.threads, self.threads, &|_, _| {
            while start.elapsed() < duration {
                // SAFETY: `kernels` was returned by `Kernels::best` or `Kernels::named`, so the processor has its set.
                std::hint::black_box(unsafe { (self.kernels.peak)(ROUNDS) });
                rounds.fetch_add(ROUNDS, Ordering::Relaxed);
            }
        });
        (rounds.into_inner() * peak::operations(self.kernels.lanes)) as f64 / start.elapsed().as_secs_f64()
    }

    /// Takes the pages of the embedding tables out of this process, after measurements that read rows all over them; see
    /// [`Mapped::release_pages`].
    pub(crate) fn release_tables(&self) {
        self.tables.iter().for_each(|map| map.release_pages());
    }

    /// Returns the buffers of an earlier run, or new empty ones.
    pub(crate) fn take_buffers(&self) -> Vec<Aligned> {
        let mut spare = self.spare.lock().unwrap_or_else(PoisonError::into_inner);
        spare.pop().unwrap_or_default()
    }

    /// Keeps the buffers of a finished run for the next one, because new pages from the system cost time.
    pub(crate) fn return_buffers(&self, arena: Vec<Aligned>) {
        const MAX_SPARE: usize = 2;
        let mut spare = self.spare.lock().unwrap_or_else(PoisonError::into_inner);
        if spare.len() < MAX_SPARE {
            spare.push(arena);
        }
    }

    /// Returns the rotary table of a step that covers positions below `positions`.
    ///
    /// The table is computed once. If a longer text comes, a table of at least twice the size replaces it.
    pub(crate) fn angles(&self, p: &Rotation, positions: usize) -> Arc<Angles> {
        let key = (p.theta.to_bits(), p.scaling.bits(), p.head_dim);
        let mut tables = self.angles.lock().unwrap_or_else(PoisonError::into_inner);
        let table = tables.get(&key).filter(|table| table.positions >= positions);
        if let Some(table) = table {
            return Arc::clone(table);
        }
        let table = Arc::new(Angles::new(
            p.theta,
            p.scaling,
            p.head_dim,
            positions.next_power_of_two().max(256),
        ));
        tables.insert(key, Arc::clone(&table));
        table
    }
}

/// Returns the kernels of the instruction set `name`; the fastest ones without a name.
///
/// # Errors
/// [`Error::Program`] if this machine does not have the instruction set.
fn find_kernels(name: Option<&str>) -> Result<&'static Kernels> {
    match name {
        None => Ok(Kernels::best()),
        Some(name) => Kernels::named(name)
            .ok_or_else(|| Error::Program(format!("this machine does not have the instruction set {name:?}"))),
    }
}

/// Checks that the embedding tables are finite, and returns where they are in mapped files. The result is remembered for
/// the state of the files as the checksums of each table.
///
/// All other weights are checked while they are packed.
fn check_tables<'a>(
    steps: &[Lowered],
    files: impl IntoIterator<Item = &'a Path>,
    notes: Option<&Path>,
) -> Result<Vec<Part>> {
    let memo = notes.and_then(|directory| Memo::new(directory, "scanned", files, &[]));
    let known = memo.as_ref().and_then(Memo::read);
    let known: BTreeMap<String, Vec<u32>> = known
        .and_then(|text| serde_json::from_str(&text).ok())
        .unwrap_or_default();
    let mut sums = known.clone();
    let mut parts = Vec::new();
    for step in steps {
        let Op::Embed { table, .. } = &step.op else {
            continue;
        };
        let crcs = known.get(table.name());
        if crcs.is_none() {
            table.require_finite()?;
        }
        let own = table.parts(crcs.map(Vec::as_slice));
        sums.insert(table.name().to_owned(), own.iter().map(|part| part.crc).collect());
        parts.extend(own);
    }
    if let Some(memo) = memo.filter(|_| sums != known) {
        memo.write(&serde_json::json!(sums).to_string());
    }
    Ok(parts)
}

/// Returns the number of weights that are packed or copied. Embedding tables stay mapped and do not count.
fn packed_weights(program: &Program) -> u64 {
    let tables: HashSet<usize> = program
        .steps
        .iter()
        .filter_map(|step| step.weights.get("table").copied())
        .collect();
    program
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
        .fold(0, u64::saturating_add)
}

/// Refuses weights that do not fit into memory before they are packed.
fn require_memory(weights: u64, precision: Precision, available: Option<u64>) -> Result<()> {
    let bytes = (weights / 1000).saturating_mul(precision.bytes_per_thousand());
    match available {
        Some(available) if bytes > available => Err(Error::Memory {
            needed_mb: bytes >> 20,
            available_mb: available >> 20,
        }),
        _ => Ok(()),
    }
}

/// Returns the number of ids, and of positions if there is a position table, that every lookup of the program covers.
fn limits(steps: &[Lowered]) -> Result<(usize, Option<usize>)> {
    let mut vocabulary = None;
    let mut max_tokens = None;
    for step in steps {
        if let Op::Embed {
            table, rows, positions, ..
        } = &step.op
        {
            let ids = rows.as_ref().map_or(table.rows, Vec::len);
            vocabulary = Some(vocabulary.map_or(ids, |least: usize| least.min(ids)));
            if let Some(positions) = positions {
                let covered = (positions.values.len() / table.width).saturating_sub(positions.offset);
                max_tokens = Some(max_tokens.map_or(covered, |tokens: usize| tokens.min(covered)));
            }
        }
    }
    match vocabulary {
        Some(ids) => Ok((ids, max_tokens)),
        None => Err(Error::Program("it has no embedding lookup, so it reads no ids".into())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn slices_of_a_tensor_count_once() {
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
        let weights = packed_weights(&program);
        require_memory(weights, Precision::Float32, Some(12_000_000)).unwrap();
        let refused = require_memory(weights, Precision::Float32, Some(11_999_999));
        assert!(
            matches!(refused, Err(Error::Memory { needed_mb: 11, .. })),
            "{refused:?}"
        );
    }
}
