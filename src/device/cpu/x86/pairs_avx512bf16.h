/* Rows of 32 sums on their way to bfloat16 values. Included by files that are compiled for AVX-512 BF16 only. */
#ifndef HS_DEVICE_CPU_X86_PAIRS_AVX512BF16_H
#define HS_DEVICE_CPU_X86_PAIRS_AVX512BF16_H

#include "device/cpu/x86/vec_avx512.h"

#include "device/cpu/rows_vec.h"
#include "device/cpu/unroll.h"

/* 2^t. 2^t = 2^floor(t) p(t - floor(t)), p of degree 4 fitted on 0 .. 1 to a relative error of 2.6e-6; t's rounding adds at most
 * 5e-6. */
HS_INLINE __m512 hs_exp2(__m512 t)
{
    const __m512 r = _mm512_reduce_ps(t, _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC);
    __m512 p = _mm512_fmadd_ps(r, _mm512_set1_ps(0x1.bb7cd4p-7f), _mm512_set1_ps(0x1.aa13fp-5f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(0x1.ee798ap-3f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(0x1.62d166p-1f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(0x1.00002cp+0f));
    return _mm512_scalef_ps(p, t);
}

/* z / (1 + exp(-z)); where exp(-z) is beyond float32 it is infinite, and the quotient 0. */
HS_INLINE __m512 hs_silu(__m512 z)
{
    const __m512 t = _mm512_mul_ps(z, _mm512_set1_ps(-1.44269504f));
    return _mm512_div_ps(z, _mm512_add_ps(_mm512_set1_ps(1.0f), hs_exp2(t)));
}

/* max(z, 0) - |z| Phi(-|z|), where Phi(u) = 2^(u q(u) - 1) for u <= 0, q of degree 7 fitted on -9 <= u <= 0 so that Phi errs by 6.5e-6
 * of itself; u's roundings add at most 1e-5. Below -9 u counts as -9, where the product is 1e-18. */
HS_INLINE __m512 hs_gelu(__m512 z)
{
    const __m512 sign = _mm512_set1_ps(-0.0f);
    const __m512 u = _mm512_max_ps(_mm512_set1_ps(-9.0f), _mm512_or_ps(sign, z)); /* a NaN stays */
    __m512 q = _mm512_fmadd_ps(u, _mm512_set1_ps(0x1.3b988ep-24f), _mm512_set1_ps(0x1.e5498ap-19f));
    q = _mm512_fmadd_ps(q, u, _mm512_set1_ps(0x1.4acc66p-14f));
    q = _mm512_fmadd_ps(q, u, _mm512_set1_ps(0x1.0a4a3cp-10f));
    q = _mm512_fmadd_ps(q, u, _mm512_set1_ps(0x1.1e2b78p-7f));
    q = _mm512_fmadd_ps(q, u, _mm512_set1_ps(0x1.bc873ap-5f));
    q = _mm512_fmadd_ps(q, u, _mm512_set1_ps(-0x1.d54a1ep-2f));
    q = _mm512_fmadd_ps(q, u, _mm512_set1_ps(0x1.26b99ep+0f));
    const __m512 phi = hs_exp2(_mm512_fmadd_ps(q, u, _mm512_set1_ps(-1.0f)));
    return _mm512_fmadd_ps(u, phi, _mm512_max_ps(_mm512_setzero_ps(), z));
}

HS_INLINE __mmask32 hs_first32(int64_t n)
{
    return n >= 32 ? UINT32_MAX : n <= 0 ? 0 : (1u << n) - 1u;
}

HS_INLINE __m512i hs_round2(__m512 low, __m512 high)
{
    return (__m512i)_mm512_cvtne2ps_pbh(high, low);
}

HS_INLINE __m512 hs_widen_low(__m512i x)
{
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm512_castsi512_si256(x)), 16));
}

HS_INLINE __m512 hs_widen_high(__m512i x)
{
    return hs_widen_low(_mm512_castsi256_si512(_mm512_extracti64x4_epi64(x, 1)));
}

/* dst[0 .. 31] = the weights of 32 scores, of which the first `seen` count; `whole`, a literal: all, and without bias. */
HS_INLINE void hs_weights_row(
    uint16_t *dst, const float *score, const float *bias, float alpha, int64_t seen, const bool whole)
{
    const __m512 a = _mm512_set1_ps(alpha);
    __m512 low = _mm512_load_ps(score), high = _mm512_load_ps(score + 16);
    if (whole) {
        low = _mm512_mul_ps(a, low);
        high = _mm512_mul_ps(a, high);
    } else {
        const __mmask32 there = hs_first32(seen);
        const __mmask16 first = (__mmask16)there, second = (__mmask16)(there >> 16);
        const __m512 b0 = bias ? _mm512_maskz_loadu_ps(first, bias) : _mm512_setzero_ps();
        const __m512 b1 = bias ? _mm512_maskz_loadu_ps(second, bias + 16) : _mm512_setzero_ps();
        low = _mm512_maskz_fmadd_ps(first, a, low, b0);
        high = _mm512_maskz_fmadd_ps(second, a, high, b1);
    }
    _mm512_storeu_si512(dst, hs_round2(hs_silu(low), hs_silu(high)));
}

/* Columns col .. of row r of a linear layer's result, from their 32 sums; `whole`, a literal: all 32 are columns. */
HS_INLINE void hs_linear_row(const hs_pair_linear *l, int64_t r, int64_t col, const float *sum, const bool whole)
{
    const __mmask32 there = whole ? UINT32_MAX : hs_first32(l->n - col);
    const __mmask16 first = (__mmask16)there, second = (__mmask16)(there >> 16);
    __m512 low = _mm512_maskz_loadu_ps(first, sum), high = _mm512_maskz_loadu_ps(second, sum + 16);
    if (l->bias) {
        low = _mm512_add_ps(low, _mm512_maskz_loadu_ps(first, l->bias + col));
        high = _mm512_add_ps(high, _mm512_maskz_loadu_ps(second, l->bias + col + 16));
    }
    if (l->act != HS_ACT_NONE) {
        const __m512i argument = hs_round2(low, high);
        low = hs_widen_low(argument);
        high = hs_widen_high(argument);
        if (l->act == HS_ACT_SILU) {
            low = hs_silu(low);
            high = hs_silu(high);
        } else if (l->act == HS_ACT_GELU) {
            low = hs_gelu(low);
            high = hs_gelu(high);
        } else {
            low = v_activate(low, l->act);
            high = v_activate(high, l->act);
        }
    }
    if (l->stream) {
        float *const at = l->stream + r * l->lds + col;
        low = _mm512_add_ps(low, _mm512_maskz_loadu_ps(first, at));
        high = _mm512_add_ps(high, _mm512_maskz_loadu_ps(second, at + 16));
        _mm512_mask_storeu_ps(at, first, low);
        _mm512_mask_storeu_ps(at + 16, second, high);
    }
    if (l->residual) {
        const __m512i more = _mm512_maskz_loadu_epi16(there, l->residual + r * l->ldr + col);
        if (l->act != HS_ACT_NONE) {
            const __m512i value = hs_round2(low, high);
            low = hs_widen_low(value);
            high = hs_widen_high(value);
        }
        low = _mm512_add_ps(low, hs_widen_low(more));
        high = _mm512_add_ps(high, hs_widen_high(more));
    }
    uint16_t *const out = l->out + r * l->ldo + col;
    _mm512_mask_storeu_epi16(out, there, hs_round2(low, high));
    hs_claim(out + HS_PAIR_STEP); /* the row's next columns come from far, and are wanted a block of sums later */
}

#endif
