//! The text half of embergem: from a string, a task and a title to the token ids that a model reads.
//!
//! [`Pipeline::load`] reads a tokenizer.json and the model's prompts. [`Pipeline::prompt`] chooses the template of a
//! request once; [`Pipeline::prepare_one`] then turns one text into a [`Row`], and may be called from any number of
//! threads. [`Pipeline::check_ids`] is the way of ids that the caller made. No tensors and no Python in here.

mod bpe;
mod digest;
mod error;
mod parallel;
mod pipeline;
mod prompts;
mod template;
mod token_length;
mod tokenizer;

pub use error::{Error, InputError, Result};
pub use parallel::in_order;
pub use pipeline::{Options, Pipeline, Row};
pub use prompts::sets as prompt_sets;
pub use template::Template;

/// Name of this build: a hash of this crate's sources.
pub const BUILD: &str = env!("EMBERGEM_BUILD");

/// What a tokenizer.json says, as a sha256: the same for files that make the same ids, however they are written.
///
/// # Errors
/// [`Error::Corrupt`] for a file that cannot be read.
pub fn tokenizer_digest(path: &std::path::Path) -> Result<[u8; 32]> {
    let corrupt = |reason| Error::Corrupt {
        path: path.to_owned(),
        reason,
    };
    let json = std::fs::read_to_string(path).map_err(|error| corrupt(error.to_string()))?;
    digest::digest(&json).map_err(|error| corrupt(error.to_string()))
}
