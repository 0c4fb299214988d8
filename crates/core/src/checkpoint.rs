//! Safetensors files mapped into memory, and their tensors by the name a model asks for.

use crate::error::{Error, Result};
use memmap2::Mmap;
use safetensors::{Dtype, SafeTensors, tensor::TensorView};
use std::collections::HashMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What fine-tuning tools put in front of the model's own names.
const PREFIXES: [&str; 8] = [
    "",
    "model.",
    "language_model.",
    "model.language_model.",
    "bert.",
    "roberta.",
    "mpnet.",
    "encoder_model.",
];

/// Element types that are read; each widens to f32 exactly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Element {
    /// 32-bit float.
    F32,
    /// The upper half of a 32-bit float.
    Bf16,
    /// IEEE half precision.
    F16,
}

impl Element {
    /// Bytes of one.
    pub fn size(self) -> usize {
        if self == Self::F32 { 4 } else { 2 }
    }
}

/// One tensor of a mapped file.
#[derive(Clone)]
pub struct Tensor {
    map: Arc<Mmap>,
    start: usize,
    /// Element type.
    pub element: Element,
    /// Rows first.
    pub shape: Vec<usize>,
}

/// The tensors of a model's files.
#[derive(Default)]
pub struct Checkpoint {
    tensors: HashMap<String, Entry>,
}

struct Entry {
    tensor: Option<Tensor>,
    dtype: Dtype,
    path: PathBuf,
}

impl Checkpoint {
    /// Maps the files; tensors of a file are named with its prefix in front, such as `2_Dense.`.
    pub fn open<'a>(files: impl IntoIterator<Item = (&'a str, &'a Path)>) -> Result<Self> {
        let mut checkpoint = Self::default();
        for (prefix, path) in files {
            checkpoint.add(prefix, path)?;
        }
        Ok(checkpoint)
    }

    fn add(&mut self, prefix: &str, path: &Path) -> Result<()> {
        let io = |source| Error::Io {
            path: path.to_owned(),
            source,
        };
        let corrupt = |reason: String| Error::Corrupt {
            path: path.to_owned(),
            reason,
        };
        let file = File::open(path).map_err(io)?;
        if file.metadata().map_err(io)?.len() == 0 {
            return Err(corrupt("it is empty".into()));
        }
        // SAFETY: the map is read only. A file that is cut off while mapped ends the process, as with any mapped file;
        // the caches of embergem replace files by renaming and never write into them.
        let map = unsafe { Mmap::map(&file) }.map_err(io)?;
        let map = Arc::new(map);
        let parsed = SafeTensors::deserialize(&map).map_err(|error| corrupt(error.to_string()))?;
        for (name, view) in parsed.tensors() {
            let name = format!("{prefix}{name}");
            let entry = Entry {
                tensor: Tensor::new(&map, &view),
                dtype: view.dtype(),
                path: path.to_owned(),
            };
            if let Some(other) = self.tensors.insert(name.clone(), entry) {
                return Err(corrupt(format!("tensor {name} is also in {}", other.path.display())));
            }
        }
        Ok(())
    }

    /// Finds the tensor `name`, under one of the usual prefixes if need be, and checks its shape and element type.
    pub fn tensor(&self, name: &str, shape: &[usize]) -> Result<&Tensor> {
        let wrong = |reason| Error::Tensor {
            name: name.into(),
            reason,
        };
        let entry = PREFIXES
            .iter()
            .find_map(|prefix| self.tensors.get(&format!("{prefix}{name}")))
            .ok_or_else(|| {
                wrong("the checkpoint does not have it. Is this another architecture, or incomplete?".into())
            })?;
        let tensor = entry.tensor.as_ref().ok_or_else(|| {
            wrong(format!(
                "its element type is {:?}; embergem reads F32, BF16 and F16",
                entry.dtype
            ))
        })?;
        if tensor.shape != shape {
            return Err(wrong(format!(
                "its shape is {:?}; config.json asks for {shape:?}",
                tensor.shape
            )));
        }
        Ok(tensor)
    }
}

impl Tensor {
    fn new(map: &Arc<Mmap>, view: &TensorView<'_>) -> Option<Self> {
        let element = match view.dtype() {
            Dtype::F32 => Element::F32,
            Dtype::BF16 => Element::Bf16,
            Dtype::F16 => Element::F16,
            _ => return None,
        };
        let start = view.data().as_ptr() as usize - map.as_ptr() as usize;
        Some(Self {
            map: Arc::clone(map),
            start,
            element,
            shape: view.shape().to_vec(),
        })
    }

    /// Floats of one row: the product of all but the first size.
    pub fn row_len(&self) -> usize {
        self.shape.iter().skip(1).product()
    }

    /// Bytes of elements `start..start + count`.
    fn bytes(&self, start: usize, count: usize) -> &[u8] {
        let size = self.element.size();
        &self.map[self.start + start * size..self.start + (start + count) * size]
    }

    /// Widens elements from `start` on into `out`. The file's alignment does not matter.
    #[inline(always)]
    pub fn read(&self, start: usize, out: &mut [f32]) {
        let bytes = self.bytes(start, out.len());
        match self.element {
            Element::F32 => widen::<4>(bytes, out, f32::from_le_bytes),
            Element::Bf16 => widen::<2>(bytes, out, |b| f32::from_bits(u32::from(u16::from_le_bytes(b)) << 16)),
            Element::F16 => widen::<2>(bytes, out, |b| half_to_f32(u16::from_le_bytes(b))),
        }
    }
}

#[inline(always)]
fn widen<const N: usize>(bytes: &[u8], out: &mut [f32], f: impl Fn([u8; N]) -> f32) {
    for (value, bytes) in out.iter_mut().zip(bytes.as_chunks::<N>().0) {
        *value = f(*bytes);
    }
}

/// IEEE 754 binary16 to binary32, exact: normal numbers by shifting, subnormal ones by a product.
fn half_to_f32(bits: u16) -> f32 {
    let sign = u32::from(bits & 0x8000) << 16;
    let rest = u32::from(bits & 0x7fff);
    let magnitude = match rest >> 10 {
        0 => (rest as f32 * 2f32.powi(-24)).to_bits(),
        31 => 0x7f80_0000 | ((rest & 0x3ff) << 13),
        _ => (rest << 13) + ((127 - 15) << 23),
    };
    f32::from_bits(sign | magnitude)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_precision_widens_exactly() {
        for (bits, value) in [
            (0x0000, 0.0),
            (0x3c00, 1.0),
            (0xc000, -2.0),
            (0x7bff, 65504.0),
            (0x0001, 5.960_464_5e-8),
            (0x03ff, 6.097_555e-5),
            (0x0400, 6.103_515_6e-5),
            (0x3555, 0.333_251_95),
            (0xfc00, f32::NEG_INFINITY),
        ] {
            assert_eq!(half_to_f32(bits), value, "{bits:04x}");
        }
        assert!(half_to_f32(0x7e00).is_nan());
    }
}
