//! GGUF files: metadata and the places of tensors, read without believing a single number.
//!
//! Every length is checked against what is left of the file before anything is made from it, so a small file can't ask
//! for much memory. Long arrays (a tokenizer's vocabulary) are walked over and kept as their length only.

use crate::format::checkpoint::Element;
use crate::format::dequantise::Quant;
use serde_json::{Map, Value, json};
use std::collections::HashSet;

/// First bytes of a file.
pub const MAGIC: &[u8; 4] = b"GGUF";

/// Metadata entries, and tensors, that a file may have; models have a few hundred.
const MOST: u64 = 1 << 16;

/// Elements of an array that is kept.
const KEPT: u64 = 1024;

/// How deep arrays may nest.
const DEPTH: usize = 4;

/// Bytes that kept metadata may take, about; a value counts for 64.
const BUDGET: usize = 16 << 20;

fn element(number: u32) -> Option<Element> {
    Some(match number {
        0 => Element::F32,
        1 => Element::F16,
        2 => Element::Block(Quant::Q4_0),
        6 => Element::Block(Quant::Q5_0),
        7 => Element::Block(Quant::Q5_1),
        8 => Element::Block(Quant::Q8_0),
        12 => Element::Block(Quant::Q4K),
        13 => Element::Block(Quant::Q5K),
        14 => Element::Block(Quant::Q6K),
        30 => Element::Bf16,
        _ => return None,
    })
}

/// Where a tensor is.
#[derive(Debug)]
pub struct Place<'a> {
    /// Name in the file.
    pub name: &'a str,
    /// How it is stored, or the number of a way that isn't known.
    pub element: Result<Element, u32>,
    /// Rows first.
    pub shape: Vec<usize>,
    /// First byte in the file.
    pub start: usize,
    /// Bytes; 0 for a way of storing that isn't known.
    pub len: usize,
}

/// A parsed file.
#[derive(Debug)]
pub struct Gguf<'a> {
    /// What the file says about the model; long arrays as `{"array": length}`.
    pub metadata: Map<String, Value>,
    /// In the order of the file.
    pub tensors: Vec<Place<'a>>,
}

impl<'a> Gguf<'a> {
    /// Reads the head of a file. `Err` says what is wrong with it.
    pub fn parse(file: &'a [u8]) -> Result<Self, String> {
        let mut at = Cursor {
            file,
            at: 0,
            budget: BUDGET,
        };
        if at.take(4)? != MAGIC {
            return Err("it doesn't begin with GGUF".into());
        }
        let version = at.u32()?;
        if !(2..=3).contains(&version) {
            return Err(format!(
                "its version is {version}; embergem reads 2 and 3, stored low byte first"
            ));
        }
        let (tensors, entries) = (at.count("tensors")?, at.count("metadata entries")?);
        let mut metadata = Map::new();
        for _ in 0..entries {
            let key = at.string()?;
            at.keep(key.len())?;
            let kind = at.u32()?;
            let value = at
                .value(kind, 0)
                .map_err(|reason| format!("metadata {key:?}: {reason}"))?;
            if metadata.insert(key.into(), value).is_some() {
                return Err(format!("metadata {key:?} is there twice"));
            }
        }
        let mut places = Vec::new();
        let mut names = HashSet::new();
        for _ in 0..tensors {
            let place = at.place()?;
            if !names.insert(place.name) {
                return Err(format!("tensor {} is there twice", place.name));
            }
            places.push(place);
        }
        let alignment = match metadata.get("general.alignment") {
            None => 32,
            Some(value) => value
                .as_u64()
                .filter(|alignment| alignment.is_power_of_two() && (8..=1 << 20).contains(alignment))
                .ok_or_else(|| format!("general.alignment is {value}"))? as usize,
        };
        let data = at.at.next_multiple_of(alignment);
        settle(&mut places, data, alignment, file.len())?;
        Ok(Self {
            metadata,
            tensors: places,
        })
    }
}

