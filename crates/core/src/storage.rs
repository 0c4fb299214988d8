//! Memory of packed weights: allocated, or a part of a mapped file.

use crate::aligned::Aligned;
use crate::mapped::Mapped;
use std::ops::{Deref, Range};
use std::sync::Arc;

/// Immutable 32-bit words, as f32, aligned to 64 bytes.
pub enum Storage {
    /// Allocated memory.
    Owned(Aligned),
    /// A range of bytes of a mapped file.
    Mapped(Arc<Mapped>, Range<usize>),
}

impl Storage {
    /// Returns the bytes `range` of a map as storage; `None` if the range is not inside the map, not aligned to 64
    /// bytes, or not a whole number of words.
    pub fn mapped(map: &Arc<Mapped>, range: Range<usize>) -> Option<Self> {
        let bytes = map.get(range.clone())?;
        let aligned = (bytes.as_ptr() as usize).is_multiple_of(64) && bytes.len().is_multiple_of(4);
        aligned.then(|| Self::Mapped(Arc::clone(map), range))
    }

    /// Returns the words as bytes, in the order in which a file stores them.
    pub fn bytes(&self) -> &[u8] {
        let words: &[f32] = self;
        // SAFETY: the pointer and the length in bytes are those of an initialised slice, and u8 has no alignment.
        unsafe { std::slice::from_raw_parts(words.as_ptr().cast(), size_of_val(words)) }
    }
}

impl Deref for Storage {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        match self {
            Self::Owned(words) => words,
            Self::Mapped(map, range) => {
                let bytes = &map[range.clone()];
                // SAFETY: `Storage::mapped` checked that the bytes are aligned and a whole number of words. Every bit
                // pattern is a valid f32.
                unsafe { std::slice::from_raw_parts(bytes.as_ptr().cast(), bytes.len() / 4) }
            }
        }
    }
}

impl From<Aligned> for Storage {
    fn from(words: Aligned) -> Self {
        Self::Owned(words)
    }
}
