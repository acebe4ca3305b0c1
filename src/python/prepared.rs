//! What a step does: derived from the options before its turn, since Python code may run.

use std::sync::{Arc, Mutex};

use pyo3::prelude::*;

use super::group::{Said, Template, number};
use super::job::Work;
use super::setup::Setup;
use super::state::{Updates, lock};

/// What a step does, before its turn.
pub(super) struct Prepared<'py> {
    /// Two for each group: with weight decay, and without.
    pub(super) works: Vec<Work>,
    pub(super) rates: Vec<f64>,
    /// What groups carry to the next step.
    pub(super) updates: Updates<'py>,
}

impl<'py> Prepared<'py> {
    /// What step `t` does. `templates` has, for each group, what is known of its options.
    pub(super) fn of(
        templates: &Mutex<Vec<Option<Arc<Template>>>>,
        optimizer: &Bound<'py, PyAny>,
        setup: &Setup,
        lr: &Bound<'py, PyAny>,
        t: u64,
        scale: f64,
    ) -> PyResult<Self> {
        let py = optimizer.py();
        let lr = if lr.is_none() { None } else { Some(number(lr, "lr", 0.0, f64::INFINITY)?) };
        let mut works = Vec::with_capacity(2 * setup.groups.len());
        let mut rates = Vec::with_capacity(setup.groups.len());
        let mut updates = Vec::new();
        for (number, options) in setup.groups.iter().enumerate() {
            let options = options.bind(py);
            let known = lock(templates).get(number).cloned().flatten();
            let (template, rate) =
                if let Some(template) = known.filter(|template| template.is_of(options)) {
                    let rate = lr.map_or_else(|| template.rate(py, t), Ok)?;
                    (template, rate)
                } else {
                    let items = options.iter().collect();
                    let said = optimizer.call_method1("_prepare", (number, lr, t))?;
                    let (work, rate, lasts, carried) = said.extract::<Said<'_>>()?;
                    updates.extend(carried);
                    let template = Arc::new(Template::of(work, rate, lasts, items)?);
                    let mut templates = lock(templates);
                    let known = templates.get_mut(number);
                    let replaced = known.and_then(|known| known.replace(Arc::clone(&template)));
                    drop(templates);
                    drop(replaced);
                    (template, rate)
                };
            works.extend(template.works(rate, t, scale)?);
            rates.push(rate);
        }
        Ok(Self { works, rates, updates })
    }
}
