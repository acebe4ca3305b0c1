//! Rprop: every element has its own step size, which grows by `eta_plus` while its gradient keeps its
//! sign, and shrinks by `eta_minus` where the sign changes: `p = p - step*sign(g)`.
//!
//! | recipe | where the sign has changed | as in |
//! |---|---|---|
//! | [`IrpropMinus`] | no step, and the next gradient counts as the first | torch |
//! | [`RpropMinus`] | a step anyway | the documentation of older versions of torch |
//!
//! `prev` keeps the sign of the last gradient: a product of two gradients could underflow.

use super::Rule;
use crate::element::Float;

const HYPERS: [&str; 4] = ["eta_minus", "eta_plus", "step_min", "step_max"];
const STATES: [&str; 2] = ["prev", "step"];

/// Those of the hyper-parameters, then 1 and 0: a choice is a sum of products with
/// them, which rounds nothing, since a rule has no branches.
fn coefficients([eta_minus, eta_plus, step_min, step_max]: [f64; 4]) -> [f64; 6] {
    [eta_minus, eta_plus, step_min, step_max, 1.0, 0.0]
}

/// The new step size, and 1 where the sign has changed, else 0.
#[inline(always)]
fn step_size<F: Float>(c: [F; 6], sign: F, prev: F, step: F) -> (F, F) {
    let [eta_minus, eta_plus, step_min, step_max, one, zero] = c;
    let agreement = (sign * prev).sign();
    let kept = agreement.maximum(zero);
    let turned = kept - agreement;
    let factor = kept * eta_plus + (turned * eta_minus + (one - agreement.abs()));
    let step = (step * factor).maximum(step_min);
    // The smaller of the step and `step_max`.
    (zero - (zero - step).maximum(zero - step_max), turned)
}

pub(crate) struct IrpropMinus;

impl Rule<4, 6, 2> for IrpropMinus {
    const HYPERS: [&'static str; 4] = HYPERS;
    const STATES: [&'static str; 2] = STATES;

    fn coefficients(hypers: [f64; 4]) -> [f64; 6] {
        coefficients(hypers)
    }

    #[inline(always)]
    fn update<F: Float>(c: [F; 6], p: F, g: F, [prev, step]: [F; 2]) -> (F, [F; 2]) {
        let [.., one, zero] = c;
        let sign = g.sign();
        let (step, turned) = step_size(c, sign, prev, step);
        // A zero must not have a sign.
        let sign = (one - turned) * sign + zero;
        (p - step * sign, [sign, step])
    }
}

pub(crate) struct RpropMinus;

impl Rule<4, 6, 2> for RpropMinus {
    const HYPERS: [&'static str; 4] = HYPERS;
    const STATES: [&'static str; 2] = STATES;

    fn coefficients(hypers: [f64; 4]) -> [f64; 6] {
        coefficients(hypers)
    }

    #[inline(always)]
    fn update<F: Float>(c: [F; 6], p: F, g: F, [prev, step]: [F; 2]) -> (F, [F; 2]) {
        let sign = g.sign();
        let (step, _) = step_size(c, sign, prev, step);
        (p - step * sign, [sign, step])
    }
}
