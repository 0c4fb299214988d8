//! The tasks of a job that nobody has taken, in shares of adjacent tasks.

use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};

/// Adjacent tasks: the first one, and the end in the upper half. It has a cache line for itself, because its thread writes it
/// for each task.
#[derive(Default)]
#[repr(align(64))]
struct Share(AtomicU64);

impl Share {
    fn set(&self, tasks: Range<usize>) {
        self.0
            .store((tasks.end as u64) << 32 | tasks.start as u64, Ordering::Relaxed);
    }

    fn get(&self) -> Range<usize> {
        Self::range(self.0.load(Ordering::Relaxed))
    }

    fn range(both: u64) -> Range<usize> {
        (both & u64::from(u32::MAX)) as usize..(both >> 32) as usize
    }

    /// Takes the first task, or the last one; `None` if there is none.
    fn take(&self, last: bool) -> Option<usize> {
        let less = |both: u64| {
            let change = if last { both.wrapping_sub(1 << 32) } else { both + 1 };
            (!Self::range(both).is_empty()).then_some(change)
        };
        let before = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less).ok()?;
        let before = Self::range(before);
        Some(if last { before.end - 1 } else { before.start })
    }
}

/// One share for each thread that may work on a job.
///
/// All accesses are relaxed: whoever sets the shares publishes them with the job.
pub struct Shares(Box<[Share]>);

impl Shares {
    /// Returns shares for at most `threads` threads, without tasks.
    pub fn new(threads: usize) -> Self {
        Self((0..threads).map(|_| Share::default()).collect())
    }

    /// Returns the number of threads that can have a share.
    pub fn threads(&self) -> usize {
        self.0.len()
    }

    /// Divides the tasks 0 to `tasks`, fewer than 2³², into the first `shares` shares.
    pub fn set(&self, tasks: usize, shares: usize) {
        let first = |number: usize| (number * tasks).div_ceil(shares);
        for (number, share) in self.0[..shares].iter().enumerate() {
            share.set(first(number)..first(number + 1));
        }
    }

    /// Takes a task: the next one of a thread's own share, or else the last one of the longest of the first `shares` shares.
    /// Returns `None` if no task is left.
    pub fn take(&self, own: usize, shares: usize) -> Option<usize> {
        self.0[own].take(false).or_else(|| {
            loop {
                // Lengths are read once: a share may become empty after it was found to be the longest.
                let lengths = self.0[..shares].iter().map(|share| share.get().len());
                let (longest, length) = lengths.enumerate().max_by_key(|(_, length)| *length)?;
                if length == 0 {
                    return None;
                }
                if let Some(task) = self.0[longest].take(true) {
                    return Some(task);
                }
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_takes_its_share_in_order_and_then_the_ends_of_the_longest() {
        let shares = Shares::new(3);
        let taken = |ranges: [Range<usize>; 3], own: usize| {
            shares.0.iter().zip(ranges).for_each(|(share, tasks)| share.set(tasks));
            std::iter::from_fn(|| shares.take(own, 3)).collect::<Vec<_>>()
        };
        assert_eq!(taken([0..3, 3..5, 5..8], 0), [0, 1, 2, 7, 6, 4, 5, 3]);
        assert_eq!(taken([0..0, 0..2, 2..2], 2), [1, 0]);
        assert!(taken([0..0, 0..0, 0..0], 1).is_empty());
        let most = u32::MAX as usize;
        assert_eq!(taken([most - 2..most, 0..0, 0..0], 1), [most - 1, most - 2]);
    }

    #[test]
    fn every_task_is_in_one_share() {
        let shares = Shares::new(5);
        for tasks in 0..40 {
            for count in 1..=5 {
                shares.set(tasks, count);
                let mut taken: Vec<_> = std::iter::from_fn(|| shares.take(count - 1, count)).collect();
                taken.sort_unstable();
                assert_eq!(taken, (0..tasks).collect::<Vec<_>>(), "{count} shares");
            }
        }
    }
}
