//! What a plan has seen of its arrays. It serves later steps as long as every array is in the same place
//! and has not changed. Gradients may be other arrays, if they are alike.

use std::iter;
use std::ops::Range;

use super::call::{Call, Gradient};
use super::view::{Layouts, Quiet, View};

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
