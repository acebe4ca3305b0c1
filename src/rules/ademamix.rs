//! `AdEMAMix`: Adam's moments and a second, much slower mean gradient, which is not corrected for its
//! start, as in its authors' code and optax.
//!
//! `m_slow = m_slow + (1-beta3)*(g - m_slow)`,
//! `p = p - (a*m + b*m_slow) / (sqrt(v) + eps*sqrt(c2))`
//!
//! with `c1 = 1 - beta1**t`, `c2 = 1 - beta2**t`, `a = lr*sqrt(c2)/c1` and `b = lr*alpha*sqrt(c2)`.
//! Python says what `beta3` and `alpha` are in a step.

use super::Rule;
use super::adam::{decay, moments};
use crate::element::Float;

pub(crate) struct AdEmaMix;

impl Rule<8, 8, 3> for AdEmaMix {
    const HYPERS: [&'static str; 8] =
        ["lr", "beta1", "beta2", "beta3", "alpha", "eps", "beta1_power", "beta2_power"];
    const STATES: [&'static str; 3] = ["m", "m_slow", "v"];

    fn coefficients(hypers: [f64; 8]) -> [f64; 8] {
        let [lr, beta1, beta2, beta3, alpha, eps, power1, power2] = hypers;
        let [beta1, rest1, beta2, rest2] = decay(beta1, beta2);
        let root2 = (1.0 - power2).sqrt();
        let (a, b) = (lr * root2 / (1.0 - power1), lr * alpha * root2);
        [beta1, rest1, beta2, rest2, 1.0 - beta3, a, b, eps * root2]
    }

    #[inline(always)]
    fn update<F: Float>(c: [F; 8], p: F, g: F, [m, m_slow, v]: [F; 3]) -> (F, [F; 3]) {
        let [beta1, rest1, beta2, rest2, rest3, a, b, eps] = c;
        let [m, v] = moments([beta1, rest1, beta2, rest2], g, [m, v]);
        let m_slow = m_slow + rest3 * (g - m_slow);
        (p - (a * m + b * m_slow) / (v.sqrt() + eps), [m, m_slow, v])
    }
}
