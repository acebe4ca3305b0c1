//! `Stepper`: the arrays of an optimizer, and steps over them with all that may be asked of one.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, TryLockError};

use pyo3::exceptions::{PyFloatingPointError, PyRuntimeError};
use pyo3::gc::{PyTraverseError, PyVisit};
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
    fn of(word: &Bound<'_, PyAny>) -> PyResult<Self> {
        match word.extract() {
            Ok("propagate") => Ok(Self::Propagate),
            Ok("skip") => Ok(Self::Skip),
            Ok("raise") => Ok(Self::Raise),
            _ => {
                let wanted = "wanted one of 'propagate', 'skip', 'raise'";
                Err(Error::Value(format!("nonfinite is {}; {wanted}", word.repr()?)).into())
            }
        }
    }
}

/// The arrays of a group that stay: parameters, states, averages if any are kept.
type Own = (Py<PyTuple>, Vec<Py<PyTuple>>, Option<Py<PyTuple>>);

/// The work of a group in one step: recipe, hypers, (sign, weight decay, shrink, average).
type PyWork<'py> = (Bound<'py, PyRecipe>, Bound<'py, PyTuple>, (f64, f64, f64, Option<f64>));

/// Stepper(groups, t)
/// --
///
/// The parameters of an optimizer with their states and averages, and the number of steps done.
#[pyclass(frozen, module = "instep._instep")]
pub(super) struct Stepper {
    groups: Vec<Own>,
    /// The plan of the last step, if it may serve the next.
    plan: Mutex<Option<Plan>>,
    /// Counted here, so that no signal comes between a step and its count.
    t: AtomicU64,
}

#[pymethods]
impl Stepper {
    #[new]
    fn new(groups: Vec<Own>, t: u64) -> Self {
        Self { groups, plan: Mutex::new(None), t: AtomicU64::new(t) }
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        for (params, states, averages) in &self.groups {
            visit.call(params)?;
            states.iter().chain(averages).try_for_each(|arrays| visit.call(arrays))?;
        }
        // While a step has the plan, what that holds looks as if it were held from elsewhere.
        match self.plan.try_lock() {
            Ok(plan) => plan.iter().flat_map(Plan::own).try_for_each(|array| visit.call(array)),
            Err(_) => Ok(()),
        }
    }

    /// The number of steps done.
    #[getter]
    fn t(&self) -> u64 {
        self.t.load(Ordering::Relaxed)
    }

    #[setter]
    fn set_t(&self, t: u64) {
        self.t.store(t, Ordering::Relaxed);
    }

    /// Step `t` over groups of parameters, in place: all of it, or an exception and none of it.
    ///
    /// Returns the norm of the gradients, if `max_norm` was given, and whether the step was skipped.
    #[pyo3(signature = (t, groups, describe, grad_scale, max_norm, nonfinite, zero_grads, /))]
    #[expect(clippy::too_many_arguments, reason = "a step's own, without names to look up")]
    fn step<'py>(
        &self,
        py: Python<'py>,
        t: u64,
        groups: Vec<(PyWork<'py>, Bound<'py, PyTuple>)>,
        describe: Bound<'py, PyAny>,
        grad_scale: f64,
        max_norm: Option<f64>,
        nonfinite: &Bound<'py, PyAny>,
        zero_grads: bool,
    ) -> PyResult<(Option<f64>, bool)> {
        let nonfinite = Nonfinite::of(nonfinite)?;
        let mut kept = match self.plan.try_lock() {
            Ok(kept) => kept,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => {
                return Err(PyRuntimeError::new_err("another thread is in a step"));
            }
        };
        let next = self.t() + 1;
        if t != next {
            let why = "a learning rate or a signal handler has stepped the optimizer";
            let what = format!("step {t} was prepared, and step {next} is next: {why}");
            return Err(PyRuntimeError::new_err(what));
        }
        if groups.len() != self.groups.len() {
            let (has, wanted) = (groups.len(), self.groups.len());
            let what = format!("groups has length {has}; wanted {wanted}");
            return Err(Error::Value(what).into());
        }
        let groups = self.groups.iter().zip(groups).map(|((params, states, averages), given)| {
            let ((recipe, hypers, (scale, weight_decay, shrink, average)), grads) = given;
            let extras = Extras { scale, weight_decay, shrink, average };
            let work = recipe.get().work(&hypers, extras, zero_grads)?;
            let states = states.iter().map(|states| states.bind(py).clone());
            let averages = averages.as_ref().map(|averages| averages.bind(py).clone());
            Group::new(work, params.bind(py).clone(), grads, states, averages)
        });
        let groups = groups.collect::<PyResult<_>>()?;
        let call = Call { groups, describe, optional_gradients: true };
        let mut plan = Plan::follow(kept.take(), &call)?;
        let is_small = plan.len() < DETACH_FROM;
        let mut sweep = || {
            let norm = max_norm.map(|_| plan.gradient_norm() * grad_scale.abs());
            // A finite norm has no NaN or Inf behind it.
            let look = nonfinite != Nonfinite::Propagate && !norm.is_some_and(f64::is_finite);
            let bad = if look { plan.first_nonfinite() } else { None };
            if bad.is_none() {
                // An infinite maximum clips nothing, not even a norm that is infinite or NaN itself.
                let limit = max_norm.filter(|max| max.is_finite());
                let clip = limit.zip(norm).map_or(1.0, |(max, norm)| max / (norm + 1e-6));
                plan.run(if clip >= 1.0 { grad_scale } else { grad_scale * clip });
            }
            (norm, bad)
        };
        let (norm, bad) = if is_small { sweep() } else { py.detach(sweep) };
        if bad.is_none() {
            self.t.fetch_add(1, Ordering::Relaxed);
            plan.clear_rows(py)?;
        }
        *kept = plan.lasts().then_some(plan);
        match bad {
            Some((group, index)) if nonfinite == Nonfinite::Raise => {
                let name = call.gradient_name(group, index)?;
                let what = format!("{name} has an element that is NaN or infinite");
                Err(PyFloatingPointError::new_err(what))
            }
            _ => Ok((norm, bad.is_some())),
        }
    }
}
