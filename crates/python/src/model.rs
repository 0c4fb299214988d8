//! The classes `Model` and `CancelToken`: the executor for Python.

use crate::allocator::require_memory;
use crate::errors::raise;
use embergem_core::{Error, Lane, Options, PackProgress, PackedCache, PackedFile, Pool, Precision, Progress};
use numpy::{PyArray1, PyArray2, PyArrayMethods, PyReadonlyArray1};
use pyo3::prelude::*;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, UNIX_EPOCH};

/// A flag that stops a run before its next step, or tokenizing before the next piece of a long text.
#[pyclass(frozen, module = "embergem._native")]
#[derive(Default)]
pub struct CancelToken {
    flag: Arc<AtomicBool>,
}

impl CancelToken {
    /// Returns the flag, which other threads read.
    pub fn flag(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.flag)
    }
}

#[pymethods]
impl CancelToken {
    #[new]
    fn new() -> Self {
        Self::default()
    }

    /// Stop the run that has this token. A finished run is not affected.
    fn cancel(&self) {
        self.flag.store(true, Ordering::Relaxed);
    }

    #[getter]
    fn cancelled(&self) -> bool {
        self.flag.load(Ordering::Relaxed)
    }
}

/// How far `Model.load` is with packing the weights, for another thread.
#[pyclass(frozen, module = "embergem._native")]
#[derive(Default)]
pub struct LoadProgress {
    packing: Arc<PackProgress>,
}

#[pymethods]
impl LoadProgress {
    #[new]
    fn new() -> Self {
        Self::default()
    }

    /// Return the number of weights that are packed, and of all weights.
    fn read(&self) -> (u64, u64) {
        self.packing.read()
    }
}

/// Returns the bytes of memory that this process may still allocate; None if the system does not say.
#[pyfunction]
pub fn available_memory() -> Option<u64> {
    embergem_core::available_memory()
}

/// Returns the names of the instruction sets that this machine can run.
#[pyfunction]
pub fn instruction_sets() -> Vec<&'static str> {
    embergem_core::instruction_sets()
}

/// Returns the bytes of a size such as "2GB"; None for any other text.
#[pyfunction]
pub fn packed_limit(text: &str) -> Option<u64> {
    embergem_core::parse_size(text)
}

/// Path, bytes, last use in seconds since 1970, and, unless the file is damaged, weight files and variant.
type PackedFileRow = (PathBuf, u64, f64, Option<(Vec<PathBuf>, Vec<String>)>);

/// Returns the files of packed weights in a directory, least recently used first.
#[pyfunction]
pub fn kept_packed(py: Python<'_>, directory: PathBuf) -> Vec<PackedFileRow> {
    let row = |file: PackedFile| {
        let used = file.used.duration_since(UNIX_EPOCH).unwrap_or_default();
        let contents = file.contents.map(|contents| {
            let files = contents.files.into_iter().map(|file| file.path).collect();
            (files, contents.variant)
        });
        (file.path, file.bytes, used.as_secs_f64(), contents)
    };
    py.detach(|| embergem_core::packed_files(&directory).into_iter().map(row).collect())
}

/// A loaded model: a program with its weights.
#[pyclass(frozen, module = "embergem._native")]
pub struct Model {
    model: embergem_core::Model,
}

