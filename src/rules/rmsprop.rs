//! `RMSprop`: `v = beta*v + (1-beta)*(g*g)`, then a step of `g` over a root.
//!
//! | recipe | further state | parameter update |
//! |---|---|---|
//! | [`Plain`] | | `p - lr*(g / root(v))` |
//! | [`NumeratorFirst`] | | `p - (lr*g) / root(v)` |
//! | [`Centered`] | `g_mean = beta*g_mean + (1-beta)*g` | `p - lr*(g / root(d))` |
//! | [`Momentum`] | `m = momentum*m + g / root(v)` | `p - lr*m` |
//! | [`CenteredMomentum`] | `g_mean` as above, `m = momentum*m + g / root(d)` | `p - lr*m` |
//! | [`MomentumLrInside`] | `m = momentum*m + lr*(g / root(v))` | `p - m` |
//! | [`CenteredMomentumLrInside`] | `g_mean` as above, `m = momentum*m + lr*(g / root(d))` | `p - m` |
//!
//! with `d = maximum(v - g_mean*g_mean, 0)`, as rounding takes a variance below zero, and for
//! `root(v)`:
//!
//! | eps | | as in |
//! |---|---|---|
//! | [`Inside`](super::Inside) | `sqrt(v + eps)` | Keras, optax, `PennyLane` |
//! | [`Outside`](super::Outside) | `sqrt(v) + eps` | torch (except for the maximum), HIPS autograd |
//!
//! torch's momentum has the learning rate outside, that of Keras and optax inside. The numerator comes
//! first in the course code of `CS231n` and `nnfs`, and in HIPS autograd. [`Dlfs`], the fish book's,
//! also squares differently: `v = beta*v + ((1-beta)*g)*g`.

use std::marker::PhantomData;

use super::Rule;
use super::eps::{Outside, Place};
use crate::element::Float;

#[inline(always)]
fn mean_square<F: Float>([beta, rest]: [F; 2], g: F, v: F) -> F {
    beta * v + rest * (g * g)
}

/// The variance, and the new `v` and `g_mean`.
#[inline(always)]
fn variance<F: Float>([beta, rest]: [F; 2], g: F, [v, g_mean]: [F; 2]) -> (F, [F; 2]) {
    let v = mean_square([beta, rest], g, v);
    let g_mean = beta * g_mean + rest * g;
    ((v - g_mean * g_mean).or_zero(), [v, g_mean])
}

pub(crate) struct Plain<Eps>(PhantomData<Eps>);

