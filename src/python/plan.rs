//! The plan of a step: jobs that are checked, and what later steps may keep of them.

use std::iter;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use super::call::{Call, Gradient, Parameter, Place, Rows};
use super::checks::{self, Refusal};
use super::job::{Job, Work};
use super::jobs::Jobs;
use super::seen::{Comparison, Seen};
use super::view::{Array, Quiet, View};
use crate::error::Error;
use crate::isa::Level;
use crate::walk::{GRADIENT, PARAMETER};

/// All arrays of a call, checked: nothing can fail any more.
pub(super) struct Plan {
    jobs: Jobs,
    seen: Seen,
}

impl Plan {
    /// The plan for a call.
    ///
    /// # Errors
    /// As [`checks::check`].
    pub(super) fn of<'q>(call: &Call<'q>, quiet: &'q Quiet) -> Result<Self, Refusal> {
        let jobs = checks::check(call, quiet)?;
        Ok(Self { jobs, seen: Seen::default() })
    }

    /// A plan that was kept, if the call could be checked with the same result; else one to keep.
    ///
    /// # Errors
    /// As [`checks::check`].
    pub(super) fn kept_or_of<'q>(
        kept: Option<Self>,
        call: &Call<'q>,
        quiet: &'q Quiet,
    ) -> Result<Self, Refusal> {
        if let Some(mut plan) = kept
            && plan.follows(call, quiet)
        {
            return Ok(plan);
        }
        let mut plan = Self::of(call, quiet)?;
        plan.keep(call, quiet);
        Ok(plan)
    }

    /// Remembers the arrays of the call it was made for, so that it can serve later ones.
    pub(super) fn keep<'q>(&mut self, call: &Call<'q>, quiet: &'q Quiet) {
        self.seen = Seen::of(call, quiet);
    }

    /// Whether a call could be checked with the same result, but for the addresses of gradients and
    /// the places of rows, which are taken over. If not, the plan is of no use any more.
    pub(super) fn follows<'q>(&mut self, call: &Call<'q>, quiet: &'q Quiet) -> bool {
        if self.seen.clears != call.writes_gradients {
            return false;
        }
        let mut layouts = self.seen.layouts.compare();
        let mut jobs = self.jobs.iter_mut();
        let (mut any_moved, mut any_rows) = (false, false);
        self.seen.moved.clear();
        for (number, (parameter, gradient)) in iter::zip(call.parameters, call.grads).enumerate() {
            if matches!(gradient, Gradient::Absent) {
                continue;
            }
            let Some(job) = jobs.next() else { return false };
            let Some(rest) = is_in_place(job, parameter, number, layouts, quiet) else {
                return false;
            };
            layouts = rest;
            job.set_work(parameter.work);
            let moved_spans = &mut self.seen.moved;
            match gradient {
                Gradient::Absent => {}
                Gradient::Dense(_) | Gradient::Sum(_) => {
                    let terms = gradient.terms();
                    if job.is_of_rows() || job.terms() != terms.len() {
                        return false;
                    }
                    for (term, array) in terms.iter().enumerate() {
                        let before = job.term_of(GRADIENT, term);
                        let Some(rest) = take_term(job, term, array, layouts, quiet) else {
                            return false;
                        };
                        layouts = rest;
                        let moved = job.term_of(GRADIENT, term) != before;
                        any_moved |= moved;
                        if moved || call.writes_gradients {
                            moved_spans.extend(View::of(array, quiet).span());
                        }
                    }
                }
                Gradient::Rows(rows) => {
                    // What came twice is summed: neither may be of what is written.
                    moved_spans
                        .extend(rows.given.as_ref().and_then(|own| View::of(own, quiet).span()));
                    let Some(values) = take_rows(job, call, number, rows, quiet) else {
                        return false;
                    };
                    (any_moved, any_rows) = (true, true);
                    moved_spans.extend(values.span());
                }
            }
        }
        let is_all = jobs.next().is_none() && layouts.is_over();
        if !is_all || any_moved && !self.seen.moved_are_apart() {
            return false;
        }
        if any_rows {
            self.jobs.renumber();
        }
        true
    }

    /// The number of elements of all parameters.
    pub(super) fn len(&self) -> usize {
        self.jobs.len()
    }

    /// The numbers of all pieces.
    pub(super) fn pieces(&self) -> Range<usize> {
        0..self.jobs.pieces()
    }

    /// How many pieces there are of each of so many parameters.
    pub(super) fn pieces_of_each(&self, parameters: usize) -> Vec<usize> {
        let mut counts = vec![0; parameters];
        for job in self.jobs.iter() {
            counts[job.parameter()] = job.pieces().len();
        }
        counts
    }

    /// The root of the sum of the squares of all gradients.
    pub(super) fn gradient_norm(&self, level: Level) -> f64 {
        norm(&self.squares(GRADIENT, level, self.pieces()))
    }

    /// The sum of the squares of each of some pieces of the arrays of a role, in order.
    pub(super) fn squares(&self, role: usize, level: Level, pieces: Range<usize>) -> Vec<f64> {
        let first = pieces.start;
        let squares: Vec<_> = pieces.clone().map(|_| AtomicU64::new(0)).collect();
        self.jobs.each_gradient(pieces, |piece| {
            let sum = piece.sum_of_squares(role, level);
            squares[piece.number() - first].store(sum.to_bits(), Ordering::Relaxed);
        });
        squares.into_iter().map(|bits| f64::from_bits(bits.into_inner())).collect()
    }

    /// Has every gradient multiplied by what `scale` makes of its own norm.
    pub(super) fn scale_each(&mut self, level: Level, scale: impl Fn(f64) -> f64) {
        let squares = self.squares(GRADIENT, level, self.pieces());
        for job in self.jobs.iter_mut() {
            job.set_scale(scale(norm(&squares[job.pieces()])));
        }
    }

    /// Has the gradient of each parameter multiplied by its own of `scales`.
    pub(super) fn scale_by(&mut self, scales: &[f64]) {
        for job in self.jobs.iter_mut() {
            job.set_scale(scales[job.parameter()]);
        }
    }

    /// Has no gradient multiplied by something of its own.
    pub(super) fn scale_none(&mut self) {
        for job in self.jobs.iter_mut() {
            job.set_scale(1.0);
        }
    }

    /// The first parameter whose gradient has an element in some pieces that is NaN or infinite.
    pub(super) fn first_nonfinite(&self, level: Level, pieces: Range<usize>) -> Option<usize> {
        let first = AtomicUsize::new(usize::MAX);
        self.jobs.each_gradient(pieces, |piece| {
            if !piece.is_finite(level) {
                first.fetch_min(piece.parameter(), Ordering::Relaxed);
            }
        });
        Some(first.into_inner()).filter(|&first| first < usize::MAX)
    }

    /// The step itself, each job with its work.
    ///
    /// # Errors
    /// Before anything is written: when a rule has no norms, or a number can't be computed of them.
    pub(super) fn run(&mut self, works: &[Work]) -> Result<(), Error> {
        let norms = has_norms(works).then(|| self.norms(works));
        self.run_pieces(works, norms.as_deref(), self.pieces())
    }

    /// The step of some pieces. `norms` are those of parameters and gradients, for each job.
    ///
    /// # Errors
    /// As [`Plan::run`].
    pub(super) fn run_pieces(
        &mut self,
        works: &[Work],
        norms: Option<&[[f64; 2]]>,
        pieces: Range<usize>,
    ) -> Result<(), Error> {
        let Some(norms) = norms else {
            self.jobs.run(works, pieces);
            return Ok(());
        };
        let mut own = Vec::new();
        for (job, &(mut norms)) in self.jobs.iter().zip(norms) {
            let work = &works[job.work];
            let mut rule = work.rule.clone();
            if rule.normed_roles().next().is_some() {
                if job.is_of_rows() || work.extras.max_value.is_some() {
                    let what = if job.is_of_rows() { "a gradient of rows" } else { "max_value" };
                    let what = format!("{what} was given to a rule that asks for norms");
                    return Err(Error::Value(what));
                }
                norms[GRADIENT] *= (work.extras.scale * job.scale).abs();
                rule = rule.with_norms(norms)?;
            }
            own.push(Work { rule, ..work.clone() });
        }
        let shared: Vec<_> = self.jobs.iter().map(|job| job.work).collect();
        for (number, job) in self.jobs.iter_mut().enumerate() {
            job.set_work(number);
        }
        self.jobs.run(&own, pieces);
        for (job, work) in self.jobs.iter_mut().zip(shared) {
            job.set_work(work);
        }
        Ok(())
    }

    /// The norms of parameter and gradient of each job, where a rule asks for them.
    fn norms(&self, works: &[Work]) -> Vec<[f64; 2]> {
        let squares = [PARAMETER, GRADIENT].map(|role| {
            let used = |work: &&Work| work.rule.normed_roles().any(|normed| normed == role);
            let work = works.iter().find(used);
            work.map(|work| self.squares(role, work.level, self.pieces()))
        });
        let of = |job: &Job| {
            let norm_of = |all: &Option<Vec<f64>>| Some(norm(&all.as_ref()?[job.pieces()]));
            squares.each_ref().map(|all| norm_of(all).unwrap_or(0.0))
        };
        self.jobs.iter().map(of).collect()
    }

    /// For each job what `of` has for its parameter.
    pub(super) fn by_job<T: Copy>(&self, of: &[T]) -> Vec<T> {
        self.jobs.iter().map(|job| of[job.parameter()]).collect()
    }

    /// Sets the gradients to zero, of a call that writes them.
    pub(super) fn clear_gradients(&mut self) {
        self.jobs.clear_gradients();
    }

    /// Copies what was given as the gradients to the parameters.
    pub(super) fn copy(&mut self) {
        self.jobs.copy();
    }

    /// Swaps the parameters with what was given as the gradients, in a call that writes them.
    pub(super) fn swap(&mut self, enter: bool) {
        self.jobs.swap(enter);
    }
}

