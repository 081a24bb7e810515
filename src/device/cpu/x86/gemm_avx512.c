/* The matrix kernels for AVX-512: register tiles of 8 rows x 2 vectors of 16 columns. */
#include "device/cpu/cpu_ops.h"
#include "device/cpu/gemm_columns.h"
#include "device/cpu/unroll.h"

#include <immintrin.h>

enum { ROWS = 8, VECTORS = 2 };

HS_INLINE __m512 load(const float *p, __mmask16 mask, const bool masked)
{
    return masked ? _mm512_maskz_loadu_ps(mask, p) : _mm512_loadu_ps(p);
}

/* sum[r][v] += a[r] * x_v for R rows and V vectors. */
HS_INLINE void step(
    __m512 sum[ROWS][VECTORS], const float *a, int64_t lda, __m512 x0, __m512 x1, const int R, const int V)
{
    HS_UNROLL
    for (int r = 0; r < R; r++) {
        const __m512 y = _mm512_set1_ps(a[r * lda]);
        sum[r][0] = _mm512_fmadd_ps(y, x0, sum[r][0]);
        if (V == 2)
            sum[r][1] = _mm512_fmadd_ps(y, x1, sum[r][1]);
    }
}

/* The even and the odd elements of 16 pairs, widened. */
HS_INLINE __m512 even_of(__m512 pairs)
{
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_castps_si512(pairs), 16));
}

HS_INLINE __m512 odd_of(__m512 pairs)
{
    return _mm512_castsi512_ps(_mm512_and_si512(_mm512_castps_si512(pairs), _mm512_set1_epi32((int)0xffff0000)));
}

/* R rows x V vectors over float32 or pairs; R, V and paired are literals at every call. mask: the columns of the last
 * vector. */
HS_INLINE void tile(const hs_gemm *g, int64_t row, const hs_gemm_columns *b, __mmask16 mask, const int R, const int V,
    const bool paired)
{
    const __m512 zero = _mm512_setzero_ps();
    float *c = g->c + row * g->ldc + b->col;
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
    const int64_t lda = g->lda, ldb = g->ldb;
    for (int64_t left = g->k, page = 0; left > 0; left -= b->page_k, page++) {
        const int64_t k = left < b->page_k ? left : b->page_k;
        const float *b0 = hs_gemm_words(g, b, page), *b1 = b0 + g->panel;
        int64_t t = 0;
        for (; t + paired < k; t += 1 + paired) {
            const __m512 x0 = load(b0, mask, V == 1), x1 = V == 1 ? zero : load(b1, mask, true);
            step(sum, a + t, lda, paired ? even_of(x0) : x0, paired ? even_of(x1) : x1, R, V);
            if (paired)
                step(sum, a + t + 1, lda, odd_of(x0), odd_of(x1), R, V);
            b0 += ldb;
            b1 += ldb;
        }
        if (t < k) /* the last pair of an odd k */
            step(sum, a + t, lda, even_of(load(b0, mask, V == 1)), V == 1 ? zero : even_of(load(b1, mask, true)), R, V);
        a += k;
    }
    HS_UNROLL
    for (int r = 0; r < R; r++) {
        HS_UNROLL
        for (int v = 0; v < V; v++)
            _mm512_mask_storeu_ps(
                c + r * g->ldc + v * HS_PANEL, v == V - 1 ? mask : (__mmask16)0xffff, _mm512_add_ps(sum[r][v], zero));
    }
}

/* All rows of V vectors. */
HS_INLINE void columns(const hs_gemm *g, const hs_gemm_columns *b, __mmask16 mask, const int V, const bool paired)
{
    int64_t row = 0;
    for (; row + ROWS <= g->rows; row += ROWS)
        tile(g, row, b, mask, ROWS, V, paired);
    switch (g->rows - row) {
    case 7:
        tile(g, row, b, mask, 7, V, paired);
        break;
    case 6:
        tile(g, row, b, mask, 6, V, paired);
        break;
    case 5:
        tile(g, row, b, mask, 5, V, paired);
        break;
    case 4:
        tile(g, row, b, mask, 4, V, paired);
        break;
    case 3:
        tile(g, row, b, mask, 3, V, paired);
        break;
    case 2:
        tile(g, row, b, mask, 2, V, paired);
        break;
    case 1:
        tile(g, row, b, mask, 1, V, paired);
        break;
    default:
        break;
    }
}

HS_INLINE void gemm(const hs_gemm *g, const bool paired)
{
    hs_gemm_columns b = hs_gemm_first_columns(g);
    for (; b.col < g->n; hs_gemm_next_columns(g, &b, VECTORS * HS_PANEL)) {
        const int64_t cols = g->n - b.col < VECTORS * HS_PANEL ? g->n - b.col : VECTORS * HS_PANEL;
        if (cols > HS_PANEL)
            columns(g, &b, (__mmask16)((1u << (cols - HS_PANEL)) - 1u), 2, paired);
        else
            columns(g, &b, (__mmask16)((1u << cols) - 1u), 1, paired);
    }
}

void hs_gemm_avx512(const hs_gemm *g)
{
    gemm(g, false);
}

void hs_gemm_bf16_avx512(const hs_gemm *g)
{
    gemm(g, true);
}

/* A panel's transpose is bound by its stores; 512-bit shuffles would not shorten it. */
void hs_pack_panel_avx512(float *dst, const float *const *row, int64_t n_rows, int64_t d)
{
    hs_pack_panel_avx2(dst, row, n_rows, d);
}
