//! Looking into weight files without a model: what they say about themselves, and their tensors as floats.

use crate::error::{Error, Result};
use crate::format::checkpoint::Checkpoint;
use std::path::Path;

/// The tensors of safetensors and GGUF files, mapped.
pub struct Tensors {
    checkpoint: Checkpoint,
}

impl Tensors {
    /// Maps the files (name prefix and path) and checks their layout.
    pub fn open<'a>(files: impl IntoIterator<Item = (&'a str, &'a Path)>) -> Result<Self> {
        Checkpoint::open(files).map(|checkpoint| Self { checkpoint })
    }

    /// The metadata of a GGUF file as JSON, `{}` for safetensors. Long arrays are `{"array": length}`.
    pub fn metadata(&self) -> String {
        self.checkpoint.metadata.to_string()
    }

    /// Name, shape (rows first) and element type of each that can be read, in name order.
    pub fn list(&self) -> Vec<(&str, &[usize], &'static str)> {
        let all = self.checkpoint.tensors();
        let mut list: Vec<_> = all
            .map(|(name, tensor)| (name, tensor.shape.as_slice(), tensor.element.name()))
            .collect();
        list.sort_unstable();
        list
    }

    /// Rows `from..to` of a tensor as floats, and the size of a row. `name` may leave out prefixes such as `model.`.
    pub fn rows(&self, name: &str, from: usize, to: usize) -> Result<(Vec<f32>, usize)> {
        let wrong = |reason: String| Error::Tensor {
            name: name.into(),
            reason,
        };
        let tensor = self.checkpoint.find(name)?;
        let rows = tensor.shape.first().copied().unwrap_or(1);
        if from > to || to > rows {
            return Err(wrong(format!("rows {from}..{to} of {rows}")));
        }
        // A vector of a block format is one row of blocks, which cannot be cut anywhere.
        if tensor.shape.len() < 2 && (from, to) != (0, rows) {
            return Err(wrong("a vector is read whole".into()));
        }
        let width = tensor.row_len();
        let mut values = vec![0.0; (to - from) * width];
        tensor.read(from * width, &mut values);
        Ok((values, width))
    }
}
