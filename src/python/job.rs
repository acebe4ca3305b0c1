//! A job: one parameter with all its arrays, and what to do with them. `plan.rs` makes jobs after
//! `checks.rs` has checked the views.

use std::ops::Range;
use std::sync::Arc;
use std::{array, iter, mem, ptr};

use super::call::Kind;
use super::rule::BoundRule;
use super::storage::Storage;
use super::view::{Dtype, View};
use crate::arrays;
use crate::element::{Bits, Element};
use crate::extras::{Extras, Step};
use crate::gradient;
use crate::isa::Level;
use crate::rules::MAX_STATES;
use crate::walk::{self, Axis, CACHE_LINE, GRADIENT, Indices, MAX_ROLES, PARAMETER, PLACE, Walk};

/// The most elements that a thread takes at a time. A block of the norm's sums, so that its bits know
/// nothing of threads.
pub(super) const PIECE: usize = gradient::BLOCK;

/// One parameter with its gradient, states and average: where they are and how to walk them.
pub(super) struct Job {
    /// The number of its parameter in the call.
    pub(super) parameter: usize,
    /// The number of its work in a step.
    pub(super) work: usize,
    /// That of its parameter, and of all other arrays if there is no storage.
    pub(super) dtype: Dtype,
    pub(super) storage: Option<Arc<Storage>>,
    /// That of the gradient.
    pub(super) gradient: Dtype,
    pub(super) len: usize,
    /// How many elements and how many pieces come before it.
    pub(super) start: usize,
    pub(super) first_piece: usize,
    pub(super) data: [*mut u8; MAX_ROLES],
    /// What is added to the gradient, in order: arrays that are like it.
    addends: Vec<*mut u8>,
    /// The exponents of the states, where these have 8 bits; else null.
    pub(super) exponents: [*mut u8; MAX_STATES],
    /// Where the elements are, if not every array is one run of them, aligned and in the same order.
    pub(super) walk: Option<Box<Walk>>,
    /// What its gradient is multiplied by, beside the scale of the step.
    pub(super) scale: f64,
}

/// What to do with the arrays of a job: a rule, and what is done around it.
#[derive(Clone)]
pub(super) struct Work {
    pub(super) rule: BoundRule,
    pub(super) level: Level,
    pub(super) extras: Extras,
    pub(super) clear_gradient: bool,
    /// The number of the step: what rounds stochastically takes it.
    pub(super) t: u64,
    /// What else it takes.
    pub(super) seed: u64,
}

impl Work {
    /// The arrays beside parameter and gradient.
    pub(super) fn others(&self) -> usize {
        self.rule.states() + usize::from(self.extras.average.is_some())
    }

    /// Whether nothing is done around the rule.
    #[inline]
    pub(super) fn is_rule_alone(&self) -> bool {
        self.extras.are_none() && !self.clear_gradient
    }

    /// The step on slices or tiles of all roles, given what the rule does to them.
    pub(super) fn step<F: Element>(
        &self,
        step: Step<'_, F>,
        p: &mut [F],
        g: &[F],
        others: &mut [&mut [F]],
        scratch: &mut [F],
    ) {
        let (state, average) = others.split_at_mut(self.rule.states());
        let average = average.first_mut().map(|average| &mut **average);
        self.extras.step(step, self.level, p, g, state, average, scratch);
    }
}

