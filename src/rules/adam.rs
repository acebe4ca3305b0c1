//! Adam: `m = beta1*m + (1-beta1)*g`, `v = beta2*v + (1-beta2)*(g*g)`, then a step of the
//! bias-corrected `m` over the root of the bias-corrected `v`.
//!
//! With `c1 = 1 - beta1**t` and `c2 = 1 - beta2**t`:
//!
//! | form | parameter update | as in |
//! |---|---|---|
//! | [`Inside`] | `p - (lr*(m/c1)) / sqrt(v/c2 + eps)` | the course code |
//! | [`Outside`] | `p - (lr*(m/c1)) / (sqrt(v/c2) + eps)` | the paper, the course text, autograd |
//! | [`Hat`] | `p - (a*m) / (sqrt(v) + eps)` | scikit-learn, Keras, `PennyLane`, Thinc |
//! | [`Scaled`] | `p - (a*m) / (sqrt(v) + eps*sqrt(c2))` | torch, optax: [`Outside`] by algebra |
//!
//! with `a = lr*sqrt(c2)/c1`. Two more do the arithmetic of [`Hat`] after `sqrt(v) + eps` in `f64` for
//! arrays of any type, and round once, as `NumPy` 2 does if `a` is a `NumPy` scalar.
//!
//! | recipe | moments | as in |
//! |---|---|---|
//! | [`HatWide`] | as above | scikit-learn |
//! | [`Dlfs`] | `m + (1-beta1)*(g - m)`, `v + (1-beta2)*(g*g - v)` | the fish book |
//!
//! A recipe is a form with [`Plain`] moments or with [`Amsgrad`], which
//! puts `v_max = maximum(v_max, v)` in the place of `v` in the parameter update, as torch and
//! Keras do.
//!
//! optax takes the maximum of the corrected `v`, `v_max = maximum(v_max, v/c2)`:
//!
//! | recipe | parameter update |
//! |---|---|
//! | [`AmsgradCorrected`] | `p - (lr*(m/c1)) / root(v_max)`, with the roots of [`eps`](super::eps) |
//! | [`ScaledAmsgradCorrected`] | `p - ((lr/c1)*m) / (sqrt(v_max) + eps)`: the same by algebra |
//!
//! The powers come from Python, because their last bit depends on the function that computes them.

use std::marker::PhantomData;

use super::Rule;
use super::eps::{self, Place};
use crate::element::{Element, Float};

const HYPERS: [&str; 6] = ["lr", "beta1", "beta2", "eps", "beta1_power", "beta2_power"];

/// The coefficients of the moments: `beta1`, `1-beta1`, `beta2`, `1-beta2`.
pub(crate) fn decay(beta1: f64, beta2: f64) -> [f64; 4] {
    [beta1, 1.0 - beta1, beta2, 1.0 - beta2]
}

/// The new moments.
#[inline(always)]
pub(crate) fn moments<F: Float>(decay: [F; 4], g: F, [m, v]: [F; 2]) -> [F; 2] {
    let [beta1, rest1, beta2, rest2] = decay;
    [beta1 * m + rest1 * g, beta2 * v + rest2 * (g * g)]
}

/// How a step is made from the moments.
pub(crate) trait Form<const C: usize> {
    /// Those of the moments, then its own.
    fn coefficients(hypers: [f64; 6]) -> [f64; C];

    /// The new parameter.
    fn update<F: Float>(coefficients: [F; C], p: F, m: F, v: F) -> F;
}

fn corrected_separately([lr, beta1, beta2, eps, power1, power2]: [f64; 6]) -> [f64; 8] {
    let [beta1, rest1, beta2, rest2] = decay(beta1, beta2);
    [beta1, rest1, beta2, rest2, lr, 1.0 - power1, 1.0 - power2, eps]
}

fn corrected_in_lr([lr, beta1, beta2, eps, power1, power2]: [f64; 6]) -> [f64; 6] {
    let [beta1, rest1, beta2, rest2] = decay(beta1, beta2);
    let a = lr * (1.0 - power2).sqrt() / (1.0 - power1);
    [beta1, rest1, beta2, rest2, a, eps]
}

pub(crate) struct Inside;

