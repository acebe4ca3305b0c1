//! `Stepper`: the arrays and options of an optimizer, and all that changes them.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, ThreadId};
use std::{iter, mem};

use numpy::PyUntypedArray;
use pyo3::exceptions::{PyFloatingPointError, PyRuntimeError};
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};

use super::call::{self, Call, Gradient, Kind, Parameter, Place};
use super::group::{Said, Template, number};
use super::job::Work;
use super::plan::Plan;
use super::recipe::DETACH_FROM;
use super::result::StepResult;
use super::setup::{Root, Setup, describe};
use super::step::{Asked, Found, Nonfinite, bound, count};
use super::storage::{self, Storage};
use super::turn::{Turn, Turns};
use super::view::Quiet;
use crate::error::Error;
use crate::walk::{GRADIENT, PARAMETER};

/// What is changed in turns.
#[derive(Default)]
struct State {
    /// The plan of the last step, if it may serve the next.
    plan: Option<Plan>,
    /// The use of `averaged` in which the parameters hold their averages, and these the parameters.
    averages_in: Option<u64>,
    /// How many steps were skipped since the last that was not.
    skips: u64,
    /// The thread that did the last step.
    last: Option<ThreadId>,
}

/// `Stepper(is_list, t)`
///
/// The parameters of an optimizer with their states and averages, and the number of steps done.
#[pyclass(frozen, module = "instep._instep")]
pub(super) struct Stepper {
    setup: Mutex<Arc<Setup>>,
    /// For each group, what came of its options when they were last looked at.
    templates: Mutex<Vec<Option<Arc<Template>>>>,
    state: Turns<State>,
    /// Counted here, so that no signal comes between a step and its count.
    t: AtomicU64,
    /// What the noise that rounds depends on.
    seed: AtomicU64,
    /// How often arrays were changed, and are about to be.
    changes: AtomicU64,
    zero_grads: AtomicBool,
}

/// Nobody panics while it is locked; and what it guards would still be whole.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[pymethods]
impl Stepper {
    #[new]
    fn new(is_list: bool, t: u64) -> Self {
        Self {
            setup: Mutex::new(Arc::new(Setup { is_list, ..Setup::default() })),
            templates: Mutex::default(),
            state: Turns::default(),
            t: AtomicU64::new(t),
            seed: AtomicU64::new(0),
            changes: AtomicU64::new(0),
            zero_grads: AtomicBool::new(false),
        }
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        // What a thread holds at this moment looks as if it were held from elsewhere.
        if let Ok(setup) = self.setup.try_lock() {
            setup.traverse(&visit)?;
        }
        if let Ok(templates) = self.templates.try_lock() {
            templates.iter().flatten().try_for_each(|template| template.traverse(&visit))?;
        }
        Ok(())
    }

    fn __clear__(&self) {
        // What they held goes when they are free again: it may run Python code.
        let setup = mem::take(&mut *lock(&self.setup));
        let templates = mem::take(&mut *lock(&self.templates));
        drop((setup, templates));
    }

    /// The number of steps done.
    #[getter]
    fn t(&self) -> u64 {
        self.t.load(Ordering::Relaxed)
    }

    #[setter]
    fn set_t(&self, t: u64) {
        self.t.store(t, Ordering::Relaxed);
        self.forget();
    }

    /// What the noise that rounds depends on.
    #[getter]
    fn seed(&self) -> u64 {
        self.seed.load(Ordering::Relaxed)
    }

    #[setter]
    fn set_seed(&self, seed: u64) {
        self.seed.store(seed, Ordering::Relaxed);
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
        let _turn = Turn::take(py, &self.state, false);
        self.changes.load(Ordering::SeqCst)
    }

    /// The number of steps that were skipped since the last that was not.
    #[getter]
    fn skips(&self, py: Python<'_>) -> u64 {
        Turn::take(py, &self.state, false).state.skips
    }

    #[setter]
    fn set_skips(&self, py: Python<'_>, skips: u64) {
        Turn::take(py, &self.state, false).state.skips = skips;
    }

    /// Whether the parameters hold their averages.
    #[getter]
    fn averages_are_in(&self, py: Python<'_>) -> bool {
        Turn::take(py, &self.state, false).state.averages_in.is_some()
    }

