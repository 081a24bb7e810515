/* The matrix kernels for NEON: register tiles of 12 rows x 8 columns, and of up to 5 x 16 for rows that are left and panels that
 * are not whole. The panel transpose. */
#include "device/cpu/arm/vec_neon.h"
#include "device/cpu/cpu_ops.h"
#include "device/cpu/gemm_columns.h"
#include "device/cpu/unroll.h"

enum { ROWS = 12, VECTORS = 2, HALF = VECTORS * V_HALF, WIDE_ROWS = 5, WIDE_VECTORS = 4 };

/* Both elements of y come in one load, from which the products take them: gcc would load each alone. */
#define HS_TOGETHER(y) __asm__("" : "+w"(y))

/* Vector v of a row of which `cols` columns exist. */
HS_INLINE float32x4_t load(const float *p, int v, int64_t cols, const bool masked)
{
    return masked ? v_load_half(p + v * V_HALF, cols - v * V_HALF) : vld1q_f32(p + v * V_HALF);
}

HS_INLINE void store(float *p, float32x4_t x, int v, int64_t cols, const bool masked)
{
    v_store_half(p + v * V_HALF, x, masked ? cols - v * V_HALF : V_HALF);
}

/* The even and the odd elements of 4 pairs, widened. */
HS_INLINE float32x4_t even_of(float32x4_t pairs)
{
    return vreinterpretq_f32_u32(vshlq_n_u32(vreinterpretq_u32_f32(pairs), 16));
}

HS_INLINE float32x4_t odd_of(float32x4_t pairs)
{
    return vreinterpretq_f32_u32(vandq_u32(vreinterpretq_u32_f32(pairs), vdupq_n_u32(0xffff0000)));
}

/* sum[r] += a[r][0] * even + a[r][1] * odd, in this order, for R rows and V vectors. */
HS_INLINE void two_steps(float32x4_t sum[ROWS][WIDE_VECTORS], const float *a, int64_t lda, const float32x4_t *even,
    const float32x4_t *odd, const int R, const int V)
{
    HS_UNROLL
    for (int r = 0; r < R; r++) {
        float32x2_t y = vld1_f32(a + r * lda);
        HS_TOGETHER(y);
        HS_UNROLL
        for (int v = 0; v < V; v++)
            sum[r][v] = vfmaq_lane_f32(sum[r][v], even[v], y, 0);
        HS_UNROLL
        for (int v = 0; v < V; v++)
            sum[r][v] = vfmaq_lane_f32(sum[r][v], odd[v], y, 1);
    }
}

/* The sums over the elements of a page; the arguments behind cols are literals at every call. */
HS_INLINE void add_page(float32x4_t sum[ROWS][WIDE_VECTORS], const float *a, int64_t lda, const float *b, int64_t ldb,
    int64_t k, int64_t cols, const int R, const int V, const bool masked, const bool paired)
{
    float32x4_t even[WIDE_VECTORS], odd[WIDE_VECTORS];
    int64_t t = 0;
    for (; t + 1 < k; t += 2) {
        HS_UNROLL
        for (int v = 0; v < V; v++) {
            const float32x4_t x = load(b, v, cols, masked);
            even[v] = paired ? even_of(x) : x;
            odd[v] = paired ? odd_of(x) : load(b + ldb, v, cols, masked);
        }
        two_steps(sum, a + t, lda, even, odd, R, V);
        b += paired ? ldb : 2 * ldb;
    }
    if (t == k)
        return;
    HS_UNROLL
    for (int v = 0; v < V; v++) {
        const float32x4_t x = load(b, v, cols, masked);
        even[v] = paired ? even_of(x) : x;
    }
    HS_UNROLL
    for (int r = 0; r < R; r++) {
        HS_UNROLL
        for (int v = 0; v < V; v++)
            sum[r][v] = vfmaq_n_f32(sum[r][v], even[v], a[t + r * lda]);
    }
}

