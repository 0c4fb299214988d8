//! The class `TextPipeline`: prompts, tokenizer and limit for Python.

use crate::allocator::require_memory;
use crate::errors::{raise, raise_for_input};
use crate::gil::without_gil;
use crate::model::{self, CancelToken};
use crate::strings::{optional_strings, strings};
use crate::token_ids::token_ids;
use embergem_text::{Aligned, Error, InputError, Options, Overlong, Pipeline, Row, Template, map_in_parallel};
use numpy::PyArray1;
use pyo3::prelude::*;
use pyo3::types::{PyString, PyTuple};
use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

/// Returns the built-in prompt sets: set -> task -> pattern.
#[pyfunction]
pub fn prompt_sets(py: Python<'_>) -> PyResult<BTreeMap<String, BTreeMap<String, String>>> {
    embergem_text::prompt_sets().map_err(|reason| raise(py, "EmbergemError", reason))
}

/// Id, entry of the vocabulary, first and end position in the text, and whether the model reads the token.
type Token = (u32, String, Option<(usize, usize)>, bool);

type Rows<'py> = Vec<(Bound<'py, PyArray1<u32>>, usize)>;

/// Most memory that reading a tokenizer.json takes, as a multiple of its size. Its allocations cannot fail one by one.
const TOKENIZER_MEMORY: u64 = 12;

/// Prompts, tokenizer and limit of one model.
#[pyclass(frozen, module = "embergem._native")]
pub struct TextPipeline {
    pipeline: Pipeline,
    /// Memory that the tokenizers library takes to read the file.
    library_memory: u64,
}

impl TextPipeline {
    /// Checks that there is memory for what the tokenizers library does, including its reading of the file.
    fn require_library_memory(&self, py: Python<'_>) -> PyResult<()> {
        require_memory(py)?;
        if self.pipeline.has_library() {
            return Ok(());
        }
        embergem_core::require_memory(self.library_memory).map_err(|error| model::to_python(py, &error))
    }
}

#[pymethods]
impl TextPipeline {
    #[new]
    #[pyo3(signature = (tokenizer_json, *, limit, vocab_size, prompts=None, builtin_prompts=None, bare=false, keep_unknown=false, cache=None))]
    #[expect(clippy::too_many_arguments, reason = "keyword arguments of Python")]
    fn new(
        py: Python<'_>,
        tokenizer_json: PathBuf,
        limit: usize,
        vocab_size: u32,
        prompts: Option<&str>,
        builtin_prompts: Option<&str>,
        bare: bool,
        keep_unknown: bool,
        cache: Option<PathBuf>,
    ) -> PyResult<Self> {
        let options = Options {
            limit,
            vocab_size,
            prompts,
            builtin_prompts,
            bare,
            keep_unknown,
            cache: cache.as_deref(),
        };
        require_memory(py)?;
        let size = fs::metadata(&tokenizer_json).map_or(0, |metadata| metadata.len());
        let library_memory = size * TOKENIZER_MEMORY;
        embergem_core::require_memory(library_memory).map_err(|error| model::to_python(py, &error))?;
        let pipeline = py.detach(|| Pipeline::load(&tokenizer_json, options));
        let pipeline = pipeline.map_err(|error| to_python(py, &error))?;
        Ok(Self {
            pipeline,
            library_memory,
        })
    }

    #[getter]
    fn tasks(&self) -> Vec<&str> {
        self.pipeline.tasks().collect()
    }

    /// Returns the prompt of a task as a pattern with `{content}` and, if it takes one, `{title}`.
    fn pattern(&self, py: Python<'_>, task: &str) -> PyResult<Option<String>> {
        let prompt = self.pipeline.prompt(Some(task), false);
        let prompt = prompt.map_err(|error| to_python(py, &error))?;
        Ok(prompt.map(Template::pattern))
    }

    #[getter]
    fn max_chars_per_token(&self) -> Option<usize> {
        self.pipeline.max_chars_per_token()
    }

