//! The compute pool of the process: fork and join over numbered tasks, with threads that sleep when idle.
//!
//! A job is a set of independent tasks, usually one step of a program. The calling thread works on it too, and helper
//! threads join until the job closes. Each thread first does its own share of adjacent tasks, in ascending order. Adjacent
//! tasks read adjacent weights, so a task can prefetch those of the next one. Then a thread takes tasks from the end of the
//! longest share that is left. If all threads of the pool work on a job, each one has the same share as in the job before.
//!
//! The caller waits only for helpers that have joined: a helper that the system wakes late finds the job closed, so a busy
//! machine only loses that helper's work. One job runs at a time. The [`Arbiter`] decides which run goes next.

mod shares;

use self::shares::Shares;
use crate::arbiter::{Arbiter, Lane};
use std::cell::UnsafeCell;
use std::hint;
use std::panic::{self, AssertUnwindSafe};
use std::process;
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread;

/// Bits of the state: how many helpers have joined the open job.
const JOINED: u64 = 0xffff;
/// Bit of the state: helpers may join.
const OPEN: u64 = 0x1_0000;
/// Added to the state for each job: the bits above `OPEN` count jobs.
const EPOCH: u64 = 0x2_0000;
/// Iterations of an idle helper's spin loop before it sleeps: some tens of microseconds.
const SPINS: u32 = 2_000;

type Task<'a> = dyn Fn(usize, usize) + Sync + 'a;

/// The open job.
struct Job {
    run: *const Task<'static>,
    /// Most helpers that may join.
    helpers: u64,
}

/// State shared by the callers and the helper threads.
struct Shared {
    /// Job counter, open flag and number of joined helpers in one word, so that joining and closing a job are atomic.
    state: AtomicU64,
    /// Written only while the open flag is clear and no helper is joined.
    job: UnsafeCell<Job>,
    /// The tasks of the open job that nobody has taken, in one share for each of its threads.
    shares: Shares,
    /// A task panicked on a helper.
    failed: AtomicBool,
    /// Number of sleeping helpers.
    sleepers: AtomicUsize,
    sleep: Mutex<()>,
    wake: Condvar,
    /// Held by the caller whose job runs.
    caller: Mutex<()>,
}

// SAFETY: `job` is written only by the holder of `caller`, while the open flag is clear and no helper is joined; it is
// read only by helpers that have joined.
unsafe impl Sync for Shared {}
// SAFETY: the pointer in `job` is dereferenced only by joined helpers, and `Pool::run` keeps its target alive until no
// helper is joined.
unsafe impl Send for Shared {}

/// The pool of one process; see [`Pool::global`].
struct ProcessPool {
    process: u32,
    pool: OnceLock<Pool>,
}

/// A set of compute threads.
pub struct Pool {
    shared: Arc<Shared>,
    threads: usize,
    arbiter: Arbiter,
}

