//! Instruction levels: the element loop is compiled for each, and the best one is chosen once.
#![cfg_attr(
    target_arch = "x86_64",
    expect(unsafe_code, reason = "calling code that is compiled for a CPU feature is unsafe")
)]

use std::env;
use std::sync::OnceLock;

use crate::error::Error;

/// The environment variable that forces a level.
const VARIABLE: &str = "INSTEP_ISA";

/// In bytes.
pub(crate) const CACHE_LINE: usize = 64;

/// A set of instructions that this CPU has. Ordered: a higher one includes the lower ones.
///
/// Only [`Level::available`] makes one, so to have one proves that the CPU has the instructions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Level(Kind);

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Baseline,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    #[cfg(target_arch = "x86_64")]
    Avx512,
}

impl Kind {
    #[cfg(target_arch = "x86_64")]
    const ALL: &[Self] = &[Self::Baseline, Self::Avx2, Self::Avx512];
    #[cfg(not(target_arch = "x86_64"))]
    const ALL: &[Self] = &[Self::Baseline];

    const fn name(self) -> &'static str {
        match self {
            Self::Baseline => "baseline",
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => "avx2",
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => "avx512",
        }
    }

    fn is_available(self) -> bool {
        match self {
            Self::Baseline => true,
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma"),
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => {
                Self::Avx2.is_available()
                    && is_x86_feature_detected!("avx512f")
                    && is_x86_feature_detected!("avx512vl")
                    && is_x86_feature_detected!("avx512bw")
                    && is_x86_feature_detected!("avx512dq")
            }
        }
    }
}

impl Level {
    /// The levels of this CPU, lowest first.
    #[must_use]
    pub fn available() -> Vec<Self> {
        let kinds = Kind::ALL.iter().filter(|kind| kind.is_available());
        kinds.map(|&kind| Self(kind)).collect()
    }

    /// The level in use: the highest of this CPU, or the one that `INSTEP_ISA` names.
    ///
    /// Detected at the first call, and the same for the life of the process.
    ///
    /// # Errors
    /// When `INSTEP_ISA` is not the name of a level, or names one that this CPU does not have.
    pub fn current() -> Result<Self, Error> {
        static CURRENT: OnceLock<Result<Level, Error>> = OnceLock::new();
        CURRENT
            .get_or_init(|| match env::var_os(VARIABLE) {
                Some(word) if !word.is_empty() => Self::named(&word.to_string_lossy())
                    .map_err(|error| Error::Import(format!("{VARIABLE} {error}"))),
                _ => Ok(Self::available().pop().unwrap_or(Self(Kind::Baseline))),
            })
            .clone()
    }

    /// The level of that name. The text of an error follows the name of the argument.
    ///
    /// # Errors
    /// When it is not the name of a level, or names one that this CPU does not have.
    pub fn named(word: &str) -> Result<Self, Error> {
        Self::among(&Self::available(), word)
    }

    fn among(available: &[Self], word: &str) -> Result<Self, Error> {
        if let Some(level) = available.iter().find(|level| level.name() == word) {
            return Ok(*level);
        }
        let wanted = if Kind::ALL.iter().any(|kind| kind.name() == word) {
            "but this CPU has only"
        } else {
            "which is not an instruction level; wanted one of"
        };
        let names: Vec<_> = available.iter().map(|level| level.name()).collect();
        Err(Error::Value(format!("is {word:?}, {wanted}: {}", names.join(", "))))
    }

    /// How many levels there are.
    pub(crate) const COUNT: usize = Kind::ALL.len();

    /// Its place among them.
    pub(crate) fn index(self) -> usize {
        self.0 as usize
    }

    /// What [`Kernel::run`] gets.
    pub(crate) fn width(self) -> usize {
        match self.0 {
            Kind::Baseline => 0,
            #[cfg(target_arch = "x86_64")]
            Kind::Avx2 => 32,
            #[cfg(target_arch = "x86_64")]
            Kind::Avx512 => 64,
        }
    }

    /// Its name in `INSTEP_ISA`.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.0.name()
    }
}

/// A loop to be compiled for every level.
pub(crate) trait Kernel {
    /// The loop. `WIDTH` is how many bytes the registers have that fused multiply-add is an instruction
    /// for, 0 where it is a slow call.
    ///
    /// It has to be `#[inline(always)]`, and so has everything that it calls: code that is not inlined
    /// into the function of a level is compiled for the baseline.
    fn run<const WIDTH: usize>(self);
}

/// Runs a kernel with the instructions of a level.
pub(crate) fn run(level: Level, kernel: impl Kernel) {
    match level.0 {
        Kind::Baseline => baseline::run(kernel),
        #[cfg(target_arch = "x86_64")]
        // SAFETY: a `Level` of this kind is only made by `Level::available`, which has asked the
        // CPU for each feature that `avx2` enables.
        Kind::Avx2 => unsafe { avx2::run(kernel) },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: as above, for the features that `avx512` enables.
        Kind::Avx512 => unsafe { avx512::run(kernel) },
    }
}

/// Asks the cache for the `n` elements from `start` on, which may lie behind the slice's end.
#[inline(always)]
pub(crate) fn prefetch<T>(slice: &[T], start: usize, n: usize) {
    #[cfg(target_arch = "x86_64")]
    for line in (start..start + n).step_by(CACHE_LINE / size_of::<T>()) {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: every x86-64 has the instruction (SSE), and it only hints: it neither reads nor
        // faults, whatever the address.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(slice.as_ptr().wrapping_add(line).cast()) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (slice, start, n);
}

/// Asks the cache for the line at an address, which may be anywhere.
#[inline(always)]
pub fn prefetch_at(address: *const u8) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: as in `prefetch`.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(address.cast()) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = address;
}

// A module each, so that the compiler takes each level by itself, on all cores.
mod baseline {
    #[inline(never)]
    pub(super) fn run(kernel: impl super::Kernel) {
        kernel.run::<0>();
    }
}

#[cfg(target_arch = "x86_64")]
mod avx2 {
    #[inline(never)]
    #[target_feature(enable = "avx2,fma")]
    pub(super) fn run(kernel: impl super::Kernel) {
        kernel.run::<32>();
    }
}

#[cfg(target_arch = "x86_64")]
mod avx512 {
    #[inline(never)]
    #[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512dq,fma")]
    pub(super) fn run(kernel: impl super::Kernel) {
        kernel.run::<64>();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_are_ordered_and_begin_with_the_baseline() {
        let levels = Level::available();
        assert_eq!(levels[0].name(), "baseline");
        assert!(levels.is_sorted());
    }

    #[test]
    fn every_available_level_can_be_forced() {
        for level in Level::available() {
            assert_eq!(Level::named(level.name()), Ok(level));
        }
    }

    #[cfg(target_arch = "x86_64")]
    #[test]
    fn a_level_that_this_cpu_lacks_is_refused_with_those_it_has() {
        let old_cpu = &Level::available()[..1];
        let message = "is \"avx512\", but this CPU has only: baseline".to_owned();
        assert_eq!(Level::among(old_cpu, "avx512"), Err(Error::Value(message)));
    }

    #[test]
    fn an_unknown_word_is_refused_with_the_words_that_are_known() {
        let Err(Error::Value(message)) = Level::named("sse9") else {
            panic!("sse9 was taken for a level")
        };
        assert!(message.contains("is \"sse9\"") && message.contains("baseline"));
    }
}
