//! How elements are stored: conversions between `f32` and fewer bytes, and the noise that rounds.
//! `instep.codecs` has the same in `NumPy`, bit-for-bit identical.
//!
//! | format | what is stored |
//! |---|---|
//! | bfloat16 | the upper half of an `f32`, rounded stochastically |
//! | split | a bfloat16, rounded to nearest, and the lower half of the `f32`: nothing is lost |
//! | float16 | rounded to nearest, in addition to an `f32` |
//! | 8 bits | an exponent for each block of [`BLOCK`] numbers, and small floats below it, rounded stochastically |
//!
//! Integer operations do it wherever possible.
#![expect(clippy::cast_possible_truncation, reason = "halves of words are what it is about")]

mod noise;

use std::iter;

use crate::isa::{self, Kernel, Level};
use crate::word::Word;
pub(crate) use noise::Starts;
pub use noise::{Key, Noise, Places};

/// How many numbers of 8 bits have an exponent in common.
pub const BLOCK: usize = 256;

/// The bits of an `f32` that 8 bits have no room for, but for the exponent.
const CUT: u32 = 20;

const INFINITY: u32 = 0x7f80_0000;
const MAGNITUDE: u32 = 0x7fff_ffff;
/// The bit that makes a NaN quiet.
const QUIET: u32 = 0x0040_0000;

/// The noise of some elements of an array, and which half of each number is its own.
#[derive(Clone, Copy, Debug)]
pub struct Rounding<'a> {
    /// What the numbers come from.
    pub noise: Noise,
    /// How far they are shifted to the left: 16 if the upper half is another array's.
    pub shift: u32,
    /// The place of the first element.
    pub first: u32,
    /// How much further each element is than that one.
    pub places: &'a [u32],
}

impl Rounding<'_> {
    /// The number of an element.
    #[inline(always)]
    fn of(&self, i: usize) -> u32 {
        self.noise.of(self.first.wrapping_add(self.places[i])) << self.shift
    }
}

/// The `f32` of a bfloat16.
#[inline(always)]
fn load_bfloat16(bits: u16) -> f32 {
    f32::from_bits(u32::from(bits) << 16)
}

/// The bits of an `f32` whose upper half is its bfloat16, rounded stochastically with the upper half
/// of `noise`. NaN must be quiet, as every computed NaN is.
#[inline(always)]
pub(crate) fn round_by<W: Word>(bits: W, noise: W) -> W {
    bits.plus_unless_nan(noise.right::<16>())
}

/// The bits of an `f32` of which the upper half is its nearest bfloat16, of two the one further from
/// zero. NaN has to be quiet: to round it up could make it infinite.
#[inline(always)]
pub(crate) fn round_up<W: Word>(bits: W) -> W {
    bits.plus_unless_nan(W::of(0x8000))
}

/// The same number, and any NaN quiet.
#[inline(always)]
fn quiet(x: f32) -> f32 {
    if x.is_nan() { f32::from_bits(x.to_bits() | QUIET) } else { x }
}

/// The bfloat16 of an `f32`, rounded as by [`round_by`].
#[inline(always)]
fn store_bfloat16(x: f32, noise: u32) -> u16 {
    (round_by(quiet(x).to_bits(), noise) >> 16) as u16
}

/// The `f32` of a bfloat16 and the lower half that it lacks.
#[inline(always)]
fn load_split(high: u16, low: i16) -> f32 {
    f32::from_bits((u32::from(high) << 16).wrapping_add_signed(i32::from(low)))
}

/// A bfloat16 parameter and its average, changed: the average's nearest bfloat16 is the new parameter,
/// and its lower half keeps what that lacks, below the old parameter.
#[must_use]
pub fn enter_average(p: u16, a: f32) -> (u16, f32) {
    let (high, low) = store_split(a);
    (high, f32::from_bits(u32::from(p) << 16 | u32::from(low.cast_unsigned())))
}

/// The parameter and the average before [`enter_average`], but for the payload of a NaN.
#[must_use]
pub fn leave_average(p: u16, a: f32) -> (u16, f32) {
    let bits = a.to_bits();
    ((bits >> 16) as u16, load_split(p, (bits as u16).cast_signed()))
}

