//! Threads: numbered chunks of a step, claimed one by one by the calling thread and by parked workers.
//!
//! The caller posts its task, wakes workers and begins to claim chunks itself at once. A worker that
//! comes late finds fewer left, or none: nobody waits for it. When all chunks are claimed, the caller
//! takes the task back, and waits only for workers that are still at a chunk they have claimed.
//!
//! There is one task at a time. A caller that finds another's posted does its chunks alone, which
//! costs less than waiting. There is no thread before the first task that asks for one, and workers
//! without a task sleep.
//!
//! A caller in a floating-point mode of its own does its chunks alone, too, so that all of them are
//! computed in it. Workers are in the default mode: a new thread has the mode of the one that starts
//! it, and only a caller in the default mode does.
//!
//! A forked child has a copy of the pool's memory, which another thread may have been changing, and
//! none of its workers. So a pool knows the id of the process it was made in, and a process with
//! another id makes a new one without a look at more of the old one than that.
#![expect(unsafe_code, reason = "workers run what a caller lends them, for as long as it waits")]

use std::num::NonZero;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::{env, process, ptr, thread};

use crate::environment;
use crate::error::Error;

/// The environment variable that sets the number of threads.
const VARIABLE: &str = "INSTEP_NUM_THREADS";

/// Enough for the buffers that strided arrays are gathered into, several times over.
const STACK_BYTES: usize = 512 * 1024;

static THREADS: AtomicUsize = AtomicUsize::new(1);

/// The most threads that a task is run on, the caller's included: 1 until it is set.
pub fn threads() -> usize {
    THREADS.load(Ordering::Relaxed)
}

/// Sets the most threads that a task is run on. Workers that are there already only sleep.
pub fn set_threads(count: NonZero<usize>) {
    THREADS.store(count.get(), Ordering::Relaxed);
}

/// The number of threads to begin with: what `INSTEP_NUM_THREADS` says, or as many as this process
/// may use at a time, by its affinity mask and its cgroup's quota.
///
/// # Errors
/// When `INSTEP_NUM_THREADS` is not a whole number of 1 or more.
pub fn default_threads() -> Result<NonZero<usize>, Error> {
    match env::var_os(VARIABLE) {
        Some(word) if !word.is_empty() => {
            word.to_str().and_then(|word| word.trim().parse().ok()).ok_or_else(|| {
                let word = word.to_string_lossy();
                Error::Import(format!("{VARIABLE} is {word:?}; wanted a whole number of 1 or more"))
            })
        }
        _ => Ok(thread::available_parallelism().unwrap_or(NonZero::<usize>::MIN)),
    }
}

/// Calls `work` with each number below `chunks`, with each of them once, on as many threads as
/// [`threads`] allows; returns when all calls have.
///
/// # Panics
/// When a call of `work` does.
pub fn each(chunks: usize, work: &(dyn Fn(usize) + Sync)) {
    let (next, inside) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let claims = Claims { next, chunks, work, inside, panicked: AtomicBool::new(false) };
    let helpers = threads().min(chunks).saturating_sub(1);
    if helpers == 0 || !environment::has_default_floats() {
        claims.run();
        return;
    }
    let posted = Pool::of_this_process().post(&claims, helpers);
    claims.run();
    drop(posted);
    assert!(!claims.panicked.into_inner(), "a worker panicked at its chunk");
}

/// The chunks of a task, how many of them are claimed, and who is at them.
struct Claims<'a> {
    next: AtomicUsize,
    chunks: usize,
    work: &'a (dyn Fn(usize) + Sync),
    /// How many workers have joined and not left; changed under the pool's lock.
    inside: AtomicUsize,
    panicked: AtomicBool,
}

impl Claims<'_> {
    /// Claims chunks and works at them until all are claimed.
    fn run(&self) {
        loop {
            // What a chunk writes reaches the caller through the pool's mutex, so the claim itself
            // need not order anything.
            let chunk = self.next.fetch_add(1, Ordering::Relaxed);
            if chunk >= self.chunks {
                return;
            }
            (self.work)(chunk);
        }
    }
}

