//! `BegunStep`: a step that the caller does piece by piece, and then commits.
//!
//! Between two calls arrays may be changed, so each call looks at all of them again, as a step does.

use std::iter;
use std::ops::Range;
use std::sync::{Arc, Mutex};

use pyo3::exceptions::{PyIndexError, PyRuntimeError, PyValueError};
use pyo3::gc::{PyTraverseError, PyVisit};
use pyo3::prelude::*;
use pyo3::types::PyDict;

use super::call::{Call, Gradient, Place};
use super::job::Work;
use super::plan::{Plan, has_norms};
use super::recipe::DETACH_FROM;
use super::result::StepResult;
use super::setup::{Setup, describe};
use super::state::{Shared, State, conclude, lock};
use super::step::{Asked, Found, clip};
use super::turn::{Turn, Turns};
use super::view::Quiet;
use crate::error::Error;
use crate::walk::{GRADIENT, PARAMETER};

/// A step that was checked, and is done piece by piece. `Optimizer.begin` makes it.
#[pyclass(frozen, module = "instep")]
pub(super) struct BegunStep {
    /// What the stepper has; Python's garbage collection sees it there, which the optimizer leads to.
    pub(super) shared: Arc<Shared>,
    pub(super) optimizer: Py<PyAny>,
    pub(super) setup: Arc<Setup>,
    pub(super) grads: Vec<Gradient>,
    pub(super) asked: Asked,
    /// The number of steps done when it began.
    pub(super) t: u64,
    pub(super) zero_grads: bool,
    pub(super) rates: Vec<f64>,
    pub(super) updates: Vec<(Py<PyDict>, Py<PyDict>)>,
    pub(super) numbers: Mutex<Numbers>,
}

/// What the caller may add before the first piece is stepped.
pub(super) struct Numbers {
    pub(super) works: Vec<Work>,
    /// The norm of all gradients, scaled.
    norm: Option<f64>,
    /// What the gradient of each parameter is multiplied by.
    scales: Option<Vec<f64>>,
    /// The norms of each parameter and its gradient.
    norms: Option<Vec<[f64; 2]>>,
    is_over: bool,
}

impl Numbers {
    pub(super) fn new(works: Vec<Work>) -> Self {
        Self { works, norm: None, scales: None, norms: None, is_over: false }
    }
}

#[pymethods]
impl BegunStep {
    /// How many pieces there are of each parameter; none where there is no gradient.
    #[getter]
    fn pieces(&self, py: Python<'_>) -> PyResult<Vec<usize>> {
        let count = self.setup.parameters.len();
        self.visit(py, None, |plan, _, _| Ok(plan.pieces_of_each(count)))
    }

    /// The learning rate of each group.
    #[getter]
    fn lr(&self) -> Vec<f64> {
        self.rates.clone()
    }

    /// Whether a rule asks for the norms of parameters or gradients.
    #[getter]
    fn needs_norms(&self, py: Python<'_>) -> bool {
        self.change(py, |numbers| has_norms(&numbers.works))
    }

    /// The sums of squares of some pieces of the gradients, or of the parameters.
    #[pyo3(signature = (first, last, /, of_params = false))]
    fn sums_of_squares(
        &self,
        py: Python<'_>,
        first: usize,
        last: usize,
        of_params: bool,
    ) -> PyResult<Vec<f64>> {
        let role = if of_params { PARAMETER } else { GRADIENT };
        self.visit(py, Some(first..last), |plan, numbers, pieces| {
            let level = numbers.works.first().map(|work| work.level);
            Ok(level.map_or_else(Vec::new, |level| plan.squares(role, level, pieces)))
        })
    }

    /// The first parameter whose gradient has an element in some pieces that is not finite.
    #[pyo3(signature = (first, last, /))]
    fn first_nonfinite(
        &self,
        py: Python<'_>,
        first: usize,
        last: usize,
    ) -> PyResult<Option<usize>> {
        self.visit(py, Some(first..last), |plan, numbers, pieces| {
            let level = numbers.works.first().map(|work| work.level);
            Ok(level.and_then(|level| plan.first_nonfinite(level, pieces)))
        })
    }

    /// Clips all gradients by the norm of all of them, before `grad_scale`; returns it after that.
    #[pyo3(signature = (norm, /))]
    fn clip(&self, py: Python<'_>, norm: f64) -> PyResult<f64> {
        let max = self.asked.max_norm.ok_or_else(|| not_asked("max_norm"))?;
        let norm = norm * self.asked.grad_scale.abs();
        self.change(py, |numbers| {
            if numbers.norm.replace(norm).is_none()
                && let Some(factor) = clip(max, norm)
            {
                for work in &mut numbers.works {
                    work.extras.scale *= factor;
                }
            }
        });
        Ok(norm)
    }

