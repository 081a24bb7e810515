/* Linear layers with AMX: while the tiles of one block are multiplied, the rows of the block before it become values. */
#include "device/cpu/x86/block_amx.h"

#include <stdalign.h>

HS_INLINE void linear_row(const hs_rows *rows, hs_activation act, int64_t r, const float *sum, const bool whole)
{
    hs_linear_row(rows, act, r, sum, whole);
    if (r < rows->plan_rows)
        hs_claim(hs_claim_line(rows->plan, rows->claim, rows->plan_row + r));
}

HS_INLINE void plain_row(const hs_rows *rows, int64_t r, const float *sum, const bool whole)
{
    linear_row(rows, HS_ACT_NONE, r, sum, whole);
}

HS_INLINE void silu_row(const hs_rows *rows, int64_t r, const float *sum, const bool whole)
{
    linear_row(rows, HS_ACT_SILU, r, sum, whole);
}

HS_INLINE void gelu_row(const hs_rows *rows, int64_t r, const float *sum, const bool whole)
{
    linear_row(rows, HS_ACT_GELU, r, sum, whole);
}

HS_INLINE void relu_row(const hs_rows *rows, int64_t r, const float *sum, const bool whole)
{
    linear_row(rows, HS_ACT_RELU, r, sum, whole);
}

HS_PIPE_KIND(plain, plain_row);
HS_PIPE_KIND(silu, silu_row);
HS_PIPE_KIND(gelu, gelu_row);
HS_PIPE_KIND(relu, relu_row);

static const hs_pipe_kind *kind_of(hs_activation act)
{
    switch (act) {
    case HS_ACT_SILU:
        return &silu;
    case HS_ACT_GELU:
        return &gelu;
    case HS_ACT_RELU:
        return &relu;
    default:
        return &plain;
    }
}

void hs_linear_pairs_amx(const hs_pair_linear *l)
{
    alignas(64) float sum[2][SIDE][SIDE];
    hs_pipe p = {.kind = kind_of(l->act),
        .sum = sum,
        .n = 2,
        .each_bits = hs_pipe_each_bits(SIDE, hs_ceil_div_i64(l->k, HS_PAIR_STEP))};
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
            hs_block_piped(&s, &p);
            hs_rows *const rows = hs_pipe_rows(&p);
            hs_linear_rows(rows, l, row, cols.col);
            if (row < l->claim.rows) {
                rows->plan = &l->claim;
                rows->claim = hs_claim_columns(&l->claim, cols.col);
                rows->plan_row = row;
                rows->plan_rows = l->claim.rows - row;
            }
            hs_pipe_push(&p, s.n_rows, l->n - cols.col >= SIDE);
        }
    }
    hs_pipe_finish_rows(&p, INT64_MAX);
}
