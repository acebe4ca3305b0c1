//! The words of x86-64 registers.

#[allow(clippy::wildcard_imports, reason = "it would be a page")]
use std::arch::x86_64::*;

use super::words::{Half, WordInstructions};
use super::{Binary, Unary};

impl WordInstructions for __m256 {
    const PLUS: Binary<Self> = plus_s8;
    const TIMES: Binary<Self> = times_s8;
    const XOR: Binary<Self> = _mm256_xor_ps;
    const LEFT_16: Unary<Self> = left_s8;
    const RIGHT_15: Unary<Self> = right_s8::<15>;
    const RIGHT_16: Unary<Self> = right_s8::<16>;
    const PLUS_UNLESS_NAN: Binary<Self> = plus_unless_nan_s8;
    const LOAD_UPPER: unsafe fn(*const Half) -> Self = load_upper_s8;
    const LOAD_SIGNED: unsafe fn(*const Half) -> Self = load_signed_s8;
    const STORE_UPPER: unsafe fn(*mut Half, Self) = store_s8::<2>;
    const STORE_LOWER: unsafe fn(*mut Half, Self) = store_s8::<0>;
}

impl WordInstructions for __m512 {
    const PLUS: Binary<Self> = plus_s16;
    const TIMES: Binary<Self> = times_s16;
    const XOR: Binary<Self> = _mm512_xor_ps;
    const LEFT_16: Unary<Self> = left_s16;
    const RIGHT_15: Unary<Self> = right_s16::<15>;
    const RIGHT_16: Unary<Self> = right_s16::<16>;
    const PLUS_UNLESS_NAN: Binary<Self> = plus_unless_nan_s16;
    const LOAD_UPPER: unsafe fn(*const Half) -> Self = load_upper_s16;
    const LOAD_SIGNED: unsafe fn(*const Half) -> Self = load_signed_s16;
    const STORE_UPPER: unsafe fn(*mut Half, Self) = store_s16::<1>;
    const STORE_LOWER: unsafe fn(*mut Half, Self) = store_s16::<0>;
}

#[inline]
#[target_feature(enable = "avx2,fma")]
fn plus_s8(x: __m256, y: __m256) -> __m256 {
    _mm256_castsi256_ps(_mm256_add_epi32(_mm256_castps_si256(x), _mm256_castps_si256(y)))
}

#[inline]
#[target_feature(enable = "avx2,fma")]
fn times_s8(x: __m256, y: __m256) -> __m256 {
    _mm256_castsi256_ps(_mm256_mullo_epi32(_mm256_castps_si256(x), _mm256_castps_si256(y)))
}

#[inline]
#[target_feature(enable = "avx2,fma")]
fn left_s8(x: __m256) -> __m256 {
    _mm256_castsi256_ps(_mm256_slli_epi32::<16>(_mm256_castps_si256(x)))
}

#[inline]
#[target_feature(enable = "avx2,fma")]
fn right_s8<const BITS: i32>(x: __m256) -> __m256 {
    _mm256_castsi256_ps(_mm256_srli_epi32::<BITS>(_mm256_castps_si256(x)))
}

#[inline]
#[target_feature(enable = "avx2,fma")]
fn plus_unless_nan_s8(x: __m256, y: __m256) -> __m256 {
    plus_s8(x, _mm256_and_ps(_mm256_cmp_ps::<_CMP_ORD_Q>(x, x), y))
}

#[inline]
#[target_feature(enable = "avx2,fma")]
unsafe fn load_upper_s8(from: *const Half) -> __m256 {
    // SAFETY: the caller's word for eight halves.
    let halves = _mm256_broadcastsi128_si256(unsafe { _mm_loadu_si128(from.cast()) });
    // Of both copies the half, to where it belongs; -1 makes zeros.
    let places = _mm256_setr_epi8(
        -1, -1, 0, 1, -1, -1, 2, 3, -1, -1, 4, 5, -1, -1, 6, 7, //
        -1, -1, 8, 9, -1, -1, 10, 11, -1, -1, 12, 13, -1, -1, 14, 15,
    );
    _mm256_castsi256_ps(_mm256_shuffle_epi8(halves, places))
}

#[inline]
#[target_feature(enable = "avx2,fma")]
unsafe fn load_signed_s8(from: *const Half) -> __m256 {
    // SAFETY: the caller's word for eight halves.
    let halves = unsafe { _mm_loadu_si128(from.cast()) };
    _mm256_castsi256_ps(_mm256_cvtepi16_epi32(halves))
}

