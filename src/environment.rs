//! What belongs to a thread: its floating-point mode, the signals that it blocks, the core that it is on.
#![expect(unsafe_code, reason = "a control register is read, and the C library is called")]

/// Whether floats round to nearest here, with subnormal numbers and without traps: the only mode in
/// which the bits of a result don't depend on which thread has computed it, and the one that
/// `Quick` (in quick.rs) is right in.
///
/// Rust has no way to change the mode, but other code in the process may have: torch's
/// `set_flush_denormal` does.
#[inline]
#[must_use]
pub fn has_default_floats() -> bool {
    control_bits() == DEFAULT
}

/// All exceptions masked, and nothing else.
#[cfg(target_feature = "sse")]
const DEFAULT: u64 = 0x1f80;

/// The control bits of MXCSR: which exceptions trap, how to round, what becomes of subnormal
/// numbers; not the flags of exceptions that there have been, which are as good as always set.
#[cfg(target_feature = "sse")]
#[inline]
fn control_bits() -> u64 {
    const FLAGS: u32 = 0x3f;
    let mut mxcsr = 0_u32;
    // SAFETY: the CPU has the instruction (SSE); it stores four bytes, which are ours, and changes
    // nothing else. Not `pure`: what it reads is no operand, so it is not to be moved or left out.
    unsafe {
        std::arch::asm!(
            "stmxcsr [{}]", in(reg) &raw mut mxcsr, options(nostack, preserves_flags)
        );
    }
    u64::from(mxcsr & !FLAGS)
}

#[cfg(target_arch = "aarch64")]
const DEFAULT: u64 = 0;

/// FPCR, which has no flags.
#[cfg(target_arch = "aarch64")]
#[inline]
fn control_bits() -> u64 {
    let fpcr: u64;
    // SAFETY: any code may read the register, and that changes nothing. Not `pure`, as above.
    unsafe {
        std::arch::asm!("mrs {}, fpcr", out(reg) fpcr, options(nomem, nostack, preserves_flags));
    }
    fpcr
}

#[cfg(not(any(target_feature = "sse", target_arch = "aarch64")))]
const DEFAULT: u64 = 0;

/// No other mode that we know of.
#[cfg(not(any(target_feature = "sse", target_arch = "aarch64")))]
fn control_bits() -> u64 {
    DEFAULT
}

/// A thread, by the number that the system gives it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ThreadId(#[cfg(target_os = "linux")] libc::pid_t);

/// The core that this thread is on, by its number, if the system tells.
#[cfg(target_os = "linux")]
pub(crate) fn core() -> Option<usize> {
    // SAFETY: it takes nothing and writes nothing.
    usize::try_from(unsafe { libc::sched_getcpu() }).ok()
}

#[cfg(target_os = "linux")]
pub(crate) fn thread_id() -> ThreadId {
    // SAFETY: as above.
    ThreadId(unsafe { libc::gettid() })
}

/// Has these threads run on the cores that this thread may use, but for one, if there are others.
#[cfg(target_os = "linux")]
pub(crate) fn keep_off(core: usize, threads: &[ThreadId]) {
    let size = size_of::<libc::cpu_set_t>();
    // SAFETY: a set of no cores is all zeros; `sched_getaffinity` writes to it as many bytes as it has,
    // and leaves it as it is where the system has more cores than that. A core that is cleared is below
    // the number of bits. `sched_setaffinity` reads the set, and fails for a thread that has ended.
    unsafe {
        let mut cores: libc::cpu_set_t = std::mem::zeroed();
        if core >= 8 * size || libc::sched_getaffinity(0, size, &raw mut cores) != 0 {
            return;
        }
        libc::CPU_CLR(core, &mut cores);
        if libc::CPU_COUNT(&cores) > 0 {
            for thread in threads {
                libc::sched_setaffinity(thread.0, size, &raw const cores);
            }
        }
    }
}

