//! Registers of 32-bit words, and how 16-bit halves of words come from memory and go there.
#![expect(unsafe_code, reason = "calling code that is compiled for a CPU feature is unsafe")]

use super::{Binary, Instructions, Register, Unary};
use crate::word::Word;

/// Half of a word, as it is in memory.
pub type Half = [u8; 2];

/// The instructions for the bits of `f32` registers, as those of [`Instructions`].
pub(crate) trait WordInstructions: Instructions<Element = f32> {
    const PLUS: Binary<Self>;
    const TIMES: Binary<Self>;
    const XOR: Binary<Self>;
    const LEFT_16: Unary<Self>;
    const RIGHT_15: Unary<Self>;
    const RIGHT_16: Unary<Self>;
    /// As [`Word::plus_unless_nan`].
    const PLUS_UNLESS_NAN: Binary<Self>;
    /// The upper half of each word of the first, then that of the second, as a word.
    const UPPERS: Binary<Self>;
    /// Words with the halves from an address on as upper halves, and zeros.
    const LOAD_UPPER: unsafe fn(*const Half) -> Self;
    /// Words that are the signed halves from an address on.
    const LOAD_SIGNED: unsafe fn(*const Half) -> Self;
    /// Writes the upper halves of both in order.
    const STORE_UPPER: unsafe fn(*mut Half, Self, Self);
    /// Writes the lower halves of both in order.
    const STORE_LOWER: unsafe fn(*mut Half, Self, Self);
}

/// A register of words: the bits of one of floats, to be used only where the CPU has its instructions.
#[derive(Clone, Copy)]
pub(crate) struct Words<V>(Register<V>);

impl<V: WordInstructions> Words<V> {
    /// The first words of a slice.
    #[inline(always)]
    pub(crate) fn load(slice: &[u32]) -> Self {
        let slice = &slice[..V::N];
        // SAFETY: a register is as large as its N elements, any bits will do for it, and the slice
        // has as many.
        Self(Register(unsafe { slice.as_ptr().cast::<V>().read_unaligned() }))
    }

    /// The bits of numbers.
    #[inline(always)]
    pub(crate) fn of_numbers(numbers: Register<V>) -> Self {
        Self(numbers)
    }

    /// The numbers of these bits.
    #[inline(always)]
    pub(crate) fn numbers(self) -> Register<V> {
        self.0
    }

    /// The first halves of a slice, as upper halves.
    #[inline(always)]
    pub(crate) fn load_upper(slice: &[Half]) -> Self {
        let slice = &slice[..V::N];
        // SAFETY: the slice has as many halves as are read; for the instructions, see the type.
        Self(Register(unsafe { V::LOAD_UPPER(slice.as_ptr()) }))
    }

    /// The first halves of a slice, which are signed.
    #[inline(always)]
    pub(crate) fn load_signed(slice: &[Half]) -> Self {
        let slice = &slice[..V::N];
        // SAFETY: as above.
        Self(Register(unsafe { V::LOAD_SIGNED(slice.as_ptr()) }))
    }

    /// Of the first halves of a slice every second one, and the others, as upper halves.
    #[inline(always)]
    pub(crate) fn load_pairs(slice: &[Half]) -> [Self; 2] {
        let slice = &slice[..2 * V::N];
        // SAFETY: a register is as large as these halves, and any bits will do for it.
        let both = Self(Register(unsafe { slice.as_ptr().cast::<V>().read_unaligned() }));
        let (even, odd) = (both.left_16(), both.right::<16>().left_16());
        if cfg!(target_endian = "big") { [odd, even] } else { [even, odd] }
    }

    /// Writes upper halves as [`load_pairs`](Self::load_pairs) reads them.
    #[inline(always)]
    pub(crate) fn store_pairs([even, odd]: [Self; 2], slice: &mut [Half]) {
        let slice = &mut slice[..2 * V::N];
        let (first, second) = if cfg!(target_endian = "big") { (odd, even) } else { (even, odd) };
        let Register(both) = first.0.binary(second.0, V::UPPERS);
        // SAFETY: as above; any bits will do for halves.
        unsafe { slice.as_mut_ptr().cast::<V>().write_unaligned(both) };
    }

    /// Writes the upper halves of both to the first places of a slice.
    #[inline(always)]
    pub(crate) fn store_upper([first, second]: [Self; 2], slice: &mut [Half]) {
        let slice = &mut slice[..2 * V::N];
        // SAFETY: the slice has as many halves as are written; for the instructions, see the type.
        unsafe { V::STORE_UPPER(slice.as_mut_ptr(), first.0.0, second.0.0) };
    }

    /// Writes the lower halves of both to the first places of a slice.
    #[inline(always)]
    pub(crate) fn store_lower([first, second]: [Self; 2], slice: &mut [Half]) {
        let slice = &mut slice[..2 * V::N];
        // SAFETY: as above.
        unsafe { V::STORE_LOWER(slice.as_mut_ptr(), first.0.0, second.0.0) };
    }
}

impl<V: WordInstructions> Word for Words<V> {
    #[inline(always)]
    fn of(number: u32) -> Self {
        Self::of_numbers(Register::of(f32::from_bits(number)))
    }

    #[inline(always)]
    fn plus(self, other: Self) -> Self {
        Self(self.0.binary(other.0, V::PLUS))
    }

    #[inline(always)]
    fn times(self, other: Self) -> Self {
        Self(self.0.binary(other.0, V::TIMES))
    }

    #[inline(always)]
    fn xor(self, other: Self) -> Self {
        Self(self.0.binary(other.0, V::XOR))
    }

    #[inline(always)]
    fn left_16(self) -> Self {
        Self(self.0.unary(V::LEFT_16))
    }

