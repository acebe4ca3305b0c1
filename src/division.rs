//! Division of many numbers by the same divisor, correctly rounded, without the CPU's divider.

use std::cell::Cell;

use crate::element::{Element, Float};
use crate::isa::{self, Kernel, Level};
use crate::registers::{Instructions, Register};

/// A divisor, and its reciprocal in two parts.
#[derive(Clone, Copy)]
pub(crate) struct Reciprocal<F> {
    divisor: F,
    /// Rounded.
    high: F,
    /// What `high` lacks, rounded.
    low: F,
}

impl<F: Element> Reciprocal<F> {
    #[inline(always)]
    pub(crate) fn of(divisor: F) -> Self {
        let high = F::ONE / divisor;
        Self { divisor, high, low: high.mul_add(F::nearest(0.0) - divisor, F::ONE) * high }
    }

    /// `x / divisor` for a divisor for which [`two_operations_suffice`], or NaN where this way can't
    /// tell: `x` times the two parts, the product with the larger of them not rounded.
    ///
    /// Brisebarre, Muller, Raina, "Accelerating correctly rounded floating-point division when the
    /// divisor is known in advance", IEEE Transactions on Computers, 2004.
    #[inline(always)]
    pub(crate) fn in_two<V: Instructions<Element = F>>(self, x: Register<V>) -> Register<V> {
        let quotient = x.mul_add(Register::of(self.high), x * Register::of(self.low));
        x.abs().guarded(F::SMALLEST_DIVIDEND, x, quotient)
    }

    /// `x / divisor` for any divisor that [`is_common`], or NaN where this way can't tell.
    ///
    /// From a quotient off by less than one unit in the last place and the rounded reciprocal, one
    /// fused correction makes the correctly rounded quotient (Markstein, "Computation of elementary
    /// functions on the IBM RISC System/6000 processor", 1990, theorem 7), if nothing under- or
    /// overflows. An overflow makes a NaN by itself.
    #[inline(always)]
    pub(crate) fn in_four<V: Instructions<Element = F>>(self, x: Register<V>) -> Register<V> {
        let near = x.mul_add(Register::of(self.high), x * Register::of(self.low));
        let remainder = near.mul_add(Register::of(F::nearest(0.0) - self.divisor), x);
        let quotient = remainder.mul_add(Register::of(self.high), near);
        x.abs().guarded(F::SMALLEST_DIVIDEND, x, quotient)
    }
}

/// Whether a divisor is as bias corrections are: not over 1, and not so small that `low`, at most half a
/// unit in the last place of the reciprocal, is over 1. Else its product with a large dividend could be
/// infinite with the wrong sign.
#[inline(always)]
pub(crate) fn is_common<F: Element>(divisor: F) -> bool {
    divisor <= F::ONE && divisor >= F::nearest(1.0 / 8_388_608.0)
}

/// Whether [`Reciprocal::in_two`] gives the correctly rounded quotient of every dividend.
///
/// With p = 24 or 53 digits, the significands of dividend and divisor in [1, 2) and u = 2^-p: `high` is
/// at most u/2 away from the reciprocal, so `low` is at most u/2, and it is rounded twice; so is the
/// product with it. Before the last rounding, the result is therefore less than `3*x*u/2*u*(1 + 4*u)`
/// away from the quotient.
///
/// The middle between two floats, near the quotient, is `M/2^n`, `M` odd and of p + 1 digits, `n = p` for
/// quotients from 1 on and `n = p + 1` below. With the significands as whole numbers `X` and `Y` of p
/// digits, `X*2^n - M*Y = j` is not 0, or `X*2^n` had a divisor of p + 1 digits that is odd. The distance
/// from the middle is `abs(j) / (Y*2^n)`; by this and the bound, the last rounding can only go to the
/// wrong side if `abs(j) <= 3*x*d/4`, which is less than 3, for `n = p`, and if `abs(j) <= 3*x*d/2`, less
/// than 6 since `x < d`, for `n = p + 1`; for the little that was left out, 3 and 6 are tried as well.
/// For each such `j`, the remainder of `M` by a power of 2 is known, so there are few dividends to try.
#[inline(always)]
#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    reason = "whole numbers of at most 53 digits"
)]
fn suffice<F: Element>(divisor: F) -> bool {
    let p = F::DIGITS;
    let y = (divisor.widen().to_bits() & ((1 << 52) - 1) | 1 << 52) >> (53 - p);
    let zeros = y.trailing_zeros();
    let odd = y >> zeros;
    // Newton's iteration: each doubles the number of bits that are right, 3 at first.
    let mut inverse = odd;
    for _ in 0..5 {
        inverse = inverse.wrapping_mul(2_u64.wrapping_sub(odd.wrapping_mul(inverse)));
    }
    let number = |whole: u64, scale: u32| F::nearest(whole as f64 / (1_u64 << scale) as f64);
    let reciprocal = Reciprocal::of(number(y, p - 1));
    for (n, most) in [(p, 3_i64), (p + 1, 6)] {
        for j in (-most..=most).filter(|j| j.trailing_zeros() == zeros) {
            let modulus = 1_u64 << (n - zeros);
            let mut m = (-(j >> zeros)).cast_unsigned().wrapping_mul(inverse) % modulus;
            while m < 1 << (p + 1) {
                if m >= 1 << p {
                    let product = u128::from(m) * u128::from(y);
                    let x = (product.wrapping_add_signed(j.into()) >> n) as u64;
                    if x >= 1 << (p - 1) && x < 1 << p {
                        // The neighbor of the middle that the quotient lies next to.
                        let quotient = number(m.div_ceil(2) - u64::from(j < 0), n - p);
                        let x = F::nearest(x as f64);
                        if x.mul_add(reciprocal.high, x * reciprocal.low) != quotient {
                            return false;
                        }
                    }
                }
                m += modulus;
            }
        }
    }
    true
}

