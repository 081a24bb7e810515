/* Products of bfloat16 pairs with vdpbf16ps: register tiles of 6 rows x 4 vectors of 16 columns. */
#include "device/cpu/cpu_ops.h"
#include "device/cpu/gemm_columns.h"
#include "device/cpu/x86/pairs_avx512bf16.h"

#include <stdalign.h>
#include <string.h>

enum { ROWS = 6, VECTORS = 4, COLS = VECTORS * HS_PANEL };

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

/* The steps of k values: their right side stands at b. */
HS_INLINE void steps(__m512 sum[ROWS][VECTORS], const hs_gemm *g, const uint16_t *a, const float *b, int64_t k,
    __mmask16 mask, const int R, const int V)
{
    const __m512i both = _mm512_set1_epi32(-1), low = _mm512_set1_epi32(0xffff);
    const int64_t lda = g->lda, ldb = g->ldb, panel = g->panel;
    for (int64_t t = 0; t + 2 <= k; t += 2, a += 2, b += ldb)
        step(sum, a, lda, b, panel, mask, both, false, R, V);
    if (k % 2)
        step(sum, a, lda, b, panel, mask, low, true, R, V);
}

/* The tiles of the same columns share out the panels that are read next: the at-th asks for the at-th, and every of-th behind it. */
typedef struct turn {
    int64_t at, of;
} turn;

/* What is read next of the right side: panels, and values of k from b on; NULL: nothing. */
typedef struct asked {
    const float *b;
    int64_t panels, k;
} asked;

HS_INLINE asked asked_of(const hs_gemm *g, const hs_gemm_columns *cols, int64_t page, turn share)
{
    const hs_gemm *next = g->next;
    const int64_t first = page * cols->page_k;
    if (share.at >= VECTORS || !next || cols->col >= next->n || first >= next->k)
        return (asked){.b = NULL};
    return (asked){.b = hs_gemm_words(next, cols, page),
        .panels = hs_min_i64(VECTORS, hs_ceil_div_i64(next->n - cols->col, HS_PANEL)),
        .k = next->k - first};
}

/* Steps of all VECTORS. What is read next comes from beyond L2, and the prefetchers do not know it: it is asked for meanwhile, a few
 * lines at a time. */
HS_INLINE void steps_asking(__m512 sum[ROWS][VECTORS], const hs_gemm *g, const uint16_t *a, const float *b, int64_t k,
    const asked *next, turn share, const int R)
{
    enum { ASKED = 16 };
    const int64_t ldb = g->ldb, panel = g->next->panel;
    for (int64_t t = 0; t < k; t += ASKED) {
        const int64_t n = hs_min_i64(ASKED, k - t), end = hs_min_i64(t + n, next->k);
        for (int64_t p = share.at; p < next->panels; p += share.of) {
            for (int64_t i = t; i < end; i += 2)
                _mm_prefetch((const char *)(next->b + p * panel + i / 2 * ldb), _MM_HINT_T1);
        }
        steps(sum, g, a + t, b + t / 2 * ldb, n, 0xffff, R, VECTORS);
    }
}

/* R rows x V vectors; R and V are literals at every call. mask: the columns of the last vector. */
HS_INLINE void tile(
    const hs_gemm *g, int64_t row, const hs_gemm_columns *cols, __mmask16 mask, turn share, const int R, const int V)
{
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
    for (int64_t left = g->k, page = 0; left > 0; left -= cols->page_k, page++) {
        const int64_t k = hs_min_i64(left, cols->page_k);
        const uint16_t *a = g->left + row * g->lda + page * cols->page_k;
        const float *b = hs_gemm_words(g, cols, page);
        const asked next = asked_of(g, cols, page, share);
        if (V == VECTORS && mask == 0xffff && next.b)
            steps_asking(sum, g, a, b, k, &next, share, R);
        else
            steps(sum, g, a, b, k, mask, R, V);
    }
    HS_UNROLL
    for (int r = 0; r < R; r++) {
        HS_UNROLL
        for (int v = 0; v < V; v++)
            _mm512_mask_storeu_ps(c + r * g->ldc + v * HS_PANEL, v == V - 1 ? mask : (__mmask16)0xffff, sum[r][v]);
    }
}

/* A function for each size: within one of all sizes the compiler lacks registers. */
typedef void tile_fn(const hs_gemm *g, int64_t row, const hs_gemm_columns *cols, __mmask16 mask, turn share);

#define TILE(R, V)                                                                                                     \
    static void tile_##R##_##V(const hs_gemm *g, int64_t row, const hs_gemm_columns *cols, __mmask16 mask, turn share) \
    {                                                                                                                  \
        tile(g, row, cols, mask, share, R, V);                                                                         \
    }
#define TILES(R) TILE(R, 1) TILE(R, 2) TILE(R, 3) TILE(R, 4)
TILES(1)
TILES(2)
TILES(3)
TILES(4)
TILES(5)
TILES(6)

#define NAMES(R)                                                                                                       \
    {                                                                                                                  \
        tile_##R##_1, tile_##R##_2, tile_##R##_3, tile_##R##_4                                                         \
    }
static tile_fn *const tiles[ROWS][VECTORS] = {NAMES(1), NAMES(2), NAMES(3), NAMES(4), NAMES(5), NAMES(6)};

