/* Products of bfloat16 pairs with AMX: 2 x 2 tiles of 16 x 16 sums in registers 0 .. 3, the left side in 4 and 5, the right one in 6
 * and 7. What does not fill a tile passes through one in memory. */
#include "device/cpu/cpu_ops.h"
#include "device/cpu/x86/gemm_columns.h"
#include "device/cpu/x86/unroll.h"

#include <immintrin.h>
#include <stdalign.h>
#include <string.h>

enum { TILE = 16, SIDE = 2 * TILE, PAIRS = HS_PAIR_STEP / 2, ROW_TILE = 32 };

/* gcc 12 does not know that a tile is read from memory, nor how much of it. */
#define WRITTEN __asm__ volatile("" ::: "memory")

/* Sums of n_rows x n_cols, at most SIDE each. Distances in bytes. */
typedef struct block {
    const hs_gemm *g;
    const hs_gemm_columns *cols;
    const char *a;
    char *c; /* full tiles, in place or in memory of their own */
    int64_t lda, ldb, panel, ldc;
    int64_t n_rows, n_cols;
} block;

static void enter(void)
{
    /* Palette 1: eight tiles of 16 rows, 64 bytes each. */
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

static void leave(void)
{
    _tile_release();
}

/* One step of k: R x V tiles; both are literals at every call. */
HS_INLINE void step(const char *a, int64_t lda, const char *b, int64_t ldb, int64_t panel, const int R, const int V)
{
    _tile_loadd(6, b, (size_t)ldb);
    _tile_loadd(4, a, (size_t)lda);
    _tile_dpbf16ps(0, 4, 6);
    if (R == 2) {
        _tile_loadd(5, a + TILE * lda, (size_t)lda);
        _tile_dpbf16ps(1, 5, 6);
    }
    if (V == 2) {
        _tile_loadd(7, b + panel, (size_t)ldb);
        _tile_dpbf16ps(2, 4, 7);
        if (R == 2)
            _tile_dpbf16ps(3, 5, 7);
    }
}

/* One step, of k elements or of columns that do not fill tiles: through a copy of b with zeros behind. */
static __attribute__((noinline)) void copied_step(const block *s, const char *a, const char *b, int64_t k)
{
    alignas(64) uint32_t right[2][PAIRS][TILE] = {0};
    for (int64_t v = 0; v * TILE < s->n_cols; v++) {
        const int64_t n = s->n_cols - v * TILE < TILE ? s->n_cols - v * TILE : TILE;
        for (int64_t t = 0; t < k; t += 2) {
            uint32_t *const row = right[v][t / 2];
            memcpy(row, b + v * s->panel + t / 2 * s->ldb, (size_t)n * sizeof *row);
            for (int64_t o = 0; t + 1 == k && o < TILE; o++)
                row[o] &= 0xffff;
        }
    }
    WRITTEN;
    const char *const copy = (const char *)right;
    if (s->n_rows > TILE && s->n_cols > TILE)
        step(a, s->lda, copy, sizeof right[0][0], sizeof right[0], 2, 2);
    else if (s->n_rows > TILE)
        step(a, s->lda, copy, sizeof right[0][0], sizeof right[0], 2, 1);
    else if (s->n_cols > TILE)
        step(a, s->lda, copy, sizeof right[0][0], sizeof right[0], 1, 2);
    else
        step(a, s->lda, copy, sizeof right[0][0], sizeof right[0], 1, 1);
}

HS_INLINE void sum_tiles(const block *s, const int R, const int V)
{
    const hs_gemm *g = s->g;
    const int64_t lda = s->lda, ldb = s->ldb, panel = s->panel, step_bytes = HS_PAIR_STEP * (int64_t)sizeof(uint16_t);
    const bool narrow = s->n_cols % TILE != 0;
    const char *a = s->a;
    for (int64_t left = g->k, page = 0; left > 0; left -= s->cols->page_k, page++) {
        int64_t k = left < s->cols->page_k ? left : s->cols->page_k;
        const char *b = (const char *)hs_gemm_words(g, s->cols, page);
        for (; k >= HS_PAIR_STEP && !narrow; k -= HS_PAIR_STEP, a += step_bytes, b += PAIRS * ldb)
            step(a, lda, b, ldb, panel, R, V);
        for (; k > 0; k -= HS_PAIR_STEP, a += step_bytes, b += PAIRS * ldb)
            copied_step(s, a, b, k < HS_PAIR_STEP ? k : HS_PAIR_STEP);
    }
}

HS_INLINE void tiles(const block *s, const int R, const int V)
{
    char *const c = s->c, *const below = c + TILE * s->ldc;
    const size_t right = TILE * sizeof(float), ldc = (size_t)s->ldc;
    if (s->g->accumulate) {
        WRITTEN;
        _tile_loadd(0, c, ldc);
        if (R == 2)
            _tile_loadd(1, below, ldc);
        if (V == 2)
            _tile_loadd(2, c + right, ldc);
        if (R == 2 && V == 2)
            _tile_loadd(3, below + right, ldc);
    } else {
        _tile_zero(0);
        _tile_zero(1);
        _tile_zero(2);
        _tile_zero(3);
    }
    sum_tiles(s, R, V);
    _tile_stored(0, c, ldc);
    if (R == 2)
        _tile_stored(1, below, ldc);
    if (V == 2)
        _tile_stored(2, c + right, ldc);
    if (R == 2 && V == 2)
        _tile_stored(3, below + right, ldc);
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

static void gemm(const hs_gemm *g)
{
    hs_gemm_columns cols = hs_gemm_first_columns(g);
    const int64_t word = sizeof(uint32_t);
    block s = {.g = g, .cols = &cols, .lda = g->lda * word, .ldb = g->ldb * word, .panel = g->panel * word};
    s.ldc = g->ldc * word;
    for (; cols.col < g->n; hs_gemm_next_columns(g, &cols, s.n_cols)) {
        s.n_cols = hs_gemm_columns_left(g, &cols, SIDE);
        for (int64_t row = 0; row < g->rows; row += SIDE) {
            s.a = (const char *)(g->left + row * g->lda);
            s.c = (char *)(g->c + row * g->ldc + cols.col);
            s.n_rows = g->rows - row < SIDE ? g->rows - row : SIDE;
            if (s.n_rows % TILE == 0 && s.n_cols % TILE == 0)
                run(&s);
            else
                run_edge(s);
        }
    }
}

const hs_pair_kernels hs_pairs_amx = {.row_tile = ROW_TILE,
    .pack_left = hs_pack_left_avx512bf16,
    .silu_left = hs_silu_left_avx512bf16,
    .gemm = gemm,
    .enter = enter,
    .leave = leave};