impl Form<8> for Inside {
    fn coefficients(hypers: [f64; 6]) -> [f64; 8] {
        corrected_separately(hypers)
    }

    #[inline(always)]
    fn update<F: Float>([.., lr, c1, c2, eps]: [F; 8], p: F, m: F, v: F) -> F {
        p - (lr * m.over(c1)) / (v.over(c2) + eps).sqrt()
    }
}

pub(crate) struct Outside;

impl Form<8> for Outside {
    fn coefficients(hypers: [f64; 6]) -> [f64; 8] {
        corrected_separately(hypers)
    }

    #[inline(always)]
    fn update<F: Float>([.., lr, c1, c2, eps]: [F; 8], p: F, m: F, v: F) -> F {
        p - (lr * m.over(c1)) / (v.over(c2).sqrt() + eps)
    }
}

pub(crate) struct Hat;

impl Form<6> for Hat {
    fn coefficients(hypers: [f64; 6]) -> [f64; 6] {
        corrected_in_lr(hypers)
    }

    #[inline(always)]
    fn update<F: Float>([.., a, eps]: [F; 6], p: F, m: F, v: F) -> F {
        p - (a * m) / (v.sqrt() + eps)
    }
}

pub(crate) struct Scaled;

impl Form<6> for Scaled {
    fn coefficients(hypers: [f64; 6]) -> [f64; 6] {
        let [.., power2] = hypers;
        let [beta1, rest1, beta2, rest2, a, eps] = corrected_in_lr(hypers);
        [beta1, rest1, beta2, rest2, a, eps * (1.0 - power2).sqrt()]
    }

    #[inline(always)]
    fn update<F: Float>(c: [F; 6], p: F, m: F, v: F) -> F {
        Hat::update(c, p, m, v)
    }
}

pub(crate) struct Plain<T>(PhantomData<T>);

