//! A tokenizer.json, read for encoding alone.
//!
//! The file's own truncation and padding are left out: the limit is the model's, and nothing is ever padded. The parts
//! are handed to the `tokenizers` library one by one, the model straight from its text: through the library's own
//! entry the 33 MB of Gemma's file pass three intermediate trees.

use crate::bpe;
use crate::token_length::max_chars_per_token;
use serde::Deserialize;
use serde_json::value::RawValue;
use std::panic::{AssertUnwindSafe, catch_unwind};
use tokenizers::{
    AddedToken, DecoderWrapper, Encoding, ModelWrapper, NormalizerWrapper, PostProcessorWrapper, PreTokenizerWrapper,
    Token, Tokenizer as Library,
};

/// An id that no vocabulary has; marks the place of the text between the special tokens.
const PLACEHOLDER: u32 = u32::MAX;

#[derive(Deserialize)]
struct File<'a> {
    #[serde(borrow)]
    model: &'a RawValue,
    #[serde(default)]
    normalizer: Option<NormalizerWrapper>,
    #[serde(default)]
    pre_tokenizer: Option<PreTokenizerWrapper>,
    #[serde(default)]
    post_processor: Option<PostProcessorWrapper>,
    #[serde(default)]
    decoder: Option<DecoderWrapper>,
    #[serde(default)]
    added_tokens: Vec<AddedToken>,
    #[serde(default)]
    truncation: Option<Truncation>,
}

impl File<'_> {
    /// The model, as the kind it names (the library guesses the kind of one that names none), and the bound of
    /// [`max_chars_per_token`].
    fn read_model(&self) -> Result<(ModelWrapper, Option<usize>), String> {
        let json = self.model.get();
        let kind: Kind = serde_json::from_str(json).map_err(|error| format!("model: {error}"))?;
        if kind.r#type.as_deref() != Some("BPE") {
            let model = serde_json::from_str(json).map_err(|error| format!("model: {error}"))?;
            return Ok((model, None));
        }
        let read = bpe::read(json).map_err(|reason| format!("model: {reason}"))?;
        let (normalizer, pre_tokenizer) = (self.normalizer.as_ref(), self.pre_tokenizer.as_ref());
        let bound = max_chars_per_token(&read, normalizer, pre_tokenizer, &self.added_tokens);
        Ok((read.model.into(), bound))
    }
}

#[derive(Deserialize)]
struct Truncation {
    direction: Option<String>,
}

#[derive(Deserialize)]
struct Kind {
    r#type: Option<String>,
    unk_id: Option<u32>,
}

/// Text to ids, and the special tokens around them.
pub(crate) struct Tokenizer {
    library: Library,
    before: Vec<u32>,
    after: Vec<u32>,
    keeps_end: bool,
    /// Left out of every row; see [`Tokenizer::bare`].
    dropped: Option<u32>,
    /// See [`max_chars_per_token`].
    pub max_chars_per_token: Option<usize>,
}

impl Tokenizer {
    /// Reads the text of a tokenizer.json. `Err` holds the reason.
    pub fn new(json: &str) -> Result<Self, String> {
        guarded(|| Self::read(json))
    }

    fn read(json: &str) -> Result<Self, String> {
        let file: File<'_> = serde_json::from_str(json).map_err(|error| error.to_string())?;
        let (mut model, bound) = file.read_model()?;
        if let ModelWrapper::BPE(bpe) = &model
            && bpe.dropout.is_some_and(|share| share > 0.0)
        {
            return Err("its BPE model drops merges at random, so a text would have no fixed ids".to_owned());
        }
        if bound.is_some() {
            // Such a model sees whole texts, not words: the library would keep thousands of them and never meet one
            // again.
            model.resize_cache(0);
        }
        let mut library = Library::new(model);
        library
            .with_normalizer(file.normalizer)
            .map_err(|error| error.to_string())?
            .with_pre_tokenizer(file.pre_tokenizer)
            .with_post_processor(file.post_processor)
            .with_decoder(file.decoder)
            .add_tokens(file.added_tokens)
            .map_err(|error| error.to_string())?;
        let (before, after) = special_tokens(&library)?;
        let left = file
            .truncation
            .and_then(|own| own.direction)
            .is_some_and(|side| side == "Left");
        Ok(Self {
            library,
            before,
            after,
            keeps_end: left,
            dropped: None,
            max_chars_per_token: bound,
        })
    }

