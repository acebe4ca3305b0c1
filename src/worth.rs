//! Which tasks are worth sharing with workers.
//!
//! A small task never is, and one that takes longer than a time slice of the system always is. In
//! between it depends on how long workers take to come: no time while they look for the next task, tens
//! of microseconds if they sleep, milliseconds if other work has their core. So the past cost of sharing
//! decides.

mod sizes;
mod unasked;

use std::mem;
use std::time::{Duration, Instant};

#[cfg(test)]
pub(crate) use self::sizes::LARGE;
pub use self::sizes::SHARED_FROM;
pub(crate) use self::sizes::WOKEN_FROM;
use self::sizes::{ALWAYS_FROM, SIZES, place};
pub(crate) use self::unasked::Unasked;

/// How long workers look out for another task in a loop of steps.
pub(crate) const PATIENCE: Duration = Duration::from_micros(200);

/// How long they do otherwise: the tasks of one step follow each other that closely.
pub(crate) const SHORT_PATIENCE: Duration = Duration::from_micros(20);

/// The most tasks that a step makes: is all finite, what is the norm, the step itself.
const MOST_PASSES: u32 = 3;

/// For how many times what sharing has cost the caller works alone, at least: what it can cost is that
/// part of its time, whatever else the machine does. Twice as many after each further try that costs.
const REPAID: u32 = 16;

/// The same at most.
const MOST_REPAID: u32 = 256;

/// The most that sharing one task is taken to have cost: a process may have been stopped.
const MOST_COST: Duration = Duration::from_millis(10);

/// How many tasks in a row are done alone before one is shared, and the other way round before it is
/// said what came of it: in the first, arrays move to the caches of the cores that now have them.
const TRY: u32 = 3;

/// How many times as long as alone the first tasks of a row of shared ones may take: arrays that fit in a
/// core's cache come from there more slowly than from memory.
const MOVE: u32 = 8;

/// How many are shared in a row before some are done alone, to see how long that takes by now.
const MOST_SHARED: u32 = 256;

/// How many tasks in a row are done alone without a question, at most.
const MOST_UNASKED: u32 = 32;

/// What is known from the tasks so far.
#[derive(Debug, Default)]
pub(crate) struct Worth {
    /// When the last task ended, unless the next ones of its size are done without asking.
    ended: Option<Instant>,
    /// Whether the last two tasks each came long after the one before.
    apart: bool,
    /// How many workers there may be. What is known holds for that number.
    pub(crate) helpers: usize,
    /// How many have come within [`PATIENCE`] of the one before.
    streak: u32,
    /// Of tasks that come after other work, which has the caches, and of those within [`PATIENCE`].
    of_size: [[OfSize; SIZES]; 2],
}

/// What is known from the tasks of a size.
#[derive(Debug, Default)]
struct OfSize {
    /// How long they take alone, when nothing stops them.
    alone: Duration,
    /// Whether the last was shared, and how many in a row were done as it was.
    shared: bool,
    row: u32,
    /// What the first ones shared in this row have cost, as far as the next ones have not saved it.
    pending: Duration,
    /// What sharing has saved, as far as it makes up for single tasks that cost.
    saved: Duration,
    /// How long to work alone.
    debt: Duration,
    /// By what the next cost is multiplied; 0 for the least.
    repaid: u32,
}

impl OfSize {
    fn shares(&self) -> bool {
        if self.alone.is_zero() {
            // One as soon as may be: it has the workers started.
            return self.row == 0;
        }
        let waits = if self.shared { self.row >= MOST_SHARED } else { self.row < TRY };
        !waits && self.debt.is_zero()
    }

    fn begin_row(&mut self, shared: bool) {
        if self.shared != shared {
            // What this row has not made up for.
            let cost = mem::take(&mut self.pending);
            self.owe(cost);
            (self.shared, self.row) = (shared, 0);
        }
        self.row = self.row.saturating_add(1);
    }

    /// Has a cost made up for, by what was saved or by working alone.
    fn owe(&mut self, cost: Duration) {
        let cost = cost.min(MOST_COST);
        let rest = cost.saturating_sub(self.saved);
        self.saved = self.saved.saturating_sub(cost);
        if !rest.is_zero() {
            self.repaid = self.repaid.max(REPAID);
            self.debt += self.repaid * rest;
            self.repaid = (2 * self.repaid).min(MOST_REPAID);
        }
    }

    fn end_alone(&mut self, took: Duration) {
        self.begin_row(false);
        self.debt = self.debt.saturating_sub(took);
        if self.alone.is_zero() || took < self.alone {
            self.alone = took;
        } else if self.row > 1 {
            // Slowly: what else is done may have stopped it for a while.
            self.alone += took.saturating_sub(self.alone).min(self.alone) / 8;
        }
    }

