//! The Python module `instep._instep`.

use pyo3::exceptions::{PyImportError, PyIndexError, PyTypeError, PyValueError};
use pyo3::prelude::*;

use crate::error::Error;

mod begun;
mod call;
mod checks;
mod dict_update;
mod group;
mod job;
mod jobs;
mod once;
mod pieces;
mod plan;
mod power;
mod prepared;
mod recipe;
mod result;
mod rule;
mod seen;
mod setup;
mod state;
mod step;
mod stepper;
mod storage;
mod tensors;
mod tiles;
mod tree;
mod turn;
mod view;

impl From<Error> for PyErr {
    fn from(error: Error) -> Self {
        match error {
            Error::Index(message) => PyIndexError::new_err(message),
            Error::Import(message) => PyImportError::new_err(message),
            Error::Type(message) => PyTypeError::new_err(message),
            Error::Value(message) => PyValueError::new_err(message),
        }
    }
}

/// The compiled core of instep.
#[pymodule]
mod _instep {
    use std::num::NonZero;

    use numpy::{PyArray1, PyArrayMethods};
    use pyo3::prelude::*;
    use pyo3::types::PyDict;

    use crate::isa::Level;
    use crate::parallel;
    use crate::recipes::RECIPES;
    use crate::team::Team;

    #[pymodule_export]
    use super::begun::BegunStep;
    #[pymodule_export]
    use super::dict_update::DictUpdate;
    #[pymodule_export]
    use super::recipe::PyRecipe;
    #[pymodule_export]
    use super::result::StepResult;
    #[pymodule_export]
    use super::stepper::Stepper;
    #[pymodule_export]
    use super::tensors::TensorStepper;
    use super::turn;
    use super::view::Dtype;

    /// Refuses to load when `INSTEP_ISA` names a level that can't be used, or `INSTEP_NUM_THREADS` is
    /// no number of threads.
    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        Level::current()?;
        parallel::set_threads(parallel::default_threads()?);
        Team::note_process();
        // What the numpy crate looks up at its first use, before another thread can fork: see `once.rs`.
        drop(PyArray1::<i64>::zeros(module.py(), 0, false).try_readonly());
        Ok(())
    }

    /// The most threads that a step runs on.
    #[pyfunction]
    fn get_num_threads() -> usize {
        parallel::threads()
    }

    /// Sets the most threads that a step runs on.
    #[pyfunction]
    #[pyo3(signature = (count, /))]
    fn set_num_threads(count: NonZero<usize>) {
        parallel::set_threads(count);
    }

    /// Before a fork: waits until no thread changes arrays, and lets no other thread begin.
    #[pyfunction]
    fn before_fork(py: Python<'_>) {
        turn::before_fork(py);
    }

    /// After a fork, in the parent: lets steps continue.
    #[pyfunction]
    fn after_fork_in_parent() {
        turn::after_fork_in_parent();
    }

    /// After a fork, in the child: lets steps continue, and has it see for itself what threads save.
    #[pyfunction]
    fn after_fork_in_child() {
        turn::after_fork_in_child();
        parallel::after_fork_in_child();
    }

    /// Has arrays of the type with this number taken as those of bfloat16.
    #[pyfunction]
    #[pyo3(signature = (number, /))]
    fn know_bfloat16(number: i32) {
        Dtype::know_bfloat16(number);
    }

    /// The names of all recipes.
    #[pyfunction]
    fn recipes() -> Vec<&'static str> {
        RECIPES.iter().map(|recipe| recipe.name).collect()
    }

    /// How this build runs here.
    #[pyfunction]
    fn config(py: Python<'_>) -> PyResult<Bound<'_, PyDict>> {
        let levels: Vec<_> = Level::available().iter().map(|level| level.name()).collect();
        let profile = if cfg!(debug_assertions) { "debug" } else { "release" };
        let config = PyDict::new(py);
        config.set_item("version", env!("CARGO_PKG_VERSION"))?;
        config.set_item("isa", Level::current()?.name())?;
        config.set_item("isa_available", levels)?;
        config.set_item("threads", parallel::threads())?;
        config.set_item("profile", profile)?;
        Ok(config)
    }
}