/// Turns offsets into places in the file; they lie inside it, aligned, and share no byte.
fn settle(places: &mut [Place<'_>], data: usize, alignment: usize, size: usize) -> Result<(), String> {
    for place in places.iter_mut() {
        let (offset, name) = (place.start, place.name);
        if !offset.is_multiple_of(alignment) {
            return Err(format!(
                "tensor {name} begins at {offset}, not a multiple of {alignment}"
            ));
        }
        let start = data.checked_add(offset);
        let end = start.and_then(|start| start.checked_add(place.len));
        match (start, end) {
            (Some(start), Some(end)) if end <= size => place.start = start,
            _ => {
                return Err(format!(
                    "tensor {name} has {} bytes at {offset}, past the end of the file",
                    place.len
                ));
            }
        }
    }
    let mut order: Vec<&Place<'_>> = places.iter().collect();
    order.sort_by_key(|place| (place.start, place.len));
    for pair in order.windows(2) {
        if pair[0].start + pair[0].len > pair[1].start {
            return Err(format!("tensors {} and {} overlap", pair[0].name, pair[1].name));
        }
    }
    Ok(())
}

struct Cursor<'a> {
    file: &'a [u8],
    at: usize,
    budget: usize,
}

impl<'a> Cursor<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], String> {
        let end = self.at.checked_add(count).filter(|end| *end <= self.file.len());
        let end = end.ok_or_else(|| format!("it ends before the {count} bytes that should be at {}", self.at))?;
        let bytes = &self.file[self.at..end];
        self.at = end;
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
        usize::try_from(size).map_err(|_| format!("a length of {size}"))
    }

    fn count(&mut self, what: &str) -> Result<u64, String> {
        let count = u64::from_le_bytes(self.array()?);
        if count > MOST {
            return Err(format!("it claims {count} {what}"));
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

    /// Pays for something that is kept.
    fn keep(&mut self, bytes: usize) -> Result<(), String> {
        let left = self.budget.checked_sub(bytes.saturating_add(64));
        self.budget = left.ok_or_else(|| "its metadata is larger than any model's".to_owned())?;
        Ok(())
    }

    fn value(&mut self, kind: u32, depth: usize) -> Result<Value, String> {
        self.keep(0)?;
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
                self.keep(text.len())?;
                json!(text)
            }
            9 => self.values(depth)?,
            10 => json!(u64::from_le_bytes(self.array()?)),
            11 => json!(i64::from_le_bytes(self.array()?)),
            12 => json!(f64::from_le_bytes(self.array()?)),
            other => return Err(format!("a value of type {other}, which GGUF doesn't have")),
        })
    }

    fn values(&mut self, depth: usize) -> Result<Value, String> {
        if depth == DEPTH {
            return Err(format!("arrays nest more than {DEPTH} deep"));
        }
        let kind = self.u32()?;
        let count = u64::from_le_bytes(self.array()?);
        // An element has a byte at least.
        if count > (self.file.len() - self.at) as u64 {
            return Err(format!("an array of {count} elements, more than the file has bytes"));
        }
        if count <= KEPT {
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

    fn place(&mut self) -> Result<Place<'a>, String> {
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
        let (values, bytes) = element.map_or((1, 0), Element::part);
        let count = shape.iter().try_fold(1usize, |count, size| count.checked_mul(*size));
        let row = shape[shape.len() - 1];
        if !row.is_multiple_of(values) {
            return Err(format!("tensor {name} has rows of {row}, not whole blocks of {values}"));
        }
        let len = count.and_then(|count| (count / values).checked_mul(bytes));
        let len = len.filter(|_| !shape.contains(&0));
        let len = len.ok_or_else(|| format!("tensor {name} has the shape {shape:?}"))?;
        Ok(Place {
            name,
            element,
            shape,
            start,
            len,
        })
    }
}