/// The cores that this thread may use.
#[cfg(all(test, target_os = "linux"))]
pub(crate) fn cores() -> Vec<usize> {
    let size = size_of::<libc::cpu_set_t>();
    // SAFETY: as above; every core that is asked for is below the number of bits.
    unsafe {
        let mut cores: libc::cpu_set_t = std::mem::zeroed();
        assert_eq!(libc::sched_getaffinity(0, size, &raw mut cores), 0);
        (0..8 * size).filter(|&core| libc::CPU_ISSET(core, &cores)).collect()
    }
}

/// No system that tells, or that we know to need it.
#[cfg(not(target_os = "linux"))]
pub(crate) fn core() -> Option<usize> {
    None
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn thread_id() -> ThreadId {
    ThreadId()
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn keep_off(_core: usize, _threads: &[ThreadId]) {}

/// Calls `spawn` with all signals blocked in this thread, so that threads born within block them
/// from their first instruction on.
///
/// Except those that a thread gets for what it has just done itself, such as reading a mapped file that
/// has become too short: if blocked, they end the process before a handler can say where it was.
#[cfg(unix)]
pub(crate) fn with_signals_blocked<T>(spawn: impl FnOnce() -> T) -> T {
    /// Puts the thread's mask back, even after a panic.
    struct Restore(libc::sigset_t);

    impl Drop for Restore {
        fn drop(&mut self) {
            set_mask(&self.0);
        }
    }

    let _restore = Restore(set_mask(&all_but_faults()));
    spawn()
}

/// There are no signals that the system would give to any thread.
#[cfg(not(unix))]
pub(crate) fn with_signals_blocked<T>(spawn: impl FnOnce() -> T) -> T {
    spawn()
}

#[cfg(unix)]
fn all_but_faults() -> libc::sigset_t {
    const FAULTS: [libc::c_int; 6] =
        [libc::SIGBUS, libc::SIGFPE, libc::SIGILL, libc::SIGSEGV, libc::SIGSYS, libc::SIGTRAP];
    let mut set = std::mem::MaybeUninit::uninit();
    // SAFETY: `sigfillset` makes a whole set of what is there, so that it can be changed after it,
    // and taken for one; neither call fails for a signal that there is.
    unsafe {
        libc::sigfillset(set.as_mut_ptr());
        for fault in FAULTS {
            libc::sigdelset(set.as_mut_ptr(), fault);
        }
        set.assume_init()
    }
}

/// Sets which signals this thread blocks, and returns those that it did.
#[cfg(unix)]
fn set_mask(set: &libc::sigset_t) -> libc::sigset_t {
    let mut before = *set;
    // SAFETY: both are whole sets of our own. It fails only for an unknown `SIG_SETMASK`.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, set, &raw mut before) };
    before
}

#[cfg(test)]
mod tests {
    use std::panic::catch_unwind;
    use std::thread;

    use super::*;

    #[test]
    fn the_flags_of_exceptions_are_no_mode() {
        assert!(has_default_floats());
        let third = std::hint::black_box(1.0_f64) / std::hint::black_box(3.0);
        assert!(third.is_normal() && has_default_floats());
    }

    #[cfg(unix)]
    fn blocked() -> Vec<libc::c_int> {
        let mut set = all_but_faults();
        // SAFETY: without a new set the mask stays, and the old one is put into our own.
        unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, std::ptr::null(), &raw mut set) };
        // SAFETY: a whole set of our own is read.
        (1..32)
            .filter(|&signal| unsafe { libc::sigismember(&raw const set, signal) } == 1)
            .collect()
    }

    #[cfg(unix)]
    #[test]
    fn a_thread_is_born_with_signals_blocked_and_its_parent_is_as_before() {
        let never = [libc::SIGKILL, libc::SIGSTOP];
        let faults =
            [libc::SIGBUS, libc::SIGFPE, libc::SIGILL, libc::SIGSEGV, libc::SIGSYS, libc::SIGTRAP];
        let wanted: Vec<_> =
            (1..32).filter(|signal| !never.contains(signal) && !faults.contains(signal)).collect();
        let before = blocked();
        let born = with_signals_blocked(|| thread::spawn(blocked));
        assert_eq!(born.join().expect("no panic"), wanted);
        assert_eq!(blocked(), before);
        assert!(catch_unwind(|| with_signals_blocked(|| panic!("planted"))).is_err());
        assert_eq!(blocked(), before);
    }
}
