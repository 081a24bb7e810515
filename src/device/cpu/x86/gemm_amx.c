/* Products of bfloat16 values with AMX. What does not fill a tile passes through one in memory. */
#include "device/cpu/gemm_columns.h"
#include "device/cpu/x86/tiles_amx.h"

#include <stdalign.h>
#include <string.h>

/* Sums of n_rows x n_cols, at most SIDE each. Distances in bytes. */
typedef struct block {
    const hs_gemm *g;
    const hs_gemm_columns *cols;
    const char *a;
    char *c; /* full tiles, in place or in memory of their own */
    int64_t lda, ldb, panel, ldc;
    int64_t n_rows, n_cols;
} block;

void hs_tiles_enter(void)
{
    /* Palette 1; bytes of a row, then rows, of each tile. */
    static const alignas(64) uint8_t config[64] = {[0] = 1,
        [16] = 64,
        [18] = 64,
        [20] = 64,
        [22] = 64,
        [24] = 64,
        [26] = 64,
        [28] = 64,
        [30] = 64,
        [48] = TILE,
        [49] = TILE,
        [50] = TILE,
        [51] = TILE,
        [52] = TILE,
        [53] = TILE,
        [54] = TILE,
        [55] = TILE};
    _tile_loadconfig(config);
}

void hs_tiles_leave(void)
{
    _tile_release();
}

__attribute__((noinline)) void hs_tiles_copied_step(
    const char *a, int64_t lda, const char *b, int64_t ldb, int64_t panel, int64_t rows, int64_t n, int64_t k)
{
    alignas(64) uint32_t right[2][PAIRS][TILE] = {0};
    for (int64_t v = 0; v * TILE < n; v++) {
        const int64_t there = n - v * TILE < TILE ? n - v * TILE : TILE;
        for (int64_t t = 0; t < k; t += 2) {
            uint32_t *const row = right[v][t / 2];
            memcpy(row, b + v * panel + t / 2 * ldb, (size_t)there * sizeof *row);
            for (int64_t o = 0; t + 1 == k && o < TILE; o++)
                row[o] &= 0xffff;
        }
    }
    TILES_WRITTEN;
    const char *const copy = (const char *)right;
    if (rows > TILE && n > TILE)
        hs_tiles_step(a, lda, copy, sizeof right[0][0], sizeof right[0], 2, 2, false);
    else if (rows > TILE)
        hs_tiles_step(a, lda, copy, sizeof right[0][0], sizeof right[0], 2, 1, false);
    else if (n > TILE)
        hs_tiles_step(a, lda, copy, sizeof right[0][0], sizeof right[0], 1, 2, false);
    else
        hs_tiles_step(a, lda, copy, sizeof right[0][0], sizeof right[0], 1, 1, false);
}

HS_INLINE void sum_tiles(const block *s, const int R, const int V, const bool again)
{
    const hs_gemm *g = s->g;
    const int64_t lda = s->lda, ldb = s->ldb, panel = s->panel;
    const bool narrow = s->n_cols % TILE != 0;
    const char *a = s->a;
    for (int64_t left = g->k, page = 0; left > 0; left -= s->cols->page_k, page++) {
        int64_t k = left < s->cols->page_k ? left : s->cols->page_k;
        const char *b = (const char *)hs_gemm_words(g, s->cols, page);
        for (; k >= HS_PAIR_STEP && !narrow; k -= HS_PAIR_STEP, a += STEP_BYTES, b += PAIRS * ldb)
            hs_tiles_step(a, lda, b, ldb, panel, R, V, again);
        for (; k > 0; k -= HS_PAIR_STEP, a += STEP_BYTES, b += PAIRS * ldb)
            hs_tiles_copied_step(a, lda, b, ldb, panel, s->n_rows, s->n_cols, k < HS_PAIR_STEP ? k : HS_PAIR_STEP);
    }
}

HS_INLINE void tiles(const block *s, const int R, const int V)
{
    char *const c = s->c, *const below = c + TILE * s->ldc;
    const size_t right = TILE * sizeof(float), ldc = (size_t)s->ldc;
    if (s->g->accumulate) {
        TILES_WRITTEN;
        _tile_loadd(0, c, ldc);
        if (R == 2)
            _tile_loadd(1, below, ldc);
        if (V == 2)
            _tile_loadd(2, c + right, ldc);
        if (R == 2 && V == 2)
            _tile_loadd(3, below + right, ldc);
    } else {
        hs_tiles_zero();
    }
    if (s->g->again)
        sum_tiles(s, R, V, true);
    else
        sum_tiles(s, R, V, false);
    hs_tiles_store(c, s->ldc, R, V);
}

static void run(const block *s)
{
    if (s->n_rows > TILE && s->n_cols > TILE)
        tiles(s, 2, 2);
    else if (s->n_rows > TILE)
        tiles(s, 2, 1);
    else if (s->n_cols > TILE)
        tiles(s, 1, 2);
    else
        tiles(s, 1, 1);
}

static void copy_sums(char *dst, int64_t to, const char *src, int64_t from, const block *s)
{
    for (int64_t r = 0; r < s->n_rows; r++)
        memcpy(dst + r * to, src + r * from, (size_t)s->n_cols * sizeof(float));
}

/* Sums that do not fill tiles. */
static __attribute__((noinline)) void run_edge(block s)
{
    alignas(64) float whole[SIDE * SIDE];
    char *const c = s.c;
    const int64_t ldc = s.ldc;
    s.c = (char *)whole;
    s.ldc = SIDE * sizeof(float);
    if (s.g->accumulate)
        copy_sums(s.c, s.ldc, c, ldc, &s);
    run(&s);
    copy_sums(c, ldc, s.c, s.ldc, &s);
}

void hs_gemm_pairs_amx(const hs_gemm *g)
{
    const int64_t word = sizeof(uint32_t);
    hs_gemm_columns cols;
    block s = {.g = g, .cols = &cols, .lda = g->lda * 2, .ldb = g->ldb * word, .panel = g->panel * word};
    s.ldc = g->ldc * word;
    for (int64_t row = 0; row < g->rows; row += SIDE) {
        s.n_rows = g->rows - row < SIDE ? g->rows - row : SIDE;
        cols = hs_gemm_first_columns(g);
        for (; cols.col < g->n; hs_gemm_next_columns(g, &cols, s.n_cols)) {
            s.n_cols = hs_gemm_columns_left(g, &cols, SIDE);
            s.a = (const char *)(g->left + row * g->lda);
            s.c = (char *)(g->c + row * g->ldc + cols.col);
            if (s.n_rows % TILE == 0 && s.n_cols % TILE == 0)
                run(&s);
            else
                run_edge(s);
        }
    }
}

const hs_pair_kernels hs_pairs_amx = {.narrow = hs_narrow_avx512bf16,
    .widen = hs_widen_avx512bf16,
    .add = hs_add_avx512bf16,
    .zip = hs_zip_avx512bf16,
    .gemm = hs_gemm_pairs_amx,
    .linear = hs_linear_pairs_amx,
    .weights = hs_weights_pairs_amx,
    .own = hs_own_avx512bf16,
    .enter = hs_tiles_enter,
    .leave = hs_tiles_leave};
