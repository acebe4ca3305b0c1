//! `DictUpdate`: an update function of the course, from its dicts of arrays to the step.

use std::sync::Mutex;
use std::{iter, mem};

use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};

use super::call::{Call, Gradient, Parameter, Place, plain};
use super::group::number;
use super::job::Work;
use super::plan::Plan;
use super::power::power;
use super::recipe::{self, PyRecipe};
use super::state::lock;
use super::view::{Array, Quiet};
use crate::extras::Extras;
use crate::program::MAX_HYPERS;
use crate::walk::MAX_ROLES;

/// `DictUpdate(recipe, numbers, dicts)`
///
/// A recipe for arrays in dicts, `{"W1", "b1", ...}` and `{"dW1", "db1", ...}`.
///
/// `numbers` has the name of each number that a step is given and what it has to be below; the powers of
/// `t` in the recipe follow from them. `dicts` is what takes the arrays out of other mappings, and names
/// them in errors.
#[pyclass(frozen, module = "instep._instep")]
pub(super) struct DictUpdate {
    recipe: Py<PyRecipe>,
    numbers: Vec<(String, f64)>,
    /// Which numbers have a power of `t` each, in the order in which those end the recipe's.
    bases: Vec<usize>,
    /// How many dicts a step is given.
    count: usize,
    dicts: Py<PyAny>,
    /// The key of each parameter, then that of its gradient and states: as many as were needed yet.
    keys: Mutex<Py<PyTuple>>,
    /// The plan of the last step: of where its arrays were and what they were like, not of the arrays.
    plan: Mutex<Option<Plan>>,
}

/// What a step is given: dicts; the step number, if there are powers; and numbers.
type Given<'a, 'py> = &'a Bound<'py, PyTuple>;

#[pymethods]
impl DictUpdate {
    #[new]
    fn new(
        py: Python<'_>,
        recipe: Py<PyRecipe>,
        numbers: Vec<(String, f64)>,
        dicts: Py<PyAny>,
    ) -> Self {
        let rule = recipe.get().compiled().0;
        let bases = rule.powers().into_iter().map(|(_, base)| base).collect();
        let count = 2 + rule.states().len();
        let keys = Mutex::new(PyTuple::empty(py).unbind());
        Self { recipe, numbers, bases, count, dicts, keys, plan: Mutex::default() }
    }

    /// The numbers of the recipe, after a look at each that is given: the step number, if it has powers
    /// of it, and those of the function.
    #[pyo3(signature = (*given))]
    fn hypers<'py>(&self, given: &Bound<'py, PyTuple>) -> PyResult<Bound<'py, PyTuple>> {
        let (hypers, count) = self.checked(given, 0)?;
        PyTuple::new(given.py(), &hypers[..count])
    }

    /// One step over the arrays of dicts, in place: all of it, or an exception and none of it.
    ///
    /// It is given the parameters, the gradients, each state, and what `hypers` is given.
    #[pyo3(signature = (*given))]
    fn step(&self, given: &Bound<'_, PyTuple>) -> PyResult<()> {
        let py = given.py();
        let (hypers, count) = self.checked(given, self.count)?;
        let hypers = &hypers[..count];
        let Some((parameters, grads)) = self.arrays(given)? else {
            // Other mappings, subclasses of arrays, and errors are Python's.
            let hypers = PyTuple::new(py, hypers)?;
            let dicts = given.get_slice(0, self.count);
            return self
                .dicts
                .bind(py)
                .call_method1("step", (&self.recipe, hypers, dicts))
                .map(drop);
        };
        let name = |place: Place| {
            let place = (0, place.role, place.parameter);
            self.dicts.bind(py).call_method1("describe", place)?.extract()
        };
        let (rule, level) = self.recipe.get().compiled();
        let rule = rule.bind(hypers)?;
        let extras = Extras::NONE;
        let work = Work { rule, level, extras, clear_gradient: false, t: 0, seed: 0 };
        let call = Call { parameters: &parameters, grads: &grads, writes_gradients: false };
        let kept = lock(&self.plan).take();
        let plan = Quiet::within(py, |quiet| Plan::kept_or_of(kept, &call, quiet));
        let plan = recipe::run(py, &call, plan, work, name)?;
        *lock(&self.plan) = Some(plan);
        for (parameter, gradient) in iter::zip(parameters, grads) {
            parameter.drop_ref(py);
            gradient.drop_ref(py);
        }
        Ok(())
    }
}

