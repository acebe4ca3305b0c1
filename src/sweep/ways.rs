//! The ways to do a sweep, and which is the quickest on this CPU.

use std::marker::PhantomData;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use std::{array, iter};

use super::Sweep;
use crate::division;
use crate::element::Float;
use crate::environment;
use crate::isa::{self, Level};
use crate::quick::Uses;
use crate::registers::Registers;
use crate::roots::{self, Roots};
use crate::rules::Rule;

/// How a sweep divides by coefficients and takes roots. All ways give the same bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// On the divider.
    Plain,
    /// As [`Quick`] does, dividing in two operations or in four.
    Quick { two: bool, roots: Roots },
}

impl Way {
    /// The quickest on this CPU.
    #[inline(always)]
    pub(super) fn of<R, F, const H: usize, const C: usize, const S: usize>(
        level: Level,
        coefficients: &[F; C],
        len: usize,
    ) -> Self
    where
        R: Rule<H, C, S>,
        F: Registers,
    {
        let uses = all_uses::<R, H, C, S>();
        let none = !uses.may_be_unknown() || uses.unknown_divisors;
        let floats = environment::has_default_floats;
        if none || level.width() == 0 || len < SHORTEST || !floats() {
            return Self::Plain;
        }
        if uses.divisors == 0 {
            return best::<F>(level, Division::None);
        }
        let mut divisors = (0..C).filter(|i| uses.divisors >> i & 1 == 1).map(|i| coefficients[i]);
        if !divisors.clone().all(division::is_common) {
            return Self::Plain;
        }
        let two = divisors.all(|divisor| division::two_operations_suffice(level, divisor));
        best::<F>(level, if two { Division::Two } else { Division::Four })
    }
}

/// What an element's new parameter and state depend on, in a rule.
#[inline(always)]
pub(super) fn all_uses<R: Rule<H, C, S>, const H: usize, const C: usize, const S: usize>() -> Uses {
    let (p, states) = Uses::of::<R, H, C, S>();
    states.into_iter().fold(p, Uses::and)
}

/// The shortest sweep for which to look for a way.
const SHORTEST: usize = 64;

/// How a rule's divisions by coefficients, if it has any, can be done off the divider.
#[derive(Clone, Copy)]
enum Division {
    None,
    Two,
    Four,
}

/// What was the quickest way for a rule with such divisions, and roots, when that was first asked.
/// It depends on the CPU: how long its divider takes, and how much else can be done meanwhile.
fn best<F: Registers>(level: Level, division: Division) -> Way {
    // Places in `ways`, one more of each: no lock, which another thread could hold while it forks.
    static KNOWN: [[[AtomicUsize; 3]; 2]; Level::COUNT] =
        [const { [const { [const { AtomicUsize::new(0) }; 3] }; 2] }; Level::COUNT];
    let of_level = &KNOWN[level.index()];
    let of_type = &of_level[usize::from(F::DIGITS == f64::MANTISSA_DIGITS)];
    let known = &of_type[division as usize];
    let two = matches!(division, Division::Two);
    let place = known.load(Ordering::Relaxed).checked_sub(1).unwrap_or_else(|| {
        let place = match division {
            Division::None => quickest::<Typical<false>, F>(level, two),
            _ => quickest::<Typical<true>, F>(level, two),
        };
        known.store(place + 1, Ordering::Relaxed);
        place
    });
    ways(two)[place]
}

fn ways(two: bool) -> [Way; 4] {
    let quick = |roots| Way::Quick { two, roots };
    [Way::Plain, quick(Roots::Divider), quick(Roots::Half), quick(Roots::All)]
}

/// The place in `ways` of the one that took the least time, in a few dozen microseconds.
fn quickest<R: Rule<0, 4, 2>, F: Registers>(level: Level, two: bool) -> usize {
    const LEN: usize = 1024;
    let ways = ways(two);
    let ways = if F::DIGITS == f64::MANTISSA_DIGITS && roots::are_right(level) {
        &ways
    } else {
        &ways[..2]
    };
    #[expect(clippy::cast_precision_loss, reason = "a thousand is no large number")]
    let number = |i: usize| F::nearest(0.7 / (i + 3) as f64);
    let (mut p, g): ([F; LEN], [F; LEN]) = (array::from_fn(number), array::from_fn(number));
    let (mut m, mut v) = (g, g);
    let exact = R::coefficients([]);
    let coefficients = exact.map(F::nearest);
    let mut least = [Duration::MAX; 4];
    for _ in 0..ROUNDS {
        for (way, least) in ways.iter().zip(&mut least) {
            let start = Instant::now();
            let state = [&mut m[..], &mut v[..]];
            let rule = PhantomData::<R>;
            isa::run(
                level,
                Sweep { coefficients, exact: &exact, way: *way, p: &mut p, g: &g, state, rule },
            );
            *least = start.elapsed().min(*least);
        }
    }
    // The plain way, unless another one is quicker by more than chance.
    let times = iter::zip(0..ways.len(), least);
    let (place, time) = times.min_by_key(|&(_, time)| time).expect("the plain way");
    if time.as_secs_f64() < 0.97 * least[0].as_secs_f64() { place } else { 0 }
}

/// How often each way is timed.
const ROUNDS: usize = 8;

/// A rule that takes as long as Adam does, whose divisions are by coefficients if it `DIVIDES`.
struct Typical<const DIVIDES: bool>;

impl<const DIVIDES: bool> Rule<0, 4, 2> for Typical<DIVIDES> {
    const HYPERS: [&'static str; 0] = [];
    const STATES: [&'static str; 2] = ["m", "v"];

    fn coefficients([]: [f64; 0]) -> [f64; 4] {
        // The last is a divisor, in two operations or in four, that loses nothing.
        [0.9, 0.1, 1e-8, 0.75]
    }

    #[inline(always)]
    fn update<F: Float>(c: [F; 4], p: F, g: F, [m, v]: [F; 2]) -> (F, [F; 2]) {
        let [decay, rest, eps, divisor] = c;
        let m = decay * m + rest * g;
        let v = decay * v + rest * (g * g);
        let corrected = |x: F| if DIVIDES { x.over(divisor) } else { x };
        (p - (rest * corrected(m)) / (corrected(v).sqrt() + eps), [m, v])
    }
}
