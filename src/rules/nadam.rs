//! `NAdam`: Adam's moments, and a step of both the gradient and `m`, by factors from a schedule.
//!
//! `p = p - (g_factor*g + m_factor*m) / (sqrt(v/c2) + eps)`, with `c2 = 1 - beta2**t`.
//!
//! torch, Keras and optax differ in the two factors, which come from Python: the learning rate, the
//! momentum of this step and of the next, and the product of all steps' momenta are in them.

use super::Rule;
use super::adam::{decay, moments};
use crate::element::Float;

pub(crate) struct Nadam;

impl Rule<6, 8, 2> for Nadam {
    const HYPERS: [&'static str; 6] =
        ["beta1", "beta2", "eps", "beta2_power", "g_factor", "m_factor"];
    const STATES: [&'static str; 2] = ["m", "v"];
    fn coefficients([beta1, beta2, eps, power2, g_factor, m_factor]: [f64; 6]) -> [f64; 8] {
        let [beta1, rest1, beta2, rest2] = decay(beta1, beta2);
        [beta1, rest1, beta2, rest2, 1.0 - power2, eps, g_factor, m_factor]
    }

    #[inline(always)]
    fn update<F: Float>(c: [F; 8], p: F, g: F, state: [F; 2]) -> (F, [F; 2]) {
        let [beta1, rest1, beta2, rest2, c2, eps, g_factor, m_factor] = c;
        let [m, v] = moments([beta1, rest1, beta2, rest2], g, state);
        (p - (g_factor * g + m_factor * m) / (v.over(c2).sqrt() + eps), [m, v])
    }
}
