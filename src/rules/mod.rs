//! The rules, one file each, with the update of one element. Nothing here knows of arrays, instruction
//! levels or Python.

use crate::element::{Element, Float};

pub(crate) mod adabelief;
pub(crate) mod adadelta;
pub(crate) mod adagrad;
pub(crate) mod adam;
pub(crate) mod adamax;
pub(crate) mod adan;
pub(crate) mod ademamix;
pub(crate) mod asgd;
pub(crate) mod eps;
pub(crate) mod gradient_descent;
pub(crate) mod limit;
pub(crate) mod lion;
pub(crate) mod momentum;
pub(crate) mod nadam;
pub(crate) mod radam;
pub(crate) mod rmsprop;
pub(crate) mod rprop;
pub(crate) mod schedule_free;
pub(crate) mod signum;
pub(crate) mod yogi;

/// A rule in one order of its IEEE operations: a recipe.
///
/// `H` hyper-parameters come in as `f64`, `C` coefficients are derived from them and rounded once
/// to the type of the arrays, and `S` state arrays go with every parameter. `update` is the whole
/// arithmetic of one element. It can't branch on data and must not fuse operations: the compiler
/// makes packed code of it, and the bits have to be those of the NumPy reference.
pub trait Rule<const H: usize, const C: usize, const S: usize> {
    /// The hyper-parameters' names, in order. Three kinds of names mean something: `lr` is the learning
    /// rate, `x_power` is `x**t`, and a rule with `weight_decay` among them does its decay itself; it
    /// is 0 for parameters that weight decay leaves out.
    const HYPERS: [&'static str; H];
    /// The state arrays' names, in order.
    const STATES: [&'static str; S];

    /// The coefficients of one step, computed in `f64`.
    fn coefficients(hypers: [f64; H]) -> [f64; C];

    /// One element: its parameter, gradient and state in, the new parameter and state out.
    fn update<F: Float>(coefficients: [F; C], p: F, g: F, state: [F; S]) -> (F, [F; S]);

    /// Whether the rule does its step in `f64` for arrays of any type, and rounds once.
    const WIDE: bool = false;

    /// The same, given the coefficients as they were before rounding, too: what a `WIDE` rule does with
    /// `f32` arrays.
    #[inline(always)]
    fn update_exactly<F: Element>(
        rounded: [F; C],
        _exact: [f64; C],
        p: F,
        g: F,
        state: [F; S],
    ) -> (F, [F; S]) {
        Self::update(rounded, p, g, state)
    }
}

/// The coefficients of one step, before they are rounded to the type of an array.
pub type Coefficients = [f64; MAX_COEFFICIENTS];

/// The most hyper-parameters that a rule may have.
pub const MAX_HYPERS: usize = 9;
/// The most coefficients that a rule may have.
pub const MAX_COEFFICIENTS: usize = 8;
/// The most state arrays that a rule may have.
pub const MAX_STATES: usize = 4;