/// Writes the halves that begin at this byte of each word.
#[inline]
#[target_feature(enable = "avx2,fma")]
unsafe fn store_s8<const BYTE: i8>(to: *mut Half, x: __m256) {
    let places = _mm_setr_epi8(0, 1, 4, 5, 8, 9, 12, 13, -1, -1, -1, -1, -1, -1, -1, -1);
    let places = _mm_or_si128(places, _mm_set1_epi8(BYTE));
    let halves =
        _mm256_shuffle_epi8(_mm256_castps_si256(x), _mm256_broadcastsi128_si256(places));
    let halves = _mm256_castsi256_si128(_mm256_permute4x64_epi64::<0b10_00>(halves));
    // SAFETY: the caller's word for eight halves.
    unsafe { _mm_storeu_si128(to.cast(), halves) };
}

#[inline]
#[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512dq,fma")]
fn plus_s16(x: __m512, y: __m512) -> __m512 {
    _mm512_castsi512_ps(_mm512_add_epi32(_mm512_castps_si512(x), _mm512_castps_si512(y)))
}

#[inline]
#[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512dq,fma")]
fn times_s16(x: __m512, y: __m512) -> __m512 {
    _mm512_castsi512_ps(_mm512_mullo_epi32(_mm512_castps_si512(x), _mm512_castps_si512(y)))
}

#[inline]
#[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512dq,fma")]
fn left_s16(x: __m512) -> __m512 {
    _mm512_castsi512_ps(_mm512_slli_epi32::<16>(_mm512_castps_si512(x)))
}

#[inline]
#[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512dq,fma")]
fn right_s16<const BITS: u32>(x: __m512) -> __m512 {
    _mm512_castsi512_ps(_mm512_srli_epi32::<BITS>(_mm512_castps_si512(x)))
}

#[inline]
#[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512dq,fma")]
fn plus_unless_nan_s16(x: __m512, y: __m512) -> __m512 {
    let is_number = _mm512_cmp_ps_mask::<_CMP_ORD_Q>(x, x);
    let (x, y) = (_mm512_castps_si512(x), _mm512_castps_si512(y));
    _mm512_castsi512_ps(_mm512_mask_add_epi32(x, is_number, x, y))
}

/// Where halves come from.
#[inline]
#[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512dq,fma")]
fn places(places: &[u16; 32]) -> __m512i {
    // SAFETY: the array is as large as a register.
    unsafe { _mm512_loadu_si512(places.as_ptr().cast()) }
}

/// Before each of sixteen halves a zero, which there are behind them.
const UPPER: [u16; 32] = {
    let mut places = [16; 32];
    let mut i = 0;
    while i < 16 {
        places[2 * i + 1] = i as u16;
        i += 1;
    }
    places
};

/// One half of every word.
const fn every(half: u16) -> [u16; 32] {
    let mut places = [half; 32];
    let mut i = 0;
    while i < 16 {
        places[i] += 2 * i as u16;
        i += 1;
    }
    places
}

#[inline]
#[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512dq,fma")]
unsafe fn load_upper_s16(from: *const Half) -> __m512 {
    // SAFETY: the caller's word for sixteen halves.
    let halves = _mm512_zextsi256_si512(unsafe { _mm256_loadu_si256(from.cast()) });
    _mm512_castsi512_ps(_mm512_permutexvar_epi16(places(&UPPER), halves))
}

#[inline]
#[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512dq,fma")]
unsafe fn load_signed_s16(from: *const Half) -> __m512 {
    // SAFETY: the caller's word for sixteen halves.
    let halves = unsafe { _mm256_loadu_si256(from.cast()) };
    _mm512_castsi512_ps(_mm512_cvtepi16_epi32(halves))
}

/// Writes the lower or the upper halves.
#[inline]
#[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512dq,fma")]
unsafe fn store_s16<const HALF: u16>(to: *mut Half, x: __m512) {
    let places = places(const { &every(HALF) });
    let halves = _mm512_permutexvar_epi16(places, _mm512_castps_si512(x));
    // SAFETY: the caller's word for sixteen halves.
    unsafe { _mm256_storeu_si256(to.cast(), _mm512_castsi512_si256(halves)) };
}
