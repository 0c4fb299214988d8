//! Prompts, tokenizer and limit of one model, put together.

use crate::prompts::Prompts;
use crate::tokenizer::Tokenizer;
use crate::{Error, InputError, Result, Template};
use std::path::Path;

/// What a model says about its texts besides its tokenizer.
#[derive(Debug, Clone, Copy)]
pub struct Options<'a> {
    /// Most tokens that a row may have.
    pub limit: usize,
    /// Rows of the embedding table, which need not be the size of the tokenizer's vocabulary.
    pub vocab_size: u32,
    /// Text of config_sentence_transformers.json.
    pub prompts: Option<&'a str>,
    /// A set of templates shipped here, which fills what the checkpoint does not name.
    pub builtin_prompts: Option<&'a str>,
    /// The model averages the tokens it knows (Model2Vec): no special tokens, and unknown ones are left out, so that a
    /// row may be empty.
    pub bare: bool,
}

/// One tokenized input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// The ids that the model reads.
    pub ids: Vec<u32>,
    /// Tokens that the input had before any cut, special ones included.
    pub length: usize,
}

/// Text to rows of one model. Shared freely between threads.
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
        let json = std::fs::read_to_string(tokenizer).map_err(|error| corrupt(error.to_string()))?;
        let read = Tokenizer::new(&json).and_then(|read| if options.bare { read.bare(&json) } else { Ok(read) });
        let read = read.map_err(corrupt)?;
        let prompts = Prompts::new(options.prompts, options.builtin_prompts).map_err(|reason| Error::Corrupt {
            path: tokenizer.with_file_name("config_sentence_transformers.json"),
            reason,
        })?;
        if options.limit <= read.special() || options.vocab_size == 0 {
            return Err(Error::Unsupported(format!(
                "a limit of {} tokens and a table of {} leave no room for a text beside its {} special tokens. Set \
                 max_seq_length in sentence_bert_config.json.",
                options.limit,
                options.vocab_size,
                read.special()
            )));
        }
        Ok(Self {
            tokenizer: read,
            prompts,
            limit: options.limit,
            vocab_size: options.vocab_size,
        })
    }

    /// Names accepted as a task, sorted; none for a model without prompts.
    pub fn tasks(&self) -> impl Iterator<Item = &str> {
        self.prompts.names()
    }

    /// Most characters that one token can stand for, where the tokenizer bounds that.
    pub fn max_chars_per_token(&self) -> Option<usize> {
        self.tokenizer.max_chars_per_token
    }

    /// The template of a request: `None` takes texts as they are. `titled` says whether any text has a title.
    ///
    /// # Errors
    /// [`Error::Task`] for a task or a title that this model cannot take.
    pub fn prompt(&self, task: Option<&str>, titled: bool) -> Result<Option<&Template>> {
        self.prompts.choose(task, titled)
    }

    /// Tokenizes one text; `index` is its place in the request, for errors.
    ///
    /// Truncation keeps the special tokens, as sentence-transformers does. Without `truncate`, a text whose characters
    /// alone show that it is too long is refused before it is tokenized.
    ///
    /// # Errors
    /// [`Error::Input`] with [`InputError::TooLong`]; with [`InputError::OutOfRange`] for a text that spells a token
    /// which the table does not have; with [`InputError::Tokenize`] where the tokenizer fails.
    pub fn prepare_one(
        &self,
        index: usize,
        text: &str,
        prompt: Option<&Template>,
        title: Option<&str>,
        truncate: bool,
    ) -> Result<Row> {
        let prompted = prompt.map(|template| template.render(text, title));
        let text = prompted.as_deref().unwrap_or(text);
        if !truncate {
            self.refuse_unread(index, text)?;
        }
        let encoded = self.tokenizer.encode(text, self.limit);
        let (ids, length) = encoded.map_err(|reason| at(index, InputError::Tokenize(reason)))?;
        if length > self.limit && !truncate {
            return Err(self.too_long(index, length, false));
        }
        if let Some(id) = ids.iter().copied().find(|id| *id >= self.vocab_size) {
            let problem = InputError::OutOfRange {
                what: format!("spells the token {:?}, whose id {id}", self.tokenizer.token(id)),
                size: self.vocab_size,
                advice: "Remove these characters from the text.",
            };
            return Err(at(index, problem));
        }
        Ok(Row { ids, length })
    }

    /// Checks the token ids of one input; the model reads them as they are, without special tokens.
    ///
    /// # Errors
    /// [`Error::Input`] with [`InputError::Empty`], with [`InputError::OutOfRange`], or with [`InputError::TooLong`]
    /// unless `truncate` allows to keep only the first ids.
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

    /// All ids of `text` as it stands, with the special tokens around them if `special`.
    ///
    /// # Errors
    /// [`Error::Input`] with [`InputError::Tokenize`] where the tokenizer fails.
    pub fn tokenize(&self, text: &str, special: bool) -> Result<Vec<u32>> {
        let ids = self.tokenizer.ids(text);
        let ids = ids.map_err(|reason| at(0, InputError::Tokenize(reason)))?;
        Ok(if special { self.tokenizer.surround(&ids) } else { ids })
    }

    /// The text that `ids` spell, without special tokens if `skip_special`.
    ///
    /// # Errors
    /// [`Error::Input`] with [`InputError::OutOfRange`] for an id that the tokenizer does not have, or with
    /// [`InputError::Tokenize`] where the tokenizer fails.
    pub fn detokenize(&self, ids: &[i64], skip_special: bool) -> Result<String> {
        let mut known = Vec::with_capacity(ids.len());
        for (position, id) in ids.iter().enumerate() {
            match u32::try_from(*id) {
                Ok(number) if self.tokenizer.known(number).is_some() => known.push(number),
                _ => return Err(self.out_of_range(0, position, id)),
            }
        }
        let text = self.tokenizer.decode(&known, skip_special);
        text.map_err(|reason| at(0, InputError::Tokenize(reason)))
    }

    /// The error for an `id` that has no row in the table; `id` is anything that prints as a number.
    pub fn out_of_range(&self, index: usize, position: usize, id: impl std::fmt::Display) -> Error {
        let problem = InputError::OutOfRange {
            what: format!("has the token id {id} at position {position}, which"),
            size: self.vocab_size,
            advice: "Make the ids with this model's own tokenizer.",
        };
        at(index, problem)
    }

    fn refuse_unread(&self, index: usize, text: &str) -> Result<()> {
        let Some(bound) = self.tokenizer.max_chars_per_token else {
            return Ok(());
        };
        // Counting characters reads the text, so only one that could be too long is counted.
        let room = self.limit - self.tokenizer.special();
        if text.len().div_ceil(bound) <= room {
            return Ok(());
        }
        let least = text.chars().count().div_ceil(bound);
        if least <= room {
            return Ok(());
        }
        Err(self.too_long(index, least + self.tokenizer.special(), true))
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

fn at(index: usize, problem: InputError) -> Error {
    Error::Input { index, problem }
}
