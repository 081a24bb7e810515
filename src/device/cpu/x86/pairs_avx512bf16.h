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

/* What becomes of a block of sums, 32 columns of some rows. Pointers are those of its first row and column. */
typedef struct hs_rows {
    uint16_t *out;
    const float *bias; /* or NULL, as the next two */
    const uint16_t *residual;
    float *stream;
    int64_t ldo, ldb, ldr, lds; /* ldb is for weights: a layer's bias is the same in all rows */
    int64_t n, seen;            /* columns that there are; of weights, how many the first row sees, or fewer than 0 */
    float alpha;
    char *claim; /* lines that are asked for meanwhile: of weights one a row, or NULL; of a layer those of `plan` */
    const hs_claim_plan *plan;
    int64_t plan_row, plan_rows; /* the first row in the plan, and how many rows are in it from there on, or 0 */
} hs_rows;

/* Of weights in the columns col .. of all rows. Field by field: a copy of what was just stored would wait for all stores before it, tiles'
 * too (bench/LOG.md). */
HS_INLINE void hs_weights_rows(hs_rows *rows, const hs_pair_weights *w, int64_t col)
{
    rows->out = w->out + col;
    rows->bias = w->bias ? w->bias + col : NULL;
    rows->ldo = w->ldo;
    rows->ldb = w->ldb;
    rows->n = w->scores.n - col;
    rows->seen = w->n_first - col;
    rows->alpha = w->alpha;
    rows->claim = NULL;
}

/* Of a layer's columns col .. in the rows row .. */
HS_INLINE void hs_linear_rows(hs_rows *rows, const hs_pair_linear *l, int64_t row, int64_t col)
{
    rows->out = l->out + row * l->ldo + col;
    rows->bias = l->bias ? l->bias + col : NULL;
    rows->residual = l->residual ? l->residual + row * l->ldr + col : NULL;
    rows->stream = l->stream ? l->stream + row * l->lds + col : NULL;
    rows->ldo = l->ldo;
    rows->ldr = l->ldr;
    rows->lds = l->lds;
    rows->n = l->n - col;
    rows->plan_rows = 0;
}

/* The weights of row r, from its 32 scores; `whole`, a literal: it sees all of them, and there is no bias. */
HS_INLINE void hs_weights_row(const hs_rows *rows, int64_t r, const float *score, const bool whole)
{
    const __m512 a = _mm512_set1_ps(rows->alpha);
    __m512 low = _mm512_load_ps(score), high = _mm512_load_ps(score + 16);
    if (whole) {
        low = _mm512_mul_ps(a, low);
        high = _mm512_mul_ps(a, high);
    } else {
        const float *const bias = rows->bias ? rows->bias + r * rows->ldb : NULL;
        const __mmask32 there = hs_first32(hs_min_i64(rows->seen + r, rows->n));
        const __mmask16 first = (__mmask16)there, second = (__mmask16)(there >> 16);
        const __m512 b0 = bias ? _mm512_maskz_loadu_ps(first, bias) : _mm512_setzero_ps();
        const __m512 b1 = bias ? _mm512_maskz_loadu_ps(second, bias + 16) : _mm512_setzero_ps();
        low = _mm512_maskz_fmadd_ps(first, a, low, b0);
        high = _mm512_maskz_fmadd_ps(second, a, high, b1);
    }
    _mm512_storeu_si512(rows->out + r * rows->ldo, hs_round2(hs_silu(low), hs_silu(high)));
}

/* Row r of a layer's result, from its 32 sums; `whole`, a literal: all 32 are columns. With act a literal too there is nothing to ask. */
HS_INLINE void hs_linear_row(const hs_rows *rows, hs_activation act, int64_t r, const float *sum, const bool whole)
{
    const __mmask32 there = whole ? UINT32_MAX : hs_first32(rows->n);
    const __mmask16 first = (__mmask16)there, second = (__mmask16)(there >> 16);
    __m512 low = _mm512_maskz_loadu_ps(first, sum), high = _mm512_maskz_loadu_ps(second, sum + 16);
    if (rows->bias) {
        low = _mm512_add_ps(low, _mm512_maskz_loadu_ps(first, rows->bias));
        high = _mm512_add_ps(high, _mm512_maskz_loadu_ps(second, rows->bias + 16));
    }
    if (act != HS_ACT_NONE) {
        const __m512i argument = hs_round2(low, high);
        low = hs_widen_low(argument);
        high = hs_widen_high(argument);
        if (act == HS_ACT_SILU) {
            low = hs_silu(low);
            high = hs_silu(high);
        } else if (act == HS_ACT_GELU) {
            low = hs_gelu(low);
            high = hs_gelu(high);
        } else {
            low = v_activate(low, act);
            high = v_activate(high, act);
        }
    }
    if (rows->stream) {
        float *const at = rows->stream + r * rows->lds;
        low = _mm512_add_ps(low, _mm512_maskz_loadu_ps(first, at));
        high = _mm512_add_ps(high, _mm512_maskz_loadu_ps(second, at + 16));
        _mm512_mask_storeu_ps(at, first, low);
        _mm512_mask_storeu_ps(at + 16, second, high);
    }
    if (rows->residual) {
        const __m512i more = _mm512_maskz_loadu_epi16(there, rows->residual + r * rows->ldr);
        if (act != HS_ACT_NONE) {
            const __m512i value = hs_round2(low, high);
            low = hs_widen_low(value);
            high = hs_widen_high(value);
        }
        low = _mm512_add_ps(low, hs_widen_low(more));
        high = _mm512_add_ps(high, hs_widen_high(more));
    }
    uint16_t *const out = rows->out + r * rows->ldo;
    _mm512_mask_storeu_epi16(out, there, hs_round2(low, high));
    hs_claim(out + HS_PAIR_STEP); /* the row's next columns come from far, and are wanted a block of sums later */
}

#endif
