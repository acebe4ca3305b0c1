//! The float types: those that rules are written in, and those of arrays.

use std::ops::{Add, Div, Mul, Sub};

/// The type that rules are written in: its operations round as IEEE 754 says.
///
/// Each gives NaN if an operand is NaN, and there are no comparisons. So a NaN is in every result that
/// depends on it, which is how [`Quick`](crate::quick::Quick) says that it can't tell.
pub trait Float:
    Copy + Add<Output = Self> + Sub<Output = Self> + Mul<Output = Self> + Div<Output = Self>
{
    /// The square root.
    fn sqrt(self) -> Self;

    /// The number without its sign.
    fn abs(self) -> Self;

    /// The larger of two, or NaN if one of them is: as `np.maximum`, if `other` is not -0. (Of two
    /// zeros, `NumPy` takes the second on some CPUs and the positive one on others.)
    fn maximum(self, other: Self) -> Self;

    /// The larger of it and 0, or NaN.
    fn or_zero(self) -> Self;

    /// As `np.sign`: -1, 0 (for -0 too) or 1, and NaN for NaN.
    fn sign(self) -> Self;

    /// `self / divisor`, for a divisor that is one of the coefficients. It is the same for all
    /// elements, so there are quicker ways to get the same bits.
    fn over(self, divisor: Self) -> Self;
}

/// What is copied between arrays and tiles: integers and floats, of which any bits will do.
pub trait Bits: Copy + Default + Send + Sync + 'static {}

impl Bits for u8 {}
impl Bits for u16 {}
impl Bits for i16 {}
impl Bits for [u8; 2] {}
impl Bits for f32 {}
impl Bits for f64 {}

/// The type of an array's elements.
pub trait Element: Bits + Float + PartialOrd {
    /// 1.
    const ONE: Self;

    /// How many bits a significand has, with the one that is not stored.
    const DIGITS: u32;

    /// Far enough above the subnormal numbers for the arithmetic of [`division`](crate::division).
    const SMALLEST_DIVIDEND: Self;

    /// Rounds a number to this type.
    fn nearest(x: f64) -> Self;

    /// The same number as an `f64`.
    fn widen(self) -> f64;

    /// `self*factor + addend`, rounded once.
    fn mul_add(self, factor: Self, addend: Self) -> Self;
}

#[inline(always)]
fn maximum<F: Element>(one: F, other: F) -> F {
    let larger = if one > other { one } else { other };
    if one.partial_cmp(&one).is_none() { one } else { larger }
}

#[inline(always)]
fn sign<F: Element>(x: F) -> F {
    if x > F::nearest(0.0) {
        F::ONE
    } else if x < F::nearest(0.0) {
        F::nearest(-1.0)
    } else {
        // A zero loses its sign, NaN stays.
        x + F::nearest(0.0)
    }
}

impl Element for f32 {
    const ONE: Self = 1.0;
    const DIGITS: u32 = Self::MANTISSA_DIGITS;
    const SMALLEST_DIVIDEND: Self = 1e-23;

    #[inline(always)]
    #[expect(clippy::cast_possible_truncation, reason = "the rounding is wanted")]
    fn nearest(x: f64) -> Self {
        x as Self
    }

    #[inline(always)]
    fn widen(self) -> f64 {
        f64::from(self)
    }

    #[inline(always)]
    fn mul_add(self, factor: Self, addend: Self) -> Self {
        self.mul_add(factor, addend)
    }
}

impl Element for f64 {
    const ONE: Self = 1.0;
    const DIGITS: u32 = Self::MANTISSA_DIGITS;
    const SMALLEST_DIVIDEND: Self = 1e-270;

    #[inline(always)]
    fn nearest(x: f64) -> Self {
        x
    }

    #[inline(always)]
    fn widen(self) -> f64 {
        self
    }

    #[inline(always)]
    fn mul_add(self, factor: Self, addend: Self) -> Self {
        self.mul_add(factor, addend)
    }
}

impl Float for f32 {
    #[inline(always)]
    fn sqrt(self) -> Self {
        self.sqrt()
    }

    #[inline(always)]
    fn abs(self) -> Self {
        self.abs()
    }

    #[inline(always)]
    fn maximum(self, other: Self) -> Self {
        maximum(self, other)
    }

    #[inline(always)]
    fn or_zero(self) -> Self {
        maximum(self, 0.0)
    }

    #[inline(always)]
    fn sign(self) -> Self {
        sign(self)
    }

    #[inline(always)]
    fn over(self, divisor: Self) -> Self {
        self / divisor
    }
}

impl Float for f64 {
    #[inline(always)]
    fn sqrt(self) -> Self {
        self.sqrt()
    }

    #[inline(always)]
    fn abs(self) -> Self {
        self.abs()
    }

    #[inline(always)]
    fn maximum(self, other: Self) -> Self {
        maximum(self, other)
    }

    #[inline(always)]
    fn or_zero(self) -> Self {
        maximum(self, 0.0)
    }

    #[inline(always)]
    fn sign(self) -> Self {
        sign(self)
    }

    #[inline(always)]
    fn over(self, divisor: Self) -> Self {
        self / divisor
    }
}
