//! The formats of elements in memory, and how they come to registers and go back.

use crate::registers::{Half, Register, WordInstructions, Words};
use crate::storage;
use crate::word::Word;

/// The elements of an array as they are in memory.
#[derive(Debug)]
pub enum Elements<'a> {
    /// Numbers.
    Float32(&'a mut [f32]),
    /// Upper halves of numbers.
    Bfloat16(&'a mut [Half]),
}

/// The elements of a gradient as they are in memory.
#[derive(Clone, Copy, Debug)]
pub enum Gradient<'a> {
    /// Numbers.
    Float32(&'a [f32]),
    /// Upper halves of numbers.
    Bfloat16(&'a [Half]),
}

/// How the elements of an array lie in memory.
pub(super) trait Format {
    /// An element as it is in memory.
    type Bits: Copy + Default;
    const SPLIT: bool = false;

    fn slice(elements: Elements<'_>) -> Option<&mut [Self::Bits]>;
    fn gradient(elements: Gradient<'_>) -> Option<&[Self::Bits]>;

    /// The numbers of the first elements of slices, of which the second is empty if it is not split.
    /// If `PAIRS`, which only halves can be, one register has every second number.
    fn load<V: WordInstructions, const PAIRS: bool>(
        bits: &[Self::Bits],
        low: &[Half],
    ) -> [Register<V>; 2];
    /// Stores them there, rounded by the noise if they are.
    fn store<V: WordInstructions, const PAIRS: bool>(
        numbers: [Register<V>; 2],
        noise: [Words<V>; 2],
        bits: &mut [Self::Bits],
        low: &mut [Half],
    );
}

/// float32.
pub(super) struct Plain;
/// bfloat16, rounded by the noise.
pub(super) struct Noisy;
/// The upper halves of numbers, with their lower halves beside them.
pub(super) struct Split;

impl Format for Plain {
    type Bits = f32;

    fn slice(elements: Elements<'_>) -> Option<&mut [f32]> {
        if let Elements::Float32(slice) = elements { Some(slice) } else { None }
    }

    fn gradient(elements: Gradient<'_>) -> Option<&[f32]> {
        if let Gradient::Float32(slice) = elements { Some(slice) } else { None }
    }

    #[inline(always)]
    fn load<V: WordInstructions, const PAIRS: bool>(
        numbers: &[f32],
        _: &[Half],
    ) -> [Register<V>; 2] {
        [Register::load(numbers), Register::load(&numbers[V::N..])]
    }

    #[inline(always)]
    fn store<V: WordInstructions, const PAIRS: bool>(
        [first, second]: [Register<V>; 2],
        _: [Words<V>; 2],
        bits: &mut [f32],
        _: &mut [Half],
    ) {
        first.store(bits);
        second.store(&mut bits[V::N..]);
    }
}

impl Format for Noisy {
    type Bits = Half;

    fn slice(elements: Elements<'_>) -> Option<&mut [Half]> {
        if let Elements::Bfloat16(slice) = elements { Some(slice) } else { None }
    }

    fn gradient(elements: Gradient<'_>) -> Option<&[Half]> {
        if let Gradient::Bfloat16(slice) = elements { Some(slice) } else { None }
    }

    #[inline(always)]
    fn load<V: WordInstructions, const PAIRS: bool>(bits: &[Half], _: &[Half]) -> [Register<V>; 2] {
        let [first, second] = if PAIRS {
            Words::load_pairs(bits)
        } else {
            [Words::load_upper(bits), Words::load_upper(&bits[V::N..])]
        };
        [first.numbers(), second.numbers()]
    }

    #[inline(always)]
    fn store<V: WordInstructions, const PAIRS: bool>(
        [first, second]: [Register<V>; 2],
        [noise1, noise2]: [Words<V>; 2],
        bits: &mut [Half],
        _: &mut [Half],
    ) {
        let first = storage::round_by(Words::of_numbers(first), noise1);
        let second = storage::round_by(Words::of_numbers(second), noise2);
        if PAIRS {
            Words::store_pairs([first, second], bits);
        } else {
            Words::store_upper([first, second], bits);
        }
    }
}

impl Format for Split {
    type Bits = Half;
    const SPLIT: bool = true;

    fn slice(elements: Elements<'_>) -> Option<&mut [Half]> {
        Noisy::slice(elements)
    }

    fn gradient(elements: Gradient<'_>) -> Option<&[Half]> {
        Noisy::gradient(elements)
    }

    #[inline(always)]
    fn load<V: WordInstructions, const PAIRS: bool>(
        bits: &[Half],
        low: &[Half],
    ) -> [Register<V>; 2] {
        let first = Words::load_upper(bits).plus(Words::load_signed(low));
        let (bits, low) = (&bits[V::N..], &low[V::N..]);
        [first.numbers(), Words::load_upper(bits).plus(Words::load_signed(low)).numbers()]
    }

    #[inline(always)]
    fn store<V: WordInstructions, const PAIRS: bool>(
        [first, second]: [Register<V>; 2],
        _: [Words<V>; 2],
        bits: &mut [Half],
        low: &mut [Half],
    ) {
        let (first, second) = (Words::of_numbers(first), Words::of_numbers(second));
        Words::store_upper([storage::round_up(first), storage::round_up(second)], bits);
        Words::store_lower([first, second], low);
    }
}
