/* The AMX kernels, and products of bfloat16 values by themselves. */
#include "device/cpu/x86/block_amx.h"

static void gemm(const hs_gemm *g)
{
    for (int64_t row = 0; row < g->rows; row += SIDE) {
        hs_gemm_columns cols = hs_gemm_first_columns(g);
        for (int64_t n = 0; cols.col < g->n; hs_gemm_next_columns(g, &cols, n)) {
            n = hs_gemm_columns_left(g, &cols, SIDE);
            hs_block_gemm(g, &cols, row);
        }
    }
}

const hs_pair_kernels hs_pairs_amx = {.narrow = hs_narrow_avx512bf16,
    .widen = hs_widen_avx512bf16,
    .add = hs_add_avx512bf16,
    .zip = hs_zip_avx512bf16,
    .gemm = gemm,
    .linear = hs_linear_pairs_amx,
    .weights = hs_weights_pairs_amx,
    .own = hs_own_avx512bf16,
    .enter = hs_tiles_enter,
    .leave = hs_tiles_leave};
