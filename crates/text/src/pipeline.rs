//! Prompts, tokenizer and limit of one model.

use crate::prompts::Prompts;
use crate::sink::Stopped;
use crate::tokenizer::{Overlong, Tokenizer, catch_panics};
use crate::{Aligned, Error, InputError, Result, Template};
use std::borrow::Cow;
use std::path::Path;
use std::sync::atomic::AtomicBool;

/// Options of [`Pipeline::load`]: what a model declares about its texts besides its tokenizer.
#[derive(Debug, Clone, Copy)]
pub struct Options<'a> {
    /// Most tokens of an input.
    pub limit: usize,
    /// Rows of the embedding table. The tokenizer's vocabulary may have another size.
    pub vocab_size: u32,
    /// Content of config_sentence_transformers.json.
    pub prompts: Option<&'a str>,
    /// Name of a built-in prompt set, for tasks that the checkpoint's own prompts do not name.
    pub builtin_prompts: Option<&'a str>,
    /// Whether the model averages the tokens of its table (Model2Vec): there are no special tokens, and unknown tokens
    /// are removed, so that a row may be empty.
    pub bare: bool,
    /// Whether a `bare` model keeps unknown tokens (StaticEmbedding of sentence-transformers).
    pub keep_unknown: bool,
    /// Directory in which a tokenizer.json is stored in a form that is faster to read; `None` stores nothing.
    pub cache: Option<&'a Path>,
}

/// One tokenized input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// The ids that the model reads.
    pub ids: Vec<u32>,
    /// Tokens of the input before truncation, special ones included; a number between the limit and this one if the text
    /// was cut and not counted.
    pub length: usize,
}

/// Tokenizes the inputs of one model. Threads may share it.
pub struct Pipeline {
    tokenizer: Tokenizer,
    prompts: Prompts,
    limit: usize,
    vocab_size: u32,
}

impl Pipeline {
    /// Reads a tokenizer.json and the prompts.
    ///
    /// # Errors
    /// [`Error::Corrupt`] for a file that cannot be read, [`Error::Unsupported`] for a limit that leaves no room for a
    /// text.
    pub fn load(tokenizer: &Path, options: Options<'_>) -> Result<Self> {
        let corrupt = |reason| Error::Corrupt {
            path: tokenizer.to_owned(),
            reason,
        };
        let read = Tokenizer::load(tokenizer, options.cache).map_err(corrupt)?;
        let tokenizer_read = if options.bare {
            read.bare(options.keep_unknown)
        } else {
            read
        };
        let prompts = Prompts::new(options.prompts, options.builtin_prompts).map_err(|reason| Error::Corrupt {
            path: tokenizer.with_file_name("config_sentence_transformers.json"),
            reason,
        })?;
        if options.limit <= tokenizer_read.special() || options.vocab_size == 0 {
            return Err(Error::Unsupported(format!(
                "a limit of {} tokens with a table of {} rows leaves no room for a text beside its {} special tokens. \
                 Set max_seq_length in sentence_bert_config.json to a larger number.",
                options.limit,
                options.vocab_size,
                tokenizer_read.special()
            )));
        }
        Ok(Self {
            tokenizer: tokenizer_read,
            prompts,
            limit: options.limit,
            vocab_size: options.vocab_size,
        })
    }

    /// Returns whether the tokenizers library has read the tokenizer. If not, the first call of [`Self::align`] or
    /// [`Self::detokenize`] lets it read tokenizer.json, which takes memory and, for Gemma, about a second.
    pub fn has_library(&self) -> bool {
        self.tokenizer.has_library()
    }

    /// Returns the accepted task names, sorted; none for a model without prompts.
    pub fn tasks(&self) -> impl Iterator<Item = &str> {
        self.prompts.names()
    }

    /// Returns the most characters that one token can cover; `None` if the tokenizer has no bound.
    pub fn max_chars_per_token(&self) -> Option<usize> {
        self.tokenizer.max_chars_per_token
    }

