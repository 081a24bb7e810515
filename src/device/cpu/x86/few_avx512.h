/* Scores of many items with few queries: 16 rows become lanes by a transpose in registers, 64 bytes of each at a time. */
#ifndef HS_DEVICE_CPU_X86_FEW_AVX512_H
#define HS_DEVICE_CPU_X86_FEW_AVX512_H

#include "device/cpu/cpu_score.h"
#include "device/cpu/unroll.h"

#include <immintrin.h>
#include <string.h>

enum { FEW_ROWS = 16 };

typedef struct few_sums {
    __m512 sum[HS_SCORE_FEW];
} few_sums;

/* Four rows of four lanes: lane L of x[c] becomes column 4 L + c of the rows. */
HS_INLINE void few_transpose4(__m512 x[4])
{
    const __m512 a = _mm512_unpacklo_ps(x[0], x[1]), b = _mm512_unpackhi_ps(x[0], x[1]);
    const __m512 c = _mm512_unpacklo_ps(x[2], x[3]), d = _mm512_unpackhi_ps(x[2], x[3]);
    x[0] = _mm512_shuffle_ps(a, c, 0x44);
    x[1] = _mm512_shuffle_ps(a, c, 0xee);
    x[2] = _mm512_shuffle_ps(b, d, 0x44);
    x[3] = _mm512_shuffle_ps(b, d, 0xee);
}

/* 16 words of each of 16 rows become 16 vectors, x[g][c] holding word 4 g + c of every row. */
HS_INLINE void few_transpose(__m512 x[4][4])
{
    HS_UNROLL
    for (int g = 0; g < 4; g++)
        few_transpose4(x[g]);
    HS_UNROLL
    for (int c = 0; c < 4; c++) {
        const __m512 a = _mm512_shuffle_f32x4(x[0][c], x[1][c], 0x88), b = _mm512_shuffle_f32x4(x[0][c], x[1][c], 0xdd);
        const __m512 d = _mm512_shuffle_f32x4(x[2][c], x[3][c], 0x88), e = _mm512_shuffle_f32x4(x[2][c], x[3][c], 0xdd);
        x[0][c] = _mm512_shuffle_f32x4(a, d, 0x88);
        x[1][c] = _mm512_shuffle_f32x4(b, e, 0x88);
        x[2][c] = _mm512_shuffle_f32x4(a, d, 0xdd);
        x[3][c] = _mm512_shuffle_f32x4(b, e, 0xdd);
    }
}

/* The next 64 bytes of `rows` rows, of which `mask` says the 16-bit halves that exist; rows that do not exist are zeros. */
HS_INLINE void few_load(
    __m512 x[4][4], const char *item, int64_t stride, int64_t rows, __mmask32 mask, const bool whole)
{
    HS_UNROLL
    for (int g = 0; g < 4; g++) {
        HS_UNROLL
        for (int r = 0; r < 4; r++) {
            const char *row = item + (4 * g + r) * stride;
            if (whole) {
                x[g][r] = _mm512_loadu_ps(row);

            } else {
                x[g][r] =
                    4 * g + r < rows ? _mm512_castsi512_ps(_mm512_maskz_loadu_epi16(mask, row)) : _mm512_setzero_ps();
            }
        }
    }
}

/* 16 lines more. */
HS_INLINE const char *few_ask(const char *ahead)
{
    HS_UNROLL
    for (int g = 0; g < 2; g++) {
        HS_UNROLL
        for (int r = 0; r < 8; r++)
            _mm_prefetch(ahead + (8 * g + r) * 64, _MM_HINT_T1);
    }
    return ahead + 1024;
}

typedef void few_step(few_sums *s, __m512 x, const char *query, const int N);

/* 64 bytes of 16 rows with N queries. `bytes`: of packed queries, for one word of an item. */
HS_INLINE void few_words(few_sums *s, __m512 x[4][4], const char *query, int64_t bytes, const int N, few_step *step)
{
    few_transpose(x);
    HS_UNROLL
    for (int g = 0; g < 4; g++) {
        HS_UNROLL
        for (int c = 0; c < 4; c++)
            step(s, x[g][c], query + (4 * g + c) * bytes, N);
    }
}

HS_INLINE void few_rows(
    const hs_score_tile *t, int64_t j, const int64_t item_size, const int64_t query_size, const int N, few_step *step)
{
    const int64_t rows = t->n_items - j < FEW_ROWS ? t->n_items - j : FEW_ROWS, bytes = N * query_size;
    const char *item = (const char *)t->item + j * t->stride, *query = t->query;
    const char *ahead = t->ahead ? (const char *)t->ahead + j * t->ahead_stride : NULL;
    int64_t left = t->d * item_size;
    few_sums s;
    __m512 x[4][4];
    HS_UNROLL
    for (int q = 0; q < N; q++)
        s.sum[q] = _mm512_setzero_ps();
    for (; left >= 64 && rows == FEW_ROWS; left -= 64, item += 64, query += 16 * bytes) {
        few_load(x, item, t->stride, rows, 0, true);
        if (ahead)
            ahead = few_ask(ahead);
        few_words(&s, x, query, bytes, N, step);
    }
    for (; left > 0; left -= 64, item += 64, query += 16 * bytes) {
        few_load(x, item, t->stride, rows, left >= 64 ? ~(__mmask32)0 : ((__mmask32)1 << (left / 2)) - 1, false);
        few_words(&s, x, query, bytes, N, step);
    }
    HS_UNROLL
    for (int q = 0; q < N; q++) {
        if (q < t->n) /* a zero has no sign */
            _mm512_mask_storeu_ps(
                t->score + q * t->ld + j, (__mmask16)((1u << rows) - 1u), _mm512_add_ps(s.sum[q], _mm512_setzero_ps()));
    }
}

/* item_size: bytes of an item's element; query_size: of a query for one word of an item. */
HS_INLINE void few_any(const hs_score_tile *t, const int64_t item_size, const int64_t query_size, few_step *step)
{
    for (int64_t j = 0; j < t->n_items; j += FEW_ROWS) {
        switch (hs_score_width(t->n)) {
        case 1:
            few_rows(t, j, item_size, query_size, 1, step);
            break;
        case 2:
            few_rows(t, j, item_size, query_size, 2, step);
            break;
        case 4:
            few_rows(t, j, item_size, query_size, 4, step);
            break;
        default:
            few_rows(t, j, item_size, query_size, 8, step);
            break;
        }
    }
}

#endif
