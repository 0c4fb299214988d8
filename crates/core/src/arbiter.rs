//! Who may use the compute pool: one run at a time, and between any two steps it is asked whether another goes first.
//! Which one that is, its [`Book`] says.

mod schedule;

use self::schedule::Book;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// How urgent a run is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Lane {
    /// Somebody waits for it.
    #[default]
    Interactive,
    /// It has time.
    Bulk,
}

/// Hands out turns.
pub struct Arbiter {
    book: Mutex<Book>,
    /// How many wait: looked at between steps without the lock.
    waiting: AtomicUsize,
    changed: Condvar,
    start: Instant,
}

impl Arbiter {
    pub(crate) fn new() -> Self {
        Self {
            book: Mutex::default(),
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

    fn wait<'a>(&'a self, mut book: MutexGuard<'a, Book>, lane: Lane) {
        let ticket = book.queue(lane, self.now());
        self.waiting.fetch_add(1, Ordering::Relaxed);
        while !book.begin(ticket, self.now()) {
            book = self.changed.wait(book).unwrap_or_else(PoisonError::into_inner);
        }
        self.waiting.fetch_sub(1, Ordering::Relaxed);
    }

    /// Whether somebody of this lane waits for a turn.
    #[cfg(test)]
    pub fn is_waited_for(&self, lane: Lane) -> bool {
        self.lock().waits(lane)
    }

    fn lock(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> f64 {
        self.start.elapsed().as_secs_f64()
    }
}

/// The right to compute; it ends when it is dropped.
pub struct Turn<'a> {
    arbiter: &'a Arbiter,
    lane: Lane,
}

impl Turn<'_> {
    /// Whether [`Turn::pause`] would let another go first.
    pub fn is_wanted(&self) -> bool {
        self.arbiter.waiting.load(Ordering::Relaxed) > 0 && self.arbiter.lock().gives_way(self.arbiter.now())
    }

    /// To be called between two steps: lets others go first when it is their turn, and waits for the next of its own.
    pub fn pause(&self) {
        if self.arbiter.waiting.load(Ordering::Relaxed) == 0 {
            return;
        }
        let mut book = self.arbiter.lock();
        let now = self.arbiter.now();
        if book.gives_way(now) {
            book.end(now);
            self.arbiter.changed.notify_all();
            self.arbiter.wait(book, self.lane);
        }
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.arbiter.lock().end(self.arbiter.now());
        self.arbiter.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread;

    #[test]
    fn one_at_a_time() {
        let arbiter = Arbiter::new();
        let inside = AtomicUsize::new(0);
        let steps = AtomicUsize::new(0);
        thread::scope(|scope| {
            for lane in [Lane::Interactive, Lane::Bulk, Lane::Bulk, Lane::Interactive] {
                let (arbiter, inside, steps) = (&arbiter, &inside, &steps);
                scope.spawn(move || {
                    for _ in 0..50 {
                        let turn = arbiter.enter(lane);
                        for _ in 0..20 {
                            assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0);
                            thread::yield_now();
                            steps.fetch_add(1, Ordering::Relaxed);
                            inside.fetch_sub(1, Ordering::SeqCst);
                            turn.pause();
                        }
                    }
                });
            }
        });
        assert_eq!(steps.into_inner(), 4 * 50 * 20);
    }
}
