//! Whether arrays share memory: exactly, by the equation of their strides; and quickly, for many arrays
//! that interleave.

use std::iter;
use std::ops::Range;

/// Steps of the search after which two arrays are taken to share memory.
const MAX_WORK: usize = 100_000;

/// The most periods that interleaving arrays are looked at by.
const MAX_PERIODS: usize = 8;

/// Where the elements of an array are.
#[derive(Clone, Copy, Debug)]
pub struct Elements<'a> {
    /// The address of the first.
    pub data: usize,
    /// The places of each axis; of none there is one element.
    pub shape: &'a [isize],
    /// In bytes.
    pub strides: &'a [isize],
    /// Of an element, in bytes.
    pub size: usize,
}

impl<'a> Elements<'a> {
    fn is_empty(&self) -> bool {
        self.shape.contains(&0)
    }

    /// The strides of the axes that lead anywhere, with how often they do.
    fn steps(&self) -> impl Iterator<Item = (isize, isize)> + use<'a> {
        let axes = iter::zip(self.shape, self.strides).filter(|&(&n, _)| n > 1);
        axes.map(|(&n, &stride)| (stride, n - 1))
    }

    /// The bytes from the first on to the last along the axes whose strides `counts` lets pass.
    fn span_along(&self, counts: impl Fn(isize) -> bool) -> Range<usize> {
        let mut span = self.data..self.data + self.size;
        for (stride, most) in self.steps().filter(|&(stride, _)| counts(stride)) {
            let reach = (stride * most).unsigned_abs();
            if stride < 0 {
                span.start -= reach;
            } else {
                span.end += reach;
            }
        }
        span
    }

    /// The addresses from the first byte to the one after the last; `None` for an empty array.
    #[must_use]
    pub fn span(&self) -> Option<Range<usize>> {
        (!self.is_empty()).then(|| self.span_along(|_| true))
    }

    /// What a period has of the array, wherever the period begins: a range from below the period on,
    /// which may reach into the next; `None` if it may be all of the period.
    fn phase(&self, period: usize) -> Option<Range<usize>> {
        let span = self.span_along(|stride| !stride.unsigned_abs().is_multiple_of(period));
        let start = span.start % period;
        (span.len() <= period).then(|| start..start + span.len())
    }
}

/// Whether two arrays have a byte in common.
#[must_use]
pub fn share_memory(a: &Elements<'_>, b: &Elements<'_>) -> bool {
    !a.is_empty() && !b.is_empty() && !have_other_phases(a, b) && meet(a, b)
}

/// Whether two arrays are found to be apart by one of their strides as a period.
fn have_other_phases(a: &Elements<'_>, b: &Elements<'_>) -> bool {
    a.steps().chain(b.steps()).any(|(stride, _)| {
        let period = stride.unsigned_abs();
        let phases = || Some((a.phase(period)?, b.phase(period)?));
        period > 0
            && phases().is_some_and(|(a, b)| {
                let before = |a: &Range<usize>, b: &Range<usize>| {
                    a.end <= b.start && b.end <= a.start + period
                };
                before(&a, &b) || before(&b, &a)
            })
    })
}

/// Whether no written range has anything in common with another; each comes with whether it is.
fn are_apart(mut ranges: Vec<(Range<usize>, bool)>) -> bool {
    ranges.sort_unstable_by_key(|(range, _)| range.start);
    let (mut end, mut end_written) = (0, 0);
    ranges.into_iter().all(|(range, written)| {
        let apart = range.start >= if written { end } else { end_written };
        end = end.max(range.end);
        if written {
            end_written = end_written.max(range.end);
        }
        apart
    })
}

/// Whether arrays that interleave are found to be apart, as the columns of a matrix are: by a stride
/// as a period of which each has a range of its own. Each comes with whether it is written; those that
/// are not may have bytes in common. What is not found may be so too.
#[must_use]
pub fn interleave<'a>(arrays: &(impl Iterator<Item = (Elements<'a>, bool)> + Clone)) -> bool {
    let mut periods = Vec::with_capacity(MAX_PERIODS);
    for (stride, _) in arrays.clone().flat_map(|(elements, _)| elements.steps()) {
        let period = stride.unsigned_abs();
        if period > 0 && !periods.contains(&period) {
            if periods.len() == MAX_PERIODS {
                break;
            }
            periods.push(period);
        }
    }
    periods.into_iter().any(|period| {
        let mut phases = Vec::new();
        for (elements, written) in arrays.clone() {
            let Some(phase) = elements.phase(period) else { return false };
            if phase.end > period {
                phases.push((0..phase.end - period, written));
            }
            phases.push((phase.start..phase.end.min(period), written));
        }
        are_apart(phases)
    })
}

