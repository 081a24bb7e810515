/* Blocks of sums. What does not fill a tile passes through one in memory. */
#include "device/cpu/x86/block_amx.h"

#include <stdalign.h>
#include <string.h>

/* ---- rows that are finished between products --------------------------------------------------------------------- */

int hs_pipe_each_bits(int64_t rows, int64_t steps)
{
    int bits = 0;
    while (bits < 3 && (steps << bits) < rows)
        bits++;
    return bits;
}

static void look(hs_pipe *p)
{
    const hs_pipe_block *block = &p->block[p->first];
    p->quick = p->count > 0 && block->whole ? (block->n_rows - p->next) >> p->each_bits : 0;
}

/* n more rows of the oldest block are finished. */
static void turn(hs_pipe *p, int64_t n)
{
    p->next += n;
    if (p->next == p->block[p->first].n_rows) {
        p->next = 0;
        p->first = p->first + 1 == p->n ? 0 : p->first + 1;
        p->count--;
    }
    look(p);
}

void hs_pipe_finish_rows(hs_pipe *p, int64_t n)
{
    for (int64_t some; n > 0 && p->count > 0; n -= some) {
        const hs_pipe_block *block = &p->block[p->first];
        some = hs_min_i64(n, block->n_rows - p->next);
        p->kind->finish(&block->rows, block->whole, p->next, p->next + some, p->sum[p->first]);
        turn(p, some);
    }
}

static int64_t free_place(const hs_pipe *p)
{
    return (p->first + p->count) % p->n;
}

float *hs_pipe_place(hs_pipe *p)
{
    if (p->count == p->n)
        hs_pipe_finish_rows(p, p->block[p->first].n_rows - p->next);
    return p->sum[free_place(p)][0];
}

hs_rows *hs_pipe_rows(hs_pipe *p)
{
    return &p->block[free_place(p)].rows;
}

void hs_pipe_push(hs_pipe *p, int64_t n_rows, bool whole)
{
    hs_pipe_block *block = &p->block[free_place(p)];
    block->n_rows = n_rows;
    block->whole = whole;
    p->count++;
    look(p);
}

/* ---- tiles ------------------------------------------------------------------------------------------------------ */

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

