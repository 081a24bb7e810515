/* The matrix kernel for AVX2 with FMA: register tiles of 6 rows x 16 columns. The panel transpose. */
#include "device/cpu/cpu_ops.h"
#include "device/cpu/x86/unroll.h"
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

/* R rows x one panel at (row, col); R and masked are literals at every call. m0, m1: the columns of each half that
 * exist. */
HS_INLINE void tile(const hs_gemm *g, int64_t row, int64_t col, __m256i m0, __m256i m1, const int R, const bool masked)
{
    float *c = g->c + row * g->ldc + col;
    __m256 sum[ROWS][2];
    HS_UNROLL
    for (int r = 0; r < R; r++) {
        sum[r][0] = g->accumulate ? load(c + r * g->ldc, m0, masked) : _mm256_setzero_ps();
        sum[r][1] = g->accumulate ? load(c + r * g->ldc + 8, m1, masked) : _mm256_setzero_ps();
    }
    const float *a = g->a + row * g->lda;
    const float *b = g->b + col / HS_PANEL * g->panel;
    const int64_t lda = g->lda, ldb = g->ldb, k = g->k;
    for (int64_t t = 0; t < k; t++) {
        const __m256 x0 = load(b, m0, masked);
        const __m256 x1 = load(b + 8, m1, masked);
        HS_UNROLL
        for (int r = 0; r < R; r++) {
            const __m256 y = _mm256_set1_ps(a[r * lda + t]);
            sum[r][0] = _mm256_fmadd_ps(y, x0, sum[r][0]);
            sum[r][1] = _mm256_fmadd_ps(y, x1, sum[r][1]);
        }
        b += ldb;
    }
    HS_UNROLL
    for (int r = 0; r < R; r++) {
        store(c + r * g->ldc, sum[r][0], m0, masked);
        store(c + r * g->ldc + 8, sum[r][1], m1, masked);
    }
}

HS_INLINE void columns(const hs_gemm *g, int64_t col, __m256i m0, __m256i m1, const bool masked)
{
    int64_t row = 0;
    for (; row + ROWS <= g->rows; row += ROWS)
        tile(g, row, col, m0, m1, ROWS, masked);
    switch (g->rows - row) {
    case 5:
        tile(g, row, col, m0, m1, 5, masked);
        break;
    case 4:
        tile(g, row, col, m0, m1, 4, masked);
        break;
    case 3:
        tile(g, row, col, m0, m1, 3, masked);
        break;
    case 2:
        tile(g, row, col, m0, m1, 2, masked);
        break;
    case 1:
        tile(g, row, col, m0, m1, 1, masked);
        break;
    default:
        break;
    }
}

void hs_gemm_avx2(const hs_gemm *g)
{
    const __m256i all = _mm256_set1_epi32(-1);
    for (int64_t col = 0; col < g->n; col += HS_PANEL) {
        const int64_t cols = g->n - col;
        if (cols >= HS_PANEL)
            columns(g, col, all, all, false);
        else
            columns(g, col, v_tail(cols), v_tail(cols - 8), true);
    }
}

/* dst[i * HS_PANEL + r] = row[r][i] for 8 rows and 8 columns. */
static void transpose8(float *dst, const float *const *row, int64_t t, int64_t n_rows)
{
    __m256 x[8], y[8];
    HS_UNROLL
    for (int r = 0; r < 8; r++)
        x[r] = r < n_rows ? _mm256_loadu_ps(row[r] + t) : _mm256_setzero_ps();
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
    for (int i = 0; i < 4; i++) {
        _mm256_storeu_ps(dst + i * HS_PANEL, _mm256_permute2f128_ps(x[i], x[i + 4], 0x20));
        _mm256_storeu_ps(dst + (i + 4) * HS_PANEL, _mm256_permute2f128_ps(x[i], x[i + 4], 0x31));
    }
}

void hs_pack_panel_avx2(float *dst, const float *const *row, int64_t n_rows, int64_t d)
{
    int64_t t = 0;
    for (; t + 8 <= d; t += 8) {
        transpose8(dst + t * HS_PANEL, row, t, n_rows);
        transpose8(dst + t * HS_PANEL + 8, row + 8, t, n_rows - 8);
    }
    for (; t < d; t++) {
        for (int64_t r = 0; r < HS_PANEL; r++)
            dst[t * HS_PANEL + r] = r < n_rows ? row[r][t] : 0.0f;
    }
}
