//! Lion: a step of one size, `lr`, in the direction of a moving average of the gradients; the one
//! that is kept as `m` decays at another rate. Its authors, Keras and optax agree.
//!
//! `p = p - lr*sign(beta1*m + (1-beta1)*g)`, then `m = beta2*m + (1-beta2)*g`.

use super::Rule;
use crate::element::Float;

pub(crate) struct Lion;

impl Rule<3, 5, 1> for Lion {
    const HYPERS: [&'static str; 3] = ["lr", "beta1", "beta2"];
    const STATES: [&'static str; 1] = ["m"];

    fn coefficients([lr, beta1, beta2]: [f64; 3]) -> [f64; 5] {
        [lr, beta1, 1.0 - beta1, beta2, 1.0 - beta2]
    }

    #[inline(always)]
    fn update<F: Float>(c: [F; 5], p: F, g: F, [m]: [F; 1]) -> (F, [F; 1]) {
        let [lr, beta1, rest1, beta2, rest2] = c;
        let direction = (beta1 * m + rest1 * g).sign();
        (p - lr * direction, [beta2 * m + rest2 * g])
    }
}