/// The layouts that are left if all that stays from step to step is where a job has it, and as it was. By
/// itself, so that the few things that it looks at are in registers.
#[inline(never)]
fn is_in_place<'a, 'q>(
    job: &Job,
    parameter: &'q Parameter,
    number: usize,
    layouts: Comparison<'a>,
    quiet: &'q Quiet,
) -> Option<Comparison<'a>> {
    let mut layouts = layouts.owner_is(number)?;
    for (role, array) in parameter.arrays() {
        let view = View::of(array, quiet);
        if view.data != job.data_of(role) {
            return None;
        }
        layouts = layouts.next_is(&view)?;
    }
    for (k, array) in parameter.exponents.iter().enumerate() {
        let view = View::of(array, quiet);
        if view.data != job.exponents[k] {
            return None;
        }
        layouts = layouts.next_is(&view)?;
    }
    Some(layouts)
}

/// Takes an array in the place of a term of a gradient, if it is alike; returns the layouts that are left.
/// What it returns fits into registers.
#[inline(never)]
fn take_term<'a>(
    job: &mut Job,
    term: usize,
    array: &Array,
    layouts: Comparison<'a>,
    quiet: &Quiet,
) -> Option<Comparison<'a>> {
    let view = View::of(array, quiet);
    let layouts = layouts.next_is(&view)?;
    job.move_gradient(term, &view).then_some(layouts)
}