    /// Returns the template of a task; `None` if texts are used unchanged. `titled` says whether any text has a title.
    ///
    /// # Errors
    /// [`Error::Task`] for a task or a title that this model does not support.
    pub fn prompt(&self, task: Option<&str>, titled: bool) -> Result<Option<&Template>> {
        self.prompts.choose(task, titled)
    }

    /// Tokenizes one text; `index` is its index in the request, for errors.
    ///
    /// Truncation keeps the special tokens, as sentence-transformers does. With [`Overlong::Refuse`], a text whose
    /// characters alone show that it is too long is refused before it is tokenized, and a long text as soon as its tokens
    /// exceed the limit.
    ///
    /// # Errors
    /// [`Error::Input`] with [`InputError::TooLong`]; with [`InputError::OutOfRange`] for a text with a token that has
    /// no row in the table; with [`InputError::Tokenize`] or [`InputError::OutOfMemory`] if the tokenizer fails.
    pub fn prepare_one(
        &self,
        index: usize,
        text: &str,
        prompt: Option<&Template>,
        title: Option<&str>,
        overlong: Overlong,
    ) -> Result<Row> {
        self.prepare_unless(&AtomicBool::new(false), index, text, prompt, title, overlong)
    }

    /// Like [`Self::prepare_one`], and stops as soon as `cancelled` is set.
    ///
    /// # Errors
    /// [`Error::Cancelled`] if `cancelled` is set, and those of [`Self::prepare_one`].
    pub fn prepare_unless(
        &self,
        cancelled: &AtomicBool,
        index: usize,
        text: &str,
        prompt: Option<&Template>,
        title: Option<&str>,
        overlong: Overlong,
    ) -> Result<Row> {
        let head = prompt.map_or_else(Cow::default, |template| template.head(title));
        if overlong == Overlong::Refuse {
            self.refuse_by_length(index, &head, text)?;
        }
        let encoded = match self.tokenizer.encode(&head, text, self.limit, overlong, cancelled) {
            Ok(encoded) => encoded,
            Err(Stopped::Failed(reason)) => return Err(at(index, InputError::from_library(reason))),
            Err(_) => return Err(Error::Cancelled),
        };
        if overlong == Overlong::Refuse && encoded.length > self.limit {
            return Err(self.too_long(index, encoded.length, !encoded.complete));
        }
        let ids = encoded.ids;
        if let Some(id) = ids.iter().copied().find(|id| *id >= self.vocab_size) {
            let problem = InputError::OutOfRange {
                what: format!(
                    "contains the token {:?}, whose id {id}",
                    self.tokenizer.token(id).unwrap_or_default()
                ),
                size: self.vocab_size,
                advice: "Remove these characters from the text.",
            };
            return Err(at(index, problem));
        }
        Ok(Row {
            ids,
            length: encoded.length,
        })
    }

    /// Returns one text with its prompt, and all its tokens with their positions; `index` is its index in the request,
    /// for errors. The ids of the tokens that are kept are those of [`Self::prepare_one`].
    ///
    /// The caller bounds the text: this takes up to 570 bytes of memory for each of its bytes.
    ///
    /// # Errors
    /// [`Error::Input`] with [`InputError::Tokenize`] or [`InputError::OutOfMemory`] if the tokenizer fails.
    /// [`Error::Corrupt`] if [`Self::has_library`] is false and the tokenizer.json changed since it was read.
    pub fn align(&self, index: usize, text: &str, prompt: Option<&Template>, title: Option<&str>) -> Result<Aligned> {
        let library = self.tokenizer.library()?;
        let aligned = Aligned::new(&self.tokenizer, library, text, prompt, title, self.limit);
        aligned.map_err(|reason| at(index, InputError::from_library(reason)))
    }