/* One step of n <= SIDE columns of a right side that do not fill tiles, or of k elements: through a copy with zeros behind. */
static __attribute__((noinline)) void copied_step(
    const char *a, int64_t lda, const char *b, int64_t ldb, int64_t panel, int64_t rows, int64_t n, int64_t k)
{
    alignas(64) uint32_t right[2][PAIRS][TILE];
    const __m512i low = _mm512_set1_epi32(0xffff);
    for (int64_t v = 0; v * TILE < n; v++) {
        const __mmask16 there = (__mmask16)(n - v * TILE < TILE ? (1u << (n - v * TILE)) - 1 : 0xffff);
        const char *from = b + v * panel; /* behind the last pair nothing is read */
        HS_UNROLL
        for (int64_t t = 0; t < PAIRS; t++, from += 2 * t < k ? ldb : 0)
            _mm512_store_si512(right[v][t], _mm512_maskz_loadu_epi32(2 * t < k ? there : 0, from));
        if (k % 2)
            _mm512_store_si512(right[v][k / 2], _mm512_and_si512(low, _mm512_load_si512(right[v][k / 2])));
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

HS_INLINE void sum_tiles(const hs_block *s, const int R, const int V, const bool again)
{
    const hs_gemm *g = s->g;
    const int64_t word = sizeof(uint32_t), lda = s->lda, ldb = g->ldb * word, panel = g->panel * word;
    const bool narrow = s->n_cols % TILE != 0;
    const char *a = s->a;
    for (int64_t left = g->k, page = 0; left > 0; left -= s->cols->page_k, page++) {
        int64_t k = left < s->cols->page_k ? left : s->cols->page_k;
        const char *b = (const char *)hs_gemm_words(g, s->cols, page);
        for (; k >= HS_PAIR_STEP && !narrow; k -= HS_PAIR_STEP, a += STEP_BYTES, b += PAIRS * ldb)
            hs_tiles_step(a, lda, b, ldb, panel, R, V, again);
        for (; k > 0; k -= HS_PAIR_STEP, a += STEP_BYTES, b += PAIRS * ldb)
            copied_step(a, lda, b, ldb, panel, s->n_rows, s->n_cols, k < HS_PAIR_STEP ? k : HS_PAIR_STEP);
    }
}

HS_INLINE void begin_tiles(const hs_block *s, const int R, const int V)
{
    if (!s->from) {
        hs_tiles_zero();
        return;
    }
    const size_t right = TILE * sizeof(float), ld = (size_t)s->ldfrom;
    const char *const from = s->from, *const below = from + TILE * s->ldfrom;
    TILES_WRITTEN;
    _tile_loadd(0, from, ld);
    if (R == 2)
        _tile_loadd(1, below, ld);
    if (V == 2)
        _tile_loadd(2, from + right, ld);
    if (R == 2 && V == 2)
        _tile_loadd(3, below + right, ld);
}

HS_INLINE void tiles(const hs_block *s, const int R, const int V, const bool again)
{
    begin_tiles(s, R, V);
    sum_tiles(s, R, V, again);
    hs_tiles_store(s->c, s->ldc, R, V);
    TILES_WRITTEN;
}

void hs_block_run(const hs_block *s)
{
    if (s->n_rows > TILE && s->n_cols > TILE && s->g->again)
        tiles(s, 2, 2, true);
    else if (s->n_rows > TILE && s->n_cols > TILE)
        tiles(s, 2, 2, false);
    else if (s->n_rows > TILE)
        tiles(s, 2, 1, false);
    else if (s->n_cols > TILE)
        tiles(s, 1, 2, false);
    else
        tiles(s, 1, 1, false);
}

/* A block of R rows and two columns of tiles. */
HS_INLINE void piped(const hs_block *s, hs_pipe *p, const int R, const bool again)
{
    const hs_gemm *g = s->g;
    const int64_t word = sizeof(uint32_t), lda = s->lda, ldb = g->ldb * word, panel = g->panel * word;
    hs_pipe_steps *const quick = p->kind->steps[R - 1][p->each_bits];
    const char *a = s->a;
    begin_tiles(s, R, 2);
    for (int64_t left = g->k, page = 0; left > 0; left -= s->cols->page_k, page++) {
        const char *b = (const char *)hs_gemm_words(g, s->cols, page);
        int64_t steps = hs_min_i64(left, s->cols->page_k) / HS_PAIR_STEP;
        for (int64_t n; steps > 0; steps -= n, a += n * STEP_BYTES, b += n * PAIRS * ldb) {
            n = hs_min_i64(steps, p->quick);
            if (n > 0) {
                quick(a, lda, b, ldb, panel, again, n, &p->block[p->first].rows, p->next, p->sum[p->first]);
                turn(p, n << p->each_bits);
            } else {
                n = 1;
                hs_tiles_step(a, lda, b, ldb, panel, R, 2, again);
                hs_pipe_finish_rows(p, 1 << p->each_bits);
            }
        }
    }
    hs_tiles_store(s->c, s->ldc, R, 2);
    TILES_WRITTEN;
}

void hs_block_piped(const hs_block *s, hs_pipe *p)
{
    if (s->n_cols != SIDE || s->g->k % HS_PAIR_STEP != 0)
        hs_block_run(s);
    else if (s->n_rows <= TILE)
        piped(s, p, 1, false);
    else if (s->g->again)
        piped(s, p, 2, true);
    else
        piped(s, p, 2, false);
}

static void copy_sums(char *dst, int64_t to, const char *src, int64_t from, const hs_block *s)
{
    for (int64_t r = 0; r < s->n_rows; r++)
        memcpy(dst + r * to, src + r * from, (size_t)s->n_cols * sizeof(float));
}

void hs_block_divert(hs_block *s, float sums[SIDE * SIDE])
{
    char *const to = (char *)sums;
    const int64_t ld = SIDE * sizeof(float);
    if (s->from) {
        copy_sums(to, ld, s->from, s->ldfrom, s);
        s->from = to;
    }
    s->c = to;
    s->ldc = s->ldfrom = ld;
}

void hs_block_restore(const hs_block *s, char *c, int64_t ldc)
{
    copy_sums(c, ldc, s->c, s->ldc, s);
}

bool hs_block_of(hs_block *s, const hs_gemm *g, const hs_gemm_columns *cols, int64_t row)
{
    const int64_t word = sizeof(float);
    *s = (hs_block){.g = g,
        .cols = cols,
        .a = (const char *)(g->left + row * g->lda),
        .c = (char *)(g->c + row * g->ldc + cols->col),
        .lda = g->lda * (int64_t)sizeof *g->left,
        .ldfrom = g->ldc * word,
        .ldc = g->ldc * word,
        .n_rows = hs_min_i64(g->rows - row, SIDE),
        .n_cols = hs_gemm_columns_left(g, cols, SIDE)};
    s->from = g->accumulate ? s->c : NULL;
    return s->n_rows % TILE == 0 && s->n_cols % TILE == 0;
}

void hs_block_gemm(const hs_gemm *g, const hs_gemm_columns *cols, int64_t row)
{
    alignas(64) float sums[SIDE * SIDE];
    hs_block s;
    if (hs_block_of(&s, g, cols, row)) {
        hs_block_run(&s);
        return;
    }
    char *const c = s.c;
    const int64_t ldc = s.ldc;
    hs_block_divert(&s, sums);
    hs_block_run(&s);
    hs_block_restore(&s, c, ldc);
}