/// The claims of a caller, as its workers reach them.
#[derive(Clone, Copy)]
struct Task(*const Claims<'static>);

// SAFETY: `Claims` is `Sync`: it has atomics, and a `work` that is `Sync` by its type. That it is
// still there is up to who follows the pointer.
unsafe impl Send for Task {}

struct Pool {
    /// The process whose threads its workers are.
    process: u32,
    state: Mutex<State>,
    /// A task was posted.
    posted: Condvar,
    /// The last worker has left a task. Several callers may wait for this: one whose task was taken
    /// back and is not left yet, and those after it.
    left: Condvar,
}

#[derive(Default)]
struct State {
    workers: usize,
    task: Option<Task>,
    /// How many more workers may join the task.
    seats: usize,
}

static POOL: AtomicPtr<Pool> = AtomicPtr::new(ptr::null_mut());

impl Pool {
    fn of_this_process() -> &'static Self {
        let process = process::id();
        let mut known = POOL.load(Ordering::Acquire);
        loop {
            // SAFETY: `known` is null, or comes from `Box::leak` below and was published after it
            // was made; nothing ever frees a pool. `process` is never changed, so reading it is no
            // race even in a child that was forked while a thread of its parent was in the pool.
            if let Some(pool) = unsafe { known.as_ref() }.filter(|pool| pool.process == process) {
                return pool;
            }
            let new = Box::leak(Box::new(Self {
                process,
                state: Mutex::default(),
                posted: Condvar::new(),
                left: Condvar::new(),
            }));
            match POOL.compare_exchange(known, new, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => return new,
                Err(other) => known = other,
            }
        }
    }

    /// Nothing panics while it holds the lock, and if it did the state would still be whole.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Shows a task to as many workers, which are started where there are not as many; `None` when
    /// there is another task.
    fn post<'a>(&'static self, claims: &'a Claims<'a>, helpers: usize) -> Option<Posted<'a>> {
        let mut state = self.lock();
        if state.task.is_some() {
            return None;
        }
        while state.workers < helpers {
            let builder = thread::Builder::new().name("instep".to_owned()).stack_size(STACK_BYTES);
            if environment::with_signals_blocked(|| builder.spawn(|| self.work())).is_err() {
                break;
            }
            state.workers += 1;
        }
        state.task = Some(Task(ptr::from_ref(claims).cast()));
        state.seats = helpers;
        drop(state);
        for _ in 0..helpers {
            self.posted.notify_one();
        }
        Some(Posted { pool: self, claims })
    }

    /// The life of a worker.
    fn work(&self) -> ! {
        let mut state = self.lock();
        loop {
            let Some(Task(claims)) = state.task.filter(|_| state.seats > 0) else {
                state = self.posted.wait(state).unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            state.seats -= 1;
            // SAFETY: the claims are posted, and we hold the lock. Their owner holds a `Posted` that
            // borrows them, which before it goes takes the task back and waits for their `inside` to
            // be zero, also under the lock. It is raised here before the lock is given up, and they
            // are not used any more once it is lowered and the lock is given up again.
            let claims = unsafe { &*claims };
            claims.inside.fetch_add(1, Ordering::Relaxed);
            drop(state);
            if catch_unwind(AssertUnwindSafe(|| claims.run())).is_err() {
                claims.panicked.store(true, Ordering::Relaxed);
            }
            state = self.lock();
            if claims.inside.fetch_sub(1, Ordering::Relaxed) == 1 {
                self.left.notify_all();
            }
        }
    }
}

/// A task that workers may be at. They have left it when this is gone, even by a panic.
struct Posted<'a> {
    pool: &'static Pool,
    claims: &'a Claims<'a>,
}

impl Drop for Posted<'_> {
    fn drop(&mut self) {
        let mut state = self.pool.lock();
        state.task = None;
        while self.claims.inside.load(Ordering::Relaxed) > 0 {
            state = self.pool.left.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU8;
    use std::sync::{Barrier, mpsc};
    use std::time::Duration;

    use super::*;

    fn with_threads<T>(count: usize, run: impl FnOnce() -> T) -> T {
        // One test at a time, as the count is the process's.
        static ONE: Mutex<()> = Mutex::new(());
        let guard = ONE.lock().unwrap_or_else(PoisonError::into_inner);
        set_threads(NonZero::new(count).expect("a count"));
        let result = run();
        set_threads(NonZero::<usize>::MIN);
        drop(guard);
        result
    }

    #[test]
    fn every_chunk_is_done_once_and_before_the_call_returns() {
        for threads in 1..=5 {
            with_threads(threads, || {
                for chunks in (0..40).cycle().take(4_000) {
                    let done: Vec<_> = (0..chunks).map(|_| AtomicU8::new(0)).collect();
                    each(chunks, &|chunk| {
                        done[chunk].fetch_add(1, Ordering::Relaxed);
                    });
                    assert!(done.iter().all(|count| count.load(Ordering::Relaxed) == 1));
                }
            });
        }
    }

    #[test]
    fn callers_at_the_same_time_get_all_of_their_own_done() {
        with_threads(3, || {
            thread::scope(|scope| {
                for caller in 0..4_usize {
                    scope.spawn(move || {
                        for round in 0..2_000 {
                            let sum = AtomicUsize::new(0);
                            each(16, &|chunk| {
                                sum.fetch_add(caller + round + chunk, Ordering::Relaxed);
                            });
                            assert_eq!(sum.into_inner(), 16 * (caller + round) + 120);
                        }
                    });
                }
            });
        });
    }

    #[test]
    fn no_caller_is_left_waiting_for_the_workers_of_another() {
        let (done, wait) = mpsc::channel();
        // A thread that is left waiting can't be ended: the test must not wait for it too.
        thread::spawn(move || {
            with_threads(2, || {
                let barrier = Barrier::new(2);
                thread::scope(|scope| {
                    for _ in 0..2 {
                        scope.spawn(|| {
                            for _ in 0..20_000 {
                                barrier.wait();
                                each(4, &|_| (0..500).for_each(|_| std::hint::spin_loop()));
                            }
                        });
                    }
                });
            });
            done.send(())
        });
        assert!(wait.recv_timeout(Duration::from_secs(60)).is_ok(), "a caller waits for ever");
    }

    #[test]
    fn what_workers_write_is_seen() {
        with_threads(4, || {
            let mut numbers = vec![0_usize; 64];
            for round in 1..=2_000 {
                let chunks: Vec<_> = numbers.chunks_mut(4).map(Mutex::new).collect();
                each(chunks.len(), &|chunk| {
                    chunks[chunk].lock().expect("no panic").fill(round);
                });
                drop(chunks);
                assert!(numbers.iter().all(|&number| number == round));
            }
        });
    }

    #[test]
    fn a_panic_reaches_the_caller_and_the_pool_goes_on() {
        with_threads(3, || {
            for bad in 0..30 {
                let run = || each(30, &|chunk| assert_ne!(chunk, bad, "planted"));
                assert!(catch_unwind(run).is_err());
                let count = AtomicUsize::new(0);
                each(30, &|_| {
                    count.fetch_add(1, Ordering::Relaxed);
                });
                assert_eq!(count.into_inner(), 30);
            }
        });
    }
}
