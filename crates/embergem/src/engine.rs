//! A loaded model: text pipeline, executor, and its description.

use crate::cache::Cache;
use crate::error::{Error, Result};
use crate::options::LoadOptions;
use crate::prepare::Prepared;
use crate::request::{EmbeddingRequest, EmbeddingRequestInput};
use crate::resolve::Location;
use crate::selfcheck;
use embergem_core::{BATCH_BUDGETS, FileStates, Lane, Model, Options, Pool, Precision, Progress};
use embergem_text::{Overlong, Pipeline, Row, join, map_in_parallel};
use log::warn;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

/// What a model offers.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ModelInfo {
    /// Name of the model: its hub id, or the last part of its directory; its alias, if another model has that name.
    pub id: String,
    /// Full size of its vectors.
    pub dimensions: usize,
    /// Sizes that [`crate::EmbeddingRequestBuilder::with_dimensions`] accepts, largest first.
    pub allowed_dimensions: Vec<usize>,
    /// Most tokens of one input, special tokens included.
    pub max_sequence_length: usize,
    /// Names that [`crate::EmbeddingRequestBuilder::with_task`] accepts; none for a model without prompts.
    pub tasks: Vec<String>,
    /// Arithmetic of the large products, such as `float32`.
    pub dtype: String,
}

/// A model in memory.
pub(crate) struct Engine {
    model: Model,
    text: Pipeline,
    norm_before_cut: bool,
    /// Most tokens of a batch; `None` until it was measured.
    max_batch_tokens: Option<usize>,
    /// What a measurement of it depends on.
    weight_files: Vec<PathBuf>,
    limit: usize,
    cache: Cache,
    /// What the model offers.
    pub info: ModelInfo,
}

impl Engine {
    /// Loads the model at `location` under the name `id`, and runs its self-check. The tokenizer is read in parallel with
    /// the weights.
    ///
    /// # Errors
    /// Those of [`crate::EmbeddingModelBuilder::build`].
    pub fn load(id: &str, location: &Location, options: &LoadOptions) -> Result<Self> {
        let prepared = Prepared::read(location, options)?;
        let cache = Cache::from_env()?;
        let states = FileStates::of(prepared.files())?;
        let (text, model) = join(
            || load_text(&prepared, &cache),
            || load_model(&prepared, &cache, options),
        );
        let (text, (model, cosine)) = (text?, model?);
        let run = |rows: &[Vec<u32>]| run_rows(&model, rows);
        if let Some(manifest) = &prepared.compiled {
            let width = model.dimensions();
            if manifest.vectors.dimensions != width {
                return Err(Error::CorruptCheckpoint(format!(
                    "{} says that its vectors have {} dimensions, and its program makes {width}: one of its files is from \
                     another model. Compile it again.",
                    location.path.display(),
                    manifest.vectors.dimensions
                )));
            }
            let fingerprint = fingerprint(&prepared, &cache)?;
            manifest.compare(&fingerprint, model.precision() == Precision::Float32, run)?;
        }
        let report = selfcheck::check(&context(&prepared, location, &model, &text, cosine, &run), &cache)?;
        for finding in report.warnings() {
            warn!("{id}: {finding}");
        }
        if report.failures().next().is_some() {
            return Err(selfcheck::not_ready(id, report.failures()));
        }
        states.require_unchanged()?; // tokenizer and weights are of one state
        let max_batch_tokens = model.known_batch_budget(prepared.weight_files(), cache.root());
        let weight_files = prepared.weight_files().map(Path::to_owned).collect();
        let width = model.dimensions();
        let mut allowed = prepared.trained_dimensions;
        allowed.retain(|size| (1..width).contains(size));
        allowed.push(width);
        allowed.sort_unstable_by(|a, b| b.cmp(a));
        allowed.dedup();
        let info = ModelInfo {
            id: id.to_owned(),
            dimensions: width,
            allowed_dimensions: allowed,
            max_sequence_length: prepared.limit,
            tasks: text.tasks().map(str::to_owned).collect(),
            dtype: model.precision().name().to_owned(),
        };
        Ok(Self {
            model,
            text,
            norm_before_cut: prepared.norm_before_cut,
            max_batch_tokens,
            weight_files,
            limit: prepared.limit,
            cache,
            info,
        })
    }

