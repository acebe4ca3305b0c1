//! The plan of a step: jobs that are checked, and what later steps may keep of them.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use super::call::{Call, Gradient, Place};
use super::checks::{self, Refusal};
use super::job::{Job, Work};
use super::jobs::Jobs;
use super::seen::Seen;
use super::view::{Quiet, View};
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
        for (number, (parameter, gradient)) in
            std::iter::zip(call.parameters, call.grads).enumerate()
        {
            if matches!(gradient, Gradient::Absent) {
                continue;
            }
            let Some(job) = jobs.next().filter(|job| job.parameter() == number) else {
                return false;
            };
            for (role, array) in parameter.arrays() {
                let view = View::of(array, quiet);
                if !(layouts.next_is(&view) && job.is_at(role, &view)) {
                    return false;
                }
            }
            job.set_work(parameter.work);
            match gradient {
                Gradient::Absent => {}
                Gradient::Dense(array) => {
                    let view = View::of(array, quiet);
                    if job.is_of_rows() || !layouts.next_is(&view) {
                        return false;
                    }
                    let moved = job.move_gradient(&view);
                    any_moved |= moved;
                    if moved || call.writes_gradients {
                        self.seen.moved.extend(view.span());
                    }
                }
                Gradient::Rows(rows) => {
                    let place = Place { parameter: number, role: GRADIENT };
                    let Ok((mut views, roles, dtype)) = checks::own_views(call, number, quiet)
                    else {
                        return false;
                    };
                    let Ok(values) = checks::of_rows(call, place, rows, &views[0], dtype, quiet)
                    else {
                        return false;
                    };
                    if !job.is_of_rows() || rows.given.is_some() && call.writes_gradients {
                        return false;
                    }
                    views[GRADIENT] = values;
                    let indices = rows.indices.clone();
                    let kind = &parameter.kind;
                    *job =
                        Job::of_rows(&views[..roles], dtype, number, parameter.work, kind, indices);
                    if !job.places_are_known() {
                        return false;
                    }
                    self.seen.moved.extend(values.span());
                    (any_moved, any_rows) = (true, true);
                }
            }
        }
        if jobs.next().is_some() || any_moved && !self.seen.moved_are_apart() {
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

    /// The root of the sum of the squares of all gradients.
    pub(super) fn gradient_norm(&mut self, level: Level) -> f64 {
        // Not by `sum`, whose sum of nothing is -0.
        self.squares(GRADIENT, level).into_iter().fold(0.0, |sum, squares| sum + squares).sqrt()
    }

    /// The sum of the squares of each piece of the arrays of a role, in order.
    fn squares(&mut self, role: usize, level: Level) -> Vec<f64> {
        let squares: Vec<_> = (0..self.jobs.pieces()).map(|_| AtomicU64::new(0)).collect();
        self.jobs.each_gradient(|piece| {
            let sum = piece.sum_of_squares(role, level);
            squares[piece.number()].store(sum.to_bits(), Ordering::Relaxed);
        });
        squares.into_iter().map(|bits| f64::from_bits(bits.into_inner())).collect()
    }

    /// Has every gradient multiplied by what `scale` makes of its own norm.
    pub(super) fn scale_each(&mut self, level: Level, scale: impl Fn(f64) -> f64) {
        let squares = self.squares(GRADIENT, level);
        for job in self.jobs.iter_mut() {
            job.set_scale(scale(norm(&squares[job.pieces()])));
        }
    }

    /// Has no gradient multiplied by something of its own.
    pub(super) fn scale_none(&mut self) {
        for job in self.jobs.iter_mut() {
            job.set_scale(1.0);
        }
    }

    /// The first parameter whose gradient has an element that is NaN or infinite.
    pub(super) fn first_nonfinite(&mut self, level: Level) -> Option<usize> {
        let first = AtomicUsize::new(usize::MAX);
        self.jobs.each_gradient(|piece| {
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
        let is_normed = |work: &Work| work.rule.normed_roles().next().is_some();
        if works.iter().any(is_normed) {
            return self.run_with_norms(works);
        }
        self.jobs.run(works);
        Ok(())
    }

    /// The same for rules that have the norms of whole arrays among their numbers.
    fn run_with_norms(&mut self, works: &[Work]) -> Result<(), Error> {
        let squares = [PARAMETER, GRADIENT].map(|role| {
            let used = |work: &&Work| work.rule.normed_roles().any(|normed| normed == role);
            works.iter().find(used).map(|work| self.squares(role, work.level))
        });
        let mut own = Vec::new();
        for job in self.jobs.iter_mut() {
            let work = &works[job.work];
            let mut rule = work.rule.clone();
            if rule.normed_roles().next().is_some() {
                if job.is_of_rows() || work.extras.max_value.is_some() {
                    let what = if job.is_of_rows() { "a gradient of rows" } else { "max_value" };
                    let what = format!("{what} was given to a rule that asks for norms");
                    return Err(Error::Value(what));
                }
                let mut norms = [0.0; 2];
                for (norm_of, squares) in norms.iter_mut().zip(&squares) {
                    *norm_of = squares.as_ref().map_or(0.0, |all| norm(&all[job.pieces()]));
                }
                norms[GRADIENT] *= (work.extras.scale * job.scale).abs();
                rule = rule.with_norms(norms)?;
            }
            own.push(Work { rule, ..work.clone() });
        }
        let shared: Vec<_> = self.jobs.iter_mut().map(|job| job.work).collect();
        for (number, job) in self.jobs.iter_mut().enumerate() {
            job.set_work(number);
        }
        self.jobs.run(&own);
        for (job, work) in self.jobs.iter_mut().zip(shared) {
            job.set_work(work);
        }
        Ok(())
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
    pub(super) fn swap(&mut self) {
        self.jobs.swap();
    }
}

/// The norm of an array, from the sums of the squares of its pieces.
fn norm(squares: &[f64]) -> f64 {
    squares.iter().fold(0.0, |sum, squares| sum + squares).sqrt()
}
