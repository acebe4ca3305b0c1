//! Threads: numbered chunks of a step, claimed one by one by the calling thread and by parked workers.
//!
//! The caller posts its task, wakes workers and begins to claim chunks itself at once. A worker that
//! comes late finds fewer left, or none: nobody waits for it. When all chunks are claimed, the caller
//! takes the task back, and waits only for workers that are still at a chunk they have claimed.
//!
//! There is one task at a time. A caller that finds another's posted does its chunks alone, which
//! costs less than waiting. There is no thread before the first task that asks for one. Workers
//! without a task look out for another one for some microseconds, as a sleeping one comes late; they
//! let in whatever else waits for the core, and then they sleep.
//!
//! Where another library of the process has threads that look out for work, a step may ask for a team of
//! those instead (`team.rs`).
//!
//! A caller in a floating-point mode of its own does its chunks alone, too, so that all of them are
//! computed in it. Workers are in the default mode: a new thread has the mode of the one that starts
//! it, and only a caller in the default mode does.
//!
//! A forked child has a copy of the pool's memory, which another thread may have been changing, and
//! none of its workers. So a pool knows the id of the process it was made in, and a process with
//! another id makes a new one without a look at more of the old one than that.
#![expect(unsafe_code, reason = "workers run what a caller lends them, for as long as it waits")]

mod claims;

use std::num::NonZero;
use std::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use std::{env, hint, process, ptr, thread};

use self::claims::{Claims, Side};
use crate::environment::{self, ThreadId};
use crate::error::Error;
use crate::team::Team;
pub use crate::worth::SHARED_FROM;
use crate::worth::{SHORT_PATIENCE, WOKEN_FROM, Worth};

/// The environment variable that sets the number of threads.
const VARIABLE: &str = "INSTEP_NUM_THREADS";

/// Enough for the buffers that strided arrays are gathered into, several times over.
const STACK_BYTES: usize = 512 * 1024;

/// The most rounds of looking out, should the clock stand still: a millisecond.
const MOST_LOOKS: usize = 1_000;

/// How often to look before the clock is looked at and others are let in: about a microsecond.
const PAUSES: usize = 16;

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
/// [`threads`] allows and as pay for `bytes`, the size of what is worked at; returns when all calls
/// have.
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
    let begun = Instant::now();
    let pool = Pool::of_this_process();
    let Some(posted) = pool.post(&claims, helpers, bytes, begun) else {
        claims.run(Side::Front);
        let now = Instant::now();
        pool.lock().worth.end(now, bytes, now - begun, false);
        return;
    };
    let start = posted.start;
    claims.run(Side::Front);
    drop(posted);
    let now = Instant::now();
    pool.lock().worth.end(now, bytes, now - start, true);
    claims.assert_all_done();
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
    /// How many tasks were posted; changed under the lock.
    posts: AtomicUsize,
    /// A task was posted, for workers that sleep.
    posted: Condvar,
    /// A worker has left a task, for callers that sleep. There may be several: one whose task was
    /// taken back and is not left yet, and those after it.
    left: Condvar,
}

#[derive(Default)]
struct State {
    workers: usize,
    /// Those that have begun.
    ids: Vec<ThreadId>,
    /// The core that they are kept off.
    kept_off: Option<usize>,
    /// How many of them sleep.
    sleepers: usize,
    /// How many callers sleep.
    waiting: usize,
    task: Option<Task>,
    /// How many more workers may join the task.
    seats: usize,
    worth: Worth,
}

impl State {
    /// Linux may wake a thread on the core of the one that wakes it, though another is idle, and leave
    /// both there for milliseconds: longer than most steps take.
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

    /// Nothing panics while it holds the lock, and if it did the state would still be whole.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Shows a task to as many workers, which are started where there are not as many; `None` when
    /// there is another task, or sharing this one does not pay.
    fn post<'a>(
        &'static self,
        claims: &'a Claims<'a>,
        helpers: usize,
        bytes: usize,
        mut start: Instant,
    ) -> Option<Posted<'a>> {
        let mut state = self.lock();
        state.worth.begin(start, helpers);
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
            // What this took is not what sharing costs.
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
        // The others may be kept off a core that this one has not heard of.
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
                // Releases what was written to the caller, who may go on at once.
                claims.inside.fetch_sub(1, Ordering::Release);
                state = self.lock();
                // A caller that saw us inside, under the lock, sleeps by now.
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

/// A task that workers may be at. They have left it when this is gone, even by a panic.
struct Posted<'a> {
    pool: &'static Pool,
    claims: &'a Claims<'a>,
    /// When the workers were there.
    start: Instant,
}

impl Drop for Posted<'_> {
    fn drop(&mut self) {
        self.pool.lock().task = None;
        // Nobody joins any more. Those who are there are at their last chunk, and will soon have
        // done it if they have a core to themselves; if not, ours is the one to leave to them.
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

/// Looks again and again whether something has come, for so long at most; returns whether it has.
///
/// A thread that waits for the core is let in between: this takes time only where there is some
/// left over.
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
    use std::panic::catch_unwind;
    use std::sync::atomic::AtomicU8;
    use std::sync::{Barrier, mpsc};
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
