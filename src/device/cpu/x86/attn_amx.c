/* Weights of attention with AMX, and beside them the sums that an earlier call's weights make of the values. SiLU takes the vector
 * units as long as both products take the tiles together, so its rows are spread over both. */
#include "device/cpu/x86/block_amx.h"

#include <stdalign.h>

HS_INLINE void weights_row(const hs_rows *rows, int64_t r, const float *sum, const bool whole)
{
    hs_weights_row(rows, r, sum, whole);
    if (rows->claim)
        hs_claim(rows->claim + r * HS_LINE);
}

HS_PIPE_KIND(weights, weights_row);

/* Scores of the next tokens. */
static void next_scores(const hs_pair_weights *w, hs_gemm_columns *cols, hs_pipe *p)
{
    const hs_gemm *g = &w->scores;
    const int64_t n = hs_gemm_columns_left(g, cols, SIDE);
    const int64_t least = hs_min_i64(w->n_first, g->n); /* what every row sees */
    const hs_block s = {.g = g,
        .cols = cols,
        .a = (const char *)g->left,
        .c = (char *)hs_pipe_place(p),
        .lda = g->lda * (int64_t)sizeof *g->left,
        .ldc = SIDE * sizeof(float),
        .n_rows = g->rows,
        .n_cols = n > TILE ? SIDE : TILE};           /* panels are whole */
    const int64_t line = cols->col / SIDE * g->rows; /* one with each row */
    hs_block_piped(&s, p);
    hs_rows *const rows = hs_pipe_rows(p);
    hs_weights_rows(rows, w, cols->col);
    if (line + g->rows <= w->claim_lines)
        rows->claim = w->claim + line * HS_LINE;
    hs_pipe_push(p, g->rows, !w->bias && cols->col + SIDE <= least);
    hs_gemm_next_columns(g, cols, n);
}

/* Sums over the next columns of the values. */
static void next_sums(const hs_gemm *g, hs_gemm_columns *cols, hs_pipe *p)
{
    alignas(64) float sums[SIDE * SIDE];
    hs_block s;
    const bool fits = hs_block_of(&s, g, cols, 0);
    char *const c = s.c;
    const int64_t ldc = s.ldc;
    if (!fits)
        hs_block_divert(&s, sums);
    hs_block_piped(&s, p);
    if (!fits)
        hs_block_restore(&s, c, ldc);
    hs_gemm_next_columns(g, cols, hs_gemm_columns_left(g, cols, SIDE));
}

static int64_t n_blocks(int64_t n)
{
    return hs_ceil_div_i64(n, SIDE);
}

static int64_t n_steps(const hs_gemm *g)
{
    return n_blocks(g->n) * hs_ceil_div_i64(g->k, HS_PAIR_STEP);
}

/* Scores are made until the pipe is full of them, then sums while it empties. */
void hs_weights_pairs_amx(const hs_pair_weights *w)
{
    alignas(64) float sum[HS_PIPE_MOST][SIDE][SIDE];
    const hs_gemm *scores = &w->scores, *values = w->beside;
    const int64_t n_values = values ? values->n : 0, steps = n_steps(scores) + (values ? n_steps(values) : 0);
    hs_pipe p = {.kind = &weights,
        .sum = sum,
        .n = HS_PIPE_MOST,
        .each_bits = hs_pipe_each_bits(n_blocks(scores->n) * scores->rows, steps)};
    hs_gemm_columns at = hs_gemm_first_columns(scores), to = {0};
    if (values)
        to = hs_gemm_first_columns(values);
    while (at.col < scores->n || to.col < n_values) {
        if (at.col < scores->n && (p.count < p.n || to.col == n_values))
            next_scores(w, &at, &p);
        else
            next_sums(values, &to, &p);
    }
    hs_pipe_finish_rows(&p, INT64_MAX);
}
