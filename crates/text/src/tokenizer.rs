//! The tokenizer of a model, read from tokenizer.json.
//!
//! Truncation and padding of the file are not used: the limit belongs to the model, and nothing is padded. The parts
//! are passed to the `tokenizers` library one by one, and the model directly from its text. The library's own entry
//! point would copy the 33 MB of Gemma's file through three intermediate trees.

use crate::bpe;
use crate::pieces::{Boundaries, PIECE, pieces};
use crate::plain::{Plain, merges::Merges};
use crate::sink::{Sink, Stopped, Wanted};
use crate::token_length::max_chars_per_token;
use serde::Deserialize;
use serde_json::value::RawValue;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::AtomicBool;
use tokenizers::{
    AddedToken, DecoderWrapper, Encoding, ModelWrapper, NormalizerWrapper, PostProcessorWrapper, PreTokenizerWrapper,
    Token, Tokenizer as Library,
};

/// Bytes of text for one token, a few more than in most texts; the first piece of a text that is cut has no more.
const BYTES_PER_TOKEN: usize = 6;

/// Fewest bytes of the first piece of a text.
const FIRST_PIECE: usize = 1024;

/// An id that no vocabulary has. It marks the position of the text between the special tokens.
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
    /// Reads the model by the type that it names (the library guesses the type if there is none), and its properties.
    fn read_model(&self) -> Result<(ModelWrapper, Properties), String> {
        let json = self.model.get();
        let header: ModelHeader = serde_json::from_str(json).map_err(|error| format!("model: {error}"))?;
        let (normalizer, pre_tokenizer) = (self.normalizer.as_ref(), self.pre_tokenizer.as_ref());
        let added = &self.added_tokens;
        if header.r#type.as_deref() != Some("BPE") {
            let model = serde_json::from_str(json).map_err(|error| format!("model: {error}"))?;
            let properties = Properties {
                max_chars_per_token: None,
                boundaries: Boundaries::new(None, normalizer, pre_tokenizer, added),
                merges: None,
                unknown: header.unk_id,
            };
            return Ok((model, properties));
        }
        let mut bpe = bpe::read(json).map_err(|reason| format!("model: {reason}"))?;
        let properties = Properties {
            max_chars_per_token: max_chars_per_token(&bpe, normalizer, pre_tokenizer, added),
            boundaries: Boundaries::new(Some(&mut bpe), normalizer, pre_tokenizer, added),
            merges: Merges::new(&bpe),
            unknown: None,
        };
        Ok((bpe.model.into(), properties))
    }
}

/// Properties of a model together with the other parts of the file.
struct Properties {
    max_chars_per_token: Option<usize>,
    boundaries: Option<Boundaries>,
    merges: Option<Merges>,
    /// Id of the unknown token of a Unigram model.
    unknown: Option<u32>,
}

#[derive(Deserialize)]
struct Truncation {
    direction: Option<String>,
}

#[derive(Deserialize)]
struct ModelHeader {
    r#type: Option<String>,
    unk_id: Option<u32>,
}

/// Converts texts to token ids, with the special tokens around them.
pub(crate) struct Tokenizer {
    library: Library,
    /// Special tokens before a text.
    prefix: Vec<u32>,
    /// Special tokens after a text.
    suffix: Vec<u32>,
    /// Truncation keeps the end of a text instead of its beginning.
    truncate_left: bool,
    /// A token that is removed from every row; see [`Tokenizer::bare`].
    removed: Option<u32>,
    /// Most characters that one token can cover; see [`max_chars_per_token`].
    pub max_chars_per_token: Option<usize>,
    /// Where a long text may be cut; `None` if it is encoded whole.
    boundaries: Option<Boundaries>,
    /// Encodes texts of more than one piece; `None` if the library does.
    plain: Option<Plain>,
}

/// The ids of a text between the special tokens, and how many there are.
pub(crate) struct Encoded {
    /// At most as many ids as the limit.
    pub ids: Vec<u32>,
    /// Number of tokens that were read, special ones included.
    pub length: usize,
    /// The whole text was read.
    pub complete: bool,
}

/// What to do with a text that is longer than the limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Overlong {
    /// Return an error.
    Refuse,
    /// Cut it. The text after the limit is not tokenized, so [`crate::Row::length`] is only known to exceed the limit.
    Cut,
    /// Cut it, and count all its tokens.
    Count,
}