    /// Checks the token ids of one input; the model reads them as they are, without special tokens.
    ///
    /// # Errors
    /// [`Error::Input`] with [`InputError::Empty`], with [`InputError::OutOfRange`], or with [`InputError::TooLong`]
    /// unless `truncate` is set, which keeps the first ids.
    pub fn check_ids(&self, index: usize, ids: &[i64], truncate: bool) -> Result<Row> {
        if ids.is_empty() {
            return Err(at(index, InputError::Empty));
        }
        let mut row = Vec::with_capacity(ids.len());
        for (position, id) in ids.iter().enumerate() {
            match u32::try_from(*id) {
                Ok(id) if id < self.vocab_size => row.push(id),
                _ => return Err(self.out_of_range(index, position, id)),
            }
        }
        if row.len() > self.limit {
            if !truncate {
                return Err(self.too_long(index, row.len(), false));
            }
            row.truncate(self.limit);
        }
        Ok(Row {
            ids: row,
            length: ids.len(),
        })
    }

    /// Returns all ids of `text` without a prompt and without truncation, with the special tokens if `special`.
    ///
    /// # Errors
    /// [`Error::Input`] with [`InputError::Tokenize`] or [`InputError::OutOfMemory`] if the tokenizer fails.
    pub fn tokenize(&self, text: &str, special: bool) -> Result<Vec<u32>> {
        let ids = self.tokenizer.ids(text);
        let ids = ids.map_err(|reason| at(0, InputError::from_library(reason)))?;
        Ok(if special { self.tokenizer.surround(&ids) } else { ids })
    }

    /// Returns the text of `ids`, without special tokens if `skip_special`.
    ///
    /// # Errors
    /// [`Error::Input`] with [`InputError::OutOfRange`] for an id that the tokenizer does not have, or with
    /// [`InputError::Tokenize`] or [`InputError::OutOfMemory`] if the tokenizer fails. [`Error::Corrupt`] as for
    /// [`Self::align`].
    pub fn detokenize(&self, ids: &[i64], skip_special: bool) -> Result<String> {
        let library = self.tokenizer.library()?;
        let mut known = Vec::with_capacity(ids.len());
        for (position, id) in ids.iter().enumerate() {
            match u32::try_from(*id) {
                Ok(number) if library.id_to_token(number).is_some() => known.push(number),
                _ => return Err(self.out_of_range(0, position, id)),
            }
        }
        let text = catch_panics(|| {
            let text = library.decode(&known, skip_special);
            text.map_err(|error| error.to_string())
        });
        text.map_err(|reason| at(0, InputError::from_library(reason)))
    }

    /// Returns the error for an `id` that has no row in the table. `id` may be a number of any type or its text.
    pub fn out_of_range(&self, index: usize, position: usize, id: impl std::fmt::Display) -> Error {
        let problem = InputError::OutOfRange {
            what: format!("has the token id {id} at position {position}, which"),
            size: self.vocab_size,
            advice: "Make the ids with this model's own tokenizer.",
        };
        at(index, problem)
    }

    /// Refuses a text that must have too many tokens because of its number of characters, before it is tokenized.
    fn refuse_by_length(&self, index: usize, head: &str, text: &str) -> Result<()> {
        let Some(bound) = self.tokenizer.max_chars_per_token else {
            return Ok(());
        };
        // Counting characters reads the whole text, so a text whose bytes already fit is not counted.
        let room = self.limit - self.tokenizer.special();
        if (head.len() + text.len()).div_ceil(bound) <= room {
            return Ok(());
        }
        let min_tokens = (head.chars().count() + text.chars().count()).div_ceil(bound);
        if min_tokens <= room {
            return Ok(());
        }
        Err(self.too_long(index, min_tokens + self.tokenizer.special(), true))
    }

    fn too_long(&self, index: usize, length: usize, at_least: bool) -> Error {
        let problem = InputError::TooLong {
            length,
            at_least,
            limit: self.limit,
        };
        at(index, problem)
    }
}

/// Returns the error of the input `index`.
fn at(index: usize, problem: InputError) -> Error {
    Error::Input { index, problem }
}
