//! When to release the GIL.

use pyo3::prelude::*;

/// Work on at most this many bytes takes less than a millisecond.
const SHORT_WORK: usize = 4096;

/// Runs `work` on `bytes` bytes and releases the GIL for it, unless the work is short. If another thread is busy, it
/// takes 5 ms to acquire the GIL again.
pub fn without_gil<T: Send>(py: Python<'_>, bytes: usize, work: impl FnOnce() -> T + Send) -> T {
    if bytes <= SHORT_WORK { work() } else { py.detach(work) }
}
