//! `TensorStepper`: steps of torch's tensors. Every step looks at everything again: tensors, the dicts of
//! their states and the memory of both may have changed since the step before.

use std::sync::Arc;
use std::{array, iter};

use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList, PyString, PyTuple, PyType};

use super::call::{Call, Gradient, Parameter};
use super::group::{SaidWork, Template};
use super::job::Work;
use super::once::Once;
use super::plan::Plan;
use super::recipe::DETACH_FROM;
use super::turn::{Turn, Turns};
use super::view::{Array, Dlpack, Quiet, Tensors};
use crate::team::Team;

static GRAD: Once<Py<PyString>> = Once::new();
static IS_NEG: Once<Py<PyString>> = Once::new();

/// The most numbers that go with a parameter: a count of steps, a product.
const MAX_NUMBERS: usize = 2;

/// Numbers, and whether they are of float64.
type Numbers = ([f64; MAX_NUMBERS], bool);

/// `TensorStepper(tensor, parameter, increment_version, /)`
///
/// Does the steps of an optimizer of torch whose tensors are dense, in this machine's memory, and of
/// float32 or float64. It is made of `torch.Tensor`, `torch.nn.Parameter` and
/// `torch.autograd.graph.increment_version`.
#[pyclass(frozen, module = "instep._instep")]
pub(super) struct TensorStepper {
    dlpack: Dlpack,
    increment_version: Py<PyAny>,
    /// The threads that torch computes with.
    team: Option<Team>,
    /// That of the last step, if it may serve the next.
    plan: Turns<Option<Plan>>,
}

/// A group of parameters: they, and under which keys their state has numbers and arrays.
type Group<'py> = (Bound<'py, PyList>, Bound<'py, PyTuple>, Bound<'py, PyTuple>);

/// What Python says of the next step of parameters with certain numbers: what to do, the learning
/// rate, and the numbers after it.
type Said<'py> = (SaidWork<'py>, f64, Vec<f64>);

/// A parameter that is to be stepped.
struct Member {
    group: usize,
    /// How many arrays it has, itself the first, and how many numbers.
    arrays: usize,
    numbers: usize,
}

/// The states of an optimizer. Asked for in their order, a tensor need not be hashed, which is Python.
struct States<'a, 'py> {
    of: &'a Bound<'py, PyDict>,
    rest: std::vec::IntoIter<(Bound<'py, PyAny>, Bound<'py, PyAny>)>,
}

impl<'py> States<'_, 'py> {
    /// The state of a parameter, if it has one.
    fn take(&mut self, parameter: &Bound<'py, PyAny>) -> PyResult<Option<Bound<'py, PyDict>>> {
        let state = match self.rest.next() {
            Some((key, state)) if key.is(parameter) => Some(state),
            _ => self.of.get_item(parameter)?,
        };
        Ok(state.and_then(|state| state.cast_into().ok()))
    }
}

/// What there is to step.
#[derive(Default)]
struct Found<'py> {
    members: Vec<Member>,
    gradients: Vec<Bound<'py, PyAny>>,
    /// Of each member in order.
    arrays: Vec<Bound<'py, PyAny>>,
    numbers: Vec<Bound<'py, PyAny>>,
    /// The parameters that have no state yet, and those that are not for this code.
    fresh: Vec<Bound<'py, PyAny>>,
    foreign: Vec<Bound<'py, PyAny>>,
}

/// Parameters without a state, parameters for torch's own code, and how many were stepped.
type Outcome<'py> = (Vec<Bound<'py, PyAny>>, Vec<Bound<'py, PyAny>>, usize);

#[pymethods]
impl TensorStepper {
    #[new]
    #[pyo3(signature = (tensor, parameter, increment_version, /))]
    fn new(
        tensor: Bound<'_, PyType>,
        parameter: Bound<'_, PyType>,
        increment_version: Py<PyAny>,
    ) -> PyResult<Self> {
        let dlpack = Dlpack::of([tensor, parameter])?;
        let team = Team::of_openmp();
        Ok(Self { dlpack, increment_version, team, plan: Turns::default() })
    }

