//! What steps change in an optimizer, one at a time, in addition to its arrays: its plan and its counts.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, ThreadId};

use pyo3::exceptions::PyFloatingPointError;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use super::call::{Call, Place};
use super::checks::Refusal;
use super::plan::Plan;
use super::setup::{Setup, describe};
use super::step::{Asked, Found, Nonfinite};
use super::turn::{Turn, Turns};
use super::view::Quiet;
use crate::walk::GRADIENT;

/// What only one thread at a time may change.
#[derive(Default)]
pub(super) struct State {
    /// The plan of the last step, if it may serve the next.
    pub(super) plan: Option<Plan>,
    /// The use of `averaged` in which the parameters hold their averages, and these the parameters.
    pub(super) averages_in: Option<u64>,
    /// How many steps were skipped since the last that was not.
    pub(super) skips: u64,
    /// The thread that did the last step.
    pub(super) last: Option<ThreadId>,
}

/// What a stepper shares with the steps that it began.
pub(super) struct Shared {
    pub(super) setup: Mutex<Arc<Setup>>,
    pub(super) state: Turns<State>,
    /// The number of steps done. Counted here, so that no signal comes between a step and its count.
    pub(super) t: AtomicU64,
    /// What the noise that rounds depends on.
    pub(super) seed: AtomicU64,
    /// How often arrays were changed, and are about to be.
    pub(super) changes: AtomicU64,
}

impl Shared {
    pub(super) fn new(setup: Setup, t: u64) -> Self {
        Self {
            setup: Mutex::new(Arc::new(setup)),
            state: Turns::default(),
            t: AtomicU64::new(t),
            seed: AtomicU64::new(0),
            changes: AtomicU64::new(0),
        }
    }

    /// The number of steps done.
    pub(super) fn count(&self) -> u64 {
        self.t.load(Ordering::Relaxed)
    }

    /// Whether this is still the setup.
    pub(super) fn has(&self, setup: &Arc<Setup>) -> bool {
        Arc::ptr_eq(setup, &lock(&self.setup))
    }

    /// Says that arrays are about to be changed.
    pub(super) fn count_change(&self) {
        self.changes.fetch_add(1, Ordering::SeqCst);
    }
}

/// Nobody panics while it is locked; and what it guards would still be whole.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Dicts, each with what it is to be updated by.
pub(super) type Updates<'py> = Vec<(Bound<'py, PyDict>, Bound<'py, PyDict>)>;

/// The keys are strings: no Python code runs.
pub(super) fn update(updates: &Updates<'_>) -> PyResult<()> {
    updates.iter().try_for_each(|(dict, by)| dict.update(by.as_mapping()))
}

impl State {
    /// The plan of a call: the last one if it still serves.
    pub(super) fn plan_of<'q>(
        &mut self,
        call: &Call<'q>,
        quiet: &'q Quiet,
    ) -> Result<Plan, Refusal> {
        Plan::kept_or_of(self.plan.take(), call, quiet)
    }
}

/// Counts a step that was done or left out, or raises what was found; whether it was skipped.
pub(super) fn conclude(
    t: &AtomicU64,
    optimizer: &Bound<'_, PyAny>,
    mut turn: Turn<'_, State>,
    found: &Found,
    asked: &Asked,
    updates: &Updates<'_>,
) -> PyResult<bool> {
    let state = &mut *turn.state;
    match *found {
        Found::Nothing => {
            state.skips = 0;
            state.last = Some(thread::current().id());
            t.fetch_add(1, Ordering::Relaxed);
            update(updates)?;
        }
        Found::Skipped => state.skips += 1,
        Found::Bad(parameter) => {
            let skips = state.skips;
            drop(turn);
            let name = describe(optimizer, Place { parameter, role: GRADIENT })?;
            let after = match asked.nonfinite {
                Nonfinite::Skip => format!("; {skips} steps in a row were skipped before"),
                _ => String::new(),
            };
            let what = format!("{name} has an element that is NaN or infinite{after}");
            return Err(PyFloatingPointError::new_err(what));
        }
    }
    Ok(matches!(found, Found::Skipped))
}