impl DictUpdate {
    /// The numbers of the recipe and how many they are, from what is given from `first` on.
    fn checked(
        &self,
        given: Given<'_, '_>,
        mut first: usize,
    ) -> PyResult<([f64; MAX_HYPERS], usize)> {
        let mut hypers = [0.0; MAX_HYPERS];
        let t = if self.bases.is_empty() {
            None
        } else {
            first += 1;
            Some(given.get_borrowed_item(first - 1)?.extract::<f64>()?)
        };
        for (k, (name, below)) in self.numbers.iter().enumerate() {
            let given = given.get_borrowed_item(first + k)?;
            hypers[k] = number(&given, name, 0.0, *below)?;
        }
        let own = self.numbers.len();
        let count = own + self.bases.len();
        if let Some(t) = t {
            let mut bases = [0.0; MAX_HYPERS];
            for (to, &base) in bases.iter_mut().zip(&self.bases) {
                *to = hypers[base];
            }
            power(given.py(), &bases[..self.bases.len()], t, &mut hypers[own..count])?;
        }
        Ok((hypers, count))
    }

    /// The arrays, if they are plain arrays in plain dicts that have the right keys.
    fn arrays(&self, given: Given<'_, '_>) -> PyResult<Option<(Vec<Parameter>, Vec<Gradient>)>> {
        let py = given.py();
        let mut dicts = Vec::with_capacity(self.count);
        for dict in given.iter_borrowed().take(self.count) {
            let Ok(dict) = dict.cast_exact::<PyDict>() else { return Ok(None) };
            dicts.push(dict);
        }
        let &[parameters, grads, ref states @ ..] = dicts.as_slice() else { return Ok(None) };
        let count = parameters.len();
        if count % 2 == 1 {
            // Half a layer.
            return Ok(None);
        }
        let keys = self.keys(py, count)?;
        let mut own = Vec::with_capacity(count);
        let mut gradients = Vec::with_capacity(count);
        for k in 0..count {
            let (key, other) = (keys.get_borrowed_item(2 * k)?, keys.get_borrowed_item(2 * k + 1)?);
            let (Some(p), Some(g)) = (array(parameters, key)?, array(grads, other)?) else {
                return Ok(None);
            };
            let mut arrays = [const { None }; MAX_ROLES - 1];
            arrays[0] = Some(p);
            for (to, state) in iter::zip(&mut arrays[1..], states) {
                *to = array(*state, other)?;
                if to.is_none() {
                    return Ok(None);
                }
            }
            own.push(Parameter::with_arrays(arrays, 0));
            gradients.push(Gradient::Dense(g));
        }
        Ok(Some((own, gradients)))
    }

    /// The keys of so many parameters, or of more.
    fn keys<'py>(&self, py: Python<'py>, count: usize) -> PyResult<Bound<'py, PyTuple>> {
        let known = lock(&self.keys).bind(py).clone();
        if known.len() >= 2 * count {
            return Ok(known);
        }
        let keys = self.dicts.bind(py).call_method1("keys", (count,))?;
        let keys = keys.cast_into::<PyTuple>()?;
        let replaced = mem::replace(&mut *lock(&self.keys), keys.clone().unbind());
        drop(replaced);
        Ok(keys)
    }
}

/// The value of a key, if there is one and it is a plain array.
#[inline]
fn array(dict: Borrowed<'_, '_, PyDict>, key: Borrowed<'_, '_, PyAny>) -> PyResult<Option<Array>> {
    let Some(item) = dict.get_item(key)? else { return Ok(None) };
    plain(item).map(Result::ok)
}
