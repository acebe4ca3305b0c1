//! The tasks that nobody asks about.

use std::sync::atomic::{AtomicU32, Ordering};

use super::sizes::{SIZES, place};

/// How many tasks of each size are still to be done alone without asking whether to share them: after other
/// work, which has the caches, to ask takes microseconds.
///
/// Threads that count down at the same time may miss one of each other's, which does no harm.
pub(crate) struct Unasked([AtomicU32; SIZES]);

impl Unasked {
    pub(crate) const fn new() -> Self {
        Self([const { AtomicU32::new(0) }; SIZES])
    }

    /// Whether a task of so many bytes is one of them; counts it.
    pub(crate) fn count_down(&self, bytes: usize) -> bool {
        let Some(left) = self.0.get(place(bytes)) else { return false };
        let count = left.load(Ordering::Relaxed);
        if count > 0 {
            left.store(count - 1, Ordering::Relaxed);
        }
        count > 0
    }

    /// Has the next task of each size asked about.
    pub(crate) fn clear(&self) {
        for left in &self.0 {
            left.store(0, Ordering::Relaxed);
        }
    }

    /// So many of that size are, from now on.
    pub(crate) fn set(&self, bytes: usize, count: u32) {
        if let Some(left) = self.0.get(place(bytes)) {
            left.store(count, Ordering::Relaxed);
        }
    }
}
