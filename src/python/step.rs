//! `step`: one step over groups of parameters, with all that an optimizer object may ask of it.

use pyo3::exceptions::PyFloatingPointError;
use pyo3::prelude::*;
use pyo3::types::PyTuple;

use super::plan::{Call, Group, Plan};
use super::recipe::{DETACH_FROM, PyRecipe};
use crate::error::Error;
use crate::extras::Extras;

/// What to do when a gradient has an element that is NaN or infinite.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Nonfinite {
    Propagate,
    Skip,
    Raise,
}

impl Nonfinite {
    fn named(word: &str) -> Result<Self, Error> {
        match word {
            "propagate" => Ok(Self::Propagate),
            "skip" => Ok(Self::Skip),
            "raise" => Ok(Self::Raise),
            _ => {
                let wanted = r#"wanted one of "propagate", "skip", "raise""#;
                Err(Error::Value(format!("nonfinite is {word:?}; {wanted}")))
            }
        }
    }
}

/// What the sweep over the gradients found, before anything was written.
struct Found {
    norm: Option<f64>,
    nonfinite: Option<(usize, usize)>,
}

/// A group as Python gives it: recipe, hypers, (sign, weight decay, shrink), params, grads, states,
/// and, where an average is kept, its decay and arrays.
type PyGroup<'py> = (
    Bound<'py, PyRecipe>,
    Bound<'py, PyTuple>,
    (f64, f64, f64),
    Bound<'py, PyTuple>,
    Bound<'py, PyTuple>,
    Bound<'py, PyTuple>,
    Option<(f64, Bound<'py, PyTuple>)>,
);

/// One step over groups of parameters, in place: all of it, or an exception and none of it.
///
/// Returns the norm of the gradients, if `max_norm` was given, and whether the step was skipped.
#[pyfunction]
#[pyo3(signature = (groups, describe, grad_scale, max_norm, nonfinite, zero_grads, /))]
pub(super) fn step<'py>(
    py: Python<'py>,
    groups: &Bound<'py, PyTuple>,
    describe: Bound<'py, PyAny>,
    grad_scale: f64,
    max_norm: Option<f64>,
    nonfinite: &str,
    zero_grads: bool,
) -> PyResult<(Option<f64>, bool)> {
    let nonfinite = Nonfinite::named(nonfinite)?;
    let groups = groups.iter().map(|group| {
        let (recipe, hypers, (sign, weight_decay, shrink), params, grads, states, averages) =
            group.extract::<PyGroup<'py>>()?;
        let (average, averages) = averages.unzip();
        let extras = Extras { scale: sign, weight_decay, shrink, average };
        let work = recipe.get().work(&hypers, extras, zero_grads)?;
        Group::new(work, params, grads, &states, averages)
    });
    let call =
        Call { groups: groups.collect::<PyResult<_>>()?, describe, optional_gradients: true };
    let mut plan = Plan::check(&call)?;
    let is_small = plan.len() < DETACH_FROM;
    let mut sweep = || {
        let norm = max_norm.map(|_| plan.gradient_norm() * grad_scale.abs());
        // A finite norm has no NaN or Inf behind it.
        let look = nonfinite != Nonfinite::Propagate && !norm.is_some_and(f64::is_finite);
        let found = Found { norm, nonfinite: if look { plan.first_nonfinite() } else { None } };
        if found.nonfinite.is_none() {
            // An infinite maximum clips nothing, not even a norm that is infinite or NaN itself.
            let limit = max_norm.filter(|max| max.is_finite());
            let clip = limit.zip(norm).map_or(1.0, |(max, norm)| max / (norm + 1e-6));
            plan.run(if clip >= 1.0 { grad_scale } else { grad_scale * clip });
        }
        found
    };
    let found = if is_small { sweep() } else { py.detach(sweep) };
    match (found.nonfinite, nonfinite) {
        (Some((group, index)), Nonfinite::Raise) => {
            let name = call.gradient_name(group, index)?;
            let what = format!("{name} has an element that is NaN or infinite");
            Err(PyFloatingPointError::new_err(what))
        }
        (bad, _) => Ok((found.norm, bad.is_some())),
    }
}
