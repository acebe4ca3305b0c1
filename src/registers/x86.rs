//! The registers of x86-64 CPUs: the names of their instructions, and what takes a few of them.

#[allow(clippy::wildcard_imports, reason = "it would be a page")]
use std::arch::x86_64::*;

use super::{Binary, Fill, Instructions, Load, Quaternary, Registers, Store, Ternary, Test, Unary};

impl Registers for f32 {
    type Of32 = __m256;
    type Of64 = __m512;
}

impl Registers for f64 {
    type Of32 = __m256d;
    type Of64 = __m512d;
}

impl Instructions for __m256d {
    type Element = f64;
    const LOAD_FIRST: Load<Self> = load_first_d4;
    const STORE_FIRST: Store<Self> = store_first_d4;
    const SET: Fill<Self> = _mm256_set1_pd;
    const ADD: Binary<Self> = _mm256_add_pd;
    const SUB: Binary<Self> = _mm256_sub_pd;
    const MUL: Binary<Self> = _mm256_mul_pd;
    const DIV: Binary<Self> = _mm256_div_pd;
    const SQRT: Unary<Self> = _mm256_sqrt_pd;
    const MUL_ADD: Ternary<Self> = _mm256_fmadd_pd;
    const MUL_SUB: Ternary<Self> = _mm256_fmsub_pd;
    const ABS: Unary<Self> = abs_d4;
    const MAXIMUM: Binary<Self> = maximum_d4;
    const SIGN: Unary<Self> = sign_d4;
    const GUARDED: Quaternary<Self> = guarded_d4;
    const HAS_NAN: Test<Self> = has_nan_d4;
    const ESTIMATE: Option<Unary<Self>> = None;
}

impl Instructions for __m256 {
    type Element = f32;
    const LOAD_FIRST: Load<Self> = load_first_s8;
    const STORE_FIRST: Store<Self> = store_first_s8;
    const SET: Fill<Self> = _mm256_set1_ps;
    const ADD: Binary<Self> = _mm256_add_ps;
    const SUB: Binary<Self> = _mm256_sub_ps;
    const MUL: Binary<Self> = _mm256_mul_ps;
    const DIV: Binary<Self> = _mm256_div_ps;
    const SQRT: Unary<Self> = _mm256_sqrt_ps;
    const MUL_ADD: Ternary<Self> = _mm256_fmadd_ps;
    const MUL_SUB: Ternary<Self> = _mm256_fmsub_ps;
    const ABS: Unary<Self> = abs_s8;
    const MAXIMUM: Binary<Self> = maximum_s8;
    const SIGN: Unary<Self> = sign_s8;
    const GUARDED: Quaternary<Self> = guarded_s8;
    const HAS_NAN: Test<Self> = has_nan_s8;
    const ESTIMATE: Option<Unary<Self>> = None;
}

impl Instructions for __m512d {
    type Element = f64;
    const LOAD_FIRST: Load<Self> = load_first_d8;
    const STORE_FIRST: Store<Self> = store_first_d8;
    const SET: Fill<Self> = _mm512_set1_pd;
    const ADD: Binary<Self> = _mm512_add_pd;
    const SUB: Binary<Self> = _mm512_sub_pd;
    const MUL: Binary<Self> = _mm512_mul_pd;
    const DIV: Binary<Self> = _mm512_div_pd;
    const SQRT: Unary<Self> = _mm512_sqrt_pd;
    const MUL_ADD: Ternary<Self> = _mm512_fmadd_pd;
    const MUL_SUB: Ternary<Self> = _mm512_fmsub_pd;
    const ABS: Unary<Self> = _mm512_abs_pd;
    const MAXIMUM: Binary<Self> = maximum_d8;
    const SIGN: Unary<Self> = sign_d8;
    const GUARDED: Quaternary<Self> = guarded_d8;
    const HAS_NAN: Test<Self> = has_nan_d8;
    const ESTIMATE: Option<Unary<Self>> = Some(_mm512_rsqrt14_pd);
}

impl Instructions for __m512 {
    type Element = f32;
    const LOAD_FIRST: Load<Self> = load_first_s16;
    const STORE_FIRST: Store<Self> = store_first_s16;
    const SET: Fill<Self> = _mm512_set1_ps;
    const ADD: Binary<Self> = _mm512_add_ps;
    const SUB: Binary<Self> = _mm512_sub_ps;
    const MUL: Binary<Self> = _mm512_mul_ps;
    const DIV: Binary<Self> = _mm512_div_ps;
    const SQRT: Unary<Self> = _mm512_sqrt_ps;
    const MUL_ADD: Ternary<Self> = _mm512_fmadd_ps;
    const MUL_SUB: Ternary<Self> = _mm512_fmsub_ps;
    const ABS: Unary<Self> = _mm512_abs_ps;
    const MAXIMUM: Binary<Self> = maximum_s16;
    const SIGN: Unary<Self> = sign_s16;
    const GUARDED: Quaternary<Self> = guarded_s16;
    const HAS_NAN: Test<Self> = has_nan_s16;
    const ESTIMATE: Option<Unary<Self>> = None;
}