impl Job {
    /// `views` of one shape, one for each role, and of the dtypes of their kind.
    pub(super) fn new(
        views: &[View<'_>],
        dtype: Dtype,
        parameter: usize,
        work: usize,
        kind: &Kind,
    ) -> Self {
        let aligned = views.iter().all(View::is_aligned);
        let c_contiguous = views.iter().all(View::is_c_contiguous);
        let any_order = !matches!(kind, Kind::Stored(_));
        let f_contiguous = || any_order && views.iter().all(View::is_f_contiguous);
        let walk = if aligned && (c_contiguous || f_contiguous()) {
            None
        } else {
            let axes = axes(views, views[PARAMETER].shape.len(), kind);
            let axes = walk::in_order(axes, order(kind));
            let is_dense = |axis: &Axis| {
                let own =
                    |(view, &step): (&View<'_>, &isize)| step == view.element_size().cast_signed();
                iter::zip(views, &axis.steps).all(own) && (any_order || axis.steps[PLACE] == 1)
            };
            let is_dense = aligned && axes.len() == 1 && is_dense(&axes[0]);
            (!is_dense).then(|| Box::new(walk(views, axes, None)))
        };
        Self::walking(views, dtype, parameter, work, kind, walk, views[PARAMETER].len())
    }

    /// `views` of the shapes of whole arrays; the rows at `indices` are stepped, which the arrays
    /// have to have.
    pub(super) fn of_rows(
        views: &[View<'_>],
        dtype: Dtype,
        parameter: usize,
        work: usize,
        kind: &Kind,
        indices: Arc<Indices>,
    ) -> Self {
        let rows = views[PARAMETER].shape[0].unsigned_abs();
        let count = indices.as_slice().len();
        assert!(indices.end() <= rows && views[GRADIENT].shape[0].unsigned_abs() == count);
        let mut axes = axes(views, views[PARAMETER].shape.len(), kind);
        axes[0].len = count;
        let of_one = walk::in_order(axes.split_off(1), order(kind));
        axes.extend(of_one);
        let walk = Box::new(walk(views, axes, Some(indices)));
        let len = walk.len();
        Self::walking(views, dtype, parameter, work, kind, Some(walk), len)
    }

    fn walking(
        views: &[View<'_>],
        dtype: Dtype,
        parameter: usize,
        work: usize,
        kind: &Kind,
        walk: Option<Box<Walk>>,
        len: usize,
    ) -> Self {
        let storage = match kind {
            Kind::Stored(storage) => Some(Arc::clone(storage)),
            _ => None,
        };
        let gradient = views[GRADIENT].dtype().unwrap_or(dtype);
        let mut data = [views[PARAMETER].data; MAX_ROLES];
        for (data, view) in iter::zip(&mut data, views) {
            *data = view.data;
        }
        let (start, first_piece, scale) = (0, 0, 1.0);
        Self {
            parameter,
            work,
            dtype,
            storage,
            gradient,
            len,
            start,
            first_piece,
            data,
            addends: Vec::new(),
            exponents: [ptr::null_mut(); MAX_STATES],
            walk,
            scale,
        }
    }

    /// The same with the exponents of its states.
    pub(super) fn with_exponents(self, exponents: [*mut u8; MAX_STATES]) -> Self {
        Self { exponents, ..self }
    }

    /// The same with arrays that are added to its gradient, whose dtype and strides are those of the
    /// gradient, and are aligned if it is.
    pub(super) fn with_addends(self, addends: Vec<*mut u8>) -> Self {
        Self { addends, ..self }
    }

    /// Whether a rule can be given its arrays as they are: each is a slice, and nothing is to be done to one
    /// before.
    #[inline]
    pub(super) fn has_slices(&self) -> bool {
        let has_own_scale = self.scale.to_bits() != 1.0_f64.to_bits();
        self.storage.is_none() && self.is_dense() && !self.has_sum() && !has_own_scale
    }

    /// Whether another job, of at most `most` elements, can be done in one call with this one, whose arrays a
    /// rule can be given as they are.
    #[inline]
    pub(super) fn goes_with(&self, other: &Self, most: usize) -> bool {
        let is_like = (self.work, self.dtype) == (other.work, other.dtype);
        is_like && other.has_slices() && (1..=most).contains(&other.len)
    }

    /// How many arrays its gradient is the sum of.
    pub(super) fn terms(&self) -> usize {
        1 + self.addends.len()
    }

    /// Whether its gradient is a sum, so that it is in no array.
    pub(super) fn has_sum(&self) -> bool {
        !self.addends.is_empty()
    }

    /// Where the array of a role begins; of a gradient, that term of it.
    #[inline]
    pub(super) fn term_of(&self, role: usize, term: usize) -> *mut u8 {
        match term.checked_sub(1) {
            Some(addend) if role == GRADIENT => self.addends[addend],
            _ => self.data[role],
        }
    }

    /// Whether the places of its elements can be told, if it has a storage: of more than 2**32 only
    /// where they go on from one another.
    pub(super) fn places_are_known(&self) -> bool {
        let Some(storage) = &self.storage else { return true };
        if storage.has_order() {
            return self.is_dense() && storage.places_are_short();
        }
        let Some(walk) = &self.walk else { return true };
        walk.last_place()
            .and_then(|last| storage.first.checked_add(last))
            .is_some_and(|last| last >> 32 == 0)
    }

    /// More than the largest place of an element of the whole arrays, which `of_rows` has some rows of.
    pub(super) fn places(&self) -> usize {
        let last = self.walk.as_ref().map(|walk| walk.last_place());
        last.map_or(self.len, |last| {
            last.and_then(|last| usize::try_from(last).ok()).map_or(0, |last| last + 1)
        })
    }

    /// The dtype of the array of a role.
    pub(super) fn dtype_of(&self, role: usize) -> Dtype {
        match &self.storage {
            Some(_) if role == GRADIENT => self.gradient,
            Some(storage) => storage.dtypes(role)[0],
            None => self.dtype,
        }
    }

    /// The number of its parameter in the call.
    pub(super) fn parameter(&self) -> usize {
        self.parameter
    }

    /// The numbers of its pieces.
    pub(super) fn pieces(&self) -> Range<usize> {
        self.first_piece..self.first_piece + self.len.div_ceil(PIECE)
    }

    /// Sets what its gradient is multiplied by, beside the scale of the step.
    pub(super) fn set_scale(&mut self, scale: f64) {
        self.scale = scale;
    }

    pub(super) fn is_of_rows(&self) -> bool {
        self.walk.as_ref().is_some_and(|walk| walk.is_of_rows())
    }

    /// Lets go of its rows, if it is of some: nothing of it is left to do.
    pub(super) fn drop_rows(&mut self) {
        if let Some(walk) = self.walk.as_mut().filter(|walk| walk.is_of_rows()) {
            walk.drop_rows();
            self.len = 0;
        }
    }

    /// Sets which work of a step is its own.
    pub(super) fn set_work(&mut self, work: usize) {
        self.work = work;
    }

    /// Where the array of a role is.
    pub(super) fn data_of(&self, role: usize) -> *mut u8 {
        self.data[role]
    }

    /// Takes a view in the place of a term of its gradient, which had the same layout; returns whether it is
    /// aligned as that was. If not, the job is of no use any more.
    #[inline(always)]
    pub(super) fn move_gradient(&mut self, term: usize, view: &View<'_>) -> bool {
        let data = match term.checked_sub(1) {
            Some(addend) => &mut self.addends[addend],
            None => &mut self.data[GRADIENT],
        };
        let moved = mem::replace(data, view.data).addr() ^ view.data.addr();
        moved.is_multiple_of(self.gradient.size())
    }

    /// The number of its blocks.
    pub(super) fn blocks(&self) -> usize {
        self.walk.as_ref().map_or(1, |walk| walk.blocks(0, 1).len())
    }

    /// How many of the next jobs are beside it, each beside the one before.
    #[inline(always)]
    pub(super) fn count_beside(&self, next: &[Self], most: usize) -> usize {
        if self.is_dense() {
            return 0;
        }
        let pairs = iter::zip(iter::once(self).chain(next), next);
        pairs.take_while(|(job, next)| job.is_beside(next, most)).count()
    }

    /// Whether the blocks of another job, of as many elements and at most `most`, share cache lines with
    /// its own, as those of the columns of a matrix do.
    fn is_beside(&self, other: &Self, most: usize) -> bool {
        let (Some(walk), Some(others)) = (&self.walk, &other.walk) else { return false };
        self.storage.is_none()
            && !(self.has_sum() || other.has_sum())
            && self.len <= most
            && self.data[PARAMETER].addr().abs_diff(other.data[PARAMETER].addr()) < CACHE_LINE
            && walk.is_like(others)
    }

    pub(super) fn is_dense(&self) -> bool {
        self.walk.is_none()
    }

    /// Whether every array is one run of aligned elements, all in the same order, be it that of C or
    /// not.
    pub(super) fn is_one_run(&self) -> bool {
        self.walk.as_ref().is_none_or(|walk| walk.is_one_run())
    }

    /// The dense arrays from `start` on as pointers to the elements.
    #[inline(always)]
    pub(super) fn pointers<F: Bits>(&self, start: usize) -> [*mut F; MAX_ROLES] {
        assert!(self.is_dense() && size_of::<F>() == self.dtype.size());
        arrays::from_fn(ptr::null_mut(), |role| self.data[role].cast::<F>().wrapping_add(start))
    }
}

/// The role whose order is taken: blocks of 8-bit states are of elements in C order.
fn order(kind: &Kind) -> usize {
    match kind {
        Kind::Stored(storage) if storage.has_codes() => PLACE,
        _ => PARAMETER,
    }
}

/// The first axes of `views`, as they are, with the places of the elements if the kind has use for them.
fn axes(views: &[View<'_>], count: usize, kind: &Kind) -> Vec<Axis> {
    let has_places = matches!(kind, Kind::Stored(_));
    let shape = views[PARAMETER].shape;
    let place = |axis: usize| shape[axis + 1..].iter().product::<isize>();
    let step = |role: usize, axis: usize| match views.get(role) {
        Some(view) => view.strides[axis],
        None if role == PLACE && has_places => place(axis),
        None => 0,
    };
    let axis = |k: usize| Axis {
        len: shape[k].unsigned_abs(),
        steps: array::from_fn(|role| step(role, k)),
    };
    (0..count).map(axis).collect()
}

fn walk(views: &[View<'_>], axes: Vec<Axis>, rows: Option<Arc<Indices>>) -> Walk {
    let aligned: Vec<_> = views.iter().map(View::is_aligned).collect();
    let sizes = array::from_fn(|role| views.get(role).map_or(1, View::element_size));
    Walk::new(axes, rows, sizes, &aligned)
}