impl<T: Form<C>, const C: usize> Rule<6, C, 2> for Plain<T> {
    const HYPERS: [&'static str; 6] = HYPERS;
    const STATES: [&'static str; 2] = ["m", "v"];

    fn coefficients(hypers: [f64; 6]) -> [f64; C] {
        T::coefficients(hypers)
    }

    #[inline(always)]
    fn update<F: Float>(c: [F; C], p: F, g: F, state: [F; 2]) -> (F, [F; 2]) {
        let [m, v] = moments([c[0], c[1], c[2], c[3]], g, state);
        (T::update(c, p, m, v), [m, v])
    }
}

/// The step of [`Hat`] in `f64`, rounded once.
#[inline(always)]
fn wide_step<F: Element>(a: f64, p: F, m: F, divisor: F) -> F {
    F::nearest(p.widen() - (a * m.widen()) / divisor.widen())
}

pub(crate) struct HatWide;

impl Rule<6, 6, 2> for HatWide {
    const HYPERS: [&'static str; 6] = HYPERS;
    const STATES: [&'static str; 2] = ["m", "v"];
    const WIDE: bool = true;

    fn coefficients(hypers: [f64; 6]) -> [f64; 6] {
        corrected_in_lr(hypers)
    }

    /// Without the wide part: what it all is in `f64`.
    #[inline(always)]
    fn update<F: Float>(c: [F; 6], p: F, g: F, state: [F; 2]) -> (F, [F; 2]) {
        Plain::<Hat>::update(c, p, g, state)
    }

    #[inline(always)]
    fn update_exactly<F: Element>(
        [beta1, rest1, beta2, rest2, _, eps]: [F; 6],
        [.., a, _]: [f64; 6],
        p: F,
        g: F,
        state: [F; 2],
    ) -> (F, [F; 2]) {
        let [m, v] = moments([beta1, rest1, beta2, rest2], g, state);
        (wide_step(a, p, m, v.sqrt() + eps), [m, v])
    }
}

pub(crate) struct Dlfs;

impl Dlfs {
    #[inline(always)]
    fn moments<F: Float>([rest1, rest2]: [F; 2], g: F, [m, v]: [F; 2]) -> [F; 2] {
        [m + rest1 * (g - m), v + rest2 * (g * g - v)]
    }
}

impl Rule<6, 4, 2> for Dlfs {
    const HYPERS: [&'static str; 6] = HYPERS;
    const STATES: [&'static str; 2] = ["m", "v"];
    const WIDE: bool = true;

    fn coefficients(hypers: [f64; 6]) -> [f64; 4] {
        let [_, rest1, _, rest2, a, eps] = corrected_in_lr(hypers);
        [rest1, rest2, a, eps]
    }

    /// Without the wide part: what it all is in `f64`.
    #[inline(always)]
    fn update<F: Float>([rest1, rest2, a, eps]: [F; 4], p: F, g: F, s: [F; 2]) -> (F, [F; 2]) {
        let [m, v] = Self::moments([rest1, rest2], g, s);
        (p - (a * m) / (v.sqrt() + eps), [m, v])
    }

    #[inline(always)]
    fn update_exactly<F: Element>(
        [rest1, rest2, _, eps]: [F; 4],
        [.., a, _]: [f64; 4],
        p: F,
        g: F,
        state: [F; 2],
    ) -> (F, [F; 2]) {
        let [m, v] = Self::moments([rest1, rest2], g, state);
        (wide_step(a, p, m, v.sqrt() + eps), [m, v])
    }
}

pub(crate) struct Amsgrad<T>(PhantomData<T>);

impl<T: Form<C>, const C: usize> Rule<6, C, 3> for Amsgrad<T> {
    const HYPERS: [&'static str; 6] = HYPERS;
    const STATES: [&'static str; 3] = ["m", "v", "v_max"];

    fn coefficients(hypers: [f64; 6]) -> [f64; C] {
        T::coefficients(hypers)
    }

    #[inline(always)]
    fn update<F: Float>(c: [F; C], p: F, g: F, [m, v, v_max]: [F; 3]) -> (F, [F; 3]) {
        let [m, v] = moments([c[0], c[1], c[2], c[3]], g, [m, v]);
        let v_max = v_max.maximum(v);
        (T::update(c, p, m, v_max), [m, v, v_max])
    }
}

/// The new moments and the new `v_max`, that of the corrected `v`.
#[inline(always)]
fn moments_and_maximum<F: Float>(decay: [F; 4], c2: F, g: F, [m, v, v_max]: [F; 3]) -> [F; 3] {
    let [m, v] = moments(decay, g, [m, v]);
    [m, v, v_max.maximum(v.over(c2))]
}

pub(crate) struct AmsgradCorrected<Eps>(PhantomData<Eps>);

impl<Eps: Place> Rule<6, 8, 3> for AmsgradCorrected<Eps> {
    const HYPERS: [&'static str; 6] = HYPERS;
    const STATES: [&'static str; 3] = ["m", "v", "v_max"];

    fn coefficients(hypers: [f64; 6]) -> [f64; 8] {
        corrected_separately(hypers)
    }

    #[inline(always)]
    fn update<F: Float>(c: [F; 8], p: F, g: F, state: [F; 3]) -> (F, [F; 3]) {
        let [beta1, rest1, beta2, rest2, lr, c1, c2, eps] = c;
        let [m, v, v_max] = moments_and_maximum([beta1, rest1, beta2, rest2], c2, g, state);
        (p - (lr * m.over(c1)) / Eps::root(v_max, eps), [m, v, v_max])
    }
}

pub(crate) struct ScaledAmsgradCorrected;

impl Rule<6, 7, 3> for ScaledAmsgradCorrected {
    const HYPERS: [&'static str; 6] = HYPERS;
    const STATES: [&'static str; 3] = ["m", "v", "v_max"];

    fn coefficients(hypers: [f64; 6]) -> [f64; 7] {
        let [beta1, rest1, beta2, rest2, lr, c1, c2, eps] = corrected_separately(hypers);
        [beta1, rest1, beta2, rest2, lr / c1, c2, eps]
    }

    #[inline(always)]
    fn update<F: Float>(c: [F; 7], p: F, g: F, state: [F; 3]) -> (F, [F; 3]) {
        let [beta1, rest1, beta2, rest2, a, c2, eps] = c;
        let [m, v, v_max] = moments_and_maximum([beta1, rest1, beta2, rest2], c2, g, state);
        (p - (a * m) / eps::Outside::root(v_max, eps), [m, v, v_max])
    }
}
