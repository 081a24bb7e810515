/* Scores for AVX2: 8 rows become lanes by a transpose in registers, 32 bytes of each at a time. */
#include "device/cpu/cpu_ops.h"
#include "device/cpu/cpu_score.h"
#include "device/cpu/unroll.h"

#include <immintrin.h>
#include <string.h>

enum { ROWS = 8, BYTES = 32, MOST = 4 /* queries whose sums have registers beside the rows */ };

/* x[c] becomes word c of every row. */
HS_INLINE void transpose(__m256 x[ROWS])
{
    __m256 y[ROWS];
    HS_UNROLL
    for (int r = 0; r < ROWS; r += 2) {
        y[r] = _mm256_unpacklo_ps(x[r], x[r + 1]);
        y[r + 1] = _mm256_unpackhi_ps(x[r], x[r + 1]);
    }
    HS_UNROLL
    for (int r = 0; r < ROWS; r += 4) {
        x[r] = _mm256_shuffle_ps(y[r], y[r + 2], 0x44);
        x[r + 1] = _mm256_shuffle_ps(y[r], y[r + 2], 0xee);
        x[r + 2] = _mm256_shuffle_ps(y[r + 1], y[r + 3], 0x44);
        x[r + 3] = _mm256_shuffle_ps(y[r + 1], y[r + 3], 0xee);
    }
    HS_UNROLL
    for (int c = 0; c < 4; c++) {
        y[c] = _mm256_permute2f128_ps(x[c], x[c + 4], 0x20);
        y[c + 4] = _mm256_permute2f128_ps(x[c], x[c + 4], 0x31);
    }
    HS_UNROLL
    for (int c = 0; c < ROWS; c++)
        x[c] = y[c];
}

HS_INLINE void load(__m256 x[ROWS], const char *item, int64_t stride)
{
    HS_UNROLL
    for (int r = 0; r < ROWS; r++)
        x[r] = _mm256_loadu_ps((const float *)(const void *)(item + r * stride));
}

/* The next `bytes` of `rows` rows, at most 32 of 8; zeros elsewhere. */
static void load_edge(__m256 x[ROWS], const char *item, int64_t stride, int64_t rows, int64_t bytes)
{
    for (int r = 0; r < ROWS; r++) {
        float words[BYTES / sizeof(float)] = {0};
        if (r < rows)
            memcpy(words, item + r * stride, (size_t)bytes);
        x[r] = _mm256_loadu_ps(words);
    }
}

/* sum[q] += word of 8 items * its queries: of a float32 element, or of a pair's even element and then its odd one. */
HS_INLINE void step(__m256 sum[MOST], __m256 x, const float *query, int64_t width, const int N, const bool paired)
{
    const __m256i pair = _mm256_castps_si256(x);
    const __m256 even = paired ? _mm256_castsi256_ps(_mm256_slli_epi32(pair, 16)) : x;
    HS_UNROLL
    for (int q = 0; q < N; q++)
        sum[q] = _mm256_fmadd_ps(even, _mm256_set1_ps(query[q]), sum[q]);
    if (!paired)
        return;
    const __m256 odd = _mm256_castsi256_ps(_mm256_and_si256(pair, _mm256_set1_epi32((int)0xffff0000)));
    HS_UNROLL
    for (int q = 0; q < N; q++)
        sum[q] = _mm256_fmadd_ps(odd, _mm256_set1_ps(query[width + q]), sum[q]);
}

