//! Where packed weights stand: in memory of their own, or in a mapped file of an earlier load.

use crate::aligned::Aligned;
use memmap2::Mmap;
use std::ops::{Deref, Range};
use std::sync::Arc;

/// Floats, or other words of 32 bits, that begin on a cache line and don't change any more.
pub enum Storage {
    /// In memory.
    Owned(Aligned),
    /// Bytes of a mapped file.
    Mapped(Arc<Mmap>, Range<usize>),
}

impl Storage {
    /// The part `range` (bytes) of a map; `None` if it is not inside, not aligned or not whole words.
    pub fn mapped(map: &Arc<Mmap>, range: Range<usize>) -> Option<Self> {
        let bytes = map.get(range.clone())?;
        let aligned = (bytes.as_ptr() as usize).is_multiple_of(64) && bytes.len().is_multiple_of(4);
        aligned.then(|| Self::Mapped(Arc::clone(map), range))
    }

    /// The bytes, as a file keeps them.
    pub fn bytes(&self) -> &[u8] {
        let words: &[f32] = self;
        // SAFETY: any initialised memory may be read as bytes.
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
                // SAFETY: `mapped` checked alignment and length; any bits are a float.
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
