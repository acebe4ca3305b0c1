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

/// A register of words. As [`Register`], it is to be used only where the CPU has it.
#[derive(Clone, Copy)]
pub(crate) struct Words<V>(V);

impl<V: WordInstructions> Words<V> {
    /// The first words of a slice.
    #[inline(always)]
    pub(crate) fn load(slice: &[u32]) -> Self {
        let slice = &slice[..V::N];
        // SAFETY: a register is as large as its N elements, any bits will do for it, and the slice
        // has as many.
        Self(unsafe { slice.as_ptr().cast::<V>().read_unaligned() })
    }

    /// The bits of numbers.
    #[inline(always)]
    pub(crate) fn of_numbers(numbers: Register<V>) -> Self {
        Self(numbers.0)
    }

    /// The numbers of these bits.
    #[inline(always)]
    pub(crate) fn numbers(self) -> Register<V> {
        Register(self.0)
    }

    /// The first halves of a slice, as upper halves.
    #[inline(always)]
    pub(crate) fn load_upper(slice: &[Half]) -> Self {
        let slice = &slice[..V::N];
        // SAFETY: the slice has as many halves as are read; for the instructions, see the type.
        Self(unsafe { V::LOAD_UPPER(slice.as_ptr()) })
    }

    /// The first halves of a slice, which are signed.
    #[inline(always)]
    pub(crate) fn load_signed(slice: &[Half]) -> Self {
        let slice = &slice[..V::N];
        // SAFETY: as above.
        Self(unsafe { V::LOAD_SIGNED(slice.as_ptr()) })
    }

    /// Of the first halves of a slice every second one, and the others, as upper halves.
    #[inline(always)]
    pub(crate) fn load_pairs(slice: &[Half]) -> [Self; 2] {
        let slice = &slice[..2 * V::N];
        // SAFETY: a register is as large as these halves, and any bits will do for it.
        let both = Self(unsafe { slice.as_ptr().cast::<V>().read_unaligned() });
        let (even, odd) = (both.left_16(), both.right::<16>().left_16());
        if cfg!(target_endian = "big") { [odd, even] } else { [even, odd] }
    }

    /// Writes upper halves as [`load_pairs`](Self::load_pairs) reads them.
    #[inline(always)]
    pub(crate) fn store_pairs([even, odd]: [Self; 2], slice: &mut [Half]) {
        let slice = &mut slice[..2 * V::N];
        let (first, second) = if cfg!(target_endian = "big") { (odd, even) } else { (even, odd) };
        let both = first.binary(second, V::UPPERS);
        // SAFETY: as above; any bits will do for halves.
        unsafe { slice.as_mut_ptr().cast::<V>().write_unaligned(both.0) };
    }

    /// Writes the upper halves of both to the first places of a slice.
    #[inline(always)]
    pub(crate) fn store_upper([first, second]: [Self; 2], slice: &mut [Half]) {
        let slice = &mut slice[..2 * V::N];
        // SAFETY: the slice has as many halves as are written; for the instructions, see the type.
        unsafe { V::STORE_UPPER(slice.as_mut_ptr(), first.0, second.0) };
    }

    /// Writes the lower halves of both to the first places of a slice.
    #[inline(always)]
    pub(crate) fn store_lower([first, second]: [Self; 2], slice: &mut [Half]) {
        let slice = &mut slice[..2 * V::N];
        // SAFETY: as above.
        unsafe { V::STORE_LOWER(slice.as_mut_ptr(), first.0, second.0) };
    }

    #[inline(always)]
    fn unary(self, f: Unary<V>) -> Self {
        // SAFETY: the CPU has the instructions, as it has these registers (see the type).
        Self(unsafe { f(self.0) })
    }

    #[inline(always)]
    fn binary(self, other: Self, f: Binary<V>) -> Self {
        // SAFETY: as above.
        Self(unsafe { f(self.0, other.0) })
    }
}

impl<V: WordInstructions> Word for Words<V> {
    #[inline(always)]
    fn of(number: u32) -> Self {
        Self::of_numbers(Register::of(f32::from_bits(number)))
    }

    #[inline(always)]
    fn plus(self, other: Self) -> Self {
        self.binary(other, V::PLUS)
    }

    #[inline(always)]
    fn times(self, other: Self) -> Self {
        self.binary(other, V::TIMES)
    }

    #[inline(always)]
    fn xor(self, other: Self) -> Self {
        self.binary(other, V::XOR)
    }

    #[inline(always)]
    fn left_16(self) -> Self {
        self.unary(V::LEFT_16)
    }

    #[inline(always)]
    fn right<const BITS: u32>(self) -> Self {
        const { assert!(BITS == 15 || BITS == 16, "what storages need") }
        self.unary(if BITS == 15 { V::RIGHT_15 } else { V::RIGHT_16 })
    }

    #[inline(always)]
    fn plus_unless_nan(self, other: Self) -> Self {
        self.binary(other, V::PLUS_UNLESS_NAN)
    }
}