// Masks of the first places, as many as there are elements: no more than a register has.

#[inline]
#[target_feature(enable = "avx2,fma")]
fn first_d4(count: u32) -> __m256i {
    let count = _mm256_set1_epi64x(count.into());
    _mm256_cmpgt_epi64(count, _mm256_setr_epi64x(0, 1, 2, 3))
}

#[inline]
#[target_feature(enable = "avx2,fma")]
fn first_s8(count: u32) -> __m256i {
    let count = _mm256_set1_epi32(count.cast_signed());
    _mm256_cmpgt_epi32(count, _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7))
}

fn first_d8(count: u32) -> __mmask8 {
    !__mmask8::MAX.unbounded_shl(count)
}

fn first_s16(count: u32) -> __mmask16 {
    !__mmask16::MAX.unbounded_shl(count)
}

#[inline]
#[target_feature(enable = "avx2,fma")]
unsafe fn load_first_d4(start: *const f64, count: u32) -> __m256d {
    // SAFETY: places that the mask leaves out are not read.
    unsafe { _mm256_maskload_pd(start, first_d4(count)) }
}

#[inline]
#[target_feature(enable = "avx2,fma")]
unsafe fn store_first_d4(start: *mut f64, count: u32, x: __m256d) {
    // SAFETY: places that the mask leaves out are not written.
    unsafe { _mm256_maskstore_pd(start, first_d4(count), x) };
}

#[inline]
#[target_feature(enable = "avx2,fma")]
unsafe fn load_first_s8(start: *const f32, count: u32) -> __m256 {
    // SAFETY: places that the mask leaves out are not read.
    unsafe { _mm256_maskload_ps(start, first_s8(count)) }
}

#[inline]
#[target_feature(enable = "avx2,fma")]
unsafe fn store_first_s8(start: *mut f32, count: u32, x: __m256) {
    // SAFETY: places that the mask leaves out are not written.
    unsafe { _mm256_maskstore_ps(start, first_s8(count), x) };
}

#[inline]
#[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512dq,fma")]
unsafe fn load_first_d8(start: *const f64, count: u32) -> __m512d {
    // SAFETY: places that the mask leaves out are not read.
    unsafe { _mm512_maskz_loadu_pd(first_d8(count), start) }
}

#[inline]
#[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512dq,fma")]
unsafe fn store_first_d8(start: *mut f64, count: u32, x: __m512d) {
    // SAFETY: places that the mask leaves out are not written.
    unsafe { _mm512_mask_storeu_pd(start, first_d8(count), x) };
}

#[inline]
#[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512dq,fma")]
unsafe fn load_first_s16(start: *const f32, count: u32) -> __m512 {
    // SAFETY: places that the mask leaves out are not read.
    unsafe { _mm512_maskz_loadu_ps(first_s16(count), start) }
}

#[inline]
#[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512dq,fma")]
unsafe fn store_first_s16(start: *mut f32, count: u32, x: __m512) {
    // SAFETY: places that the mask leaves out are not written.
    unsafe { _mm512_mask_storeu_ps(start, first_s16(count), x) };
}

#[inline]
#[target_feature(enable = "avx2,fma")]
fn abs_d4(x: __m256d) -> __m256d {
    _mm256_andnot_pd(_mm256_set1_pd(-0.0), x)
}

#[inline]
#[target_feature(enable = "avx2,fma")]
fn abs_s8(x: __m256) -> __m256 {
    _mm256_andnot_ps(_mm256_set1_ps(-0.0), x)
}

// The instruction for a maximum gives the second operand unless the first one is larger.

#[inline]
#[target_feature(enable = "avx2,fma")]
fn maximum_d4(x: __m256d, y: __m256d) -> __m256d {
    _mm256_blendv_pd(_mm256_max_pd(x, y), x, _mm256_cmp_pd::<_CMP_UNORD_Q>(x, x))
}

#[inline]
#[target_feature(enable = "avx2,fma")]
fn maximum_s8(x: __m256, y: __m256) -> __m256 {
    _mm256_blendv_ps(_mm256_max_ps(x, y), x, _mm256_cmp_ps::<_CMP_UNORD_Q>(x, x))
}

#[inline]
#[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512dq,fma")]
fn maximum_d8(x: __m512d, y: __m512d) -> __m512d {
    _mm512_mask_mov_pd(_mm512_max_pd(x, y), _mm512_cmp_pd_mask::<_CMP_UNORD_Q>(x, x), x)
}

#[inline]
#[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512dq,fma")]
fn maximum_s16(x: __m512, y: __m512) -> __m512 {
    _mm512_mask_mov_ps(_mm512_max_ps(x, y), _mm512_cmp_ps_mask::<_CMP_UNORD_Q>(x, x), x)
}

#[inline]
#[target_feature(enable = "avx2,fma")]
fn sign_d4(x: __m256d) -> __m256d {
    let zero = _mm256_setzero_pd();
    // A zero loses its sign, NaN stays.
    let other = _mm256_add_pd(x, zero);
    let negative = _mm256_cmp_pd::<_CMP_LT_OQ>(x, zero);
    let sign = _mm256_blendv_pd(other, _mm256_set1_pd(-1.0), negative);
    _mm256_blendv_pd(sign, _mm256_set1_pd(1.0), _mm256_cmp_pd::<_CMP_GT_OQ>(x, zero))
}