/* Rows from `row` on, as many as a tile has, and n <= COLS columns from b on. */
HS_INLINE void multiply(const hs_gemm *g, int64_t row, const hs_gemm_columns *b, int64_t n, turn share)
{
    const int64_t vectors = hs_ceil_div_i64(n, HS_PANEL), rows = hs_min_i64(ROWS, g->rows - row);
    const __mmask16 mask = (__mmask16)((1u << (n - (vectors - 1) * HS_PANEL)) - 1u);
    tiles[rows - 1][vectors - 1](g, row, b, mask, share);
}

static void gemm(const hs_gemm *g)
{
    const int64_t n_tiles = hs_ceil_div_i64(g->rows, ROWS);
    hs_gemm_columns b = hs_gemm_first_columns(g);
    for (int64_t n = 0; b.col < g->n; hs_gemm_next_columns(g, &b, n)) {
        n = hs_gemm_columns_left(g, &b, COLS);
        for (int64_t i = 0; i < n_tiles; i++)
            multiply(g, i * ROWS, &b, n, (turn){.at = i, .of = n_tiles});
    }
}

/* Sums of a block pass through the stack, and stay in L1. */
enum { LINEAR_ROWS = 4 * ROWS };

static void linear(const hs_pair_linear *l)
{
    alignas(64) float sum[LINEAR_ROWS][COLS];
    hs_gemm next = {.panel = l->panel, .k = l->k};
    hs_gemm g = {.c = sum[0], .ldc = COLS, .lda = l->ldx, .ldb = HS_PANEL, .panel = l->panel, .k = l->k};
    const hs_gemm_columns first = {.page_k = l->k};
    const int64_t n_tiles = hs_ceil_div_i64(l->rows, ROWS);
    for (int64_t col = 0; col < l->n; col += COLS) {
        g.b = l->w + col / HS_PANEL * l->panel;
        g.n = hs_min_i64(COLS, l->n - col);
        next.n = l->n + l->n_behind - col - COLS;
        if (next.n > 0)
            next.b = l->w + (col + COLS) / HS_PANEL * l->panel;
        g.next = l->again ? NULL : &next;
        for (int64_t row = 0; row < l->rows; row += LINEAR_ROWS) {
            g.left = l->x + row * l->ldx;
            g.rows = hs_min_i64(LINEAR_ROWS, l->rows - row);
            for (int64_t r = 0; r < g.rows; r += ROWS)
                multiply(&g, r, &first, g.n, (turn){.at = (row + r) / ROWS, .of = n_tiles});
            for (int64_t c = 0; c < g.n; c += HS_PAIR_STEP) {
                hs_rows rows;
                hs_linear_rows(&rows, l, row, col + c);
                for (int64_t r = 0; r < g.rows; r++)
                    hs_linear_row(&rows, l->act, r, sum[r] + c, false);
            }
        }
    }
}

/* Of n_rows rows from `row` on, in n columns from `col` on. */
HS_INLINE void store_weights(
    const hs_pair_weights *w, int64_t row, int64_t n_rows, int64_t col, int64_t n, float sum[ROWS][COLS])
{
    for (int64_t c = 0; c < n; c += HS_PAIR_STEP) {
        hs_rows rows;
        hs_weights_rows(&rows, w, col + c);
        const bool whole = !rows.bias && hs_min_i64(rows.seen + row, rows.n) >= HS_PAIR_STEP;
        for (int64_t r = 0; whole && r < n_rows; r++)
            hs_weights_row(&rows, row + r, sum[r] + c, true);
        for (int64_t r = 0; !whole && r < n_rows; r++)
            hs_weights_row(&rows, row + r, sum[r] + c, false);
    }
}

/* Tokens of pages come COLS at once, or as many as there are in a page. */
static void weights(const hs_pair_weights *w)
{
    alignas(64) float sum[ROWS][COLS];
    const hs_gemm *all = &w->scores, *behind = all->next;
    hs_gemm g = *all, next = {.k = all->k};
    g.c = sum[0];
    g.ldc = COLS;
    const hs_gemm_columns first = {.page_k = all->k};
    hs_gemm_columns at = hs_gemm_first_columns(all);
    const int64_t n_tiles = hs_ceil_div_i64(all->rows, ROWS);
    for (; at.col < all->n; hs_gemm_next_columns(all, &at, g.n)) {
        const bool more = behind && at.col < behind->n;
        g.b = hs_gemm_words(all, &at, 0);
        g.n = hs_gemm_columns_left(all, &at, COLS);
        g.next = more ? &next : NULL;
        if (more) {
            next.b = hs_gemm_words(behind, &at, 0);
            next.panel = behind->panel;
            next.n = behind->n - at.col;
        }
        for (int64_t row = 0; row < all->rows; row += ROWS) {
            g.left = all->left + row * all->lda;
            g.rows = hs_min_i64(ROWS, all->rows - row);
            multiply(&g, 0, &first, g.n, (turn){.at = row / ROWS, .of = n_tiles});
            store_weights(w, row, g.rows, at.col, g.n, sum);
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
    .own = hs_own_avx512bf16,
    .steady = true};