/// They meet where `a.data + i*strides of a + byte = b.data + j*strides of b + byte` for places `i`
/// and `j` within their shapes: one equation of bounded whole numbers. Where the search for a
/// solution takes too long, the answer is yes.
fn meet(a: &Elements<'_>, b: &Elements<'_>) -> bool {
    let mut equation = Equation {
        terms: Vec::with_capacity(a.shape.len() + b.shape.len() + 1),
        wanted: b.data as i128 - a.data as i128,
    };
    for (elements, sign) in [(a, 1), (b, -1)] {
        for (&n, &stride) in elements.shape.iter().zip(elements.strides) {
            equation.push(sign * stride as i128, n as i128 - 1);
        }
        equation.push(sign, elements.size as i128 - 1);
    }
    equation.has_solution()
}

/// Whether two elements of one array have a byte in common: along each axis, the first place is
/// compared with all later ones.
#[must_use]
pub fn overlaps_itself(elements: &Elements<'_>) -> bool {
    if elements.is_empty() || is_nested(elements) {
        return false;
    }
    let shape = elements.shape;
    (0..shape.len()).filter(|&axis| shape[axis] > 1).any(|axis| {
        let (mut first, mut rest) = (shape.to_vec(), shape.to_vec());
        // Axes before it stay at their first place: what they add is compared in their own turn.
        first[..=axis].fill(1);
        rest[..axis].fill(1);
        rest[axis] -= 1;
        let data = elements.data.wrapping_add_signed(elements.strides[axis]);
        let first = Elements { shape: &first, ..*elements };
        meet(&first, &Elements { shape: &rest, data, ..*elements })
    })
}

/// Whether every axis steps over all that the axes inside it reach, so that no two elements can
/// share a byte.
fn is_nested(elements: &Elements<'_>) -> bool {
    let steps = elements.steps();
    let mut axes: Vec<_> =
        steps.map(|(stride, most)| (stride.unsigned_abs(), most.unsigned_abs())).collect();
    axes.sort_unstable();
    let mut reach = elements.size;
    axes.into_iter().all(|(stride, most)| {
        let clear = stride >= reach;
        reach += stride * most;
        clear
    })
}

/// `sum of terms[k].0 * x[k] = wanted`, with `0 <= x[k] <= terms[k].1`.
struct Equation {
    terms: Vec<(i128, i128)>,
    wanted: i128,
}

impl Equation {
    /// Adds a term, with a factor made positive: `a*x = -a*(most - x) + a*most`.
    fn push(&mut self, factor: i128, most: i128) {
        if factor == 0 || most == 0 {
            return;
        }
        if factor < 0 {
            self.wanted -= factor * most;
        }
        match self.terms.iter_mut().find(|(known, _)| *known == factor.abs()) {
            Some((_, bound)) => *bound += most,
            None => self.terms.push((factor.abs(), most)),
        }
    }

    fn has_solution(mut self) -> bool {
        self.terms.sort_unstable_by_key(|&(factor, _)| std::cmp::Reverse(factor));
        search(&self.terms, self.wanted, &mut 0)
    }
}

/// Whether there is a solution, tried from the largest factor on: it leaves few places for the rest.
fn search(terms: &[(i128, i128)], wanted: i128, work: &mut usize) -> bool {
    *work += 1;
    if *work > MAX_WORK {
        return true;
    }
    let [(factor, most), rest @ ..] = terms else {
        return wanted == 0;
    };
    let divisor = terms.iter().fold(0, |divisor, &(factor, _)| gcd(divisor, factor));
    if wanted < 0 || wanted % divisor != 0 {
        return false;
    }
    let reach: i128 = rest.iter().map(|(factor, most)| factor * most).sum();
    // What the rest can't reach has to come from this term.
    let least = (wanted - reach).max(0).div_euclid(*factor)
        + i128::from((wanted - reach).max(0).rem_euclid(*factor) != 0);
    let most = (*most).min(wanted / factor);
    (least..=most).any(|x| search(rest, wanted - factor * x, work))
}

