//! Safetensors and GGUF files mapped into memory, and their tensors by the name a model asks for.

use super::gguf_names::canonical;
use crate::error::{Error, Result};
use crate::format::dequantise::Quant;
use crate::format::gguf::{self, Gguf};
use crate::format::integers::Scaled;
use memmap2::Mmap;
use safetensors::{Dtype, SafeTensorError, SafeTensors, tensor::TensorView};
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

/// Element types that are read; each widens to f32 exactly, or to the nearest product with its scale.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Element {
    /// 32-bit float.
    F32,
    /// The upper half of a 32-bit float.
    Bf16,
    /// IEEE half precision.
    F16,
    /// Integers in blocks that have scales, as GGUF stores them.
    Block(Quant),
    /// Integers whose scales stand beside them, as embergem compiles them.
    Scaled(Scaled),
}

impl Element {
    /// Values and bytes of the least part that stands alone.
    pub fn part(self) -> (usize, usize) {
        match self {
            Self::F32 => (1, 4),
            Self::F16 | Self::Bf16 => (1, 2),
            Self::Block(quant) => (quant.values(), quant.bytes()),
            Self::Scaled(scaled) => (1, scaled.bytes()),
        }
    }

    /// Its name in safetensors or GGUF.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "F32",
            Self::Bf16 => "BF16",
            Self::F16 => "F16",
            Self::Block(quant) => quant.name(),
            Self::Scaled(scaled) => scaled.name(),
        }
    }
}

/// One tensor of a mapped file.
#[derive(Clone)]
pub struct Tensor {
    map: Arc<Mmap>,
    start: usize,
    /// Where the scales begin, of an element type that has them beside it.
    scales: usize,
    /// Element type.
    pub element: Element,
    /// Rows first.
    pub shape: Vec<usize>,
}

/// The tensors of a model's files.
#[derive(Default)]
pub struct Checkpoint {
    /// What the GGUF file among them says about the model.
    pub metadata: serde_json::Value,
    tensors: HashMap<String, Entry>,
}

struct Entry {
    /// The tensor, or the name of an element type that isn't read.
    tensor: std::result::Result<Tensor, String>,
    path: PathBuf,
}

impl Checkpoint {
    /// Maps the files; tensors of a file are named with its prefix in front, such as `2_Dense.`.
    pub fn open<'a>(files: impl IntoIterator<Item = (&'a str, &'a Path)>) -> Result<Self> {
        let mut checkpoint = Self {
            metadata: serde_json::json!({}),
            ..Self::default()
        };
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
        let tensors = if map.starts_with(gguf::MAGIC) {
            let (metadata, tensors) = gguf_tensors(&map).map_err(corrupt)?;
            self.metadata = metadata;
            tensors
        } else {
            safetensors_tensors(&map).map_err(|error| corrupt(error.to_string()))?
        };
        for (name, tensor) in tensors {
            let name = format!("{prefix}{name}");
            let entry = Entry {
                tensor,
                path: path.to_owned(),
            };
            if let Some(other) = self.tensors.insert(name.clone(), entry) {
                return Err(corrupt(format!("tensor {name} is also in {}", other.path.display())));
            }
        }
        Ok(())
    }

    /// Every tensor that can be read, by name.
    pub fn tensors(&self) -> impl Iterator<Item = (&str, &Tensor)> {
        let all = self.tensors.iter();
        all.filter_map(|(name, entry)| Some((name.as_str(), entry.tensor.as_ref().ok()?)))
    }

    /// Finds the tensor `name`, under one of the usual prefixes if need be, and checks its shape and element type.
    pub fn tensor(&self, name: &str, shape: &[usize]) -> Result<&Tensor> {
        let wrong = |reason| Error::Tensor {
            name: name.into(),
            reason,
        };
        let tensor = self.find(name)?;
        if tensor.shape != shape {
            return Err(wrong(format!(
                "its shape is {:?}; config.json asks for {shape:?}",
                tensor.shape
            )));
        }
        Ok(tensor)
    }

    /// Finds the tensor `name`, under one of the usual prefixes if need be, and checks its element type.
    pub fn find(&self, name: &str) -> Result<&Tensor> {
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
        entry.tensor.as_ref().map_err(|element| {
            wrong(format!(
                "its element type is {element}; embergem reads F32, BF16 and F16, from GGUF Q8_0, Q4_0, Q5_0, Q5_1, \
                 Q4_K, Q5_K and Q6_K too, and the integers that `embergem compile` writes"
            ))
        })
    }
}

