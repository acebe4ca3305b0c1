//! What the arithmetic of storages is done in: 32 bits, or a register of such words.

/// The operations of words; sums and products are modulo 2**32.
pub(crate) trait Word: Copy {
    /// A number, in every place.
    fn of(number: u32) -> Self;

    fn plus(self, other: Self) -> Self;

    fn times(self, other: Self) -> Self;

    fn xor(self, other: Self) -> Self;

    /// Shifted by 16 bits to the left.
    fn left_16(self) -> Self;

    /// Shifted to the right.
    fn right<const BITS: u32>(self) -> Self;

    /// The sum, or the word itself where it is the bits of a NaN.
    fn plus_unless_nan(self, other: Self) -> Self;
}

impl Word for u32 {
    #[inline(always)]
    fn of(number: u32) -> Self {
        number
    }

    #[inline(always)]
    fn plus(self, other: Self) -> Self {
        self.wrapping_add(other)
    }

    #[inline(always)]
    fn times(self, other: Self) -> Self {
        self.wrapping_mul(other)
    }

    #[inline(always)]
    fn xor(self, other: Self) -> Self {
        self ^ other
    }

    #[inline(always)]
    fn left_16(self) -> Self {
        self << 16
    }

    #[inline(always)]
    fn right<const BITS: u32>(self) -> Self {
        self >> BITS
    }

    #[inline(always)]
    fn plus_unless_nan(self, other: Self) -> Self {
        self.wrapping_add(if f32::from_bits(self).is_nan() { 0 } else { other })
    }
}
