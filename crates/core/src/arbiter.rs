//! Access to the compute pool: one run computes at a time, and between two steps a waiting run may go first.
//!
//! [`schedule`] decides which run is next; this module makes threads wait for its decisions.

mod schedule;

use self::schedule::Schedule;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Priority class of a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Lane {
    /// A person or a service waits for the result.
    #[default]
    Interactive,
    /// Throughput matters, latency does not.
    Bulk,
}

/// Grants the pool to one run at a time.
pub struct Arbiter {
    schedule: Mutex<Schedule>,
    /// Number of waiting runs. Read between steps without the lock, so that a step without contention costs nothing.
    waiting: AtomicUsize,
    changed: Condvar,
    start: Instant,
}

impl Arbiter {
    pub(crate) fn new() -> Self {
        Self {
            schedule: Mutex::default(),
            waiting: AtomicUsize::new(0),
            changed: Condvar::new(),
            start: Instant::now(),
        }
    }

    /// Waits until a run of this lane may compute.
    pub fn enter(&self, lane: Lane) -> Turn<'_> {
        self.wait(self.lock(), lane);
        Turn { arbiter: self, lane }
    }

    fn wait<'a>(&'a self, mut schedule: MutexGuard<'a, Schedule>, lane: Lane) {
        let ticket = schedule.enqueue(lane, self.now());
        self.waiting.fetch_add(1, Ordering::Relaxed);
        while !schedule.try_start(ticket, self.now()) {
            schedule = self.changed.wait(schedule).unwrap_or_else(PoisonError::into_inner);
        }
        self.waiting.fetch_sub(1, Ordering::Relaxed);
    }

    /// Returns whether a run of this lane waits for its turn.
    #[cfg(test)]
    pub fn has_waiting(&self, lane: Lane) -> bool {
        self.lock().has_waiting(lane)
    }

    fn lock(&self) -> MutexGuard<'_, Schedule> {
        self.schedule.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> f64 {
        self.start.elapsed().as_secs_f64()
    }
}

/// The permission to compute. It ends when this value is dropped.
pub struct Turn<'a> {
    arbiter: &'a Arbiter,
    lane: Lane,
}

impl Turn<'_> {
    /// Returns whether [`Turn::pause`] would let another run go first.
    pub fn should_yield(&self) -> bool {
        self.arbiter.waiting.load(Ordering::Relaxed) > 0 && self.arbiter.lock().should_yield(self.arbiter.now())
    }

    /// Lets other runs go first if it is their turn, then waits for the next turn of this run. Call it between two
    /// steps. Returns how long it waited.
    pub fn pause(&self) -> Duration {
        if self.arbiter.waiting.load(Ordering::Relaxed) == 0 {
            return Duration::ZERO;
        }
        let mut schedule = self.arbiter.lock();
        let now = self.arbiter.now();
        if !schedule.should_yield(now) {
            return Duration::ZERO;
        }
        let start = Instant::now();
        schedule.stop(now);
        self.arbiter.changed.notify_all();
        self.arbiter.wait(schedule, self.lane);
        start.elapsed()
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.arbiter.lock().stop(self.arbiter.now());
        self.arbiter.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread;

    #[test]
    fn one_run_computes_at_a_time() {
        let arbiter = Arbiter::new();
        let computing = AtomicUsize::new(0);
        let steps = AtomicUsize::new(0);
        thread::scope(|scope| {
            for lane in [Lane::Interactive, Lane::Bulk, Lane::Bulk, Lane::Interactive] {
                let (arbiter, computing, steps) = (&arbiter, &computing, &steps);
                scope.spawn(move || {
                    for _ in 0..50 {
                        let turn = arbiter.enter(lane);
                        for _ in 0..20 {
                            assert_eq!(computing.fetch_add(1, Ordering::SeqCst), 0);
                            thread::yield_now();
                            steps.fetch_add(1, Ordering::Relaxed);
                            computing.fetch_sub(1, Ordering::SeqCst);
                            turn.pause();
                        }
                    }
                });
            }
        });
        assert_eq!(steps.into_inner(), 4 * 50 * 20);
    }
}