    /// Takes it for done that so many tasks are done alone, or as many as are owed; returns how many.
    fn repay_by(&mut self, most: u32) -> u32 {
        let alone = self.alone.max(Duration::from_nanos(1));
        let owed = self.debt.as_nanos() / alone.as_nanos();
        let count = u32::try_from(owed).map_or(most, |owed| owed.min(most));
        self.debt -= count * alone;
        count
    }

    fn end_shared(&mut self, took: Duration) {
        self.begin_row(true);
        if self.alone.is_zero() {
            return;
        }
        let (cost, saved) = (took.saturating_sub(self.alone), self.alone.saturating_sub(took));
        if self.row < TRY && cost <= MOVE * self.alone {
            self.pending += cost;
        } else if cost.is_zero() {
            let left = saved.saturating_sub(self.pending);
            self.pending = self.pending.saturating_sub(saved);
            self.saved = (self.saved + left).min(TRY * self.alone);
            self.repaid = REPAID;
        } else {
            let cost = cost + mem::take(&mut self.pending);
            self.owe(cost);
        }
    }
}

impl Worth {
    /// Takes note of a task that begins, for which there may be so many workers.
    pub(crate) fn begin(&mut self, now: Instant, helpers: usize) {
        if self.helpers != helpers {
            *self = Self { helpers, ..Self::default() };
        }
        let gap = self.ended.map(|ended| now.saturating_duration_since(ended));
        let soon = gap.is_some_and(|gap| gap < PATIENCE);
        self.apart = gap.is_some() && !soon && self.streak == 0;
        self.streak = if soon { self.streak.saturating_add(1) } else { 0 };
    }

    /// Whether steps follow one another with little else in between.
    fn is_loop(&self) -> bool {
        self.streak > MOST_PASSES
    }

    /// Whether to share a task of so many bytes; `awake`: whether a worker is.
    pub(crate) fn shares(&mut self, bytes: usize, awake: bool) -> bool {
        let soon_there = awake || self.is_loop() || bytes >= WOKEN_FROM;
        let known = self.of_size(bytes).is_none_or(|of_size| of_size.shares());
        bytes >= ALWAYS_FROM || bytes >= SHARED_FROM && soon_there && known
    }

    /// How long workers are to look out for the next task.
    pub(crate) fn patience(&self) -> Duration {
        if self.is_loop() { PATIENCE } else { SHORT_PATIENCE }
    }

    /// Takes note of a shared task of so many bytes that has ended, and of how long it took.
    pub(crate) fn end_shared(&mut self, now: Instant, bytes: usize, took: Duration) {
        self.ended = Some(now);
        if let Some(of_size) = self.of_size(bytes) {
            of_size.end_shared(took);
        }
    }

    /// The same of one that was done alone. Returns how many of the next are to be done so without asking.
    pub(crate) fn end_alone(&mut self, now: Instant, bytes: usize, took: Duration) -> u32 {
        self.ended = Some(now);
        let apart = self.apart;
        let Some(of_size) = self.of_size(bytes) else { return 0 };
        of_size.end_alone(took);
        if !apart {
            return 0;
        }
        let count = if bytes < WOKEN_FROM { MOST_UNASKED } else { of_size.repay_by(MOST_UNASKED) };
        if count > 0 {
            self.ended = None;
        }
        count
    }