    #[inline(always)]
    fn right<const BITS: u32>(self) -> Self {
        const { assert!(BITS == 15 || BITS == 16, "what storages need") }
        Self(self.0.unary(if BITS == 15 { V::RIGHT_15 } else { V::RIGHT_16 }))
    }

    #[inline(always)]
    fn plus_unless_nan(self, other: Self) -> Self {
        Self(self.0.binary(other.0, V::PLUS_UNLESS_NAN))
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Portable, Registers};
    use super::*;
    use crate::isa::{self, Kernel, Level};

    /// All bits, ones at every end of a half, NaN of all kinds, and others.
    const HARD: [u32; 24] = [
        0,
        1,
        0x7fff,
        0x8000,
        0xffff,
        0x1_0000,
        0x7fff_ffff,
        0x8000_0000,
        0xffff_0000,
        u32::MAX,
        0x7f80_0000,
        0x7f80_0001,
        0x7f81_0000,
        0x7fc0_0000,
        0xff80_0000,
        0xff80_ffff,
        0xffc0_0000,
        0x3f80_8000,
        0xbf80_7fff,
        0x0080_0000,
        0x1234_5678,
        0x9abc_def0,
        0xd35a_2d97,
        0x21f0_aaad,
    ];

    /// As many words of a ring of [`HARD`] as the largest register has.
    fn words(from: usize) -> [u32; 16] {
        std::array::from_fn(|i| HARD[(from + i) % HARD.len()])
    }

    struct Compare;

    impl Kernel for Compare {
        #[inline(always)]
        fn run<const WIDTH: usize>(self) {
            match WIDTH {
                #[cfg(target_arch = "x86_64")]
                32 => compare::<<f32 as Registers>::Of32>(),
                #[cfg(target_arch = "x86_64")]
                64 => compare::<<f32 as Registers>::Of64>(),
                _ => compare::<Portable<f32>>(),
            }
        }
    }

    #[inline(always)]
    fn compare<V: WordInstructions>() {
        for (i, j) in (0..HARD.len()).flat_map(|i| (0..HARD.len()).map(move |j| (i, j))) {
            let (x, y) = (words(i), words(j));
            let (one, other) = (Words::<V>::load(&x), Words::<V>::load(&y));
            let both = [
                (one.plus(other), each(x, y, Word::plus)),
                (one.times(other), each(x, y, Word::times)),
                (one.xor(other), each(x, y, Word::xor)),
                (one.left_16(), each(x, y, |x, _| x.left_16())),
                (one.right::<15>(), each(x, y, |x, _| x.right::<15>())),
                (one.right::<16>(), each(x, y, |x, _| x.right::<16>())),
                (one.plus_unless_nan(other), each(x, y, Word::plus_unless_nan)),
                (Words::of(x[0]), [x[0]; 16]),
            ];
            for (place, (found, wanted)) in both.into_iter().enumerate() {
                let mut numbers = [0.0; 16];
                found.numbers().store(&mut numbers);
                assert_eq!(numbers.map(f32::to_bits)[..V::N], wanted[..V::N], "{place}: {i}, {j}");
            }
            halves([one, other], &x[..V::N], &y[..V::N]);
        }
    }

    fn each(x: [u32; 16], y: [u32; 16], f: impl Fn(u32, u32) -> u32) -> [u32; 16] {
        std::array::from_fn(|i| f(x[i], y[i]))
    }

    /// The halves of words in memory, there and back.
    #[inline(always)]
    #[expect(clippy::cast_possible_truncation, reason = "halves are meant")]
    fn halves<V: WordInstructions>([one, other]: [Words<V>; 2], x: &[u32], y: &[u32]) {
        let n = V::N;
        let upper = |word: &u32| ((word >> 16) as u16).to_ne_bytes();
        let lower = |word: &u32| (*word as u16).to_ne_bytes();
        let uppers: Vec<_> = x.iter().chain(y).map(upper).collect();
        let lowers: Vec<_> = x.iter().chain(y).map(lower).collect();
        let mixed: Vec<_> = x.iter().zip(y).flat_map(|(x, y)| [upper(x), upper(y)]).collect();
        // One more than is written.
        let mut room = [[7; 2]; 33];
        Words::store_upper([one, other], &mut room);
        assert_eq!((&room[..2 * n], room[2 * n]), (&uppers[..], [7; 2]));
        Words::store_lower([one, other], &mut room);
        assert_eq!((&room[..2 * n], room[2 * n]), (&lowers[..], [7; 2]));
        Words::store_pairs([one, other], &mut room);
        assert_eq!((&room[..2 * n], room[2 * n]), (&mixed[..], [7; 2]));
        let bits = |words: Words<V>| {
            let mut numbers = [0.0; 16];
            words.numbers().store(&mut numbers);
            numbers.map(f32::to_bits)[..n].to_vec()
        };
        let alone: Vec<_> = x.iter().map(|word| word & 0xffff_0000).collect();
        let alone_other: Vec<_> = y.iter().map(|word| word & 0xffff_0000).collect();
        assert_eq!(bits(Words::load_upper(&uppers)), alone);
        let [even, odd] = Words::load_pairs(&mixed);
        assert_eq!((bits(even), bits(odd)), (alone, alone_other));
        let signed = |word: &u32| i32::from((*word as u16).cast_signed()).cast_unsigned();
        let signed: Vec<_> = x.iter().map(signed).collect();
        assert_eq!(bits(Words::load_signed(&lowers)), signed);
    }

    #[test]
    fn registers_have_the_arithmetic_of_single_words() {
        for level in Level::available() {
            isa::run(level, Compare);
        }
    }
}
