//! What a plan has seen of its arrays. It serves later steps as long as every array is in the same place
//! and has not changed. Gradients may be other arrays, if they are alike.

use std::iter;
use std::ops::Range;

use super::call::{Call, Gradient};
use super::view::{NO_KIND, Quiet, View};

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
            seen.layouts.push_owner(number);
            for array in parameter.arrays().map(|(_, array)| array).chain(&parameter.exponents) {
                let view = View::of(array, quiet);
                seen.layouts.push(&view);
                seen.taken.extend(view.span());
            }
            for array in gradient.terms() {
                seen.layouts.push(&View::of(array, quiet));
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

/// What arrays are like, one after the other, in words: all that their checks and walks depend on, but
/// for the address.
///
/// The arrays of a parameter follow its number; each array is its kind, which tells the number of axes and
/// whether it has strides here, its shape, and its strides. So what comes after is not taken for
/// something else if an array more or less is given.
#[derive(Default)]
pub(super) struct Layouts(Vec<u64>);

impl Layouts {
    /// What the views that follow go with.
    fn push_owner(&mut self, number: usize) {
        self.0.push(owner(number));
    }

    fn push(&mut self, view: &View<'_>) {
        self.0.extend(view.kind());
        self.0.extend(view.shape.iter().map(word));
        // If it is, its shape tells its strides where they matter.
        if !view.is_contiguous() {
            self.0.extend(view.strides.iter().map(word));
        }
    }

    /// Compares them with views, one after the other.
    pub(super) fn compare(&self) -> Comparison<'_> {
        Comparison(&self.0)
    }
}

/// A parameter's number, in a word that begins no kind.
#[inline(always)]
fn owner(number: usize) -> u64 {
    number as u64 | NO_KIND
}

#[inline(always)]
fn word(number: &isize) -> u64 {
    number.cast_unsigned() as u64
}

/// The layouts that are left to compare.
#[derive(Clone, Copy)]
pub(super) struct Comparison<'a>(&'a [u64]);

impl Comparison<'_> {
    /// What is left, if the next views go with this parameter.
    #[inline(always)]
    pub(super) fn owner_is(self, number: usize) -> Option<Self> {
        let (&next, rest) = self.0.split_first()?;
        (next == owner(number)).then_some(Self(rest))
    }

    /// What is left, if the next layout is that of the view.
    #[inline(always)]
    pub(super) fn next_is(self, view: &View<'_>) -> Option<Self> {
        let (kind, rest) = self.0.split_first_chunk::<2>()?;
        let own = view.kind();
        if kind[0] != own[0] || kind[1] != own[1] {
            return None;
        }
        let rest = Self(rest).are_next(view.shape)?;
        if view.is_contiguous() { Some(rest) } else { rest.are_next(view.strides) }
    }

    #[inline(always)]
    fn are_next(self, numbers: &[isize]) -> Option<Self> {
        let (next, rest) = self.0.split_at_checked(numbers.len())?;
        // One by one: to compare slices of so few is a call.
        for k in 0..numbers.len() {
            if next[k] != word(&numbers[k]) {
                return None;
            }
        }
        Some(Self(rest))
    }

    /// Whether there is no layout left.
    pub(super) fn is_over(self) -> bool {
        self.0.is_empty()
    }
}