impl Pool {
    /// Returns the pool of this process. It has one thread for each core that the process may use.
    ///
    /// A child process that was forked gets a pool of its own: it has a copy of the parent's pool, but none of its
    /// threads, and a lock in the copy may be held by one of them for ever. The copy is therefore left alone.
    pub fn global() -> &'static Self {
        static POOL: AtomicPtr<ProcessPool> = AtomicPtr::new(ptr::null_mut());
        let process = process::id();
        let mut known = POOL.load(Ordering::Acquire);
        loop {
            // SAFETY: the pointer is null or came from `Box::into_raw`, and a published value is never freed.
            let own = unsafe { known.as_ref() };
            if let Some(own) = own.filter(|own| own.process == process) {
                return own.pool.get_or_init(Self::for_all_cores);
            }
            let new = Box::into_raw(Box::new(ProcessPool {
                process,
                pool: OnceLock::new(),
            }));
            known = match POOL.compare_exchange(known, new, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => new,
                Err(published) => {
                    // SAFETY: `new` came from `Box::into_raw`, and no other thread has seen it.
                    drop(unsafe { Box::from_raw(new) });
                    published
                }
            };
        }
    }

    fn for_all_cores() -> Self {
        Self::new(thread::available_parallelism().map_or(1, usize::from))
    }

    /// Creates a pool of `threads` threads, including the caller's. The helper threads live as long as the process.
    ///
    /// If the system refuses to start a thread, the pool is smaller; see [`Pool::threads`].
    pub fn new(threads: usize) -> Self {
        let shared = Arc::new(Shared {
            state: AtomicU64::new(0),
            job: UnsafeCell::new(Job {
                run: &|_, _| (),
                helpers: 0,
            }),
            shares: Shares::new(threads.clamp(1, JOINED as usize)),
            failed: AtomicBool::new(false),
            sleepers: AtomicUsize::new(0),
            sleep: Mutex::new(()),
            wake: Condvar::new(),
            caller: Mutex::new(()),
        });
        let mut started = 1;
        for worker in 1..threads.min(JOINED as usize) {
            let shared = Arc::clone(&shared);
            let spawned = thread::Builder::new()
                .name(format!("embergem-{worker}"))
                .spawn(move || help(&shared, worker));
            if spawned.is_err() {
                break;
            }
            started += 1;
        }
        Self {
            shared,
            threads: started,
            arbiter: Arbiter::new(),
        }
    }

    /// Returns the arbiter that decides which run computes.
    pub fn arbiter(&self) -> &Arbiter {
        &self.arbiter
    }

    /// Returns the number of threads, including the caller's.
    pub fn threads(&self) -> usize {
        self.threads
    }

    /// Calls `run(task, worker)` once for each task below `tasks`, on at most `threads` threads, and returns when all
    /// are done. `worker` is below [`Pool::threads`], and no two concurrent calls get the same one.
    ///
    /// # Panics
    /// If a task panics, and if there are 2³² tasks or more.
    pub fn run(&self, threads: usize, tasks: usize, run: &(dyn Fn(usize, usize) + Sync)) {
        assert!(tasks <= u32::MAX as usize, "{tasks} tasks are too many for one job");
        let _caller = lock(&self.shared.caller);
        let helpers = threads.min(self.threads).min(tasks).saturating_sub(1);
        if helpers == 0 {
            (0..tasks).for_each(|task| run(task, 0));
            return;
        }
        let shared = &*self.shared;
        // SAFETY: `run` outlives its use, because this function returns only after every joined helper has left the
        // job. No helper reads `job` now: the lock is held, the open flag is clear and no helper is joined.
        unsafe {
            let run = std::mem::transmute::<*const Task<'_>, *const Task<'static>>(run);
            *shared.job.get() = Job {
                run,
                helpers: helpers as u64,
            };
        }
        shared.failed.store(false, Ordering::Relaxed);
        let shares = helpers + 1;
        shared.shares.set(tasks, shares);
        let epoch = shared.state.load(Ordering::Relaxed) & !(OPEN | JOINED);
        shared.state.store((epoch + EPOCH) | OPEN, Ordering::SeqCst);
        if shared.sleepers.load(Ordering::SeqCst) > 0 {
            let _sleep = lock(&shared.sleep);
            shared.wake.notify_all();
        }
        // Closes the job and waits until no helper is joined. It is a destructor because that must happen after a panic
        // too: helpers hold a pointer into this stack frame.
        struct Close<'a>(&'a Shared, usize);
        impl Drop for Close<'_> {
            fn drop(&mut self) {
                if thread::panicking() {
                    self.0.shares.set(0, self.1);
                }
                self.0.state.fetch_and(!OPEN, Ordering::AcqRel);
                let mut spins = 0u32;
                while self.0.state.load(Ordering::Acquire) & JOINED != 0 {
                    spins += 1;
                    if spins < SPINS {
                        hint::spin_loop()
                    } else {
                        thread::yield_now()
                    }
                }
            }
        }
        let close = Close(shared, shares);
        while let Some(task) = shared.shares.take(0, shares) {
            run(task, 0);
        }
        drop(close);
        assert!(
            !shared.failed.load(Ordering::Relaxed),
            "a task of the compute pool panicked"
        );
    }

    /// Like [`Pool::run`] on all threads, for long work. It is divided into jobs of `tasks_per_thread` tasks for each
    /// thread. Between two jobs other runs go first when it is their turn. The work is in the bulk lane, because
    /// requests may be waiting for runs that compute at the same time.
    pub fn run_in_turns(&self, tasks: usize, tasks_per_thread: usize, run: &(dyn Fn(usize, usize) + Sync)) {
        let turn = self.arbiter.enter(Lane::Bulk);
        let job = tasks_per_thread.max(1).saturating_mul(self.threads);
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

/// Runs `work` and panics if it ends without having waited for its turn on the pool of this process.
#[cfg(test)]
pub(crate) fn require_turns(work: impl FnOnce() + Send) {
    let arbiter = Pool::global().arbiter();
    let turn = arbiter.enter(Lane::Interactive);
    thread::scope(|scope| {
        let worker = scope.spawn(work);
        while !arbiter.has_waiting(Lane::Bulk) {
            assert!(!worker.is_finished(), "the work did not wait for a turn");
            thread::yield_now();
        }
        drop(turn);
    });
}

/// Body of a helper thread.
fn help(shared: &Shared, worker: usize) {
    let mut seen = 0;
    loop {
        let state = wait(shared, seen);
        seen = state & !(OPEN | JOINED);
        if let Some(joined) = join(shared, seen) {
            // SAFETY: this helper has joined, so no caller writes `job` until the `fetch_sub` below.
            let job = unsafe { &*shared.job.get() };
            // If every thread has a share, it is that of the same thread in each job.
            let shares = job.helpers as usize + 1;
            let share = if shares == shared.shares.threads() {
                worker
            } else {
                joined + 1
            };
            // The caller waits for this helper, so a panic must not end the thread. `failed` makes the caller panic.
            let outcome = panic::catch_unwind(AssertUnwindSafe(|| {
                while let Some(task) = shared.shares.take(share, shares) {
                    // SAFETY: the caller keeps the target of `run` alive in `Pool::run` until this helper leaves the
                    // job.
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

/// Waits for a job other than `seen` and returns the state: spins for a while, then sleeps.
fn wait(shared: &Shared, seen: u64) -> u64 {
    let new_job = |order| {
        let state = shared.state.load(order);
        (state & !(OPEN | JOINED) != seen).then_some(state)
    };
    for _ in 0..SPINS {
        if let Some(state) = new_job(Ordering::Acquire) {
            return state;
        }
        hint::spin_loop();
    }
    let mut sleep = lock(&shared.sleep);
    shared.sleepers.fetch_add(1, Ordering::SeqCst);
    let state = loop {
        if let Some(state) = new_job(Ordering::SeqCst) {
            break state;
        }
        sleep = shared.wake.wait(sleep).unwrap_or_else(PoisonError::into_inner);
    };
    shared.sleepers.fetch_sub(1, Ordering::SeqCst);
    state
}

/// Joins job `epoch` if it is still open and has room for another helper; returns how many had joined before.
fn join(shared: &Shared, epoch: u64) -> Option<usize> {
    let mut state = shared.state.load(Ordering::Acquire);
    loop {
        if state & !JOINED != epoch | OPEN {
            return None;
        }
        match shared
            .state
            .compare_exchange_weak(state, state + 1, Ordering::AcqRel, Ordering::Acquire)
        {
            Ok(_) => break,
            Err(now) => state = now,
        }
    }
    // SAFETY: this helper has joined, so no caller writes `job` until the helper leaves.
    let wanted = unsafe { (*shared.job.get()).helpers };
    if (state & JOINED) < wanted {
        return Some((state & JOINED) as usize);
    }
    shared.state.fetch_sub(1, Ordering::AcqRel);
    None
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
    fn long_work_lets_others_go_first_and_runs_every_task() {
        for (threads, tasks, tasks_per_thread) in [(1, 0, 4), (1, 9, 4), (3, 100, 0), (3, 100, 7), (2, 5, usize::MAX)] {
            let pool = Pool::new(threads);
            let counts: Vec<AtomicUsize> = (0..tasks).map(|_| AtomicUsize::new(0)).collect();
            pool.run_in_turns(tasks, tasks_per_thread, &|task, _| {
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
                    while !pool.arbiter().has_waiting(Lane::Interactive) {
                        thread::yield_now();
                    }
                }
                4.. => assert!(served.load(Ordering::Relaxed), "the second job ran before the query"),
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
                    for _ in 0..1000 {
                        pool.run(3, 5, &|_, _| {
                            total.fetch_add(1, Ordering::Relaxed);
                        });
                    }
                });
            }
        });
        assert_eq!(total.into_inner(), 4 * 1000 * 5);
    }

    #[test]
    fn a_panicking_task_leaves_the_pool_usable() {
        let pool = Pool::new(2);
        let caught = panic::catch_unwind(AssertUnwindSafe(|| {
            pool.run(1, 3, &|task, _| assert_ne!(task, 1));
        }));
        assert!(caught.is_err());
        // The caller's own task waits until the helper has begun its task, so that the panic happens on the helper.
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
