//! When to let other Python threads run.

use pyo3::prelude::*;

/// Work on so many bytes takes less than a millisecond.
const FEW: usize = 4096;

/// Runs work on `bytes` without the GIL, unless it is soon done: beside a busy thread it takes 5 ms to get it back.
pub fn released<T: Send>(py: Python<'_>, bytes: usize, work: impl FnOnce() -> T + Send) -> T {
    if bytes <= FEW { work() } else { py.detach(work) }
}
