//! Turns: one thread at a time changes the arrays of an optimizer, and nobody while the process forks.
//!
//! Nothing here can deadlock. Who has a turn runs no Python code and waits for nothing but the
//! workers of its own sweep and, after it, for the interpreter; who waits for a turn, or to fork, has
//! given the interpreter away and holds nothing. A child has only the thread that forked, and no
//! other was in a turn then.

use std::cell::Cell;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, TryLockError};
use std::thread;
use std::time::Duration;

use pyo3::prelude::*;

/// How long to sleep between looks at what is waited for.
const PAUSE: Duration = Duration::from_micros(50);

/// How many turns there are in this process, and how many of its threads are about to fork.
static TURNS: AtomicUsize = AtomicUsize::new(0);
static FORKS: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    /// Whether this thread is about to fork: what other libraries do then may be a step.
    static FORKING: Cell<bool> = const { Cell::new(false) };
}

/// A turn to change what `state` guards. It ends when this goes.
pub(super) struct Turn<'a, T> {
    pub(super) state: MutexGuard<'a, T>,
    /// Goes last.
    _counted: Counted,
}

impl<'a, T> Turn<'a, T> {
    /// Waits for a turn, without the interpreter.
    pub(super) fn take(py: Python<'_>, state: &'a Mutex<T>) -> Self
    where
        T: Send,
    {
        loop {
            if let Some(turn) = Self::try_take(state) {
                return turn;
            }
            py.detach(|| {
                while state.try_lock().is_err_and(|error| matches!(error, TryLockError::WouldBlock))
                    || forks_elsewhere()
                {
                    thread::sleep(PAUSE);
                }
            });
        }
    }

    fn try_take(state: &'a Mutex<T>) -> Option<Self> {
        let counted = Counted::new();
        if forks_elsewhere() {
            return None;
        }
        match state.try_lock() {
            Ok(state) => Some(Self { state, _counted: counted }),
            // Nothing panics within a turn but by a defect; what it guards is remade then.
            Err(TryLockError::Poisoned(error)) => {
                Some(Self { state: error.into_inner(), _counted: counted })
            }
            Err(TryLockError::WouldBlock) => None,
        }
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
}
