//! `StepResult`: what a step returns.

use pyo3::prelude::*;
use pyo3::types::PyTuple;

/// What a step returns.
#[pyclass(eq, frozen, module = "instep")]
#[derive(PartialEq)]
pub(super) struct StepResult {
    /// The norm of all gradients before clipping, if ``max_norm`` was given; else None.
    #[pyo3(get)]
    grad_norm: Option<f64>,
    /// Whether nothing was done, because of a gradient that is not finite.
    #[pyo3(get)]
    skipped: bool,
    rates: Vec<f64>,
    /// The number of steps done, this one included.
    #[pyo3(get)]
    t: u64,
}

impl StepResult {
    pub(super) fn new(grad_norm: Option<f64>, skipped: bool, rates: Vec<f64>, t: u64) -> Self {
        Self { grad_norm, skipped, rates, t }
    }
}

#[pymethods]
impl StepResult {
    /// The learning rate of this step; of several groups, a tuple of them.
    #[getter]
    fn lr<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        match self.rates.as_slice() {
            [only] => only.into_pyobject(py).map(Bound::into_any).map_err(Into::into),
            rates => PyTuple::new(py, rates).map(Bound::into_any),
        }
    }

    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        let norm = self.grad_norm.into_pyobject(py)?.repr()?;
        let skipped = if self.skipped { "True" } else { "False" };
        let lr = self.lr(py)?.repr()?;
        let t = self.t;
        Ok(format!("StepResult(grad_norm={norm}, skipped={skipped}, lr={lr}, t={t})"))
    }
}
