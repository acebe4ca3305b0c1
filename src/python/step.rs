//! `Stepper`: the arrays and options of an optimizer, and steps over them.

use std::iter;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, ThreadId};

use numpy::PyUntypedArray;
use pyo3::exceptions::{PyFloatingPointError, PyRuntimeError};
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyFloat, PyList, PyString, PyTuple};

use super::call::{self, Call, Gradient, Parameter, Place};
use super::checks::Refusal;
use super::group::{Said, Template, number};
use super::pieces::{GRADIENT, PARAMETER, Work};
use super::plan::Plan;
use super::recipe::DETACH_FROM;
use super::result::StepResult;
use super::tree::Tree;
use super::turn::Turn;
use super::view::Quiet;
use crate::error::Error;

/// What to do when a gradient has an element that is NaN or infinite.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Nonfinite {
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
struct Asked {
    grad_scale: f64,
    max_norm: Option<f64>,
    max_array_norm: Option<f64>,
    max_value: Option<f64>,
    nonfinite: Nonfinite,
    max_skips: Option<u64>,
}

/// The parameters and groups of an optimizer. A step works with those that there were when it began.
#[derive(Default)]
struct Setup {
    parameters: Vec<Parameter>,
    /// Whether steps leave a parameter alone.
    frozen: Vec<bool>,
    roots: Vec<Root>,
    /// The options of each group.
    groups: Vec<Py<PyDict>>,
    /// Whether gradients come as a list with a tree for each root, or as the tree of the only one.
    is_list: bool,
}

/// A tree of parameters.
struct Root {
    tree: Tree,
    /// The lists and dicts themselves, if it can be seen at each step that they hold their arrays.
    watched: Option<Py<PyAny>>,
    count: usize,
}

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