/// A tensor by name, or the name of its element type where that isn't read.
type Found = (String, std::result::Result<Tensor, String>);

fn safetensors_tensors(map: &Arc<Mmap>) -> std::result::Result<Vec<Found>, SafeTensorError> {
    let parsed = SafeTensors::deserialize(map)?;
    let place = |view: &TensorView<'_>| view.data().as_ptr() as usize - map.as_ptr() as usize;
    let tensor = |name: &str, view: TensorView<'_>| {
        let scaled = |kind: Scaled| match kind.scales(&parsed, name, view.shape()) {
            Some(scales) => Ok((Element::Scaled(kind), place(&scales))),
            None => Err(format!("{} without scales that fit it", kind.name())),
        };
        let (element, scales) = match view.dtype() {
            Dtype::F32 => (Element::F32, 0),
            Dtype::BF16 => (Element::Bf16, 0),
            Dtype::F16 => (Element::F16, 0),
            Dtype::I8 => scaled(Scaled::Int8)?,
            Dtype::I16 => scaled(Scaled::Int16)?,
            other => return Err(format!("{other:?}")),
        };
        Ok(Tensor {
            map: Arc::clone(map),
            start: place(&view),
            scales,
            element,
            shape: view.shape().to_vec(),
        })
    };
    let all = parsed.tensors().into_iter();
    Ok(all
        .map(|(name, view)| {
            let tensor = tensor(&name, view);
            (name, tensor)
        })
        .collect())
}

fn gguf_tensors(map: &Arc<Mmap>) -> std::result::Result<(serde_json::Value, Vec<Found>), String> {
    let parsed = Gguf::parse(map)?;
    let architecture = parsed.metadata.get("general.architecture");
    let architecture = architecture
        .and_then(|value| value.as_str())
        .unwrap_or_default()
        .to_owned();
    let tensor = |place: gguf::Place<'_>| {
        let name = canonical(&architecture, place.name);
        let tensor = place.element.map(|element| Tensor {
            map: Arc::clone(map),
            start: place.start,
            scales: 0,
            element,
            shape: place.shape,
        });
        (name, tensor.map_err(|number| format!("GGUF's number {number}")))
    };
    let tensors = parsed.tensors.into_iter().map(tensor).collect();
    Ok((serde_json::Value::Object(parsed.metadata), tensors))
}

impl Tensor {
    /// Floats of one row: the product of all but the first size.
    pub fn row_len(&self) -> usize {
        self.shape.iter().skip(1).product()
    }

    /// All bytes, as they are in the file, and those of the scales beside them.
    pub fn stored(&self) -> [&[u8]; 2] {
        let count = self.shape.iter().product();
        [self.bytes(0, count), self.scales(0, count)]
    }

    /// Bytes of the scales of elements `start..start + count`, which are whole rows.
    fn scales(&self, start: usize, count: usize) -> &[u8] {
        let Element::Scaled(scaled) = self.element else {
            return &[];
        };
        let of = |count| scaled.bytes_of_scales(self.row_len(), count);
        &self.map[self.scales + of(start)..][..of(count)]
    }

    /// Bytes of elements `start..start + count`, which are whole blocks.
    fn bytes(&self, start: usize, count: usize) -> &[u8] {
        let (values, bytes) = self.element.part();
        let (from, to) = (start / values * bytes, (start + count) / values * bytes);
        &self.map[self.start + from..self.start + to]
    }

    /// Widens elements from `start` on into `out`: whole rows. The file's alignment does not matter.
    #[inline(always)]
    pub fn read(&self, start: usize, out: &mut [f32]) {
        let bytes = self.bytes(start, out.len());
        match self.element {
            Element::F32 => widen::<4>(bytes, out, f32::from_le_bytes),
            Element::Bf16 => widen::<2>(bytes, out, |b| f32::from_bits(u32::from(u16::from_le_bytes(b)) << 16)),
            Element::F16 => widen::<2>(bytes, out, |b| half_to_f32(u16::from_le_bytes(b))),
            Element::Block(quant) => quant.read(bytes, out),
            Element::Scaled(scaled) => scaled.read(self.row_len(), bytes, self.scales(start, out.len()), out),
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
pub(crate) fn half_to_f32(bits: u16) -> f32 {
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
