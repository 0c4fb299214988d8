//! One tensor of a mapped weight file.

use super::element::Element;
use super::half::half_to_f32;
use super::integers::IntegerFormat;
use crate::mapped::{Mapped, Part};
use std::sync::Arc;

/// A tensor in a mapped file. Clones share the map.
#[derive(Clone)]
pub struct Tensor {
    pub(super) map: Arc<Mapped>,
    /// Offset of the first byte in the file.
    pub(super) start: usize,
    /// Offset of the scales in the file; used only for [`Element::Integer`].
    pub(super) scales_start: usize,
    /// Offset of the exponents of the columns in the file; used only for [`IntegerFormat::TransformedInt8`].
    pub(super) exponents_start: usize,
    pub(super) element: Element,
    /// Sizes, rows first.
    pub shape: Vec<usize>,
}

impl Tensor {
    /// Returns the name of the stored element type.
    pub fn element_name(&self) -> &'static str {
        self.element.name()
    }

    /// Returns the values of one row: the product of all sizes but the first.
    pub fn row_len(&self) -> usize {
        self.shape.iter().skip(1).product()
    }

    /// Returns the stored bytes of the tensor, of its scales and of its exponents (empty for element types without them).
    pub fn stored_bytes(&self) -> [&[u8]; 3] {
        let count = self.shape.iter().product();
        [
            self.bytes(0, count),
            self.scales(0, count),
            self.exponents().unwrap_or_default(),
        ]
    }

    /// Returns the exponents of smoothing, one signed byte for each column of a matrix that is stored smoothed.
    pub fn exponents(&self) -> Option<&[u8]> {
        let smoothed = self.element == Element::Integer(IntegerFormat::TransformedInt8);
        smoothed.then(|| &self.map[self.exponents_start..][..self.row_len()])
    }

    /// Returns where the tensor, its scales and its exponents are in the mapped file. `crcs` are the checksums that an earlier call
    /// computed; without them the bytes are read.
    pub fn parts(&self, crcs: Option<&[u32]>) -> Vec<Part> {
        let bytes = self.stored_bytes().into_iter().filter(|bytes| !bytes.is_empty());
        let part = |(number, bytes): (usize, &[u8])| {
            let start = bytes.as_ptr() as usize - self.map.as_ptr() as usize;
            let known = crcs.and_then(|crcs| crcs.get(number).copied());
            Part {
                map: Arc::clone(&self.map),
                range: start..start + bytes.len(),
                crc: known.unwrap_or_else(|| crc32fast::hash(bytes)),
            }
        };
        bytes.enumerate().map(part).collect()
    }

    /// Returns the bytes of the scales of values `start..start + count`. The range must be whole rows.
    fn scales(&self, start: usize, count: usize) -> &[u8] {
        let Element::Integer(format) = self.element else {
            return &[];
        };
        let bytes_of = |count| format.scale_bytes(self.row_len(), count);
        &self.map[self.scales_start + bytes_of(start)..][..bytes_of(count)]
    }

    /// Returns the bytes of values `start..start + count`. The range must be whole blocks.
    pub(super) fn bytes(&self, start: usize, count: usize) -> &[u8] {
        let (values, bytes) = self.element.block_size();
        let (from, to) = (start / values * bytes, (start + count) / values * bytes);
        &self.map[self.start + from..self.start + to]
    }

    /// Returns the values of a tensor of whole numbers; none for another element type.
    pub fn integers(&self) -> impl Iterator<Item = i64> {
        let format = match self.element {
            Element::Whole(format) => Some(format),
            _ => None,
        };
        let bytes = self.stored_bytes()[0];
        format
            .into_iter()
            .flat_map(move |format| bytes.chunks_exact(format.bytes()).map(move |one| format.value(one)))
    }

    /// Converts values from `start` on to f32 and writes them to `out`. The range must be whole rows.
    ///
    /// The alignment of the data in the file does not matter.
    #[inline(always)]
    pub fn read(&self, start: usize, out: &mut [f32]) {
        let bytes = self.bytes(start, out.len());
        match self.element {
            Element::F64 => convert::<8>(bytes, out, |b| f64::from_le_bytes(b) as f32),
            Element::F32 => convert::<4>(bytes, out, f32::from_le_bytes),
            Element::Bf16 => convert::<2>(bytes, out, |b| f32::from_bits(u32::from(u16::from_le_bytes(b)) << 16)),
            Element::F16 => convert::<2>(bytes, out, |b| half_to_f32(u16::from_le_bytes(b))),
            Element::Block(format) => format.read(bytes, out),
            Element::Integer(format) => format.read(
                self.row_len(),
                (
                    bytes,
                    self.scales(start, out.len()),
                    self.exponents().unwrap_or_default(),
                ),
                out,
            ),
            Element::Whole(format) => {
                for (value, bytes) in out.iter_mut().zip(bytes.chunks_exact(format.bytes())) {
                    *value = format.value(bytes) as f32;
                }
            }
        }
    }
}

#[inline(always)]
fn convert<const N: usize>(bytes: &[u8], out: &mut [f32], to_f32: impl Fn([u8; N]) -> f32) {
    for (value, bytes) in out.iter_mut().zip(bytes.as_chunks::<N>().0) {
        *value = to_f32(*bytes);
    }
}
