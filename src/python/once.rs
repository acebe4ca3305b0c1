//! What is looked up once in a process.
//!
//! This does not use the cells of `pyo3` or its `intern!`. While one of those looks up its value, another
//! thread may fork. In the child nobody continues the look-up, so the next use would wait for ever.

use std::sync::OnceLock;

use pyo3::prelude::*;
use pyo3::types::PyString;

/// A value that is looked up when it is first asked for.
pub(super) struct Once<T>(OnceLock<T>);

impl<T> Once<T> {
    pub(super) const fn new() -> Self {
        Self(OnceLock::new())
    }

    /// The value; `look_up` may be called more than once, and one of its values is kept.
    ///
    /// # Errors
    /// Those of `look_up`.
    pub(super) fn get(&self, _: Python<'_>, look_up: impl FnOnce() -> PyResult<T>) -> PyResult<&T> {
        if let Some(known) = self.0.get() {
            return Ok(known);
        }
        let found = look_up()?;
        // No more than a move, while this thread is attached: no other one can fork meanwhile.
        Ok(self.0.get_or_init(|| found))
    }
}

impl Once<Py<PyAny>> {
    /// What a module has by a name.
    ///
    /// # Errors
    /// When it can't be imported, or has none.
    pub(super) fn import<'py>(
        &self,
        py: Python<'py>,
        module: &str,
        name: &str,
    ) -> PyResult<&Bound<'py, PyAny>> {
        self.get(py, || Ok(py.import(module)?.getattr(name)?.unbind())).map(|found| found.bind(py))
    }
}

impl Once<Py<PyString>> {
    /// A name, as attributes are looked up by.
    pub(super) fn name<'py>(&self, py: Python<'py>, name: &str) -> &Bound<'py, PyString> {
        let found = self.get(py, || Ok(PyString::intern(py, name).unbind()));
        found.expect("a string is made without errors").bind(py)
    }
}
