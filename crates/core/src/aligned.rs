//! A buffer of f32 that begins on a cache line, so that a vector load does not cross two lines.

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
    pub fn zeros(len: usize) -> Self {
        Self {
            lines: vec![CacheLine([0.0; 16]); len.div_ceil(16)],
            len,
        }
    }

    /// Sets the length to `len`. If the buffer must grow, it is allocated again and its content becomes zeros.
    pub fn reserve(&mut self, len: usize) {
        if self.lines.len() * 16 < len {
            *self = Self::zeros(len);
        }
        self.len = len;
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