    /// Adds a group: its options are looked at in each step.
    fn add_group(&self, py: Python<'_>, options: Py<PyDict>) {
        self.change(py, |setup| setup.groups.push(options));
        lock(&self.templates).push(None);
    }

    /// Adds the parameters of a tree.
    ///
    /// `skeleton` has None for every leaf. `arrays` has, for each leaf, the parameter, its states and
    /// its average if one is kept; `works` the number of its group, and whether weights decay;
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
            let kind = match storage {
                Some(said) => Kind::Stored(Arc::new(Storage::of(&said)?)),
                None => Kind::Floats,
            };
            let work = 2 * group + usize::from(!decays);
            parameters.push(Parameter::new(arrays, work).with_kind(kind));
        }
        let root = Root::new(skeleton, params, &parameters)?;
        self.change(py, |setup| setup.add(root, parameters));
        Ok(())
    }

    /// Says of every parameter whether steps leave it alone.
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
        let asked = Asked {
            grad_scale: number(grad_scale, "grad_scale", f64::NEG_INFINITY, f64::INFINITY)?,
            max_norm: bound(max_norm, "max_norm")?,
            max_array_norm: bound(max_array_norm, "max_array_norm")?,
            max_value: bound(max_value, "max_value")?,
            nonfinite: Nonfinite::of(nonfinite)?,
            max_skips: count(max_skips, "max_skips")?,
        };
        if asked.max_norm.is_some() && asked.max_array_norm.is_some() {
            let what = "max_norm and max_array_norm were given; wanted one of both";
            return Err(Error::Value(what.to_owned()).into());
        }
        let py = optimizer.py();
        let me = thread::current().id();
        let mut again = false;
        loop {
            let setup = Arc::clone(&lock(&self.setup));
            let done = self.t();
            // All that may run Python code comes before the turn.
            let works = self.works(optimizer, &setup, lr, done + 1, asked.grad_scale)?;
            let grads = setup.gradients(optimizer, grads)?;
            let turn = Turn::take(py, &self.state, again);
            if self.t() == done && Arc::ptr_eq(&setup, &lock(&self.setup)) {
                return self.take_turn(optimizer, &setup, works, &grads, &asked, turn);
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
        let setup = Arc::clone(&lock(&self.setup));
        let mut parameters = Vec::with_capacity(setup.parameters.len());
        let mut averages = Vec::with_capacity(setup.parameters.len());
        for parameter in &setup.parameters {
            let arrays: Vec<_> = parameter.arrays().map(|(_, array)| array.clone_ref(py)).collect();
            averages.extend(arrays.last().map(|array| Gradient::Dense(array.clone_ref(py))));
            parameters.push(Parameter::new(arrays.into_iter().next(), 0));
        }
        let call = Call { parameters: &parameters, grads: &averages, writes_gradients: true };
        let name = |place: Place| {
            // The average is the last of a parameter's arrays.
            let last = setup.parameters[place.parameter].arrays().last();
            let role = last.map_or(PARAMETER, |(role, _)| role);
            let role = if place.role == GRADIENT { role } else { PARAMETER };
            describe(optimizer, Place { role, ..place })
        };
        let mut turn = Turn::take(py, &self.state, false);
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
                self.changes.fetch_add(1, Ordering::SeqCst);
                py.detach(|| plan.swap());
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
            self.changes.fetch_add(1, Ordering::SeqCst);
            py.detach(|| plan.copy());
            self.t.store(t, Ordering::Relaxed);
            self.seed.store(seed, Ordering::Relaxed);
            state.skips = skips;
            update(&updates)
        })?;
        drop(replaced);
        self.forget();
        Ok(())
    }
}

/// Dicts, each with what it is to be updated by.
type Updates<'py> = Vec<(Bound<'py, PyDict>, Bound<'py, PyDict>)>;