/// Whether [`Reciprocal::in_two`] gives the correctly rounded quotient of every dividend: as [`suffice`] says, who
/// is asked once by a thread for as long as divisors stay the same.
#[inline]
pub(crate) fn two_operations_suffice<F: Element>(level: Level, divisor: F) -> bool {
    thread_local! {
        static KNOWN: [Cell<(u64, bool)>; PLACES] = const { [const { Cell::new((0, false)) }; PLACES] };
    }
    let bits = divisor.widen().to_bits();
    // Both types may have the same divisor, but not the same answer: 0 is no divisor of either.
    let key = bits | u64::from(F::DIGITS == f64::MANTISSA_DIGITS) << 63;
    KNOWN.with(|known| {
        let place = &known[(bits.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 60) as usize];
        let (known, answer) = place.get();
        if known == key {
            return answer;
        }
        let mut answer = false;
        isa::run(level, Suffice { divisor, answer: &mut answer });
        place.set((key, answer));
        answer
    })
}

const PLACES: usize = 16;

struct Suffice<'a, F> {
    divisor: F,
    answer: &'a mut bool,
}

impl<F: Element> Kernel for Suffice<'_, F> {
    #[inline(always)]
    fn run<const WIDTH: usize>(self) {
        *self.answer = suffice(self.divisor);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registers::Registers;

    /// Numbers with hard bit patterns: the output of `SplitMix64`, as bits.
    fn numbers(seed: u64) -> impl Iterator<Item = u64> {
        let mut state = seed;
        std::iter::repeat_with(move || {
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let z = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            z ^ (z >> 31)
        })
    }

    /// Bias corrections `1 - beta**t`, and divisors with few or nearly all bits set.
    fn divisors() -> Vec<f64> {
        let mut all = vec![1.0, 0.5, 0.75, 1.0 - f64::EPSILON / 2.0];
        for beta in [0.0_f64, 0.5, 0.9, 0.95, 0.99, 0.999, 0.9999] {
            all.extend((1..40).map(|t| 1.0 - beta.powi(t * t)));
        }
        all.extend(numbers(7).take(200).map(|bits| f64::from_bits(bits >> 12 | 0x3fe << 52)));
        // Those of all sizes that are common, in both types.
        all.extend(
            numbers(8).take(400).map(|bits| f64::from_bits(bits >> 12 | (0x3e0 + bits % 32) << 52)),
        );
        all.retain(|&divisor| is_common(divisor) && is_common(f32::nearest(divisor)));
        all
    }

    /// Quotients of a slice in place, in the registers of the level.
    struct Each<'a, F> {
        divisor: F,
        two: bool,
        numbers: &'a mut [F],
    }

    impl<F: Registers> Each<'_, F> {
        #[inline(always)]
        fn divide<V: Instructions<Element = F>>(self) {
            let reciprocal = Reciprocal::of(self.divisor);
            for chunk in self.numbers.chunks_exact_mut(V::N) {
                let x = Register::<V>::load(chunk);
                let quotient = if self.two { reciprocal.in_two(x) } else { reciprocal.in_four(x) };
                quotient.store(chunk);
            }
        }
    }

    impl<F: Registers> Kernel for Each<'_, F> {
        #[inline(always)]
        fn run<const WIDTH: usize>(self) {
            match WIDTH {
                #[cfg(target_arch = "x86_64")]
                32 => self.divide::<F::Of32>(),
                #[cfg(target_arch = "x86_64")]
                64 => self.divide::<F::Of64>(),
                _ => {
                    for x in self.numbers {
                        *x = *x / self.divisor;
                    }
                }
            }
        }
    }

    /// The quotients are those of the divider; where the dividend is too small, they may be NaN.
    fn check<F: Registers>(level: Level, divisor: F, two: bool, dividends: &[F]) {
        let mut quotients = dividends.to_vec();
        isa::run(level, Each { divisor, two, numbers: &mut quotients });
        for (&x, &found) in dividends.iter().zip(&quotients) {
            let (wanted, found) = ((x / divisor).widen(), found.widen());
            let known =
                x.abs() >= F::SMALLEST_DIVIDEND && wanted.abs() < 1e300 && x.widen().abs() < 1e38
                    || x == F::nearest(0.0);
            let same = found.to_bits() == wanted.to_bits();
            assert!(same || !known && found.is_nan(), "{:e} / {:e}", x.widen(), divisor.widen());
        }
    }

    fn check_divisors<F: Registers>(number: impl Fn(u64) -> F) {
        let edges = [0.0, 1e-281, 1e-270, 1e-269, 1e-23, 9e-24, 2e-38, f64::MIN_POSITIVE, 5e-324];
        let edges = edges.into_iter().chain([f64::MAX, f64::INFINITY, f64::NAN, 1.0, 3.4e38]);
        let edges: Vec<F> = edges.flat_map(|x| [F::nearest(x), F::nearest(-x)]).collect();
        let mut refused = 0;
        for d in divisors() {
            let divisor = F::nearest(d);
            let mut dividends: Vec<F> = numbers(d.to_bits()).map(&number).take(1_000).collect();
            dividends.extend(&edges);
            dividends.resize(dividends.len().next_multiple_of(16), F::ONE);
            for level in Level::available().into_iter().filter(|level| level.width() > 0) {
                check(level, divisor, false, &dividends);
                if two_operations_suffice(level, divisor) {
                    check(level, divisor, true, &dividends);
                } else {
                    refused += 1;
                }
            }
        }
        assert!(refused > 0 || Level::available().len() == 1);
    }

    #[test]
    fn quotients_are_right_or_nan() {
        check_divisors(f64::from_bits);
        check_divisors(|bits| f64::from_bits(bits >> 12 | 0x3ff << 52));
        #[expect(clippy::cast_possible_truncation, reason = "half of the bits will do")]
        check_divisors(|bits| f32::from_bits(bits as u32));
        #[expect(clippy::cast_possible_truncation, reason = "half of the bits will do")]
        check_divisors(|bits| f32::from_bits(bits as u32 >> 9 | 0x7f << 23));
    }

    /// How many of all the dividends in [1, 2) two operations get wrong.
    fn wrong(divisor: f32) -> usize {
        let reciprocal = Reciprocal::of(divisor);
        let dividends = (0..1_u32 << 23).map(|bits| f32::from_bits(0x3f80_0000 | bits));
        let two = |x: f32| x.mul_add(reciprocal.high, x * reciprocal.low);
        dividends.filter(|&x| two(x).to_bits() != (x / divisor).to_bits()).count()
    }

    const FAR: f32 = f32::from_bits(0x3f66_cce9);

    #[test]
    fn only_what_is_like_a_bias_correction_is_common() {
        for x in [1.0, 0.5, 1.3e-7, 1.0 - f64::EPSILON] {
            assert!(is_common(x), "{x:e}");
        }
        for x in [0.0, -0.5, 1.0 + f64::EPSILON, 1.5, 1.1e-7, 1e-300, f64::NAN, f64::INFINITY] {
            assert!(!is_common(x), "{x:e}");
        }
    }

    #[test]
    fn the_answer_for_a_divisor_is_that_of_all_dividends() {
        let (mut yes, mut no) = (0, 0);
        // What goes wrong for this one is as far from a middle as that can be.
        assert!(!suffice(FAR) && wrong(FAR) > 0);
        for divisor in divisors().into_iter().map(f32::nearest) {
            let few = if suffice(divisor) { &mut yes } else { &mut no };
            *few += 1;
            if *few <= 4 {
                assert_eq!(suffice(divisor), wrong(divisor) == 0, "{divisor:e}");
            }
        }
        assert!(yes >= 4 && no >= 4, "{yes} {no}");
    }

    /// `make verify-roots`: the same for many divisors.
    #[test]
    #[ignore = "takes minutes"]
    fn verify_divisions() {
        for divisor in divisors().into_iter().map(f32::nearest) {
            assert_eq!(suffice(divisor), wrong(divisor) == 0, "{divisor:e}");
        }
    }

    #[test]
    fn answers_are_kept_apart() {
        for level in Level::available() {
            for d in divisors() {
                for _ in 0..2 {
                    assert_eq!(two_operations_suffice(level, d), suffice(d), "{d:e}");
                    let d = f32::nearest(d);
                    assert_eq!(two_operations_suffice(level, d), suffice(d), "{d:e}");
                    assert_eq!(two_operations_suffice(level, f64::from(d)), suffice(f64::from(d)));
                }
            }
        }
    }
}
