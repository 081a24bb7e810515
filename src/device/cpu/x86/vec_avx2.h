/* The vector words that rows_vec.h is written in, for AVX2 with FMA. Included by *_avx2.c only. */
#ifndef HS_DEVICE_CPU_X86_VEC_AVX2_H
#define HS_DEVICE_CPU_X86_VEC_AVX2_H

#include <immintrin.h>
#include <stdint.h>
#include <string.h>

enum { V_LANES = 8 };
typedef __m256 v_f32;

/* All bits of lanes 0 .. n - 1, 0 <= n. */
static inline __m256i v_tail(int64_t n)
{
    return _mm256_cmpgt_epi32(
        _mm256_set1_epi32((int)(n < V_LANES ? n : V_LANES)), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}

/* Lanes 0 .. n - 1 of p, zeros behind; n >= V_LANES loads all. Nothing past p[n - 1] is read. */
static inline v_f32 v_load(const float *p, int64_t n)
{
    return n >= V_LANES ? _mm256_loadu_ps(p) : _mm256_maskload_ps(p, v_tail(n));
}

static inline void v_store(float *p, v_f32 x, int64_t n)
{
    if (n >= V_LANES)
        _mm256_storeu_ps(p, x);
    else
        _mm256_maskstore_ps(p, v_tail(n), x);
}

/* x in lanes 0 .. n - 1, `other` behind. */
static inline v_f32 v_keep(v_f32 x, float other, int64_t n)
{
    return n >= V_LANES ? x : _mm256_blendv_ps(_mm256_set1_ps(other), x, _mm256_castsi256_ps(v_tail(n)));
}

static inline v_f32 v_set(float x)
{
    return _mm256_set1_ps(x);
}

static inline v_f32 v_add(v_f32 a, v_f32 b)
{
    return _mm256_add_ps(a, b);
}

static inline v_f32 v_sub(v_f32 a, v_f32 b)
{
    return _mm256_sub_ps(a, b);
}

static inline v_f32 v_mul(v_f32 a, v_f32 b)
{
    return _mm256_mul_ps(a, b);
}

static inline v_f32 v_div(v_f32 a, v_f32 b)
{
    return _mm256_div_ps(a, b);
}

/* a * b + c, one rounding. */
static inline v_f32 v_fma(v_f32 a, v_f32 b, v_f32 c)
{
    return _mm256_fmadd_ps(a, b, c);
}

/* Where x is NaN the result is x. */
static inline v_f32 v_max(v_f32 bound, v_f32 x)
{
    return _mm256_max_ps(bound, x);
}

static inline v_f32 v_min(v_f32 a, v_f32 b)
{
    return _mm256_min_ps(a, b);
}

static inline v_f32 v_round(v_f32 x)
{
    return _mm256_round_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}

/* x * 2^n for a whole n with -126 <= n <= 127. */
static inline v_f32 v_scale2(v_f32 x, v_f32 n)
{
    const __m256i exponent = _mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127));
    return _mm256_mul_ps(x, _mm256_castsi256_ps(_mm256_slli_epi32(exponent, 23)));
}

/* Each lane rounded to bfloat16 as hs_f32_to_bf16 (base/half.h) does, and widened again. */
static inline v_f32 v_to_bf16(v_f32 x)
{
    const __m256i bits = _mm256_castps_si256(x);
    const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
    const __m256i nearest = _mm256_add_epi32(_mm256_add_epi32(bits, _mm256_set1_epi32(0x7fff)), odd);
    const __m256i quiet = _mm256_or_si256(bits, _mm256_set1_epi32(0x400000));
    const __m256 is_nan = _mm256_cmp_ps(x, x, _CMP_UNORD_Q);
    const __m256i chosen = _mm256_blendv_epi8(nearest, quiet, _mm256_castps_si256(is_nan));
    return _mm256_castsi256_ps(_mm256_and_si256(chosen, _mm256_set1_epi32((int)0xffff0000)));
}

/* The pairs of two vectors that hold bfloat16 values: low in the low half of each lane, high in the other. */
static inline v_f32 v_pair(v_f32 low, v_f32 high)
{
    const __m256i shifted = _mm256_srli_epi32(_mm256_castps_si256(low), 16);
    return _mm256_castsi256_ps(_mm256_or_si256(shifted, _mm256_castps_si256(high)));
}

/* Lanes 0 .. n - 1 of the bfloat16 values at p (any address), widened; zeros behind. */
static inline v_f32 v_load_bf16(const void *p, int64_t n)
{
    uint16_t lane[V_LANES] = {0};
    memcpy(lane, p, (size_t)(n < V_LANES ? n : V_LANES) * sizeof lane[0]);
    const __m128i half = _mm_loadu_si128((const __m128i *)(const void *)lane);
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(half), 16));
}

/* Sum of the lanes: halves are added until one is left, the same tree always. */
static inline float v_sum(v_f32 x)
{
    const __m128 s4 = _mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
    const __m128 s2 = _mm_add_ps(s4, _mm_movehl_ps(s4, s4));
    return _mm_cvtss_f32(_mm_add_ss(s2, _mm_movehdup_ps(s2)));
}

static inline float v_largest(v_f32 x)
{
    const __m128 m4 = _mm_max_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
    const __m128 m2 = _mm_max_ps(m4, _mm_movehl_ps(m4, m4));
    return _mm_cvtss_f32(_mm_max_ss(m2, _mm_movehdup_ps(m2)));
}

/* table[index[j]] for lanes j < n, 0 behind. */
static inline v_f32 v_lookup(const float *table, const uint8_t *index, int64_t n)
{
    float lane[V_LANES] = {0};
    const int64_t count = n < V_LANES ? n : V_LANES;
    for (int64_t j = 0; j < count; j++)
        lane[j] = table[index[j]];
    return _mm256_loadu_ps(lane);
}

/* Bit j = lane j of x > t (>= t); false for NaN. */
static inline unsigned v_above(v_f32 x, v_f32 t)
{
    return (unsigned)_mm256_movemask_ps(_mm256_cmp_ps(x, t, _CMP_GT_OQ));
}

static inline unsigned v_at_least(v_f32 x, v_f32 t)
{
    return (unsigned)_mm256_movemask_ps(_mm256_cmp_ps(x, t, _CMP_GE_OQ));
}

#endif
