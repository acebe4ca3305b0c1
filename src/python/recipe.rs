//! `Recipe`: one recipe at one instruction level, as Python sees it.

use std::iter;

use pyo3::prelude::*;
use pyo3::types::PyTuple;

use super::arrays::{Arrays, Plan};
use crate::error::Error;
use crate::isa::Level;
use crate::rules::{self, MAX_HYPERS, Recipe};

/// Below this many elements a sweep is shorter than handing the interpreter over and back.
const DETACH_FROM: usize = 16_384;

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
        let recipe = rules::find(name)
            .ok_or_else(|| Error::Value(format!("name is {name:?}, which is no recipe")))?;
        let level = isa.map_or_else(Level::current, Level::named)?;
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
        params: &Bound<'py, PyTuple>,
        grads: &Bound<'py, PyTuple>,
        states: &Bound<'py, PyTuple>,
        describe: &Bound<'py, PyAny>,
    ) -> PyResult<()> {
        let mut numbers = [0.0; MAX_HYPERS];
        for (number, item) in iter::zip(&mut numbers, hypers.iter_borrowed()) {
            *number = item.extract()?;
        }
        let coefficients = numbers.get(..hypers.len()).and_then(|h| self.recipe.coefficients(h));
        let Some(coefficients) = coefficients else {
            let what =
                format!("hypers has {} numbers; wanted {:?}", hypers.len(), self.recipe.hypers);
            return Err(Error::Value(what).into());
        };
        let states =
            states.iter().map(Bound::cast_into::<PyTuple>).collect::<Result<Vec<_>, _>>()?;
        let roles: Vec<_> = [params, grads].into_iter().chain(&states).collect();
        if roles.len() != 2 + self.recipe.states.len()
            || roles.iter().any(|r| r.len() != params.len())
        {
            let what = "params, grads and each of the recipe's states must be tuples of one length";
            return Err(Error::Value(what.to_owned()).into());
        }
        let plan = Plan::check(&Arrays { roles, describe })?;
        if plan.len() < DETACH_FROM {
            plan.run(self.recipe, self.level, &coefficients);
        } else {
            py.detach(|| plan.run(self.recipe, self.level, &coefficients));
        }
        Ok(())
    }
}
