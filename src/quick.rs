//! What a sweep computes in where divisions by coefficients and square roots have quicker ways.

use std::array;
use std::ops::{Add, Div, Mul, Sub};

use crate::division::Reciprocal;
use crate::element::{Element, Float};
use crate::registers::{Instructions, Register};
use crate::roots;
use crate::rules::Rule;

/// A register of floats that divides by coefficients in two or four `OPERATIONS`, or on the divider in
/// one, and takes roots on the multipliers (`ROOT`) or on the divider.
///
/// Each result has the bits of the operation itself or, where a quick way can't tell, is NaN. All
/// else is done as in the floats themselves.
#[derive(Clone, Copy)]
pub(crate) struct Quick<V, const OPERATIONS: u8, const ROOT: bool>(pub(crate) Register<V>);

impl<V: Instructions, const OPERATIONS: u8, const ROOT: bool> Float for Quick<V, OPERATIONS, ROOT> {
    #[inline(always)]
    fn sqrt(self) -> Self {
        Self(if ROOT { roots::root(self.0) } else { self.0.sqrt() })
    }

    #[inline(always)]
    fn abs(self) -> Self {
        Self(self.0.abs())
    }

    #[inline(always)]
    fn maximum(self, other: Self) -> Self {
        Self(self.0.maximum(other.0))
    }

    #[inline(always)]
    fn or_zero(self) -> Self {
        self.maximum(Self(Register::of(V::Element::nearest(0.0))))
    }

    #[inline(always)]
    fn sign(self) -> Self {
        Self(self.0.sign())
    }

    #[inline(always)]
    fn over(self, divisor: Self) -> Self {
        let reciprocal = || Reciprocal::of(divisor.0.first());
        Self(match OPERATIONS {
            2 => reciprocal().in_two(self.0),
            4 => reciprocal().in_four(self.0),
            _ => self.0 / divisor.0,
        })
    }
}

impl<V: Instructions, const OPERATIONS: u8, const ROOT: bool> Add for Quick<V, OPERATIONS, ROOT> {
    type Output = Self;

    #[inline(always)]
    fn add(self, other: Self) -> Self {
        Self(self.0 + other.0)
    }
}

impl<V: Instructions, const OPERATIONS: u8, const ROOT: bool> Sub for Quick<V, OPERATIONS, ROOT> {
    type Output = Self;

    #[inline(always)]
    fn sub(self, other: Self) -> Self {
        Self(self.0 - other.0)
    }
}

impl<V: Instructions, const OPERATIONS: u8, const ROOT: bool> Mul for Quick<V, OPERATIONS, ROOT> {
    type Output = Self;

    #[inline(always)]
    fn mul(self, other: Self) -> Self {
        Self(self.0 * other.0)
    }
}

impl<V: Instructions, const OPERATIONS: u8, const ROOT: bool> Div for Quick<V, OPERATIONS, ROOT> {
    type Output = Self;

    #[inline(always)]
    fn div(self, other: Self) -> Self {
        Self(self.0 / other.0)
    }
}

/// What a number depends on. Running a rule on these instead of on numbers tells what it uses, so no
/// rule has to say it; the compiler does that once and for all.
#[derive(Clone, Copy)]
pub(crate) struct Uses {
    /// Which coefficient it is, as a bit; 0 for what is computed.
    coefficient: u8,
    /// Which coefficients something was divided by.
    pub(crate) divisors: u8,
    /// Whether a root was taken.
    pub(crate) roots: bool,
    /// Whether something that is no coefficient was taken for one: then there is no quick way.
    pub(crate) unknown_divisors: bool,
}

impl Uses {
    const NOTHING: Self =
        Self { coefficient: 0, divisors: 0, roots: false, unknown_divisors: false };

    /// What an element's new parameter and state depend on, in a rule.
    #[inline(always)]
    pub(crate) fn of<R: Rule<H, C, S>, const H: usize, const C: usize, const S: usize>()
    -> (Self, [Self; S]) {
        let coefficients = array::from_fn(|i| Self { coefficient: 1 << i, ..Self::NOTHING });
        R::update(coefficients, Self::NOTHING, Self::NOTHING, [Self::NOTHING; S])
    }

    /// Whether it depends on an operation that has a quick way, which may have given NaN.
    #[inline(always)]
    pub(crate) fn may_be_unknown(self) -> bool {
        self.divisors != 0 || self.roots
    }

    #[inline(always)]
    pub(crate) fn and(self, other: Self) -> Self {
        Self {
            coefficient: 0,
            divisors: self.divisors | other.divisors,
            roots: self.roots | other.roots,
            unknown_divisors: self.unknown_divisors | other.unknown_divisors,
        }
    }
}

impl Float for Uses {
    #[inline(always)]
    fn sqrt(self) -> Self {
        Self { coefficient: 0, roots: true, ..self }
    }

    #[inline(always)]
    fn abs(self) -> Self {
        self.and(Self::NOTHING)
    }

    #[inline(always)]
    fn maximum(self, other: Self) -> Self {
        self.and(other)
    }

    #[inline(always)]
    fn or_zero(self) -> Self {
        self.and(Self::NOTHING)
    }

    #[inline(always)]
    fn sign(self) -> Self {
        self.and(Self::NOTHING)
    }

    #[inline(always)]
    fn over(self, divisor: Self) -> Self {
        let of_both = self.and(divisor);
        Self {
            divisors: of_both.divisors | divisor.coefficient,
            unknown_divisors: of_both.unknown_divisors || divisor.coefficient == 0,
            ..of_both
        }
    }
}

impl Add for Uses {
    type Output = Self;

    #[inline(always)]
    fn add(self, other: Self) -> Self {
        self.and(other)
    }
}

impl Sub for Uses {
    type Output = Self;

    #[inline(always)]
    fn sub(self, other: Self) -> Self {
        self.and(other)
    }
}

impl Mul for Uses {
    type Output = Self;

    #[inline(always)]
    fn mul(self, other: Self) -> Self {
        self.and(other)
    }
}

impl Div for Uses {
    type Output = Self;

    #[inline(always)]
    fn div(self, other: Self) -> Self {
        self.and(other)
    }
}
