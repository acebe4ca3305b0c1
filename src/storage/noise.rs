//! The noise that rounds: a random number for every element, which depends only on its place.
#![expect(clippy::cast_possible_truncation, reason = "halves of words are what it is about")]

use crate::word::Word;

/// The noise of the elements of an array whose places have the same upper 32 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Noise {
    k0: u32,
    k1: u32,
}

/// What the noise of an array depends on, beside the place of the element: the seed, the step and the
/// stream, which is the array's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Key(u64);

impl Key {
    /// The key of a stream in step `t`.
    #[must_use]
    pub const fn new(seed: u64, t: u64, stream: u64) -> Self {
        const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;
        let seeded = mix64(seed.wrapping_add(GOLDEN));
        Self(mix64(mix64(seeded.wrapping_add(t)).wrapping_add(stream)))
    }

    /// The noise of the elements whose places have these upper 32 bits.
    #[must_use]
    pub const fn noise(self, high: u32) -> Noise {
        let k = mix64(self.0.wrapping_add(high as u64));
        Noise { k0: k as u32, k1: (k >> 32) as u32 }
    }
}

/// `SplitMix64`'s finalizer.
const fn mix64(z: u64) -> u64 {
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

const FACTOR: u32 = 0x21f0_aaad;

impl Noise {
    /// The number of the element whose place has these lower 32 bits.
    #[inline(always)]
    #[must_use]
    pub fn of(self, i: u32) -> u32 {
        self.finish(self.start(i))
    }

    /// The first product.
    #[inline(always)]
    fn start(self, i: u32) -> u32 {
        (i ^ self.k0).wrapping_mul(FACTOR)
    }

    /// What is made of the first product.
    #[inline(always)]
    pub(crate) fn finish<W: Word>(self, start: W) -> W {
        let x = start.xor(start.right::<15>());
        let x = x.plus(W::of(self.k1)).times(W::of(0xd35a_2d97));
        x.xor(x.right::<15>())
    }
}

/// The places of elements that are a step apart, modulo 2**32: of those of all, the upper 32 bits are the
/// same.
#[derive(Clone, Copy, Debug)]
pub struct Places {
    /// Of the first.
    pub first: u32,
    /// From each to the next.
    pub step: u32,
}

impl Places {
    /// Those from number `i` on.
    #[inline(always)]
    pub(crate) fn after(self, i: usize) -> Self {
        let first = self.first.wrapping_add(self.step.wrapping_mul(i as u32));
        Self { first, ..self }
    }
}

/// The first products of the noise of `B` elements, a power of two, then of the next ones: in order, or if
/// `PAIRS` first those of every second element, then of the others.
///
/// Where these begin at a multiple of `B` and follow one another, a place is the sum of the multiple and
/// a number below `B`. Both have their own bits, so that the sum of the products of both is the product,
/// and one of the two is always the same.
pub(crate) struct Starts<const B: usize, const PAIRS: bool> {
    noise: Noise,
    products: [u32; B],
}

impl<const B: usize, const PAIRS: bool> Starts<B, PAIRS> {
    /// The bits of numbers below `B`.
    const BELOW: u32 = {
        assert!(B.is_power_of_two());
        B as u32 - 1
    };

    /// The element whose product is at `i`.
    #[inline(always)]
    fn element(i: usize) -> u32 {
        (if PAIRS { 2 * i % B + 2 * i / B } else { i }) as u32
    }

    #[inline(always)]
    pub(crate) fn new(noise: Noise) -> Self {
        let mut products = [0; B];
        for (i, product) in products.iter_mut().enumerate() {
            *product = ((Self::element(i) ^ noise.k0) & Self::BELOW).wrapping_mul(FACTOR);
        }
        Self { noise, products }
    }

    /// Goes on to the elements at these places. What it returns has to be added to the products of these.
    #[inline(always)]
    pub(crate) fn go_to(&mut self, Places { first, step }: Places) -> u32 {
        if step == 1 && first & Self::BELOW == 0 {
            return ((first ^ self.noise.k0) & !Self::BELOW).wrapping_mul(FACTOR);
        }
        for (i, product) in self.products.iter_mut().enumerate() {
            let place = first.wrapping_add(step.wrapping_mul(Self::element(i)));
            *product = self.noise.start(place);
        }
        0
    }

    #[inline(always)]
    pub(crate) fn noise(&self) -> Noise {
        self.noise
    }

    /// The products of the last elements, less what [`go_to`](Self::go_to) has returned.
    #[inline(always)]
    pub(crate) fn products(&self) -> &[u32; B] {
        &self.products
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_noise_is_that_of_the_formula() {
        // Computed with Python's integers.
        let noise = Key::new(1, 2, 3).noise(0);
        let found = [0, 1, 2, u32::MAX].map(|i| noise.of(i));
        assert_eq!(found, EXPECTED);
    }

    const EXPECTED: [u32; 4] = [0x10d1_b595, 0xeb48_c9d5, 0x0b26_a0d4, 0xb0a9_90e1];

    fn the_starts_are_those_of_all_elements<const PAIRS: bool>(order: [usize; 8]) {
        let noise = Key::new(4, 5, 6).noise(7);
        for first in [0, 1, 4, 8, 16, 1 << 31, u32::MAX - 31, u32::MAX - 40] {
            for step in [1, 2, 3, 1000, u32::MAX] {
                let places = Places { first, step };
                let mut starts = Starts::<8, PAIRS>::new(noise);
                for block in 0..9 {
                    let more = starts.go_to(places.after(8 * block));
                    for (product, i) in starts.products().iter().zip(order) {
                        let place = places.after(8 * block + i).first;
                        assert_eq!(product.wrapping_add(more), noise.start(place));
                    }
                }
            }
        }
    }

    #[test]
    fn starts_are_in_order_or_in_pairs() {
        the_starts_are_those_of_all_elements::<false>([0, 1, 2, 3, 4, 5, 6, 7]);
        the_starts_are_those_of_all_elements::<true>([0, 2, 4, 6, 1, 3, 5, 7]);
    }
}
