/* The matrix kernels for AVX2 with FMA: register tiles of 6 rows x 16 columns. The panel transpose. */
#include "device/cpu/cpu_ops.h"
#include "device/cpu/gemm_columns.h"
#include "device/cpu/unroll.h"
#include "device/cpu/x86/vec_avx2.h"

enum { ROWS = 6 };

HS_INLINE __m256 load(const float *p, __m256i mask, const bool masked)
{
    return masked ? _mm256_maskload_ps(p, mask) : _mm256_loadu_ps(p);
}

HS_INLINE void store(float *p, __m256 x, __m256i mask, const bool masked)
{
    if (masked)
        _mm256_maskstore_ps(p, mask, x);
    else
        _mm256_storeu_ps(p, x);
}

/* sum[r] += a[r] * x for R rows. */
HS_INLINE void step(__m256 sum[ROWS][2], const float *a, int64_t lda, __m256 x0, __m256 x1, const int R)
{
    HS_UNROLL
    for (int r = 0; r < R; r++) {
        const __m256 y = _mm256_set1_ps(a[r * lda]);
        sum[r][0] = _mm256_fmadd_ps(y, x0, sum[r][0]);
        sum[r][1] = _mm256_fmadd_ps(y, x1, sum[r][1]);
    }
}

/* The even and the odd elements of 8 pairs, widened. */
HS_INLINE __m256 even_of(__m256 pairs)
{
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_castps_si256(pairs), 16));
}

HS_INLINE __m256 odd_of(__m256 pairs)
{
    return _mm256_castsi256_ps(_mm256_and_si256(_mm256_castps_si256(pairs), _mm256_set1_epi32((int)0xffff0000)));
}

/* R rows x one panel over float32 or pairs; R, masked and paired are literals at every call. m0, m1: the columns of
 * each half that exist. */
HS_INLINE void tile(const hs_gemm *g, int64_t row, const hs_gemm_columns *cols, __m256i m0, __m256i m1, const int R,
    const bool masked, const bool paired)
{
    float *c = g->c + row * g->ldc + cols->col;
    __m256 sum[ROWS][2];
    HS_UNROLL
    for (int r = 0; r < R; r++) {
        sum[r][0] = g->accumulate ? load(c + r * g->ldc, m0, masked) : _mm256_setzero_ps();
        sum[r][1] = g->accumulate ? load(c + r * g->ldc + 8, m1, masked) : _mm256_setzero_ps();
    }
    const float *a = g->a + row * g->lda;
    const int64_t lda = g->lda, ldb = g->ldb;
    for (int64_t left = g->k, page = 0; left > 0; left -= cols->page_k, page++) {
        const int64_t k = left < cols->page_k ? left : cols->page_k;
        const float *b = hs_gemm_words(g, cols, page);
        int64_t t = 0;
        for (; t + paired < k; t += 1 + paired) {
            const __m256 x0 = load(b, m0, masked), x1 = load(b + 8, m1, masked);
            step(sum, a + t, lda, paired ? even_of(x0) : x0, paired ? even_of(x1) : x1, R);
            if (paired) {
                HS_FORGET(b); /* 12 sums leave no room to keep the pairs: they are read again */
                step(sum, a + t + 1, lda, odd_of(load(b, m0, masked)), odd_of(load(b + 8, m1, masked)), R);
            }
            b += ldb;
        }
        if (t < k) /* the last pair of an odd k */
            step(sum, a + t, lda, even_of(load(b, m0, masked)), even_of(load(b + 8, m1, masked)), R);
        a += k;
    }
    HS_UNROLL
    for (int r = 0; r < R; r++) {
        store(c + r * g->ldc, _mm256_add_ps(sum[r][0], _mm256_setzero_ps()), m0, masked);
        store(c + r * g->ldc + 8, _mm256_add_ps(sum[r][1], _mm256_setzero_ps()), m1, masked);
    }
}

