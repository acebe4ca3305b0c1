//! `Stepper`: the arrays and options of an optimizer, and all that changes them.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::{iter, mem};

use numpy::PyUntypedArray;
use pyo3::exceptions::PyRuntimeError;
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};

use super::begun::{BegunStep, Numbers, check, with_addends};
use super::call::{self, Call, Gradient, Kind, Parameter, Place};
use super::group::Template;
use super::plan::Plan;
use super::prepared::Prepared;
use super::recipe::DETACH_FROM;
use super::result::StepResult;
use super::setup::{Root, Setup, describe};
use super::state::{Shared, State, Updates, conclude, lock, update};
use super::step::{Arguments, Asked};
use super::storage;
use super::turn::Turn;
use super::view::Quiet;
use crate::error::Error;
use crate::walk::{GRADIENT, PARAMETER};

/// `Stepper(is_list, t)`
///
/// The parameters of an optimizer with their states and averages, and the number of steps done.
#[pyclass(frozen, module = "instep._instep")]
pub(super) struct Stepper {
    shared: Arc<Shared>,
    /// For each group, what came of its options when they were last looked at.
    templates: Mutex<Vec<Option<Arc<Template>>>>,
    zero_grads: AtomicBool,
}

#[pymethods]
impl Stepper {
    #[new]
    fn new(is_list: bool, t: u64) -> Self {
        Self {
            shared: Arc::new(Shared::new(Setup { is_list, ..Setup::default() }, t)),
            templates: Mutex::default(),
            zero_grads: AtomicBool::new(false),
        }
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        // What a thread holds at this moment looks as if it were held from elsewhere.
        if let Ok(setup) = self.shared.setup.try_lock() {
            setup.traverse(&visit)?;
        }
        if let Ok(templates) = self.templates.try_lock() {
            templates.iter().flatten().try_for_each(|template| template.traverse(&visit))?;
        }
        Ok(())
    }

    fn __clear__(&self) {
        // What they held goes when they are free again: it may run Python code.
        let setup = mem::take(&mut *lock(&self.shared.setup));
        let templates = mem::take(&mut *lock(&self.templates));
        drop((setup, templates));
    }

    /// The number of steps done.
    #[getter]
    fn t(&self) -> u64 {
        self.shared.count()
    }

    #[setter]
    fn set_t(&self, t: u64) {
        self.shared.t.store(t, Ordering::Relaxed);
        self.forget();
    }

    /// What the noise that rounds depends on.
    #[getter]
    fn seed(&self) -> u64 {
        self.shared.seed.load(Ordering::Relaxed)
    }

    #[setter]
    fn set_seed(&self, seed: u64) {
        self.shared.seed.store(seed, Ordering::Relaxed);
    }

    /// Whether a step sets the gradients to zero after use.
    #[getter]
    fn zero_grads(&self) -> bool {
        self.zero_grads.load(Ordering::Relaxed)
    }

    #[setter]
    fn set_zero_grads(&self, zero_grads: bool) {
        self.zero_grads.store(zero_grads, Ordering::Relaxed);
    }

    /// How often the arrays were changed, and are about to be: as long as it stays the same, what is
    /// read of them is of one moment.
    #[getter]
    fn changes(&self, py: Python<'_>) -> u64 {
        let _turn = Turn::take(py, &self.shared.state, false);
        self.shared.changes.load(Ordering::SeqCst)
    }

    /// The number of steps that were skipped since the last that was not.
    #[getter]
    fn skips(&self, py: Python<'_>) -> u64 {
        Turn::take(py, &self.shared.state, false).state.skips
    }

    #[setter]
    fn set_skips(&self, py: Python<'_>, skips: u64) {
        Turn::take(py, &self.shared.state, false).state.skips = skips;
    }

    /// Whether the parameters hold their averages.
    #[getter]
    fn averages_are_in(&self, py: Python<'_>) -> bool {
        Turn::take(py, &self.shared.state, false).state.averages_in.is_some()
    }