/// The keys are strings: no Python code runs.
fn update(updates: &Updates<'_>) -> PyResult<()> {
    updates.iter().try_for_each(|(dict, by)| dict.update(by.as_mapping()))
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
        let mut turn = Turn::take(py, &self.state, false);
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

    /// Has the options looked at anew by the next step.
    fn forget(&self) {
        let mut templates = lock(&self.templates);
        let none = iter::repeat_n(None, templates.len()).collect();
        let forgotten = mem::replace(&mut *templates, none);
        drop(templates);
        drop(forgotten);
    }

    /// Changes the setup, between two steps.
    fn change(&self, py: Python<'_>, change: impl FnOnce(&mut Setup)) {
        let mut turn = Turn::take(py, &self.state, false);
        let mut setup = lock(&self.setup);
        if Arc::get_mut(&mut setup).is_none() {
            *setup = Arc::new(setup.clone_ref(py));
        }
        change(Arc::get_mut(&mut setup).expect("it was just made, or has no other owner"));
        turn.state.plan = None;
    }

    /// What step `t` does.
    fn works<'py>(
        &self,
        optimizer: &Bound<'py, PyAny>,
        setup: &Setup,
        lr: &Bound<'py, PyAny>,
        t: u64,
        scale: f64,
    ) -> PyResult<Prepared<'py>> {
        let py = optimizer.py();
        let lr = if lr.is_none() { None } else { Some(number(lr, "lr", 0.0, f64::INFINITY)?) };
        let mut works = Vec::with_capacity(2 * setup.groups.len());
        let mut rates = Vec::with_capacity(setup.groups.len());
        let mut updates = Vec::new();
        for (number, options) in setup.groups.iter().enumerate() {
            let options = options.bind(py);
            let known = lock(&self.templates).get(number).cloned().flatten();
            let (template, rate) =
                if let Some(template) = known.filter(|template| template.is_of(options)) {
                    let rate = lr.map_or_else(|| template.rate(py, t), Ok)?;
                    (template, rate)
                } else {
                    let items = options.iter().collect();
                    let said = optimizer.call_method1(intern!(py, "_prepare"), (number, lr, t))?;
                    let (work, rate, lasts, carried) = said.extract::<Said<'_>>()?;
                    updates.extend(carried);
                    let template = Arc::new(Template::of(work, rate, lasts, items)?);
                    let mut templates = lock(&self.templates);
                    let known = templates.get_mut(number);
                    let replaced = known.and_then(|known| known.replace(Arc::clone(&template)));
                    drop(templates);
                    drop(replaced);
                    (template, rate)
                };
            works.extend(template.works(rate, t, scale)?);
            rates.push(rate);
        }
        Ok(Prepared { works, rates, updates })
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
        let kept = state.plan.take();
        let plan = Quiet::within(py, |quiet| Plan::kept_or_of(kept, &call, quiet));
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
        self.changes.fetch_add(1, Ordering::SeqCst);
        let done = if is_small { sweep() } else { py.detach(sweep) };
        state.plan = Some(plan);
        let (norm, found) = done?;
        match found {
            Found::Nothing => {
                state.skips = 0;
                state.last = Some(thread::current().id());
                self.t.fetch_add(1, Ordering::Relaxed);
                update(&updates)?;
            }
            Found::Skipped => state.skips += 1,
            Found::Bad(parameter) => {
                drop(turn);
                let name = name(Place { parameter, role: GRADIENT })?;
                let after = match asked.nonfinite {
                    Nonfinite::Skip => format!("; {skips} steps in a row were skipped before"),
                    _ => String::new(),
                };
                let what = format!("{name} has an element that is NaN or infinite{after}");
                return Err(PyFloatingPointError::new_err(what));
            }
        }
        if zero_grads {
            // Of rows that came twice the sweep has only seen the sums. A method of NumPy's own.
            let ndarray = py.get_type::<PyUntypedArray>();
            for gradient in grads {
                if let Gradient::Rows(rows) = gradient
                    && let Some(given) = &rows.given
                {
                    ndarray.call_method1(intern!(py, "fill"), (given.object(), 0))?;
                }
            }
        }
        Ok(StepResult::new(norm, matches!(found, Found::Skipped), rates, self.t()))
    }
}

/// What a step does, before its turn.
struct Prepared<'py> {
    /// Two for each group: with weight decay, and without.
    works: Vec<Work>,
    rates: Vec<f64>,
    /// What groups carry to the next step.
    updates: Updates<'py>,
}
