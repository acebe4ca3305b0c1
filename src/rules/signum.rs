//! Signum: a step of one size, `lr`, in the direction of the sign of a moving average `m` of the
//! gradients, as in optax.
//!
//! `m = beta*m + (1-beta)*g`, `p = p - lr*sign(m)`.

use super::Rule;
use crate::element::Float;

pub(crate) struct Signum;

impl Rule<2, 3, 1> for Signum {
    const HYPERS: [&'static str; 2] = ["lr", "beta"];
    const STATES: [&'static str; 1] = ["m"];

    fn coefficients([lr, beta]: [f64; 2]) -> [f64; 3] {
        [lr, beta, 1.0 - beta]
    }

    #[inline(always)]
    fn update<F: Float>([lr, beta, rest]: [F; 3], p: F, g: F, [m]: [F; 1]) -> (F, [F; 1]) {
        let m = beta * m + rest * g;
        (p - lr * m.sign(), [m])
    }
}
