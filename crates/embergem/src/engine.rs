//! One loaded model: text pipeline, executor and what it offers.

use crate::error::{Error, Result};
use crate::kept::Kept;
use crate::request::{EmbeddingRequest, EmbeddingRequestInput};
use crate::resolve::Location;
use crate::settings::Settings;
use crate::source::Source;
use embergem_core::{Lane, Model, Options, Pool, Precision, Progress};
use embergem_text::{Pipeline, Row, map_in_parallel};
use std::sync::atomic::AtomicBool;
use std::thread;

/// To the stored vectors of a compiled model, in the arithmetic that they were made in.
const LEAST_COSINE: f64 = 0.99999;
/// In others: machines and arithmetics round differently, damage is far below.
const OTHERWISE: f64 = 0.99;

/// What a model offers.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ModelInfo {
    /// The name it is known by: its hub id, or the last part of its directory; its alias, where another model has that.
    pub id: String,
    /// Full width of its vectors.
    pub dimensions: usize,
    /// Sizes that [`crate::EmbeddingRequestBuilder::with_dimensions`] may ask for, largest first.
    pub allowed_dimensions: Vec<usize>,
    /// Most tokens of one input, special tokens included.
    pub max_sequence_length: usize,
    /// Names that [`crate::EmbeddingRequestBuilder::with_task`] may have; none for a model without prompts.
    pub tasks: Vec<String>,
    /// Arithmetic of the large products, such as `float32`.
    pub dtype: String,
}

/// A model in memory.
pub(crate) struct Engine {
    model: Model,
    text: Pipeline,
    norm_before_cut: bool,
    /// What it offers.
    pub info: ModelInfo,
}

impl Engine {
    /// Loads the checkpoint at `location`, to be known as `id`; the tokenizer is read beside the weights.
    pub fn load(id: &str, location: &Location, settings: &Settings) -> Result<Self> {
        let source = Source::read(&location.id, &location.path)?;
        if let Some(wanted) = settings.loader_type
            && wanted.model_type() != source.model_type
        {
            return Err(Error::UnsupportedModel(format!(
                "{id} is of the family {:?}, not {wanted:?}; leave out with_loader_type",
                source.model_type
            )));
        }
        let text = || {
            let tokenizer = settings.tokenizer_json.as_ref().unwrap_or(&source.tokenizer);
            let options = embergem_text::Options {
                limit: source.limit,
                vocab_size: source.vocab_size,
                prompts: source.prompts.as_deref(),
                builtin_prompts: source.builtin_prompts.as_deref(),
                bare: source.bare,
            };
            Pipeline::load(tokenizer, options)
        };
        let files = source
            .weights
            .iter()
            .map(|(prefix, path)| (prefix.as_str(), path.as_path()));
        let kept = Kept::of(&source)?;
        let options = Options {
            threads: settings.threads,
            scan: !kept.scanned(),
            precision: settings.dtype.precision(),
            packed: kept.packed(),
            ..Options::default()
        };
        let (text, model) = thread::scope(|scope| {
            let text = scope.spawn(text);
            let model = Model::load(&source.program, files, options);
            (text.join(), model)
        });
        let text = text.unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        let model = model?;
        if options.scan {
            kept.remember();
        }
        let width = model.dimensions();
        if let Some(declared) = source.dimensions.filter(|declared| *declared != width) {
            return Err(Error::CorruptCheckpoint(format!(
                "{} says that its vectors have {declared} dimensions, and its program makes {width}: one of its files is \
                 from another model. Compile it again",
                location.path.display()
            )));
        }
        let mut allowed: Vec<usize> = source
            .smaller
            .into_iter()
            .filter(|size| (1..width).contains(size))
            .collect();
        allowed.push(width);
        allowed.sort_unstable_by(|a, b| b.cmp(a));
        allowed.dedup();
        let info = ModelInfo {
            id: id.to_owned(),
            dimensions: width,
            allowed_dimensions: allowed,
            max_sequence_length: source.limit,
            tasks: text.tasks().map(str::to_owned).collect(),
            dtype: model.precision().name().to_owned(),
        };
        let engine = Self {
            model,
            text,
            norm_before_cut: source.norm_before_cut,
            info,
        };
        if let Some(golden) = source.golden {
            let least = if engine.model.precision() == Precision::Float32 {
                LEAST_COSINE
            } else {
                OTHERWISE
            };
            golden.check(least, |ids, ends| {
                let vectors = engine.run(ids, ends, Lane::Bulk, &AtomicBool::new(false))?;
                Ok(vectors.unwrap_or_default())
            })?;
        }
        Ok(engine)
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
        let rows = map_in_parallel(inputs.len(), bytes.sum(), |index| match &inputs[index] {
            EmbeddingRequestInput::Prompt(text) => self.text.prepare_one(index, text, prompt, None, truncate),
            EmbeddingRequestInput::Document { title, text } => {
                self.text.prepare_one(index, text, prompt, Some(title), truncate)
            }
            EmbeddingRequestInput::Tokens(tokens) => {
                let ids: Vec<i64> = tokens.iter().copied().map(i64::from).collect();
                self.text.check_ids(index, &ids, truncate)
            }
        })?;
        Ok(rows)
    }

    /// The size of the vectors that a request asks for.
    pub fn dimensions(&self, wanted: Option<usize>) -> Result<usize> {
        match wanted {
            None => Ok(self.info.dimensions),
            Some(size) if self.info.allowed_dimensions.contains(&size) => Ok(size),
            Some(size) => Err(Error::InvalidDimensions(format!(
                "{size} dimensions are not possible with {}, which allows: {}",
                self.info.id,
                in_words(&self.info.allowed_dimensions)
            ))),
        }
    }

    /// The vectors of packed rows, or none when `stop` was set. The core's errors count these rows, not a request's.
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

    /// Vectors cut to `size`; without a copy where that is their own size.
    pub fn cut(&self, vectors: Vec<f32>, size: usize) -> Vec<f32> {
        if size == self.info.dimensions {
            return vectors;
        }
        embergem_core::truncate_dimensions(&vectors, self.info.dimensions, size, self.norm_before_cut)
    }
}

/// Sizes for an error, largest first; a long run of neighbours by its ends.
fn in_words(sizes: &[usize]) -> String {
    let (largest, smallest) = (sizes[0], sizes[sizes.len() - 1]);
    if sizes.len() > 16 && largest - smallest == sizes.len() - 1 {
        return format!("{smallest} to {largest}");
    }
    let sizes: Vec<_> = sizes.iter().map(usize::to_string).collect();
    sizes.join(", ")
}
