//! Schedule-free learning: gradients are those at `y`, a point between `z`, which takes the steps, and
//! `x`, the average of all `z`. The parameter is `y`; `x` follows from `y` and `z`.
//!
//! | recipe | direction |
//! |---|---|
//! | [`Sgd`] | `d = g` |
//! | [`AdamW`] | `d = (sqrt(c2)*g)/(sqrt(v) + eps*sqrt(c2)) + weight_decay*y`, with `v` as in Adam |
//!
//! Then `y = (y + weight*(z - y)) - lr*(1 - beta1*(1-weight))*d` and `z = z - lr*d`, as in the authors'
//! code. `weight`, that of the new `z` in the average, comes from Python.

use super::Rule;
use crate::element::Float;

/// How far `y` moves along the direction: `z` moves by `lr`, and `x` with it by `weight*lr`.
fn rate_of_y(lr: f64, beta1: f64, weight: f64) -> f64 {
    lr * (1.0 - beta1 * (1.0 - weight))
}

/// The new `y` and `z`.
#[inline(always)]
fn advance<F: Float>([weight, y_rate, lr]: [F; 3], y: F, z: F, d: F) -> (F, F) {
    ((y + weight * (z - y)) - y_rate * d, z - lr * d)
}

pub(crate) struct Sgd;

impl Rule<3, 3, 1> for Sgd {
    const HYPERS: [&'static str; 3] = ["lr", "momentum", "weight"];
    const STATES: [&'static str; 1] = ["z"];

    fn coefficients([lr, momentum, weight]: [f64; 3]) -> [f64; 3] {
        [weight, rate_of_y(lr, momentum, weight), lr]
    }

    #[inline(always)]
    fn update<F: Float>(c: [F; 3], p: F, g: F, [z]: [F; 1]) -> (F, [F; 1]) {
        let (p, z) = advance(c, p, z, g);
        (p, [z])
    }
}

pub(crate) struct AdamW;

impl Rule<7, 8, 2> for AdamW {
    const HYPERS: [&'static str; 7] =
        ["lr", "beta1", "beta2", "eps", "beta2_power", "weight", "weight_decay"];
    const STATES: [&'static str; 2] = ["z", "v"];

    fn coefficients(hypers: [f64; 7]) -> [f64; 8] {
        let [lr, beta1, beta2, eps, power2, weight, weight_decay] = hypers;
        let root2 = (1.0 - power2).sqrt();
        let y_rate = rate_of_y(lr, beta1, weight);
        [beta2, 1.0 - beta2, root2, eps * root2, weight_decay, weight, y_rate, lr]
    }

    #[inline(always)]
    fn update<F: Float>(c: [F; 8], p: F, g: F, [z, v]: [F; 2]) -> (F, [F; 2]) {
        let [beta2, rest2, root2, eps, weight_decay, weight, y_rate, lr] = c;
        let v = beta2 * v + rest2 * (g * g);
        let d = (root2 * g) / (v.sqrt() + eps) + weight_decay * p;
        let (p, z) = advance([weight, y_rate, lr], p, z, d);
        (p, [z, v])
    }
}
