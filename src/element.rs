//! The float types: `f32` and `f64`, and a quicker way of dividing in them.

use std::ops::{Add, Div, Mul, Sub};

/// What rules are written in: operations that round as IEEE 754 says.
pub trait Float:
    Copy
    + PartialOrd
    + Add<Output = Self>
    + Sub<Output = Self>
    + Mul<Output = Self>
    + Div<Output = Self>
{
    /// 0.
    const ZERO: Self;
    /// 1.
    const ONE: Self;

    /// The square root.
    fn sqrt(self) -> Self;

    /// The number without its sign.
    fn abs(self) -> Self;

    /// Whether it is NaN.
    fn is_nan(self) -> bool;

    /// The larger of two, or NaN if one of them is: as `np.maximum`, if `other` is not -0. (Of two
    /// zeros, `NumPy` takes the second on some CPUs and the positive one on others.)
    #[inline(always)]
    fn maximum(self, other: Self) -> Self {
        let larger = if self > other { self } else { other };
        if self.is_nan() { self } else { larger }
    }

    /// As `np.sign`: -1, 0 (for -0 too) or 1, and NaN for NaN.
    #[inline(always)]
    fn sign(self) -> Self {
        if self > Self::ZERO {
            Self::ONE
        } else if self < Self::ZERO {
            Self::ZERO - Self::ONE
        } else {
            // A zero loses its sign, NaN stays.
            self + Self::ZERO
        }
    }

    /// `self / divisor`, for a divisor that is the same for all elements and not over 1, as bias
    /// corrections are.
    ///
    /// The quotient has to reach the new parameter through arithmetic: see [`Reciprocal`].
    fn over(self, divisor: Self) -> Self;
}

/// The type of an array's elements.
pub trait Element: Float + Default + Send + Sync + 'static {
    /// Rounds a number to this type.
    fn nearest(x: f64) -> Self;

    /// The same number as an `f64`.
    fn widen(self) -> f64;
}

impl Element for f32 {
    #[inline(always)]
    #[expect(clippy::cast_possible_truncation, reason = "the rounding is wanted")]
    fn nearest(x: f64) -> Self {
        x as Self
    }

    #[inline(always)]
    fn widen(self) -> f64 {
        f64::from(self)
    }
}

impl Element for f64 {
    #[inline(always)]
    fn nearest(x: f64) -> Self {
        x
    }

    #[inline(always)]
    fn widen(self) -> f64 {
        self
    }
}

impl Float for f32 {
    const ZERO: Self = 0.0;
    const ONE: Self = 1.0;

    #[inline(always)]
    fn sqrt(self) -> Self {
        self.sqrt()
    }

    #[inline(always)]
    fn abs(self) -> Self {
        self.abs()
    }

    #[inline(always)]
    fn is_nan(self) -> bool {
        self.is_nan()
    }

    #[inline(always)]
    fn over(self, divisor: Self) -> Self {
        self / divisor
    }
}

impl Float for f64 {
    const ZERO: Self = 0.0;
    const ONE: Self = 1.0;

    #[inline(always)]
    fn sqrt(self) -> Self {
        self.sqrt()
    }

    #[inline(always)]
    fn abs(self) -> Self {
        self.abs()
    }

    #[inline(always)]
    fn is_nan(self) -> bool {
        self.is_nan()
    }

    #[inline(always)]
    fn over(self, divisor: Self) -> Self {
        self / divisor
    }
}

/// A float for which [`Float::over`] multiplies by the reciprocal, and gives the bits of the
/// quotient all the same, or NaN where it can't: the sweep looks for NaN in the new parameters and
/// repeats those elements with true divisions. All else is done as in `F`.
#[derive(Clone, Copy, PartialEq, PartialOrd)]
pub struct Reciprocal<F>(pub F);

impl Float for Reciprocal<f32> {
    const ZERO: Self = Self(0.0);
    const ONE: Self = Self(1.0);

    #[inline(always)]
    fn sqrt(self) -> Self {
        Self(self.0.sqrt())
    }

    #[inline(always)]
    fn abs(self) -> Self {
        Self(self.0.abs())
    }

    #[inline(always)]
    fn is_nan(self) -> bool {
        self.0.is_nan()
    }

    /// Rounding twice gives the bits of rounding once: a quotient of 24-bit numbers is at least
    /// 2^-49 of its size away from the middle of two `f32`, the `f64` product at most 2^-52 away
    /// from the quotient. (Among subnormal numbers, a quotient in the very middle needs a divisor
    /// over 1.)
    #[inline(always)]
    fn over(self, divisor: Self) -> Self {
        Self(f32::nearest(f64::from(self.0) * (1.0 / f64::from(divisor.0))))
    }
}