#[pymethods]
impl Model {
    #[staticmethod]
    #[expect(
        clippy::too_many_arguments,
        reason = "one argument for each keyword of the Python method"
    )]
    #[pyo3(signature = (program, files, *, threads=None, dtype="float32", memory_limit=None, notes=None, packed=None, packed_limit=0, instruction_set=None, progress=None))]
    fn load(
        py: Python<'_>,
        program: &str,
        files: Vec<(String, PathBuf)>,
        threads: Option<usize>,
        dtype: &str,
        memory_limit: Option<u64>,
        notes: Option<PathBuf>,
        packed: Option<PathBuf>,
        packed_limit: u64,
        instruction_set: Option<&str>,
        progress: Option<PyRef<'_, LoadProgress>>,
    ) -> PyResult<Self> {
        let Some((_, precision)) = Precision::NAMES.into_iter().find(|(name, _)| *name == dtype) else {
            let names = Precision::NAMES.map(|(name, _)| name).join(", ");
            let message = format!("dtype={dtype:?} does not exist; it must be one of {names}");
            return Err(raise(py, "UnsupportedOption", message));
        };
        let packing = progress.map(|progress| Arc::clone(&progress.packing));
        let options = Options {
            threads,
            precision,
            memory_limit,
            notes: notes.as_deref(),
            packed: packed.as_deref().map(|directory| PackedCache {
                directory,
                limit: packed_limit,
            }),
            kernels: instruction_set,
            progress: packing.as_ref(),
        };
        require_memory(py)?;
        let files = || files.iter().map(|(prefix, path)| (prefix.as_str(), path.as_path()));
        let model = py.detach(|| embergem_core::Model::load(program, files(), options));
        model.map(|model| Self { model }).map_err(|error| to_python(py, &error))
    }

    #[getter]
    fn dimensions(&self) -> usize {
        self.model.dimensions()
    }

    #[getter]
    fn instruction_set(&self) -> &'static str {
        self.model.instruction_set()
    }

    #[getter]
    fn dtype(&self) -> &'static str {
        self.model.precision().name()
    }

    #[getter]
    fn threads(&self) -> usize {
        self.model.threads()
    }

    /// Return why the model computes no vectors any more; None if it computes.
    #[getter]
    fn failure(&self) -> Option<String> {
        self.model.failure()
    }

    #[getter]
    fn vocab_size(&self) -> usize {
        self.model.vocabulary
    }

    /// Return the exponents of smoothing of each int8 product, by the number of its step.
    #[getter]
    fn smoothing_exponents<'py>(&self, py: Python<'py>) -> BTreeMap<usize, Bound<'py, PyArray1<i8>>> {
        let all = self.model.smoothing_exponents().into_iter();
        all.map(|(step, exponents)| (step, PyArray1::from_vec(py, exponents)))
            .collect()
    }

    /// Return the most tokens that a batch should have on this machine, measured once for these files.
    fn batch_budget(
        &self,
        py: Python<'_>,
        files: Vec<PathBuf>,
        limit: usize,
        notes: PathBuf,
        cancel: &CancelToken,
    ) -> PyResult<usize> {
        let (files, stop) = (|| files.iter().map(PathBuf::as_path), cancel.flag());
        let found = py.detach(|| self.model.batch_budget(files(), limit, Some(&notes), &stop));
        found.map_err(|error| to_python(py, &error))
    }

    /// Return what `batch_budget` measured before for these files; None if it did not.
    fn known_batch_budget(&self, py: Python<'_>, files: Vec<PathBuf>, notes: PathBuf) -> Option<usize> {
        let files = || files.iter().map(PathBuf::as_path);
        py.detach(|| self.model.known_batch_budget(files(), Some(&notes)))
    }

    /// Return the least cosine to the vectors in float32, measured once for these files.
    #[pyo3(signature = (program, files, *, notes, progress=None))]
    fn least_cosine(
        &self,
        py: Python<'_>,
        program: &str,
        files: Vec<(String, PathBuf)>,
        notes: PathBuf,
        progress: Option<PyRef<'_, LoadProgress>>,
    ) -> PyResult<f64> {
        require_memory(py)?;
        let packing = progress.map(|progress| Arc::clone(&progress.packing));
        let files: Vec<_> = files
            .iter()
            .map(|(prefix, path)| (prefix.as_str(), path.as_path()))
            .collect();
        let found = py.detach(|| self.model.least_cosine(program, &files, Some(&notes), packing.as_ref()));
        found.map_err(|error| to_python(py, &error))
    }

    /// Return the seconds of each step of the program for a batch.
    fn profile(
        &self,
        py: Python<'_>,
        ids: PyReadonlyArray1<'_, u32>,
        cu_seqlens: PyReadonlyArray1<'_, u32>,
    ) -> PyResult<Vec<f64>> {
        let (ids, cu_seqlens) = (ids.as_slice()?, cu_seqlens.as_slice()?);
        let times = py.detach(|| self.model.start(ids, cu_seqlens)?.timed(Pool::global()));
        let times = times.map_err(|error| to_python(py, &error))?;
        Ok(times.iter().map(Duration::as_secs_f64).collect())
    }

    /// Measure the peak floating point operations per second for `seconds`.
    fn peak(&self, py: Python<'_>, seconds: f64) -> f64 {
        py.detach(|| self.model.peak(Duration::from_secs_f64(seconds.clamp(0.0, 60.0))))
    }

    #[pyo3(signature = (ids, cu_seqlens, cancel=None, lane="interactive"))]
    fn run<'py>(
        &self,
        py: Python<'py>,
        ids: PyReadonlyArray1<'py, u32>,
        cu_seqlens: PyReadonlyArray1<'py, u32>,
        cancel: Option<&CancelToken>,
        lane: &str,
    ) -> PyResult<Bound<'py, PyArray2<f32>>> {
        let lane = match lane {
            "interactive" => Lane::Interactive,
            "bulk" => Lane::Bulk,
            _ => {
                let message = format!("lane={lane:?} does not exist; it must be interactive or bulk");
                return Err(raise(py, "UnsupportedOption", message));
            }
        };
        require_memory(py)?;
        let (ids, cu_seqlens) = (ids.as_slice()?, cu_seqlens.as_slice()?);
        let stop = cancel.map_or_else(Arc::default, CancelToken::flag);
        let vectors = py.detach(|| self.vectors(ids, cu_seqlens, lane, &stop));
        let vectors = vectors.map_err(|error| to_python(py, &error))?;
        let rows = vectors.len() / self.model.dimensions();
        PyArray1::from_vec(py, vectors).reshape([rows, self.model.dimensions()])
    }
}

impl Model {
    fn vectors(
        &self,
        ids: &[u32],
        cu_seqlens: &[u32],
        lane: Lane,
        stop: &AtomicBool,
    ) -> embergem_core::Result<Vec<f32>> {
        let mut run = self.model.start(ids, cu_seqlens)?.in_lane(lane);
        match run.advance(Pool::global(), stop) {
            Progress::Done => run.vectors(),
            Progress::Stopped => Err(Error::Cancelled),
        }
    }
}

/// Returns the Python exception for an error.
pub fn to_python(py: Python<'_>, error: &Error) -> PyErr {
    let class = match error {
        Error::Io { .. } | Error::Corrupt { .. } | Error::Changed(_) => "CorruptCheckpoint",
        Error::Tensor { .. } => "MissingTensor",
        Error::Unread { .. } => "UnsupportedModel",
        Error::Batch(_) => "InvalidRequest",
        Error::FileChanged(_) => "ModelFailed",
        Error::Memory { .. } | Error::OutOfMemory { .. } => "InsufficientMemory",
        Error::NonFinite { .. } => "NonFiniteOutput",
        Error::Cancelled => "Cancelled",
        _ => "UnsupportedModel",
    };
    let raised = raise(py, class, error.to_string());
    if let Error::NonFinite { row } = error {
        // The caller maps the row of the batch to the input of a request.
        if let Err(other) = raised.value(py).setattr("row", row) {
            return other;
        }
    }
    raised
}
