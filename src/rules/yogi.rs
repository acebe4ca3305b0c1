//! Yogi: Adam with a second moment that moves by at most `(1-beta2)*g*g` in a step, as in optax.
//!
//! `m = beta1*m + (1-beta1)*g`, `v = v - ((1-beta2)*sign(v - g*g))*(g*g)`,
//! `p = p - (a*m) / (sqrt(v) + eps*sqrt(c2))`
//!
//! with `c1 = 1 - beta1**t`, `c2 = 1 - beta2**t` and `a = lr*sqrt(c2)/c1`.

use super::Rule;
use super::adam::{Form, Scaled};
use crate::element::Float;

pub(crate) struct Yogi;

impl Rule<6, 5, 2> for Yogi {
    const HYPERS: [&'static str; 6] = ["lr", "beta1", "beta2", "eps", "beta1_power", "beta2_power"];
    const STATES: [&'static str; 2] = ["m", "v"];

    fn coefficients(hypers: [f64; 6]) -> [f64; 5] {
        let [beta1, rest1, _, rest2, a, eps] = Scaled::coefficients(hypers);
        [beta1, rest1, rest2, a, eps]
    }

    #[inline(always)]
    fn update<F: Float>(c: [F; 5], p: F, g: F, [m, v]: [F; 2]) -> (F, [F; 2]) {
        let [beta1, rest1, rest2, a, eps] = c;
        let m = beta1 * m + rest1 * g;
        let square = g * g;
        let v = v - (rest2 * (v - square).sign()) * square;
        (p - (a * m) / (v.sqrt() + eps), [m, v])
    }
}
