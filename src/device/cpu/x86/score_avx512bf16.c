/* Scores of bfloat16 items by products of pairs. */
#include "device/cpu/cpu_ops.h"
#include "device/cpu/cpu_score.h"
#include "device/cpu/x86/few_avx512.h"

enum { ROWS = 8 };

HS_INLINE __m512 dot(__m512 sum, __m512i x, __m512i y)
{
    return _mm512_dpbf16_ps(sum, (__m512bh)x, (__m512bh)y);
}

HS_INLINE void step_pairs(few_sums *s, __m512 x, const char *query, const int N)
{
    HS_UNROLL
    for (int q = 0; q < N; q++) {
        int32_t pair;
        memcpy(&pair, query + q * 4, sizeof pair);
        s->sum[q] = dot(s->sum[q], _mm512_castps_si512(x), _mm512_set1_epi32(pair));
    }
}

static void few_bf16(const hs_score_tile *t)
{
    few_any(t, 2, 4, step_pairs);
}

/* sum[r][v] += pair t of item r with the queries of block v. */
HS_INLINE void step(__m512 sum[ROWS][2], const char *item, int64_t stride, size_t bytes, const char *query,
    int64_t block, const int R, const int V)
{
    const __m512i y0 = _mm512_load_si512(query), y1 = V == 2 ? _mm512_load_si512(query + block) : y0;
    HS_UNROLL
    for (int r = 0; r < R; r++) {
        int32_t pair = 0;
        memcpy(&pair, item + r * stride, bytes);
        const __m512i x = _mm512_set1_epi32(pair);
        sum[r][0] = dot(sum[r][0], x, y0);
        if (V == 2)
            sum[r][1] = dot(sum[r][1], x, y1);
    }
}

/* R items x V blocks, R and V literals. Of what is read next a line is asked for with every other pair. */
HS_INLINE void rows(const hs_score_tile *t, int64_t j, const int R, const int V)
{
    const char *item = (const char *)t->item + j * t->stride, *query = t->query;
    const int64_t block = hs_score_steps(t->d, true) * 64;
    const char *ahead = R == ROWS && t->ahead ? (const char *)t->ahead + j * t->ahead_stride : NULL;
    __m512 sum[ROWS][2];
    HS_UNROLL
    for (int r = 0; r < R; r++)
        sum[r][0] = sum[r][1] = _mm512_setzero_ps();
    int64_t i = 0;
    for (; i + 4 <= t->d; i += 4, item += 8, query += 128) {
        if (ahead) {
            _mm_prefetch(ahead, _MM_HINT_T1);
            ahead += 64;
        }
        step(sum, item, t->stride, 4, query, block, R, V);
        step(sum, item + 4, t->stride, 4, query + 64, block, R, V);
    }
    for (; i + 2 <= t->d; i += 2, item += 4, query += 64)
        step(sum, item, t->stride, 4, query, block, R, V);
    if (i < t->d)
        step(sum, item, t->stride, 2, query, block, R, V);
    HS_UNROLL
    for (int r = 0; r < R; r++) {
        HS_UNROLL
        for (int v = 0; v < V; v++)
            _mm512_storeu_ps(t->score + (j + r) * t->ld + v * HS_SCORE_BLOCK,
                _mm512_add_ps(sum[r][v], _mm512_setzero_ps())); /* a zero has no sign */
    }
}

static void many_bf16(const hs_score_tile *t)
{
    int64_t j = 0;
    for (; j + ROWS <= t->n_items; j += ROWS) {
        if (t->n == 2)
            rows(t, j, ROWS, 2);
        else
            rows(t, j, ROWS, 1);
    }
    for (; j < t->n_items; j++) {
        if (t->n == 2)
            rows(t, j, 1, 2);
        else
            rows(t, j, 1, 1);
    }
}

const hs_score_kernels hs_scores_avx512bf16 = {.pairs = true,
    .few_f32 = hs_few_f32_avx512,
    .few_bf16 = few_bf16,
    .many_bf16 = many_bf16,
    .filter = hs_score_filter_avx512};
