//! The allocator of the native module, with a reserve for the time when memory is used up.
//!
//! Rust ends the process when an allocation fails, and libraries such as tokenizers make many small ones. So the first
//! allocation that the system refuses (`ulimit -v`) releases the reserve and is tried again. Each function of the module
//! that needs memory first calls [`require_memory`], which fails until the reserve can be allocated again. Buffers of
//! batches and weights do not depend on the reserve: their allocations may fail.
//!
//! The reserve is address space without pages, so it takes no memory.

use crate::errors::raise;
use pyo3::prelude::*;
use std::alloc::{GlobalAlloc, Layout, System};
use std::ptr;
use std::sync::atomic::{AtomicPtr, Ordering};

/// Size of the reserve. A request of 8 MiB of text needs less than this besides its buffers.
const RESERVE: usize = 32 << 20;
/// Largest allocation that may release the reserve. Buffers are larger, and their code handles a refusal.
const SMALL: usize = 16 << 20;

/// The system's allocator with a reserve.
struct WithReserve {
    /// The reserve; null if it is not allocated.
    reserve: AtomicPtr<u8>,
}

#[global_allocator]
static ALLOCATOR: WithReserve = WithReserve {
    reserve: AtomicPtr::new(ptr::null_mut()),
};

/// Checks that the reserve is allocated, or allocates it.
///
/// # Errors
/// `InsufficientMemory` if the system refuses it.
pub fn require_memory(py: Python<'_>) -> PyResult<()> {
    if ALLOCATOR.restore() {
        return Ok(());
    }
    let message = "This process has no memory left: the system refuses more, or `ulimit -v` does. Load fewer models, \
                   send fewer texts at a time, or raise the limit.";
    Err(raise(py, "InsufficientMemory", message.to_owned()))
}

impl WithReserve {
    fn layout() -> Layout {
        Layout::new::<[u8; RESERVE]>()
    }

    /// Returns whether the reserve is allocated now.
    fn restore(&self) -> bool {
        if !self.reserve.load(Ordering::Acquire).is_null() {
            return true;
        }
        // SAFETY: the layout has a size.
        let new = unsafe { System.alloc(Self::layout()) };
        if new.is_null() {
            return false;
        }
        let none = ptr::null_mut();
        let raced = self
            .reserve
            .compare_exchange(none, new, Ordering::AcqRel, Ordering::Acquire);
        if raced.is_err() {
            // SAFETY: `new` was allocated with this layout, and no other thread has seen it.
            unsafe { System.dealloc(new, Self::layout()) };
        }
        true
    }

    /// Frees the reserve; returns whether there was one.
    fn release(&self) -> bool {
        let reserve = self.reserve.swap(ptr::null_mut(), Ordering::AcqRel);
        if reserve.is_null() {
            return false;
        }
        // SAFETY: the reserve was allocated with this layout, and `swap` gave it to this thread alone.
        unsafe { System.dealloc(reserve, Self::layout()) };
        true
    }

    /// Calls `allocate`, and again after the reserve was released if a small allocation fails.
    fn with_reserve(&self, size: usize, allocate: impl Fn() -> *mut u8) -> *mut u8 {
        let found = allocate();
        if found.is_null() && size <= SMALL && self.release() {
            return allocate();
        }
        found
    }
}

// SAFETY: every call goes to the system's allocator with the caller's arguments, which keep its contract; a failed call
// changed nothing, so it may be repeated.
unsafe impl GlobalAlloc for WithReserve {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller keeps the contract of `alloc`.
        self.with_reserve(layout.size(), || unsafe { System.alloc(layout) })
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller keeps the contract of `alloc_zeroed`.
        self.with_reserve(layout.size(), || unsafe { System.alloc_zeroed(layout) })
    }

    unsafe fn realloc(&self, old: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: the caller keeps the contract of `realloc`. A failed `realloc` leaves the old memory as it is.
        self.with_reserve(size, || unsafe { System.realloc(old, layout, size) })
    }

    unsafe fn dealloc(&self, old: *mut u8, layout: Layout) {
        // SAFETY: the caller keeps the contract of `dealloc`.
        unsafe { System.dealloc(old, layout) }
    }
}
