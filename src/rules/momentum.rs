//! Momentum: a step along a decaying sum `m` of the gradients.
//!
//! | recipe | state | parameter update | as in |
//! |---|---|---|---|
//! | [`Ema`] | `m = beta*m + (1-beta)*g` | `p - lr*m` | the course code, HIPS autograd |
//! | [`HeavyBall`] | `m = momentum*m + rest*g` | `p - lr*m` | torch, optax |
//! | [`HeavyBallNesterov`] | as above | `p - lr*(g + momentum*m)` | torch, optax |
//! | [`LrInside`] | `m = momentum*m - lr*g` | `p + m` | Keras, scikit-learn |
//! | [`LrInsideNesterov`] | as above | `p + (momentum*m - lr*g)` | Keras, scikit-learn |
//! | [`DlfsNesterov`] | as above | `(p + (momentum*momentum)*m) - ((1+momentum)*lr)*g` | the fish book |
//! | [`Dlfs2Nesterov`] | as above | as above, with the new `m` | its second volume |
//!
//! The parameter update takes the new `m`, except in [`DlfsNesterov`], which takes the old one. `rest`
//! is 1, or torch's `1 - dampening` from the second step on.

use super::Rule;
use crate::element::Float;

const STATES: [&str; 1] = ["m"];

pub(crate) struct Ema;

impl Rule<2, 3, 1> for Ema {
    const HYPERS: [&'static str; 2] = ["lr", "beta"];
    const STATES: [&'static str; 1] = STATES;

    fn coefficients([lr, beta]: [f64; 2]) -> [f64; 3] {
        [lr, beta, 1.0 - beta]
    }

    #[inline(always)]
    fn update<F: Float>(c: [F; 3], p: F, g: F, state: [F; 1]) -> (F, [F; 1]) {
        HeavyBall::update(c, p, g, state)
    }
}

pub(crate) struct HeavyBall;

impl Rule<3, 3, 1> for HeavyBall {
    const HYPERS: [&'static str; 3] = ["lr", "momentum", "rest"];
    const STATES: [&'static str; 1] = STATES;

    fn coefficients(hypers: [f64; 3]) -> [f64; 3] {
        hypers
    }

    #[inline(always)]
    fn update<F: Float>([lr, momentum, rest]: [F; 3], p: F, g: F, [m]: [F; 1]) -> (F, [F; 1]) {
        let m = momentum * m + rest * g;
        (p - lr * m, [m])
    }
}

pub(crate) struct HeavyBallNesterov;

impl Rule<3, 3, 1> for HeavyBallNesterov {
    const HYPERS: [&'static str; 3] = HeavyBall::HYPERS;
    const STATES: [&'static str; 1] = STATES;

    fn coefficients(hypers: [f64; 3]) -> [f64; 3] {
        hypers
    }

    #[inline(always)]
    fn update<F: Float>([lr, momentum, rest]: [F; 3], p: F, g: F, [m]: [F; 1]) -> (F, [F; 1]) {
        let m = momentum * m + rest * g;
        (p - lr * (g + momentum * m), [m])
    }
}

pub(crate) struct LrInside;

impl Rule<2, 2, 1> for LrInside {
    const HYPERS: [&'static str; 2] = ["lr", "momentum"];
    const STATES: [&'static str; 1] = STATES;

    fn coefficients(hypers: [f64; 2]) -> [f64; 2] {
        hypers
    }

    #[inline(always)]
    fn update<F: Float>([lr, momentum]: [F; 2], p: F, g: F, [m]: [F; 1]) -> (F, [F; 1]) {
        let m = momentum * m - lr * g;
        (p + m, [m])
    }
}

pub(crate) struct LrInsideNesterov;

impl Rule<2, 2, 1> for LrInsideNesterov {
    const HYPERS: [&'static str; 2] = LrInside::HYPERS;
    const STATES: [&'static str; 1] = STATES;

    fn coefficients(hypers: [f64; 2]) -> [f64; 2] {
        hypers
    }

    #[inline(always)]
    fn update<F: Float>([lr, momentum]: [F; 2], p: F, g: F, [m]: [F; 1]) -> (F, [F; 1]) {
        let m = momentum * m - lr * g;
        (p + (momentum * m - lr * g), [m])
    }
}

/// The coefficients of a step with the look-ahead multiplied out.
fn multiplied_out([lr, momentum]: [f64; 2]) -> [f64; 4] {
    [lr, momentum, momentum * momentum, (1.0 + momentum) * lr]
}

pub(crate) struct DlfsNesterov;

impl Rule<2, 4, 1> for DlfsNesterov {
    const HYPERS: [&'static str; 2] = LrInside::HYPERS;
    const STATES: [&'static str; 1] = STATES;

    fn coefficients(hypers: [f64; 2]) -> [f64; 4] {
        multiplied_out(hypers)
    }

    #[inline(always)]
    fn update<F: Float>(c: [F; 4], p: F, g: F, [m]: [F; 1]) -> (F, [F; 1]) {
        let [lr, momentum, m_factor, g_factor] = c;
        ((p + m_factor * m) - g_factor * g, [momentum * m - lr * g])
    }
}

pub(crate) struct Dlfs2Nesterov;

impl Rule<2, 4, 1> for Dlfs2Nesterov {
    const HYPERS: [&'static str; 2] = LrInside::HYPERS;
    const STATES: [&'static str; 1] = STATES;

    fn coefficients(hypers: [f64; 2]) -> [f64; 4] {
        multiplied_out(hypers)
    }

    #[inline(always)]
    fn update<F: Float>(c: [F; 4], p: F, g: F, [m]: [F; 1]) -> (F, [F; 1]) {
        let [lr, momentum, m_factor, g_factor] = c;
        let m = momentum * m - lr * g;
        ((p + m_factor * m) - g_factor * g, [m])
    }
}
