//! The only element loop: load, rule, store.

pub mod stored;
mod ways;

use std::marker::PhantomData;
use std::ops::Range;

use crate::arrays;
use crate::isa::{self, Kernel, Level};
use crate::quick::{Quick, Uses};
use crate::registers::{Instructions, Register, Registers};
use crate::roots::Roots;
use crate::rules::{Coefficients, MAX_STATES, Rule};
use ways::{Way, all_uses};

/// The arrays of a parameter, all of one length.
#[derive(Debug)]
pub struct Arrays<'a, F> {
    /// The parameter.
    pub p: &'a mut [F],
    /// The gradient.
    pub g: &'a [F],
    /// As many states as the rule has, then empty ones.
    pub state: [&'a mut [F]; MAX_STATES],
}

impl<'a, F> Arrays<'a, F> {
    /// Those of a parameter with these states.
    pub fn of<'s: 'a>(p: &'a mut [F], g: &'a [F], states: &'a mut [&'s mut [F]]) -> Self {
        let mut arrays = Self { p, g, ..Self::default() };
        for (k, state) in states.iter_mut().enumerate() {
            arrays.state[k] = state;
        }
        arrays
    }
}

impl<F> Default for Arrays<'_, F> {
    /// Of no elements.
    fn default() -> Self {
        Self { p: &mut [], g: &[], state: [&mut [], &mut [], &mut [], &mut []] }
    }
}

