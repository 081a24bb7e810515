/* The matrix kernel for AVX-512: register tiles of 8 rows x 2 vectors of 16 columns. */
#include "device/cpu/cpu_ops.h"
#include "device/cpu/x86/unroll.h"

#include <immintrin.h>

enum { ROWS = 8, VECTORS = 2 };

/* R rows x V vectors at (row, col); R and V are literals at every call. mask: the columns of the last vector. */
HS_INLINE void tile(const hs_gemm *g, int64_t row, int64_t col, __mmask16 mask, const int R, const int V)
{
    const __m512 zero = _mm512_setzero_ps();
    float *c = g->c + row * g->ldc + col;
    __m512 sum[ROWS][VECTORS];
    HS_UNROLL
    for (int r = 0; r < R; r++) {
        HS_UNROLL
        for (int v = 0; v < V; v++) {
            const __mmask16 m = v == V - 1 ? mask : (__mmask16)0xffff;
            sum[r][v] = g->accumulate ? _mm512_maskz_loadu_ps(m, c + r * g->ldc + v * HS_PANEL) : zero;
        }
    }
    const float *a = g->a + row * g->lda;
    const float *b0 = g->b + col / HS_PANEL * g->panel;
    const float *b1 = b0 + g->panel;
    const int64_t lda = g->lda, ldb = g->ldb, k = g->k;
    for (int64_t t = 0; t < k; t++) {
        const __m512 x0 = V == 1 ? _mm512_maskz_loadu_ps(mask, b0) : _mm512_loadu_ps(b0);
        const __m512 x1 = V == 1 ? zero : _mm512_maskz_loadu_ps(mask, b1);
        HS_UNROLL
        for (int r = 0; r < R; r++) {
            const __m512 y = _mm512_set1_ps(a[r * lda + t]);
            sum[r][0] = _mm512_fmadd_ps(y, x0, sum[r][0]);
            if (V == 2)
                sum[r][1] = _mm512_fmadd_ps(y, x1, sum[r][1]);
        }
        b0 += ldb;
        b1 += ldb;
    }
    HS_UNROLL
    for (int r = 0; r < R; r++) {
        HS_UNROLL
        for (int v = 0; v < V; v++)
            _mm512_mask_storeu_ps(c + r * g->ldc + v * HS_PANEL, v == V - 1 ? mask : (__mmask16)0xffff, sum[r][v]);
    }
}

/* All rows of the V vectors at col. */
HS_INLINE void columns(const hs_gemm *g, int64_t col, __mmask16 mask, const int V)
{
    int64_t row = 0;
    for (; row + ROWS <= g->rows; row += ROWS)
        tile(g, row, col, mask, ROWS, V);
    switch (g->rows - row) {
    case 7:
        tile(g, row, col, mask, 7, V);
        break;
    case 6:
        tile(g, row, col, mask, 6, V);
        break;
    case 5:
        tile(g, row, col, mask, 5, V);
        break;
    case 4:
        tile(g, row, col, mask, 4, V);
        break;
    case 3:
        tile(g, row, col, mask, 3, V);
        break;
    case 2:
        tile(g, row, col, mask, 2, V);
        break;
    case 1:
        tile(g, row, col, mask, 1, V);
        break;
    default:
        break;
    }
}

void hs_gemm_avx512(const hs_gemm *g)
{
    for (int64_t col = 0; col < g->n; col += (int64_t)VECTORS * HS_PANEL) {
        const int64_t cols = g->n - col < VECTORS * HS_PANEL ? g->n - col : VECTORS * HS_PANEL;
        if (cols > HS_PANEL)
            columns(g, col, (__mmask16)((1u << (cols - HS_PANEL)) - 1u), 2);
        else
            columns(g, col, (__mmask16)((1u << cols) - 1u), 1);
    }
}

/* A panel's transpose is bound by its stores; 512-bit shuffles would not shorten it. */
void hs_pack_panel_avx512(float *dst, const float *const *row, int64_t n_rows, int64_t d)
{
    hs_pack_panel_avx2(dst, row, n_rows, d);
}