impl<Eps: Place> Rule<3, 4, 1> for Plain<Eps> {
    const HYPERS: [&'static str; 3] = ["lr", "beta", "eps"];
    const STATES: [&'static str; 1] = ["v"];

    fn coefficients([lr, beta, eps]: [f64; 3]) -> [f64; 4] {
        [lr, beta, 1.0 - beta, eps]
    }

    #[inline(always)]
    fn update<F: Float>([lr, beta, rest, eps]: [F; 4], p: F, g: F, [v]: [F; 1]) -> (F, [F; 1]) {
        let v = mean_square([beta, rest], g, v);
        (p - lr * (g / Eps::root(v, eps)), [v])
    }
}

pub(crate) struct NumeratorFirst<Eps>(PhantomData<Eps>);

impl<Eps: Place> Rule<3, 4, 1> for NumeratorFirst<Eps> {
    const HYPERS: [&'static str; 3] = Plain::<Eps>::HYPERS;
    const STATES: [&'static str; 1] = Plain::<Eps>::STATES;

    fn coefficients(hypers: [f64; 3]) -> [f64; 4] {
        Plain::<Eps>::coefficients(hypers)
    }

    #[inline(always)]
    fn update<F: Float>([lr, beta, rest, eps]: [F; 4], p: F, g: F, [v]: [F; 1]) -> (F, [F; 1]) {
        let v = mean_square([beta, rest], g, v);
        (p - (lr * g) / Eps::root(v, eps), [v])
    }
}

pub(crate) struct Dlfs;

impl Rule<3, 4, 1> for Dlfs {
    const HYPERS: [&'static str; 3] = Plain::<Outside>::HYPERS;
    const STATES: [&'static str; 1] = Plain::<Outside>::STATES;

    fn coefficients(hypers: [f64; 3]) -> [f64; 4] {
        Plain::<Outside>::coefficients(hypers)
    }

    #[inline(always)]
    fn update<F: Float>([lr, beta, rest, eps]: [F; 4], p: F, g: F, [v]: [F; 1]) -> (F, [F; 1]) {
        let v = beta * v + (rest * g) * g;
        (p - (lr * g) / Outside::root(v, eps), [v])
    }
}

pub(crate) struct Centered<Eps>(PhantomData<Eps>);

impl<Eps: Place> Rule<3, 4, 2> for Centered<Eps> {
    const HYPERS: [&'static str; 3] = Plain::<Eps>::HYPERS;
    const STATES: [&'static str; 2] = ["v", "g_mean"];

    fn coefficients(hypers: [f64; 3]) -> [f64; 4] {
        Plain::<Eps>::coefficients(hypers)
    }

    #[inline(always)]
    fn update<F: Float>([lr, beta, rest, eps]: [F; 4], p: F, g: F, s: [F; 2]) -> (F, [F; 2]) {
        let (d, s) = variance([beta, rest], g, s);
        (p - lr * (g / Eps::root(d, eps)), s)
    }
}

pub(crate) struct Momentum<Eps>(PhantomData<Eps>);

impl<Eps: Place> Rule<4, 5, 2> for Momentum<Eps> {
    const HYPERS: [&'static str; 4] = ["lr", "beta", "eps", "momentum"];
    const STATES: [&'static str; 2] = ["v", "m"];

    fn coefficients([lr, beta, eps, momentum]: [f64; 4]) -> [f64; 5] {
        [lr, beta, 1.0 - beta, eps, momentum]
    }

    #[inline(always)]
    fn update<F: Float>(c: [F; 5], p: F, g: F, [v, m]: [F; 2]) -> (F, [F; 2]) {
        let [lr, beta, rest, eps, momentum] = c;
        let v = mean_square([beta, rest], g, v);
        let m = momentum * m + g / Eps::root(v, eps);
        (p - lr * m, [v, m])
    }
}

pub(crate) struct CenteredMomentum<Eps>(PhantomData<Eps>);

impl<Eps: Place> Rule<4, 5, 3> for CenteredMomentum<Eps> {
    const HYPERS: [&'static str; 4] = Momentum::<Eps>::HYPERS;
    const STATES: [&'static str; 3] = ["v", "g_mean", "m"];

    fn coefficients(hypers: [f64; 4]) -> [f64; 5] {
        Momentum::<Eps>::coefficients(hypers)
    }

    #[inline(always)]
    fn update<F: Float>(c: [F; 5], p: F, g: F, [v, g_mean, m]: [F; 3]) -> (F, [F; 3]) {
        let [lr, beta, rest, eps, momentum] = c;
        let (d, [v, g_mean]) = variance([beta, rest], g, [v, g_mean]);
        let m = momentum * m + g / Eps::root(d, eps);
        (p - lr * m, [v, g_mean, m])
    }
}

pub(crate) struct MomentumLrInside<Eps>(PhantomData<Eps>);

impl<Eps: Place> Rule<4, 5, 2> for MomentumLrInside<Eps> {
    const HYPERS: [&'static str; 4] = Momentum::<Eps>::HYPERS;
    const STATES: [&'static str; 2] = ["v", "m"];

    fn coefficients(hypers: [f64; 4]) -> [f64; 5] {
        Momentum::<Eps>::coefficients(hypers)
    }

    #[inline(always)]
    fn update<F: Float>(c: [F; 5], p: F, g: F, [v, m]: [F; 2]) -> (F, [F; 2]) {
        let [lr, beta, rest, eps, momentum] = c;
        let v = mean_square([beta, rest], g, v);
        let m = momentum * m + lr * (g / Eps::root(v, eps));
        (p - m, [v, m])
    }
}

pub(crate) struct CenteredMomentumLrInside<Eps>(PhantomData<Eps>);

impl<Eps: Place> Rule<4, 5, 3> for CenteredMomentumLrInside<Eps> {
    const HYPERS: [&'static str; 4] = Momentum::<Eps>::HYPERS;
    const STATES: [&'static str; 3] = ["v", "g_mean", "m"];

    fn coefficients(hypers: [f64; 4]) -> [f64; 5] {
        Momentum::<Eps>::coefficients(hypers)
    }

    #[inline(always)]
    fn update<F: Float>(c: [F; 5], p: F, g: F, [v, g_mean, m]: [F; 3]) -> (F, [F; 3]) {
        let [lr, beta, rest, eps, momentum] = c;
        let (d, [v, g_mean]) = variance([beta, rest], g, [v, g_mean]);
        let m = momentum * m + lr * (g / Eps::root(d, eps));
        (p - m, [v, g_mean, m])
    }
}
