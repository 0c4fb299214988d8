//! The one compute pool of the process: fork and join over numbered tasks, asleep when idle.
//!
//! Work comes in jobs of independent tasks; the caller works too, and helpers join while there is something left. A
//! helper that the system wakes late finds the job closed and is not waited for, so a busy machine costs no more than
//! the help that did not come. One job runs at a time, a single step of a program; which run goes next is the arbiter's to
//! say.

use crate::arbiter::{Arbiter, Lane};
use std::cell::UnsafeCell;
use std::hint;
use std::panic::{self, AssertUnwindSafe};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread;

/// The helpers that have joined the open job.
const JOINED: u64 = 0xffff;
/// Set while helpers may join.
const OPEN: u64 = 0x1_0000;
/// One job further.
const EPOCH: u64 = 0x2_0000;
/// How often an idle helper looks for work before it goes to sleep; some tens of microseconds.
const SPINS: u32 = 2_000;

type Task<'a> = dyn Fn(usize, usize) + Sync + 'a;

struct Job {
    run: *const Task<'static>,
    tasks: usize,
    helpers: u64,
}

struct Shared {
    /// Epoch, open flag and joined helpers in one word, so that joining and closing cannot cross.
    state: AtomicU64,
    /// Written only while no helper is joined and the flag is down.
    job: UnsafeCell<Job>,
    next: AtomicUsize,
    /// A helper's task panicked.
    failed: AtomicBool,
    sleepers: AtomicUsize,
    sleep: Mutex<()>,
    wake: Condvar,
    /// Held by the caller whose job runs.
    turn: Mutex<()>,
}

// SAFETY: `job` is written under `turn` while no helper can read it, and read only by helpers that have joined.
unsafe impl Sync for Shared {}
// SAFETY: the pointer in `job` is only followed between joining and leaving, while its owner waits in `Pool::run`.
unsafe impl Send for Shared {}

/// A set of helper threads.
pub struct Pool {
    shared: Arc<Shared>,
    threads: usize,
    arbiter: Arbiter,
}