/* 8 items from j on with N queries from `first` on. */
HS_INLINE void few_rows(const hs_score_tile *t, int64_t j, int64_t first, const int N, const bool paired)
{
    const int64_t rows = t->n_items - j < ROWS ? t->n_items - j : ROWS, width = hs_score_width(t->n);
    const char *item = (const char *)t->item + j * t->stride;
    const char *ahead = t->ahead && first == 0 ? (const char *)t->ahead + j * t->ahead_stride : NULL;
    const float *query = (const float *)t->query + first;
    const int64_t word = width * (paired ? 2 : 1);
    __m256 sum[MOST], x[ROWS];
    HS_UNROLL
    for (int q = 0; q < N; q++)
        sum[q] = _mm256_setzero_ps();
    for (int64_t left = t->d * (paired ? 2 : 4); left > 0; left -= BYTES, item += BYTES, query += ROWS * word) {
        if (left >= BYTES && rows == ROWS)
            load(x, item, t->stride);
        else
            load_edge(x, item, t->stride, rows, left < BYTES ? left : BYTES);
        for (int i = 0; ahead && i < ROWS * BYTES; i += 64, ahead += 64)
            _mm_prefetch(ahead, _MM_HINT_T1);
        transpose(x);
        HS_UNROLL
        for (int c = 0; c < ROWS; c++)
            step(sum, x[c], query + c * word, width, N, paired);
    }
    for (int q = 0; q < N && first + q < t->n; q++) {
        float out[ROWS];
        _mm256_storeu_ps(out, _mm256_add_ps(sum[q], _mm256_setzero_ps())); /* a zero has no sign */
        memcpy(t->score + (first + q) * t->ld + j, out, (size_t)rows * sizeof *out);
    }
}

HS_INLINE void few(const hs_score_tile *t, const bool paired)
{
    for (int64_t j = 0; j < t->n_items; j += ROWS) {
        switch (hs_score_width(t->n)) {
        case 1:
            few_rows(t, j, 0, 1, paired);
            break;
        case 2:
            few_rows(t, j, 0, 2, paired);
            break;
        default:
            for (int64_t first = 0; first < t->n; first += MOST)
                few_rows(t, j, first, MOST, paired);
            break;
        }
    }
}

static void few_f32(const hs_score_tile *t)
{
    few(t, false);
}

static void few_bf16(const hs_score_tile *t)
{
    few(t, true);
}

/* Bit q where a score may be kept. */
HS_INLINE unsigned hits(__m256 low, __m256 high, const float *worst)
{
    const int a = _mm256_movemask_ps(_mm256_cmp_ps(low, _mm256_loadu_ps(worst), _CMP_NLE_UQ));
    const int b = _mm256_movemask_ps(_mm256_cmp_ps(high, _mm256_loadu_ps(worst + 8), _CMP_NLE_UQ));
    return (unsigned)a | (unsigned)b << 8;
}

/* before[q] += 1 where the score comes in front of the target; j: the item's place. */
HS_INLINE void count(const hs_score_filter *f, __m256 x, int64_t j, int q)
{
    const __m256 target = _mm256_loadu_ps(f->target + q);
    const __m256i at = _mm256_loadu_si256((const __m256i *)(const void *)(f->target_at + q));
    const __m256i early = _mm256_cmpgt_epi32(at, _mm256_set1_epi32((int)j));
    const __m256i equal = _mm256_castps_si256(_mm256_cmp_ps(x, target, _CMP_EQ_OQ));
    const __m256i above = _mm256_castps_si256(_mm256_cmp_ps(x, target, _CMP_GT_OQ));
    const __m256i counts = _mm256_or_si256(above, _mm256_and_si256(early, equal)); /* -1 where it does */
    __m256i *const before = (__m256i *)(void *)(f->before + q);
    _mm256_storeu_si256(before, _mm256_sub_epi32(_mm256_loadu_si256(before), counts));
}

static void filter(const hs_score_filter *f)
{
    for (int64_t j = 0; j < f->n; j++) {
        float *const score = f->score + j * f->ld;
        __m256 low = _mm256_loadu_ps(score), high = _mm256_loadu_ps(score + 8);
        if (f->norm) {
            low = _mm256_mul_ps(low, _mm256_set1_ps(f->norm[j]));
            high = _mm256_mul_ps(high, _mm256_set1_ps(f->norm[j]));
        }
        if (f->bias) {
            low = _mm256_add_ps(low, _mm256_set1_ps(f->bias[j]));
            high = _mm256_add_ps(high, _mm256_set1_ps(f->bias[j]));
        }
        f->hit[j] = (uint16_t)hits(low, high, f->worst);
        if (f->hit[j]) {
            _mm256_storeu_ps(score, low);
            _mm256_storeu_ps(score + 8, high);
        }
        if (f->target) {
            count(f, low, f->first + j, 0);
            count(f, high, f->first + j, 8);
        }
    }
    for (int64_t j = f->n; j % 4 != 0; j++)
        f->hit[j] = 0;
}

const hs_score_kernels hs_scores_avx2 = {.few_f32 = few_f32, .few_bf16 = few_bf16, .filter = filter};