/// The bfloat16 of an `f32`, rounded as by [`round_up`], and its lower half.
#[inline(always)]
fn store_split(x: f32) -> (u16, i16) {
    ((round_up(quiet(x).to_bits()) >> 16) as u16, (x.to_bits() as u16).cast_signed())
}

#[inline(always)]
fn load_float16(bits: u16) -> f32 {
    let (magnitude, sign) = (u32::from(bits & 0x7fff), u32::from(bits & 0x8000) << 16);
    // Times 2**112: the exponents begin there.
    let finite = f32::from_bits(magnitude << 13) * f32::from_bits(0x7780_0000);
    let is_finite = magnitude < 0x7c00;
    let all = if is_finite { finite.to_bits() } else { INFINITY | magnitude << 13 };
    f32::from_bits(all | sign)
}

#[inline(always)]
fn store_float16(x: f32) -> u16 {
    let (magnitude, sign) = (x.to_bits() & MAGNITUDE, (x.to_bits() >> 16) & 0x8000);
    let normal = magnitude.wrapping_add(0xc800_0fff).wrapping_add((magnitude >> 13) & 1) >> 13;
    // The last bit of 0.5 is worth what the smallest subnormal number is.
    let subnormal = (f32::from_bits(magnitude) + 0.5).to_bits().wrapping_sub(0x3f00_0000);
    let finite = if magnitude < 0x3880_0000 { subnormal } else { normal };
    let others = if magnitude > INFINITY { 0x7e00 } else { 0x7c00 };
    (if magnitude >= 0x4780_0000 { others } else { finite } | sign) as u16
}

/// What is done to each element of a slice.
trait Codec {
    type From: Copy;
    type To;

    /// Has to be `#[inline(always)]`, see [`Kernel::run`].
    fn one(&self, i: usize, from: Self::From) -> Self::To;
}

struct Each<'a, C: Codec>(C, &'a [C::From], &'a mut [C::To]);

impl<C: Codec> Kernel for Each<'_, C> {
    #[inline(always)]
    fn run<const WIDTH: usize>(self) {
        let Self(codec, from, to) = self;
        let n = from.len();
        let to = &mut to[..n];
        for i in 0..n {
            to[i] = codec.one(i, from[i]);
        }
    }
}

struct FromBfloat16;

impl Codec for FromBfloat16 {
    type From = u16;
    type To = f32;

    #[inline(always)]
    fn one(&self, _: usize, bits: u16) -> f32 {
        load_bfloat16(bits)
    }
}

impl Codec for Rounding<'_> {
    type From = f32;
    type To = u16;

    #[inline(always)]
    fn one(&self, i: usize, x: f32) -> u16 {
        store_bfloat16(x, self.of(i))
    }
}

struct FromSplit<'a>(&'a [i16]);

impl Codec for FromSplit<'_> {
    type From = u16;
    type To = f32;

    #[inline(always)]
    fn one(&self, i: usize, high: u16) -> f32 {
        load_split(high, self.0[i])
    }
}

struct ToHigh;

impl Codec for ToHigh {
    type From = f32;
    type To = u16;

    #[inline(always)]
    fn one(&self, _: usize, x: f32) -> u16 {
        store_split(x).0
    }
}

struct ToLow;

impl Codec for ToLow {
    type From = f32;
    type To = i16;

    #[inline(always)]
    fn one(&self, _: usize, x: f32) -> i16 {
        store_split(x).1
    }
}

struct FromFloat16;

impl Codec for FromFloat16 {
    type From = u16;
    type To = f32;

    #[inline(always)]
    fn one(&self, _: usize, bits: u16) -> f32 {
        load_float16(bits)
    }
}

struct ToFloat16;

impl Codec for ToFloat16 {
    type From = f32;
    type To = u16;

    #[inline(always)]
    fn one(&self, _: usize, x: f32) -> u16 {
        store_float16(x)
    }
}

/// The floats of 8 bits, with 3 bits of fraction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Code {
    /// A sign and 4 bits of exponent.
    Signed,
    /// 5 bits of exponent. No number becomes 0.
    Unsigned,
}

impl Code {
    const fn of(is_signed: bool) -> Self {
        if is_signed { Self::Signed } else { Self::Unsigned }
    }