    /// Adds a group: its options are looked at in each step.
    fn add_group(&self, py: Python<'_>, options: Py<PyDict>) {
        self.change(py, |setup| setup.groups.push(options));
        lock(&self.templates).push(None);
    }

    /// Adds the parameters of a tree.
    ///
    /// `skeleton` has None for every leaf. `arrays` has, for each leaf, the parameter, its states, what
    /// there is beside it, the exponents of states in 8 bits, and its average if one is kept; `works` the number of its group, and whether weights decay;
    /// `storages` how it is stored, or None for one whose arrays all have its own dtype.
    fn add_parameters(
        &self,
        py: Python<'_>,
        skeleton: &Bound<'_, PyAny>,
        params: Bound<'_, PyAny>,
        arrays: Vec<Vec<Py<PyUntypedArray>>>,
        works: Vec<(usize, bool)>,
        storages: Vec<Option<storage::Said>>,
    ) -> PyResult<()> {
        let mut parameters = Vec::with_capacity(arrays.len());
        for ((arrays, (group, decays)), storage) in iter::zip(iter::zip(arrays, works), storages) {
            let work = 2 * group + usize::from(!decays);
            parameters.push(match storage {
                Some(said) => Parameter::stored(arrays, work, &said)?,
                None => Parameter::new(arrays, work),
            });
        }
        let root = Root::new(skeleton, params, &parameters)?;
        self.change(py, |setup| setup.add(root, parameters));
        Ok(())
    }

    /// Sets for every parameter whether steps leave it unchanged.
    fn set_frozen(&self, py: Python<'_>, frozen: Vec<bool>) {
        self.change(py, |setup| setup.frozen = frozen);
    }