/* R rows x V vectors, from column `first` of a panel on, of which `cols` exist. */
HS_INLINE void tile(const hs_gemm *g, int64_t row, const hs_gemm_columns *b, int first, int64_t cols, const int R,
    const int V, const bool masked, const bool paired)
{
    float *c = g->c + row * g->ldc + b->col + first;
    float32x4_t sum[ROWS][WIDE_VECTORS];
    HS_UNROLL
    for (int r = 0; r < R; r++) {
        HS_UNROLL
        for (int v = 0; v < V; v++)
            sum[r][v] = g->accumulate ? load(c + r * g->ldc, v, cols, masked) : vdupq_n_f32(0.0f);
    }
    const float *a = g->a + row * g->lda;
    for (int64_t left = g->k, page = 0; left > 0; left -= b->page_k, page++) {
        const int64_t k = left < b->page_k ? left : b->page_k;
        add_page(sum, a, g->lda, hs_gemm_words(g, b, page) + first, g->ldb, k, cols, R, V, masked, paired);
        a += k;
    }
    HS_UNROLL
    for (int r = 0; r < R; r++) {
        HS_UNROLL
        for (int v = 0; v < V; v++)
            store(c + r * g->ldc, vaddq_f32(sum[r][v], vdupq_n_f32(0.0f)), v, cols, masked);
    }
}

/* All rows of a panel of which `cols` columns exist. */
HS_INLINE void columns(const hs_gemm *g, const hs_gemm_columns *b, int64_t cols, const bool masked, const bool paired)
{
    int64_t row = 0;
    for (; !masked && row + ROWS <= g->rows; row += ROWS) {
        tile(g, row, b, 0, HALF, ROWS, VECTORS, masked, paired);
        tile(g, row, b, HALF, HALF, ROWS, VECTORS, masked, paired);
    }
    for (; row + WIDE_ROWS <= g->rows; row += WIDE_ROWS)
        tile(g, row, b, 0, cols, WIDE_ROWS, WIDE_VECTORS, masked, paired);
    switch (g->rows - row) {
    case 4:
        tile(g, row, b, 0, cols, 4, WIDE_VECTORS, masked, paired);
        break;
    case 3:
        tile(g, row, b, 0, cols, 3, WIDE_VECTORS, masked, paired);
        break;
    case 2:
        tile(g, row, b, 0, cols, 2, WIDE_VECTORS, masked, paired);
        break;
    case 1:
        tile(g, row, b, 0, cols, 1, WIDE_VECTORS, masked, paired);
        break;
    default:
        break;
    }
}

HS_INLINE void gemm(const hs_gemm *g, const bool paired)
{
    hs_gemm_columns b = hs_gemm_first_columns(g);
    for (; b.col < g->n; hs_gemm_next_columns(g, &b, HS_PANEL)) {
        const int64_t cols = g->n - b.col;
        if (cols >= HS_PANEL)
            columns(g, &b, HS_PANEL, false, paired);
        else
            columns(g, &b, cols, true, paired);
    }
}

void hs_gemm_neon(const hs_gemm *g)
{
    gemm(g, false);
}

void hs_gemm_bf16_neon(const hs_gemm *g)
{
    gemm(g, true);
}

/* dst[i * HS_PANEL + r] = row[r][i] for 4 rows and 4 columns. */
static void transpose4(float *dst, const float *const *row, int64_t t)
{
    float32x4_t x[4], y[4];
    HS_UNROLL
    for (int r = 0; r < 4; r++)
        x[r] = vld1q_f32(row[r] + t);
    HS_UNROLL
    for (int r = 0; r < 4; r += 2) { /* y: columns 0 and 2 of two rows, columns 1 and 3 */
        y[r] = vtrn1q_f32(x[r], x[r + 1]);
        y[r + 1] = vtrn2q_f32(x[r], x[r + 1]);
    }
    HS_UNROLL
    for (int i = 0; i < 2; i++) {
        vst1q_f32(dst + i * HS_PANEL, vcombine_f32(vget_low_f32(y[i]), vget_low_f32(y[i + 2])));
        vst1q_f32(dst + (i + 2) * HS_PANEL, vcombine_f32(vget_high_f32(y[i]), vget_high_f32(y[i + 2])));
    }
}

void hs_pack_panel_neon(float *dst, const float *const *row, int64_t first, int64_t end, int64_t d)
{
    for (int64_t r = first, next; r < end; r = next) {
        int64_t t = 0;
        next = hs_min_i64(r / 4 * 4 + 4, end);
        for (; next - r == 4 && t + 4 <= d; t += 4)
            transpose4(dst + t * HS_PANEL + r, row + r, t);
        for (; t < d; t++) {
            for (int64_t lane = r; lane < next; lane++)
                dst[t * HS_PANEL + lane] = row[lane][t];
        }
    }
}