    /// The next step of all parameters that have a gradient, in place: all of it or none.
    ///
    /// `groups` has, for each group, its parameters and the keys of the numbers and arrays in their
    /// states; `prepare` is called with the place of a group, numbers, and whether they are of
    /// float64, and says what to do.
    ///
    /// Returns the parameters that have no state yet, those that are not for this code, and the number
    /// of those that were stepped: none, if there are any of the others.
    #[pyo3(signature = (groups, state, prepare, /))]
    #[expect(clippy::needless_pass_by_value, reason = "what Python gives")]
    fn step<'py>(
        &self,
        groups: Vec<Group<'py>>,
        state: &Bound<'py, PyDict>,
        prepare: &Bound<'py, PyAny>,
    ) -> PyResult<Outcome<'py>> {
        let py = state.py();
        let found = self.find(&groups, state)?;
        if !found.fresh.is_empty() || !found.foreign.is_empty() || found.members.is_empty() {
            return Ok((found.fresh, found.foreign, 0));
        }
        let mut again = false;
        loop {
            // All that may run Python code comes before the last look.
            let before = match self.numbers(&found) {
                Ok((_, before)) => before,
                Err(member) => return Ok(found.refused(Some(member))),
            };
            let prepared = Prepared::of(&groups, &found, &before, prepare)?;
            let written = PyList::new(py, found.arrays.iter().chain(&found.numbers))?;
            if let Err(error) = self.increment_version.call1(py, (written,)) {
                // Tensors that can't be written here: torch's own code says so.
                let known = error.is_instance_of::<PyRuntimeError>(py);
                return if known { Ok(found.refused(None)) } else { Err(error) };
            }
            let mut turn = Turn::take(py, &self.plan, again);
            let (numbers, now) = match self.numbers(&found) {
                Ok(numbers) => numbers,
                Err(member) => return Ok(found.refused(Some(member))),
            };
            let bits = |(numbers, is_double): &Numbers| (numbers.map(f64::to_bits), *is_double);
            if !now.iter().map(bits).eq(before.iter().map(bits)) {
                // Another thread was first.
                again = true;
                continue;
            }
            let (parameters, grads) = match self.look(&found, &prepared.own) {
                Ok(arrays) => arrays,
                Err(member) => return Ok(found.refused(Some(member))),
            };
            let call = Call { parameters: &parameters, grads: &grads, writes_gradients: false };
            let kept = turn.state.take();
            let plan = Quiet::within(py, |quiet| Plan::kept_or_of(kept, &call, quiet));
            let Ok(mut plan) = plan else {
                return Ok(found.refused(None));
            };
            let members = &found.members;
            Quiet::within(py, |quiet| {
                let after = iter::zip(members, &prepared.own)
                    .flat_map(|(member, own)| &prepared.after[*own][..member.numbers]);
                after.enumerate().for_each(|(at, number)| numbers.set_number(at, *number, quiet));
            });
            let works = &prepared.works;
            if plan.len() < DETACH_FROM {
                plan.run(works)?;
            } else {
                py.detach(|| Team::within(self.team, || plan.run(works)))?;
            }
            *turn.state = Some(plan);
            return Ok((Vec::new(), Vec::new(), found.members.len()));
        }
    }
}

