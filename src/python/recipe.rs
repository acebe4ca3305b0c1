//! `Recipe`: one recipe at one instruction level, as Python sees it.

use std::iter;

use pyo3::prelude::*;
use pyo3::types::PyTuple;

use super::arrays::Work;
use super::plan::{Call, Group, Plan};
use crate::error::Error;
use crate::extras::Extras;
use crate::isa::Level;
use crate::recipes::{self, Recipe};
use crate::rules::MAX_HYPERS;

/// Below this many elements a sweep is shorter than handing the interpreter over and back.
pub(super) const DETACH_FROM: usize = 16_384;

/// Recipe(name, isa=None)
/// --
///
/// A compiled recipe: a rule in one order of its operations, at one instruction level.
#[pyclass(name = "Recipe", frozen, module = "instep._instep")]
pub(super) struct PyRecipe {
    recipe: &'static Recipe,
    level: Level,
}

#[pymethods]
impl PyRecipe {
    #[new]
    #[pyo3(signature = (name, isa=None))]
    fn new(name: &str, isa: Option<&str>) -> Result<Self, Error> {
        let recipe = recipes::find(name)
            .ok_or_else(|| Error::Value(format!("name is {name:?}, which is no recipe")))?;
        let level = match isa {
            Some(word) => {
                Level::named(word).map_err(|error| Error::Value(format!("isa {error}")))?
            }
            None => Level::current()?,
        };
        Ok(Self { recipe, level })
    }

    /// The recipe's name.
    #[getter]
    fn name(&self) -> &'static str {
        self.recipe.name
    }

    /// The hyper-parameters' names, in the order in which `step` takes them.
    #[getter]
    fn hypers<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        PyTuple::new(py, self.recipe.hypers)
    }

    /// The state arrays' names, in the order in which `step` takes them.
    #[getter]
    fn states<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        PyTuple::new(py, self.recipe.states)
    }

    /// The instruction level.
    #[getter]
    fn isa(&self) -> &'static str {
        self.level.name()
    }

    /// One step over all parameters, in place: all of it, or an exception and none of it.
    #[pyo3(signature = (hypers, params, grads, states, describe, /))]
    fn step<'py>(
        &self,
        py: Python<'py>,
        hypers: &Bound<'py, PyTuple>,
        params: Bound<'py, PyTuple>,
        grads: Bound<'py, PyTuple>,
        states: Vec<Bound<'py, PyTuple>>,
        describe: Bound<'py, PyAny>,
    ) -> PyResult<()> {
        let work = self.work(hypers, Extras::NONE, false)?;
        let group = Group::new(work, params, grads, states, None)?;
        let mut plan =
            Plan::check(&Call { groups: vec![group], describe, optional_gradients: false })?;
        if plan.len() < DETACH_FROM {
            plan.run(1.0);
        } else {
            py.detach(|| plan.run(1.0));
        }
        Ok(())
    }
}

impl PyRecipe {
    /// The work of one step with these numbers.
    pub(super) fn work(
        &self,
        hypers: &Bound<'_, PyTuple>,
        extras: Extras,
        clear_gradient: bool,
    ) -> PyResult<Work> {
        let mut numbers = [0.0; MAX_HYPERS];
        for (number, item) in iter::zip(&mut numbers, hypers.iter_borrowed()) {
            *number = item.extract()?;
        }
        let (recipe, level) = (self.recipe, self.level);
        let coefficients = numbers.get(..hypers.len()).and_then(|h| recipe.coefficients(h));
        let Some(coefficients) = coefficients else {
            let what = format!("hypers has {} numbers; wanted {:?}", hypers.len(), recipe.hypers);
            return Err(Error::Value(what).into());
        };
        Ok(Work { recipe, level, coefficients, extras, clear_gradient })
    }
}