    /// Clips each gradient by its own norm, one for each parameter, before `grad_scale`.
    #[pyo3(signature = (norms, /))]
    #[expect(clippy::needless_pass_by_value, reason = "what Python gives")]
    fn clip_each(&self, py: Python<'_>, norms: Vec<f64>) -> PyResult<()> {
        let max = self.asked.max_array_norm.ok_or_else(|| not_asked("max_array_norm"))?;
        self.check_count("norms", norms.len())?;
        let scale = self.asked.grad_scale.abs();
        let scales = norms.iter().map(|norm| clip(max, norm * scale).unwrap_or(1.0)).collect();
        self.change(py, |numbers| numbers.scales = Some(scales));
        Ok(())
    }

    /// Sets the norms of parameters and of gradients, before `grad_scale`, for rules that ask for them.
    #[pyo3(signature = (params, grads, /))]
    fn set_norms(&self, py: Python<'_>, params: Vec<f64>, grads: Vec<f64>) -> PyResult<()> {
        self.check_count("params", params.len())?;
        self.check_count("grads", grads.len())?;
        let norms = params.into_iter().zip(grads).map(<[f64; 2]>::from).collect();
        self.change(py, |numbers| numbers.norms = Some(norms));
        Ok(())
    }

    /// Does the step of some pieces, in place.
    #[pyo3(signature = (first, last, /))]
    fn step(&self, py: Python<'_>, first: usize, last: usize) -> PyResult<()> {
        self.visit(py, Some(first..last), |plan, numbers, pieces| {
            let norms = numbers.norms.as_ref().map(|norms| plan.by_job(norms));
            if norms.is_none() && has_norms(&numbers.works) {
                let what = "the rule asks for norms, and none were set; call set_norms first";
                return Err(Error::Value(what.to_owned()));
            }
            let norms = norms.filter(|_| has_norms(&numbers.works));
            if let Some(scales) = &numbers.scales {
                plan.scale_by(scales);
            }
            let done = plan.run_pieces(&numbers.works, norms.as_deref(), pieces);
            plan.scale_none();
            done
        })
    }

    /// Counts the step, all pieces of which were done.
    fn commit(&self, py: Python<'_>) -> PyResult<StepResult> {
        self.conclude(py, &Found::Nothing)
    }

    /// Leaves the step out, of which no piece was done, for the gradient of a parameter that is not
    /// finite: counts it as skipped, or raises, as was asked. One that is skipped clears the gradients that
    /// it was to clear.
    #[pyo3(signature = (parameter, /))]
    fn skip(&self, py: Python<'_>, parameter: usize) -> PyResult<StepResult> {
        let shared = &self.shared;
        let skips = Turn::take(py, &shared.state, false).state.skips;
        let found = self.asked.found_nonfinite(parameter, skips);
        if self.zero_grads && matches!(found, Found::Skipped) {
            self.visit(py, None, |plan, _, _| {
                plan.clear_gradients();
                Ok(())
            })?;
        }
        self.conclude(py, &found)
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.optimizer)?;
        for gradient in &self.grads {
            gradient.terms().iter().try_for_each(|array| visit.call(array.object()))?;
        }
        self.updates.iter().try_for_each(|(dict, by)| {
            visit.call(dict)?;
            visit.call(by)
        })
    }
}

fn not_asked(name: &str) -> PyErr {
    PyValueError::new_err(format!("the step was begun without {name}"))
}

impl BegunStep {
    fn check_count(&self, name: &str, has: usize) -> PyResult<()> {
        let wanted = self.setup.parameters.len();
        if has == wanted {
            return Ok(());
        }
        Err(PyValueError::new_err(format!(
            "{name} has {has} numbers; wanted {wanted}, one for each parameter"
        )))
    }

    /// Changes the numbers, or reads them: in a turn, because the holder waits for the interpreter.
    fn change<T>(&self, py: Python<'_>, change: impl FnOnce(&mut Numbers) -> T) -> T {
        let _turn = Turn::take(py, &self.shared.state, false);
        change(&mut lock(&self.numbers))
    }