    /// Most tokens of a batch: as measured before, or the smallest size.
    pub fn max_batch_tokens(&self) -> usize {
        self.max_batch_tokens.unwrap_or(BATCH_BUDGETS[0])
    }

    /// Whether an earlier process has measured [`Self::max_batch_tokens`].
    pub fn is_measured(&self) -> bool {
        self.max_batch_tokens.is_some()
    }

    /// Measures the most tokens that a batch should have on this machine.
    pub fn measure(&self, stop: &AtomicBool) -> embergem_core::Result<usize> {
        let files = self.weight_files.iter().map(PathBuf::as_path);
        self.model.batch_budget(files, self.limit, self.cache.root(), stop)
    }

    /// Token ids of every input of a request, in order.
    pub fn prepare(&self, request: &EmbeddingRequest) -> Result<Vec<Row>> {
        let inputs = &request.inputs;
        let titled = inputs
            .iter()
            .any(|input| matches!(input, EmbeddingRequestInput::Document { .. }));
        let prompt = self.text.prompt(request.task.as_deref(), titled)?;
        let bytes = inputs.iter().map(|input| match input {
            EmbeddingRequestInput::Prompt(text) => text.len(),
            EmbeddingRequestInput::Document { title, text } => title.len() + text.len(),
            EmbeddingRequestInput::Tokens(_) => 0,
        });
        let truncate = request.truncate_sequence;
        let overlong = if truncate { Overlong::Cut } else { Overlong::Refuse };
        let rows = map_in_parallel(inputs.len(), bytes.sum(), |index| match &inputs[index] {
            EmbeddingRequestInput::Prompt(text) => self.text.prepare_one(index, text, prompt, None, overlong),
            EmbeddingRequestInput::Document { title, text } => {
                self.text.prepare_one(index, text, prompt, Some(title), overlong)
            }
            EmbeddingRequestInput::Tokens(tokens) => {
                let ids: Vec<i64> = tokens.iter().copied().map(i64::from).collect();
                self.text.check_ids(index, &ids, truncate)
            }
        })?;
        Ok(rows)
    }

    /// The size of the vectors of a request.
    ///
    /// # Errors
    /// [`Error::InvalidDimensions`] for a size that the model was not trained for.
    pub fn dimensions(&self, wanted: Option<usize>) -> Result<usize> {
        match wanted {
            None => Ok(self.info.dimensions),
            Some(size) if self.info.allowed_dimensions.contains(&size) => Ok(size),
            Some(size) => Err(Error::InvalidDimensions(format!(
                "dimensions={size} is not possible with {}. Choose one of: {}.",
                self.info.id,
                describe_sizes(&self.info.allowed_dimensions)
            ))),
        }
    }

    /// The vectors of packed rows, or none if `stop` was set. The row numbers in errors are those of the batch.
    pub fn run(
        &self,
        ids: &[u32],
        cu_seqlens: &[u32],
        lane: Lane,
        stop: &AtomicBool,
    ) -> embergem_core::Result<Option<Vec<f32>>> {
        let mut run = self.model.start(ids, cu_seqlens)?.in_lane(lane);
        match run.advance(Pool::global(), stop) {
            Progress::Done => Ok(Some(run.vectors()?)),
            Progress::Stopped => Ok(None),
        }
    }

    /// Vectors shortened to `size` numbers.
    pub fn cut(&self, vectors: Vec<f32>, size: usize) -> Vec<f32> {
        if size == self.info.dimensions {
            return vectors;
        }
        embergem_core::truncate_dimensions(&vectors, self.info.dimensions, size, self.norm_before_cut)
    }
}

/// Lists sizes, largest first. A long range is described by its ends.
fn describe_sizes(sizes: &[usize]) -> String {
    let (largest, smallest) = (sizes[0], sizes[sizes.len() - 1]);
    if sizes.len() > 16 && largest - smallest == sizes.len() - 1 {
        return format!("{smallest} to {largest}");
    }
    let sizes: Vec<_> = sizes.iter().map(usize::to_string).collect();
    sizes.join(", ")
}