    /// The bits without the sign.
    const fn magnitude(self) -> u32 {
        match self {
            Self::Signed => 0x7f,
            Self::Unsigned => 0xff,
        }
    }

    /// The bits of the `f32` of code 0, if that were none, below a block's exponent.
    #[inline(always)]
    fn base(self, exponent: u8) -> i32 {
        (i32::from(exponent) - (self.magnitude() >> 3).cast_signed()) << 23
    }
}

struct FromCodes<'a, const SIGNED: bool> {
    codes: &'a [u8],
    exponents: &'a [u8],
    numbers: &'a mut [f32],
}

impl<const SIGNED: bool> Kernel for FromCodes<'_, SIGNED> {
    #[inline(always)]
    fn run<const WIDTH: usize>(self) {
        let Self { codes, exponents, numbers } = self;
        let code = Code::of(SIGNED);
        let all = code.magnitude();
        let blocks = iter::zip(codes.chunks(BLOCK), numbers.chunks_mut(BLOCK));
        for ((codes, numbers), &exponent) in iter::zip(blocks, exponents) {
            let base = code.base(exponent);
            let poison = if exponent == u8::MAX { INFINITY | QUIET } else { 0 };
            let n = codes.len();
            let numbers = &mut numbers[..n];
            for i in 0..n {
                let code = u32::from(codes[i]);
                let (magnitude, sign) = (code & all, (code & !all) << 24);
                let bits = (magnitude << CUT).cast_signed().wrapping_add(base).max(0);
                let bits = if magnitude == 0 { 0 } else { bits.cast_unsigned() };
                numbers[i] = f32::from_bits(bits | sign | poison);
            }
        }
    }
}

struct ToCodes<'a, const SIGNED: bool> {
    numbers: &'a [f32],
    rounding: Rounding<'a>,
    codes: &'a mut [u8],
    exponents: &'a mut [u8],
}

impl<const SIGNED: bool> Kernel for ToCodes<'_, SIGNED> {
    #[inline(always)]
    fn run<const WIDTH: usize>(self) {
        let Self { numbers, rounding, codes, exponents } = self;
        let code = Code::of(SIGNED);
        let all = code.magnitude();
        let least = u32::from(!SIGNED);
        let blocks = iter::zip(numbers.chunks(BLOCK), rounding.places.chunks(BLOCK));
        let blocks = iter::zip(blocks, codes.chunks_mut(BLOCK));
        for (((numbers, places), codes), exponent) in iter::zip(blocks, exponents) {
            let magnitudes = numbers.iter().map(|x| x.to_bits() & MAGNITUDE);
            let most = magnitudes.fold(0, u32::max);
            // So that the largest does not round up to what has no code.
            *exponent = ((most + ((1 << CUT) - 1)) >> 23).min(255) as u8;
            let base = code.base(*exponent);
            let n = numbers.len();
            let (places, codes) = (&places[..n], &mut codes[..n]);
            for i in 0..n {
                let bits = numbers[i].to_bits();
                let magnitude = bits & MAGNITUDE;
                let place = rounding.first.wrapping_add(places[i]);
                let random = rounding.noise.of(place) >> (32 - CUT);
                let above = magnitude.cast_signed().wrapping_sub(base);
                let q = above.wrapping_add(random.cast_signed()) >> CUT;
                let q = q.max(0).min(all.cast_signed()).cast_unsigned();
                let q = q.max(u32::from(magnitude != 0) & least);
                codes[i] = (q | (bits >> 24) & !all & 0xff) as u8;
            }
        }
    }
}

/// The numbers of codes, of which each block has an exponent.
///
/// # Panics
/// When there are not as many numbers, or exponents, as there should be.
pub fn from_codes(level: Level, code: Code, codes: &[u8], exponents: &[u8], numbers: &mut [f32]) {
    assert!(codes.len() == numbers.len() && exponents.len() == codes.len().div_ceil(BLOCK));
    match code {
        Code::Signed => isa::run(level, FromCodes::<true> { codes, exponents, numbers }),
        Code::Unsigned => isa::run(level, FromCodes::<false> { codes, exponents, numbers }),
    }
}

