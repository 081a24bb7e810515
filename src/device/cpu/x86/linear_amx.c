/* Products with AMX whose sums become bfloat16 values at once: while the tiles of one block are multiplied, the vector units finish
 * the rows of the block before it. */
#include "device/cpu/gemm_columns.h"
#include "device/cpu/x86/pairs_avx512bf16.h"
#include "device/cpu/x86/tiles_amx.h"

#include <stdalign.h>

/* Two blocks of sums: one is filled, and of the other the rows next .. n_rows - 1 are not finished yet. */
typedef struct pipe {
    alignas(64) float sum[2][SIDE][SIDE];
    int filled;
    int64_t next, n_rows;
    int64_t row, col; /* of the block that is being finished */
    bool whole;       /* and what finish_row wants to know of it */
} pipe;

/* Turns row r of a block of sums, which begins at (row, col), into values. `whole`, a literal: nothing in the block needs a mask. */
typedef void finish_row(const void *task, int64_t row, int64_t col, int64_t r, const float *sum, const bool whole);

/* A block's product. Distances in bytes. */
typedef struct product {
    const char *a, *b;
    int64_t lda, ldb, panel, k;
    int64_t n_rows, n_cols;
    bool again; /* as in hs_tiles_step */
} product;

HS_INLINE void finish_some(pipe *p, int64_t rows, finish_row *finish, const void *task, const bool whole)
{
    const int64_t end = p->next + rows < p->n_rows ? p->next + rows : p->n_rows;
    for (; p->next < end; p->next++)
        finish(task, p->row, p->col, p->next, p->sum[p->filled ^ 1][p->next], whole);
}

/* With finished rows between the products, as many as will be through when the block is filled. */
HS_INLINE void fill_tiles(pipe *p, const product *m, const int R, const int V, const bool again, finish_row *finish,
    const void *task, const bool whole)
{
    const int64_t steps = m->n_cols % TILE ? 0 : m->k / HS_PAIR_STEP, products = steps * R * V;
    const int64_t lda = m->lda, ldb = m->ldb, panel = m->panel, each = products ? (SIDE + products - 1) / products : 0;
    const int64_t every = products / SIDE > 1 ? products / SIDE : 1; /* that many products pass between two rows */
    const char *a = m->a, *b = m->b;
    int64_t since = 0;
    hs_tiles_zero();
    for (int64_t step = 0; step < steps; step++, a += STEP_BYTES, b += PAIRS * ldb)
        HS_TILES_STEP(a, lda, b, ldb, panel, R, V, again, {
            if (++since == every) {
                finish_some(p, each, finish, task, whole);
                since = 0;
            }
        });
    for (int64_t k = m->k - steps * HS_PAIR_STEP; k > 0; k -= HS_PAIR_STEP, a += STEP_BYTES, b += PAIRS * ldb)
        hs_tiles_copied_step(a, lda, b, ldb, panel, m->n_rows, m->n_cols, k < HS_PAIR_STEP ? k : HS_PAIR_STEP);
    hs_tiles_store((char *)p->sum[p->filled], SIDE * sizeof(float), R, V);
}

HS_INLINE void fill_block(pipe *p, const product *m, finish_row *finish, const void *task)
{
    if (m->n_rows > TILE && m->n_cols > TILE && p->whole && m->again)
        fill_tiles(p, m, 2, 2, true, finish, task, true);
    else if (m->n_rows > TILE && m->n_cols > TILE && p->whole)
        fill_tiles(p, m, 2, 2, false, finish, task, true);
    else if (m->n_rows > TILE && m->n_cols > TILE)
        fill_tiles(p, m, 2, 2, false, finish, task, false);
    else if (m->n_rows > TILE)
        fill_tiles(p, m, 2, 1, false, finish, task, false);
    else if (m->n_cols > TILE)
        fill_tiles(p, m, 1, 2, false, finish, task, false);
    else
        fill_tiles(p, m, 1, 1, false, finish, task, false);
}

/* Fills a block at (row, col); what is left of the one before is finished. */
HS_INLINE void push(
    pipe *p, const product *m, int64_t row, int64_t col, bool whole, finish_row *finish, const void *task)
{
    fill_block(p, m, finish, task);
    finish_some(p, SIDE, finish, task, false);
    p->filled ^= 1;
    p->next = 0;
    p->n_rows = m->n_rows;
    p->row = row;
    p->col = col;
    p->whole = whole;
}

/* ---- linear layers ---------------------------------------------------------------------------------------------- */

HS_INLINE void finish_linear(const void *task, int64_t row, int64_t col, int64_t r, const float *sum, const bool whole)
{
    hs_linear_row(task, row + r, col, sum, whole);
}

void hs_linear_pairs_amx(const hs_pair_linear *l)
{
    const int64_t word = sizeof(uint32_t);
    pipe p;
    p.filled = 0;
    p.next = p.n_rows = 0;
    p.whole = true;
    product m = {.lda = l->ldx * 2, .ldb = HS_PANEL * word, .panel = l->panel * word, .k = l->k};
    for (int64_t row = 0; row < l->rows; row += SIDE) {
        m.a = (const char *)(l->x + row * l->ldx);
        m.n_rows = l->rows - row < SIDE ? l->rows - row : SIDE;
        m.again = l->again || row > 0;
        for (int64_t col = 0; col < l->n; col += SIDE) {
            m.b = (const char *)(l->w + col / HS_PANEL * l->panel);
            m.n_cols = l->n - col > TILE ? SIDE : TILE; /* panels are whole */
            push(&p, &m, row, col, l->n - col >= SIDE, finish_linear, l);
        }
    }
    finish_some(&p, SIDE, finish_linear, l, false);
}

/* ---- weights of attention --------------------------------------------------------------------------------------- */

HS_INLINE void finish_weights(const void *task, int64_t row, int64_t col, int64_t r, const float *sum, const bool whole)
{
    const hs_pair_weights *w = task;
    const int64_t seen = w->n_first + r < w->scores.n ? w->n_first + r : w->scores.n;
    (void)row;
    hs_weights_row(
        w->out + r * w->ldo + col, sum, w->bias ? w->bias + r * w->ldb + col : NULL, w->alpha, seen - col, whole);
}

void hs_weights_pairs_amx(const hs_pair_weights *w)
{
    const hs_gemm *g = &w->scores;
    const int64_t word = sizeof(uint32_t);
    pipe p;
    p.filled = 0;
    p.next = p.n_rows = 0;
    p.whole = true;
    product m = {.a = (const char *)g->left,
        .lda = g->lda * 2,
        .ldb = g->ldb * word,
        .panel = g->panel * word,
        .k = g->k,
        .n_rows = g->rows,
        .again = g->again};
    const int64_t least = w->n_first < g->n ? w->n_first : g->n; /* what every row sees */
    hs_gemm_columns cols = hs_gemm_first_columns(g);
    for (int64_t n = 0; cols.col < g->n; hs_gemm_next_columns(g, &cols, n)) {
        n = hs_gemm_columns_left(g, &cols, SIDE);
        m.n_cols = n > TILE ? SIDE : TILE; /* panels are whole */
        m.b = (const char *)hs_gemm_words(g, &cols, 0);
        push(&p, &m, 0, cols.col, !w->bias && cols.col + SIDE <= least, finish_weights, w);
    }
    finish_some(&p, SIDE, finish_weights, w, false);
}