    /// `None` for a task that is shared always.
    fn of_size(&mut self, bytes: usize) -> Option<&mut OfSize> {
        let of_size = &mut self.of_size[usize::from(self.streak > 0)];
        of_size.get_mut(place(bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIDDLING: usize = WOKEN_FROM;
    const LEAST: usize = SHARED_FROM;
    const TOOK: Duration = Duration::from_micros(30);
    const LONG: Duration = Duration::from_millis(1);

    /// Tasks so long after one another, which take `TOOK` alone and otherwise what `shared` says; returns
    /// how many were shared, and how long all took.
    fn tasks(
        worth: &mut Worth,
        now: &mut Instant,
        (count, bytes, gap): (usize, usize, Duration),
        mut shared: impl FnMut(usize) -> Duration,
    ) -> (usize, Duration) {
        let (mut total, mut shares) = (Duration::ZERO, 0);
        let unasked = Unasked::new();
        for _ in 0..count {
            *now += gap;
            if unasked.count_down(bytes) {
                *now += TOOK;
                total += TOOK;
                continue;
            }
            worth.begin(*now, 1);
            let is_shared = worth.shares(bytes, false);
            let took = if is_shared { shared(shares) } else { TOOK };
            shares += usize::from(is_shared);
            *now += took;
            total += took;
            if is_shared {
                worth.end_shared(*now, bytes, took);
            } else {
                unasked.set(bytes, worth.end_alone(*now, bytes, took));
            }
        }
        (shares, total)
    }

    #[test]
    fn size_decides_what_is_never_shared_and_what_always() {
        let (mut worth, mut now) = (Worth::default(), Instant::now());
        worth.begin(now, 1);
        assert!(worth.shares(ALWAYS_FROM, false) && worth.shares(WOKEN_FROM, false));
        for bytes in [SHARED_FROM - 1, SHARED_FROM, WOKEN_FROM - 1, WOKEN_FROM, ALWAYS_FROM - 1] {
            tasks(&mut worth, &mut now, (2 * MOST_UNASKED as usize, bytes, LONG), |_| TOOK);
        }
        for (bytes, asleep, awake) in [
            (SHARED_FROM - 1, false, false),
            (SHARED_FROM, false, true),
            (WOKEN_FROM - 1, false, true),
            (WOKEN_FROM, true, true),
            (ALWAYS_FROM - 1, true, true),
        ] {
            assert_eq!((worth.shares(bytes, false), worth.shares(bytes, true)), (asleep, awake));
        }
        assert_eq!(worth.patience(), SHORT_PATIENCE);
    }

    #[test]
    fn workers_are_woken_and_kept_awake_in_a_loop_of_steps() {
        let (mut worth, mut now) = (Worth::default(), Instant::now());
        // The passes of one step are no loop.
        tasks(&mut worth, &mut now, (4, LEAST, SHORT_PATIENCE), |_| TOOK);
        assert!(!worth.shares(LEAST, false) && worth.patience() == SHORT_PATIENCE);
        tasks(&mut worth, &mut now, (1, LEAST, PATIENCE / 2), |_| TOOK);
        assert!(worth.shares(LEAST, false) && worth.patience() == PATIENCE);
        now += PATIENCE;
        worth.begin(now, 1);
        assert!(!worth.shares(LEAST, false) && worth.patience() == SHORT_PATIENCE);
    }

    #[test]
    fn what_sharing_costs_is_a_small_part_of_the_time() {
        for lost in [Duration::from_micros(3), Duration::from_micros(40), Duration::from_millis(4)]
        {
            let (mut worth, mut now) = (Worth::default(), Instant::now());
            for (tried, most) in [(2_000, 16), (200_000, 200)] {
                let each = (tried, MIDDLING, LONG);
                let (shares, total) = tasks(&mut worth, &mut now, each, |_| TOOK + lost);
                let alone = TOOK * u32::try_from(tried).expect("a few");
                // What the last one has cost is still to be made up for.
                let open = most * (lost + TOOK) * 2;
                assert!(
                    total.saturating_sub(alone) * most <= alone + open,
                    "{shares} shared, {total:?}"
                );
                assert!(shares >= 1);
            }
        }
    }

    #[test]
    fn few_tasks_are_asked_about_that_are_not_worth_it() {
        for bytes in [LEAST, MIDDLING] {
            let (mut worth, mut now, unasked) = (Worth::default(), Instant::now(), Unasked::new());
            // In a loop of steps, to begin with, all are.
            tasks(&mut worth, &mut now, (100, bytes, PATIENCE / 2), |_| 9 * TOOK);
            let mut asked = 0;
            for i in 0..1_000 {
                // And once more at the end.
                now += if i < 900 { LONG } else { PATIENCE / 2 };
                if !unasked.count_down(bytes) {
                    asked += 1;
                    worth.begin(now, 1);
                    if worth.shares(bytes, false) {
                        worth.end_shared(now, bytes, 9 * TOOK);
                    } else {
                        unasked.set(bytes, worth.end_alone(now, bytes, TOOK));
                    }
                }
                if i == 899 {
                    assert!(asked < 100, "{asked} of 900");
                    asked = 0;
                }
            }
            assert!(asked > 60, "{asked} of 100");
        }
    }

    #[test]
    fn bursts_of_tasks_are_shared_where_that_pays() {
        for (bytes, most) in [(LEAST, 8), (MIDDLING, 9)] {
            let (mut worth, mut now, unasked) = (Worth::default(), Instant::now(), Unasked::new());
            let mut total = Duration::ZERO;
            for i in 0..12_000 {
                // The first of each dozen has to wait for a worker that sleeps.
                let begins = i % 12 == 0;
                now += if begins { LONG } else { Duration::ZERO };
                let mut took = TOOK;
                if !unasked.count_down(bytes) {
                    worth.begin(now, 1);
                    if worth.shares(bytes, !begins) {
                        took = if begins { 3 * TOOK } else { TOOK / 2 };
                        worth.end_shared(now + took, bytes, took);
                    } else {
                        unasked.set(bytes, worth.end_alone(now + took, bytes, took));
                    }
                }
                now += took;
                total += took;
            }
            assert!(
                total < 12_000 * TOOK * most / 12,
                "{:?}",
                total.div_duration_f64(12_000 * TOOK)
            );
        }
    }

    #[test]
    fn sharing_pays_though_the_first_shared_are_slow() {
        for slow in [TOOK * 3 / 2, 6 * TOOK] {
            let (mut worth, mut now) = (Worth::default(), Instant::now());
            // The arrays move to other caches whenever a row of shared ones begins: one by one after the
            // very first, which has the workers started.
            let mut row = 0;
            let (shares, total) = tasks(&mut worth, &mut now, (10_000, MIDDLING, LONG), |shared| {
                row = if shared % MOST_SHARED as usize == 1 { 0 } else { row + 1 };
                if row < 2 { slow } else { TOOK / 2 }
            });
            assert!(shares > 9_800, "{shares}");
            assert!(total < 10_000 * TOOK * 11 / 20);
        }
    }

    #[test]
    fn rows_that_end_before_they_pay_are_few() {
        for slow in [2, 5, 9] {
            for count in [5, 6, 12] {
                let (mut worth, mut now) = (Worth::default(), Instant::now());
                let (mut total, mut alone) = (Duration::ZERO, Duration::ZERO);
                for _ in 0..2_000 {
                    // Other work comes before each few tasks, so their arrays move anew.
                    now += LONG;
                    let took = |shared| if shared < 2 { slow * TOOK } else { TOOK / 2 };
                    total += tasks(&mut worth, &mut now, (count, LEAST, Duration::ZERO), took).1;
                    alone += TOOK * u32::try_from(count).expect("a few");
                }
                assert!(
                    total * 10 < alone * 11,
                    "{slow} {count}: {:?}",
                    total.div_duration_f64(alone)
                );
            }
        }
    }

    #[test]
    fn one_slow_task_among_many_changes_nothing() {
        let (mut worth, mut now) = (Worth::default(), Instant::now());
        let each = (10_000, MIDDLING, LONG);
        let slow_at_times = |shared: usize| if shared % 100 == 99 { 3 * TOOK } else { TOOK / 2 };
        assert!(tasks(&mut worth, &mut now, each, slow_at_times).0 > 9_800);
    }

    #[test]
    fn what_has_become_slow_is_given_up_and_what_has_become_quick_is_found() {
        let (mut worth, mut now) = (Worth::default(), Instant::now());
        let each = (1_000, MIDDLING, LONG);
        assert!(tasks(&mut worth, &mut now, each, |_| TOOK / 2).0 > 950);
        assert!(tasks(&mut worth, &mut now, each, |_| 2 * TOOK).0 < 100);
        let each = (3_000, MIDDLING, LONG);
        assert!(tasks(&mut worth, &mut now, each, |_| TOOK / 2).0 > 1_000);
    }

    #[test]
    fn tasks_of_a_loop_are_none_that_come_after_other_work() {
        let (mut worth, mut now) = (Worth::default(), Instant::now());
        assert!(tasks(&mut worth, &mut now, (100, MIDDLING, LONG), |_| 9 * TOOK).0 < 10);
        let gap = PATIENCE / 2;
        assert!(tasks(&mut worth, &mut now, (100, MIDDLING, gap), |_| TOOK / 2).0 > 90);
    }

    #[test]
    fn another_number_of_workers_is_given_a_chance() {
        let (mut worth, mut now) = (Worth::default(), Instant::now());
        for helpers in [1, 2, 1] {
            let mut shared = 0;
            let unasked = Unasked::new();
            for _ in 0..20 {
                now += LONG;
                if unasked.count_down(MIDDLING) {
                    continue;
                }
                worth.begin(now, helpers);
                let is_shared = worth.shares(MIDDLING, false);
                shared += usize::from(is_shared);
                if is_shared {
                    worth.end_shared(now, MIDDLING, 3 * TOOK);
                } else {
                    unasked.set(MIDDLING, worth.end_alone(now, MIDDLING, TOOK));
                }
            }
            assert!((2..=4).contains(&shared), "{shared}");
        }
    }
}
