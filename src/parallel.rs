//! Threads: numbered chunks of a step, claimed one by one by the calling thread and by parked workers.
//!
//! The caller posts its task, wakes workers and begins to claim chunks itself at once. A worker that
//! comes late finds fewer left, or none: nobody waits for it. When all chunks are claimed, the caller
//! takes the task back, and waits only for workers that are still at a chunk they have claimed.
//!
//! There is one task at a time. A caller that finds another task posted does its chunks alone, which
//! costs less than waiting. Threads are started by the first task that asks for them. Workers without
//! a task look for the next one for some microseconds, because a sleeping worker comes late. Meanwhile
//! they let others use the core, and then they sleep.
//!
//! If another library of the process has threads that look for work, a step may use a team of those
//! instead (`team.rs`).
//!
//! A caller in its own floating-point mode does its chunks alone too, so that all of them are computed
//! in that mode. Workers are in the default mode: a new thread has the mode of the one that starts
//! it, and only a caller in the default mode does.

mod claims;
mod pool;

use std::num::NonZero;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;
use std::{env, thread};

use self::claims::{Claims, Side};
use self::pool::Pool;
use crate::environment;
use crate::error::Error;
use crate::team::Team;
pub use crate::worth::SHARED_FROM;
use crate::worth::{Unasked, WOKEN_FROM};

/// The environment variable that sets the number of threads.
const VARIABLE: &str = "INSTEP_NUM_THREADS";

static THREADS: AtomicUsize = AtomicUsize::new(1);

/// Beside the pool and not in it: to find that of this process takes a call of the system.
static UNASKED: Unasked = Unasked::new();

/// The largest number of threads for a task, with the caller's: 1 until it is set.
pub fn threads() -> usize {
    THREADS.load(Ordering::Relaxed)
}

/// Sets the largest number of threads for a task. Workers above that number stay, and sleep.
pub fn set_threads(count: NonZero<usize>) {
    THREADS.store(count.get(), Ordering::Relaxed);
}

