//! What a plan has seen of its arrays, so that it can serve later steps too: its checks hold as long
//! as every array is where it was and as it was. Gradients may be others, if they are alike.

use std::ops::Range;

use numpy::PyUntypedArray;
use pyo3::prelude::*;

use super::arrays::{Jobs, Layouts, View};
use super::plan::Call;

/// The arrays of a call, as they were when it was checked.
pub(super) struct Seen {
    /// All arrays but the gradients, by parameter and then by role.
    own: Vec<Py<PyUntypedArray>>,
    /// The layouts of the own arrays of a parameter, then that of its gradient.
    layouts: Layouts,
    /// The bytes of the own arrays, sorted.
    taken: Vec<Range<usize>>,
    /// Whether gradients are written.
    clears: bool,
    /// The bytes of gradients that have moved: kept for its capacity.
    moved: Vec<Range<usize>>,
}

impl Seen {
    /// Looks at the arrays that `jobs` were made of; `None` where the checks are needed every time:
    /// for rows, for subclasses of ndarray, and for arrays that interleave.
    pub(super) fn of(call: &Call<'_>, jobs: &mut Jobs) -> PyResult<Option<Self>> {
        let mut seen = Self {
            own: Vec::new(),
            layouts: Layouts::default(),
            taken: Vec::new(),
            clears: call.clears_gradients(),
            moved: Vec::new(),
        };
        let mut jobs = jobs.iter_mut();
        for (number, group) in call.groups.iter().enumerate() {
            for (index, gradient) in group.grads().iter_borrowed().enumerate() {
                if gradient.is_none() {
                    continue;
                }
                let Ok(gradient) = gradient.cast_exact::<PyUntypedArray>() else {
                    return Ok(None);
                };
                let Some(job) = jobs.next().filter(|job| job.is_of(number, index)) else {
                    return Ok(None);
                };
                for (_, arrays) in group.others() {
                    let Ok(array) = arrays.get_item(index)?.cast_into_exact::<PyUntypedArray>()
                    else {
                        return Ok(None);
                    };
                    let view = View::of(array.as_borrowed(), job.dtype());
                    seen.layouts.push(&array, &view);
                    seen.taken.extend(view.span());
                    seen.own.push(array.unbind());
                }
                seen.layouts.push(&gradient, &View::of(gradient, job.dtype()));
            }
        }
        seen.taken.sort_unstable_by_key(|bytes| bytes.start);
        let apart = seen.taken.is_sorted_by(|a, b| a.end <= b.start);
        Ok(apart.then_some(seen))
    }

    pub(super) fn own(&self) -> &[Py<PyUntypedArray>] {
        &self.own
    }

    /// Whether a call could be checked with the same result, but for the addresses of gradients;
    /// those of `jobs` are set to them. No Python code runs.
    pub(super) fn holds(&mut self, call: &Call<'_>, jobs: &mut Jobs) -> bool {
        let Some(py) = call.groups.first().map(|group| group.grads().py()) else {
            return false;
        };
        let mut own = self.own.iter();
        let mut layouts = self.layouts.compare();
        let mut jobs = jobs.iter_mut();
        let mut any_moved = false;
        self.moved.clear();
        for (number, group) in call.groups.iter().enumerate() {
            for (index, gradient) in group.grads().iter_borrowed().enumerate() {
                if gradient.is_none() {
                    continue;
                }
                let Some(job) = jobs.next().filter(|job| job.is_of(number, index)) else {
                    return false;
                };
                for ((role, _), array) in group.others().zip(own.by_ref()) {
                    let view = View::of(array.bind_borrowed(py), job.dtype());
                    if !(layouts.next_is(&view) && job.is_at(role, &view)) {
                        return false;
                    }
                }
                let Ok(gradient) = gradient.cast_exact::<PyUntypedArray>() else {
                    return false;
                };
                let view = View::of(gradient, job.dtype());
                if !layouts.next_is(&view) {
                    return false;
                }
                let moved = job.move_gradient(&view);
                any_moved |= moved;
                if moved || self.clears {
                    self.moved.extend(view.span());
                }
            }
        }
        let all = jobs.next().is_none() && self.clears == call.clears_gradients();
        all && (!any_moved || self.moved_are_apart())
    }

    /// Whether no gradient that has moved, and is written or not, has a byte of what is written.
    fn moved_are_apart(&mut self) -> bool {
        self.moved.sort_unstable_by_key(|bytes| bytes.start);
        let mut taken = self.taken.iter().peekable();
        let mut end = 0;
        self.moved.iter().all(|bytes| {
            while taken.next_if(|taken| taken.end <= bytes.start).is_some() {}
            let apart = taken.peek().is_none_or(|taken| bytes.end <= taken.start)
                && !(self.clears && bytes.start < end);
            end = end.max(bytes.end);
            apart
        })
    }
}
