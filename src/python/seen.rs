//! What a plan has seen of its arrays. It serves later steps as long as every array is in the same place
//! and has not changed. Gradients may be other arrays, if they are alike.

use std::ops::Range;
use std::{iter, slice};

use super::call::{Call, Gradient};
use super::view::{Quiet, View};

/// The arrays of a call, as they were when it was checked.
#[derive(Default)]
pub(super) struct Seen {
    /// The layouts of the arrays of a parameter, then those of its gradient, if it is not of rows.
    pub(super) layouts: Layouts,
    /// The bytes of all arrays but the gradients: sorted, and those that touch made one.
    taken: Vec<Range<usize>>,
    /// Whether gradients are written.
    pub(super) clears: bool,
    /// The bytes of gradients that have moved: kept for its capacity.
    pub(super) moved: Vec<Range<usize>>,
}

impl Seen {
    /// Looks at the arrays of a call that was checked.
    pub(super) fn of<'q>(call: &Call<'q>, quiet: &'q Quiet) -> Self {
        let mut seen = Self { clears: call.writes_gradients, ..Self::default() };
        for (number, (parameter, gradient)) in iter::zip(call.parameters, call.grads).enumerate() {
            if matches!(gradient, Gradient::Absent) {
                continue;
            }
            for array in parameter.arrays().map(|(_, array)| array).chain(&parameter.exponents) {
                let view = View::of(array, quiet);
                seen.layouts.push(number, &view);
                seen.taken.extend(view.span());
            }
            for array in gradient.terms() {
                seen.layouts.push(number, &View::of(array, quiet));
            }
        }
        seen.taken.sort_unstable_by_key(|bytes| bytes.start);
        seen.taken.dedup_by(|next, last| {
            let touch = next.start <= last.end;
            if touch {
                last.end = last.end.max(next.end);
            }
            touch
        });
        seen
    }

    /// Whether no gradient that has moved has a byte of what is written. Interleaved ones may be
    /// taken for such that have.
    pub(super) fn moved_are_apart(&mut self) -> bool {
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

/// What arrays are like, one after the other: all that their checks and walks depend on, but for the
/// address.
#[derive(Default)]
pub(super) struct Layouts {
    list: Vec<Layout>,
    /// The shapes and strides, one after the other.
    numbers: Vec<isize>,
}

struct Layout {
    /// The number of the parameter that it goes with.
    owner: usize,
    kind: u64,
    ndim: usize,
    /// How many strides are compared: none of an array in C or Fortran order, whose shape tells them
    /// where they matter.
    strides: usize,
    /// One less than the bytes of an element: the bits that the address of an aligned array has not.
    mask: usize,
    is_aligned: bool,
}

impl Layouts {
    pub(super) fn push(&mut self, owner: usize, view: &View<'_>) {
        let is_one_run = view.is_c_contiguous() || view.is_f_contiguous();
        let strides = if is_one_run { &[] } else { view.strides };
        self.list.push(Layout {
            owner,
            kind: view.kind(),
            ndim: view.shape.len(),
            strides: strides.len(),
            mask: view.element_size() - 1,
            is_aligned: view.is_aligned(),
        });
        self.numbers.extend(view.shape);
        self.numbers.extend(strides);
    }

    /// Compares them with views, one after the other.
    pub(super) fn compare(&self) -> Comparison<'_> {
        Comparison { rest: self.list.iter(), numbers: self.numbers.iter() }
    }
}

pub(super) struct Comparison<'a> {
    rest: slice::Iter<'a, Layout>,
    numbers: slice::Iter<'a, isize>,
}

impl Comparison<'_> {
    /// Whether the next layout is that of the view, which goes with this parameter.
    #[inline(always)]
    pub(super) fn next_is(&mut self, owner: usize, view: &View<'_>) -> bool {
        let Some(layout) = self.rest.next() else { return false };
        // Number by number: to compare slices of so few is a call each.
        let mut are_next = |given: &[isize]| given.iter().all(|n| self.numbers.next() == Some(n));
        layout.owner == owner
            && layout.kind == view.kind()
            && layout.ndim == view.shape.len()
            && layout.is_aligned == (view.data.addr() & layout.mask == 0)
            && are_next(view.shape)
            && (layout.strides == 0 || are_next(view.strides))
    }

    /// Whether there is no layout left.
    pub(super) fn is_over(&self) -> bool {
        self.rest.as_slice().is_empty()
    }
}