/// The codes of numbers, rounded by the noise of their places, and the exponents of the blocks.
///
/// # Panics
/// When there are not as many codes, exponents or places as there should be.
pub fn to_codes(
    level: Level,
    code: Code,
    numbers: &[f32],
    rounding: Rounding<'_>,
    codes: &mut [u8],
    exponents: &mut [u8],
) {
    let n = numbers.len();
    assert!(codes.len() == n && rounding.places.len() == n && exponents.len() == n.div_ceil(BLOCK));
    match code {
        Code::Signed => isa::run(level, ToCodes::<true> { numbers, rounding, codes, exponents }),
        Code::Unsigned => isa::run(level, ToCodes::<false> { numbers, rounding, codes, exponents }),
    }
}

/// The numbers of bfloat16 bits.
pub fn from_bfloat16(level: Level, bits: &[u16], numbers: &mut [f32]) {
    isa::run(level, Each(FromBfloat16, bits, numbers));
}

/// The bfloat16 bits of numbers, rounded by the noise of their places.
///
/// # Panics
/// When there are fewer places than numbers.
pub fn to_bfloat16(level: Level, numbers: &[f32], rounding: Rounding<'_>, bits: &mut [u16]) {
    let places = &rounding.places[..numbers.len()];
    isa::run(level, Each(Rounding { places, ..rounding }, numbers, bits));
}

/// The numbers of split ones.
///
/// # Panics
/// When there are fewer lower halves than upper ones.
pub fn from_split(level: Level, high: &[u16], low: &[i16], numbers: &mut [f32]) {
    isa::run(level, Each(FromSplit(&low[..high.len()]), high, numbers));
}

/// The upper halves of numbers, rounded, and the lower ones.
pub fn to_split(level: Level, numbers: &[f32], high: &mut [u16], low: &mut [i16]) {
    isa::run(level, Each(ToHigh, numbers, high));
    isa::run(level, Each(ToLow, numbers, low));
}

/// The numbers of float16 bits.
pub fn from_float16(level: Level, bits: &[u16], numbers: &mut [f32]) {
    isa::run(level, Each(FromFloat16, bits, numbers));
}

/// The float16 bits of numbers, rounded to nearest.
pub fn to_float16(level: Level, numbers: &[f32], bits: &mut [u16]) {
    isa::run(level, Each(ToFloat16, numbers, bits));
}

#[cfg(test)]
mod tests {
    use super::*;

    const HARD: [u32; 14] = [
        0,
        0x8000_0000,
        1,
        0x8000_0001,
        0x007f_ffff,
        0x0080_0000,
        0x3f80_8000,
        0x3f80_7fff,
        0x7f7f_ffff,
        0xff7f_ffff,
        0x7f80_0000,
        0xff80_0000,
        0x7f80_0001,
        0xffff_ffff,
    ];

    #[test]
    fn split_loses_nothing_but_the_payloads_of_nan() {
        let words = (0..1 << 16).map(|i: u32| i.wrapping_mul(0x9e37_79b9)).chain(HARD);
        for x in words.map(f32::from_bits) {
            let (high, low) = store_split(x);
            let back = load_split(high, low);
            assert!(back.to_bits() == x.to_bits() || back.is_nan() && x.is_nan(), "{x:?}");
            assert_eq!(load_bfloat16(high).is_nan(), x.is_nan(), "{x:?}");
        }
    }

    #[test]
    fn bfloat16_is_one_of_the_two_next_to_a_number() {
        for bits in HARD {
            let x = f32::from_bits(bits);
            let (least, most) = (store_bfloat16(x, 0), store_bfloat16(x, u32::MAX));
            if x.is_nan() {
                assert!(load_bfloat16(least).is_nan() && load_bfloat16(most).is_nan());
            } else {
                assert_eq!(u32::from(least), bits >> 16);
                assert_eq!(u32::from(most), (bits >> 16) + u32::from(bits & 0xffff > 0));
            }
        }
    }

    #[test]
    fn float16_comes_back() {
        for bits in 0..=u16::MAX {
            let x = load_float16(bits);
            let back = store_float16(x);
            assert!(back == bits || x.is_nan() && back & 0x7fff == 0x7e00, "{bits:#x}");
        }
    }
}
