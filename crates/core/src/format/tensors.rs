//! Weight files without a model: their metadata and their tensors as f32.

use super::checkpoint::Checkpoint;
use crate::error::{Error, Result};
use crate::memory::zeros;
use std::path::Path;

/// The tensors of safetensors and GGUF files, mapped into memory.
pub struct Tensors {
    checkpoint: Checkpoint,
}

impl Tensors {
    /// Maps the files, given as (name prefix, path), and checks their layout.
    ///
    /// # Errors
    /// [`Error::Io`] for a file that cannot be opened, [`Error::Corrupt`] for a damaged one.
    pub fn open<'a>(files: impl IntoIterator<Item = (&'a str, &'a Path)>) -> Result<Self> {
        Checkpoint::open(files).map(|checkpoint| Self { checkpoint })
    }

    /// Also tries `prefixes` in front of the names that are looked up.
    #[must_use]
    pub fn with_prefixes(self, prefixes: &[String]) -> Self {
        Self {
            checkpoint: self.checkpoint.with_prefixes(prefixes),
        }
    }

    /// Returns the metadata of a GGUF file as JSON, `{}` for safetensors. Long arrays are `{"array": length}`.
    pub fn metadata(&self) -> String {
        self.checkpoint.metadata.to_string()
    }

    /// Returns name, shape (rows first) and element type of each tensor that can be read, in name order.
    pub fn list(&self) -> Vec<(&str, &[usize], &'static str)> {
        let all = self.checkpoint.tensors();
        let mut list: Vec<_> = all
            .map(|(name, tensor)| (name, tensor.shape.as_slice(), tensor.element_name()))
            .collect();
        list.sort_unstable();
        list
    }

    /// Returns rows `from..to` of a tensor as f32, and the values of one row. `name` may omit prefixes such as
    /// `model.`.
    ///
    /// # Errors
    /// [`Error::Tensor`] if the tensor is absent, cannot be read, or does not have these rows. A tensor of one
    /// dimension can only be read whole. [`Error::Changed`] if a file has changed since [`Tensors::open`].
    pub fn rows(&self, name: &str, from: usize, to: usize) -> Result<(Vec<f32>, usize)> {
        let error = |reason: String| Error::Tensor {
            name: name.into(),
            reason,
        };
        let tensor = self.checkpoint.find(name)?;
        let rows = tensor.shape.first().copied().unwrap_or(1);
        if from > to || to > rows {
            return Err(error(format!(
                "rows {from}..{to} were requested, and it has {rows}. Request rows 0..{rows} or a part of them."
            )));
        }
        // A vector in a block format is a sequence of blocks, and a block cannot be read in part.
        if tensor.shape.len() < 2 && (from, to) != (0, rows) {
            return Err(error(format!(
                "it has one dimension, so it can only be read whole. Request rows 0..{rows}."
            )));
        }
        let width = tensor.row_len();
        let mut values = zeros((to - from) * width)?;
        tensor.read(from * width, &mut values);
        self.checkpoint.require_unchanged()?;
        Ok((values, width))
    }
}