/// One step over the arrays of some parameters, with the same coefficients.
pub type Step<F> = fn(Level, &Coefficients, &mut [Arrays<'_, F>]);

/// Sweeps rule `R` over the arrays of some parameters, with the instructions of `level`.
///
/// # Panics
/// When an array is shorter than its parameter.
pub(crate) fn step<R, F, const H: usize, const C: usize, const S: usize>(
    level: Level,
    coefficients: &Coefficients,
    list: &mut [Arrays<'_, F>],
) where
    R: Rule<H, C, S>,
    F: Registers,
{
    let exact = coefficients.first_chunk().expect("room for those of each rule");
    let coefficients = arrays::from_fn(F::ONE, |i| F::nearest(exact[i]));
    let mut longest = 0;
    for arrays in &*list {
        longest = arrays.p.len().max(longest);
    }
    let way = Way::of::<R, F, H, C, S>(level, &coefficients, longest);
    isa::run(level, Sweeps { coefficients, exact, way, list, rule: PhantomData::<R> });
}

/// One sweep after the other: for small arrays it takes longer to call a function than to do all else.
struct Sweeps<'a, 'b, R, F, const H: usize, const C: usize, const S: usize> {
    coefficients: [F; C],
    exact: &'a [f64; C],
    way: Way,
    list: &'a mut [Arrays<'b, F>],
    rule: PhantomData<R>,
}

impl<R, F, const H: usize, const C: usize, const S: usize> Kernel for Sweeps<'_, '_, R, F, H, C, S>
where
    R: Rule<H, C, S>,
    F: Registers,
{
    #[inline(always)]
    fn run<const WIDTH: usize>(self) {
        let Self { coefficients, exact, way, list, rule } = self;
        for Arrays { p, g, state } in list {
            let state = state.first_chunk_mut().expect("no rule has more");
            Sweep { coefficients, exact, way, p, g, state, rule }.run::<WIDTH>();
        }
    }
}

struct Sweep<'a, 's, R, F, const H: usize, const C: usize, const S: usize> {
    coefficients: [F; C],
    /// The coefficients before they were rounded.
    exact: &'a [f64; C],
    way: Way,
    p: &'a mut [F],
    g: &'a [F],
    state: &'a mut [&'s mut [F]; S],
    rule: PhantomData<R>,
}

impl<R, F, const H: usize, const C: usize, const S: usize> Kernel for Sweep<'_, '_, R, F, H, C, S>
where
    R: Rule<H, C, S>,
    F: Registers,
{
    #[inline(always)]
    fn run<const WIDTH: usize>(self) {
        match WIDTH {
            // A wide rule has elements of two types.
            _ if R::WIDE && F::DIGITS < f64::MANTISSA_DIGITS => self.each(),
            #[cfg(target_arch = "x86_64")]
            32 => self.in_registers::<F::Of32>(),
            #[cfg(target_arch = "x86_64")]
            64 => self.in_registers::<F::Of64>(),
            _ => self.each(),
        }
    }
}

impl<R, F, const H: usize, const C: usize, const S: usize> Sweep<'_, '_, R, F, H, C, S>
where
    R: Rule<H, C, S>,
    F: Registers,
{
    /// Element by element, for the compiler to make the most of.
    #[inline(always)]
    fn each(self) {
        let n = self.p.len();
        // Cut to one length, so that the compiler drops the bounds checks of the loop.
        let (p, g, state) = (self.p, &self.g[..n], parts(self.state, 0..n));
        let (coefficients, exact) = (self.coefficients, *self.exact);
        for i in 0..n {
            let old = arrays::from_fn(p[i], |k| state[k][i]);
            let (new, states) = R::update_exactly(coefficients, exact, p[i], g[i], old);
            p[i] = new;
            for k in 0..S {
                state[k][i] = states[k];
            }
        }
    }

    /// Two registers at a time; then what is left, less than two.
    #[inline(always)]
    fn in_registers<V: Instructions<Element = F>>(mut self) {
        let n = self.p.len();
        let pairs = n - n % (2 * V::N);
        let mut done = 0;
        while done < pairs {
            // Where the quick way stops, the divider does the pair.
            let (stop, end) = match self.quick_by_way::<V>(done, pairs) {
                Some(stop) => (stop, pairs.min(stop + 2 * V::N)),
                None => (done, pairs),
            };
            done = self.pairs::<V, 1, false, false>(stop, end);
        }
        if done < n {
            self.rest::<V>(done);
        }
    }

    /// Where [`Sweep::pairs`] with a quick way stops, or `None` if there is none. The compiler knows what a
    /// rule has no use for, and leaves it out.
    #[inline(always)]
    fn quick_by_way<V: Instructions<Element = F>>(
        &mut self,
        start: usize,
        end: usize,
    ) -> Option<usize> {
        let Way::Quick { two, roots } = self.way else { return None };
        let uses = all_uses::<R, H, C, S>();
        let divides = uses.divisors != 0;
        if const { V::ESTIMATE.is_some() } {
            let two = two && divides;
            match roots {
                Roots::Half if two => return Some(self.pairs::<V, 2, false, true>(start, end)),
                Roots::Half if uses.roots => {
                    return Some(self.pairs::<V, 4, false, true>(start, end));
                }
                Roots::All if two => return Some(self.pairs::<V, 2, true, true>(start, end)),
                Roots::All if uses.roots => {
                    return Some(self.pairs::<V, 4, true, true>(start, end));
                }
                _ => {}
            }
        }
        if const { F::DIGITS == f64::MANTISSA_DIGITS } && divides && !two {
            return Some(self.pairs::<V, 4, false, false>(start, end));
        }
        (divides && two).then(|| self.pairs::<V, 2, false, false>(start, end))
    }

    /// Two registers at a time, each as [`Quick`] does it. Returns where it stopped: at the end, or where a
    /// quick way gives NaN.
    #[inline(always)]
    fn pairs<
        V: Instructions<Element = F>,
        const OPERATIONS: u8,
        const ROOT1: bool,
        const ROOT2: bool,
    >(
        &mut self,
        start: usize,
        end: usize,
    ) -> usize {
        let of = Quick::<V, OPERATIONS, ROOT1, ROOT2>::of;
        let coefficients = arrays::from_fn(of(F::ONE), |i| of(self.coefficients[i]));
        // Cut to one length, so that the compiler drops the bounds checks of the loop.
        let (p, g) = (&mut self.p[start..end], &self.g[start..end]);
        let state = parts(self.state, start..end);
        for at in (0..end - start).step_by(2 * V::N) {
            let load = |slice: &[_]| Quick::load(&slice[at..]);
            let (p_old, g) = (load(p), load(g));
            let old = arrays::from_fn(p_old, |k| load(state[k]));
            let (new, states) = R::update(coefficients, p_old, g, old);
            if const { OPERATIONS > 1 || ROOT1 || ROOT2 } {
                let (uses, states_use) = Uses::of::<R, H, C, S>();
                let mut all = Register::of(F::nearest(0.0));
                if uses.may_be_unknown() {
                    all = new.sum();
                }
                for k in 0..S {
                    if states_use[k].may_be_unknown() {
                        all = all + states[k].sum();
                    }
                }
                if all.has_nan() {
                    return start + at;
                }
            }
            new.store(&mut p[at..]);
            for k in 0..S {
                states[k].store(&mut state[k][at..]);
            }
        }
        end
    }

    /// What is left from `start` on, less than two registers, one at a time on the divider: a second one
    /// of zeros would take as long as one of elements.
    #[inline(always)]
    fn rest<V: Instructions<Element = F>>(&mut self, mut start: usize) {
        let n = self.p.len();
        let of = Register::<V>::of;
        let coefficients = arrays::from_fn(of(F::ONE), |i| of(self.coefficients[i]));
        while start < n {
            let end = n.min(start + V::N);
            let load = |slice: &[_]| Register::load_first(&slice[start..end]);
            let (p, g) = (load(self.p), load(self.g));
            let old = arrays::from_fn(p, |k| load(self.state[k]));
            let (new, states) = R::update(coefficients, p, g, old);
            new.store_first(&mut self.p[start..end]);
            for (k, new) in states.iter().enumerate() {
                new.store_first(&mut self.state[k][start..end]);
            }
            start = end;
        }
    }
}

/// The same part of each slice; behind the last one none are left.
#[inline(always)]
fn parts<'a, F>(slices: &'a mut [&mut [F]], part: Range<usize>) -> [&'a mut [F]; MAX_STATES] {
    let mut parts: [&mut [F]; MAX_STATES] = [&mut [], &mut [], &mut [], &mut []];
    for (k, slice) in slices.iter_mut().enumerate() {
        parts[k] = &mut slice[part.clone()];
    }
    parts
}

