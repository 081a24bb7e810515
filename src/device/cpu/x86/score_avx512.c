/* Scores and their filter for AVX-512. */
#include "device/cpu/cpu_ops.h"
#include "device/cpu/cpu_score.h"
#include "device/cpu/x86/few_avx512.h"

HS_INLINE void few_f32(few_sums *s, __m512 x, const float *query, const int N)
{
    HS_UNROLL
    for (int q = 0; q < N; q++)
        s->sum[q] = _mm512_fmadd_ps(x, _mm512_set1_ps(query[q]), s->sum[q]);
}

HS_INLINE void step_f32(few_sums *s, __m512 x, const char *query, const int N)
{
    few_f32(s, x, (const float *)(const void *)query, N);
}

/* Both halves of a word, widened: the even element first. */
HS_INLINE void step_bf16(few_sums *s, __m512 x, const char *query, const int N)
{
    const __m512i pairs = _mm512_castps_si512(x);
    few_f32(s, _mm512_castsi512_ps(_mm512_slli_epi32(pairs, 16)), (const float *)(const void *)query, N);
    few_f32(s, _mm512_castsi512_ps(_mm512_and_si512(pairs, _mm512_set1_epi32((int)0xffff0000))),
        (const float *)(const void *)query + N, N);
}

void hs_few_f32_avx512(const hs_score_tile *t)
{
    few_any(t, 4, 4, step_f32);
}

static void few_bf16(const hs_score_tile *t)
{
    few_any(t, 2, 8, step_bf16);
}

void hs_score_filter_avx512(const hs_score_filter *f)
{
    const __m512 worst = _mm512_loadu_ps(f->worst);
    const __m512 target = f->target ? _mm512_loadu_ps(f->target) : _mm512_setzero_ps();
    const __m512i at = f->target ? _mm512_loadu_si512(f->target_at) : _mm512_setzero_si512(),
                  one = _mm512_set1_epi32(1);
    __m512i before = f->target ? _mm512_loadu_si512(f->before) : _mm512_setzero_si512();
    for (int64_t j = 0; j < f->n; j++) {
        __m512 x = _mm512_loadu_ps(f->score + j * f->ld);
        if (f->norm)
            x = _mm512_mul_ps(x, _mm512_set1_ps(f->norm[j]));
        if (f->bias)
            x = _mm512_add_ps(x, _mm512_set1_ps(f->bias[j]));
        const __mmask16 hit = _mm512_cmp_ps_mask(x, worst, _CMP_NLE_UQ);
        f->hit[j] = hit;
        if (hit)
            _mm512_storeu_ps(f->score + j * f->ld, x);
        if (!f->target)
            continue;
        const __mmask16 early = _mm512_cmpgt_epi32_mask(at, _mm512_set1_epi32((int)(f->first + j)));
        const __mmask16 counts =
            _mm512_cmp_ps_mask(x, target, _CMP_GT_OQ) | _mm512_mask_cmp_ps_mask(early, x, target, _CMP_EQ_OQ);
        before = _mm512_mask_add_epi32(before, counts, before, one);
    }
    for (int64_t j = f->n; j % 4 != 0; j++)
        f->hit[j] = 0;
    if (f->target)
        _mm512_storeu_si512(f->before, before);
}

const hs_score_kernels hs_scores_avx512 = {
    .few_f32 = hs_few_f32_avx512, .few_bf16 = few_bf16, .filter = hs_score_filter_avx512};