/// Has a job of rows step other ones; returns their values, or `None` if that takes another look at all.
#[inline(never)]
fn take_rows<'q>(
    job: &mut Job,
    call: &Call<'q>,
    number: usize,
    rows: &'q Rows,
    quiet: &'q Quiet,
) -> Option<View<'q>> {
    if !job.is_of_rows() {
        return None;
    }
    let place = Place { parameter: number, role: GRADIENT };
    let (mut views, roles, dtype) = checks::own_views(call, number, quiet).ok()?;
    let values = checks::of_rows(call, place, rows, &views[0], dtype, quiet).ok()?;
    // Others that are written may share memory with each other, or come twice: they are checked anew.
    let are_apart = rows.given.is_none() && values.is_c_contiguous();
    if call.writes_gradients && !are_apart {
        return None;
    }
    let exponents = job.exponents;
    views[GRADIENT] = values;
    let indices = rows.indices.clone();
    let Parameter { work, ref kind, .. } = call.parameters[number];
    *job =
        Job::of_rows(&views[..roles], dtype, number, work, kind, indices).with_exponents(exponents);
    job.places_are_known().then_some(values)
}

/// Whether one of the rules asks for the norms of whole arrays.
pub(super) fn has_norms(works: &[Work]) -> bool {
    works.iter().any(|work| work.rule.normed_roles().next().is_some())
}

/// The norm of an array, or of all, from the sums of the squares of the pieces. Not by `sum`, whose sum
/// of nothing is -0.
fn norm(squares: &[f64]) -> f64 {
    squares.iter().fold(0.0, |sum, squares| sum + squares).sqrt()
}
