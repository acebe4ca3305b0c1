//! Whether arrays share memory: exactly, by the equation of their strides.

use std::iter;

use super::view::View;

/// Steps of the search after which two arrays are taken to share memory.
const MAX_WORK: usize = 100_000;

/// Where the elements of an array are.
#[derive(Clone, Copy)]
struct Elements<'a> {
    data: usize,
    shape: &'a [isize],
    strides: &'a [isize],
    size: usize,
}

impl<'a> Elements<'a> {
    fn of(view: &View<'a>) -> Self {
        let (data, size) = (view.data.addr(), view.element_size());
        Self { data, shape: view.shape, strides: view.strides, size }
    }
}

/// Whether two arrays have a byte in common.
pub(super) fn share_memory(a: &View<'_>, b: &View<'_>) -> bool {
    a.len() > 0 && b.len() > 0 && meet(&Elements::of(a), &Elements::of(b))
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
pub(super) fn overlaps_itself(view: &View<'_>) -> bool {
    if view.is_c_contiguous() || view.is_f_contiguous() || view.len() == 0 || is_nested(view) {
        return false;
    }
    (0..view.shape.len()).filter(|&axis| view.shape[axis] > 1).any(|axis| {
        let (mut first, mut rest) = (view.shape.to_vec(), view.shape.to_vec());
        // Axes before it stay at their first place: what they add is compared in their own turn.
        first[..=axis].fill(1);
        rest[..axis].fill(1);
        rest[axis] -= 1;
        let all = Elements::of(view);
        let data = view.data.wrapping_offset(view.strides[axis]).addr();
        meet(&Elements { shape: &first, ..all }, &Elements { shape: &rest, data, ..all })
    })
}

/// Whether every axis steps over all that the axes inside it reach, so that no two elements can
/// share a byte.
fn is_nested(view: &View<'_>) -> bool {
    let mut axes: Vec<_> = iter::zip(view.shape, view.strides)
        .filter(|&(&n, _)| n > 1)
        .map(|(&n, &stride)| (stride.unsigned_abs(), n.unsigned_abs()))
        .collect();
    axes.sort_unstable();
    let mut reach = view.element_size();
    axes.into_iter().all(|(stride, n)| {
        let clear = stride >= reach;
        reach += stride * (n - 1);
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
