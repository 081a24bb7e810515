/* The vector words that rows_vec.h is written in, for AVX-512. Included by *_avx512.c only. */
#ifndef HS_DEVICE_CPU_X86_VEC_AVX512_H
#define HS_DEVICE_CPU_X86_VEC_AVX512_H

#include <immintrin.h>
#include <stdint.h>

enum { V_LANES = 16 };
typedef __m512 v_f32;

static inline __mmask16 v_tail(int64_t n)
{
    return (__mmask16)((1u << n) - 1u);
}

/* Lanes 0 .. n - 1 of p, zeros behind; n >= V_LANES loads all. Nothing past p[n - 1] is read. */
static inline v_f32 v_load(const float *p, int64_t n)
{
    return n >= V_LANES ? _mm512_loadu_ps(p) : _mm512_maskz_loadu_ps(v_tail(n), p);
}

static inline void v_store(float *p, v_f32 x, int64_t n)
{
    if (n >= V_LANES)
        _mm512_storeu_ps(p, x);
    else
        _mm512_mask_storeu_ps(p, v_tail(n), x);
}

/* x in lanes 0 .. n - 1, `other` behind. */
static inline v_f32 v_keep(v_f32 x, float other, int64_t n)
{
    return n >= V_LANES ? x : _mm512_mask_blend_ps(v_tail(n), _mm512_set1_ps(other), x);
}

static inline v_f32 v_set(float x)
{
    return _mm512_set1_ps(x);
}

static inline v_f32 v_add(v_f32 a, v_f32 b)
{
    return _mm512_add_ps(a, b);
}

static inline v_f32 v_sub(v_f32 a, v_f32 b)
{
    return _mm512_sub_ps(a, b);
}

static inline v_f32 v_mul(v_f32 a, v_f32 b)
{
    return _mm512_mul_ps(a, b);
}

static inline v_f32 v_div(v_f32 a, v_f32 b)
{
    return _mm512_div_ps(a, b);
}

/* a * b + c, one rounding. */
static inline v_f32 v_fma(v_f32 a, v_f32 b, v_f32 c)
{
    return _mm512_fmadd_ps(a, b, c);
}

/* Where x is NaN the result is x. */
static inline v_f32 v_max(v_f32 bound, v_f32 x)
{
    return _mm512_max_ps(bound, x);
}

static inline v_f32 v_min(v_f32 a, v_f32 b)
{
    return _mm512_min_ps(a, b);
}

static inline v_f32 v_round(v_f32 x)
{
    return _mm512_roundscale_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}

/* x * 2^n for a whole n with -126 <= n <= 127. */
static inline v_f32 v_scale2(v_f32 x, v_f32 n)
{
    return _mm512_scalef_ps(x, n);
}

/* Each lane rounded to bfloat16 as hs_f32_to_bf16 (base/half.h) does, and widened again. */
static inline v_f32 v_to_bf16(v_f32 x)
{
    const __m512i bits = _mm512_castps_si512(x);
    const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
    const __m512i nearest = _mm512_add_epi32(_mm512_add_epi32(bits, _mm512_set1_epi32(0x7fff)), odd);
    const __mmask16 is_nan = _mm512_cmp_ps_mask(x, x, _CMP_UNORD_Q);
    const __m512i chosen = _mm512_mask_or_epi32(nearest, is_nan, bits, _mm512_set1_epi32(0x400000));
    return _mm512_castsi512_ps(_mm512_and_si512(chosen, _mm512_set1_epi32((int)0xffff0000)));
}

/* The pairs of two vectors that hold bfloat16 values: low in the low half of each lane, high in the other. */
static inline v_f32 v_pair(v_f32 low, v_f32 high)
{
    const __m512i shifted = _mm512_srli_epi32(_mm512_castps_si512(low), 16);
    return _mm512_castsi512_ps(_mm512_or_si512(shifted, _mm512_castps_si512(high)));
}

/* Lanes 0 .. n - 1 of the bfloat16 values at p (any address), widened; zeros behind. */
static inline v_f32 v_load_bf16(const void *p, int64_t n)
{
    const __m256i half = n >= V_LANES ? _mm256_loadu_si256((const __m256i *)p) : _mm256_maskz_loadu_epi16(v_tail(n), p);
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(half), 16));
}

/* Sum of the lanes: halves are added until one is left, the same tree always. */
static inline float v_sum(v_f32 x)
{
    const __m256 s8 = _mm256_add_ps(_mm512_castps512_ps256(x), _mm512_extractf32x8_ps(x, 1));
    const __m128 s4 = _mm_add_ps(_mm256_castps256_ps128(s8), _mm256_extractf128_ps(s8, 1));
    const __m128 s2 = _mm_add_ps(s4, _mm_movehl_ps(s4, s4));
    return _mm_cvtss_f32(_mm_add_ss(s2, _mm_movehdup_ps(s2)));
}

static inline float v_largest(v_f32 x)
{
    return _mm512_reduce_max_ps(x);
}

/* table[index[j]] for lanes j < n, 0 behind. */
static inline v_f32 v_lookup(const float *table, const uint8_t *index, int64_t n)
{
    if (n >= V_LANES)
        return _mm512_i32gather_ps(
            _mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)(const void *)index)), table, 4);
    const __m128i bytes = _mm_maskz_loadu_epi8(v_tail(n), index);
    return _mm512_mask_i32gather_ps(_mm512_setzero_ps(), v_tail(n), _mm512_cvtepu8_epi32(bytes), table, 4);
}

/* Bit j = lane j of x > t (>= t); false for NaN. */
static inline unsigned v_above(v_f32 x, v_f32 t)
{
    return _mm512_cmp_ps_mask(x, t, _CMP_GT_OQ);
}

static inline unsigned v_at_least(v_f32 x, v_f32 t)
{
    return _mm512_cmp_ps_mask(x, t, _CMP_GE_OQ);
}

#endif
