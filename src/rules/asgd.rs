//! ASGD: gradient descent with a decaying rate `eta`, and the average `ax` of the parameters, as in
//! torch.
//!
//! `p = (1 - lambd*eta)*p - eta*g`, `ax = (1-mu)*ax + mu*p`. Python computes `eta` and `mu`; while `mu`
//! is 1, `ax` is the parameter.

use super::Rule;
use crate::element::Float;

pub(crate) struct Asgd;

impl Rule<3, 4, 1> for Asgd {
    const HYPERS: [&'static str; 3] = ["lambd", "eta", "mu"];
    const STATES: [&'static str; 1] = ["ax"];

    fn coefficients([lambd, eta, mu]: [f64; 3]) -> [f64; 4] {
        [1.0 - lambd * eta, eta, mu, 1.0 - mu]
    }

    #[inline(always)]
    fn update<F: Float>([shrink, eta, mu, rest]: [F; 4], p: F, g: F, [ax]: [F; 1]) -> (F, [F; 1]) {
        let p = shrink * p - eta * g;
        (p, [rest * ax + mu * p])
    }
}
