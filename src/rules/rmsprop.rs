//! `RMSprop`: `v = beta*v + (1-beta)*(g*g)`, then a step of `g` over the root of `v`.
//!
//! | recipe | parameter update |
//! |---|---|
//! | [`Inside`] | `p - lr*(g / sqrt(v + eps))` |
//! | [`Outside`] | `p - lr*(g / (sqrt(v) + eps))` |

use super::Rule;
use crate::element::Float;

const HYPERS: [&str; 3] = ["lr", "beta", "eps"];

fn coefficients([lr, beta, eps]: [f64; 3]) -> [f64; 4] {
    [lr, beta, 1.0 - beta, eps]
}

pub(super) struct Inside;

impl Rule<3, 4, 1> for Inside {
    const NAME: &'static str = "rmsprop_inside";
    const HYPERS: [&'static str; 3] = HYPERS;
    const STATES: [&'static str; 1] = ["v"];

    fn coefficients(hypers: [f64; 3]) -> [f64; 4] {
        coefficients(hypers)
    }

    #[inline(always)]
    fn update<F: Float>([lr, beta, rest, eps]: [F; 4], p: F, g: F, [v]: [F; 1]) -> (F, [F; 1]) {
        let v = beta * v + rest * (g * g);
        (p - lr * (g / (v + eps).sqrt()), [v])
    }
}

pub(super) struct Outside;

impl Rule<3, 4, 1> for Outside {
    const NAME: &'static str = "rmsprop_outside";
    const HYPERS: [&'static str; 3] = HYPERS;
    const STATES: [&'static str; 1] = ["v"];

    fn coefficients(hypers: [f64; 3]) -> [f64; 4] {
        coefficients(hypers)
    }

    #[inline(always)]
    fn update<F: Float>([lr, beta, rest, eps]: [F; 4], p: F, g: F, [v]: [F; 1]) -> (F, [F; 1]) {
        let v = beta * v + rest * (g * g);
        (p - lr * (g / (v.sqrt() + eps)), [v])
    }
}
