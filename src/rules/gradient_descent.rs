//! Gradient descent: `p = p - lr*g`.

use super::Rule;
use crate::element::Float;

pub(crate) struct GradientDescent;

impl Rule<1, 1, 0> for GradientDescent {
    const HYPERS: [&'static str; 1] = ["lr"];
    const STATES: [&'static str; 0] = [];

    fn coefficients([lr]: [f64; 1]) -> [f64; 1] {
        [lr]
    }

    #[inline(always)]
    fn update<F: Float>([lr]: [F; 1], p: F, g: F, []: [F; 0]) -> (F, [F; 0]) {
        (p - lr * g, [])
    }
}