    #[expect(clippy::too_many_arguments, reason = "keyword arguments of Python")]
    #[pyo3(signature = (texts, *, task=None, titles=None, truncate=false, count=false, cancel=None))]
    fn prepare<'py>(
        &self,
        py: Python<'py>,
        texts: &Bound<'py, PyAny>,
        task: Option<&Bound<'py, PyString>>,
        titles: Option<&Bound<'py, PyAny>>,
        truncate: bool,
        count: bool,
        cancel: Option<&CancelToken>,
    ) -> PyResult<Rows<'py>> {
        require_memory(py)?;
        let overlong = match (truncate, count) {
            (false, _) => Overlong::Refuse,
            (true, false) => Overlong::Cut,
            (true, true) => Overlong::Count,
        };
        let texts = strings(texts, "text")?;
        let titles = titles.map(|titles| optional_strings(titles, "title")).transpose()?;
        if let Some(titles) = &titles
            && titles.len() != texts.len()
        {
            let message = format!(
                "{} titles for {} texts. Give one title for each text, or None.",
                titles.len(),
                texts.len()
            );
            return Err(raise(py, "InvalidRequest", message));
        }
        let title = |index: usize| titles.as_ref().and_then(|titles| titles[index].as_deref());
        // A lone surrogate in a task becomes a replacement character, so the task is unknown, and the error names it.
        let task = task.map(|task| task.to_string_lossy().into_owned());
        let bytes: usize = texts.iter().map(|text| text.len()).sum();
        let bytes = bytes
            + titles
                .iter()
                .flatten()
                .flatten()
                .map(|title| title.len())
                .sum::<usize>();
        let stop = cancel.map_or_else(Arc::default, CancelToken::flag);
        let rows = without_gil(py, bytes, || {
            if texts.is_empty() {
                return Err(Error::Empty(
                    "There are no texts. Give at least one; a text may be empty.".to_owned(),
                ));
            }
            let titled = (0..texts.len()).any(|index| title(index).is_some());
            let prompt = self.pipeline.prompt(task.as_deref(), titled)?;
            map_in_parallel(texts.len(), bytes, |index| {
                self.pipeline
                    .prepare_unless(&stop, index, &texts[index], prompt, title(index), overlong)
            })
        });
        to_rows(py, rows)
    }

    #[pyo3(signature = (texts, *, task=None, titles=None))]
    fn align(
        &self,
        py: Python<'_>,
        texts: &Bound<'_, PyAny>,
        task: Option<&str>,
        titles: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Vec<(String, Vec<Token>)>> {
        self.require_library_memory(py)?;
        let texts = strings(texts, "text")?;
        let titles = titles.map(|titles| optional_strings(titles, "title")).transpose()?;
        let title = |index: usize| titles.as_ref().and_then(|titles| titles.get(index)?.as_deref());
        let aligned = py.detach(|| {
            let titled = (0..texts.len()).any(|index| title(index).is_some());
            let prompt = self.pipeline.prompt(task, titled)?;
            let each = texts.iter().enumerate();
            each.map(|(index, text)| self.pipeline.align(index, text, prompt, title(index)))
                .collect::<Result<Vec<_>, Error>>()
        });
        let aligned = aligned.map_err(|error| to_python(py, &error))?;
        let tokens = |one: Aligned| {
            let tokens = one.tokens.into_iter();
            tokens
                .map(|token| (token.id, token.token, token.span, token.kept))
                .collect()
        };
        Ok(aligned.into_iter().map(|one| (one.text.clone(), tokens(one))).collect())
    }

    #[pyo3(signature = (rows, *, truncate=false))]
    fn prepare_ids<'py>(&self, py: Python<'py>, rows: &Bound<'py, PyAny>, truncate: bool) -> PyResult<Rows<'py>> {
        let rows = token_ids(rows, |index, position, id| {
            to_python(py, &self.pipeline.out_of_range(index, position, id))
        })?;
        let bytes = rows.iter().map(|row| 8 * row.len()).sum();
        let rows = without_gil(py, bytes, || {
            if rows.is_empty() {
                return Err(Error::Empty(
                    "there are no lists of token ids. Give at least one list.".to_owned(),
                ));
            }
            let rows = rows.iter().enumerate();
            rows.map(|(index, ids)| self.pipeline.check_ids(index, ids, truncate))
                .collect()
        });
        to_rows(py, rows)
    }

    #[pyo3(signature = (text, *, special=true))]
    fn tokenize(&self, py: Python<'_>, text: &Bound<'_, PyString>, special: bool) -> PyResult<Vec<u32>> {
        let texts = strings(PyTuple::new(py, [text])?.as_any(), "text")?;
        let ids = without_gil(py, texts[0].len(), || self.pipeline.tokenize(&texts[0], special));
        ids.map_err(|error| to_python(py, &error))
    }

    #[pyo3(signature = (ids, *, skip_special=true))]
    fn detokenize(&self, py: Python<'_>, ids: &Bound<'_, PyAny>, skip_special: bool) -> PyResult<String> {
        self.require_library_memory(py)?;
        let rows = token_ids(PyTuple::new(py, [ids])?.as_any(), |index, position, id| {
            to_python(py, &self.pipeline.out_of_range(index, position, id))
        })?;
        let text = py.detach(|| self.pipeline.detokenize(&rows[0], skip_special));
        text.map_err(|error| to_python(py, &error))
    }
}

fn to_rows(py: Python<'_>, rows: Result<Vec<Row>, Error>) -> PyResult<Rows<'_>> {
    let rows = rows.map_err(|error| to_python(py, &error))?;
    let rows = rows.into_iter();
    Ok(rows.map(|row| (PyArray1::from_vec(py, row.ids), row.length)).collect())
}

/// Returns the Python exception for an error.
pub fn to_python(py: Python<'_>, error: &Error) -> PyErr {
    let class = match error {
        Error::Input { index, problem } => return input_error(py, *index, problem),
        Error::Corrupt { .. } => "CorruptCheckpoint",
        Error::Empty(_) => "EmptyInput",
        Error::Task(_) => "InvalidTask",
        Error::Cancelled => "Cancelled",
        _ => "UnsupportedModel",
    };
    raise(py, class, error.to_string())
}

fn input_error(py: Python<'_>, index: usize, problem: &InputError) -> PyErr {
    let class = match problem {
        InputError::Empty => "EmptyInput",
        InputError::OutOfRange { .. } => "TokenOutOfRange",
        InputError::TooLong { .. } => "InputTooLong",
        InputError::Tokenize(_) => "InvalidText",
        InputError::OutOfMemory => "InsufficientMemory",
        _ => "InvalidRequest",
    };
    raise_for_input(py, class, index, problem.to_string())
}