impl Tokenizer {
    /// Reads the text of a tokenizer.json. `Err` is the reason why it cannot be read.
    pub fn new(json: &str) -> Result<Self, String> {
        catch_panics(|| Self::read(json))
    }

    fn read(json: &str) -> Result<Self, String> {
        let file: File<'_> = serde_json::from_str(json).map_err(|error| error.to_string())?;
        let (mut model, properties) = file.read_model()?;
        if let ModelWrapper::BPE(bpe) = &model
            && bpe.dropout.is_some_and(|probability| probability > 0.0)
        {
            return Err("its BPE model drops merges at random (dropout), so a text would have no fixed ids. Set dropout to null".to_owned());
        }
        if properties.max_chars_per_token.is_some() {
            // A BPE model without a word-splitting pre-tokenizer gets whole texts. The library would cache thousands of
            // them without a hit.
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
        let (prefix, suffix) = special_tokens(&library)?;
        let plain = Plain::new(&library, properties.merges, properties.unknown);
        let truncate_left = file
            .truncation
            .and_then(|truncation| truncation.direction)
            .is_some_and(|side| side == "Left");
        Ok(Self {
            library,
            prefix,
            suffix,
            truncate_left,
            removed: None,
            max_chars_per_token: properties.max_chars_per_token,
            boundaries: properties.boundaries.filter(|found| !found.edges || plain.is_some()),
            plain,
        })
    }

    /// Configures the tokenizer for a model that averages the tokens of its table: there are no special tokens, and
    /// unknown tokens are removed (Model2Vec) or kept (StaticEmbedding). Model2Vec keeps the beginning of a long text,
    /// whatever the file says. `json` is the text that the tokenizer was read from.
    pub fn bare(mut self, json: &str, keep_unknown: bool) -> Result<Self, String> {
        self.prefix.clear();
        self.suffix.clear();
        if keep_unknown {
            return Ok(self);
        }
        self.truncate_left = false;
        self.removed = match self.library.get_model() {
            ModelWrapper::WordPiece(model) => self.library.token_to_id(&model.unk_token),
            ModelWrapper::WordLevel(model) => self.library.token_to_id(&model.unk_token),
            ModelWrapper::BPE(model) => {
                let unknown = model.unk_token.as_deref();
                unknown.and_then(|token| self.library.token_to_id(token))
            }
            ModelWrapper::Unigram(_) => {
                let file: File<'_> = serde_json::from_str(json).map_err(|error| error.to_string())?;
                let header: ModelHeader =
                    serde_json::from_str(file.model.get()).map_err(|error| format!("model: {error}"))?;
                header.unk_id
            }
        };
        Ok(self)
    }

    /// Returns the tokenizer of the library.
    pub fn library(&self) -> &Library {
        &self.library
    }

    /// Returns the special tokens before and after every text.
    pub fn special_around(&self) -> (&[u32], &[u32]) {
        (&self.prefix, &self.suffix)
    }

    /// Returns which of `count` tokens of a text fit into `limit` beside the special tokens.
    pub fn kept(&self, count: usize, limit: usize) -> Range<usize> {
        let room = limit.saturating_sub(self.special()).min(count);
        if self.truncate_left {
            count - room..count
        } else {
            0..room
        }
    }

    /// Returns whether the model does not read the token `id` of a text; see [`Self::bare`].
    pub fn removes(&self, id: u32) -> bool {
        self.removed == Some(id)
    }

    /// Returns the number of special tokens of every text.
    pub fn special(&self) -> usize {
        self.prefix.len() + self.suffix.len()
    }

    /// Tokenizes `head` followed by `text` and adds the special tokens.
    ///
    /// Truncation keeps the special tokens. Unknown tokens that are removed count towards the limit, but not in the
    /// returned number.
    ///
    /// # Errors
    /// [`Stopped::Cancelled`] as soon as `cancelled` is set, or the reason why the library failed.
    pub fn encode(
        &self,
        head: &str,
        text: &str,
        limit: usize,
        overlong: Overlong,
        cancelled: &AtomicBool,
    ) -> Result<Encoded, Stopped> {
        let room = limit.saturating_sub(self.special());
        let (stop, first) = match overlong {
            Overlong::Refuse => (true, PIECE),
            // The last tokens of a text are only known at its end.
            Overlong::Cut if self.truncate_left => (false, PIECE),
            Overlong::Cut => (true, room.saturating_mul(BYTES_PER_TOKEN).clamp(FIRST_PIECE, PIECE)),
            Overlong::Count => (false, PIECE),
        };
        let wanted = Wanted {
            kept: room,
            last: self.truncate_left,
            stop,
        };
        let mut sink = Sink::new(wanted, cancelled);
        let complete = match self.fill(head, text, first, &mut sink) {
            Ok(()) => true,
            Err(Stopped::Enough) => false,
            Err(stopped) => return Err(stopped),
        };
        let length = sink.count + self.special();
        let mut ids = self.surround(&sink.into_ids());
        let Some(unknown) = self.removed else {
            return Ok(Encoded { ids, length, complete });
        };
        let truncated = length - ids.len();
        ids.retain(|id| *id != unknown);
        let length = ids.len() + truncated;
        Ok(Encoded { ids, length, complete })
    }

    /// Returns all ids of `text`, without special tokens.
    pub fn ids(&self, text: &str) -> Result<Vec<u32>, String> {
        let never = AtomicBool::new(false);
        let mut sink = Sink::new(Wanted::ALL, &never);
        match self.fill("", text, PIECE, &mut sink) {
            Err(Stopped::Failed(reason)) => Err(reason),
            _ => Ok(sink.into_ids()),
        }
    }

    /// Adds the ids of `head` followed by `text` to `sink`, about `first` bytes of `text` at first.
    fn fill(&self, head: &str, text: &str, first: usize, sink: &mut Sink<'_>) -> Result<(), Stopped> {
        // A long title is cut like a text.
        let joined = (head.len() > PIECE).then(|| [head, text].concat());
        let (head, text) = joined.as_ref().map_or((head, text), |joined| ("", joined));
        let plain = self.plain.as_ref().filter(|_| text.len() > first);
        let mut plain = plain.map(|plain| plain.encoder(&self.library));
        for piece in pieces(self.boundaries.as_ref(), head, text, first) {
            match &mut plain {
                Some(plain) => catch_panics(|| plain.encode(&piece.text, piece.continues, sink))?,
                None => {
                    let encoding = catch_panics(|| {
                        let encoding = self.library.encode_fast(&*piece.text, false);
                        encoding.map_err(|error| Stopped::Failed(error.to_string()))
                    })?;
                    sink.extend(encoding.get_ids());
                }
            }
            sink.check()?;
        }
        Ok(())
    }

    /// Returns `ids` between the special tokens.
    pub fn surround(&self, ids: &[u32]) -> Vec<u32> {
        [&self.prefix, ids, &self.suffix].concat()
    }

    /// Returns the text of `ids`.
    pub fn decode(&self, ids: &[u32], skip_special: bool) -> Result<String, String> {
        catch_panics(|| {
            let text = self.library.decode(ids, skip_special);
            text.map_err(|error| error.to_string())
        })
    }

    /// Returns the text of the token `id`; `None` if the vocabulary does not have it.
    pub fn token(&self, id: u32) -> Option<String> {
        self.library.id_to_token(id)
    }
}

/// Returns the special tokens that the post-processor adds before and after a text.
fn special_tokens(library: &Library) -> Result<(Vec<u32>, Vec<u32>), String> {
    let token = Token::new(PLACEHOLDER, String::new(), (0, 0));
    let around = library
        .post_process(Encoding::from_tokens(vec![token], 0), None, true)
        .map_err(|error| error.to_string())?;
    let mut parts = around.get_ids().split(|id| *id == PLACEHOLDER);
    match (parts.next(), parts.next(), parts.next()) {
        (Some(prefix), Some(suffix), None) => Ok((prefix.to_vec(), suffix.to_vec())),
        _ => Err("its post-processor does not use the text exactly once".to_owned()),
    }
}

/// Runs code of the library and turns a panic into an error: a damaged file can cause one.
pub(crate) fn catch_panics<T, E: From<String>>(run: impl FnOnce() -> Result<T, E>) -> Result<T, E> {
    catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|panic| {
        let reason = panic.downcast_ref::<String>().map(String::as_str);
        let reason = reason.or_else(|| panic.downcast_ref::<&str>().copied());
        let reason = reason.unwrap_or("no reason given");
        Err(E::from(format!("the tokenizers library failed: {reason}")))
    })
}
