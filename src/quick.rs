//! The floats of a sweep if there are quicker ways to divide by coefficients and take square roots.

use std::ops::{Add, Div, Mul, Sub};

use crate::arrays;
use crate::division::Reciprocal;
use crate::element::Float;
use crate::registers::{Instructions, Register};
use crate::roots;
use crate::rules::Rule;

/// Two registers of floats, done side by side: while one waits for a result, the other has work. They divide
/// by coefficients in two or four `OPERATIONS`, or on the divider in one, and take roots on the
/// multipliers (`ROOT1`, `ROOT2`, of each of the two) or on the divider.
///
/// Each result is bit-for-bit identical to that of the operation itself, or NaN if a quick way can't
/// tell. Everything else is done as in the floats themselves.
#[derive(Clone, Copy)]
pub(crate) struct Quick<V, const OPERATIONS: u8, const ROOT1: bool, const ROOT2: bool>(
    Register<V>,
    Register<V>,
);

impl<V: Instructions, const OPERATIONS: u8, const ROOT1: bool, const ROOT2: bool>
    Quick<V, OPERATIONS, ROOT1, ROOT2>
{
    /// A number in every place.
    #[inline(always)]
    pub(crate) fn of(x: V::Element) -> Self {
        Self(Register::of(x), Register::of(x))
    }

    /// The first elements of a slice.
    #[inline(always)]
    pub(crate) fn load(slice: &[V::Element]) -> Self {
        let slice = &slice[..2 * V::N];
        Self(Register::load(slice), Register::load(&slice[V::N..]))
    }

    /// Writes the first elements of a slice.
    #[inline(always)]
    pub(crate) fn store(self, slice: &mut [V::Element]) {
        let slice = &mut slice[..2 * V::N];
        self.0.store(slice);
        self.1.store(&mut slice[V::N..]);
    }

    /// A register that has NaN where one of the two has it.
    #[inline(always)]
    pub(crate) fn sum(self) -> Register<V> {
        self.0 + self.1
    }

    #[inline(always)]
    fn each(self, f: impl Fn(Register<V>) -> Register<V>) -> Self {
        Self(f(self.0), f(self.1))
    }

    #[inline(always)]
    fn with(self, other: Self, f: impl Fn(Register<V>, Register<V>) -> Register<V>) -> Self {
        Self(f(self.0, other.0), f(self.1, other.1))
    }
}

impl<V: Instructions, const OPERATIONS: u8, const ROOT1: bool, const ROOT2: bool> Float
    for Quick<V, OPERATIONS, ROOT1, ROOT2>
{
    #[inline(always)]
    fn sqrt(self) -> Self {
        Self(
            if ROOT1 { roots::root(self.0) } else { self.0.sqrt() },
            if ROOT2 { roots::root(self.1) } else { self.1.sqrt() },
        )
    }

    #[inline(always)]
    fn abs(self) -> Self {
        self.each(Register::abs)
    }

    #[inline(always)]
    fn maximum(self, other: Self) -> Self {
        self.with(other, Register::maximum)
    }

    #[inline(always)]
    fn or_zero(self) -> Self {
        self.each(Register::or_zero)
    }

    #[inline(always)]
    fn sign(self) -> Self {
        self.each(Register::sign)
    }

    #[inline(always)]
    fn over(self, divisor: Self) -> Self {
        let reciprocal = Reciprocal::of(divisor.0.first());
        match OPERATIONS {
            2 => Self(reciprocal.in_two(self.0), reciprocal.in_two(self.1)),
            4 => Self(reciprocal.in_four(self.0), reciprocal.in_four(self.1)),
            _ => self / divisor,
        }
    }
}

impl<V: Instructions, const OPERATIONS: u8, const ROOT1: bool, const ROOT2: bool> Add
    for Quick<V, OPERATIONS, ROOT1, ROOT2>
{
    type Output = Self;

    #[inline(always)]
    fn add(self, other: Self) -> Self {
        self.with(other, Add::add)
    }
}

impl<V: Instructions, const OPERATIONS: u8, const ROOT1: bool, const ROOT2: bool> Sub
    for Quick<V, OPERATIONS, ROOT1, ROOT2>
{
    type Output = Self;

    #[inline(always)]
    fn sub(self, other: Self) -> Self {
        self.with(other, Sub::sub)
    }
}

impl<V: Instructions, const OPERATIONS: u8, const ROOT1: bool, const ROOT2: bool> Mul
    for Quick<V, OPERATIONS, ROOT1, ROOT2>
{
    type Output = Self;

    #[inline(always)]
    fn mul(self, other: Self) -> Self {
        self.with(other, Mul::mul)
    }
}

impl<V: Instructions, const OPERATIONS: u8, const ROOT1: bool, const ROOT2: bool> Div
    for Quick<V, OPERATIONS, ROOT1, ROOT2>
{
    type Output = Self;

    #[inline(always)]
    fn div(self, other: Self) -> Self {
        self.with(other, Div::div)
    }
}

/// What a number depends on. To run a rule on these instead of numbers shows what it uses, so no rule
/// has to declare it. The compiler does this once.
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
        const { assert!(C <= u8::BITS as usize) }
        let coefficient = |i: usize| Self { coefficient: 1 << i, ..Self::NOTHING };
        let coefficients = arrays::from_fn(Self::NOTHING, coefficient);
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
