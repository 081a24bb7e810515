/* What all instruction sets that multiply bfloat16 values share: to and from bfloat16, a candidate's own term. */
#include "device/cpu/x86/pairs_avx512bf16.h"

void hs_narrow_avx512bf16(uint16_t *dst, const float *x, float scale, int64_t n)
{
    const __m512 by = _mm512_set1_ps(scale);
    for (int64_t j = 0; j < n; j += HS_PAIR_STEP) {
        const __mmask32 there = hs_first32(n - j);
        const __m512 low = _mm512_maskz_loadu_ps((__mmask16)there, x + j);
        const __m512 high = _mm512_maskz_loadu_ps((__mmask16)(there >> 16), x + j + HS_PANEL);
        const __m512 zero = _mm512_setzero_ps(); /* added, so that a zero has no sign */
        _mm512_mask_storeu_epi16(
            dst + j, there, hs_round2(_mm512_fmadd_ps(by, low, zero), _mm512_fmadd_ps(by, high, zero)));
    }
}

void hs_widen_avx512bf16(float *dst, const uint16_t *x, int64_t n)
{
    for (int64_t j = 0; j < n; j += HS_PAIR_STEP) {
        const __mmask32 there = hs_first32(n - j);
        const __m512i half = _mm512_maskz_loadu_epi16(there, x + j);
        _mm512_mask_storeu_ps(dst + j, (__mmask16)there, hs_widen_low(half));
        _mm512_mask_storeu_ps(dst + j + HS_PANEL, (__mmask16)(there >> 16), hs_widen_high(half));
    }
}

/* Lanes j and j + 16 of each 32 are added up by themselves. */
static float dot(const uint16_t *a, const uint16_t *b, int64_t n)
{
    __m512 low = _mm512_setzero_ps(), high = low;
    for (int64_t j = 0; j < n; j += HS_PAIR_STEP) {
        const __mmask32 there = hs_first32(n - j);
        const __m512i x = _mm512_maskz_loadu_epi16(there, a + j), y = _mm512_maskz_loadu_epi16(there, b + j);
        low = _mm512_fmadd_ps(hs_widen_low(x), hs_widen_low(y), low);
        high = _mm512_fmadd_ps(hs_widen_high(x), hs_widen_high(y), high);
    }
    return _mm512_reduce_add_ps(_mm512_add_ps(low, high));
}

void hs_own_avx512bf16(const hs_pair_own *o)
{
    const __m512 z = hs_silu(_mm512_set1_ps(o->alpha * dot(o->q, o->k, o->dqk)));
    const __m512 weight = hs_widen_low(hs_round2(z, z));
    for (int64_t j = 0; j < o->dv; j += HS_PANEL) {
        const __mmask16 there = (__mmask16)hs_first32(o->dv - j);
        const __m512i half = _mm512_castsi256_si512(_mm256_maskz_loadu_epi16(there, o->v + j));
        const __m512 sum = _mm512_maskz_loadu_ps(there, o->sum + j);
        _mm512_mask_storeu_ps(o->sum + j, there, _mm512_fmadd_ps(weight, hs_widen_low(half), sum));
    }
}

void hs_add_avx512bf16(float *to, const float *x, int64_t n)
{
    for (int64_t j = 0; j < n; j += HS_PANEL) {
        const __mmask16 there = (__mmask16)hs_first32(n - j);
        const __m512 sum = _mm512_add_ps(_mm512_maskz_loadu_ps(there, to + j), _mm512_maskz_loadu_ps(there, x + j));
        _mm512_mask_storeu_ps(to + j, there, sum);
    }
}

void hs_zip_avx512bf16(uint32_t *dst, int64_t panel, const uint16_t *even, const uint16_t *odd, int64_t n)
{
    for (int64_t j = 0; j < n; j += HS_PANEL, dst += panel) {
        const __mmask16 there = (__mmask16)hs_first32(n - j);
        const __m512i low = _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(there, even + j));
        const __m512i high =
            odd ? _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(there, odd + j)) : _mm512_setzero_si512();
        _mm512_storeu_si512(dst, _mm512_or_si512(low, _mm512_slli_epi32(high, 16)));
    }
}
