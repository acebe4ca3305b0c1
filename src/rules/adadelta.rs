//! Adadelta: a step `d` of `g` times the root of the mean square `u` of the steps before, over the
//! root of the mean square `v` of the gradients. torch, Keras and optax agree.
//!
//! | | |
//! |---|---|
//! | `v` | `rho*v + (1-rho)*(g*g)` |
//! | `d` | `(sqrt(u + eps) / sqrt(v + eps)) * g` |
//! | `u` | `rho*u + (1-rho)*(d*d)` |
//! | `p` | `p - lr*d` |

use super::Rule;
use crate::element::Float;

pub(crate) struct Adadelta;

impl Rule<3, 4, 2> for Adadelta {
    const HYPERS: [&'static str; 3] = ["lr", "rho", "eps"];
    const STATES: [&'static str; 2] = ["v", "u"];

    fn coefficients([lr, rho, eps]: [f64; 3]) -> [f64; 4] {
        [lr, rho, 1.0 - rho, eps]
    }

    #[inline(always)]
    fn update<F: Float>([lr, rho, rest, eps]: [F; 4], p: F, g: F, [v, u]: [F; 2]) -> (F, [F; 2]) {
        let v = rho * v + rest * (g * g);
        let d = ((u + eps).sqrt() / (v + eps).sqrt()) * g;
        let u = rho * u + rest * (d * d);
        (p - lr * d, [v, u])
    }
}
