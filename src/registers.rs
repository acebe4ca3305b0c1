//! Registers of floats: the operations of a type of register, and what a CPU has of them.
#![expect(unsafe_code, reason = "calling code that is compiled for a CPU feature is unsafe")]

use std::ops::{Add, Div, Mul, Sub};

use crate::element::{Element, Float};

type Fill<V> = unsafe fn(<V as Instructions>::Element) -> V;
type Load<V> = unsafe fn(*const <V as Instructions>::Element, u32) -> V;
type Store<V> = unsafe fn(*mut <V as Instructions>::Element, u32, V);
type Test<V> = unsafe fn(V) -> bool;
type Unary<V> = unsafe fn(V) -> V;
type Binary<V> = unsafe fn(V, V) -> V;
type Ternary<V> = unsafe fn(V, V, V) -> V;
type Quaternary<V> = unsafe fn(V, V, V, V) -> V;

/// The instructions for a type of register. Each is safe to call where its CPU features are, if what
/// it reads or writes is there.
pub(crate) trait Instructions: Copy {
    type Element: Element;
    /// How many elements there are in a register.
    const N: usize = size_of::<Self>() / size_of::<Self::Element>();

    /// As many elements as are said, from an address on, and zeros.
    const LOAD_FIRST: Load<Self>;
    /// Writes as many elements as are said, to an address on.
    const STORE_FIRST: Store<Self>;
    /// The same number in every place.
    const SET: Fill<Self>;
    const ADD: Binary<Self>;
    const SUB: Binary<Self>;
    const MUL: Binary<Self>;
    const DIV: Binary<Self>;
    const SQRT: Unary<Self>;
    /// The first times the second, plus the third, rounded once.
    const MUL_ADD: Ternary<Self>;
    /// The first times the second, minus the third, rounded once.
    const MUL_SUB: Ternary<Self>;
    const ABS: Unary<Self>;
    /// As [`Float::maximum`](crate::element::Float::maximum).
    const MAXIMUM: Binary<Self>;
    /// As [`Float::sign`](crate::element::Float::sign).
    const SIGN: Unary<Self>;
    /// Of key, smallest, x and value: the value where the key is not under the smallest, or x where it
    /// is 0, or NaN.
    const GUARDED: Quaternary<Self>;
    const HAS_NAN: Test<Self>;
    /// As [`Register::estimate`].
    const ESTIMATE: Option<Unary<Self>>;
}

/// The registers that hold elements of a type.
pub(crate) trait Registers: Element {
    /// Those of 32 bytes.
    #[cfg(target_arch = "x86_64")]
    type Of32: Instructions<Element = Self>;
    /// Those of 64 bytes.
    #[cfg(target_arch = "x86_64")]
    type Of64: Instructions<Element = Self>;
}

/// A register of floats.
///
/// To be used in no other place than the function of [`isa`](crate::isa) for the level that has these
/// registers, and what is inlined there.
#[derive(Clone, Copy)]
pub(crate) struct Register<V>(V);

impl<V: Instructions> Register<V> {
    #[inline(always)]
    fn unary(self, f: Unary<V>) -> Self {
        // SAFETY: the CPU has the instructions, as it has these registers (see the type).
        Self(unsafe { f(self.0) })
    }

    #[inline(always)]
    fn binary(self, other: Self, f: Binary<V>) -> Self {
        // SAFETY: as above.
        Self(unsafe { f(self.0, other.0) })
    }

    #[inline(always)]
    fn ternary(self, second: Self, third: Self, f: Ternary<V>) -> Self {
        // SAFETY: as above.
        Self(unsafe { f(self.0, second.0, third.0) })
    }

    /// A number in every place.
    #[inline(always)]
    pub(crate) fn of(x: V::Element) -> Self {
        // SAFETY: as above.
        Self(unsafe { V::SET(x) })
    }

    /// The first elements of a slice.
    #[inline(always)]
    pub(crate) fn load(slice: &[V::Element]) -> Self {
        let slice = &slice[..V::N];
        // SAFETY: a register is as large as its N elements, any bits will do for it, and the slice
        // has as many.
        Self(unsafe { slice.as_ptr().cast::<V>().read_unaligned() })
    }

    /// Writes the first elements of a slice.
    #[inline(always)]
    pub(crate) fn store(self, slice: &mut [V::Element]) {
        let slice = &mut slice[..V::N];
        // SAFETY: as above; any bits will do for floats.
        unsafe { slice.as_mut_ptr().cast::<V>().write_unaligned(self.0) };
    }

