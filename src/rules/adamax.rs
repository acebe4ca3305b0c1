//! Adamax: `m = beta1*m + (1-beta1)*g`, then a step of it over a decaying maximum `u` of the
//! gradients.
//!
//! With `a = lr/c1` and `c1 = 1 - beta1**t`:
//!
//! | recipe | maximum | parameter update | as in |
//! |---|---|---|---|
//! | [`Inside`] | `u = maximum(beta2*u, abs(g) + eps)` | `p - (a*m)/u` | torch, optax |
//! | [`Outside`] | `u = maximum(beta2*u, abs(g))` | `p - (a*m)/(u + eps)` | Keras |

use super::Rule;
use crate::element::Float;

const HYPERS: [&str; 5] = ["lr", "beta1", "beta2", "eps", "beta1_power"];
const STATES: [&str; 2] = ["m", "u"];

fn coefficients([lr, beta1, beta2, eps, power1]: [f64; 5]) -> [f64; 5] {
    [beta1, 1.0 - beta1, beta2, lr / (1.0 - power1), eps]
}

pub(crate) struct Inside;

impl Rule<5, 5, 2> for Inside {
    const HYPERS: [&'static str; 5] = HYPERS;
    const STATES: [&'static str; 2] = STATES;

    fn coefficients(hypers: [f64; 5]) -> [f64; 5] {
        coefficients(hypers)
    }

    #[inline(always)]
    fn update<F: Float>(c: [F; 5], p: F, g: F, [m, u]: [F; 2]) -> (F, [F; 2]) {
        let [beta1, rest1, beta2, a, eps] = c;
        let m = beta1 * m + rest1 * g;
        let u = (beta2 * u).maximum(g.abs() + eps);
        (p - (a * m) / u, [m, u])
    }
}

pub(crate) struct Outside;

impl Rule<5, 6, 2> for Outside {
    const HYPERS: [&'static str; 5] = HYPERS;
    const STATES: [&'static str; 2] = STATES;

    fn coefficients(hypers: [f64; 5]) -> [f64; 6] {
        let [beta1, rest1, beta2, a, eps] = coefficients(hypers);
        [beta1, rest1, beta2, a, eps, 1.0]
    }

    #[inline(always)]
    fn update<F: Float>(c: [F; 6], p: F, g: F, [m, u]: [F; 2]) -> (F, [F; 2]) {
        let [beta1, rest1, beta2, a, eps, one] = c;
        let m = beta1 * m + rest1 * g;
        // Where the CPU takes subnormal numbers for zeros, NumPy's maximum of two of them is a zero,
        // and ours is the second of them as it is: a product is a zero.
        let u = (beta2 * u).maximum((one * g).abs());
        (p - (a * m) / (u + eps), [m, u])
    }
}
