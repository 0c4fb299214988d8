//! A buffer of f32 that begins on a cache line, so that a vector load does not cross two lines.

use crate::error::{Error, Result};
use std::ops::{Deref, DerefMut};

#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct CacheLine([f32; 16]);

/// A fixed number of f32 values. The first one is aligned to 64 bytes.
#[derive(Default)]
pub struct Aligned {
    lines: Vec<CacheLine>,
    len: usize,
}

impl Aligned {
    /// Allocates `len` zeros.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`] if the system refuses the memory.
    pub fn zeros(len: usize) -> Result<Self> {
        let mut lines = Vec::new();
        let count = len.div_ceil(16);
        lines
            .try_reserve_exact(count)
            .map_err(|_| Error::refused(len * size_of::<f32>()))?;
        lines.resize(count, CacheLine([0.0; 16]));
        Ok(Self { lines, len })
    }

    /// Sets the length to `len`. If the buffer must grow, it is allocated again and its content becomes zeros.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`] if the system refuses the memory.
    pub fn reserve(&mut self, len: usize) -> Result<()> {
        if self.lines.len() * 16 < len {
            *self = Self::default(); // frees the old buffer before the new one is allocated
            *self = Self::zeros(len)?;
        }
        self.len = len;
        Ok(())
    }

    /// Returns the number of values that need no allocation.
    pub fn capacity(&self) -> usize {
        self.lines.len() * 16
    }

    /// Returns the address of the first value.
    ///
    /// It does not go through a slice: several operands may share one buffer, and creating a reference to the whole
    /// buffer would invalidate the pointers that were taken before (Rust's aliasing rules).
    pub fn as_mut_ptr(&mut self) -> *mut f32 {
        self.lines.as_mut_ptr().cast()
    }
}

impl Deref for Aligned {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        // SAFETY: a `CacheLine` is sixteen f32 without padding, and `len` is at most 16 · `lines.len()`.
        unsafe { std::slice::from_raw_parts(self.lines.as_ptr().cast(), self.len) }
    }
}

impl DerefMut for Aligned {
    fn deref_mut(&mut self) -> &mut [f32] {
        // SAFETY: a `CacheLine` is sixteen f32 without padding, and `len` is at most 16 · `lines.len()`. `&mut self`
        // makes this the only reference.
        unsafe { std::slice::from_raw_parts_mut(self.lines.as_mut_ptr().cast(), self.len) }
    }
}
