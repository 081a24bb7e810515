/* Products of bfloat16 pairs with vdpbf16ps: register tiles of 6 rows x 4 vectors of 16 columns. */
#include "device/cpu/cpu_ops.h"
#include "device/cpu/x86/gemm_columns.h"
#include "device/cpu/x86/unroll.h"

#include <immintrin.h>

enum { ROWS = 6, VECTORS = 4, ROW_TILE = 12 };

/* sum[r][v] += the products of pair a[r] with the pairs at b_v; of these only the halves in `keep`. */
HS_INLINE void step(__m512 sum[ROWS][VECTORS], const uint32_t *a, int64_t lda, const float *b, int64_t panel,
    __mmask16 mask, __m512i keep, const bool some, const int R, const int V)
{
    __m512i x[VECTORS];
    HS_UNROLL
    for (int v = 0; v < V; v++) {
        x[v] = v == V - 1 ? _mm512_maskz_loadu_epi32(mask, b + v * panel) : _mm512_loadu_si512(b + v * panel);
        if (some)
            x[v] = _mm512_and_si512(x[v], keep);
    }
    HS_UNROLL
    for (int r = 0; r < R; r++) {
        const __m512i y = _mm512_set1_epi32((int)a[r * lda]);
        HS_UNROLL
        for (int v = 0; v < V; v++)
            sum[r][v] = _mm512_dpbf16_ps(sum[r][v], (__m512bh)y, (__m512bh)x[v]);
    }
}

/* R rows x V vectors; R and V are literals at every call. mask: the columns of the last vector. */
HS_INLINE void tile(
    const hs_gemm *g, int64_t row, const hs_gemm_columns *cols, __mmask16 mask, const int R, const int V)
{
    const __m512i both = _mm512_set1_epi32(-1), low = _mm512_set1_epi32(0xffff);
    float *c = g->c + row * g->ldc + cols->col;
    __m512 sum[ROWS][VECTORS];
    HS_UNROLL
    for (int r = 0; r < R; r++) {
        HS_UNROLL
        for (int v = 0; v < V; v++) {
            const __mmask16 m = v == V - 1 ? mask : (__mmask16)0xffff;
            sum[r][v] = g->accumulate ? _mm512_maskz_loadu_ps(m, c + r * g->ldc + v * HS_PANEL) : _mm512_setzero_ps();
        }
    }
    const uint32_t *a = g->left + row * g->lda;
    const int64_t lda = g->lda, ldb = g->ldb, panel = g->panel;
    for (int64_t left = g->k, page = 0; left > 0; left -= cols->page_k, page++) {
        const int64_t k = left < cols->page_k ? left : cols->page_k;
        const float *b = hs_gemm_words(g, cols, page);
        for (int64_t t = 0; t + 2 <= k; t += 2, a++, b += ldb)
            step(sum, a, lda, b, panel, mask, both, false, R, V);
        if (k % 2)
            step(sum, a, lda, b, panel, mask, low, true, R, V);
    }
    HS_UNROLL
    for (int r = 0; r < R; r++) {
        HS_UNROLL
        for (int v = 0; v < V; v++)
            _mm512_mask_storeu_ps(c + r * g->ldc + v * HS_PANEL, v == V - 1 ? mask : (__mmask16)0xffff, sum[r][v]);
    }
}

/* All rows of V vectors. */
HS_INLINE void columns(const hs_gemm *g, const hs_gemm_columns *b, __mmask16 mask, const int V)
{
    int64_t row = 0;
    for (; row + ROWS <= g->rows; row += ROWS)
        tile(g, row, b, mask, ROWS, V);
    switch (g->rows - row) {
    case 5:
        tile(g, row, b, mask, 5, V);
        break;
    case 4:
        tile(g, row, b, mask, 4, V);
        break;
    case 3:
        tile(g, row, b, mask, 3, V);
        break;
    case 2:
        tile(g, row, b, mask, 2, V);
        break;
    case 1:
        tile(g, row, b, mask, 1, V);
        break;
    default:
        break;
    }
}

static void gemm(const hs_gemm *g)
{
    hs_gemm_columns b = hs_gemm_first_columns(g);
    for (int64_t n = 0; b.col < g->n; hs_gemm_next_columns(g, &b, n)) {
        n = hs_gemm_columns_left(g, &b, VECTORS * HS_PANEL);
        const int64_t vectors = (n + HS_PANEL - 1) / HS_PANEL;
        const __mmask16 mask = (__mmask16)((1u << (n - (vectors - 1) * HS_PANEL)) - 1u);
        if (vectors == 4)
            columns(g, &b, mask, 4);
        else if (vectors == 3)
            columns(g, &b, mask, 3);
        else if (vectors == 2)
            columns(g, &b, mask, 2);
        else
            columns(g, &b, mask, 1);
    }
}

/* The upper halves of 32 values, in their order. */
void hs_pack_left_avx512bf16(uint32_t *dst, const float *x, int64_t n)
{
    for (int64_t j = 0; j < n; j += HS_PAIR_STEP, dst += HS_PAIR_STEP / 2) {
        const uint32_t there = n - j < HS_PAIR_STEP ? (1u << (n - j)) - 1u : UINT32_MAX;
        const __m512 low = _mm512_maskz_loadu_ps((__mmask16)there, x + j);
        const __m512 high = _mm512_maskz_loadu_ps((__mmask16)(there >> 16), x + j + HS_PANEL);
        _mm512_storeu_si512(dst, (__m512i)_mm512_cvtne2ps_pbh(high, low));
    }
}

const hs_pair_kernels hs_pairs_avx512bf16 = {
    .row_tile = ROW_TILE, .pack_left = hs_pack_left_avx512bf16, .silu_left = hs_silu_left_avx512bf16, .gemm = gemm};
