//! The workers of this process, and the task that they work at.
//!
//! A forked child has a copy of the pool's memory, which another thread may have been changing, but
//! none of its workers. So a pool knows the id of the process that made it. A process with another id
//! makes a new pool, and looks at nothing else in the old one.
#![expect(unsafe_code, reason = "workers run what a caller lends them, for as long as it waits")]

use std::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use std::{hint, process, ptr, thread};

use super::claims::{Claims, Side};
use crate::environment::{self, ThreadId};
use crate::worth::{SHORT_PATIENCE, Worth};

/// Enough for the buffers that strided arrays are gathered into, several times over.
const STACK_BYTES: usize = 512 * 1024;

/// The largest number of rounds of looking, in case the clock stands still: a millisecond.
const MOST_LOOKS: usize = 1_000;

/// How often to look before reading the clock and letting others run: about a microsecond.
const PAUSES: usize = 16;

/// The claims of a caller, in the form that workers get.
#[derive(Clone, Copy)]
struct Task(*const Claims<'static>);

// SAFETY: `Claims` is `Sync`: it has atomics, and a `work` that is `Sync` by its type. That it is
// still there is up to who follows the pointer.
unsafe impl Send for Task {}

pub(super) struct Pool {
    /// The process whose threads its workers are.
    process: u32,
    state: Mutex<State>,
    /// How many tasks were posted; changed under the lock.
    posts: AtomicUsize,
    /// A task was posted, for workers that sleep.
    posted: Condvar,
    /// A worker has left a task, for callers that sleep. There may be several: one whose task was
    /// taken back and is not left yet, and those after it.
    left: Condvar,
}

#[derive(Default)]
pub(super) struct State {
    workers: usize,
    /// The ids of workers that have begun.
    ids: Vec<ThreadId>,
    /// The core that they are kept away from.
    pub(super) kept_off: Option<usize>,
    /// How many of them sleep.
    sleepers: usize,
    /// How many callers sleep.
    waiting: usize,
    task: Option<Task>,
    /// How many more workers may join the task.
    seats: usize,
    pub(super) worth: Worth,
}

impl State {
    /// Linux may wake a thread on the core of the one that wakes it, although another core is idle, and
    /// leave both there for milliseconds, which is longer than most steps take.
    fn keep_workers_off_this_core(&mut self) {
        let core = environment::core();
        if let Some(number) = core.filter(|_| core != self.kept_off) {
            environment::keep_off(number, &self.ids);
            self.kept_off = core;
        }
    }
}

static POOL: AtomicPtr<Pool> = AtomicPtr::new(ptr::null_mut());

impl Pool {
    pub(super) fn of_this_process() -> &'static Self {
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
                posts: AtomicUsize::new(0),
                posted: Condvar::new(),
                left: Condvar::new(),
            }));
            match POOL.compare_exchange(known, new, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => return new,
                Err(other) => known = other,
            }
        }
    }

    /// Nothing panics while it holds the lock. If it did, the state would still be whole.
    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Shows a task to this many workers, and starts those that are missing. `None` if there is another
    /// task, or if sharing this one does not save time.
    pub(super) fn post<'a>(
        &'static self,
        claims: &'a Claims<'a>,
        helpers: usize,
        bytes: usize,
        mut start: Instant,
    ) -> Option<Posted<'a>> {
        let mut state = self.lock();
        // The setting, for the passes of a step differ in their chunks.
        state.worth.begin(start, super::threads().saturating_sub(1));
        let awake = state.workers - state.sleepers;
        if state.task.is_some() || !state.worth.shares(bytes, awake > 0) {
            return None;
        }
        while state.workers < helpers {
            let builder = thread::Builder::new().name("instep".to_owned()).stack_size(STACK_BYTES);
            if environment::with_signals_blocked(|| builder.spawn(|| self.work())).is_err() {
                break;
            }
            state.workers += 1;
            // Starting a thread is not a cost of sharing.
            start = Instant::now();
        }
        state.task = Some(Task(ptr::from_ref(claims).cast()));
        state.seats = helpers;
        let wanted = helpers.saturating_sub(awake).min(state.sleepers);
        if wanted > 0 {
            state.keep_workers_off_this_core();
        }
        self.posts.fetch_add(1, Ordering::Relaxed);
        drop(state);
        for _ in 0..wanted {
            self.posted.notify_one();
        }
        Some(Posted { pool: self, claims, start })
    }

    /// The life of a worker.
    fn work(&self) -> ! {
        let mut state = self.lock();
        state.ids.push(environment::thread_id());
        // The others may be kept off a core that this one does not know of.
        state.kept_off = None;
        loop {
            if let Some(Task(claims)) = state.task.filter(|_| state.seats > 0) {
                state.seats -= 1;
                // SAFETY: the claims are posted, and we hold the lock. Their owner holds a `Posted`
                // that borrows them, which before it goes takes the task back, under the lock, and
                // then waits for their `inside` to be zero. It is raised here before the lock is
                // given up, and lowering it is the last use of them.
                let claims = unsafe { &*claims };
                claims.inside.fetch_add(1, Ordering::Relaxed);
                drop(state);
                claims.run_or_note(Side::Back);
                // Releases what was written to the caller, which may continue at once.
                claims.inside.fetch_sub(1, Ordering::Release);
                state = self.lock();
                // A caller that saw us inside, under the lock, is asleep now.
                if state.waiting > 0 {
                    self.left.notify_all();
                }
                continue;
            }
            let (posts, patience) = (self.posts.load(Ordering::Relaxed), state.worth.patience());
            drop(state);
            look_out(patience, || self.posts.load(Ordering::Relaxed) != posts);
            state = self.lock();
            if state.task.is_none() || state.seats == 0 {
                state.sleepers += 1;
                state = self.posted.wait(state).unwrap_or_else(PoisonError::into_inner);
                state.sleepers -= 1;
            }
        }
    }
}