impl Pool {
    /// The pool of this process, with as many threads as cores that the process may use.
    pub fn global() -> &'static Self {
        static POOL: OnceLock<Pool> = OnceLock::new();
        POOL.get_or_init(|| Self::new(thread::available_parallelism().map_or(1, usize::from)))
    }

    /// A pool of `threads` threads, the caller's among them. Its helpers live as long as the process.
    pub fn new(threads: usize) -> Self {
        let shared = Arc::new(Shared {
            state: AtomicU64::new(0),
            job: UnsafeCell::new(Job {
                run: &|_, _| (),
                tasks: 0,
                helpers: 0,
            }),
            next: AtomicUsize::new(0),
            failed: AtomicBool::new(false),
            sleepers: AtomicUsize::new(0),
            sleep: Mutex::new(()),
            wake: Condvar::new(),
            turn: Mutex::new(()),
        });
        let mut started = 1;
        for worker in 1..threads.min(JOINED as usize) {
            let shared = Arc::clone(&shared);
            let spawned = thread::Builder::new()
                .name(format!("embergem-{worker}"))
                .spawn(move || help(&shared, worker));
            if spawned.is_err() {
                break; // The system refuses more threads: the pool is smaller, and says so in `threads`.
            }
            started += 1;
        }
        Self {
            shared,
            threads: started,
            arbiter: Arbiter::new(),
        }
    }

    /// Who decides which run computes.
    pub fn arbiter(&self) -> &Arbiter {
        &self.arbiter
    }

    /// Threads, the caller's among them.
    pub fn threads(&self) -> usize {
        self.threads
    }

    /// Calls `run(task, worker)` once for each task below `tasks`, on at most `threads` threads, and returns when all
    /// are done. `worker` is below [`Pool::threads`] and differs between calls that run at the same time. Panics if a
    /// task did.
    pub fn run(&self, threads: usize, tasks: usize, run: &(dyn Fn(usize, usize) + Sync)) {
        let _turn = lock(&self.shared.turn);
        let helpers = threads.min(self.threads).min(tasks).saturating_sub(1);
        if helpers == 0 {
            (0..tasks).for_each(|task| run(task, 0));
            return;
        }
        let shared = &*self.shared;
        // SAFETY: the reference outlives the job, since this function returns only after every joined helper has left;
        // the flag is down and nobody is joined, so nobody reads `job` now.
        unsafe {
            let run = std::mem::transmute::<*const Task<'_>, *const Task<'static>>(run);
            *shared.job.get() = Job {
                run,
                tasks,
                helpers: helpers as u64,
            };
        }
        shared.failed.store(false, Ordering::Relaxed);
        shared.next.store(0, Ordering::Relaxed);
        let epoch = shared.state.load(Ordering::Relaxed) & !(OPEN | JOINED);
        shared.state.store((epoch + EPOCH) | OPEN, Ordering::SeqCst);
        if shared.sleepers.load(Ordering::SeqCst) > 0 {
            let _sleep = lock(&shared.sleep);
            shared.wake.notify_all();
        }
        // Closes the job and waits for who joined, also when a task panics: helpers hold a pointer into this frame.
        struct Close<'a>(&'a Shared);
        impl Drop for Close<'_> {
            fn drop(&mut self) {
                self.0.next.store(usize::MAX / 2, Ordering::Relaxed);
                self.0.state.fetch_and(!OPEN, Ordering::AcqRel);
                let mut looks = 0u32;
                while self.0.state.load(Ordering::Acquire) & JOINED != 0 {
                    looks += 1;
                    if looks < SPINS {
                        hint::spin_loop()
                    } else {
                        thread::yield_now()
                    }
                }
            }
        }
        let close = Close(shared);
        loop {
            let task = shared.next.fetch_add(1, Ordering::Relaxed);
            if task >= tasks {
                break;
            }
            run(task, 0);
        }
        drop(close);
        assert!(
            !shared.failed.load(Ordering::Relaxed),
            "a task of the compute pool panicked"
        );
    }

    /// Like [`Pool::run`] on all threads, for long work: in jobs of `each` tasks a thread, between which other runs go
    /// first when it is their turn. It counts as bulk, since what computes now has somebody waiting for it.
    pub fn run_in_turns(&self, tasks: usize, each: usize, run: &(dyn Fn(usize, usize) + Sync)) {
        let turn = self.arbiter.enter(Lane::Bulk);
        let job = each.max(1).saturating_mul(self.threads);
        for first in (0..tasks).step_by(job) {
            if first > 0 {
                turn.pause();
            }
            self.run(self.threads, job.min(tasks - first), &|task, worker| {
                run(first + task, worker)
            });
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Panics where `work` ends without having waited for its turn on the pool of this process.
#[cfg(test)]
pub(crate) fn require_turns(work: impl FnOnce() + Send) {
    let arbiter = Pool::global().arbiter();
    let turn = arbiter.enter(Lane::Interactive);
    thread::scope(|scope| {
        let worker = scope.spawn(work);
        while !arbiter.is_waited_for(Lane::Bulk) {
            assert!(!worker.is_finished(), "it took no turn");
            thread::yield_now();
        }
        drop(turn);
    });
}

/// The life of a helper thread.
fn help(shared: &Shared, worker: usize) {
    let mut seen = 0;
    loop {
        let state = wait(shared, seen);
        seen = state & !(OPEN | JOINED);
        if join(shared, seen) {
            // SAFETY: joined, so the job stays in place until `fetch_sub` below.
            let job = unsafe { &*shared.job.get() };
            // A helper that died joined would be waited for without end: the panic is told to the caller instead.
            let outcome = panic::catch_unwind(AssertUnwindSafe(|| {
                loop {
                    let task = shared.next.fetch_add(1, Ordering::Relaxed);
                    if task >= job.tasks {
                        break;
                    }
                    // SAFETY: as above; the caller of `run` waits for this helper.
                    unsafe { (*job.run)(task, worker) };
                }
            }));
            if outcome.is_err() {
                shared.failed.store(true, Ordering::Relaxed);
            }
            shared.state.fetch_sub(1, Ordering::AcqRel);
        }
    }
}

/// Waits for a job other than `seen`: looks a while, then sleeps.
fn wait(shared: &Shared, seen: u64) -> u64 {
    let news = |order| {
        let state = shared.state.load(order);
        (state & !(OPEN | JOINED) != seen).then_some(state)
    };
    for _ in 0..SPINS {
        if let Some(state) = news(Ordering::Acquire) {
            return state;
        }
        hint::spin_loop();
    }
    let mut sleep = lock(&shared.sleep);
    shared.sleepers.fetch_add(1, Ordering::SeqCst);
    let state = loop {
        if let Some(state) = news(Ordering::SeqCst) {
            break state;
        }
        sleep = shared.wake.wait(sleep).unwrap_or_else(PoisonError::into_inner);
    };
    shared.sleepers.fetch_sub(1, Ordering::SeqCst);
    state
}

/// Joins job `epoch` if it is still open and wants another helper.
fn join(shared: &Shared, epoch: u64) -> bool {
    let mut state = shared.state.load(Ordering::Acquire);
    loop {
        if state & !JOINED != epoch | OPEN {
            return false;
        }
        match shared
            .state
            .compare_exchange_weak(state, state + 1, Ordering::AcqRel, Ordering::Acquire)
        {
            Ok(_) => break,
            Err(now) => state = now,
        }
    }
    // SAFETY: joined, so the job stays in place.
    let wanted = unsafe { (*shared.job.get()).helpers };
    if (state & JOINED) < wanted {
        return true;
    }
    shared.state.fetch_sub(1, Ordering::AcqRel);
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_task_runs_once() {
        let pool = Pool::new(4);
        for tasks in [0, 1, 2, 3, 7, 100, 1000] {
            for threads in [1, 2, 4, 9] {
                let counts: Vec<AtomicUsize> = (0..tasks).map(|_| AtomicUsize::new(0)).collect();
                pool.run(threads, tasks, &|task, worker| {
                    assert!(worker < pool.threads());
                    counts[task].fetch_add(1, Ordering::Relaxed);
                });
                assert!(
                    counts.iter().all(|count| count.load(Ordering::Relaxed) == 1),
                    "{tasks} tasks, {threads}"
                );
            }
        }
    }

    #[test]
    fn long_work_gives_way_and_loses_no_task() {
        for (threads, tasks, each) in [(1, 0, 4), (1, 9, 4), (3, 100, 0), (3, 100, 7), (2, 5, usize::MAX)] {
            let pool = Pool::new(threads);
            let counts: Vec<AtomicUsize> = (0..tasks).map(|_| AtomicUsize::new(0)).collect();
            pool.run_in_turns(tasks, each, &|task, _| {
                counts[task].fetch_add(1, Ordering::Relaxed);
            });
            assert!(counts.iter().all(|count| count.load(Ordering::Relaxed) == 1));
        }
        let pool = Pool::new(2);
        let served = AtomicBool::new(false);
        thread::scope(|scope| {
            pool.run_in_turns(8, 2, &|task, _| match task {
                0 => {
                    scope.spawn(|| {
                        let _turn = pool.arbiter().enter(Lane::Interactive);
                        served.store(true, Ordering::Relaxed);
                    });
                    while !pool.arbiter().is_waited_for(Lane::Interactive) {
                        thread::yield_now();
                    }
                }
                4.. => assert!(served.load(Ordering::Relaxed), "the second job came before the query"),
                _ => {}
            });
        });
    }

    #[test]
    fn callers_take_turns() {
        let pool = Pool::new(3);
        let total = AtomicUsize::new(0);
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..200 {
                        pool.run(3, 5, &|_, _| {
                            total.fetch_add(1, Ordering::Relaxed);
                        });
                    }
                });
            }
        });
        assert_eq!(total.into_inner(), 4 * 200 * 5);
    }

    #[test]
    fn a_panicking_task_leaves_the_pool_usable() {
        let pool = Pool::new(2);
        let caught = panic::catch_unwind(AssertUnwindSafe(|| {
            pool.run(1, 3, &|task, _| assert_ne!(task, 1));
        }));
        assert!(caught.is_err());
        // On a helper: the caller's own task waits for it, so that it is the helper's that panics.
        let begun = AtomicBool::new(false);
        let caught = panic::catch_unwind(AssertUnwindSafe(|| {
            pool.run(2, 2, &|_, worker| {
                if worker == 1 {
                    begun.store(true, Ordering::Relaxed);
                    panic!("on purpose");
                }
                while !begun.load(Ordering::Relaxed) {
                    thread::yield_now();
                }
            });
        }));
        assert!(caught.is_err());
        let total = AtomicUsize::new(0);
        pool.run(2, 10, &|_, _| {
            total.fetch_add(1, Ordering::Relaxed);
        });
        assert_eq!(total.into_inner(), 10);
    }
}