    /// The elements of a slice that is no longer than a register, and zeros.
    #[inline(always)]
    pub(crate) fn load_first(slice: &[V::Element]) -> Self {
        let count = Self::count(slice);
        // SAFETY: it reads as many elements as the slice has; for the instructions, see the type.
        Self(unsafe { V::LOAD_FIRST(slice.as_ptr(), count) })
    }

    /// Fills a slice that is no longer than a register with the first elements.
    #[inline(always)]
    pub(crate) fn store_first(self, slice: &mut [V::Element]) {
        let count = Self::count(slice);
        // SAFETY: it writes as many elements as the slice has; for the instructions, see the type.
        unsafe { V::STORE_FIRST(slice.as_mut_ptr(), count, self.0) };
    }

    #[inline(always)]
    #[expect(clippy::cast_possible_truncation, reason = "at most 16")]
    fn count(slice: &[V::Element]) -> u32 {
        assert!(slice.len() <= V::N);
        slice.len() as u32
    }

    #[inline(always)]
    pub(crate) fn mul_add(self, factor: Self, addend: Self) -> Self {
        self.ternary(factor, addend, V::MUL_ADD)
    }

    #[inline(always)]
    pub(crate) fn mul_sub(self, factor: Self, subtrahend: Self) -> Self {
        self.ternary(factor, subtrahend, V::MUL_SUB)
    }

    /// About 1/sqrt(x) to 2^-14 of its size, if roots are to be had from it.
    #[inline(always)]
    pub(crate) fn estimate(self) -> Option<Self> {
        V::ESTIMATE.map(|estimate| self.unary(estimate))
    }

    /// The value where `self` is not under `smallest`, or `x` where it is 0, or NaN.
    #[inline(always)]
    pub(crate) fn guarded(self, smallest: V::Element, x: Self, value: Self) -> Self {
        // SAFETY: as above.
        Self(unsafe { V::GUARDED(self.0, Self::of(smallest).0, x.0, value.0) })
    }

    #[inline(always)]
    pub(crate) fn has_nan(self) -> bool {
        // SAFETY: as above.
        unsafe { V::HAS_NAN(self.0) }
    }

    /// The element in the first place.
    #[inline(always)]
    pub(crate) fn first(self) -> V::Element {
        // SAFETY: a register is at least as large as an element, and its bits will do for one.
        unsafe { (&raw const self.0).cast::<V::Element>().read_unaligned() }
    }
}

impl<V: Instructions> Add for Register<V> {
    type Output = Self;

    #[inline(always)]
    fn add(self, other: Self) -> Self {
        self.binary(other, V::ADD)
    }
}

impl<V: Instructions> Sub for Register<V> {
    type Output = Self;

    #[inline(always)]
    fn sub(self, other: Self) -> Self {
        self.binary(other, V::SUB)
    }
}

impl<V: Instructions> Mul for Register<V> {
    type Output = Self;

    #[inline(always)]
    fn mul(self, other: Self) -> Self {
        self.binary(other, V::MUL)
    }
}

impl<V: Instructions> Div for Register<V> {
    type Output = Self;

    #[inline(always)]
    fn div(self, other: Self) -> Self {
        self.binary(other, V::DIV)
    }
}

impl<V: Instructions> Float for Register<V> {
    #[inline(always)]
    fn sqrt(self) -> Self {
        self.unary(V::SQRT)
    }

    #[inline(always)]
    fn abs(self) -> Self {
        self.unary(V::ABS)
    }

    #[inline(always)]
    fn maximum(self, other: Self) -> Self {
        self.binary(other, V::MAXIMUM)
    }

    #[inline(always)]
    fn or_zero(self) -> Self {
        self.maximum(Self::of(V::Element::nearest(0.0)))
    }

    #[inline(always)]
    fn sign(self) -> Self {
        self.unary(V::SIGN)
    }

    #[inline(always)]
    fn over(self, divisor: Self) -> Self {
        self / divisor
    }
}

#[cfg(not(target_arch = "x86_64"))]
impl Registers for f32 {}

#[cfg(not(target_arch = "x86_64"))]
impl Registers for f64 {}

mod portable;
mod words;
#[cfg(target_arch = "x86_64")]
mod x86;
#[cfg(target_arch = "x86_64")]
mod x86_words;

pub(crate) use portable::Portable;
pub use words::Half;
pub(crate) use words::{WordInstructions, Words};