/// A task that workers may work at. When this is dropped, even by a panic, they have left it.
pub(super) struct Posted<'a> {
    pool: &'static Pool,
    claims: &'a Claims<'a>,
    /// When the workers were there.
    pub(super) start: Instant,
}

impl Drop for Posted<'_> {
    fn drop(&mut self) {
        self.pool.lock().task = None;
        // Nobody joins any more. The workers inside are at their last chunk. If they have a core to
        // themselves, they will soon be done; if not, we should leave them ours.
        if look_out(SHORT_PATIENCE, || self.claims.is_left()) {
            return;
        }
        let mut state = self.pool.lock();
        state.waiting += 1;
        while !self.claims.is_left() {
            state = self.pool.left.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.waiting -= 1;
    }
}

/// Looks again and again whether something has come, for this time at most; returns whether it has.
///
/// Threads that wait for the core run in between, so this only uses time that is left over.
fn look_out(patience: Duration, mut has_come: impl FnMut() -> bool) -> bool {
    let start = Instant::now();
    for _ in 0..MOST_LOOKS {
        for _ in 0..PAUSES {
            if has_come() {
                return true;
            }
            hint::spin_loop();
        }
        if start.elapsed() >= patience {
            return false;
        }
        thread::yield_now();
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn looking_out_ends() {
        let looks = |patience, comes_at| {
            let mut count = 0;
            let come = look_out(patience, || {
                count += 1;
                count == comes_at
            });
            (come, count)
        };
        // Without a look at the clock.
        assert_eq!(looks(Duration::ZERO, PAUSES), (true, PAUSES));
        assert_eq!(looks(Duration::ZERO, PAUSES + 1), (false, PAUSES));
        let most = MOST_LOOKS * PAUSES;
        assert_eq!(looks(Duration::MAX, most), (true, most));
        assert_eq!(looks(Duration::MAX, most + 1), (false, most));
    }
}
