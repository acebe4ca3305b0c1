//! Which tasks are worth sharing with workers.
//!
//! A small task never is, and one that takes longer than a time slice of the system always. In
//! between that depends on how long workers take
//! to come: no time at all while they look out for the next task, tens of microseconds when they
//! sleep, milliseconds when other work has their core. So what sharing has cost is held against it.

use std::time::{Duration, Instant};

/// Below as many bytes nothing is shared, and nothing is timed.
pub const SHARED_FROM: usize = 64 << 10;

/// From as many bytes on workers that sleep are woken.
pub(crate) const WOKEN_FROM: usize = 256 << 10;

/// From as many bytes on everything is shared: tens of milliseconds.
const ALWAYS_FROM: usize = 64 << 20;

/// Of a task that is shared whatever has been.
#[cfg(test)]
pub(crate) const LARGE: usize = ALWAYS_FROM;

/// How long workers look out for another task in a loop of steps.
pub(crate) const PATIENCE: Duration = Duration::from_micros(200);

/// How long they do otherwise: the tasks of one step follow each other that closely.
pub(crate) const SHORT_PATIENCE: Duration = Duration::from_micros(20);

/// The most tasks that a step makes: is all finite, what is the norm, the step itself.
const MOST_PASSES: u32 = 3;

/// For how many times what sharing has cost the caller works alone: what it can cost is that part
/// of its time, whatever else the machine does.
const REPAID: u32 = 16;

/// The most that sharing one task is taken to have cost: a process may have been stopped.
const MOST_COST: Duration = Duration::from_millis(10);

/// What is known from the tasks so far.
#[derive(Debug, Default)]
pub(crate) struct Worth {
    /// When the last task ended.
    ended: Option<Instant>,
    /// How many workers are wanted. What is known holds for that number.
    helpers: usize,
    /// How many have come within [`PATIENCE`] of the one before.
    streak: u32,
    /// How long to work alone.
    debt: Duration,
}

impl Worth {
    /// Takes note of a task that begins, for which so many workers are wanted.
    pub(crate) fn begin(&mut self, now: Instant, helpers: usize) {
        if self.helpers != helpers {
            *self = Self { helpers, ..Self::default() };
        }
        let gap = self.ended.map(|ended| now.saturating_duration_since(ended));
        let soon = gap.is_some_and(|gap| gap < PATIENCE);
        self.streak = if soon { self.streak.saturating_add(1) } else { 0 };
    }

    /// Whether steps follow one another with little else in between.
    fn is_loop(&self) -> bool {
        self.streak > MOST_PASSES
    }

    /// Whether to share a task of so many bytes; `awake`: whether a worker is.
    pub(crate) fn shares(&self, bytes: usize, awake: bool) -> bool {
        let soon_there = awake || self.is_loop() || bytes >= WOKEN_FROM;
        bytes >= ALWAYS_FROM || bytes >= SHARED_FROM && soon_there && self.debt.is_zero()
    }

    /// How long workers are to look out for the next task.
    pub(crate) fn patience(&self) -> Duration {
        if self.is_loop() { PATIENCE } else { SHORT_PATIENCE }
    }

    /// Takes note of a shared task that has ended, and of how long it took, and would have alone.
    pub(crate) fn end_shared(&mut self, now: Instant, took: Duration, alone: Duration) {
        self.ended = Some(now);
        self.debt += REPAID * took.saturating_sub(alone).min(MOST_COST);
    }

    /// Takes note of one that the caller did alone.
    pub(crate) fn end_alone(&mut self, now: Instant, took: Duration) {
        self.ended = Some(now);
        self.debt = self.debt.saturating_sub(took);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIDDLING: usize = WOKEN_FROM;
    const LEAST: usize = SHARED_FROM;
    const TOOK: Duration = Duration::from_micros(30);

    /// Tasks done alone, so long after one another.
    fn tasks(worth: &mut Worth, now: &mut Instant, count: usize, gap: Duration) {
        for _ in 0..count {
            *now += gap;
            worth.begin(*now, 1);
            *now += TOOK;
            worth.end_alone(*now, TOOK);
        }
    }

    #[test]
    fn size_decides_where_nothing_is_known() {
        let mut worth = Worth::default();
        worth.begin(Instant::now(), 1);
        for (bytes, asleep, awake) in [
            (SHARED_FROM - 1, false, false),
            (SHARED_FROM, false, true),
            (WOKEN_FROM - 1, false, true),
            (WOKEN_FROM, true, true),
            (ALWAYS_FROM, true, true),
        ] {
            assert_eq!((worth.shares(bytes, false), worth.shares(bytes, true)), (asleep, awake));
        }
        assert_eq!(worth.patience(), SHORT_PATIENCE);
    }

    #[test]
    fn workers_are_woken_and_kept_awake_in_a_loop_of_steps() {
        let (mut worth, mut now) = (Worth::default(), Instant::now());
        // The passes of one step are no loop.
        tasks(&mut worth, &mut now, 4, SHORT_PATIENCE);
        assert!(!worth.shares(LEAST, false) && worth.patience() == SHORT_PATIENCE);
        tasks(&mut worth, &mut now, 1, PATIENCE / 2);
        assert!(worth.shares(LEAST, false) && worth.patience() == PATIENCE);
        tasks(&mut worth, &mut now, 1, PATIENCE);
        assert!(!worth.shares(LEAST, false) && worth.patience() == SHORT_PATIENCE);
    }

    #[test]
    fn what_sharing_costs_is_a_small_part_of_the_time() {
        for lost in [Duration::from_micros(3), Duration::from_millis(4), Duration::from_secs(3_600)]
        {
            let (mut worth, now) = (Worth::default(), Instant::now());
            let (mut alone, mut shared, cost) = (0, 0, lost.min(MOST_COST));
            for _ in 0..20_000 {
                worth.begin(now, 1);
                if worth.shares(MIDDLING, true) {
                    worth.end_shared(now, TOOK + lost, TOOK);
                    shared += 1;
                } else {
                    worth.end_alone(now, TOOK);
                    alone += 1;
                }
                assert!(worth.shares(ALWAYS_FROM, false));
            }
            assert!(shared * REPAID * cost <= (alone + alone.max(1)) * TOOK + REPAID * cost);
            assert!(shared >= 1 && alone >= 1, "{shared} shared, {alone} alone");
        }
    }

    #[test]
    fn another_number_of_workers_is_given_a_chance() {
        let (mut worth, now) = (Worth::default(), Instant::now());
        for helpers in [1, 2, 1] {
            worth.begin(now, helpers);
            assert!(worth.shares(MIDDLING, false));
            worth.end_shared(now, 2 * TOOK, TOOK);
            worth.begin(now, helpers);
            assert!(!worth.shares(MIDDLING, false));
        }
    }

    #[test]
    fn sharing_goes_on_while_it_saves_time() {
        let (mut worth, now) = (Worth::default(), Instant::now());
        for _ in 0..100 {
            worth.begin(now, 1);
            assert!(worth.shares(MIDDLING, false));
            worth.end_shared(now, TOOK, TOOK + Duration::from_nanos(1));
        }
    }
}