    /// The next step, in place: all of it, or an exception and none of it.
    #[pyo3(signature = (
        optimizer, grads, lr, grad_scale, max_norm, max_array_norm, max_value, nonfinite, max_skips, /
    ))]
    #[expect(clippy::too_many_arguments, reason = "a step's own, without names to look up")]
    fn step<'py>(
        &self,
        optimizer: &Bound<'py, PyAny>,
        grads: &Bound<'py, PyAny>,
        lr: &Bound<'py, PyAny>,
        grad_scale: &Bound<'py, PyAny>,
        max_norm: &Bound<'py, PyAny>,
        max_array_norm: &Bound<'py, PyAny>,
        max_value: &Bound<'py, PyAny>,
        nonfinite: &Bound<'py, PyAny>,
        max_skips: &Bound<'py, PyAny>,
    ) -> PyResult<StepResult> {
        let asked =
            Arguments { grad_scale, max_norm, max_array_norm, max_value, nonfinite, max_skips };
        let asked = Asked::of(&asked)?;
        let py = optimizer.py();
        let me = thread::current().id();
        let mut again = false;
        loop {
            let setup = Arc::clone(&lock(&self.shared.setup));
            let done = self.t();
            // All that may run Python code comes before the turn.
            let works =
                Prepared::of(&self.templates, optimizer, &setup, lr, done + 1, asked.grad_scale)?;
            let grads = setup.gradients(optimizer, grads)?;
            let turn = Turn::take(py, &self.shared.state, again);
            if self.t() == done && Arc::ptr_eq(&setup, &lock(&self.shared.setup)) {
                let done = self.take_turn(optimizer, &setup, works, &grads, &asked, turn);
                for gradient in grads {
                    gradient.drop_ref(py);
                }
                return done;
            }
            if turn.state.last == Some(me) {
                let (t, next) = (done + 1, self.t() + 1);
                let why = "a learning rate or a signal handler has stepped the optimizer";
                let what = format!("step {t} was prepared, and step {next} is next: {why}");
                return Err(PyRuntimeError::new_err(what));
            }
            // Another thread was first: the numbers are those of a step that it has done.
            again = true;
        }
    }

    /// The next step, checked as a whole; the caller does it piece by piece.
    ///
    /// `addends` has for each parameter arrays like its gradient, which are added to it in order: in its
    /// dtype, or as float32 if it has 16 bits. Nothing is added to None.
    #[pyo3(signature = (
        optimizer, grads, lr, grad_scale, max_norm, max_array_norm, max_value, nonfinite, max_skips,
        addends = None, /
    ))]
    #[expect(clippy::too_many_arguments, reason = "those of a step")]
    fn begin<'py>(
        &self,
        optimizer: &Bound<'py, PyAny>,
        grads: &Bound<'py, PyAny>,
        lr: &Bound<'py, PyAny>,
        grad_scale: &Bound<'py, PyAny>,
        max_norm: &Bound<'py, PyAny>,
        max_array_norm: &Bound<'py, PyAny>,
        max_value: &Bound<'py, PyAny>,
        nonfinite: &Bound<'py, PyAny>,
        max_skips: &Bound<'py, PyAny>,
        addends: Option<Vec<Vec<Bound<'py, PyAny>>>>,
    ) -> PyResult<BegunStep> {
        let asked =
            Arguments { grad_scale, max_norm, max_array_norm, max_value, nonfinite, max_skips };
        let asked = Asked::of(&asked)?;
        let setup = Arc::clone(&lock(&self.shared.setup));
        let t = self.t();
        let Prepared { mut works, rates, updates } =
            Prepared::of(&self.templates, optimizer, &setup, lr, t + 1, asked.grad_scale)?;
        let zero_grads = self.zero_grads();
        let mut grads = setup.gradients(optimizer, grads)?;
        if let Some(addends) = addends {
            if zero_grads {
                let what =
                    "addends were given, and a step with zero_grads would have to clear them";
                return Err(Error::Value(what.to_owned()).into());
            }
            grads = with_addends(optimizer, grads, &addends)?;
        }
        check(optimizer, &setup, &grads, &self.shared.state, zero_grads)?;
        for work in &mut works {
            work.clear_gradient = zero_grads;
            work.extras.max_value = asked.max_value;
            work.seed = self.seed();
        }
        if grads.iter().any(|gradient| matches!(gradient, Gradient::Rows(_))) {
            let what = "a gradient of Rows can't be stepped in pieces; wanted a numpy.ndarray";
            return Err(Error::Type(what.to_owned()).into());
        }
        Ok(BegunStep {
            shared: Arc::clone(&self.shared),
            optimizer: optimizer.clone().unbind(),
            setup,
            grads,
            asked,
            t,
            zero_grads,
            rates,
            updates: updates.into_iter().map(|(dict, by)| (dict.unbind(), by.unbind())).collect(),
            numbers: Mutex::new(Numbers::new(works)),
        })
    }

    /// Checks gradients as a step does; returns those that it would use, None where it would not.
    #[pyo3(signature = (optimizer, grads, /))]
    fn check<'py>(
        &self,
        optimizer: &Bound<'py, PyAny>,
        grads: &Bound<'py, PyAny>,
    ) -> PyResult<Vec<Option<Bound<'py, PyAny>>>> {
        let py = optimizer.py();
        let setup = Arc::clone(&lock(&self.shared.setup));
        let given = setup.gradients(optimizer, grads)?;
        check(optimizer, &setup, &given, &self.shared.state, self.zero_grads())?;
        Ok(given.iter().map(|gradient| gradient.object(py)).collect())
    }

    /// Swaps the parameters with their averages: in if `enter`, else out again, if that use of
    /// `averaged` has put them in, or any.
    #[pyo3(signature = (optimizer, r#use, enter, /))]
    fn swap_averages(
        &self,
        optimizer: &Bound<'_, PyAny>,
        r#use: Option<u64>,
        enter: bool,
    ) -> PyResult<()> {
        let py = optimizer.py();
        let setup = Arc::clone(&lock(&self.shared.setup));
        if enter {
            setup.refuse_detached(optimizer)?;
        }
        let mut parameters = Vec::with_capacity(setup.parameters.len());
        let mut averages = Vec::with_capacity(setup.parameters.len());
        for parameter in &setup.parameters {
            let arrays: Vec<_> = parameter.arrays().map(|(_, array)| array.clone_ref(py)).collect();
            averages.extend(arrays.last().map(|array| Gradient::Dense(array.clone_ref(py))));
            let kind = match &parameter.kind {
                Kind::Stored(storage) if storage.has_halves() => parameter.kind.clone(),
                _ => Kind::Floats,
            };
            parameters.push(Parameter::new(arrays.into_iter().next(), 0).with_kind(kind));
        }
        let call = Call { parameters: &parameters, grads: &averages, writes_gradients: true };
        let name = |place: Place| {
            // The average is the last of a parameter's arrays.
            let last = setup.parameters[place.parameter].arrays().last();
            let role = last.map_or(PARAMETER, |(role, _)| role);
            let role = if place.role == GRADIENT { role } else { PARAMETER };
            describe(optimizer, Place { role, ..place })
        };
        let mut turn = Turn::take(py, &self.shared.state, false);
        match turn.state.averages_in {
            Some(_) if enter => {
                return Err(PyRuntimeError::new_err("averaged() was entered within averaged()"));
            }
            None if !enter => return Ok(()),
            Some(other) if r#use.is_some_and(|this| this != other) => return Ok(()),
            _ => {}
        }
        let plan = Quiet::within(py, |quiet| Plan::of(&call, quiet));
        match plan {
            Ok(mut plan) => {
                self.shared.changes.fetch_add(1, Ordering::SeqCst);
                py.detach(|| plan.swap(enter));
                turn.state.averages_in = r#use.filter(|_| enter);
                Ok(())
            }
            Err(refusal) => {
                drop(turn);
                Err(refusal.into_error(py, &call, name)?.into())
            }
        }
    }

    /// Copies arrays and dicts, all of them as they are at one moment between two steps, or none.
    ///
    /// Returns the numbers of steps done and skipped at that moment, and the new dicts.
    #[pyo3(signature = (targets, sources, dicts, describe, /))]
    #[expect(clippy::needless_pass_by_value, reason = "what Python gives")]
    fn copy<'py>(
        &self,
        py: Python<'py>,
        targets: &Bound<'py, PyTuple>,
        sources: &Bound<'py, PyTuple>,
        dicts: Vec<Bound<'py, PyDict>>,
        describe: &Bound<'py, PyAny>,
    ) -> PyResult<(u64, u64, Vec<Bound<'py, PyDict>>)> {
        self.in_turn(py, targets, sources, describe, |state, mut plan| {
            py.detach(|| plan.copy());
            let copies = dicts.iter().map(PyDictMethods::copy).collect::<PyResult<_>>()?;
            Ok((self.t(), state.skips, copies))
        })
    }

    /// Copies arrays, sets the numbers of steps done and skipped and the seed, and updates dicts, each
    /// pair's first by its second: all of it at one moment between two steps, or nothing.
    #[pyo3(signature = (targets, sources, numbers, updates, describe, /))]
    #[expect(clippy::needless_pass_by_value, reason = "what Python gives")]
    fn restore<'py>(
        &self,
        py: Python<'py>,
        targets: &Bound<'py, PyTuple>,
        sources: &Bound<'py, PyTuple>,
        numbers: (u64, u64, u64),
        updates: Updates<'py>,
        describe: &Bound<'py, PyAny>,
    ) -> PyResult<()> {
        let (t, skips, seed) = numbers;
        // Kept until the turn is over: what goes with the last reference to it may run Python code.
        let replaced = updates.iter().map(|(dict, _)| dict.copy()).collect::<PyResult<Vec<_>>>()?;
        self.in_turn(py, targets, sources, describe, |state, mut plan| {
            self.shared.changes.fetch_add(1, Ordering::SeqCst);
            py.detach(|| plan.copy());
            self.shared.t.store(t, Ordering::Relaxed);
            self.shared.seed.store(seed, Ordering::Relaxed);
            state.skips = skips;
            update(&updates)
        })?;
        drop(replaced);
        self.forget();
        Ok(())
    }
}

