//! Axes that the arrays of all roles have in common.

use std::cmp;

use crate::rules::MAX_STATES;

/// The roles of the arrays of one parameter: itself, its gradient, its states, what else is kept of a
/// parameter that is stored in fewer bytes, and its average if there is one.
pub const PARAMETER: usize = 0;
/// See [`PARAMETER`].
pub const GRADIENT: usize = 1;
/// See [`PARAMETER`].
pub const FIRST_STATE: usize = 2;
/// The most roles that there are.
pub const MAX_ROLES: usize = FIRST_STATE + MAX_STATES + 2;
/// Walked in addition to the roles: the place of an element, as if in an array in C order that numbers
/// its elements.
pub const PLACE: usize = MAX_ROLES;

/// The most axes of an array: those of NumPy.
pub const MAX_AXES: usize = 64;

/// An axis of the arrays of all roles.
#[derive(Clone, Copy, Debug)]
pub struct Axis {
    /// The number of places.
    pub len: usize,
    /// From one place to the next, in bytes, for each role; in elements for [`PLACE`].
    pub steps: [isize; MAX_ROLES + 1],
}

/// Axes in the order of a role's memory, or of the places, the longest steps first. Those that continue
/// each other are merged.
#[must_use]
pub fn in_order(mut axes: Vec<Axis>, role: usize) -> Vec<Axis> {
    axes.retain(|axis| axis.len != 1);
    axes.sort_by_key(|axis| cmp::Reverse(axis.steps[role].unsigned_abs()));
    axes.dedup_by(|inner, outer| {
        let reach = inner.steps.map(|step| step.wrapping_mul(inner.len.cast_signed()));
        let runs_on = outer.steps == reach;
        if runs_on {
            *outer = Axis { len: outer.len * inner.len, ..*inner };
        }
        runs_on
    });
    axes
}