/// In a forked child, which has no workers: what its parent found not worth sharing is asked about anew.
pub fn after_fork_in_child() {
    UNASKED.clear();
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

/// Calls `work` once with each number below `chunks`, on as many threads as [`threads`] allows and as
/// save time for `bytes`, the size of the data. Returns when all calls have returned.
///
/// # Panics
/// When a call of `work` does.
pub fn each(chunks: usize, bytes: usize, work: &(dyn Fn(usize) + Sync)) {
    let claims = Claims::new(chunks, work);
    let helpers = threads().min(chunks).saturating_sub(1);
    if helpers == 0 || bytes < SHARED_FROM || !environment::has_default_floats() {
        claims.run(Side::Front);
        return;
    }
    if let Some(team) = Team::current().filter(|_| bytes >= WOKEN_FROM) {
        claims.run_on(team, helpers);
        return;
    }
    if UNASKED.count_down(bytes) {
        claims.run(Side::Front);
        return;
    }
    let begun = Instant::now();
    let pool = Pool::of_this_process();
    let Some(posted) = pool.post(&claims, helpers, bytes, begun) else {
        claims.run(Side::Front);
        let now = Instant::now();
        UNASKED.set(bytes, pool.lock().worth.end_alone(now, bytes, now - begun));
        return;
    };
    let start = posted.start;
    claims.run(Side::Front);
    drop(posted);
    let now = Instant::now();
    pool.lock().worth.end_shared(now, bytes, now - start);
    claims.assert_all_done();
}

#[cfg(test)]
mod tests {
    use std::hint;
    use std::panic::catch_unwind;
    use std::sync::atomic::AtomicU8;
    use std::sync::{Barrier, Mutex, PoisonError, mpsc};
    use std::time::Duration;

    use super::*;
    use crate::team::tests::team;

    const LARGE: usize = crate::worth::LARGE;

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
                    each(chunks, LARGE, &|chunk| {
                        done[chunk].fetch_add(1, Ordering::Relaxed);
                    });
                    assert!(done.iter().all(|count| count.load(Ordering::Relaxed) == 1));
                }
            });
        }
    }

    #[test]
    fn a_caller_that_nobody_helps_goes_from_the_front_to_the_back() {
        with_threads(3, || {
            for bytes in [0, SHARED_FROM - 1] {
                let (here, order) = (thread::current().id(), Mutex::new(Vec::new()));
                each(50, bytes, &|chunk| {
                    assert_eq!(thread::current().id(), here);
                    order.lock().expect("no panic").push(chunk);
                });
                assert!(order.into_inner().expect("no panic").into_iter().eq(0..50));
            }
        });
    }

    #[test]
    fn a_team_does_every_chunk_once_on_no_more_threads_than_asked_for() {
        for threads in 2..=4 {
            with_threads(threads, || {
                Team::within(Some(team()), || {
                    for chunks in 0..20 {
                        let done: Vec<_> = (0..chunks).map(|_| AtomicU8::new(0)).collect();
                        let who = Mutex::new(std::collections::HashSet::new());
                        each(chunks, LARGE, &|chunk| {
                            done[chunk].fetch_add(1, Ordering::Relaxed);
                            // Time for all that may to come.
                            thread::sleep(Duration::from_micros(100));
                            who.lock().expect("no panic").insert(thread::current().id());
                        });
                        assert!(done.iter().all(|count| count.load(Ordering::Relaxed) == 1));
                        assert!(who.into_inner().expect("no panic").len() <= threads.min(3));
                    }
                });
            });
        }
    }

    #[test]
    #[should_panic(expected = "a worker panicked at its chunk")]
    fn a_panic_on_a_team_reaches_the_caller() {
        with_threads(3, || {
            Team::within(Some(team()), || each(9, LARGE, &|chunk| assert!(chunk != 4, "planted")));
        });
    }

    #[test]
    fn what_sharing_costs_is_known_for_the_setting_and_not_for_the_chunks_of_a_task() {
        with_threads(4, || {
            for chunks in [2, 9, 3] {
                each(chunks, LARGE, &|_| ());
                assert_eq!(Pool::of_this_process().lock().worth.helpers, 3);
            }
        });
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn woken_workers_have_other_cores_than_the_caller() {
        let kept_off = || Pool::of_this_process().lock().kept_off;
        with_threads(2, || {
            let deadline = Instant::now() + Duration::from_secs(20);
            // Sooner or later one sleeps, and is woken.
            let mut woken = 0;
            while woken < 10 {
                assert!(Instant::now() < deadline, "no worker was kept off a core");
                thread::sleep(Duration::from_millis(2));
                let masks = Mutex::new(Vec::new());
                let caller = thread::current().id();
                each(64, LARGE, &|_| {
                    thread::sleep(Duration::from_micros(100));
                    if thread::current().id() != caller {
                        masks.lock().expect("no panic").push(environment::cores());
                    }
                });
                let core = kept_off();
                for mask in masks.into_inner().expect("no panic") {
                    let mut wanted = environment::cores();
                    if wanted.len() > 1 {
                        wanted.retain(|&other| Some(other) != core);
                    }
                    assert!(core.is_none() || mask == wanted, "{mask:?} {core:?}");
                }
                woken += usize::from(core.is_some());
            }
        });
    }

    #[test]
    fn no_wake_up_is_lost() {
        let (done, wait) = mpsc::channel();
        // As below. The second chunk is done only if somebody comes for it.
        thread::spawn(move || {
            with_threads(2, || {
                for round in 0..4_000 {
                    let both = Barrier::new(2);
                    each(2, LARGE, &|_| {
                        both.wait();
                    });
                    // So that workers look out, go to sleep, or sleep when the next one comes.
                    let end = Instant::now() + Duration::from_micros(round % 40 * 8);
                    while Instant::now() < end {
                        hint::spin_loop();
                    }
                }
            });
            done.send(())
        });
        assert!(wait.recv_timeout(Duration::from_secs(60)).is_ok(), "a worker sleeps for ever");
    }

    #[test]
    fn callers_at_the_same_time_get_all_of_their_own_done() {
        with_threads(3, || {
            thread::scope(|scope| {
                for caller in 0..4_usize {
                    scope.spawn(move || {
                        for round in 0..2_000 {
                            let sum = AtomicUsize::new(0);
                            each(16, LARGE, &|chunk| {
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
                                each(4, LARGE, &|_| (0..500).for_each(|_| std::hint::spin_loop()));
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
                each(chunks.len(), LARGE, &|chunk| {
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
                let run = || each(30, LARGE, &|chunk| assert_ne!(chunk, bad, "planted"));
                assert!(catch_unwind(run).is_err());
                let count = AtomicUsize::new(0);
                each(30, LARGE, &|_| {
                    count.fetch_add(1, Ordering::Relaxed);
                });
                assert_eq!(count.into_inner(), 30);
            }
        });
    }
}