#[cfg(test)]
mod tests {
    use std::array;

    use super::*;
    use crate::element::Float;
    use crate::rules::eps::{Inside, Outside};
    use crate::rules::{MAX_COEFFICIENTS, adadelta, adam, nadam, rmsprop, yogi};
    use crate::{division, roots};

    const EVERY_WAY: [Way; 7] = [
        Way::Plain,
        Way::Quick { two: true, roots: Roots::Divider },
        Way::Quick { two: true, roots: Roots::Half },
        Way::Quick { two: true, roots: Roots::All },
        Way::Quick { two: false, roots: Roots::Divider },
        Way::Quick { two: false, roots: Roots::Half },
        Way::Quick { two: false, roots: Roots::All },
    ];

    /// Ordinary numbers, but for some in the middle of blocks: zeros of both signs, subnormal numbers,
    /// infinities, NaN, the smallest and largest numbers, and negative ones.
    #[expect(clippy::cast_precision_loss, reason = "53 digits")]
    fn numbers<F: Registers>(seed: usize, len: usize, special: usize) -> Vec<F> {
        let specials = [
            0.0,
            -0.0,
            1e-310,
            -1e-310,
            1e-44,
            5e-324,
            1e-30,
            -1e-24,
            1e-280,
            3e-276,
            1e38,
            1e300,
            f64::INFINITY,
            f64::NEG_INFINITY,
            f64::NAN,
            -0.5,
            f64::MIN_POSITIVE,
            2e-38,
        ];
        let mut state = seed as u64;
        (0..len)
            .map(|i| {
                state = state
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1_442_695_040_888_963_407);
                let x = (state >> 11) as f64 / (1_u64 << 53) as f64;
                let at = i.wrapping_mul(7).wrapping_add(seed);
                F::nearest(if special > 0 && at % special == 0 {
                    specials[at / special % 18]
                } else {
                    x
                })
            })
            .collect()
    }

    /// Whether two numbers have the same bits; any NaN is as good as another.
    fn same<F: Registers>(x: F, y: F) -> bool {
        let (x, y) = (x.widen(), y.widen());
        x.to_bits() == y.to_bits() || x.is_nan() && y.is_nan()
    }

    fn every_way_is_the_plain_one<R, F, const H: usize, const C: usize, const S: usize>(
        hypers: [f64; H],
    ) where
        R: Rule<H, C, S>,
        F: Registers,
    {
        let exact = R::coefficients(hypers);
        let coefficients = exact.map(F::nearest);
        let suffices = |level| {
            let divisors = all_uses::<R, H, C, S>().divisors;
            (0..C)
                .filter(|i| divisors >> i & 1 == 1)
                .all(|i| division::two_operations_suffice(level, coefficients[i]))
        };
        for (special, len) in [(0, 1_003), (3, 259), (29, 1_003), (211, 517), (2, 15)] {
            let old: [Vec<F>; S] = array::from_fn(|k| numbers(k + 2, len, special));
            let (p, g) = (numbers::<F>(0, len, special), numbers::<F>(1, len, special));
            let wanted: Vec<_> = (0..len)
                .map(|i| {
                    R::update_exactly(
                        coefficients,
                        exact,
                        p[i],
                        g[i],
                        array::from_fn(|k| old[k][i]),
                    )
                })
                .collect();
            for level in Level::available() {
                for way in EVERY_WAY {
                    if matches!(way, Way::Quick { two: true, .. }) && !suffices(level) {
                        continue;
                    }
                    let off_divider =
                        matches!(way, Way::Quick { roots, .. } if roots != Roots::Divider);
                    if off_divider && level.width() == 64 && !roots::are_right(level) {
                        continue;
                    }
                    let (mut p, mut states) = (p.clone(), old.clone());
                    let state = &mut states.each_mut().map(|s| &mut s[..]);
                    let rule = PhantomData::<R>;
                    isa::run(
                        level,
                        Sweep { coefficients, exact: &exact, way, p: &mut p, g: &g, state, rule },
                    );
                    for i in 0..len {
                        let (x, xs) = wanted[i];
                        let all = same(p[i], x) && (0..S).all(|k| same(states[k][i], xs[k]));
                        assert!(all, "{way:?} at {level:?}, element {i} of {len}, {special}");
                    }
                }
            }
        }
    }

    fn for_both_types<R, const H: usize, const C: usize, const S: usize>(hypers: [f64; H])
    where
        R: Rule<H, C, S>,
    {
        every_way_is_the_plain_one::<R, f32, H, C, S>(hypers);
        every_way_is_the_plain_one::<R, f64, H, C, S>(hypers);
    }

    #[test]
    fn every_way_gives_the_bits_of_the_plain_one() {
        for t in [1, 2, 3, 10, 40, 4_000] {
            let hypers = [0.01, 0.9, 0.999, 1e-8, 0.9_f64.powi(t), 0.999_f64.powi(t)];
            for_both_types::<adam::Plain<adam::Inside>, 6, 8, 2>(hypers);
            for_both_types::<adam::Plain<adam::Outside>, 6, 8, 2>(hypers);
            for_both_types::<adam::Plain<adam::Scaled>, 6, 6, 2>(hypers);
            for_both_types::<adam::HatWide, 6, 6, 2>(hypers);
            for_both_types::<adam::Dlfs, 6, 4, 2>(hypers);
            for_both_types::<yogi::Yogi, 6, 5, 2>(hypers);
            for_both_types::<adam::AmsgradCorrected<Outside>, 6, 8, 3>(hypers);
            for_both_types::<adam::ScaledAmsgradCorrected, 6, 7, 3>(hypers);
        }
        for_both_types::<nadam::Nadam, 6, 8, 2>([0.9, 0.999, 1e-8, 0.99, 0.02, 0.3]);
        for_both_types::<adadelta::Adadelta, 3, 4, 2>([1.0, 0.9, 1e-6]);
        for_both_types::<rmsprop::Centered<Inside>, 3, 4, 2>([0.01, 0.9, 1e-8]);
        for_both_types::<rmsprop::Plain<Outside>, 3, 4, 1>([0.01, 0.9, 0.0]);
    }

    /// The quotient stays in the state: the parameter doesn't show that it is not known.
    struct OnlyInState;

    impl Rule<1, 1, 1> for OnlyInState {
        const HYPERS: [&'static str; 1] = ["c"];
        const STATES: [&'static str; 1] = ["s"];

        fn coefficients(hypers: [f64; 1]) -> [f64; 1] {
            hypers
        }

        #[inline(always)]
        fn update<F: Float>([c]: [F; 1], p: F, g: F, [_]: [F; 1]) -> (F, [F; 1]) {
            (p - g, [g.over(c).sqrt()])
        }
    }

    /// Divides by what is no coefficient.
    struct ByState;

    impl Rule<0, 0, 1> for ByState {
        const HYPERS: [&'static str; 0] = [];
        const STATES: [&'static str; 1] = ["s"];

        fn coefficients([]: [f64; 0]) -> [f64; 0] {
            []
        }

        #[inline(always)]
        fn update<F: Float>([]: [F; 0], p: F, g: F, [s]: [F; 1]) -> (F, [F; 1]) {
            (p - g.over(s), [s])
        }
    }

    #[test]
    fn a_rule_need_not_say_what_it_uses() {
        for_both_types::<OnlyInState, 1, 1, 1>([0.3]);
        let way = |len| Way::of::<ByState, f64, 0, 0, 1>(Level::available()[0], &[], len);
        assert_eq!(way(1_000), Way::Plain);
        let divisors = |uses: Uses| (uses.divisors, uses.roots, uses.unknown_divisors);
        let inside = all_uses::<adam::Plain<adam::Inside>, 6, 8, 2>();
        assert_eq!(divisors(inside), (0b0110_0000, true, false));
        let hat = all_uses::<adam::Plain<adam::Hat>, 6, 6, 2>();
        assert_eq!(divisors(hat), (0, true, false));
        const { assert!(MAX_COEFFICIENTS <= u8::BITS as usize) };
    }

    #[test]
    fn a_divisor_that_is_no_bias_correction_is_divided_by() {
        for level in Level::available() {
            for c2 in [0.0, -0.5, 1.5, 1e-300, f64::NAN, f64::INFINITY] {
                let coefficients = [0.9, 0.1, 0.999, 0.001, 0.01, 0.5, c2, 1e-8];
                let way =
                    Way::of::<adam::Plain<adam::Inside>, f64, 6, 8, 2>(level, &coefficients, 999);
                assert_eq!(way, Way::Plain, "{c2}");
            }
        }
    }
}