impl Reciprocal<f64> {
    /// Far enough above the subnormal numbers for the remainder in `over`, down to 2^-106 of the
    /// dividend, to be exact.
    const SMALLEST: f64 = 1e-280;
}

impl Float for Reciprocal<f64> {
    const ZERO: Self = Self(0.0);
    const ONE: Self = Self(1.0);

    #[inline(always)]
    fn sqrt(self) -> Self {
        Self(self.0.sqrt())
    }

    #[inline(always)]
    fn abs(self) -> Self {
        Self(self.0.abs())
    }

    #[inline(always)]
    fn is_nan(self) -> bool {
        self.0.is_nan()
    }

    /// From a quotient off by less than one unit in the last place and the rounded reciprocal, one
    /// fused correction makes the correctly rounded quotient (Markstein, "Computation of elementary
    /// functions on the IBM RISC System/6000 processor", 1990, theorem 7), if nothing under- or
    /// overflows. An overflow makes a NaN by itself.
    #[inline(always)]
    fn over(self, divisor: Self) -> Self {
        let (x, d) = (self.0, divisor.0);
        let high = 1.0 / d;
        let low = (-high).mul_add(d, 1.0) * high;
        let near = x.mul_add(high, x * low);
        let remainder = (-near).mul_add(d, x);
        let quotient = remainder.mul_add(high, near);
        Self(if x.abs() >= Self::SMALLEST {
            quotient
        } else if x == 0.0 {
            // The correction would lose the sign.
            x
        } else {
            f64::NAN
        })
    }
}

impl<F: Float> Add for Reciprocal<F> {
    type Output = Self;

    #[inline(always)]
    fn add(self, other: Self) -> Self {
        Self(self.0 + other.0)
    }
}

impl<F: Float> Sub for Reciprocal<F> {
    type Output = Self;

    #[inline(always)]
    fn sub(self, other: Self) -> Self {
        Self(self.0 - other.0)
    }
}

impl<F: Float> Mul for Reciprocal<F> {
    type Output = Self;

    #[inline(always)]
    fn mul(self, other: Self) -> Self {
        Self(self.0 * other.0)
    }
}

impl<F: Float> Div for Reciprocal<F> {
    type Output = Self;

    #[inline(always)]
    fn div(self, other: Self) -> Self {
        Self(self.0 / other.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Numbers with hard bit patterns at many magnitudes: the output of `SplitMix64`, as bits.
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
        let mut all = vec![1.0, 0.5, 0.75, 1.0 - f64::EPSILON / 2.0, f64::EPSILON / 2.0];
        for beta in [0.0_f64, 0.5, 0.9, 0.95, 0.99, 0.999, 0.9999, 1.0 - 1e-12] {
            all.extend((1..40).map(|t| 1.0 - beta.powi(t * t)));
        }
        all.extend(numbers(7).take(200).map(|bits| f64::from_bits(bits >> 12 | 0x3fe << 52)));
        all
    }

    #[test]
    fn reciprocal_gives_the_quotient_or_nan() {
        let edges = [0.0, 1e-281, 1e-280, f64::MIN_POSITIVE, 5e-324, f64::MAX, f64::INFINITY];
        for d in divisors() {
            let dividends = numbers(d.to_bits()).map(f64::from_bits).take(4_000);
            for x in dividends.chain(edges).flat_map(|x| [x, -x]) {
                let Reciprocal(quotient) = Reciprocal(x).over(Reciprocal(d));
                if x.abs() >= 1e-280 && (x / d).is_finite() && x.abs() < 1e300 {
                    assert_eq!(quotient.to_bits(), (x / d).to_bits(), "{x:e} / {d:e}");
                } else {
                    assert!(quotient.is_nan() || quotient.to_bits() == (x / d).to_bits());
                }
            }
        }
    }

    #[test]
    fn single_precision_gives_the_quotient() {
        for d in divisors().into_iter().map(f32::nearest).filter(|&d| d > 0.0) {
            let bits = numbers(u64::from(d.to_bits())).take(4_000);
            #[expect(clippy::cast_possible_truncation, reason = "half of the bits will do")]
            for x in bits
                .flat_map(|bits| [f32::from_bits(bits as u32), f32::from_bits(bits as u32 >> 9)])
            {
                let (Reciprocal(quotient), wanted) = (Reciprocal(x).over(Reciprocal(d)), x / d);
                let same = quotient.to_bits() == wanted.to_bits();
                assert!(same || quotient.is_nan() && wanted.is_nan(), "{x:e} / {d:e}");
            }
        }
    }
}