    /// The same tokenizer for a model that averages the tokens it knows (Model2Vec): nothing is put around a text, and
    /// tokens that stand for the unknown are left out. `json` is the text it was read from.
    pub fn bare(mut self, json: &str) -> Result<Self, String> {
        self.before.clear();
        self.after.clear();
        self.dropped = match self.library.get_model() {
            ModelWrapper::WordPiece(model) => self.library.token_to_id(&model.unk_token),
            ModelWrapper::WordLevel(model) => self.library.token_to_id(&model.unk_token),
            ModelWrapper::BPE(model) => {
                let unknown = model.unk_token.as_deref();
                unknown.and_then(|token| self.library.token_to_id(token))
            }
            ModelWrapper::Unigram(_) => {
                let file: File<'_> = serde_json::from_str(json).map_err(|error| error.to_string())?;
                let kind: Kind = serde_json::from_str(file.model.get()).map_err(|error| format!("model: {error}"))?;
                kind.unk_id
            }
        };
        Ok(self)
    }

    /// Special tokens that every text gets.
    pub fn special(&self) -> usize {
        self.before.len() + self.after.len()
    }

    /// The ids of `text` between its special tokens, cut so that the row has at most `limit`, and the row's length
    /// before that cut. The special tokens always stay. Unknown tokens that are left out count for the cut alone.
    pub fn encode(&self, text: &str, limit: usize) -> Result<(Vec<u32>, usize), String> {
        let ids = self.ids(text)?;
        let length = ids.len() + self.special();
        let kept = ids.len().min(limit.saturating_sub(self.special()));
        let ids = if self.keeps_end {
            &ids[ids.len() - kept..]
        } else {
            &ids[..kept]
        };
        let mut row = self.surround(ids);
        let Some(unknown) = self.dropped else {
            return Ok((row, length));
        };
        let cut = length - row.len();
        row.retain(|id| *id != unknown);
        let read = row.len();
        Ok((row, read + cut))
    }

    /// All ids of `text`, without special tokens.
    pub fn ids(&self, text: &str) -> Result<Vec<u32>, String> {
        let encoding = guarded(|| self.library.encode_fast(text, false).map_err(|error| error.to_string()))?;
        Ok(encoding.get_ids().to_vec())
    }

    /// `ids` between the special tokens.
    pub fn surround(&self, ids: &[u32]) -> Vec<u32> {
        [&self.before, ids, &self.after].concat()
    }

    /// The text that `ids` spell.
    pub fn decode(&self, ids: &[u32], skip_special: bool) -> Result<String, String> {
        guarded(|| {
            let text = self.library.decode(ids, skip_special);
            text.map_err(|error| error.to_string())
        })
    }

    /// How the token `id` is written, where there is one.
    pub fn known(&self, id: u32) -> Option<String> {
        self.library.id_to_token(id)
    }

    /// How the token `id` is written.
    pub fn token(&self, id: u32) -> String {
        self.known(id).unwrap_or_default()
    }
}

/// What the post-processor puts before and after a text.
fn special_tokens(library: &Library) -> Result<(Vec<u32>, Vec<u32>), String> {
    let token = Token::new(PLACEHOLDER, String::new(), (0, 0));
    let around = library
        .post_process(Encoding::from_tokens(vec![token], 0), None, true)
        .map_err(|error| error.to_string())?;
    let mut parts = around.get_ids().split(|id| *id == PLACEHOLDER);
    match (parts.next(), parts.next(), parts.next()) {
        (Some(before), Some(after), None) => Ok((before.to_vec(), after.to_vec())),
        _ => Err("its post-processor does not put the text into a row exactly once".to_owned()),
    }
}

/// Runs the library; a panic in it, which a damaged file can cause, becomes an error like any other.
fn guarded<T>(run: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|panic| {
        let reason = panic.downcast_ref::<String>().map(String::as_str);
        let reason = reason.or_else(|| panic.downcast_ref::<&str>().copied());
        Err(format!(
            "the tokenizers library failed: {}",
            reason.unwrap_or("no reason given")
        ))
    })
}