HS_INLINE void columns(
    const hs_gemm *g, const hs_gemm_columns *cols, __m256i m0, __m256i m1, const bool masked, const bool paired)
{
    int64_t row = 0;
    for (; row + ROWS <= g->rows; row += ROWS)
        tile(g, row, cols, m0, m1, ROWS, masked, paired);
    switch (g->rows - row) {
    case 5:
        tile(g, row, cols, m0, m1, 5, masked, paired);
        break;
    case 4:
        tile(g, row, cols, m0, m1, 4, masked, paired);
        break;
    case 3:
        tile(g, row, cols, m0, m1, 3, masked, paired);
        break;
    case 2:
        tile(g, row, cols, m0, m1, 2, masked, paired);
        break;
    case 1:
        tile(g, row, cols, m0, m1, 1, masked, paired);
        break;
    default:
        break;
    }
}

HS_INLINE void gemm(const hs_gemm *g, const bool paired)
{
    const __m256i all = _mm256_set1_epi32(-1);
    hs_gemm_columns b = hs_gemm_first_columns(g);
    for (; b.col < g->n; hs_gemm_next_columns(g, &b, HS_PANEL)) {
        const int64_t cols = g->n - b.col;
        if (cols >= HS_PANEL)
            columns(g, &b, all, all, false, paired);
        else
            columns(g, &b, v_tail(cols), v_tail(cols - 8), true, paired);
    }
}

void hs_gemm_avx2(const hs_gemm *g)
{
    gemm(g, false);
}

void hs_gemm_bf16_avx2(const hs_gemm *g)
{
    gemm(g, true);
}

/* dst[i * HS_PANEL + r] = row[r][i] for 8 columns and, of 8 rows, first .. end - 1; `whole`, a literal: all. */
HS_INLINE void transpose8(
    float *dst, const float *const *row, int64_t t, int64_t first, int64_t end, __m256i lanes, const bool whole)
{
    __m256 x[8], y[8];
    HS_UNROLL
    for (int r = 0; r < 8; r++)
        x[r] = whole || (r >= first && r < end) ? _mm256_loadu_ps(row[r] + t) : _mm256_setzero_ps();
    HS_UNROLL
    for (int r = 0; r < 8; r += 2) {
        y[r] = _mm256_unpacklo_ps(x[r], x[r + 1]);
        y[r + 1] = _mm256_unpackhi_ps(x[r], x[r + 1]);
    }
    HS_UNROLL
    for (int r = 0; r < 8; r += 4) {
        x[r] = _mm256_shuffle_ps(y[r], y[r + 2], 0x44);
        x[r + 1] = _mm256_shuffle_ps(y[r], y[r + 2], 0xee);
        x[r + 2] = _mm256_shuffle_ps(y[r + 1], y[r + 3], 0x44);
        x[r + 3] = _mm256_shuffle_ps(y[r + 1], y[r + 3], 0xee);
    }
    HS_UNROLL
    for (int i = 0; i < 8; i++) {
        const __m256 column =
            i < 4 ? _mm256_permute2f128_ps(x[i], x[i + 4], 0x20) : _mm256_permute2f128_ps(x[i - 4], x[i], 0x31);
        if (whole)
            _mm256_storeu_ps(dst + i * HS_PANEL, column);
        else
            _mm256_maskstore_ps(dst + i * HS_PANEL, lanes, column);
    }
}

/* The same for d columns. */
static void pack8(float *dst, const float *const *row, int64_t first, int64_t end, int64_t d)
{
    const __m256i lanes = _mm256_andnot_si256(v_tail(first), v_tail(end));
    int64_t t = 0;
    if (first <= 0 && end >= 8) {
        for (; t + 8 <= d; t += 8)
            transpose8(dst + t * HS_PANEL, row, t, 0, 8, lanes, true);
    }
    for (; t + 8 <= d; t += 8)
        transpose8(dst + t * HS_PANEL, row, t, first, end, lanes, false);
    for (; t < d; t++) {
        for (int64_t r = hs_max_i64(first, 0); r < hs_min_i64(end, 8); r++)
            dst[t * HS_PANEL + r] = row[r][t];
    }
}

void hs_pack_panel_avx2(float *dst, const float *const *row, int64_t first, int64_t end, int64_t d)
{
    if (first < 8)
        pack8(dst, row, first, end, d);
    if (end > 8)
        pack8(dst + 8, row + 8, first - 8, end - 8, d);
}
