//! A register for CPUs of which nothing is known: a few elements, and a loop over them for every
//! instruction, of which the compiler makes what there is.

use super::{Binary, Fill, Instructions, Load, Quaternary, Store, Ternary, Test, Unary};
use crate::arrays;
use crate::element::{Element, Float};

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
