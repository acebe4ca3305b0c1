//! `Recipe`: one recipe at one instruction level, as Python sees it.

use std::sync::Arc;

use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};

use super::call::{self, Call, Gradient, Parameter, Place};
use super::checks::Refusal;
use super::job::Work;
use super::plan::Plan;
use super::rule::Rule;
use super::storage;
use super::view::Quiet;
use crate::error::Error;
use crate::extras::Extras;
use crate::isa::Level;
use crate::program::{Formula, Program};
use crate::recipes;
use crate::walk::{GRADIENT, PARAMETER};

/// Below this many elements a sweep is shorter than handing the interpreter over and back.
pub(super) const DETACH_FROM: usize = 16_384;

/// Recipe(name, isa=None)
/// --
///
/// A compiled recipe: a rule in one order of its operations, at one instruction level.
#[pyclass(name = "Recipe", frozen, module = "instep._instep")]
pub(super) struct PyRecipe {
    rule: Rule,
    level: Level,
}

#[pymethods]
impl PyRecipe {
    #[new]
    #[pyo3(signature = (name, isa=None))]
    fn new(name: &str, isa: Option<&str>) -> Result<Self, Error> {
        let recipe = recipes::find(name)
            .ok_or_else(|| Error::Value(format!("name is {name:?}, which is not a recipe")))?;
        Ok(Self { rule: Rule::Recipe(recipe), level: level(isa)? })
    }

    /// The program of a formula: its name; the names of its numbers and of its states; constants, operations
    /// on numbers and on arrays; which values are the new arrays; which numbers are
    /// norms of which arrays; and the recipe that it is, if any.
    #[staticmethod]
    #[pyo3(signature = (name, hypers, states, constants, numbers, values, outputs, norms, recipe=None, isa=None))]
    #[expect(clippy::too_many_arguments, reason = "what a formula has")]
    fn of_formula(
        name: String,
        hypers: Vec<String>,
        states: Vec<String>,
        constants: Vec<f64>,
        numbers: Vec<(String, Vec<usize>, String)>,
        values: Vec<(String, Vec<usize>)>,
        outputs: Vec<usize>,
        norms: Vec<(usize, usize)>,
        recipe: Option<(String, Vec<usize>, Vec<usize>)>,
        isa: Option<&str>,
    ) -> Result<Self, Error> {
        let formula =
            Formula { name, hypers, states, constants, numbers, values, outputs, norms, recipe };
        let program = Program::new(formula).map_err(Error::Value)?;
        Ok(Self { rule: Rule::Program(Arc::new(program)), level: level(isa)? })
    }

    /// The instructions of a program, one a line; the name of a recipe.
    #[getter]
    fn listing(&self) -> String {
        match &self.rule {
            Rule::Recipe(recipe) => recipe.name.to_owned(),
            Rule::Program(program) => program.to_string(),
        }
    }

    /// The recipe's name.
    #[getter]
    fn name(&self) -> &str {
        self.rule.name()
    }

    /// The hyper-parameters' names, in the order in which `step` takes them.
    #[getter]
    fn hypers<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        PyTuple::new(py, self.rule.hypers())
    }

    /// The state arrays' names, in the order in which `step` takes them.
    #[getter]
    fn states<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        PyTuple::new(py, self.rule.states())
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
    /// room for a signal between the two. `storages` says how the arrays of each parameter are stored,
    /// with what else there is of it after its states, the number of the step and the seed.
    #[pyo3(signature = (
        hypers, params, grads, states, describe, around=None, update=None, storages=None, /
    ))]
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
        storages: Option<(Vec<storage::Said>, u64, u64)>,
    ) -> PyResult<()> {
        let rule = self.rule.bind(&hypers)?;
        let count = params.len();
        let (storages, t, seed) = storages.unwrap_or_default();
        let beside = storages.first().map(storage::beside).transpose()?.unwrap_or(0);
        if states.len() != rule.states() + beside
            || !storages.is_empty() && storages.len() != count
            || grads.len() != count
            || states.iter().any(|state| state.len() != count)
        {
            let what =
                "params, grads and each state of the recipe must be tuples of the same length";
            return Err(Error::Value(what.to_owned()).into());
        }
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
            parameters.push(match storages.get(parameter) {
                Some(said) => Parameter::stored(own, 0, said)?,
                None => Parameter::new(own, 0),
            });
            let gradient = grads.get_item(parameter)?;
            gradients.push(if gradient.is_none() || around.is_none() {
                Gradient::Dense(call::array(&gradient, || name(GRADIENT))?)
            } else {
                Gradient::given(gradient, || name(GRADIENT))?
            });
        }
        let call = Call { parameters: &parameters, grads: &gradients, writes_gradients: false };
        let plan = Quiet::within(py, |quiet| Plan::of(&call, quiet));
        let (scale, weight_decay, shrink) = around.unwrap_or((1.0, 0.0, 1.0));
        let extras = Extras { scale, weight_decay, shrink, ..Extras::NONE };
        let work = Work { rule, level: self.level, extras, clear_gradient: false, t, seed };
        run(py, &call, plan, work, name)?;
        update.map_or(Ok(()), |(dict, by)| dict.update(by.as_mapping()))
    }
}

/// One step of a plan, if the call is not refused; `name` is what the caller calls an array.
///
/// # Errors
/// Before anything is written: the refusal, and what [`Plan::run`] has.
pub(super) fn run(
    py: Python<'_>,
    call: &Call<'_>,
    plan: Result<Plan, Refusal>,
    work: Work,
    name: impl Fn(Place) -> PyResult<String>,
) -> PyResult<Plan> {
    let mut plan = match plan {
        Ok(plan) => plan,
        Err(refusal) => return Err(refusal.into_error(py, call, name)?.into()),
    };
    if plan.len() < DETACH_FROM {
        plan.run(&[work])?;
    } else {
        py.detach(|| plan.run(&[work]))?;
    }
    Ok(plan)
}

impl PyRecipe {
    /// The rule and its instruction level.
    pub(super) fn compiled(&self) -> (&Rule, Level) {
        (&self.rule, self.level)
    }
}

fn level(isa: Option<&str>) -> Result<Level, Error> {
    match isa {
        Some(word) => Level::named(word).map_err(|error| Error::Value(format!("isa {error}"))),
        None => Level::current(),
    }
}
