/* Products of bfloat16 pairs with vdpbf16ps: register tiles of 6 rows x 4 vectors of 16 columns. */
#include "device/cpu/cpu_ops.h"
#include "device/cpu/gemm_columns.h"
#include "device/cpu/x86/pairs_avx512bf16.h"

#include <stdalign.h>
#include <string.h>

enum { ROWS = 6, VECTORS = 4 };

/* A pair of values in every lane. */
HS_INLINE __m512i pair_at(const uint16_t *a)
{
    int32_t pair = 0;
    memcpy(&pair, a, sizeof pair);
    return _mm512_set1_epi32(pair);
}

/* sum[r][v] += the products of pair a[r] with the pairs at b_v; of these only the halves in `keep`. */
HS_INLINE void step(__m512 sum[ROWS][VECTORS], const uint16_t *a, int64_t lda, const float *b, int64_t panel,
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
        const __m512i y = pair_at(a + r * lda);
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
    const uint16_t *a = g->left + row * g->lda;
    const int64_t lda = g->lda, ldb = g->ldb, panel = g->panel;
    for (int64_t left = g->k, page = 0; left > 0; left -= cols->page_k, page++) {
        const int64_t k = left < cols->page_k ? left : cols->page_k;
        const float *b = hs_gemm_words(g, cols, page);
        for (int64_t t = 0; t + 2 <= k; t += 2, a += 2, b += ldb)
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

/* Sums of a block pass through the stack, and stay in L1. */
enum { BLOCK_ROWS = 24, BLOCK_COLS = VECTORS * HS_PANEL };

static void linear(const hs_pair_linear *l)
{
    alignas(64) float sum[BLOCK_ROWS][BLOCK_COLS];
    hs_gemm g = {.c = sum[0], .ldc = BLOCK_COLS, .lda = l->ldx, .ldb = HS_PANEL, .panel = l->panel, .k = l->k};
    for (int64_t col = 0; col < l->n; col += BLOCK_COLS) {
        g.b = l->w + col / HS_PANEL * l->panel;
        g.n = l->n - col < BLOCK_COLS ? l->n - col : BLOCK_COLS;
        for (int64_t row = 0; row < l->rows; row += BLOCK_ROWS) {
            g.left = l->x + row * l->ldx;
            g.rows = l->rows - row < BLOCK_ROWS ? l->rows - row : BLOCK_ROWS;
            gemm(&g);
            for (int64_t c = 0; c < g.n; c += HS_PAIR_STEP) {
                hs_rows rows;
                hs_linear_rows(&rows, l, row, col + c);
                for (int64_t r = 0; r < g.rows; r++)
                    hs_linear_row(&rows, l->act, r, sum[r] + c, false);
            }
        }
    }
}

/* Tokens of pages come BLOCK_COLS at once, or as many as there are in a page. */
static void weights(const hs_pair_weights *w)
{
    alignas(64) float sum[HS_PAIR_TILE][BLOCK_COLS];
    hs_gemm_columns at = hs_gemm_first_columns(&w->scores);
    hs_gemm g = w->scores;
    g.c = sum[0];
    g.ldc = BLOCK_COLS;
    for (; at.col < w->scores.n; hs_gemm_next_columns(&w->scores, &at, g.n)) {
        g.b = hs_gemm_words(&w->scores, &at, 0);
        g.n = hs_gemm_columns_left(&w->scores, &at, BLOCK_COLS);
        gemm(&g);
        for (int64_t c = 0; c < g.n; c += HS_PAIR_STEP) {
            hs_rows rows;
            hs_weights_rows(&rows, w, at.col + c);
            for (int64_t r = 0; r < g.rows; r++)
                hs_weights_row(&rows, r, sum[r] + c, false);
        }
    }
    if (w->beside)
        gemm(w->beside);
}

const hs_pair_kernels hs_pairs_avx512bf16 = {.narrow = hs_narrow_avx512bf16,
    .widen = hs_widen_avx512bf16,
    .add = hs_add_avx512bf16,
    .zip = hs_zip_avx512bf16,
    .gemm = gemm,
    .linear = linear,
    .weights = weights,
    .own = hs_own_avx512bf16};