    /// Runs something on some pieces, all of them if `None`, after a look at all arrays.
    fn visit<T: Send>(
        &self,
        py: Python<'_>,
        pieces: Option<Range<usize>>,
        run: impl FnOnce(&mut Plan, &mut Numbers, Range<usize>) -> Result<T, Error> + Send,
    ) -> PyResult<T> {
        let shared = &self.shared;
        let grads = &self.grads;
        let parameters = &self.setup.parameters;
        let call = Call { parameters, grads, writes_gradients: self.zero_grads };
        let mut turn = Turn::take(py, &shared.state, false);
        let mut own = lock(&self.numbers);
        let (state, numbers) = (&mut *turn.state, &mut *own);
        self.check_current(state, numbers)?;
        let plan = Quiet::within(py, |quiet| state.plan_of(&call, quiet));
        let mut plan = match plan {
            Ok(plan) => plan,
            Err(refusal) => {
                drop((own, turn));
                let name = |place| describe(self.optimizer.bind(py), place);
                return Err(refusal.into_error(py, &call, name)?.into());
            }
        };
        let all = plan.pieces();
        let pieces = pieces.unwrap_or_else(|| all.clone());
        if pieces.start > pieces.end || pieces.end > all.end {
            state.plan = Some(plan);
            let Range { start, end } = pieces;
            let what = format!("the pieces {start} to {end} were asked for; there are {}", all.end);
            return Err(PyIndexError::new_err(what));
        }
        shared.count_change();
        let is_small = plan.len() < DETACH_FROM;
        let run = || run(&mut plan, numbers, pieces);
        let done = if is_small { run() } else { py.detach(run) };
        state.plan = Some(plan);
        done.map_err(Into::into)
    }

    fn conclude(&self, py: Python<'_>, found: &Found) -> PyResult<StepResult> {
        let shared = &self.shared;
        let updates: Vec<_> = self
            .updates
            .iter()
            .map(|(dict, by)| (dict.bind(py).clone(), by.bind(py).clone()))
            .collect();
        let turn = Turn::take(py, &shared.state, false);
        let mut numbers = lock(&self.numbers);
        self.check_current(&turn.state, &numbers)?;
        numbers.is_over = true;
        let norm = numbers.norm;
        drop(numbers);
        let optimizer = self.optimizer.bind(py);
        let skipped = conclude(&shared.t, optimizer, turn, found, &self.asked, &updates)?;
        Ok(StepResult::new(norm, skipped, self.rates.clone(), shared.count()))
    }

    /// Refuses a step that is not the next one any more.
    fn check_current(&self, state: &State, numbers: &Numbers) -> PyResult<()> {
        let shared = &self.shared;
        let why = if numbers.is_over {
            "is over"
        } else if shared.count() != self.t || !shared.has(&self.setup) {
            "was begun before the optimizer changed"
        } else if state.averages_in.is_some() {
            "was begun before averaged()"
        } else {
            return Ok(());
        };
        let what = format!("this step {why}; begin another one");
        Err(PyRuntimeError::new_err(what))
    }
}

/// Gradients with arrays that are added to them, a list for each parameter; Python code may run.
///
/// # Errors
/// Something that is no array; lists for another number of parameters.
pub(super) fn with_addends(
    optimizer: &Bound<'_, PyAny>,
    grads: Vec<Gradient>,
    addends: &[Vec<Bound<'_, PyAny>>],
) -> PyResult<Vec<Gradient>> {
    if addends.len() != grads.len() {
        let (has, wanted) = (addends.len(), grads.len());
        let what = format!("addends has {has} lists; wanted {wanted}, one for each parameter");
        return Err(PyValueError::new_err(what));
    }
    let pairs = iter::zip(grads, addends).enumerate();
    let sum = |(parameter, (gradient, addends)): (usize, (Gradient, &Vec<_>))| {
        let name = || describe(optimizer, Place { parameter, role: GRADIENT });
        gradient.with_addends(addends, || Ok(format!("what is added to {}", name()?)))
    };
    pairs.map(sum).collect()
}

/// Checks the gradients of a step as it checks them, with nothing changed.
pub(super) fn check(
    optimizer: &Bound<'_, PyAny>,
    setup: &Setup,
    grads: &[Gradient],
    turns: &Turns<State>,
    writes_gradients: bool,
) -> PyResult<()> {
    let py = optimizer.py();
    let call = Call { parameters: &setup.parameters, grads, writes_gradients };
    let mut turn = Turn::take(py, turns, false);
    let state = &mut *turn.state;
    if state.averages_in.is_some() {
        return Err(PyRuntimeError::new_err("step was called within averaged()"));
    }
    match Quiet::within(py, |quiet| state.plan_of(&call, quiet)) {
        Ok(plan) => {
            state.plan = Some(plan);
            Ok(())
        }
        Err(refusal) => {
            drop(turn);
            let name = |place| describe(optimizer, place);
            Err(refusal.into_error(py, &call, name)?.into())
        }
    }
}
