//! Turns: one thread at a time changes the arrays of an optimizer, and no thread while the process
//! forks.
//!
//! Nothing here can deadlock. A thread that has a turn runs no Python code. It waits only for the workers
//! of its own sweep and, after it, for the interpreter. A thread that waits for a turn, or to fork, has
//! released the interpreter, and holds only a place in the queue for that turn. A thread that forks is
//! in no queue. A child has only the thread that forked, and no other thread was in a turn then.

use std::cell::Cell;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, TryLockError};
use std::thread;
use std::time::Duration;

use pyo3::prelude::*;

/// How long to sleep between two looks.
const PAUSE: Duration = Duration::from_micros(50);

/// How many turns there are in this process, and how many of its threads are about to fork.
static TURNS: AtomicUsize = AtomicUsize::new(0);
static FORKS: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    /// Whether this thread is about to fork: what other libraries do then may be a step.
    static FORKING: Cell<bool> = const { Cell::new(false) };
}

/// What only one thread at a time may change, and the queue of those that wait.
#[derive(Default)]
pub(super) struct Turns<T> {
    state: Mutex<T>,
    /// Whether somebody has a turn: to look at the mutex would be to lock it. It changes with the
    /// interpreter only.
    is_taken: AtomicBool,
    queue: Queue,
}

/// Places of threads that wait, in the order in which they came. One that did not wait takes no turn
/// before them: else a thread that steps again and again would leave none to others.
#[derive(Default)]
struct Queue {
    /// The place that the next thread gets.
    end: AtomicU64,
    /// The place of the thread whose turn is next; the same as `end` if nobody waits.
    first: AtomicU64,
    /// The process that the places are of, by how many forks lead to it: no other has their threads.
    process: AtomicUsize,
}

/// How many forks lead to this process.
static PROCESS: AtomicUsize = AtomicUsize::new(0);

impl Queue {
    /// Whether there is nobody to wait for. Called with the interpreter.
    fn is_empty(&self) -> bool {
        let (first, end) = (self.first.load(Ordering::SeqCst), self.end.load(Ordering::SeqCst));
        first == end || self.process.load(Ordering::SeqCst) != PROCESS.load(Ordering::SeqCst)
    }

    /// Takes a place. Called with the interpreter, so that one thread does at a time.
    fn enter(&self) -> u64 {
        if self.is_empty() {
            self.first.store(self.end.load(Ordering::SeqCst), Ordering::SeqCst);
            self.process.store(PROCESS.load(Ordering::SeqCst), Ordering::SeqCst);
        }
        self.end.fetch_add(1, Ordering::SeqCst)
    }
}

/// A turn to change what `state` guards. It ends when this goes.
pub(super) struct Turn<'a, T> {
    pub(super) state: MutexGuard<'a, T>,
    /// Goes after it.
    _taken: Taken<'a>,
    /// Goes last.
    _counted: Counted,
}

impl<'a, T> Turn<'a, T> {
    /// Waits for a turn, without the interpreter.
    ///
    /// With `again`, for one that has just given its turn back: it comes before those that wait, if
    /// it has kept the interpreter since.
    pub(super) fn take(py: Python<'_>, turns: &'a Turns<T>, again: bool) -> Self
    where
        T: Send,
    {
        let queue = &turns.queue;
        // Those in the queue may wait for the fork that this thread is about.
        if (again || queue.is_empty() || FORKING.get())
            && let Some(turn) = Self::try_take(turns)
        {
            return turn;
        }
        let place = queue.enter();
        loop {
            py.detach(|| {
                while queue.first.load(Ordering::SeqCst) != place
                    || turns.is_taken.load(Ordering::Acquire)
                    || forks_elsewhere()
                {
                    thread::sleep(PAUSE);
                }
            });
            if let Some(turn) = Self::try_take(turns) {
                queue.first.fetch_add(1, Ordering::SeqCst);
                return turn;
            }
        }
    }

    fn try_take(turns: &'a Turns<T>) -> Option<Self> {
        let counted = Counted::new();
        if forks_elsewhere() {
            return None;
        }
        let state = match turns.state.try_lock() {
            Ok(state) => state,
            // Nothing panics within a turn but by a defect; what it guards is remade then.
            Err(TryLockError::Poisoned(error)) => error.into_inner(),
            Err(TryLockError::WouldBlock) => return None,
        };
        turns.is_taken.store(true, Ordering::Release);
        Some(Self { state, _taken: Taken(&turns.is_taken), _counted: counted })
    }
}

/// That somebody has a turn.
struct Taken<'a>(&'a AtomicBool);

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}

/// One of [`TURNS`]. It is counted before the look at [`FORKS`], as a fork is before that at
/// [`TURNS`], so that one of the two sees the other.
struct Counted;

impl Counted {
    fn new() -> Self {
        TURNS.fetch_add(1, Ordering::SeqCst);
        Self
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        TURNS.fetch_sub(1, Ordering::SeqCst);
    }
}

fn forks_elsewhere() -> bool {
    FORKS.load(Ordering::SeqCst) > 0 && !FORKING.get()
}

/// Before a fork: waits until nobody has a turn, and has all who come wait.
pub(super) fn before_fork(py: Python<'_>) {
    FORKING.set(true);
    FORKS.fetch_add(1, Ordering::SeqCst);
    if TURNS.load(Ordering::SeqCst) > 0 {
        py.detach(|| {
            while TURNS.load(Ordering::SeqCst) > 0 {
                thread::sleep(PAUSE);
            }
        });
    }
}

/// After a fork, in the parent.
pub(super) fn after_fork_in_parent() {
    FORKING.set(false);
    FORKS.fetch_sub(1, Ordering::SeqCst);
}

/// After a fork, in the child: the threads that were counted are not in it.
pub(super) fn after_fork_in_child() {
    FORKING.set(false);
    FORKS.store(0, Ordering::SeqCst);
    TURNS.store(0, Ordering::SeqCst);
    PROCESS.fetch_add(1, Ordering::SeqCst);
}
