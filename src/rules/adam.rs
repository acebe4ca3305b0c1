//! Adam: `m = beta1*m + (1-beta1)*g`, `v = beta2*v + (1-beta2)*(g*g)`, then a step of the
//! bias-corrected `m` over the root of the bias-corrected `v`.
//!
//! With `c1 = 1 - beta1**t` and `c2 = 1 - beta2**t`:
//!
//! | recipe | parameter update | coefficients |
//! |---|---|---|
//! | [`Inside`] | `p - (lr*(m/c1)) / sqrt(v/c2 + eps)` | |
//! | [`Outside`] | `p - (lr*(m/c1)) / (sqrt(v/c2) + eps)` | |
//! | [`Hat`] | `p - (a*m) / (sqrt(v) + eps)` | `a = lr*sqrt(c2)/c1` |
//! | [`Scaled`] | `p - (a*m) / (sqrt(v) + eps)` | `a` as above, `eps*sqrt(c2)` for `eps` |
//!
//! The powers come from Python, because their last bit depends on who computes them.

use super::Rule;
use crate::element::Float;

const HYPERS: [&str; 6] = ["lr", "beta1", "beta2", "eps", "beta1_power", "beta2_power"];
const STATES: [&str; 2] = ["m", "v"];

#[inline(always)]
fn moments<F: Float>([beta1, rest1, beta2, rest2]: [F; 4], g: F, [m, v]: [F; 2]) -> [F; 2] {
    [beta1 * m + rest1 * g, beta2 * v + rest2 * (g * g)]
}

fn corrected_separately([lr, beta1, beta2, eps, power1, power2]: [f64; 6]) -> [f64; 8] {
    let (c1, c2) = (1.0 - power1, 1.0 - power2);
    [beta1, 1.0 - beta1, beta2, 1.0 - beta2, lr, c1, c2, eps]
}

fn corrected_in_lr([lr, beta1, beta2, eps, power1, power2]: [f64; 6]) -> [f64; 6] {
    let (c1, c2) = (1.0 - power1, 1.0 - power2);
    let a = lr * c2.sqrt() / c1;
    [beta1, 1.0 - beta1, beta2, 1.0 - beta2, a, eps]
}

pub(super) struct Inside;

impl Rule<6, 8, 2> for Inside {
    const NAME: &'static str = "adam_inside";
    const HYPERS: [&'static str; 6] = HYPERS;
    const STATES: [&'static str; 2] = STATES;
    const DIVIDES_BY_COEFFICIENTS: bool = true;

    fn coefficients(hypers: [f64; 6]) -> [f64; 8] {
        corrected_separately(hypers)
    }

    #[inline(always)]
    fn update<F: Float>(c: [F; 8], p: F, g: F, state: [F; 2]) -> (F, [F; 2]) {
        let [beta1, rest1, beta2, rest2, lr, c1, c2, eps] = c;
        let [m, v] = moments([beta1, rest1, beta2, rest2], g, state);
        (p - (lr * m.over(c1)) / (v.over(c2) + eps).sqrt(), [m, v])
    }
}

pub(super) struct Outside;

impl Rule<6, 8, 2> for Outside {
    const NAME: &'static str = "adam_outside";
    const HYPERS: [&'static str; 6] = HYPERS;
    const STATES: [&'static str; 2] = STATES;
    const DIVIDES_BY_COEFFICIENTS: bool = true;

    fn coefficients(hypers: [f64; 6]) -> [f64; 8] {
        corrected_separately(hypers)
    }

    #[inline(always)]
    fn update<F: Float>(c: [F; 8], p: F, g: F, state: [F; 2]) -> (F, [F; 2]) {
        let [beta1, rest1, beta2, rest2, lr, c1, c2, eps] = c;
        let [m, v] = moments([beta1, rest1, beta2, rest2], g, state);
        (p - (lr * m.over(c1)) / ((v.over(c2)).sqrt() + eps), [m, v])
    }
}

pub(super) struct Hat;

impl Rule<6, 6, 2> for Hat {
    const NAME: &'static str = "adam_hat";
    const HYPERS: [&'static str; 6] = HYPERS;
    const STATES: [&'static str; 2] = STATES;

    fn coefficients(hypers: [f64; 6]) -> [f64; 6] {
        corrected_in_lr(hypers)
    }

    #[inline(always)]
    fn update<F: Float>(c: [F; 6], p: F, g: F, state: [F; 2]) -> (F, [F; 2]) {
        let [beta1, rest1, beta2, rest2, a, eps] = c;
        let [m, v] = moments([beta1, rest1, beta2, rest2], g, state);
        (p - (a * m) / (v.sqrt() + eps), [m, v])
    }
}

pub(super) struct Scaled;

impl Rule<6, 6, 2> for Scaled {
    const NAME: &'static str = "adam_scaled";
    const HYPERS: [&'static str; 6] = HYPERS;
    const STATES: [&'static str; 2] = STATES;

    fn coefficients(hypers: [f64; 6]) -> [f64; 6] {
        let [.., power2] = hypers;
        let [beta1, rest1, beta2, rest2, a, eps] = corrected_in_lr(hypers);
        [beta1, rest1, beta2, rest2, a, eps * (1.0 - power2).sqrt()]
    }

    #[inline(always)]
    fn update<F: Float>(c: [F; 6], p: F, g: F, state: [F; 2]) -> (F, [F; 2]) {
        Hat::update(c, p, g, state)
    }
}
