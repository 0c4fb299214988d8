//! Work on many inputs in parallel, with the same result as one after the other.
//!
//! The threads are started for one call. Tokenizing does not use the compute pool, because a forward pass holds the
//! pool's threads for its whole duration, and a request that arrives meanwhile would wait for its token ids.

use std::panic::resume_unwind;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;

/// Bytes of text for one thread. To tokenize them takes longer than to start the thread.
const BYTES_PER_THREAD: usize = 4096;

/// Calls `work(index)` for each index below `count` and returns the results in order. `bytes` is the length of all
/// texts; it decides the number of threads.
///
/// # Errors
/// The error with the lowest index, whatever the timing of the threads: indices are taken in order, and only indices
/// above a failed one are skipped.
pub fn map_in_parallel<T: Send, E: Send>(
    count: usize,
    bytes: usize,
    work: impl Fn(usize) -> Result<T, E> + Sync,
) -> Result<Vec<T>, E> {
    let useful = bytes.div_ceil(BYTES_PER_THREAD).min(count);
    // `available_parallelism` reads files of the control group. That takes 14 µs, twice as long as tokenizing a query.
    let threads = if useful < 2 {
        1
    } else {
        thread::available_parallelism().map_or(1, usize::from).min(useful)
    };
    if threads < 2 {
        return (0..count).map(work).collect();
    }
    let next = AtomicUsize::new(0);
    let failed = AtomicUsize::new(usize::MAX);
    let done = Mutex::new(Vec::with_capacity(count));
    let worker = || {
        let mut results = Vec::new();
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            if index >= count || index > failed.load(Ordering::Relaxed) {
                break;
            }
            let result = work(index);
            if result.is_err() {
                failed.fetch_min(index, Ordering::Relaxed);
            }
            results.push((index, result));
        }
        done.lock().unwrap_or_else(PoisonError::into_inner).extend(results);
    };
    thread::scope(|scope| {
        for _ in 1..threads {
            if thread::Builder::new().spawn_scoped(scope, worker).is_err() {
                break; // the system has no more threads: the others do all of the work
            }
        }
        worker();
    });
    let mut results = done.into_inner().unwrap_or_else(PoisonError::into_inner);
    results.sort_unstable_by_key(|(index, _)| *index);
    results.into_iter().map(|(_, result)| result).collect()
}

/// Returns the results of `first` and `second`, which run at the same time if the system has a thread for `first`.
///
/// # Panics
/// If one of them panics.
pub fn join<A: Send, B>(first: impl FnOnce() -> A + Send, second: impl FnOnce() -> B) -> (A, B) {
    let first = Mutex::new(Some(first)); // taken by the thread that runs it
    let take = || first.lock().unwrap_or_else(PoisonError::into_inner).take();
    thread::scope(|scope| {
        let thread = thread::Builder::new().spawn_scoped(scope, || take().map(|first| first()));
        let second = second();
        let found = match thread {
            Ok(thread) => thread.join().unwrap_or_else(|panic| resume_unwind(panic)),
            Err(_) => take().map(|first| first()),
        };
        (
            found.expect("only the started thread, or without one the caller, takes it"),
            second,
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::convert::Infallible;
    use std::time::{Duration, Instant};

    #[test]
    fn a_text_longer_than_the_share_of_a_thread_brings_a_second_thread() {
        let own = thread::current().id();
        let alone = map_in_parallel(2, BYTES_PER_THREAD, |_| Ok::<_, Infallible>(thread::current().id()));
        assert_eq!(alone, Ok(vec![own, own]));
        if thread::available_parallelism().map_or(1, usize::from) < 2 {
            return;
        }
        for (count, bytes) in [(2, BYTES_PER_THREAD + 1), (3, 3 * BYTES_PER_THREAD)] {
            let begun = AtomicUsize::new(0);
            let shared = map_in_parallel(count, bytes, |_| {
                begun.fetch_add(1, Ordering::Relaxed);
                // A thread that waits leaves the other indices to the other threads.
                let end = Instant::now() + Duration::from_secs(20);
                while begun.load(Ordering::Relaxed) < 2 && Instant::now() < end {
                    thread::yield_now();
                }
                Ok::<_, Infallible>(thread::current().id())
            });
            let ids = shared.unwrap();
            assert!(ids.iter().any(|id| *id != ids[0]), "{count} inputs");
        }
    }
}
