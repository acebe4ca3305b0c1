//! Adan: means of the gradients, `m`, of what they change by from step to step, `v`, and of the squares
//! of the gradients with a look ahead, `n`.
//!
//! With `d = g - g_prev`: `m = m + (1-beta1)*(g - m)`, `v = v + rest2*(d - v)`,
//! `n = n + (1-beta3)*((g + look*d)*(g + look*d) - n)`, then
//!
//! | recipe | parameter update |
//! |---|---|
//! | [`Adan`] | `p - (m_factor*m + v_factor*v) / (sqrt(n) + eps)` |
//! | [`Proximal`] | the same, times `1 / (1 + lr*weight_decay)` |
//!
//! The bias corrections are in the two factors and in `eps`, which come from Python. In the first step,
//! which has no gradient before it, `rest2` and `look` are 0; else `rest2` is `1 - beta2`.

use super::Rule;
use crate::element::Float;

const STATES: [&str; 4] = ["m", "v", "n", "g_prev"];

pub(crate) struct Adan;

impl Rule<7, 7, 4> for Adan {
    const HYPERS: [&'static str; 7] =
        ["beta1", "rest2", "beta3", "look", "eps", "m_factor", "v_factor"];
    const STATES: [&'static str; 4] = STATES;

    fn coefficients([beta1, rest2, beta3, look, eps, m_factor, v_factor]: [f64; 7]) -> [f64; 7] {
        [1.0 - beta1, rest2, 1.0 - beta3, look, eps, m_factor, v_factor]
    }

    #[inline(always)]
    fn update<F: Float>(c: [F; 7], p: F, g: F, [m, v, n, g_prev]: [F; 4]) -> (F, [F; 4]) {
        let [rest1, rest2, rest3, look, eps, m_factor, v_factor] = c;
        let d = g - g_prev;
        let m = m + rest1 * (g - m);
        let v = v + rest2 * (d - v);
        let ahead = g + look * d;
        let n = n + rest3 * (ahead * ahead - n);
        (p - (m_factor * m + v_factor * v) / (n.sqrt() + eps), [m, v, n, g])
    }
}

pub(crate) struct Proximal;

impl Rule<9, 8, 4> for Proximal {
    const HYPERS: [&'static str; 9] =
        ["beta1", "rest2", "beta3", "look", "eps", "m_factor", "v_factor", "lr", "weight_decay"];
    const STATES: [&'static str; 4] = STATES;

    fn coefficients([others @ .., lr, weight_decay]: [f64; 9]) -> [f64; 8] {
        let [rest1, rest2, rest3, look, eps, m_factor, v_factor] = Adan::coefficients(others);
        let shrink = 1.0 / (1.0 + lr * weight_decay);
        [rest1, rest2, rest3, look, eps, m_factor, v_factor, shrink]
    }

    #[inline(always)]
    fn update<F: Float>([others @ .., shrink]: [F; 8], p: F, g: F, s: [F; 4]) -> (F, [F; 4]) {
        let (p, s) = Adan::update(others, p, g, s);
        (shrink * p, s)
    }
}
