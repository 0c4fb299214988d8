//! The text half of embergem: from a text, a task and a title to the token ids that a model reads.
//!
//! [`Pipeline::load`] reads a tokenizer.json and the model's prompts. [`Pipeline::prompt`] chooses the template of a
//! request once. [`Pipeline::prepare_one`] then tokenizes one text; any number of threads may call it.
//! [`Pipeline::check_ids`] checks token ids that the caller made. This crate contains no tensors and no Python.

mod align;
mod bpe;
mod digest;
mod error;
mod pair_set;
mod parallel;
mod pieces;
mod pipeline;
mod plain;
mod prompts;
mod sink;
mod tables;
mod template;
mod token_length;
mod tokenizer;
mod trie;

pub use align::{Aligned, AlignedToken};
pub use error::{Error, InputError, Result};
pub use parallel::{join, map_in_parallel};
pub use pipeline::{Options, Pipeline, Row};
pub use prompts::sets as prompt_sets;
pub use template::Template;
pub use tokenizer::Overlong;

/// Name of this build: a hash of this crate's sources.
pub const BUILD: &str = env!("EMBERGEM_BUILD");

/// Returns the SHA-256 digest of the canonical form of a tokenizer.json. Files that produce the same ids have the same
/// digest, whatever their layout.
///
/// # Errors
/// [`Error::Corrupt`] for a file that cannot be read or is not JSON.
pub fn tokenizer_digest(path: &std::path::Path) -> Result<[u8; 32]> {
    let corrupt = |reason| Error::Corrupt {
        path: path.to_owned(),
        reason,
    };
    let json = std::fs::read_to_string(path).map_err(|error| corrupt(error.to_string()))?;
    digest::digest(&json).map_err(|error| corrupt(error.to_string()))
}
