/* The definition of the matrix kernels: one chain of fused multiply-adds per element, the panel layout, and pairs. */
#include "base/half.h"
#include "device/cpu/cpu_ops.h"

#include <math.h>
#include <string.h>

enum { WORD = 4 }; /* bytes of a float32, and of a pair */

/* Where b's words of column o stand, from t on to the end of its page. */
static const char *words_at(const hs_gemm *g, int64_t t, int64_t o)
{
    const char *b = g->b;
    if (!b) {
        b = g->page[t / g->page_k + o / g->page_n] + g->skip;
        o %= g->page_n;
    }
    return b + (o / HS_PANEL * g->panel + o % HS_PANEL) * WORD;
}

static float word(const char *at)
{
    float value = 0.0f;
    memcpy(&value, at, sizeof value);
    return value;
}

static float half(const char *at, bool odd)
{
    uint32_t pair = 0;
    memcpy(&pair, at, sizeof pair);
    return hs_bf16_to_f32((uint16_t)(odd ? pair >> 16 : pair));
}

static float chain(const hs_gemm *g, const float *a, int64_t o, float sum, bool paired)
{
    const int64_t page_k = g->b ? g->k : g->page_k;
    for (int64_t first = 0; first < g->k; first += page_k) {
        const char *b = words_at(g, first, o);
        const int64_t k = g->k - first < page_k ? g->k - first : page_k;
        for (int64_t t = 0; t < k; t++)
            sum =
                fmaf(a[first + t], paired ? half(b + t / 2 * g->ldb * WORD, t % 2) : word(b + t * g->ldb * WORD), sum);
    }
    return sum + 0.0f;
}

static void gemm(const hs_gemm *g, bool paired)
{
    for (int64_t i = 0; i < g->rows; i++) {
        for (int64_t o = 0; o < g->n; o++) {
            float *c = g->c + i * g->ldc + o;
            *c = chain(g, g->a + i * g->lda, o, g->accumulate ? *c : 0.0f, paired);
        }
    }
}

void hs_gemm_ref(const hs_gemm *g)
{
    gemm(g, false);
}

void hs_gemm_bf16_ref(const hs_gemm *g)
{
    gemm(g, true);
}

void hs_pair_bf16_ref(uint32_t *dst, const float *even, const float *odd, int64_t n)
{
    for (int64_t j = 0; j < n; j++)
        dst[j] = hs_f32_to_bf16(even[j]) | (odd ? (uint32_t)hs_f32_to_bf16(odd[j]) << 16 : 0);
}

void hs_pack_panel_ref(float *dst, const float *const *row, int64_t first, int64_t end, int64_t d)
{
    for (int64_t r = first; r < end; r++) {
        for (int64_t t = 0; t < d; t++)
            dst[t * HS_PANEL + r] = row[r][t];
    }
}