/// Stepper(is_list, t)
/// --
///
/// The parameters of an optimizer with their states and averages, and the number of steps done.
#[pyclass(frozen, module = "instep._instep")]
pub(super) struct Stepper {
    setup: Mutex<Arc<Setup>>,
    /// For each group, what came of its options when they were last looked at.
    templates: Mutex<Vec<Option<Arc<Template>>>>,
    state: Mutex<State>,
    /// Counted here, so that no signal comes between a step and its count.
    t: AtomicU64,
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
            state: Mutex::default(),
            t: AtomicU64::new(t),
            changes: AtomicU64::new(0),
            zero_grads: AtomicBool::new(false),
        }
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        // What a thread holds at this moment looks as if it were held from elsewhere.
        if let Ok(setup) = self.setup.try_lock() {
            for parameter in &setup.parameters {
                parameter.arrays().try_for_each(|(_, array)| visit.call(array))?;
            }
            for root in &setup.roots {
                visit.call(&root.watched)?;
                root.tree.keys(&mut |key| visit.call(key))?;
            }
            setup.groups.iter().try_for_each(|options| visit.call(options))?;
        }
        if let Ok(templates) = self.templates.try_lock() {
            templates.iter().flatten().try_for_each(|template| template.traverse(&visit))?;
        }
        Ok(())
    }

    fn __clear__(&self) {
        *lock(&self.setup) = Arc::default();
        lock(&self.templates).clear();
    }

    /// The number of steps done.
    #[getter]
    fn t(&self) -> u64 {
        self.t.load(Ordering::Relaxed)
    }

    #[setter]
    fn set_t(&self, t: u64) {
        self.t.store(t, Ordering::Relaxed);
        lock(&self.templates).iter_mut().for_each(|template| *template = None);
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
        let _turn = Turn::take(py, &self.state);
        self.changes.load(Ordering::SeqCst)
    }

    /// The number of steps that were skipped since the last that was not.
    #[getter]
    fn skips(&self, py: Python<'_>) -> u64 {
        Turn::take(py, &self.state).state.skips
    }

    /// Whether the parameters hold their averages.
    #[getter]
    fn averages_are_in(&self, py: Python<'_>) -> bool {
        Turn::take(py, &self.state).state.averages_in.is_some()
    }

    /// Adds a group: its options are looked at in each step.
    fn add_group(&self, py: Python<'_>, options: Py<PyDict>) {
        self.change(py, |setup| setup.groups.push(options));
        lock(&self.templates).push(None);
    }

    /// Adds the parameters of a tree.
    ///
    /// `skeleton` has None for every leaf. `arrays` has, for each leaf, the parameter, its states and
    /// its average if one is kept; `works` the number of its group, and whether weights decay.
    fn add_parameters(
        &self,
        py: Python<'_>,
        skeleton: &Bound<'_, PyAny>,
        params: Bound<'_, PyAny>,
        arrays: Vec<Vec<Py<PyUntypedArray>>>,
        works: Vec<(usize, bool)>,
    ) -> PyResult<()> {
        let tree = Tree::of(skeleton)?;
        let count = arrays.len();
        let added: Vec<_> = iter::zip(arrays, works)
            .map(|(arrays, (group, decays))| {
                Parameter::new(arrays, 2 * group + usize::from(!decays))
            })
            .collect();
        let holds = holds(&tree, &params, &added)?;
        let watched = (holds && !matches!(tree, Tree::Leaf)).then(|| params.unbind());
        self.change(py, |setup| {
            setup.frozen.resize(setup.parameters.len() + count, false);
            setup.parameters.extend(added);
            setup.roots.push(Root { tree, watched, count });
        });
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
        max_skips: Option<u64>,
    ) -> PyResult<StepResult> {
        let asked = Asked {
            grad_scale: number(grad_scale, "grad_scale", f64::NEG_INFINITY)?,
            max_norm: bound(max_norm, "max_norm")?,
            max_array_norm: bound(max_array_norm, "max_array_norm")?,
            max_value: bound(max_value, "max_value")?,
            nonfinite: Nonfinite::of(nonfinite)?,
            max_skips,
        };
        let py = optimizer.py();
        let me = thread::current().id();
        loop {
            let setup = Arc::clone(&lock(&self.setup));
            let done = self.t();
            // All that may run Python code comes before the turn.
            let works = self.works(optimizer, &setup, lr, done + 1, asked.grad_scale)?;
            let grads = gradients(optimizer, &setup, grads)?;
            let turn = Turn::take(py, &self.state);
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
        let mut turn = Turn::take(py, &self.state);
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
    /// Returns `t` of that moment, and the new dicts.
    #[pyo3(signature = (targets, sources, dicts, describe, /))]
    fn copy<'py>(
        &self,
        py: Python<'py>,
        targets: &Bound<'py, PyTuple>,
        sources: &Bound<'py, PyTuple>,
        dicts: Vec<Bound<'py, PyDict>>,
        describe: &Bound<'py, PyAny>,
    ) -> PyResult<(u64, Vec<Bound<'py, PyDict>>)> {
        self.in_turn(py, targets, sources, describe, |mut plan| {
            py.detach(|| plan.copy());
            let copies = dicts.iter().map(PyDictMethods::copy).collect::<PyResult<_>>()?;
            Ok((self.t(), copies))
        })
    }

    /// Copies arrays, sets the number of steps done, and updates dicts, each pair's first by its
    /// second: all of it at one moment between two steps, or nothing.
    #[pyo3(signature = (targets, sources, t, updates, describe, /))]
    fn restore<'py>(
        &self,
        py: Python<'py>,
        targets: &Bound<'py, PyTuple>,
        sources: &Bound<'py, PyTuple>,
        t: u64,
        updates: Updates<'py>,
        describe: &Bound<'py, PyAny>,
    ) -> PyResult<()> {
        self.in_turn(py, targets, sources, describe, |mut plan| {
            self.changes.fetch_add(1, Ordering::SeqCst);
            py.detach(|| plan.copy());
            self.set_t(t);
            update(&updates)
        })
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
        run: impl FnOnce(Plan) -> PyResult<T>,
    ) -> PyResult<T> {
        let name = |place: Place| describe.call1((place.role, place.parameter))?.extract();
        let (mut parameters, mut grads) = (Vec::new(), Vec::new());
        for (parameter, (target, source)) in iter::zip(targets.iter(), sources.iter()).enumerate() {
            let name = |role| name(Place { parameter, role });
            parameters.push(Parameter::new([call::array(&target, || name(PARAMETER))?], 0));
            grads.push(Gradient::Dense(call::array(&source, || name(GRADIENT))?));
        }
        let call = Call { parameters: &parameters, grads: &grads, writes_gradients: false };
        let turn = Turn::take(py, &self.state);
        if turn.state.averages_in.is_some() {
            let what = "the state was copied, saved or loaded within averaged()";
            return Err(PyRuntimeError::new_err(what));
        }
        match Quiet::within(py, |quiet| Plan::of(&call, quiet)) {
            Ok(plan) => run(plan),
            Err(refusal) => {
                drop(turn);
                Err(refusal.into_error(py, &call, name)?.into())
            }
        }
    }

    /// Changes the setup, between two steps.
    fn change(&self, py: Python<'_>, change: impl FnOnce(&mut Setup)) {
        let mut turn = Turn::take(py, &self.state);
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
        let lr = if lr.is_none() { None } else { Some(number(lr, "lr", 0.0)?) };
        let mut works = Vec::with_capacity(2 * setup.groups.len());
        let mut rates = Vec::with_capacity(setup.groups.len());
        let mut updates = Vec::new();
        for (number, options) in setup.groups.iter().enumerate() {
            let options = options.bind(py);
            let known = lock(&self.templates).get(number).cloned().flatten();
            let (template, rate) = match known.filter(|template| template.is_of(options)) {
                Some(template) => {
                    let rate = lr.map_or_else(|| template.rate(py, t), Ok)?;
                    (template, rate)
                }
                None => {
                    let items = options.iter().collect();
                    let prepare = intern!(py, "_prepare");
                    let said = optimizer.call_method1(prepare, (number, lr, t))?;
                    let (work, rate, lasts, carried) = said.extract::<Said<'_>>()?;
                    updates.extend(carried);
                    let template = Arc::new(Template::of(work, rate, lasts, items)?);
                    if let Some(known) = lock(&self.templates).get_mut(number) {
                        *known = Some(Arc::clone(&template));
                    }
                    (template, rate)
                }
            };
            works.extend(template.works(rate, t, scale));
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
            work.extras.max_value = asked.max_value;
        }
        let call = Call { parameters: &setup.parameters, grads, writes_gradients: zero_grads };
        let kept = state.plan.take();
        let plan: Result<_, Refusal> = Quiet::within(py, |quiet| {
            if let Some(mut plan) = kept
                && plan.follows(&call, quiet)
            {
                return Ok(plan);
            }
            let mut plan = Plan::of(&call, quiet)?;
            plan.keep(&call, quiet);
            Ok(plan)
        });
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
        let (norm, found) = if is_small { sweep() } else { py.detach(sweep) };
        state.plan = Some(plan);
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
                    ndarray.call_method1(intern!(py, "fill"), (given, 0))?;
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

/// What became of a step.
enum Found {
    /// It was done.
    Nothing,
    /// The gradients were not finite, and it was left out.
    Skipped,
    /// The gradient of this parameter is not finite, and that is an error.
    Bad(usize),
}

impl Asked {
    /// Looks at the gradients as asked, and does the step if nothing is wrong with them; returns
    /// their norm, if it was asked for.
    fn sweep(&self, plan: &mut Plan, works: &mut [Work], skips: u64) -> (Option<f64>, Found) {
        let Some(level) = works.first().map(|work| work.level) else {
            return (self.max_norm.map(|_| 0.0), Found::Nothing);
        };
        let norm = self.max_norm.map(|_| plan.gradient_norm(level) * self.grad_scale.abs());
        // A finite norm has no NaN or Inf behind it.
        let look = self.nonfinite != Nonfinite::Propagate && !norm.is_some_and(f64::is_finite);
        if look && let Some(parameter) = plan.first_nonfinite(level) {
            let too_many = self.max_skips.is_some_and(|most| skips >= most);
            if self.nonfinite == Nonfinite::Raise || too_many {
                return (norm, Found::Bad(parameter));
            }
            if works[0].clear_gradient {
                plan.clear_gradients();
            }
            return (norm, Found::Skipped);
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
        plan.run(works);
        if self.max_array_norm.is_some() {
            plan.scale_none();
        }
        (norm, Found::Nothing)
    }
}

/// What gradients are multiplied by to have a norm of `max` at most, if it is less than 1.
///
/// An infinite maximum clips nothing, not even a norm that is infinite or NaN itself.
fn clip(max: f64, norm: f64) -> Option<f64> {
    let factor = max / (norm + 1e-6);
    (max.is_finite() && !(factor >= 1.0)).then_some(factor)
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
    number(item, name, 0.0).map(Some)
}

/// What errors call an array of an optimizer.
fn describe(optimizer: &Bound<'_, PyAny>, place: Place) -> PyResult<String> {
    let describe = intern!(optimizer.py(), "_describe");
    optimizer.call_method1(describe, (place.parameter, place.role))?.extract()
}

/// Whether a tree still holds the arrays of these parameters.
fn holds<'a>(
    tree: &Tree,
    params: &Bound<'_, PyAny>,
    parameters: impl IntoIterator<Item = &'a Parameter>,
) -> PyResult<bool> {
    let mut parameters = parameters.into_iter();
    tree.walk(params, &mut |item| {
        let own = parameters.next().and_then(|parameter| parameter.array(PARAMETER));
        Ok(own.is_some_and(|own| item.is(own)))
    })
}

/// The gradients of a step, one for each parameter.
fn gradients(
    optimizer: &Bound<'_, PyAny>,
    setup: &Setup,
    grads: &Bound<'_, PyAny>,
) -> PyResult<Vec<Gradient>> {
    let py = optimizer.py();
    let mut given = Vec::with_capacity(setup.parameters.len());
    let mut take = |item: &Bound<'_, PyAny>| {
        let parameter = given.len();
        given.push(if setup.frozen[parameter] {
            Gradient::Absent
        } else {
            Gradient::given(item, || describe(optimizer, Place { parameter, role: GRADIENT }))?
        });
        Ok(true)
    };
    let fits = if setup.is_list {
        let list = grads.cast_exact::<PyList>().ok().filter(|list| list.len() == setup.roots.len());
        match list {
            Some(list) => {
                let mut fit = true;
                for (root, tree) in setup.roots.iter().zip(list.iter()) {
                    fit = fit && root.tree.walk(&tree, &mut take)?;
                }
                fit
            }
            None => false,
        }
    } else {
        setup.roots.len() == 1 && setup.roots[0].tree.walk(grads, &mut take)?
    };
    if !fits {
        // Other kinds of containers, and errors, are Python's.
        let leaves = optimizer.call_method1(intern!(py, "_leaves"), (grads,))?;
        given.clear();
        for (parameter, item) in leaves.cast::<PyTuple>()?.iter().enumerate() {
            given.push(if setup.frozen.get(parameter).copied().unwrap_or(false) {
                Gradient::Absent
            } else {
                let name = || describe(optimizer, Place { parameter, role: GRADIENT });
                Gradient::given(&item, name)?
            });
        }
    }
    let mut first = 0;
    for root in &setup.roots {
        let parameters = &setup.parameters[first..first + root.count];
        if let Some(watched) = &root.watched
            && !holds(&root.tree, watched.bind(py), parameters)?
        {
            optimizer.call_method0(intern!(py, "_refuse_detached"))?;
        }
        first += root.count;
    }
    if given.len() != setup.parameters.len() {
        let (has, wanted) = (given.len(), setup.parameters.len());
        return Err(Error::Value(format!("grads has {has} arrays; wanted {wanted}")).into());
    }
    Ok(given)
}

impl Setup {
    fn clone_ref(&self, py: Python<'_>) -> Self {
        Self {
            parameters: self.parameters.iter().map(|own| own.clone_ref(py)).collect(),
            frozen: self.frozen.clone(),
            roots: self.roots.iter().map(|root| root.clone_ref(py)).collect(),
            groups: self.groups.iter().map(|options| options.clone_ref(py)).collect(),
            is_list: self.is_list,
        }
    }
}

impl Root {
    fn clone_ref(&self, py: Python<'_>) -> Self {
        let watched = self.watched.as_ref().map(|watched| watched.clone_ref(py));
        Self { tree: self.tree.clone_ref(py), watched, count: self.count }
    }
}
