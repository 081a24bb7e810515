/* The definition of the matrix kernels: one chain of fused multiply-adds per element, and the panel layout. */
#include "device/cpu/cpu_ops.h"

#include <math.h>

void hs_gemm_ref(const hs_gemm *g)
{
    for (int64_t i = 0; i < g->rows; i++) {
        for (int64_t o = 0; o < g->n; o++) {
            const float *a = g->a + i * g->lda;
            const float *b = g->b + o / HS_PANEL * g->panel + o % HS_PANEL;
            float sum = g->accumulate ? g->c[i * g->ldc + o] : 0.0f;
            for (int64_t t = 0; t < g->k; t++)
                sum = fmaf(a[t], b[t * g->ldb], sum);
            g->c[i * g->ldc + o] = sum;
        }
    }
}

void hs_pack_panel_ref(float *dst, const float *const *row, int64_t n_rows, int64_t d)
{
    for (int64_t t = 0; t < d; t++) {
        for (int64_t r = 0; r < HS_PANEL; r++)
            dst[t * HS_PANEL + r] = r < n_rows ? row[r][t] : 0.0f;
    }
}