#[inline]
#[target_feature(enable = "avx2,fma")]
fn sign_s8(x: __m256) -> __m256 {
    let zero = _mm256_setzero_ps();
    // A zero loses its sign, NaN stays.
    let other = _mm256_add_ps(x, zero);
    let negative = _mm256_cmp_ps::<_CMP_LT_OQ>(x, zero);
    let sign = _mm256_blendv_ps(other, _mm256_set1_ps(-1.0), negative);
    _mm256_blendv_ps(sign, _mm256_set1_ps(1.0), _mm256_cmp_ps::<_CMP_GT_OQ>(x, zero))
}

#[inline]
#[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512dq,fma")]
fn sign_d8(x: __m512d) -> __m512d {
    let zero = _mm512_setzero_pd();
    let other = _mm512_add_pd(x, zero);
    let negative = _mm512_cmp_pd_mask::<_CMP_LT_OQ>(x, zero);
    let sign = _mm512_mask_mov_pd(other, negative, _mm512_set1_pd(-1.0));
    _mm512_mask_mov_pd(sign, _mm512_cmp_pd_mask::<_CMP_GT_OQ>(x, zero), _mm512_set1_pd(1.0))
}

#[inline]
#[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512dq,fma")]
fn sign_s16(x: __m512) -> __m512 {
    let zero = _mm512_setzero_ps();
    let other = _mm512_add_ps(x, zero);
    let negative = _mm512_cmp_ps_mask::<_CMP_LT_OQ>(x, zero);
    let sign = _mm512_mask_mov_ps(other, negative, _mm512_set1_ps(-1.0));
    _mm512_mask_mov_ps(sign, _mm512_cmp_ps_mask::<_CMP_GT_OQ>(x, zero), _mm512_set1_ps(1.0))
}

#[inline]
#[target_feature(enable = "avx2,fma")]
fn guarded_d4(key: __m256d, smallest: __m256d, x: __m256d, value: __m256d) -> __m256d {
    // All bits set are a NaN.
    let otherwise = _mm256_or_pd(x, _mm256_cmp_pd::<_CMP_NEQ_UQ>(x, _mm256_setzero_pd()));
    _mm256_blendv_pd(otherwise, value, _mm256_cmp_pd::<_CMP_GE_OQ>(key, smallest))
}

#[inline]
#[target_feature(enable = "avx2,fma")]
fn guarded_s8(key: __m256, smallest: __m256, x: __m256, value: __m256) -> __m256 {
    let otherwise = _mm256_or_ps(x, _mm256_cmp_ps::<_CMP_NEQ_UQ>(x, _mm256_setzero_ps()));
    _mm256_blendv_ps(otherwise, value, _mm256_cmp_ps::<_CMP_GE_OQ>(key, smallest))
}

#[inline]
#[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512dq,fma")]
fn guarded_d8(key: __m512d, smallest: __m512d, x: __m512d, value: __m512d) -> __m512d {
    let not_zero = _mm512_cmp_pd_mask::<_CMP_NEQ_UQ>(x, _mm512_setzero_pd());
    let otherwise = _mm512_mask_mov_pd(x, not_zero, _mm512_set1_pd(f64::NAN));
    _mm512_mask_mov_pd(otherwise, _mm512_cmp_pd_mask::<_CMP_GE_OQ>(key, smallest), value)
}

#[inline]
#[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512dq,fma")]
fn guarded_s16(key: __m512, smallest: __m512, x: __m512, value: __m512) -> __m512 {
    let not_zero = _mm512_cmp_ps_mask::<_CMP_NEQ_UQ>(x, _mm512_setzero_ps());
    let otherwise = _mm512_mask_mov_ps(x, not_zero, _mm512_set1_ps(f32::NAN));
    _mm512_mask_mov_ps(otherwise, _mm512_cmp_ps_mask::<_CMP_GE_OQ>(key, smallest), value)
}

#[inline]
#[target_feature(enable = "avx2,fma")]
fn has_nan_d4(x: __m256d) -> bool {
    _mm256_movemask_pd(_mm256_cmp_pd::<_CMP_UNORD_Q>(x, x)) != 0
}

#[inline]
#[target_feature(enable = "avx2,fma")]
fn has_nan_s8(x: __m256) -> bool {
    _mm256_movemask_ps(_mm256_cmp_ps::<_CMP_UNORD_Q>(x, x)) != 0
}

#[inline]
#[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512dq,fma")]
fn has_nan_d8(x: __m512d) -> bool {
    _mm512_cmp_pd_mask::<_CMP_UNORD_Q>(x, x) != 0
}

#[inline]
#[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512dq,fma")]
fn has_nan_s16(x: __m512) -> bool {
    _mm512_cmp_ps_mask::<_CMP_UNORD_Q>(x, x) != 0
}