impl TensorStepper {
    /// What has a gradient; Python code may run.
    fn find<'py>(&self, groups: &[Group<'py>], state: &Bound<'py, PyDict>) -> PyResult<Found<'py>> {
        let py = state.py();
        let mut found = Found::default();
        let mut states = States { of: state, rest: state.iter().collect::<Vec<_>>().into_iter() };
        for (group, (parameters, numbers, arrays)) in groups.iter().enumerate() {
            for parameter in parameters.iter() {
                let gradient = parameter.getattr(GRAD.name(py, "grad"))?;
                if gradient.is_none() {
                    continue;
                }
                if !(self.is_plain(&parameter)? && self.is_plain(&gradient)?) {
                    found.foreign.push(parameter);
                    continue;
                }
                found.arrays.push(parameter.clone());
                let is_there = if numbers.is_empty() && arrays.is_empty() {
                    Some(true)
                } else if let Some(own) = states.take(&parameter)? {
                    let them = self.take(&own, numbers, &mut found.numbers)?;
                    if them == Some(true) {
                        self.take(&own, arrays, &mut found.arrays)?
                    } else {
                        them
                    }
                } else {
                    None
                };
                match is_there {
                    Some(true) => {
                        let (arrays, numbers) = (1 + arrays.len(), numbers.len());
                        found.members.push(Member { group, arrays, numbers });
                        found.gradients.push(gradient);
                    }
                    Some(false) => found.foreign.push(parameter),
                    None => found.fresh.push(parameter),
                }
            }
        }
        Ok(found)
    }

    /// Whether an object is a tensor of no subclass, with what it stands for in its memory: that may have
    /// the other sign there, which no look at the memory tells.
    fn is_plain(&self, object: &Bound<'_, PyAny>) -> PyResult<bool> {
        let is_neg = IS_NEG.name(object.py(), "is_neg");
        // A method of torch's own, which runs no Python code.
        Ok(self.dlpack.is_plain(object) && !object.call_method0(is_neg)?.is_truthy()?)
    }

    /// Takes tensors out of the state of a parameter: whether all are plain ones, and `None` if one
    /// is not there.
    fn take<'py>(
        &self,
        own: &Bound<'py, PyDict>,
        keys: &Bound<'py, PyTuple>,
        to: &mut Vec<Bound<'py, PyAny>>,
    ) -> PyResult<Option<bool>> {
        for key in keys.iter_borrowed() {
            match own.get_item(key)?.filter(|item| !item.is_none()) {
                Some(item) if self.is_plain(&item)? => to.push(item),
                Some(_) => return Ok(Some(false)),
                None => return Ok(None),
            }
        }
        Ok(Some(true))
    }

    /// A look at the numbers, and what they are; or the first member whose are not of this kind.
    fn numbers(&self, found: &Found<'_>) -> Result<(Tensors, Vec<Numbers>), usize> {
        let mut tensors = Tensors::with_capacity(found.numbers.len());
        let mut all = Vec::with_capacity(found.members.len());
        let mut objects = found.numbers.iter();
        for (at, member) in found.members.iter().enumerate() {
            let mut numbers = Numbers::default();
            for (number, object) in iter::zip(&mut numbers.0[..member.numbers], &mut objects) {
                let place = tensors.look(&self.dlpack, object).ok_or(at)?;
                (*number, numbers.1) =
                    Quiet::within(object.py(), |quiet| tensors.number(place, quiet)).ok_or(at)?;
            }
            all.push(numbers);
        }
        Ok((tensors, all))
    }

    /// The arrays of the call, after a look at each; or the first member whose are not of this kind.
    fn look(
        &self,
        found: &Found<'_>,
        own: &[usize],
    ) -> Result<(Vec<Parameter>, Vec<Gradient>), usize> {
        let mut tensors = Tensors::with_capacity(found.arrays.len() + found.gradients.len());
        let mut objects = found.arrays.iter();
        for (at, (member, gradient)) in iter::zip(&found.members, &found.gradients).enumerate() {
            for object in iter::once(gradient).chain(objects.by_ref().take(member.arrays)) {
                tensors.look(&self.dlpack, object).ok_or(at)?;
            }
        }
        let tensors = Arc::new(tensors);
        let mut places = 0_u32..;
        let array = |at| Array::Torch(Arc::clone(&tensors), at);
        let (mut parameters, mut grads) =
            (Vec::with_capacity(own.len()), Vec::with_capacity(own.len()));
        for (member, own) in iter::zip(&found.members, own) {
            grads.extend(places.next().map(|at| Gradient::Dense(array(at))));
            let arrays = places.by_ref().take(member.arrays);
            parameters.push(Parameter::new(arrays.map(array), *own));
        }
        Ok((parameters, grads))
    }
}

impl<'py> Found<'py> {
    /// The answer that one of the members, or that all are for torch's own code.
    fn refused(mut self, which: Option<usize>) -> Outcome<'py> {
        let mut first = 0;
        for (at, member) in self.members.iter().enumerate() {
            if which.is_none_or(|which| which == at) {
                self.foreign.push(self.arrays[first].clone());
            }
            first += member.arrays;
        }
        (self.fresh, self.foreign, 0)
    }
}

/// What the step does, before its turn.
struct Prepared {
    /// For each member, which of the works is its own.
    own: Vec<usize>,
    works: Vec<Work>,
    /// The numbers after the step, for each of the works.
    after: Vec<[f64; MAX_NUMBERS]>,
}

impl Prepared {
    fn of(
        groups: &[Group<'_>],
        found: &Found<'_>,
        numbers: &[Numbers],
        prepare: &Bound<'_, PyAny>,
    ) -> PyResult<Self> {
        let py = prepare.py();
        let mut prepared = Self {
            own: Vec::with_capacity(found.members.len()),
            works: Vec::with_capacity(groups.len()),
            after: Vec::with_capacity(groups.len()),
        };
        let mut keys = Vec::with_capacity(groups.len());
        for (member, numbers) in iter::zip(&found.members, numbers) {
            let key = (member.group, *numbers);
            let place = keys.iter().rposition(|known| *known == key).unwrap_or(keys.len());
            prepared.own.push(place);
            if place < keys.len() {
                continue;
            }
            keys.push(key);
            let (numbers, is_double) = numbers;
            let numbers = PyTuple::new(py, &numbers[..member.numbers])?;
            let (work, rate, after) =
                prepare.call1((member.group, numbers, is_double))?.extract::<Said<'_>>()?;
            let template = Template::of(work, rate, false, Vec::new())?;
            let [work, _] = template.works(rate, 0, 1.0)?;
            prepared.works.push(work);
            prepared.after.push(array::from_fn(|k| after.get(k).copied().unwrap_or_default()));
        }
        Ok(prepared)
    }
}
