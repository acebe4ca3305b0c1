//! What a step may need to know about gradients first: their sum, their norm, and whether they are finite.

use crate::element::Element;
use crate::isa::{self, Kernel, Level};

/// The elements whose squares make one sum. Fixed, as the order of the sums is: the bits of a norm
/// depend on neither threads nor instructions.
pub const BLOCK: usize = 32_768;

/// The sums that run side by side within a block.
const LANES: usize = 16;

/// The sum of the squares of a block, in `f64`.
///
/// Element `i` is added to sum `i % 16`, in order; then the sums are added, in order.
#[derive(Default)]
pub struct Squares([f64; LANES]);

impl Squares {
    /// Adds the next elements of the block: a multiple of 16, except for the last ones.
    pub fn add<F: Element>(&mut self, level: Level, g: &[F]) {
        isa::run(level, Add { g, sums: &mut self.0 });
    }

    /// The sum of the squares that were added.
    #[must_use]
    pub fn sum(&self) -> f64 {
        self.0.iter().sum()
    }
}

/// Adds a gradient to the sum of those before it.
pub fn add<F: Element>(level: Level, g: &[F], sum: &mut [F]) {
    isa::run(level, Plus { g, sum });
}

struct Plus<'a, F> {
    g: &'a [F],
    sum: &'a mut [F],
}

impl<F: Element> Kernel for Plus<'_, F> {
    #[inline(always)]
    fn run<const WIDTH: usize>(self) {
        for (sum, &x) in self.sum.iter_mut().zip(self.g) {
            *sum = *sum + x;
        }
    }
}

struct Add<'a, F> {
    g: &'a [F],
    sums: &'a mut [f64; LANES],
}

impl<F: Element> Kernel for Add<'_, F> {
    #[inline(always)]
    fn run<const WIDTH: usize>(self) {
        let (rows, rest) = self.g.as_chunks::<LANES>();
        let mut sums = *self.sums;
        for row in rows {
            for lane in 0..LANES {
                let x = row[lane].widen();
                sums[lane] += x * x;
            }
        }
        for (sum, x) in sums.iter_mut().zip(rest) {
            *sum += x.widen() * x.widen();
        }
        *self.sums = sums;
    }
}

/// Whether no element is NaN or infinite.
pub fn all_finite<F: Element>(level: Level, g: &[F]) -> bool {
    let mut finite = true;
    isa::run(level, Finite { g, finite: &mut finite });
    finite
}

struct Finite<'a, F> {
    g: &'a [F],
    finite: &'a mut bool,
}

impl<F: Element> Kernel for Finite<'_, F> {
    #[inline(always)]
    fn run<const WIDTH: usize>(self) {
        let zero = F::nearest(0.0);
        // NaN for NaN and Inf, zero for everything else.
        *self.finite = self.g.iter().filter(|&&x| x * zero != zero).count() == 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_are_alike_at_every_level_and_length() {
        let g: Vec<f32> = (0..300_u16).map(|i| f32::from(i) * 0.37 - 50.0).collect();
        for n in 0..g.len() {
            let mut lanes = [0.0; LANES];
            for (i, &x) in g[..n].iter().enumerate() {
                lanes[i % LANES] += f64::from(x) * f64::from(x);
            }
            let wanted: f64 = lanes.iter().sum();
            for level in Level::available() {
                for cut in [0, 16, 64].into_iter().filter(|&cut| cut <= n) {
                    let mut squares = Squares::default();
                    squares.add(level, &g[..cut]);
                    squares.add(level, &g[cut..n]);
                    assert_eq!(squares.sum().to_bits(), wanted.to_bits());
                }
            }
        }
    }

    #[test]
    fn gradients_are_added_alike_at_every_level_and_length() {
        let g: Vec<f32> = (0..300_u16).map(|i| f32::from(i) * 0.37 - 50.0).collect();
        let first: Vec<f32> = g.iter().map(|x| 1e4 / (x + 0.1)).collect();
        for n in 0..g.len() {
            let wanted: Vec<_> = (0..n).map(|i| (first[i] + g[i]).to_bits()).collect();
            for level in Level::available() {
                let mut sum = first.clone();
                add(level, &g[..n], &mut sum[..n]);
                assert!(sum[..n].iter().map(|x| x.to_bits()).eq(wanted.iter().copied()));
                assert_eq!(sum[n..], first[n..]);
            }
        }
    }

    #[test]
    fn one_bad_element_is_found_wherever_it_is() {
        for bad in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            for place in 0..100 {
                let mut g = vec![f64::MAX; 100];
                g[place] = bad;
                for level in Level::available() {
                    assert!(!all_finite(level, &g));
                    assert!(all_finite(level, &g[..place]));
                }
            }
        }
    }
}
