//! Adagrad: `v = v + g*g`, then a step of `g` over a root of the sum `v`.
//!
//! | eps | parameter update | as in |
//! |---|---|---|
//! | [`Inside`](super::Inside) | `p - lr*(g / sqrt(v + eps))` | Keras, optax |
//! | [`Outside`](super::Outside) | `p - lr*(g / (sqrt(v) + eps))` | torch |
//!
//! [`NumeratorFirst`] is `p - (lr*g) / root(v)`, as course code types it.

use std::marker::PhantomData;

use super::Rule;
use super::eps::Place;
use crate::element::Float;

pub(crate) struct Adagrad<Eps>(PhantomData<Eps>);

impl<Eps: Place> Rule<2, 2, 1> for Adagrad<Eps> {
    const HYPERS: [&'static str; 2] = ["lr", "eps"];
    const STATES: [&'static str; 1] = ["v"];

    fn coefficients(hypers: [f64; 2]) -> [f64; 2] {
        hypers
    }

    #[inline(always)]
    fn update<F: Float>([lr, eps]: [F; 2], p: F, g: F, [v]: [F; 1]) -> (F, [F; 1]) {
        let v = v + g * g;
        (p - lr * (g / Eps::root(v, eps)), [v])
    }
}

pub(crate) struct NumeratorFirst<Eps>(PhantomData<Eps>);

impl<Eps: Place> Rule<2, 2, 1> for NumeratorFirst<Eps> {
    const HYPERS: [&'static str; 2] = Adagrad::<Eps>::HYPERS;
    const STATES: [&'static str; 1] = Adagrad::<Eps>::STATES;

    fn coefficients(hypers: [f64; 2]) -> [f64; 2] {
        hypers
    }

    #[inline(always)]
    fn update<F: Float>([lr, eps]: [F; 2], p: F, g: F, [v]: [F; 1]) -> (F, [F; 1]) {
        let v = v + g * g;
        (p - (lr * g) / Eps::root(v, eps), [v])
    }
}
