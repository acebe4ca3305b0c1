//! The sizes of tasks, in bytes.

/// Below as many bytes nothing is shared, and nothing is timed.
pub const SHARED_FROM: usize = 64 << 10;

/// From as many bytes on workers that sleep are woken.
pub(crate) const WOKEN_FROM: usize = 256 << 10;

/// From as many bytes on everything is shared: a step alone takes longer than a worker that was stopped is away.
pub(crate) const ALWAYS_FROM: usize = 16 << 20;

/// Of a task that is always shared.
#[cfg(test)]
pub(crate) const LARGE: usize = ALWAYS_FROM;

/// The sizes of tasks that are looked at together: from a power of 2 to the next.
pub(crate) const SIZES: usize = (ALWAYS_FROM / SHARED_FROM).ilog2() as usize;

/// The place of a task's size among them, or a higher number if it is shared always.
pub(crate) fn place(bytes: usize) -> usize {
    (bytes / SHARED_FROM).max(1).ilog2() as usize
}
