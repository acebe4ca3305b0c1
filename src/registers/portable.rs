//! A register for CPUs of which nothing is known: a few elements, and a loop over them for every
//! instruction, of which the compiler makes what there is.

use super::words::{Half, WordInstructions};
use super::{Binary, Fill, Instructions, Load, Quaternary, Store, Ternary, Test, Unary};
use crate::arrays;
use crate::element::{Element, Float};
use crate::word::Word;

/// How many elements.
const N: usize = 4;

#[derive(Clone, Copy)]
pub(crate) struct Portable<F>([F; N]);

impl<F: Element> Portable<F> {
    #[inline(always)]
    fn map(self, f: impl Fn(F) -> F) -> Self {
        Self(arrays::from_fn(F::ONE, |i| f(self.0[i])))
    }

    #[inline(always)]
    fn zip(self, other: Self, f: impl Fn(F, F) -> F) -> Self {
        Self(arrays::from_fn(F::ONE, |i| f(self.0[i], other.0[i])))
    }
}

impl<F: Element> Instructions for Portable<F> {
    type Element = F;
    const LOAD_FIRST: Load<Self> = |from, count| {
        Self(arrays::from_fn(F::ONE, |i| {
            // SAFETY: the caller's word for the first `count` elements.
            if i < count as usize { unsafe { from.add(i).read() } } else { F::default() }
        }))
    };
    const STORE_FIRST: Store<Self> = |to, count, x| {
        for (i, x) in x.0.into_iter().take(count as usize).enumerate() {
            // SAFETY: as above.
            unsafe { to.add(i).write(x) };
        }
    };
    const SET: Fill<Self> = |x| Self([x; N]);
    const ADD: Binary<Self> = |x, y| x.zip(y, |x, y| x + y);
    const SUB: Binary<Self> = |x, y| x.zip(y, |x, y| x - y);
    const MUL: Binary<Self> = |x, y| x.zip(y, |x, y| x * y);
    const DIV: Binary<Self> = |x, y| x.zip(y, |x, y| x / y);
    const SQRT: Unary<Self> = |x| x.map(Float::sqrt);
    const MUL_ADD: Ternary<Self> =
        |x, y, z| Self(arrays::from_fn(F::ONE, |i| Element::mul_add(x.0[i], y.0[i], z.0[i])));
    const MUL_SUB: Ternary<Self> = |x, y, z| {
        Self(arrays::from_fn(F::ONE, |i| {
            Element::mul_add(x.0[i], y.0[i], F::nearest(-1.0) * z.0[i])
        }))
    };
    const ABS: Unary<Self> = |x| x.map(Float::abs);
    const MAXIMUM: Binary<Self> = |x, y| x.zip(y, Float::maximum);
    const SIGN: Unary<Self> = |x| x.map(Float::sign);
    const GUARDED: Quaternary<Self> = |key, smallest, x, value| {
        let zero = F::nearest(0.0);
        Self(arrays::from_fn(F::ONE, |i| {
            if key.0[i] >= smallest.0[i] {
                value.0[i]
            } else if x.0[i] == zero {
                x.0[i]
            } else {
                F::nearest(f64::NAN)
            }
        }))
    };
    const HAS_NAN: Test<Self> = |x| x.0.iter().any(|x| x.partial_cmp(x).is_none());
    const ESTIMATE: Option<Unary<Self>> = None;
}

impl Portable<f32> {
    #[inline(always)]
    fn words(self, other: Self, f: impl Fn(u32, u32) -> u32) -> Self {
        self.zip(other, |x, y| f32::from_bits(f(x.to_bits(), y.to_bits())))
    }

    /// As many halves from an address on, as words.
    ///
    /// # Safety
    /// They have to be there.
    #[inline(always)]
    unsafe fn load_halves(from: *const Half, f: impl Fn(u16) -> u32) -> Self {
        // SAFETY: the caller's word.
        let halves = unsafe { from.cast::<[Half; N]>().read() };
        Self(arrays::from_fn(0.0, |i| f32::from_bits(f(u16::from_ne_bytes(halves[i])))))
    }

    /// Writes halves of the words of both.
    ///
    /// # Safety
    /// There has to be room for them.
    #[inline(always)]
    #[expect(clippy::cast_possible_truncation, reason = "the lower half is meant")]
    unsafe fn store_halves(self, other: Self, to: *mut Half, f: impl Fn(u32) -> u32) {
        let half = |x: f32| (f(x.to_bits()) as u16).to_ne_bytes();
        let halves = |x: [f32; N]| arrays::from_fn([0; 2], |i| half(x[i]));
        // SAFETY: the caller's word.
        unsafe { to.cast::<[[Half; N]; 2]>().write([halves(self.0), halves(other.0)]) };
    }
}

impl WordInstructions for Portable<f32> {
    const PLUS: Binary<Self> = |x, y| x.words(y, Word::plus);
    const TIMES: Binary<Self> = |x, y| x.words(y, Word::times);
    const XOR: Binary<Self> = |x, y| x.words(y, Word::xor);
    const LEFT_16: Unary<Self> = |x| x.words(x, |x, _| x.left_16());
    const RIGHT_15: Unary<Self> = |x| x.words(x, |x, _| x.right::<15>());
    const RIGHT_16: Unary<Self> = |x| x.words(x, |x, _| x.right::<16>());
    const PLUS_UNLESS_NAN: Binary<Self> = |x, y| x.words(y, Word::plus_unless_nan);
    const UPPERS: Binary<Self> = |x, y| x.words(y, |x, y| x >> 16 | y & 0xffff_0000);
    const LOAD_UPPER: unsafe fn(*const Half) -> Self = |from| {
        // SAFETY: the caller's word, here and below.
        unsafe { Self::load_halves(from, |half| u32::from(half) << 16) }
    };
    const LOAD_SIGNED: unsafe fn(*const Half) -> Self = |from| {
        let signed = |half: u16| i32::from(half.cast_signed()).cast_unsigned();
        // SAFETY: as above.
        unsafe { Self::load_halves(from, signed) }
    };
    const STORE_UPPER: unsafe fn(*mut Half, Self, Self) = |to, x, y| {
        // SAFETY: as above.
        unsafe { x.store_halves(y, to, |word| word >> 16) };
    };
    const STORE_LOWER: unsafe fn(*mut Half, Self, Self) = |to, x, y| {
        // SAFETY: as above.
        unsafe { x.store_halves(y, to, |word| word) };
    };
}
