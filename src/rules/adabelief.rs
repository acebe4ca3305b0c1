//! `AdaBelief`: Adam with the mean square of what the mean gradient did not foresee, `g - m`, in the
//! place of that of the gradient. Its authors and optax agree.
//!
//! `m = beta1*m + (1-beta1)*g`, `s = beta2*s + (1-beta2)*(g-m)*(g-m) + eps_root`,
//! `p = p - (a*m) / (sqrt(s) + eps*sqrt(c2))`
//!
//! with `c1 = 1 - beta1**t`, `c2 = 1 - beta2**t` and `a = lr*sqrt(c2)/c1`.

use super::Rule;
use super::adam::decay;
use crate::element::Float;

pub(crate) struct AdaBelief;

impl Rule<7, 7, 2> for AdaBelief {
    const HYPERS: [&'static str; 7] =
        ["lr", "beta1", "beta2", "eps", "eps_root", "beta1_power", "beta2_power"];
    const STATES: [&'static str; 2] = ["m", "s"];

    fn coefficients(hypers: [f64; 7]) -> [f64; 7] {
        let [lr, beta1, beta2, eps, eps_root, power1, power2] = hypers;
        let [beta1, rest1, beta2, rest2] = decay(beta1, beta2);
        let root2 = (1.0 - power2).sqrt();
        [beta1, rest1, beta2, rest2, eps_root, lr * root2 / (1.0 - power1), eps * root2]
    }

    #[inline(always)]
    fn update<F: Float>(c: [F; 7], p: F, g: F, [m, s]: [F; 2]) -> (F, [F; 2]) {
        let [beta1, rest1, beta2, rest2, eps_root, a, eps] = c;
        let m = beta1 * m + rest1 * g;
        let d = g - m;
        let s = beta2 * s + rest2 * (d * d) + eps_root;
        (p - (a * m) / (s.sqrt() + eps), [m, s])
    }
}
