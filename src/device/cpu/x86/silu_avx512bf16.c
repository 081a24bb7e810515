/* SiLU whose result is a bfloat16 value: a cheaper exponential will do, and pairs come out at once. */
#include "device/cpu/cpu_ops.h"
#include "device/cpu/x86/vec_avx512.h"

/* z / (1 + 2^t), t = -z / ln 2. 2^t = 2^floor(t) p(t - floor(t)), p of degree 4 fitted on 0 .. 1 to a relative error of 2.6e-6; t's
 * rounding adds at most 5e-6. z below -88 counts as -88. */
static inline __m512 silu(__m512 z)
{
    z = v_max(v_set(-88.0f), z);
    const __m512 t = v_mul(z, v_set(-1.44269504f));
    const __m512 r = _mm512_reduce_ps(t, _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC);
    __m512 p = v_fma(r, v_set(0x1.bb7cd4p-7f), v_set(0x1.aa13fp-5f));
    p = v_fma(p, r, v_set(0x1.ee798ap-3f));
    p = v_fma(p, r, v_set(0x1.62d166p-1f));
    p = v_fma(p, r, v_set(0x1.00002cp+0f));
    return v_div(z, v_add(v_set(1.0f), v_scale2(p, t)));
}

/* Lanes j .. of a row, of which `seen` are seen. */
static inline __m512 weight_at(const hs_silu_tile *t, const float *x, const float *bias, int64_t j, int64_t seen)
{
    __m512 z = v_load(x + j, seen - j);
    z = bias ? v_fma(v_set(t->alpha), z, v_load(bias + j, seen - j)) : v_mul(v_set(t->alpha), z);
    return v_keep(v_mul(v_set(t->scale), silu(z)), 0.0f, seen - j);
}

static void silu_row(uint32_t *left, const hs_silu_tile *t, const float *x, const float *bias, int64_t seen)
{
    int64_t j = 0;
    for (; j < seen; j += HS_PAIR_STEP) {
        const __m512 low = weight_at(t, x, bias, j, seen);
        const __m512 high = j + V_LANES < seen ? weight_at(t, x, bias, j + V_LANES, seen) : v_set(0.0f);
        _mm512_storeu_si512(left + j / 2, (__m512i)_mm512_cvtne2ps_pbh(high, low));
    }
    for (; j < t->n; j += HS_PAIR_STEP)
        _mm512_storeu_si512(left + j / 2, _mm512_setzero_si512());
}

void hs_silu_left_avx512bf16(uint32_t *left, int64_t lda, const hs_silu_tile *t)
{
    for (int64_t r = 0; r < t->rows; r++) {
        const int64_t seen = t->n_first + r < t->n ? t->n_first + r : t->n;
        silu_row(left + r * lda, t, t->x + r * t->ld, t->bias ? t->bias + r * t->ld : NULL, seen);
    }
}
