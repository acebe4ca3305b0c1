//! What a step may be asked to do with the gradients, and the outcome.

use pyo3::prelude::*;
use pyo3::types::{PyDict, PyFloat, PyString};

use super::group::number;
use super::job::Work;
use super::once::Once;
use super::plan::Plan;
use crate::error::Error;

/// What to do when a gradient has an element that is NaN or infinite.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Nonfinite {
    Propagate,
    Skip,
    Raise,
}

impl Nonfinite {
    fn of(word: &Bound<'_, PyAny>) -> PyResult<Self> {
        let text = word.cast::<PyString>().ok().map(Bound::to_cow).transpose()?;
        match text.as_deref() {
            Some("propagate") => Ok(Self::Propagate),
            Some("skip") => Ok(Self::Skip),
            Some("raise") => Ok(Self::Raise),
            _ => {
                let wanted = "wanted one of 'propagate', 'skip', 'raise'";
                Err(Error::Value(format!("nonfinite is {}; {wanted}", word.repr()?)).into())
            }
        }
    }
}

/// What a step may be asked to do with the gradients, all together or each by itself.
pub(super) struct Asked {
    pub(super) grad_scale: f64,
    pub(super) max_norm: Option<f64>,
    pub(super) max_array_norm: Option<f64>,
    pub(super) max_value: Option<f64>,
    pub(super) nonfinite: Nonfinite,
    pub(super) max_skips: Option<u64>,
}

/// The arguments of a step that say so, as Python gives them.
pub(super) struct Arguments<'a, 'py> {
    pub(super) grad_scale: &'a Bound<'py, PyAny>,
    pub(super) max_norm: &'a Bound<'py, PyAny>,
    pub(super) max_array_norm: &'a Bound<'py, PyAny>,
    pub(super) max_value: &'a Bound<'py, PyAny>,
    pub(super) nonfinite: &'a Bound<'py, PyAny>,
    pub(super) max_skips: &'a Bound<'py, PyAny>,
}

/// The outcome of a step.
pub(super) enum Found {
    /// It was done.
    Nothing,
    /// The gradients were not finite, and it was left out.
    Skipped,
    /// The gradient of this parameter is not finite, and that is an error.
    Bad(usize),
}

impl Asked {
    /// What was asked, checked.
    pub(super) fn of(given: &Arguments<'_, '_>) -> PyResult<Self> {
        let asked = Self {
            grad_scale: number(given.grad_scale, "grad_scale", f64::NEG_INFINITY, f64::INFINITY)?,
            max_norm: bound(given.max_norm, "max_norm")?,
            max_array_norm: bound(given.max_array_norm, "max_array_norm")?,
            max_value: bound(given.max_value, "max_value")?,
            nonfinite: Nonfinite::of(given.nonfinite)?,
            max_skips: count(given.max_skips, "max_skips")?,
        };
        if asked.max_norm.is_some() && asked.max_array_norm.is_some() {
            let what = "max_norm and max_array_norm were given; wanted one of both";
            return Err(Error::Value(what.to_owned()).into());
        }
        Ok(asked)
    }

    /// The outcome of a step whose gradient of this parameter is not finite.
    pub(super) fn found_nonfinite(&self, parameter: usize, skips: u64) -> Found {
        let too_many = self.max_skips.is_some_and(|most| skips >= most);
        if self.nonfinite == Nonfinite::Raise || too_many {
            Found::Bad(parameter)
        } else {
            Found::Skipped
        }
    }

    /// Looks at the gradients as asked, and does the step if nothing is wrong with them; returns
    /// their norm, if it was asked for.
    ///
    /// # Errors
    /// As [`Plan::run`].
    pub(super) fn sweep(
        &self,
        plan: &mut Plan,
        works: &mut [Work],
        skips: u64,
    ) -> Result<(Option<f64>, Found), Error> {
        let Some(level) = works.first().map(|work| work.level) else {
            return Ok((self.max_norm.map(|_| 0.0), Found::Nothing));
        };
        let norm = self.max_norm.map(|_| plan.gradient_norm(level) * self.grad_scale.abs());
        // A finite norm has no NaN or Inf behind it.
        let look = self.nonfinite != Nonfinite::Propagate && !norm.is_some_and(f64::is_finite);
        if look && let Some(parameter) = plan.first_nonfinite(level, plan.pieces()) {
            let found = self.found_nonfinite(parameter, skips);
            if matches!(found, Found::Skipped) && works[0].clear_gradient {
                plan.clear_gradients();
            }
            return Ok((norm, found));
        }
        if let Some(factor) = self.max_norm.zip(norm).and_then(|(max, norm)| clip(max, norm)) {
            // As one factor of the gradients, which is rounded once.
            for work in works.iter_mut() {
                work.extras.scale *= factor;
            }
        }
        if let Some(max) = self.max_array_norm {
            let scale = self.grad_scale.abs();
            plan.scale_each(level, |norm| clip(max, norm * scale).unwrap_or(1.0));
        }
        let done = plan.run(works);
        if self.max_array_norm.is_some() {
            plan.scale_none();
        }
        done.map(|()| (norm, Found::Nothing))
    }
}

/// What gradients are multiplied by to have a norm of `max` at most, if it is less than 1.
///
/// An infinite maximum clips nothing, not even a norm that is infinite or NaN itself.
pub(super) fn clip(max: f64, norm: f64) -> Option<f64> {
    let factor = max / (norm + 1e-6);
    let is_less = factor < 1.0 || factor.is_nan();
    (max.is_finite() && is_less).then_some(factor)
}

/// A number of 0 or more that an argument is at most, which may be infinite; `None` for none.
fn bound(item: &Bound<'_, PyAny>, name: &str) -> PyResult<Option<f64>> {
    if item.is_none() {
        return Ok(None);
    }
    if item.extract::<f64>().is_ok_and(|number| number == f64::INFINITY)
        && item.is_instance_of::<PyFloat>()
    {
        return Ok(Some(f64::INFINITY));
    }
    number(item, name, 0.0, f64::INFINITY).map(Some)
}

/// An integer of 0 or more; `None` for none.
fn count(item: &Bound<'_, PyAny>, name: &str) -> PyResult<Option<u64>> {
    static CHECK: Once<Py<PyAny>> = Once::new();
    if item.is_none() {
        return Ok(None);
    }
    let py = item.py();
    let keywords = PyDict::new(py);
    keywords.set_item("least", 0)?;
    CHECK.import(py, "instep.checks", "check_integer")?.call((name, item), Some(&keywords))?;
    // What is larger is never reached.
    Ok(Some(item.extract().unwrap_or(u64::MAX)))
}
