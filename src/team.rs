//! The threads of OpenMP that another library of this process computes with, for the steps of its
//! optimizers.
//!
//! After each of its loops they look for the next one for milliseconds, and keep our own workers off
//! their cores for as long. They are awake, so the step runs on them.
#![expect(unsafe_code, reason = "a function of the OpenMP runtime is called")]

use std::cell::Cell;
use std::ffi::{c_uint, c_void};
use std::sync::OnceLock;
use std::{process, ptr};

/// `GOMP_parallel`: calls a function with data on each thread of a team, so many of them or, for 0, as
/// many as there are by default; returns when all calls have.
///
/// GCC's runtime has it, and those of LLVM and Intel do.
type Parallel =
    unsafe extern "C" fn(unsafe extern "C" fn(*mut c_void), *mut c_void, c_uint, c_uint);

/// A team of threads.
#[derive(Clone, Copy, Debug)]
pub struct Team(Parallel);

thread_local! {
    static TEAM: Cell<Option<Team>> = const { Cell::new(None) };
    /// Whether this thread is one that has called on its team, and waits for it.
    static CALLS: Cell<bool> = const { Cell::new(false) };
}

/// The process that has loaded this library: a child that it forks later has none of its threads, and
/// the runtime would wait for them.
static PROCESS: OnceLock<u32> = OnceLock::new();

impl Team {
    /// Takes note of the process. Call it when this library is loaded.
    pub fn note_process() {
        PROCESS.get_or_init(process::id);
    }

    /// That of the OpenMP runtime whose functions are global in this process, if there is one.
    #[must_use]
    pub fn of_openmp() -> Option<Self> {
        // SAFETY: the name is a C string. Whoever exports this name is a runtime, or stands in for one;
        // null is the `None` of an optional function. Libraries with threads are never unloaded.
        #[cfg(target_os = "linux")]
        return unsafe {
            let address = libc::dlsym(libc::RTLD_DEFAULT, c"GOMP_parallel".as_ptr());
            std::mem::transmute::<*mut c_void, Option<Parallel>>(address).map(Self)
        };
        #[cfg(not(target_os = "linux"))]
        None
    }

    /// Calls `run`, the large tasks of which run on this team.
    pub fn within<T>(team: Option<Self>, run: impl FnOnce() -> T) -> T {
        /// Sets it back, even after a panic.
        struct Restore(Option<Team>);

        impl Drop for Restore {
            fn drop(&mut self) {
                TEAM.set(self.0);
            }
        }

        let _restore = Restore(TEAM.replace(team));
        run()
    }

    /// The one that this thread's tasks run on.
    pub(crate) fn current() -> Option<Self> {
        TEAM.get().filter(|_| PROCESS.get() == Some(&process::id()))
    }

    /// Calls `work` once on each thread of the team, and says whether that is the caller's; returns when
    /// all calls have. `work` is not to panic.
    pub(crate) fn run(self, work: &(dyn Fn(bool) + Sync)) {
        CALLS.set(true);
        let data = ptr::from_ref(&work).cast_mut().cast();
        // SAFETY: it is `GOMP_parallel`, which calls `enter` with `data`, and no more once it returns;
        // what `data` points to is borrowed for longer. The threads only read that, and `work` is `Sync`.
        unsafe { (self.0)(enter, data, 0, 0) };
        CALLS.set(false);
    }
}

/// A panic ends the process here: the runtime, which is C, has no way to hand it on.
///
/// # Safety
/// `data` points to a `&(dyn Fn(bool) + Sync)`, which lives for as long as the call.
unsafe extern "C" fn enter(data: *mut c_void) {
    // SAFETY: the caller's word.
    let work = unsafe { *data.cast::<&(dyn Fn(bool) + Sync)>() };
    work(CALLS.get());
}

#[cfg(test)]
pub(crate) mod tests {
    use std::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};
    use std::thread;

    use super::*;

    /// A team of three threads.
    pub(crate) fn team() -> Team {
        Team::note_process();
        Team(three)
    }

    /// As the runtime's own.
    unsafe extern "C" fn three(
        work: unsafe extern "C" fn(*mut c_void),
        data: *mut c_void,
        _: c_uint,
        _: c_uint,
    ) {
        let data = AtomicPtr::new(data);
        thread::scope(|scope| {
            for _ in 0..2 {
                // SAFETY: the word of the caller, who waits for all of them.
                scope.spawn(|| unsafe { work(data.load(Ordering::Relaxed)) });
            }
            // SAFETY: as above.
            unsafe { work(data.load(Ordering::Relaxed)) };
        });
    }

    #[test]
    fn each_thread_works_once_and_the_caller_is_known() {
        let [callers, others] = [const { AtomicUsize::new(0) }; 2];
        for _ in 0..3 {
            Team::within(Some(team()), || {
                let here = thread::current().id();
                Team::current().expect("the team").run(&|calls| {
                    assert_eq!(calls, thread::current().id() == here);
                    (if calls { &callers } else { &others }).fetch_add(1, Ordering::Relaxed);
                });
            });
        }
        assert_eq!((callers.into_inner(), others.into_inner()), (3, 6));
        assert!(Team::current().is_none());
    }
}
