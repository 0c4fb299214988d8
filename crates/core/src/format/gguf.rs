//! Parser of GGUF files: metadata and the offsets of tensors. The file is not trusted.
//!
//! Every length is checked against the rest of the file before memory is allocated for it, so a small file cannot cause
//! a large allocation. Long arrays (a tokenizer's vocabulary) are skipped, and only their length is kept.
//!
//! Source of the format: docs/gguf.md of <https://github.com/ggml-org/ggml>.

use super::dequantise::BlockFormat;
use super::element::Element;
use serde_json::{Map, Value, json};
use std::collections::HashSet;

/// The first bytes of every GGUF file.
pub const MAGIC: &[u8; 4] = b"GGUF";

/// Largest number of metadata entries, and of tensors. Models have a few hundred of each.
const MAX_COUNT: u64 = 1 << 16;

/// Longest array whose elements are kept.
const MAX_ARRAY: u64 = 1024;

/// Deepest nesting of arrays.
const MAX_DEPTH: usize = 4;

/// Approximate limit on the bytes of kept metadata. A value counts as 64 bytes plus the length of its text.
const MAX_METADATA: usize = 16 << 20;

/// Returns the element type of ggml's type number, or `None` for a type that embergem does not read.
fn element(number: u32) -> Option<Element> {
    Some(match number {
        0 => Element::F32,
        1 => Element::F16,
        2 => Element::Block(BlockFormat::Q4_0),
        6 => Element::Block(BlockFormat::Q5_0),
        7 => Element::Block(BlockFormat::Q5_1),
        8 => Element::Block(BlockFormat::Q8_0),
        12 => Element::Block(BlockFormat::Q4K),
        13 => Element::Block(BlockFormat::Q5K),
        14 => Element::Block(BlockFormat::Q6K),
        30 => Element::Bf16,
        _ => return None,
    })
}

/// Name, type, shape and position of one tensor.
#[derive(Debug)]
pub struct TensorInfo<'a> {
    /// Name in the file.
    pub name: &'a str,
    /// Element type, or ggml's number of a type that embergem does not read.
    pub element: Result<Element, u32>,
    /// Sizes, rows first.
    pub shape: Vec<usize>,
    /// Offset of the first byte in the file.
    pub start: usize,
    /// Length in bytes; 0 for an element type that embergem does not read.
    pub len: usize,
}

/// A parsed file.
#[derive(Debug)]
pub struct Gguf<'a> {
    /// Metadata of the model. Long arrays are `{"array": length}`.
    pub metadata: Map<String, Value>,
    /// Tensors in the order of the file.
    pub tensors: Vec<TensorInfo<'a>>,
}

impl<'a> Gguf<'a> {
    /// Parses the header of a file. `Err` is the reason why the file is invalid.
    pub fn parse(file: &'a [u8]) -> Result<Self, String> {
        let mut cursor = Cursor {
            file,
            offset: 0,
            budget: MAX_METADATA,
        };
        if cursor.take(4)? != MAGIC {
            return Err("it does not begin with the bytes GGUF".into());
        }
        let version = cursor.u32()?;
        if !(2..=3).contains(&version) {
            return Err(format!(
                "its version is {version}; embergem reads versions 2 and 3, stored low byte first"
            ));
        }
        let (tensors, entries) = (cursor.count("tensors")?, cursor.count("metadata entries")?);
        let mut metadata = Map::new();
        for _ in 0..entries {
            let key = cursor.string()?;
            cursor.charge(key.len())?;
            let kind = cursor.u32()?;
            let value = cursor
                .value(kind, 0)
                .map_err(|reason| format!("metadata {key:?}: {reason}"))?;
            if metadata.insert(key.into(), value).is_some() {
                return Err(format!("metadata {key:?} occurs twice"));
            }
        }
        let mut infos = Vec::new();
        let mut names = HashSet::new();
        for _ in 0..tensors {
            let info = cursor.tensor_info()?;
            if !names.insert(info.name) {
                return Err(format!("tensor {} occurs twice", info.name));
            }
            infos.push(info);
        }
        let alignment = match metadata.get("general.alignment") {
            None => 32,
            Some(value) => value
                .as_u64()
                .filter(|alignment| alignment.is_power_of_two() && (8..=1 << 20).contains(alignment))
                .ok_or_else(|| format!("general.alignment is {value}, not a power of two from 8 to 1048576"))?
                as usize,
        };
        let data = cursor.offset.next_multiple_of(alignment);
        locate(&mut infos, data, alignment, file.len())?;
        Ok(Self {
            metadata,
            tensors: infos,
        })
    }
}

/// Turns offsets into the data section, which begins at `data`, into offsets into the file, and checks them: each
/// tensor must be aligned and lie inside the file of `size` bytes, and no two may overlap.
fn locate(infos: &mut [TensorInfo<'_>], data: usize, alignment: usize, size: usize) -> Result<(), String> {
    for info in infos.iter_mut() {
        let (offset, name) = (info.start, info.name);
        if !offset.is_multiple_of(alignment) {
            return Err(format!(
                "tensor {name} begins at {offset}, not a multiple of {alignment}"
            ));
        }
        let start = data.checked_add(offset);
        let end = start.and_then(|start| start.checked_add(info.len));
        match (start, end) {
            (Some(start), Some(end)) if end <= size => info.start = start,
            _ => {
                return Err(format!(
                    "tensor {name} has {} bytes at {offset}, past the end of the file",
                    info.len
                ));
            }
        }
    }
    let mut order: Vec<&TensorInfo<'_>> = infos.iter().collect();
    order.sort_by_key(|info| (info.start, info.len));
    for pair in order.windows(2) {
        if pair[0].start + pair[0].len > pair[1].start {
            return Err(format!("tensors {} and {} overlap", pair[0].name, pair[1].name));
        }
    }
    Ok(())
}

/// Reads values one after the other.
struct Cursor<'a> {
    file: &'a [u8],
    offset: usize,
    /// Bytes that may still be kept.
    budget: usize,
}

