/* The matrix kernels for AVX-512: register tiles of 6 rows x 3 or 4 vectors of 16 columns, or 12 rows x 1 or 2. 24
 * sums take 10 loads a step, or 14: beside a busy sibling thread, loads are what a core is short of. Of pairs always
 * 12 x 2, for widening takes the multipliers' ports. */
#include "device/cpu/cpu_ops.h"
#include "device/cpu/gemm_columns.h"
#include "device/cpu/unroll.h"

#include <immintrin.h>

enum { ROWS = 6, VECTORS = 4, TALL_ROWS = 12, TALL_VECTORS = 2 };

/* Which elements of a step's vectors are multiplied: floats, or of pairs the even or the odd ones, widened. */
typedef enum part { FLOATS, EVEN, ODD } part;

HS_INLINE __m512 part_of(__m512 words, const part of)
{
    const __m512i pairs = _mm512_castps_si512(words);
    if (of == EVEN)
        return _mm512_castsi512_ps(_mm512_slli_epi32(pairs, 16));
    if (of == ODD)
        return _mm512_castsi512_ps(_mm512_and_si512(pairs, _mm512_set1_epi32((int)0xffff0000)));
    return words;
}

/* sum[r][v] += a[r] * b_v for R rows and V vectors. mask: the columns of the last vector. */
HS_INLINE void step(__m512 sum[TALL_ROWS][VECTORS], const float *a, int64_t lda, const float *b, int64_t panel,
    __mmask16 mask, const int R, const int V, const part of)
{
    __m512 x[VECTORS];
    HS_UNROLL
    for (int v = 0; v < V; v++)
        x[v] = part_of(v == V - 1 ? _mm512_maskz_loadu_ps(mask, b + v * panel) : _mm512_loadu_ps(b + v * panel), of);
    HS_UNROLL
    for (int r = 0; r < R; r++) {
        const __m512 y = _mm512_set1_ps(a[r * lda]);
        HS_UNROLL
        for (int v = 0; v < V; v++)
            sum[r][v] = _mm512_fmadd_ps(y, x[v], sum[r][v]);
    }
}

/* R rows x V vectors over float32 or pairs; R, V and paired are literals at every call. mask: the columns of the last
 * vector. */
HS_INLINE void tile(const hs_gemm *g, int64_t row, const hs_gemm_columns *cols, __mmask16 mask, const int R,
    const int V, const bool paired)
{
    const __m512 zero = _mm512_setzero_ps();
    float *c = g->c + row * g->ldc + cols->col;
    __m512 sum[TALL_ROWS][VECTORS];
    HS_UNROLL
    for (int r = 0; r < R; r++) {
        HS_UNROLL
        for (int v = 0; v < V; v++) {
            const __mmask16 m = v == V - 1 ? mask : (__mmask16)0xffff;
            sum[r][v] = g->accumulate ? _mm512_maskz_loadu_ps(m, c + r * g->ldc + v * HS_PANEL) : zero;
        }
    }
    const float *a = g->a + row * g->lda;
    const int64_t lda = g->lda, ldb = g->ldb, panel = g->panel;
    for (int64_t left = g->k, page = 0; left > 0; left -= cols->page_k, page++) {
        const int64_t k = left < cols->page_k ? left : cols->page_k;
        const float *b = hs_gemm_words(g, cols, page);
        int64_t t = 0;
        for (; t + paired < k; t += 1 + paired, b += ldb) {
            step(sum, a + t, lda, b, panel, mask, R, V, paired ? EVEN : FLOATS);
            if (paired)
                step(sum, a + t + 1, lda, b, panel, mask, R, V, ODD);
        }
        if (t < k) /* the last pair of an odd k */
            step(sum, a + t, lda, b, panel, mask, R, V, EVEN);
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
    for (; V <= TALL_VECTORS && row + TALL_ROWS <= g->rows; row += TALL_ROWS)
        tile(g, row, b, mask, TALL_ROWS, V, paired);
    for (; row + ROWS <= g->rows; row += ROWS)
        tile(g, row, b, mask, ROWS, V, paired);
    switch (g->rows - row) {
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
    for (int64_t n = 0; b.col < g->n; hs_gemm_next_columns(g, &b, n)) {
        n = hs_gemm_columns_left(g, &b, (paired ? TALL_VECTORS : VECTORS) * HS_PANEL);
        const int64_t vectors = (n + HS_PANEL - 1) / HS_PANEL;
        const __mmask16 mask = (__mmask16)((1u << (n - (vectors - 1) * HS_PANEL)) - 1u);
        if (!paired && vectors == 4)
            columns(g, &b, mask, 4, paired);
        else if (!paired && vectors == 3)
            columns(g, &b, mask, 3, paired);
        else if (vectors == 2)
            columns(g, &b, mask, 2, paired);
        else
            columns(g, &b, mask, 1, paired);
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
void hs_pack_panel_avx512(float *dst, const float *const *row, int64_t first, int64_t end, int64_t d)
{
    hs_pack_panel_avx2(dst, row, first, end, d);
}
