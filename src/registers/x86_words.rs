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
    const UPPERS: Binary<Self> = uppers_s8;
    const STORE_UPPER: unsafe fn(*mut Half, Self, Self) = store_upper_s8;
    const STORE_LOWER: unsafe fn(*mut Half, Self, Self) = store_lower_s8;
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
    const UPPERS: Binary<Self> = uppers_s16;
    const STORE_UPPER: unsafe fn(*mut Half, Self, Self) = store_s16::<1>;
    const STORE_LOWER: unsafe fn(*mut Half, Self, Self) = store_s16::<0>;
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
fn uppers_s8(x: __m256, y: __m256) -> __m256 {
    let first = _mm256_srli_epi32::<16>(_mm256_castps_si256(x));
    _mm256_castsi256_ps(_mm256_blend_epi16::<0b1010_1010>(first, _mm256_castps_si256(y)))
}

#[inline]
#[target_feature(enable = "avx2,fma")]
unsafe fn load_upper_s8(from: *const Half) -> __m256 {
    // SAFETY: the caller's word for eight halves.
    let halves = unsafe { _mm_loadu_si128(from.cast()) };
    _mm256_castsi256_ps(_mm256_slli_epi32::<16>(_mm256_cvtepu16_epi32(halves)))
}

#[inline]
#[target_feature(enable = "avx2,fma")]
unsafe fn load_signed_s8(from: *const Half) -> __m256 {
    // SAFETY: the caller's word for eight halves.
    let halves = unsafe { _mm_loadu_si128(from.cast()) };
    _mm256_castsi256_ps(_mm256_cvtepi16_epi32(halves))
}

#[inline]
#[target_feature(enable = "avx2,fma")]
unsafe fn store_upper_s8(to: *mut Half, x: __m256, y: __m256) {
    // SAFETY: the caller's word.
    unsafe { store_lower_s8(to, right_s8::<16>(x), right_s8::<16>(y)) };
}

#[inline]
#[target_feature(enable = "avx2,fma")]
unsafe fn store_lower_s8(to: *mut Half, x: __m256, y: __m256) {
    let lower = _mm256_set1_epi32(0xffff);
    let x = _mm256_and_si256(_mm256_castps_si256(x), lower);
    let y = _mm256_and_si256(_mm256_castps_si256(y), lower);
    // Half of `x`, half of `y`, and again.
    let halves = _mm256_permute4x64_epi64::<0b11_01_10_00>(_mm256_packus_epi32(x, y));
    // SAFETY: the caller's word for sixteen halves.
    unsafe { _mm256_storeu_si256(to.cast(), halves) };
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

#[inline]
#[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512dq,fma")]
fn uppers_s16(x: __m512, y: __m512) -> __m512 {
    let first = _mm512_srli_epi32::<16>(_mm512_castps_si512(x));
    _mm512_castsi512_ps(_mm512_mask_blend_epi16(0xaaaa_aaaa, first, _mm512_castps_si512(y)))
}

#[inline]
#[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512dq,fma")]
unsafe fn load_upper_s16(from: *const Half) -> __m512 {
    // SAFETY: the caller's word for sixteen halves.
    let halves = unsafe { _mm256_loadu_si256(from.cast()) };
    _mm512_castsi512_ps(_mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(halves)))
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
unsafe fn store_s16<const UPPER: u16>(to: *mut Half, x: __m512, y: __m512) {
    const { assert!(UPPER < 2) }
    let places = const { &every_second(UPPER) };
    // SAFETY: the array is as large as a register.
    let places = unsafe { _mm512_loadu_si512(places.as_ptr().cast()) };
    let (x, y) = (_mm512_castps_si512(x), _mm512_castps_si512(y));
    // SAFETY: the caller's word for 32 halves.
    unsafe { _mm512_storeu_si512(to.cast(), _mm512_permutex2var_epi16(x, places, y)) };
}

/// Every second place of the 64 halves of two registers.
const fn every_second(first: u16) -> [u16; 32] {
    let mut places = [first; 32];
    let mut i = 1;
    while i < 32 {
        places[i] = places[i - 1] + 2;
        i += 1;
    }
    places
}
