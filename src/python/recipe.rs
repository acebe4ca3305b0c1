//! `Recipe`: one recipe at one instruction level, as Python sees it.

use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};

use super::call::{self, Call, Gradient, Parameter, Place};
use super::job::Work;
use super::plan::Plan;
use super::view::Quiet;
use crate::error::Error;
use crate::extras::Extras;
use crate::isa::Level;
use crate::recipes::{self, Recipe};
use crate::walk::{GRADIENT, PARAMETER};

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
    ///
    /// `around` is what is done around the rule: what the gradient is multiplied by, weight decay as
    /// a part of the gradient, and what the parameter is multiplied by first. Without it, gradients
    /// are arrays and no `Rows`. `update` is a dict and what to update it with after the step, with no
    /// room for a signal between the two.
    #[pyo3(signature = (hypers, params, grads, states, describe, around=None, update=None, /))]
    #[expect(
        clippy::too_many_arguments,
        clippy::needless_pass_by_value,
        reason = "what Python gives, without names to look up"
    )]
    fn step<'py>(
        &self,
        py: Python<'py>,
        hypers: Vec<f64>,
        params: &Bound<'py, PyTuple>,
        grads: &Bound<'py, PyTuple>,
        states: Vec<Bound<'py, PyTuple>>,
        describe: &Bound<'py, PyAny>,
        around: Option<(f64, f64, f64)>,
        update: Option<(Bound<'py, PyDict>, Bound<'py, PyDict>)>,
    ) -> PyResult<()> {
        let count = params.len();
        if states.len() != self.recipe.states.len()
            || grads.len() != count
            || states.iter().any(|state| state.len() != count)
        {
            let what = "params, grads and each state of the recipe must be tuples of one length";
            return Err(Error::Value(what.to_owned()).into());
        }
        let Some(coefficients) = self.recipe.coefficients(&hypers) else {
            let (has, wanted) = (hypers.len(), self.recipe.hypers);
            let what = format!("hypers has {has} numbers; wanted {wanted:?}");
            return Err(Error::Value(what).into());
        };
        let name = |place: Place| describe.call1((0, place.role, place.parameter))?.extract();
        let (mut parameters, mut gradients) =
            (Vec::with_capacity(count), Vec::with_capacity(count));
        for parameter in 0..count {
            let name = |role| name(Place { parameter, role });
            let array = |from: &Bound<'py, PyTuple>, role| {
                call::array(&from.get_item(parameter)?, || name(role))
            };
            let own = std::iter::once((params, PARAMETER))
                .chain(states.iter().zip(GRADIENT + 1..))
                .map(|(from, role)| array(from, role))
                .collect::<PyResult<Vec<_>>>()?;
            parameters.push(Parameter::new(own, 0));
            let gradient = grads.get_item(parameter)?;
            gradients.push(if gradient.is_none() || around.is_none() {
                Gradient::Dense(call::array(&gradient, || name(GRADIENT))?)
            } else {
                Gradient::given(&gradient, || name(GRADIENT))?
            });
        }
        let call = Call { parameters: &parameters, grads: &gradients, writes_gradients: false };
        let plan = Quiet::within(py, |quiet| Plan::of(&call, quiet));
        let mut plan = match plan {
            Ok(plan) => plan,
            Err(refusal) => return Err(refusal.into_error(py, &call, name)?.into()),
        };
        let (scale, weight_decay, shrink) = around.unwrap_or((1.0, 0.0, 1.0));
        let extras = Extras { scale, weight_decay, shrink, ..Extras::NONE };
        let (recipe, level) = self.compiled();
        let work = Work { recipe, level, coefficients, extras, clear_gradient: false };
        if plan.len() < DETACH_FROM {
            plan.run(&[work]);
        } else {
            py.detach(|| plan.run(&[work]));
        }
        update.map_or(Ok(()), |(dict, by)| dict.update(by.as_mapping()))
    }
}

impl PyRecipe {
    /// The recipe and its instruction level.
    pub(super) fn compiled(&self) -> (&'static Recipe, Level) {
        (self.recipe, self.level)
    }
}
