//! The chunks of a task, and who has claimed them.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use crate::environment;
use crate::team::Team;

/// The chunks of a task, how many of them are claimed, and who is at them.
///
/// The caller takes chunks from the front, and workers from the back, so that in the next task most
/// of them fall to a core that still has them in its cache. A claim is one of `chunks` tickets; with
/// as many tickets as chunks, the two sides can't meet.
pub(super) struct Claims<'a> {
    tickets: AtomicUsize,
    from_back: AtomicUsize,
    chunks: usize,
    work: &'a (dyn Fn(usize) + Sync),
    /// How many workers have joined and not left. It is raised under the pool's lock only.
    pub(super) inside: AtomicUsize,
    panicked: AtomicBool,
}

#[derive(Clone, Copy)]
pub(super) enum Side {
    /// For the caller alone.
    Front,
    Back,
}

impl<'a> Claims<'a> {
    pub(super) fn new(chunks: usize, work: &'a (dyn Fn(usize) + Sync)) -> Self {
        let [tickets, from_back, inside] = [const { AtomicUsize::new(0) }; 3];
        Self { tickets, from_back, chunks, work, inside, panicked: AtomicBool::new(false) }
    }

    /// Claims chunks and does them until all are claimed; returns how many it did.
    pub(super) fn run(&self, side: Side) -> usize {
        let mut done = 0;
        // What a chunk writes reaches the caller through `inside`, so the claims need not order
        // anything.
        while self.tickets.fetch_add(1, Ordering::Relaxed) < self.chunks {
            (self.work)(match side {
                Side::Front => done,
                Side::Back => self.chunks - 1 - self.from_back.fetch_add(1, Ordering::Relaxed),
            });
            done += 1;
        }
        done
    }

    /// As [`run`](Self::run), on this many threads of another runtime in addition to the caller's.
    pub(super) fn run_on(&self, team: Team, helpers: usize) {
        let seats = AtomicUsize::new(0);
        team.run(&|calls| {
            // They may be in their own floating-point mode.
            let joins = || {
                environment::has_default_floats() && seats.fetch_add(1, Ordering::Relaxed) < helpers
            };
            if calls || joins() {
                self.run_or_note(if calls { Side::Front } else { Side::Back });
            }
        });
        self.assert_all_done();
    }

    /// As [`run`](Self::run), but takes note of a panic.
    pub(super) fn run_or_note(&self, side: Side) {
        if catch_unwind(AssertUnwindSafe(|| self.run(side))).is_err() {
            self.panicked.store(true, Ordering::Relaxed);
        }
    }

    pub(super) fn assert_all_done(&self) {
        assert!(!self.panicked.load(Ordering::Relaxed), "a worker panicked at its chunk");
    }

    /// Whether all that joined have left. If so, the caller sees what they wrote.
    pub(super) fn is_left(&self) -> bool {
        self.inside.load(Ordering::Acquire) == 0
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    #[test]
    fn claims_of_both_sides_meet_wherever_they_do() {
        for front in 0..=9 {
            let order = Mutex::new(Vec::new());
            let claims = |chunk| order.lock().expect("no panic").push(chunk);
            let claims = Claims::new(9, &claims);
            // So many tickets are out of reach of the front, for a while.
            claims.tickets.store(9 - front, Ordering::Relaxed);
            assert_eq!(claims.run(Side::Front), front);
            claims.tickets.store(front, Ordering::Relaxed);
            assert_eq!(claims.run(Side::Back), 9 - front);
            let wanted = (0..front).chain((front..9).rev());
            assert!(order.lock().expect("no panic").iter().copied().eq(wanted));
        }
    }
}
