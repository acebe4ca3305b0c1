//! `RAdam`: Adam's moments, and a step that leaves `v` out until its variance can be known.
//!
//! With `c1 = 1 - beta1**t` and `c2 = 1 - beta2**t`:
//!
//! | recipe | parameter update |
//! |---|---|
//! | [`Rectified`] | `p - (a*m) / (sqrt(v) + eps)`, with `a = lr*rectification*sqrt(c2)/c1` |
//! | [`Unrectified`] | `p - (lr/c1)*m` |
//!
//! As in torch; optax adds eps to the root of the corrected `v`. Python computes the rectification and
//! chooses between the two by the step number.

use super::Rule;
use super::adam::{self, decay, moments};
use crate::element::Float;

const STATES: [&str; 2] = ["m", "v"];

pub(crate) struct Rectified;

impl Rule<7, 6, 2> for Rectified {
    const HYPERS: [&'static str; 7] =
        ["lr", "beta1", "beta2", "eps", "beta1_power", "beta2_power", "rectification"];
    const STATES: [&'static str; 2] = STATES;

    fn coefficients(hypers: [f64; 7]) -> [f64; 6] {
        let [lr, beta1, beta2, eps, power1, power2, rectification] = hypers;
        let [beta1, rest1, beta2, rest2] = decay(beta1, beta2);
        let a = lr * rectification * (1.0 - power2).sqrt() / (1.0 - power1);
        [beta1, rest1, beta2, rest2, a, eps]
    }

    #[inline(always)]
    fn update<F: Float>(c: [F; 6], p: F, g: F, state: [F; 2]) -> (F, [F; 2]) {
        adam::Plain::<adam::Hat>::update(c, p, g, state)
    }
}

pub(crate) struct Unrectified;

impl Rule<4, 5, 2> for Unrectified {
    const HYPERS: [&'static str; 4] = ["lr", "beta1", "beta2", "beta1_power"];
    const STATES: [&'static str; 2] = STATES;

    fn coefficients([lr, beta1, beta2, power1]: [f64; 4]) -> [f64; 5] {
        let [beta1, rest1, beta2, rest2] = decay(beta1, beta2);
        [beta1, rest1, beta2, rest2, lr / (1.0 - power1)]
    }

    #[inline(always)]
    fn update<F: Float>(c: [F; 5], p: F, g: F, state: [F; 2]) -> (F, [F; 2]) {
        let [beta1, rest1, beta2, rest2, a] = c;
        let [m, v] = moments([beta1, rest1, beta2, rest2], g, state);
        (p - a * m, [m, v])
    }
}