impl Stepper {
    /// Does something with the plan to copy `sources` to `targets`, between two steps.
    fn in_turn<'py, T>(
        &self,
        py: Python<'py>,
        targets: &Bound<'py, PyTuple>,
        sources: &Bound<'py, PyTuple>,
        describe: &Bound<'py, PyAny>,
        run: impl FnOnce(&mut State, Plan) -> PyResult<T>,
    ) -> PyResult<T> {
        let name = |place: Place| describe.call1((place.role, place.parameter))?.extract();
        let (mut parameters, mut grads) = (Vec::new(), Vec::new());
        for (parameter, (target, source)) in iter::zip(targets.iter(), sources.iter()).enumerate() {
            let name = |role| name(Place { parameter, role });
            let parameter = Parameter::new([call::array(&target, || name(PARAMETER))?], 0);
            parameters.push(parameter.with_kind(Kind::Bits));
            grads.push(Gradient::Dense(call::array(&source, || name(GRADIENT))?));
        }
        let call = Call { parameters: &parameters, grads: &grads, writes_gradients: false };
        let mut turn = Turn::take(py, &self.shared.state, false);
        if turn.state.averages_in.is_some() {
            let what = "the state was copied, saved or loaded within averaged()";
            return Err(PyRuntimeError::new_err(what));
        }
        match Quiet::within(py, |quiet| Plan::of(&call, quiet)) {
            Ok(plan) => run(&mut turn.state, plan),
            Err(refusal) => {
                drop(turn);
                Err(refusal.into_error(py, &call, name)?.into())
            }
        }
    }

    /// Makes the next step look at the options again.
    fn forget(&self) {
        let mut templates = lock(&self.templates);
        let none = iter::repeat_n(None, templates.len()).collect();
        let forgotten = mem::replace(&mut *templates, none);
        drop(templates);
        drop(forgotten);
    }

    /// Changes the setup, between two steps.
    fn change(&self, py: Python<'_>, change: impl FnOnce(&mut Setup)) {
        let mut turn = Turn::take(py, &self.shared.state, false);
        let mut setup = lock(&self.shared.setup);
        if Arc::get_mut(&mut setup).is_none() {
            *setup = Arc::new(setup.clone_ref(py));
        }
        change(Arc::get_mut(&mut setup).expect("it was just made, or has no other owner"));
        turn.state.plan = None;
    }

    fn take_turn(
        &self,
        optimizer: &Bound<'_, PyAny>,
        setup: &Setup,
        prepared: Prepared<'_>,
        grads: &[Gradient],
        asked: &Asked,
        mut turn: Turn<'_, State>,
    ) -> PyResult<StepResult> {
        let py = optimizer.py();
        let state = &mut *turn.state;
        if state.averages_in.is_some() {
            return Err(PyRuntimeError::new_err("step was called within averaged()"));
        }
        let Prepared { mut works, rates, updates } = prepared;
        let zero_grads = self.zero_grads();
        for work in &mut works {
            work.clear_gradient = zero_grads;
            work.seed = self.seed();
            work.extras.max_value = asked.max_value;
        }
        let call = Call { parameters: &setup.parameters, grads, writes_gradients: zero_grads };
        let plan = Quiet::within(py, |quiet| state.plan_of(&call, quiet));
        let name = |place| describe(optimizer, place);
        let mut plan = match plan {
            Ok(plan) => plan,
            Err(refusal) => {
                drop(turn);
                return Err(refusal.into_error(py, &call, name)?.into());
            }
        };
        let skips = state.skips;
        let is_small = plan.len() < DETACH_FROM;
        let mut sweep = || asked.sweep(&mut plan, &mut works, skips);
        self.shared.count_change();
        let done = if is_small { sweep() } else { py.detach(sweep) };
        state.plan = Some(plan);
        let (norm, found) = done?;
        let skipped = conclude(&self.shared.t, optimizer, turn, &found, asked, &updates)?;
        if zero_grads {
            // Of rows that came twice the sweep has only seen the sums. A method of NumPy's own.
            let ndarray = py.get_type::<PyUntypedArray>();
            for gradient in grads {
                if let Gradient::Rows(rows) = gradient
                    && let Some(given) = &rows.given
                {
                    ndarray.call_method1("fill", (given.object(), 0))?;
                }
            }
        }
        Ok(StepResult::new(norm, skipped, rates, self.t()))
    }
}
