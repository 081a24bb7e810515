/* Linear layers with AMX: while the tiles of one block are multiplied, the rows of the block before it become values. */
#include "device/cpu/x86/block_amx.h"
#include "device/cpu/x86/pairs_avx512bf16.h"

#include <stdalign.h>

HS_INLINE void finish_inline(
    const void *task, const hs_pipe_block *block, int64_t r, const float *sum, const bool whole)
{
    const hs_pair_linear *l = task;
    const int64_t row = block->row + r;
    hs_linear_row(l, row, block->col, sum, whole);
    if (row < l->claim.rows)
        hs_claim(hs_claim_line(&l->claim, block->claim, row));
}

static void finish(const void *task, const hs_pipe_block *block, int64_t r, const float *sum, const bool whole)
{
    (void)whole;
    finish_inline(task, block, r, sum, false);
}

void hs_linear_pairs_amx(const hs_pair_linear *l)
{
    alignas(64) float sum[2][SIDE][SIDE];
    hs_pipe p = {.task = l,
        .finish = finish,
        .sum = sum,
        .n = 2,
        .each = hs_pipe_each(SIDE, hs_ceil_div_i64(l->k, HS_PAIR_STEP))};
    hs_gemm g = {.b = l->w, .ldb = HS_PANEL, .panel = l->panel, .k = l->k, .n = l->n};
    hs_block s = {.g = &g, .lda = l->ldx * (int64_t)sizeof *l->x, .ldc = SIDE * sizeof(float)};
    for (int64_t row = 0; row < l->rows; row += SIDE) {
        hs_gemm_columns cols = hs_gemm_first_columns(&g);
        s.cols = &cols;
        s.a = (const char *)(l->x + row * l->ldx);
        s.n_rows = hs_min_i64(l->rows - row, SIDE);
        g.again = l->again || row > 0;
        for (int64_t r = row; r < row + s.n_rows; r++) /* others follow as rows are finished */
            hs_claim(l->out + r * l->ldo);
        for (; cols.col < l->n; hs_gemm_next_columns(&g, &cols, s.n_cols)) {
            s.n_cols = l->n - cols.col > TILE ? SIDE : TILE; /* panels are whole */
            s.c = (char *)hs_pipe_place(&p);
            hs_block_piped(&s, &p, finish_inline);
            hs_pipe_push(&p, row, cols.col, s.n_rows, l->n - cols.col >= SIDE,
                l->claim.rows ? hs_claim_columns(&l->claim, cols.col) : NULL);
        }
    }
    hs_pipe_finish_rows(&p, INT64_MAX);
}