fn gcd(mut a: i128, mut b: i128) -> i128 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;

    /// Numbers that look random, and are the same in every run.
    struct Random(u64);

    impl Random {
        fn below(&mut self, n: usize) -> usize {
            self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            usize::try_from(self.0 >> 33).expect("31 bits") % n
        }

        fn array(&mut self) -> Array {
            let size: usize = [1, 4, 8][self.below(3)];
            let unit: isize = if self.below(2) == 0 { 1 } else { size.cast_signed() };
            let axes = self.below(4);
            let shape: Vec<_> = (0..axes).map(|_| [0, 1, 2, 3, 4, 5][self.below(6)]).collect();
            let strides = (0..axes).map(|_| (self.below(15).cast_signed() - 7) * unit).collect();
            Array { data: 1_000 + self.below(80), shape, strides, size }
        }
    }

    #[derive(Debug)]
    struct Array {
        data: usize,
        shape: Vec<isize>,
        strides: Vec<isize>,
        size: usize,
    }

    impl Array {
        fn elements(&self) -> Elements<'_> {
            let Self { data, ref shape, ref strides, size } = *self;
            Elements { data, shape, strides, size }
        }

        /// The address of every byte, as often as it is one of an element's.
        fn bytes(&self) -> Vec<usize> {
            let mut places = vec![self.data];
            for (&n, &stride) in iter::zip(&self.shape, &self.strides) {
                let of = |place: usize| (0..n).map(move |i| place.wrapping_add_signed(i * stride));
                places = places.into_iter().flat_map(of).collect();
            }
            places.into_iter().flat_map(|place| place..place + self.size).collect()
        }

        fn set(&self) -> BTreeSet<usize> {
            self.bytes().into_iter().collect()
        }
    }

    #[test]
    fn two_arrays_share_memory_if_they_have_a_byte_in_common() {
        let mut random = Random(1);
        let mut found = BTreeMap::new();
        for _ in 0..6_000 {
            let (a, b) = (random.array(), random.array());
            let wanted = !a.set().is_disjoint(&b.set());
            assert_eq!(share_memory(&a.elements(), &b.elements()), wanted, "{a:?} {b:?}");
            let spans = a.elements().span().zip(b.elements().span());
            let close = spans.is_some_and(|(a, b)| a.start < b.end && b.start < a.end);
            *found.entry((wanted, close)).or_insert(0) += 1;
        }
        // Those that interleave are what is hard.
        assert!(found[&(true, true)] > 500 && found[&(false, true)] > 100, "{found:?}");
    }

    #[test]
    fn an_array_overlaps_itself_if_two_elements_have_a_byte_in_common() {
        let mut random = Random(2);
        let mut found = [0; 2];
        for _ in 0..6_000 {
            let array = random.array();
            let wanted = array.set().len() < array.bytes().len();
            assert_eq!(overlaps_itself(&array.elements()), wanted, "{array:?}");
            found[usize::from(wanted)] += 1;
        }
        assert!(found.into_iter().all(|count| count > 500), "{found:?}");
    }

    #[test]
    fn a_span_is_from_the_first_byte_to_the_last() {
        let mut random = Random(3);
        for _ in 0..3_000 {
            let array = random.array();
            let bytes = array.set();
            let wanted = bytes.first().zip(bytes.last()).map(|(&first, &last)| first..last + 1);
            assert_eq!(array.elements().span(), wanted, "{array:?}");
        }
    }

    #[test]
    fn what_is_found_to_interleave_is_apart() {
        let mut random = Random(4);
        let mut found = 0;
        for _ in 0..6_000 {
            let period = 8 * (1 + random.below(6)).cast_signed();
            let size = 4;
            let arrays: Vec<_> = (0..3)
                .map(|_| {
                    let (data, written) = (1_000 + random.below(60), random.below(2) == 0);
                    let strides = vec![period * [1, 2, -1][random.below(3)], 4];
                    let shape =
                        vec![1 + random.below(4).cast_signed(), 1 + random.below(3).cast_signed()];
                    (Array { data, shape, strides, size }, written)
                })
                .collect();
            if interleave(&arrays.iter().map(|(array, written)| (array.elements(), *written))) {
                found += 1;
                for (i, (a, a_written)) in arrays.iter().enumerate() {
                    for (b, b_written) in &arrays[i + 1..] {
                        let apart = a.set().is_disjoint(&b.set());
                        assert!(apart || !(a_written | b_written), "{a:?} {b:?}");
                    }
                }
            }
        }
        assert!(found > 500, "{found}");
    }

    #[test]
    fn columns_interleave() {
        let column = |k: usize| (1_000 + 4 * k, k.is_multiple_of(2));
        let (shape, strides) = ([50], [400]);
        let elements = |data| Elements { data, shape: &shape, strides: &strides, size: 4 };
        let columns = || (0..100).map(column).map(|(data, written)| (elements(data), written));
        assert!(interleave(&columns()));
        assert!(interleave(&columns().chain([(elements(1_000 + 4 * 7), false)])));
        assert!(!interleave(&columns().chain([(elements(1_000 + 4 * 7), true)])));
    }
}