impl<'a> Cursor<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], String> {
        let end = self.offset.checked_add(count).filter(|end| *end <= self.file.len());
        let end = end.ok_or_else(|| format!("it ends before the {count} bytes that should be at {}", self.offset))?;
        let bytes = &self.file[self.offset..end];
        self.offset = end;
        Ok(bytes)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], String> {
        let bytes = self.take(N)?;
        bytes.try_into().map_err(|_| "it ends early".to_owned())
    }

    fn u32(&mut self) -> Result<u32, String> {
        self.array().map(u32::from_le_bytes)
    }

    fn size(&mut self) -> Result<usize, String> {
        let size = u64::from_le_bytes(self.array()?);
        usize::try_from(size).map_err(|_| format!("a length of {size} is larger than an address of this machine"))
    }

    fn count(&mut self, what: &str) -> Result<u64, String> {
        let count = u64::from_le_bytes(self.array()?);
        if count > MAX_COUNT {
            return Err(format!("it claims {count} {what}; at most {MAX_COUNT} are read"));
        }
        Ok(count)
    }

    fn bytes(&mut self) -> Result<&'a [u8], String> {
        let len = self.size()?;
        self.take(len)
    }

    fn string(&mut self) -> Result<&'a str, String> {
        std::str::from_utf8(self.bytes()?).map_err(|error| format!("a name or text is not UTF-8: {error}"))
    }

    /// Subtracts `bytes` and the cost of one value from the budget of kept metadata.
    fn charge(&mut self, bytes: usize) -> Result<(), String> {
        let left = self.budget.checked_sub(bytes.saturating_add(64));
        self.budget =
            left.ok_or_else(|| format!("its metadata is larger than the {MAX_METADATA} bytes that are read"))?;
        Ok(())
    }

    fn value(&mut self, kind: u32, depth: usize) -> Result<Value, String> {
        self.charge(0)?;
        Ok(match kind {
            0 => json!(self.take(1)?[0]),
            1 => json!(self.take(1)?[0] as i8),
            2 => json!(u16::from_le_bytes(self.array()?)),
            3 => json!(i16::from_le_bytes(self.array()?)),
            4 => json!(self.u32()?),
            5 => json!(i32::from_le_bytes(self.array()?)),
            6 => json!(f32::from_le_bytes(self.array()?)),
            7 => json!(self.take(1)?[0] != 0),
            8 => {
                let text = self.string()?;
                self.charge(text.len())?;
                json!(text)
            }
            9 => self.values(depth)?,
            10 => json!(u64::from_le_bytes(self.array()?)),
            11 => json!(i64::from_le_bytes(self.array()?)),
            12 => json!(f64::from_le_bytes(self.array()?)),
            other => return Err(format!("a value of type {other}, which GGUF does not have")),
        })
    }

    fn values(&mut self, depth: usize) -> Result<Value, String> {
        if depth == MAX_DEPTH {
            return Err(format!("arrays nest more than {MAX_DEPTH} deep"));
        }
        let kind = self.u32()?;
        let count = u64::from_le_bytes(self.array()?);
        // Each element takes at least one byte.
        if count > (self.file.len() - self.offset) as u64 {
            return Err(format!("an array of {count} elements, more than the file has bytes"));
        }
        if count <= MAX_ARRAY {
            let values = (0..count).map(|_| self.value(kind, depth + 1));
            return values.collect::<Result<Vec<_>, _>>().map(Value::Array);
        }
        match kind {
            0 | 1 | 7 => self.skip(count, 1)?,
            2 | 3 => self.skip(count, 2)?,
            4..=6 => self.skip(count, 4)?,
            10..=12 => self.skip(count, 8)?,
            8 => {
                for _ in 0..count {
                    self.bytes()?;
                }
            }
            other => return Err(format!("an array of {count} elements of type {other}")),
        }
        Ok(json!({"array": count}))
    }

    fn skip(&mut self, count: u64, size: usize) -> Result<(), String> {
        let bytes = usize::try_from(count).ok().and_then(|count| count.checked_mul(size));
        self.take(bytes.ok_or_else(|| format!("an array of {count} elements"))?)?;
        Ok(())
    }

    fn tensor_info(&mut self) -> Result<TensorInfo<'a>, String> {
        let name = self.string()?;
        let dimensions = self.u32()?;
        if !(1..=4).contains(&dimensions) {
            return Err(format!("tensor {name} has {dimensions} dimensions"));
        }
        let mut shape = Vec::new();
        for _ in 0..dimensions {
            shape.insert(0, self.size()?);
        }
        let number = self.u32()?;
        let start = self.size()?;
        let element = element(number).ok_or(number);
        let (values, bytes) = element.map_or((1, 0), Element::block_size);
        let count = shape.iter().try_fold(1usize, |count, size| count.checked_mul(*size));
        let row = shape[shape.len() - 1];
        if !row.is_multiple_of(values) {
            return Err(format!("tensor {name} has rows of {row}, not whole blocks of {values}"));
        }
        let len = count.and_then(|count| (count / values).checked_mul(bytes));
        let len = len.filter(|_| !shape.contains(&0));
        let len =
            len.ok_or_else(|| format!("tensor {name} has the shape {shape:?}, whose size is zero or too large"))?;
        Ok(TensorInfo {
            name,
            element,
            shape,
            start,
            len,
        })
    }
}