/// Reads the tokenizer and the prompts.
pub(crate) fn load_text(prepared: &Prepared, cache: &Cache) -> Result<Pipeline> {
    let tables = cache.tables();
    let options = embergem_text::Options {
        limit: prepared.limit,
        vocab_size: prepared.vocab_size,
        prompts: prepared.prompts.as_deref(),
        builtin_prompts: prepared.builtin_prompts.as_deref(),
        bare: prepared.bare,
        keep_unknown: prepared.keep_unknown,
        cache: tables.as_deref(),
    };
    Ok(Pipeline::load(&prepared.tokenizer, options)?)
}

/// Loads the weights; returns the model and the least cosine of its vectors to those in float32.
pub(crate) fn load_model(prepared: &Prepared, cache: &Cache, options: &LoadOptions) -> Result<(Model, f64)> {
    let files = files(prepared);
    embergem_core::require_all_read(&prepared.program, files.iter().copied())?;
    let options = Options {
        threads: options.threads,
        notes: cache.root(),
        precision: options.dtype.precision(),
        packed: cache.packed(),
        ..Options::default()
    };
    let model = Model::load(&prepared.program, files.iter().copied(), options)?;
    if model.precision() == Precision::Float32 {
        return Ok((model, 1.0));
    }
    let cosine = model.least_cosine(&prepared.program, &files, cache.root(), None)?;
    Ok((model, cosine))
}

/// The prefix of the tensor names and the path of each weight file.
fn files(prepared: &Prepared) -> Vec<(&str, &Path)> {
    let files = prepared.weights.iter();
    files.map(|(prefix, path)| (prefix.as_str(), path.as_path())).collect()
}

/// The name of the model's vector space.
fn fingerprint(prepared: &Prepared, cache: &Cache) -> Result<String> {
    let files = files(prepared);
    let digest = || Ok(embergem_text::tokenizer_digest(&prepared.tokenizer)?);
    embergem_core::fingerprint(&prepared.program, &files, &prepared.tokenizer, digest, cache.root())
}

pub(crate) fn context<'a>(
    prepared: &'a Prepared,
    location: &'a Location,
    model: &'a Model,
    text: &'a Pipeline,
    cosine: f64,
    run: &'a selfcheck::Run<'a>,
) -> selfcheck::Context<'a> {
    let dtype = model.precision().name();
    selfcheck::Context {
        run,
        text,
        model_type: &prepared.model_type,
        special_tokens: &prepared.special_tokens,
        config: prepared.config.as_ref(),
        head: prepared.head.as_deref(),
        limit: prepared.limit,
        dimensions: model.dimensions(),
        dtype,
        cosine,
        entry: prepared.entry,
        base: prepared.base,
        files: prepared.files().collect(),
        variant: vec![
            model.digest.clone(),
            dtype.to_owned(),
            model.instruction_set().to_owned(),
            prepared.limit.to_string(),
            prepared.prompts.clone().unwrap_or_default(),
        ],
        name: &location.id,
        hub_id: prepared.hub_id.as_deref(),
    }
}

/// The vectors of rows of ids, in one batch.
pub(crate) fn run_rows(model: &Model, rows: &[Vec<u32>]) -> Result<Vec<Vec<f32>>> {
    let (ids, cu_seqlens) = pack(rows.iter().map(Vec::as_slice));
    let vectors = run(model, &ids, &cu_seqlens)?;
    Ok(vectors.chunks_exact(model.dimensions()).map(<[f32]>::to_vec).collect())
}

fn run(model: &Model, ids: &[u32], cu_seqlens: &[u32]) -> embergem_core::Result<Vec<f32>> {
    let mut run = model.start(ids, cu_seqlens)?;
    run.advance(Pool::global(), &AtomicBool::new(false));
    run.vectors()
}

/// Rows of ids as one batch: all ids, and the offsets between the rows.
pub(crate) fn pack<'a>(rows: impl IntoIterator<Item = &'a [u32]>) -> (Vec<u32>, Vec<u32>) {
    let (mut ids, mut cu_seqlens) = (Vec::new(), vec![0]);
    for row in rows {
        ids.extend_from_slice(row);
        cu_seqlens.push(ids.len() as u32);
    }
    (ids, cu_seqlens)
}
