//! The tokenizer of a model, read from tokenizer.json by [`loading`].

mod loading;

use crate::pieces::{Boundaries, PIECE, pieces};
use crate::plain::{Encoder, Plain, Words};
use crate::sink::{Sink, Stopped, Wanted};
use crate::tables::model::TableModel;
use loading::LibraryOf;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::AtomicBool;
use tokenizers::Tokenizer as Library;

/// Bytes of text for one token, a few more than in most texts; the first piece of a text that is cut has no more.
const BYTES_PER_TOKEN: usize = 6;

/// Fewest bytes of the first piece of a text.
const FIRST_PIECE: usize = 1024;

/// Converts texts to token ids, with the special tokens around them.
pub(crate) struct Tokenizer {
    library: LibraryOf,
    /// Special tokens before a text.
    prefix: Vec<u32>,
    /// Special tokens after a text.
    suffix: Vec<u32>,
    /// Truncation keeps the end of a text instead of its beginning.
    truncate_left: bool,
    /// The unknown token.
    unknown: Option<u32>,
    /// A token that is removed from every row; see [`Tokenizer::bare`].
    removed: Option<u32>,
    /// Most characters that one token can cover; see [`max_chars_per_token`].
    pub max_chars_per_token: Option<usize>,
    /// Where a long text may be cut; `None` if it is encoded whole.
    boundaries: Option<Boundaries>,
    /// Encodes texts of more than one piece, and all texts if there are tables; `None` if the library does.
    plain: Option<Plain>,
    /// The model in tables, with which [`Self::plain`] encodes; `None` if it is only in the library.
    tables: Option<TableModel>,
}

/// What encodes a text.
enum Way<'a> {
    Plain(Encoder<'a>),
    Library(&'a Library),
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
    /// Configures the tokenizer for a model that averages the tokens of its table: there are no special tokens, and
    /// unknown tokens are removed (Model2Vec) or kept (StaticEmbedding). Model2Vec keeps the beginning of a long text,
    /// whatever the file says.
    pub fn bare(mut self, keep_unknown: bool) -> Self {
        self.prefix.clear();
        self.suffix.clear();
        if !keep_unknown {
            self.truncate_left = false;
            self.removed = self.unknown;
        }
        self
    }

    /// Returns the tokenizer of the library. The first call may build it, which takes about a second for Gemma.
    ///
    /// # Errors
    /// [`crate::Error::Corrupt`] if the file changed since the tokenizer was read.
    pub fn library(&self) -> crate::Result<&Library> {
        self.library.get()
    }

    /// Returns whether [`Self::library`] was built.
    pub fn has_library(&self) -> bool {
        self.library.is_built()
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
        let mut way = match (&self.plain, &self.tables) {
            (Some(plain), Some(tables)) => Way::Plain(plain.encoder(Words::Tables(tables))),
            (plain, _) => {
                let library = self.library().map_err(|error| error.to_string())?;
                match plain {
                    Some(plain) if text.len() > first => Way::Plain(plain.encoder(Words::Library(library.get_model()))),
                    _ => Way::Library(library),
                }
            }
        };
        for piece in pieces(self.boundaries.as_ref(), head, text, first) {
            match &mut way {
                Way::Plain(plain) => catch_panics(|| plain.encode(&piece.text, piece.continues, sink))?,
                Way::Library(library) => {
                    let encoding = catch_panics(|| {
                        let encoding = library.encode_fast(&*piece.text, false);
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

    /// Returns the text of the token `id`; `None` if the vocabulary does not have it. Looks through the whole vocabulary.
    pub fn token(&self, id: u32) -> Option<String> {
        let (Some(plain), Some(tables)) = (&self.plain, &self.tables) else {
            return self.library().ok()?.id_to_token(id);
        };
        let in_model = || {
            let mut tokens = tables.tables.vocabulary.iter();
            tokens.find(|(_, own)| *own == id).map(|(token, _)| token)
        };
        plain.added().content(id).or_else(in_model).map(str::to_owned)
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
